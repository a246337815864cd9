"""The methods, and the only place that lists them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mitosight.errors import UsageError
from mitosight.methods.chung2021 import Chung2021
from mitosight.methods.detector import Detector
from mitosight.methods.kondo2021 import Kondo2021
from mitosight.methods.mitosight import Mitosight
from mitosight.methods.retinanet import RetinaNet
from mitosight.methods.wang2023 import Wang2023
from mitosight.methods.wilm2021 import Wilm2021
from mitosight.methods.zhang2022 import Zhang2022

METHODS: dict[str, type[Detector]] = {
    "retinanet": RetinaNet,
    "wilm2021": Wilm2021,
    "chung2021": Chung2021,
    "zhang2022": Zhang2022,
    "kondo2021": Kondo2021,
    "wang2023": Wang2023,
    "mitosight": Mitosight,
}


def arguments(method: str) -> dict[str, Any]:
    """Keyword arguments of a method with their defaults, those of its parent classes included; without `scanners`.

    Raises:
        UsageError: no such method; lists those there are.
    """
    return {name: default for name, (default, _) in _schema(method).items()}


def checked(method: str, given: Mapping[str, Any], path: str | Path | None = None) -> dict[str, Any]:
    """`given` arguments of a method with their values brought to the annotated types.

    Raises:
        UsageError: an argument that the method does not have (lists the valid ones), or a value of the wrong type.
    """
    schema = _schema(method, path)
    if unknown := [key for key in given if key not in schema]:
        raise UsageError(path, f"{method} has no argument {unknown[0]!r}", f"it has {', '.join(sorted(schema))}")
    values = {}
    for key, value in given.items():
        try:
            values[key] = TypeAdapter(schema[key][1]).validate_python(value)
        except ValidationError as error:
            raise UsageError(
                path, f"{key} = {value!r}", "accepted: " + error.errors()[0]["msg"].removeprefix("Input should be ")
            ) from None
    return values


def create(method: str, scanners: Sequence[str], given: Mapping[str, Any]) -> Detector:
    """A detector of `method` for training scanners `scanners`, with the arguments `given` (see `checked`)."""
    return METHODS[method](scanners=scanners, **checked(method, given))


def _schema(method: str, path: str | Path | None = None) -> dict[str, tuple[Any, Any]]:
    if method not in METHODS:
        raise UsageError(path, f"no method {method!r}", f"methods are {', '.join(METHODS)}")
    found: dict[str, tuple[Any, Any]] = {}
    for cls in METHODS[method].__mro__:
        if cls is Detector:
            break
        hints = typing.get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "scanners":
                found.setdefault(name, (parameter.default, hints[name]))
    return found
