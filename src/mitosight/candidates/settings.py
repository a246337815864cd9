"""A finder by its name and the settings that go over its defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mitosight.candidates.blue_ratio import BlueRatio
from mitosight.candidates.finder import Finder
from mitosight.candidates.haematoxylin import Haematoxylin
from mitosight.errors import UsageError

FINDERS: dict[str, type[Finder]] = {"haematoxylin": Haematoxylin, "blue-ratio": BlueRatio}


def finder_named(name: str, settings: Mapping[str, Any] | None = None) -> Finder:
    """The finder of that name; `settings` go over its defaults, numbers also as text.

    Raises:
        UsageError: no finder has that name, or it has no such setting or value.
    """
    from pydantic import TypeAdapter, ValidationError

    if name not in FINDERS:
        raise UsageError(None, f"finder {name!r} is not known", f"choose {' or '.join(FINDERS)}")
    kind, given = FINDERS[name], dict(settings or {})
    known = [field.name for field in fields(kind)]
    unknown = next((key for key in given if key not in known), None)
    if unknown is not None:
        raise UsageError(None, f"{name} has no setting {unknown!r}", f"there are {', '.join(known)}")
    try:
        made: Finder = TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        told = "accepted: " + wrong["msg"].removeprefix("Input should be ")
        raise UsageError(None, f"{name}: {wrong['loc'][0]} is {wrong['input']!r}", told) from None
    return made


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Settings from words such as `separation=sparse` and `tissue_lightness=10,90`.

    Raises:
        UsageError: a word is not of that form.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise UsageError(None, f"--set {word}", "expected key=value")
        found[key] = value.split(",") if "," in value else value
    return found
