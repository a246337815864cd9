"""All cells of a protocol, one after the other here or side by side on a Dask scheduler; one that fails stops none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mitosight.bench.cell import Bench, Cell
from mitosight.bench.folds import Fold
from mitosight.errors import InputError, UsageError

Outcome = dict[str, Any] | InputError


def cells(bench: Bench, folds: Sequence[Fold]) -> list[Cell]:
    """All cells, seed by seed, so that a table with one seed is there early; those that lend to others come first."""
    models = sorted(bench.protocol.models, key=lambda entry: bool(entry.of))
    return [Cell(entry, fold, seed) for seed in bench.protocol.seeds for fold in folds for entry in models]


def needed(bench: Bench, cell: Cell, every: Sequence[Cell]) -> list[Cell]:
    """The cells that have to be done before a cell: whose training, or whose preparations, it takes."""
    same = [c for c in every if (c.fold.name, c.seed) == (cell.fold.name, cell.seed)]
    trained = bench.protocol.trained_by(cell.entry)
    lenders = {next(e.name for e in bench.protocol.models if name in e.share) for name in trained.share}
    names = ({trained.name} if cell.entry.of else set()) | lenders
    return [c for c in same if c.entry.name in names and c != cell]


def attempted(bench: Bench, cell: Cell, *before: Outcome) -> Outcome:
    """What a cell gives, or why it fails. `before` are outcomes of cells that it needs, which only have to be there."""
    try:
        return bench.work(cell)
    except InputError as error:
        return error


def here(bench: Bench, every: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """The cells one after the other in this process."""
    for cell in every:
        yield cell, attempted(bench, cell)


def scheduled(bench: Bench, every: Sequence[Cell], address: str) -> Iterator[tuple[Cell, Outcome]]:
    """The cells as the workers of a Dask scheduler are done with them; each waits for those that it needs.

    Workers need to see the data and `out` under the same paths. A worker that dies is replaced, and its cell goes on
    where its training last stood.

    Raises:
        UsageError: dask is not there, or no scheduler answers, or it went away.
    """
    from mitosight.cohort.scheduler import client

    with client(address) as (connected, _), connected.as_current():
        from distributed import as_completed

        futures: dict[str, Any] = {}
        cell_of = {}
        for cell in every:
            before = [futures[c.place] for c in needed(bench, cell, every) if c.place in futures]
            futures[cell.place] = connected.submit(attempted, bench, cell, *before, pure=False, retries=2)
            cell_of[futures[cell.place].key] = cell
        for future in as_completed(futures.values()):
            if future.cancelled():
                raise UsageError(None, f"the scheduler {address} went away", "start the bench again: it goes on")
            error = future.exception()
            told = InputError(None, f"a worker failed ({error})", "start the bench again: it goes on")
            yield cell_of[future.key], told if error is not None else future.result()
