"""What files that were trained say of the slides that they learned from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mitosight import checkpoint, modelfile
from mitosight.errors import InputError
from mitosight.methods import METHODS
from mitosight.recipe import Recipe
from mitosight.regions import fingerprints, names_of

SLIDES, BEFORE = "slides", "started_from"  # in headers: fingerprints of slides; what is said of an earlier training
_OF_A_STATE = {"step", "seconds"}  # what the header of a training's state says (`mitosight.state`)


@dataclass(frozen=True)
class Learned:
    """What a file learned from.

    Attributes:
        slides: fingerprints.
        data: what else a model says of its data; {} for a style transfer and the like.
    """

    file: Path
    slides: frozenset[str]
    data: Mapping[str, Any] = field(default_factory=dict)


def model(path: str | Path) -> Learned:
    """What a model learned from; `path` is its file or folder.

    Raises:
        InputError: it is no model, or does not say.
    """
    return _learned(modelfile.locate(path), checkpoint.read_header(path))


def given(asked: Recipe) -> list[Learned]:
    """What the files learned from that a recipe names: first weights, a style transfer, the model it starts from.

    Each is the file that the method itself takes. Files of another origin, such as ImageNet weights, say nothing and
    are passed over.

    Raises:
        InputError: a file is not there, cannot be read, is the state of a training, or is of this package and does not
            say.
    """
    named = {name: value for name in METHODS[asked.method].files if (value := asked.detector.get(name))}
    files = [METHODS[asked.method].files[name](value) for name, value in named.items()]
    found = [_learned(file, header) for file in files if file is not None and (header := _header(file)) is not None]
    return [*found, model(asked.training.start)] if asked.training.start else found


def slides_of(header: Mapping[str, Any]) -> frozenset[str] | None:
    """Fingerprints of the slides that a file learned from, by its header; None where that does not say.

    Those that a model was adapted to are among them; models of earlier versions have the paths of these apart.
    """
    told, adapted = _told(header, "data"), _told(header, "adaptation").get(SLIDES, [])
    slides = told.get(SLIDES) if "provenance" in header else header.get(SLIDES)
    if not isinstance(slides, list):
        return None
    return frozenset(slides) | fingerprints(name for path in adapted for name in names_of(Path(path)))


def said_by(file: Path) -> frozenset[str]:
    """As `slides_of`, of a file that can be read; none where it does not say."""
    return slides_of(_header(file) or {}) or frozenset()


def facts_with(facts: Mapping[str, Any], learned: Iterable[Learned], slides: Iterable[str] = ()) -> dict[str, Any]:
    """What a model says of its data, with the slides of the files that it was given, and more `slides`, among its own.

    `started_from` is what the models among the files say of their data: the last, and in it the one before.
    """
    every, before = {*facts[SLIDES], *slides}, None
    for one in learned:
        every |= one.slides
        before = _after(one.data, before) if one.data else before
    return {**facts, SLIDES: sorted(every), **({BEFORE: before} if before else {})}


def _after(data: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a model says of its data, and of what that started from in turn, with what was `earlier` at the end."""
    own = data.get(BEFORE)
    last = _after(own, earlier) if own else earlier
    return {**data, **({BEFORE: last} if last else {})}


def _learned(file: Path, header: Mapping[str, Any]) -> Learned:
    slides = slides_of(header)
    if slides is None:
        raise InputError(
            file, "does not say which slides it learned from", "train it with this version, or name its recipe instead"
        )
    return Learned(file, slides, {k: v for k, v in _told(header, "data").items() if k != SLIDES})


def _told(header: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a model's provenance; {} where there is none."""
    provenance = header.get("provenance")
    told = provenance.get(name) if isinstance(provenance, dict) else None
    return told if isinstance(told, dict) else {}


def _header(file: Path) -> Mapping[str, Any] | None:
    """What a file of this package says of itself; None for one of another origin."""
    if not file.is_file():
        found = "is a folder, not a file of weights" if file.is_dir() else "does not exist"
        raise InputError(file, found, "name the file that a training left; for style, its folder will do")
    try:
        with safe_open(file, "np") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(file, f"is no readable safetensors file ({error})", "name another, or copy it again") from None
    if "mitosight" not in metadata:
        if metadata.keys() >= _OF_A_STATE:
            raise InputError(file, "is the state of a training, kept to go on with it", "name the file that it left")
        return None
    try:
        header = json.loads(metadata["mitosight"])
    except ValueError:
        header = None
    return header if isinstance(header, dict) else {}
