"""A Dask scheduler to work with: one that is there, or one of our own with processes on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mitosight import __version__
from mitosight.cohort import worker
from mitosight.cohort.cluster import SLIDES_AT_ONCE, Cluster
from mitosight.cohort.worker import MEND, How
from mitosight.errors import UsageError
from mitosight.inference.searching import MOST_WORKERS

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

ACCEPTED = "accepted are local, local:N for N processes, and the address of a Dask scheduler, such as tcp://host:8786"
WAIT_S = 60.0  # for the first worker
QUIET = 50  # logging.CRITICAL: a worker that dies is replaced, and what fails is told by the slide's row
OURS = {
    "distributed.scheduler.allowed-failures": 1,  # deaths of workers; after a second one a part is tried alone
    # Dask has each process give memory back at once, for which a network on a CPU pays with twice the time
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
}


@contextmanager
def connected(scheduler: str, how: How) -> Iterator[Cluster]:
    """The workers of a scheduler, "local", "local:N" or an address; what is under way at the end is cancelled.

    Raises:
        UsageError: dask is not installed, nothing answers at the address, or its workers have not this version, or
            do not see the model; and in the end, when the scheduler went away.
    """
    gpus = torch.cuda.device_count() if how.device == "auto" and scheduler.startswith("local") else 0
    own = replace(how, device="gpu-by-name") if gpus else how
    try:
        with client(scheduler, gpus or max(1, torch.get_num_threads() // MOST_WORKERS)) as (found, number):
            if not number:
                _check(found, scheduler, how.model)
            yield Cluster(found, own, min(SLIDES_AT_ONCE, number + 1) if number else SLIDES_AT_ONCE)
    except CancelledError:
        told = "went away, or cancelled what was under way; what was done is kept, start again"
        raise UsageError(None, f"the scheduler {scheduler} {told}") from None


@contextmanager
def client(scheduler: str, usual: int = 1, slots: int | None = None) -> Iterator[tuple[Client, int]]:
    """A client of a scheduler, and for "local" (with `usual` processes) or "local:N" their number, else 0.

    `slots`: what a process of ours works on at once; by default as much as its share of torch's threads.

    Raises:
        UsageError: dask is not installed, or nothing answers at the address.
    """
    if find_spec("distributed") is None:
        raise UsageError(None, "dask is not installed", "python3 -m pip install 'mitosight[cluster]'")
    local_one = re.fullmatch(r"local(?::([1-9]\d*))?", scheduler)
    if local_one is not None:
        number = int(local_one[1] or 0) or usual
        with local(number, slots) as made, _client(made.scheduler_address) as found:
            yield found, number
    elif "://" in scheduler:
        with _client(scheduler) as found:
            yield found, 0
    else:
        raise UsageError(None, f"--scheduler {scheduler}", ACCEPTED)


@contextmanager
def local(number: int, slots: int | None = None) -> Iterator[LocalCluster]:
    """A cluster of this machine: `number` processes, each with its share of torch's threads, replaced when they die.

    Memory is not limited: a search is bounded in itself, and a process that waits for less would wait for ever.
    """
    import dask
    from distributed import LocalCluster

    threads = max(1, torch.get_num_threads() // number)
    with (
        dask.config.set(OURS),
        LocalCluster(
            n_workers=number,
            threads_per_worker=slots or threads,
            processes=True,
            dashboard_address=":0",  # any port: others may run beside this
            memory_limit=0,
            silence_logs=QUIET,
        ) as made,
    ):
        yield made


@contextmanager
def _client(address: str) -> Iterator[Client]:
    import dask
    from distributed import Client

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):  # the tiles of a large slide
        try:
            client = Client(address, set_as_default=False, name="mitosight")
        except (OSError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(None, f"no scheduler answers at {address} ({told})", ACCEPTED) from None
        with client:
            yield client


def _check(client: Client, address: str, model: Path) -> None:
    """Raises UsageError unless there are workers, and those that are there can do what is asked."""
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
    except TimeoutError:
        raise UsageError(
            None, f"the scheduler {address} has had no workers for {WAIT_S:g} s", "start some, then this again"
        ) from None
    for where, told in client.run(worker.seen, model, on_error="return").items():
        if isinstance(told, OSError):  # it died meanwhile
            continue
        version, sees = told if isinstance(told, tuple) else ("none or another", False)
        if version != __version__:
            raise UsageError(
                None, f"worker {where} has mitosight {version}, here it is {__version__}", "install the same there"
            )
        if not sees:
            raise UsageError(model, f"is not there for worker {where}", MEND)
