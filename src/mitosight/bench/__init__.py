"""Methods compared by one protocol: trained, searched, scored and told apart on slides that none of them saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitosight.bench import leakage
from mitosight.bench.cell import SHEET, Bench, Cell
from mitosight.bench.folds import folds
from mitosight.bench.material import drawn
from mitosight.bench.page import page
from mitosight.bench.protocol import Protocol, builtin, load
from mitosight.bench.running import Outcome, cells, here, scheduled
from mitosight.bench.summary import summarised, table
from mitosight.device import choose
from mitosight.errors import InputError
from mitosight.outputs import alone, whole, write_json
from mitosight.regions import DataFolder

__all__ = ["Bench", "Cell", "Protocol", "builtin", "drawn", "load", "planned", "run"]

PROTOCOL = "protocol.json"
Watch = Callable[[int, int, Cell, Outcome], None]
"""Called after each cell with how many are done, how many there are, the cell and what came of it."""


def planned(bench: Bench) -> list[Cell]:
    """All cells of a protocol on its data, after the check that no test slide was seen.

    Raises:
        InputError: a slide was seen, or the split lacks something.
    """
    found = folds(bench.protocol, bench.data)
    leakage.check(bench.protocol, found, bench.data)
    return cells(bench, found)


def run(
    protocol: Protocol,
    data: DataFolder,
    out: Path,
    device: str = "auto",
    *,
    scheduler: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Works out what is missing of a protocol in `out` and writes `results.json`, `results.md` and `report.html`.

    Cells that are done are kept, trainings that were stopped go on. A cell that fails is named in the results, whose
    tables are of the others; they are written anew after each cell that was worked on, and at the end. `device` is
    "auto", "cpu", "cuda" or "cuda:N"; `scheduler` is "local", "local:N" or the address of a Dask scheduler, which works
    on several cells at once. Returns what `results.json` holds.

    Raises:
        InputError: as `planned`, or `out` holds cells of another protocol.
        UsageError: another run is writing to `out`, no such device, or the scheduler cannot be used.
    """
    bench = Bench(protocol, data, out, choose(device), device)
    every = planned(bench)
    kept = {cell.place for cell in every if bench.done(cell) is not None}  # raises before anything is worked on
    with alone(out):
        write_json(out / PROTOCOL, protocol.model_dump(mode="json"))
        outcomes: dict[str, Outcome] = {}
        results: dict[str, Any] = {}
        for cell, outcome in here(bench, every) if scheduler is None else scheduled(bench, every, scheduler):
            outcomes[cell.place] = outcome
            if cell.place not in kept or len(outcomes) == len(every):
                results = _written(bench, every, outcomes)
            if watch is not None:
                watch(len(outcomes), len(every), cell, outcome)
    return results


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
