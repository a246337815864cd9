"""Methods compared by one protocol: trained, searched, scored and told apart on slides that none of them saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mitosight.bench import leakage
from mitosight.bench.cell import SHEET, Bench, Cell
from mitosight.bench.material import drawn
from mitosight.bench.page import page
from mitosight.bench.protocol import Protocol, builtin, load
from mitosight.bench.running import Outcome, cells, here, scheduled
from mitosight.bench.summary import summarised, table
from mitosight.errors import InputError, UsageError
from mitosight.outputs import alone, whole, write_json

__all__ = ["Bench", "Cell", "Protocol", "builtin", "drawn", "load", "planned", "run"]

PROTOCOL = "protocol.json"
Watch = Callable[[int, int, Cell, Outcome], None]
"""Called after each cell with how many are done, how many there are, the cell and what came of it."""


def planned(bench: Bench) -> list[Cell]:
    """All cells of a protocol on its data, after the check that no test slide was seen.

    Raises:
        InputError: a slide was seen, or the split lacks something.
    """
    leakage.check(bench.protocol, bench.folds, bench.data)
    return cells(bench)


def run(
    bench: Bench,
    *,
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    scheduler: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Works out what is missing of a protocol and writes `results.json`, `results.md` and `report.html`.

    Cells that are done are kept, trainings that were stopped go on. A cell that fails is named in the results, whose
    tables are of the others; they are written anew after each cell that was worked on. With `models` and `seeds` only
    cells of these are worked on; the results have all that are done. `scheduler` is "local", "local:N" or the address
    of a Dask scheduler, which works on several cells at once. Returns what `results.json` holds.

    Raises:
        InputError: as `planned`, or the folder holds cells of another protocol.
        UsageError: another run is writing there, no such model or seed, or the scheduler cannot be used.
    """
    protocol, out = bench.protocol, bench.out
    every = planned(bench)
    chosen = _chosen(protocol, every, models, seeds)
    outcomes: dict[str, Outcome] = {c.place: found for c in every if (found := bench.done(c)) is not None}
    with alone(out):
        write_json(out / PROTOCOL, protocol.model_dump(mode="json"))
        results = _written(bench, every, outcomes)
        for k, (cell, outcome) in enumerate(
            here(bench, chosen) if scheduler is None else scheduled(bench, chosen, scheduler)
        ):
            new = cell.place not in outcomes
            outcomes[cell.place] = outcome
            if new:
                results = _written(bench, every, outcomes)
            if watch is not None:
                watch(k + 1, len(chosen), cell, outcome)
    return results


def _chosen(protocol: Protocol, every: list[Cell], models: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """The cells that are asked for."""
    names = [entry.name for entry in protocol.models]
    if wrong := [name for name in models if name not in names]:
        raise UsageError(None, f"no model {wrong[0]!r} in the protocol", f"there are {', '.join(names)}")
    if other := [seed for seed in seeds if seed not in protocol.seeds]:
        raise UsageError(
            None, f"no seed {other[0]} in the protocol", f"there are {', '.join(map(str, protocol.seeds))}"
        )
    return [c for c in every if (not models or c.entry.name in models) and (not seeds or c.seed in seeds)]


def _written(bench: Bench, every: list[Cell], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Writes the results of the cells that are done."""
    done = [outcome for cell in every if isinstance(outcome := outcomes.get(cell.place), dict)]
    failed = {cell.place: str(o) for cell in every if isinstance(o := outcomes.get(cell.place), InputError)}
    results = summarised(bench, done, failed)
    sheets: dict[str, Path] = {}
    for cell in every:
        if cell.place in outcomes and (sheet := bench.folder(cell) / SHEET).is_file():
            sheets.setdefault(cell.entry.name, sheet)
    write_json(bench.out / "results.json", results)
    for name, text in (("results.md", "\n".join(table(results))), ("report.html", page(results, done, sheets))):
        with whole(bench.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return results
