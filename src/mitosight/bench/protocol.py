"""Protocols: a TOML file that says which models are compared, on which splits, with which seeds, by which rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mitosight import recipe
from mitosight.adaptation import Settings
from mitosight.errors import UsageError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$")]  # of folders and of columns
Kind = Literal["given", "leave-one-out", "one-to-all"]
Column = Literal["scanner", "tumor_type"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Adaptation(_Strict):
    """How a model adapts to the test slides before it searches them; see `mitosight adapt`.

    Attributes:
        together: once to all test slides of a domain, instead of to each slide.
        samples, mitotic: what the model remembers of its training; 0 and None for the defaults.
        lr, epochs, guard, keep_norm, bf16: as the options of that name; None for the default.
    """

    together: bool = False
    samples: Annotated[int, Field(ge=0)] = 0
    mitotic: Annotated[int, Field(ge=0)] | None = None
    lr: Annotated[float, Field(ge=0, le=1)] = Settings.lr
    epochs: Annotated[int, Field(ge=1)] = Settings.epochs
    guard: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Settings.guard
    keep_norm: bool | None = Settings.keep_norm
    bf16: bool = Settings.bf16


class Phantoms(_Strict):
    """Drawn regions to compare on, where no data folder is given: each scanner has tissues of its own.

    Attributes:
        scanners: virtual ones, see `mitosight phantom --list`.
        train, val, test: regions of each scanner in each part.
        size_um: of a region.
    """

    scanners: Annotated[tuple[str, ...], Field(min_length=1)]
    train: Annotated[int, Field(ge=1)] = 4
    val: Annotated[int, Field(ge=1)] = 1
    test: Annotated[int, Field(ge=1)] = 3
    size_um: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (256.0, 256.0)


class Entry(_Strict):
    """One model of the comparison: a column of the table.

    Attributes:
        name: of its column.
        recipe: that it is trained by: built-in or a file. Or
        model: a trained one, which is scored as it is; or
        of: the name of another entry, whose trained models it takes.
        set: key=value over the recipe.
        adapt: adapts before it searches.
        share: preparations that it takes from the first entry that names them too, with the same fold and seed, so
            that rows of an ablation differ in what they are about alone: `candidates`, `difficulty`, `re-stainer`, ...
        across: preparations that see no label, such as `style-transfer`, of which all folds of a seed take the first
            one's: with `unlabelled` they would learn from the same images in each.
    """

    name: Name
    recipe: str = ""
    model: str = ""
    of: str = ""
    set: tuple[str, ...] = ()
    adapt: Adaptation | None = None
    share: tuple[Name, ...] = ()
    across: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Entry:
        if sum(map(bool, (self.recipe, self.model, self.of))) != 1:
            raise ValueError("a model names one of recipe, model and of")
        if (self.set or self.share or self.across) and not self.recipe:
            raise ValueError("set, share and across go with a recipe")
        if set(self.share) & set(self.across):
            raise ValueError("a preparation is taken from another model (share) or another fold (across), not both")
        return self


class Protocol(_Strict):
    """What is compared, and how.

    Attributes:
        title: one line.
        split: "given": the data folder's own. "leave-one-out": each domain in turn is left out of training and
            validation. "one-to-all": each domain in turn is all that is learned from. Test images are always those of
            all domains: of those that were seen in training and of those that were not.
        by: the column of domains.
        domains: that take their turn; () for all of the test images.
        tested: the part of the split whose images are the test images. "val", while a method is made and "test" is to
            stay unseen: thresholds are then chosen on the images of the domains that are learned from, and only those
            of the others are tested, unless `held_out` says otherwise.
        held_out: where the split has no part for the choice of thresholds: of the training slides of each domain every
            so manieth, which is then validation alone.
        unlabelled: whether methods that can use them are given the training images of the unseen domains, without
            their labels. Never test images.
        seeds: each model is trained with each.
        set: key=value over all recipes.
        models: what is compared.
        radius_um, bootstrap: of the scores, see `mitosight evaluate`.
        drawn: what is drawn with replacement for intervals: slides; or single images, where these are composed of
            several slides, or are many of few slides: then the intervals are too narrow by what slides differ.
        phantoms: what is drawn where no data folder is given.
        features: samples a scanner whose features are shown and told apart; 0 for none.
    """

    title: str
    split: Kind = "given"
    by: Column = "scanner"
    domains: tuple[str, ...] = ()
    tested: str = "test"
    held_out: Annotated[int, Field(ge=0)] = 0
    unlabelled: bool = False
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    set: tuple[str, ...] = ()
    models: Annotated[tuple[Entry, ...], Field(min_length=1)]
    radius_um: Annotated[float, Field(gt=0)] = 7.5
    drawn: Literal["slide", "image"] = "slide"
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    features: Annotated[int, Field(ge=0)] = 200
    phantoms: Phantoms | None = None

    @model_validator(mode="after")
    def _names(self) -> Protocol:
        names = [entry.name for entry in self.models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two models are called {twice[0]}")
        trained = {entry.name for entry in self.models if entry.recipe}
        if unknown := [entry.of for entry in self.models if entry.of and entry.of not in trained]:
            raise ValueError(f"of = {unknown[0]!r} is no model with a recipe")
        if self.held_out == 1:
            raise ValueError("held_out = 1 leaves nothing to learn from")
        if self.tested == "val" and not self.held_out and (self.split == "given" or self.unlabelled):
            raise ValueError("with tested = 'val' thresholds need held_out, or domains that take turns, all labelled")
        if not (self.unlabelled and self.split != "given") and any(entry.across for entry in self.models):
            raise ValueError("across needs folds with the same training images: domains that take turns, unlabelled")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        return self

    def entry(self, name: str) -> Entry:
        """The entry of that name."""
        return next(entry for entry in self.models if entry.name == name)

    def trained_by(self, entry: Entry) -> Entry:
        """The entry whose training an entry takes: its own, or that of another."""
        return self.entry(entry.of) if entry.of else entry

    def lender(self, name: str) -> Entry:
        """The first entry that shares the preparation `name`, which makes it for the others."""
        return next(entry for entry in self.models if name in entry.share)


def builtin() -> dict[str, Path]:
    """Name and file of the protocols that come with the package."""
    return recipe.packaged("protocols")


def load(name: str) -> Protocol:
    """Reads a protocol by the name of a built-in one or by path. Recipes by path are looked for beside its file.

    Raises:
        UsageError: no such protocol or recipe, no valid TOML, or a key or value that is not accepted.
    """
    path, table = recipe.read_table(name, builtin(), "protocol")
    found = parse(table, path)
    for entry in found.models:
        if entry.recipe:
            recipe.load(entry.recipe, (*found.set, *entry.set))
    return found


def parse(table: dict[str, Any], path: str | Path | None = None) -> Protocol:
    """A protocol from its TOML table.

    Raises:
        UsageError: as `load`.
    """
    try:
        found = Protocol.model_validate(_relative(table, Path(path).parent if path else None))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the protocol"
        accepted = ", ".join(Entry.model_fields if "models" in first["loc"] else Protocol.model_fields)
        told = first["msg"].removeprefix("Value error, ")
        raise UsageError(path, f"{where}: {told[0].lower()}{told[1:]}", f"keys are {accepted}") from None
    return found


def _relative(table: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The table with recipes and models that lie beside the protocol's file named by their whole path."""
    models = table.get("models")
    if folder is None or not isinstance(models, list) or not all(isinstance(m, dict) for m in models):
        return table

    def found(text: Any) -> Any:
        near = folder / text if isinstance(text, str) and text else None
        return str(near) if near is not None and near.exists() else text

    return table | {"models": [m | {k: found(m[k]) for k in ("recipe", "model") if k in m} for m in models]}
