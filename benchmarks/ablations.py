"""What the ablations have in common: the rows of a table, each trained and tested on a domain that it never saw."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scored
from scored import carry_out

from mitosight import regions
from mitosight.errors import InputError
from mitosight.outputs import whole, write_json
from mitosight.regions import DataFolder

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run(scored.Run):
    """One row of the table with one seed."""

    components: Row
    seed: int


@dataclass(frozen=True)
class Ablation:
    """An ablation of one method.

    Attributes:
        name: what its files begin with, unless another is given.
        recipe: the default.
        without: for each component the setting that takes it away.
        rows: the components that each row has.
        shared: files of a training, by component, that rows of one seed which have that component (all rows for "")
            would make alike: made by the first of them and lent to the others.
        table: the lines of the table, from the folder of results and the name.
    """

    name: str
    recipe: str
    without: Mapping[str, str]
    rows: Sequence[Row]
    table: Callable[[Path, str], list[str]]
    shared: Mapping[str, Sequence[str]]

    def plan(
        self, name: str, seeds: Iterable[int], settings: Sequence[str], recipe: str = "", data: str = ""
    ) -> list[Run]:
        """All rows for each seed; `settings` go over the recipe (its own, if none is named) in all of them."""
        return [
            Run(
                name=f"{name}-{title(row)}-{seed}",
                recipe=recipe or self.recipe,
                data=data,
                settings=(*settings, f"training.seed={seed}", *self._taken_away(row)),
                components=row,
                seed=seed,
            )
            for seed in seeds
            for row in self.rows
        ]

    def _taken_away(self, row: Row) -> list[str]:
        return [setting for part, setting in self.without.items() if part not in row]

    def lend(self, run: Run, runs: Path, plan: Sequence[Run]) -> list[str]:
        """Copies what is shared from the trainings of the same seed into that of `run`; returns what was lent."""
        lent = []
        for component, files in self.shared.items():
            if component and component not in run.components:
                continue
            others = [
                o for o in plan if o.seed == run.seed and o != run and (not component or component in o.components)
            ]
            for file in files:
                to = runs / run.name / "model" / file
                found = [path for o in others if (path := runs / o.name / "model" / file).is_file()]
                if found and not to.is_file():
                    with whole(to) as temporary:
                        shutil.copyfile(found[0], temporary)
                    lent.append(file)
        return lent


def title(row: Row) -> str:
    """A row in the names of files."""
    return "+".join(row) or "none"


def held_out_split(data: DataFolder, column: str, name: str, left_out: Sequence[str]) -> dict[str, list[str]]:
    """The split of `data` with the domain `name` in the part "test" alone, and nothing of the domains `left_out`.

    Raises:
        InputError: the part "test" holds no image of that domain.
    """
    domain = {region.file_name: getattr(region.domain, column) for region in data.regions}
    split = {
        part: [file for file in data.split[part] if domain[file] not in (name, *left_out)] for part in ("train", "val")
    }
    split["test"] = [file for file in data.split["test"] if domain[file] == name]
    if not split["test"]:
        there = sorted({domain[file] for file in data.split["test"]})
        raise InputError(None, f"no test image of {column} {name!r}", f"there are those of {', '.join(there)}")
    return split


def tests_of(folder: Path, name: str, row: Row) -> list[dict[str, Any]]:
    """What the seeds of one row scored on the held-out domain."""
    return [json.loads(path.read_text())["test"] for path in sorted(folder.glob(f"{name}-{title(row)}-[0-9]*.json"))]


def _parser(ablation: Ablation, told: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data folder")
    parser.add_argument("--held-out", help="name of the domain that is tested on and never trained on")
    parser.add_argument("--by", choices=("scanner", "tumor_type", "species"), default="scanner")
    parser.add_argument("--leave-out", nargs="*", default=[], help="domains that are neither trained on nor tested on")
    parser.add_argument("--recipe", default=ablation.recipe)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key=value over the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", default=ablation.name, help="what the files of this ablation begin with")
    parser.add_argument("--only", nargs="+", choices=[title(row) for row in ablation.rows], help="these rows")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--table", action="store_true", help="print the table of the results that are there")
    return parser


def main(ablation: Ablation, told: str) -> None:
    """Carries out an ablation, or prints its table; `told` is the help."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    parser = _parser(ablation, told)
    given = parser.parse_args()
    if given.table:
        print("\n".join(ablation.table(given.results, given.name)))
        return
    if not given.data or not given.held_out:
        parser.error("--data and --held-out are needed")
    try:
        parts = held_out_split(regions.load(given.data), given.by, given.held_out, given.leave_out)
    except InputError as error:
        parser.error(str(error))
    split = given.runs / f"{given.name}-split.json"
    write_json(split, parts)
    held_out = {"by": given.by, "held_out": given.held_out, "left_out": given.leave_out}
    plan = ablation.plan(given.name, given.seeds, given.settings, given.recipe, given.data.name)
    for run in plan:
        file = given.results / f"{run.name}.json"
        if not file.is_file() and title(run.components) in (given.only or [title(run.components)]):
            for lent in ablation.lend(run, given.runs, plan):
                print(f"{run.name}: {lent} is that of another row", flush=True)
            record = carry_out(run, given.data, given.runs / run.name, split)
            write_json(file, {**held_out, "components": run.components, **record})
