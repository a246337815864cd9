"""All cells of a protocol, one after the other here or side by side on a Dask scheduler; one that fails stops none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from mitosight.bench.cell import Bench, Cell
from mitosight.device import choose
from mitosight.errors import InputError, UsageError

Outcome = dict[str, Any] | InputError
AGAIN = "start the bench again: it goes on"


def cells(bench: Bench) -> list[Cell]:
    """All cells, seed by seed, so that a table with one seed is there early; those that lend to others come first."""
    models = sorted(bench.protocol.models, key=lambda entry: bool(entry.of))
    return [Cell(entry, fold, seed) for seed in bench.protocol.seeds for fold in bench.folds for entry in models]


def needed(bench: Bench, cell: Cell, every: Sequence[Cell]) -> list[Cell]:
    """The cells that have to be done before a cell: whose training, preparations or points it takes."""
    if cell.entry.model:
        same = [c for c in every if c.entry == cell.entry]
        return same[:1] if same[0] != cell else []
    same = [c for c in every if (c.fold.name, c.seed) == (cell.fold.name, cell.seed)]
    trained = bench.protocol.trained_by(cell.entry)
    lenders = {bench.protocol.lender(name).name for name in trained.share}
    names = ({trained.name} if cell.entry.of else set()) | lenders
    first = [c for c in every if c.entry == cell.entry and c.seed == cell.seed][:1] if cell.entry.across else []
    return [c for c in (*same, *first) if (c.entry.name in names or c in first) and c != cell]


def attempted(bench: Bench, cell: Cell, *before: tuple[Cell, Outcome]) -> Outcome:
    """What a cell gives, or why it fails: for one, since the cell whose trained model it takes has failed.

    `before` are the cells that it needs and what came of them. One that would have lent a preparation may have failed
    after it; what it did not leave is prepared anew.
    """
    for other, outcome in before:
        if other.entry.name == cell.entry.of and isinstance(outcome, InputError):
            return InputError(None, f"{other.place}, whose model it takes, failed", "mend that first")
    try:
        return bench.work(cell)
    except InputError as error:
        return error
    except torch.OutOfMemoryError:
        return InputError(None, f"{bench.device} has not enough memory for this recipe", "take a larger one, or less")


def here(bench: Bench, every: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """The cells one after the other in this process."""
    known: dict[str, Outcome] = {}
    for cell in every:
        before = [(c, known[c.place]) for c in needed(bench, cell, every) if c.place in known]
        known[cell.place] = attempted(bench, cell, *before)
        yield cell, known[cell.place]


def scheduled(bench: Bench, every: Sequence[Cell], address: str) -> Iterator[tuple[Cell, Outcome]]:
    """The cells as the workers of a Dask scheduler are done with them; each waits for those that it needs.

    Workers need to see the data and `out` under the same paths. One of our own works on one cell at a time, with its
    share of the cores; the device "auto" is chosen by each for itself, and our own take a GPU each. A worker that dies
    is replaced, and its cell goes on where its training last stood.

    Raises:
        UsageError: dask is not there, or no scheduler answers, or it went away.
    """
    from mitosight.cohort.scheduler import client

    usual = torch.cuda.device_count() or 1
    with client(address, usual, slots=1) as (connected, number), connected.as_current():
        from distributed import as_completed

        threads = max(1, torch.get_num_threads() // number) if number else 0
        futures: dict[str, Any] = {}
        cell_of = {}
        for cell in every:
            before = [(c, futures[c.place]) for c in needed(bench, cell, every) if c.place in futures]
            asked = (bench, cell, threads, [c for c, _ in before], [future for _, future in before])
            futures[cell.place] = connected.submit(_by_worker, *asked, pure=False, retries=2)
            cell_of[futures[cell.place].key] = cell
        for future in as_completed(futures.values()):
            if future.cancelled():
                raise UsageError(None, f"the scheduler {address} went away", AGAIN)
            error = future.exception()
            told = InputError(None, f"a worker failed ({error})", AGAIN)
            yield cell_of[future.key], told if error is not None else future.result()


def _by_worker(bench: Bench, cell: Cell, threads: int, needed: Sequence[Cell], before: Sequence[Outcome]) -> Outcome:
    """A cell in a worker's process, with `threads` of torch unless 0: those that the worker was started with."""
    from distributed import get_worker

    name, gpus = bench.device_name or str(bench.device), torch.cuda.device_count()
    if threads:
        torch.set_num_threads(threads)
        if name == "auto" and gpus:
            name = f"cuda:{int(get_worker().name) % gpus}"
    return attempted(replace(bench, device=choose(name)), cell, *zip(needed, before, strict=True))
