"""What decides what an entry of a protocol gives, by content: names and places of files do not count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mitosight import modelfile, recipe
from mitosight.bench.protocol import Entry, Protocol
from mitosight.engine import STATE
from mitosight.methods import arguments
from mitosight.outputs import sha256


def content(protocol: Protocol, entry: Entry, settings: Sequence[str]) -> Any:
    """A trained model's SHA-256, or a recipe with all its values and the method's defaults, files by what they hold.

    Args:
        settings: of the fold, over the recipe.

    Raises:
        InputError: no such model.
    """
    if entry.model:
        return sha256(modelfile.locate(Path(entry.model)))
    asked = recipe.load(entry.recipe, (*protocol.set, *entry.set, *settings))
    told = asked.to_json()
    told["detector"] = {name: _of(value) for name, value in (arguments(asked.method) | asked.detector).items()}
    if start := asked.training.start:
        told["training"] = told["training"] | {"start": sha256(modelfile.locate(start))}
    return told


def _of(value: Any) -> Any:
    """A setting, or what the file that it names holds; a folder's weights, but not those kept for resuming."""
    path = Path(value) if isinstance(value, str) and value else None
    if path is None or not path.exists():
        return value
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    return hashlib.sha256("".join(sha256(f) for f in files if f.name != STATE).encode()).hexdigest()
