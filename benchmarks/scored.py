"""What the benchmarks that train have in common: one training, its search of held-out images, and its scores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitosight import checkpoint

LEFT_OUT = {"by_image", "f1_by_threshold", "by_tumor_type"}


@dataclass(frozen=True)
class Run:
    """One training and its test.

    Attributes:
        name: of its folder and its JSON.
        recipe: name or file.
        data: name of the data folder.
        settings: key=value, over the recipe.
        part: of the split, that it is tested on.
    """

    name: str
    recipe: str
    data: str
    settings: tuple[str, ...]
    part: str = "test"


def command(*words: str) -> float:
    """Runs a command of the package, shows it, returns its seconds."""
    print("$ mitosight", " ".join(words), flush=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "mitosight", *words], check=True)
    return time.monotonic() - started


def carry_out(run: Run, data: Path, folder: Path, split: Path | None = None) -> dict[str, Any]:
    """Trains, detects and evaluates one run in `folder`; returns what its JSON holds.

    A training that was stopped goes on; one that is finished is not repeated. `split` is a file in the place of the
    data folder's own.
    """
    model, found, scores = folder / "model", folder / run.part, folder / f"{run.part}.json"
    settings = [word for setting in run.settings for word in ("--set", setting)]
    parts = () if split is None else ("--split", str(split))
    if not (model / "run.json").is_file():
        command("train", run.recipe, "--data", str(data), *parts, "--out", str(model), *settings)
    names = json.loads((split or data / "split.json").read_text())[run.part]
    tests = [str(data / "images" / name) for name in names]
    how = ("--runtime", "torch", "--domains", str(data / "domains.csv"))
    detecting = command("detect", *tests, "--model", str(model), "--out", str(found), *how)
    command("evaluate", str(found), str(data), *parts, "--part", run.part, "--json", str(scores))
    record, header = json.loads((model / "run.json").read_text()), checkpoint.read_header(model)
    classes = {"classes": header["arguments"]["classes"]} if "classes" in header["arguments"] else {}
    return {
        "recipe": run.recipe,
        "settings": run.settings,
        "data": run.data,
        **classes,
        "threshold": header["threshold"],
        "validation": header["provenance"]["validation"],
        "training_seconds": record["seconds"],
        "detection_seconds": round(detecting, 1),
        "device": record["device"],
        "versions": record["versions"],
        run.part: without(json.loads(scores.read_text()), LEFT_OUT),
    }


def without(value: Any, keys: set[str]) -> Any:
    """A JSON value without the entries called so, at any depth."""
    if not isinstance(value, dict):
        return value
    return {k: without(v, keys) for k, v in value.items() if k not in keys}
