"""Recipes: a TOML file that names a method and gives what differs from its defaults."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from mitosight.errors import UsageError
from mitosight.methods import arguments, checked
from mitosight.optimisation import Number, Optimisation
from mitosight.outputs import whole

T = TypeVar("T")
Count = Annotated[int, Field(ge=0)]
TABLES = ("detector", "training", "optimisation")


@dataclass(frozen=True)
class Training:
    """Which tiles a training sees and how it is judged.

    Attributes:
        scanners: training scanners; () takes all of the part "train".
        labelled_scanners: those whose annotations are used; () takes those that have any. The others are unlabelled:
            they reach a method's domain path only.
        crop_px: side of the training tiles; 0 takes the detector's `tile_px`.
        tiles_per_scanner: of each batch.
        unlabelled_tumors: tumour types whose annotations are not used; those without any count as such by themselves.
        near_figure, near, background: see `dataset.TileSource`.
        validate_every: epochs between validations; the last is always followed by one.
        validation_batches: batches on which the validation losses are averaged.
        start: folder or file of a trained model whose weights the training starts from, as far as they fit; "" for
            those of the method.
        seed: of weights, tiles and augmentation.
        workers: processes that read tiles; 0 reads in the training process.
    """

    scanners: tuple[str, ...] = ()
    labelled_scanners: tuple[str, ...] = ()
    unlabelled_tumors: tuple[str, ...] = ()
    crop_px: Count = 0
    tiles_per_scanner: Number = 3
    near_figure: Annotated[float, Field(ge=0, le=1)] = 0.5
    near: Literal["corner", "radius", "inside"] = "corner"
    background: Literal["any", "empty"] = "any"
    validate_every: Number = 1
    validation_batches: Number = 4
    start: str = ""
    seed: Count = 0
    workers: Count = 0


@dataclass(frozen=True)
class Recipe:
    """A method, its arguments, and how it is trained."""

    method: str
    detector: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    optimisation: Optimisation = field(default_factory=Optimisation)

    def to_json(self) -> dict[str, Any]:
        """The recipe with all its settings, as written beside a model."""
        return dataclasses.asdict(self)


def builtin() -> dict[str, Path]:
    """Name and file of the recipes that come with the package."""
    return packaged("recipes")


def packaged(folder: str) -> dict[str, Path]:
    """Name and file of the TOML files in a folder of the package."""
    return {p.stem: p for p in sorted((Path(str(files("mitosight"))) / folder).glob("*.toml"))}


def read_table(name: str, known: Mapping[str, Path], kind: str) -> tuple[Path, dict[str, Any]]:
    """A TOML file by a `known` name or by path, and what it holds; `kind` says what it is to be.

    Raises:
        UsageError: there is none, or it is no valid TOML.
    """
    path = known.get(name, Path(name))
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(name, f"no such {kind}", f"give a file or one of {', '.join(known)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(path, f"is no readable {kind} ({error})", "expected TOML") from None


def load(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by the name of a built-in one or by path; `settings` are `key=value` that go over it.

    A key may be written alone where only one table has it (`epochs=3`), or with its table (`optimisation.epochs=3`).

    Raises:
        UsageError: no such recipe, no valid TOML, or a key or value that is not accepted (lists the valid keys).
    """
    path, table = read_table(name, builtin(), "recipe")
    return parse(table, path, settings)


def parse(table: dict[str, Any], path: str | Path | None = None, settings: Iterable[str] = ()) -> Recipe:
    """A recipe from its TOML table, with `settings` over it; raises as `load` does."""
    _check_shape(table, path)
    for setting in settings:
        _set(table, setting)
    return Recipe(
        table["method"],
        checked(table["method"], table.get("detector", {}), path),
        _dataclass(Training, table.get("training", {}), "training", path),
        _dataclass(Optimisation, table.get("optimisation", {}), "optimisation", path),
    )


def write(path: Path, recipe: Recipe, about: str) -> None:
    """Writes a recipe with all its settings as a TOML file that `load` reads; `about` is its first line."""
    lines = [f"# {about}", f"method = {json.dumps(recipe.method)}"]
    told = recipe.to_json()
    for table in TABLES:
        lines += ["", f"[{table}]", *(f"{key} = {_toml(v)}" for key, v in told[table].items() if v is not None)]
    with whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    """A string, number, list or table as TOML: JSON but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _check_shape(table: dict[str, Any], path: str | Path | None) -> None:
    if not isinstance(table.get("method"), str):
        raise UsageError(path, "names no method", 'expected a line such as method = "wilm2021"')
    if unknown := [k for k in table if k not in ("method", *TABLES)]:
        raise UsageError(path, f"has the unknown key {unknown[0]!r}", f"accepted are method, {', '.join(TABLES)}")
    if wrong := [k for k in TABLES if not isinstance(table.get(k, {}), dict)]:
        raise UsageError(path, f"{wrong[0]} is not a table", f"write [{wrong[0]}] and its keys below it")


def _dataclass(kind: type[T], given: dict[str, Any], name: str, path: str | Path | None) -> T:
    valid = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if unknown := [key for key in given if key not in valid]:
        raise UsageError(path, f"[{name}] has the unknown key {unknown[0]!r}", f"accepted are {', '.join(valid)}")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            path,
            f"[{name}] {first['loc'][0]} = {first['input']!r}",
            "accepted: " + first["msg"].removeprefix("Input should be "),
        ) from None


def _set(table: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(None, f"--set {setting} sets nothing", "expected key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if key == "method":
        table["method"] = str(value)
        return
    owners = {
        "detector": list(arguments(table["method"])),
        "training": [f.name for f in dataclasses.fields(Training)],
        "optimisation": [f.name for f in dataclasses.fields(Optimisation)],
    }
    every = [f"{owner}.{name}" for owner, names in owners.items() for name in names]
    found = [name for name in every if key in (name, name.partition(".")[2])]
    if not found:
        raise UsageError(None, f"--set {setting}: there is no {key!r}", f"keys are {', '.join(every)}")
    if len(found) > 1:
        raise UsageError(None, f"--set {setting}: {key!r} may be {' or '.join(found)}", "write it with its table")
    owner, _, name = found[0].partition(".")
    table.setdefault(owner, {})[name] = value
