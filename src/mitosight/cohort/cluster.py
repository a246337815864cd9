"""Slides searched by the workers of a Dask scheduler: tiles' places go out in parts, points come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any

from mitosight.cohort import worker
from mitosight.cohort.worker import How, Part
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.inference import Covering, Progress
from mitosight.methods.detector import Detector

if TYPE_CHECKING:
    from distributed import Client, Future

PARTS_A_WORKER = 2  # while one is searched, the next is on its way, opened and read
SLIDES_AT_ONCE = 8  # enough parts for a hundred workers; each holds an opened slide and the mask of its tissue
LOOK_S = 0.1  # between looks at whether the search was stopped, or may begin another part

Call = tuple[Any, ...]


@dataclass
class Cluster:
    """A `Searcher` whose parts are the chunks of slides, a few for each worker at a time.

    A part whose worker dies is done again by another. One that was under way when several died is tried again with
    nothing else under way, so that it, and not its neighbours, is found to be at fault.
    """

    client: Client
    how: How
    at_once: int
    slots: _Slots = field(init=False)

    def __post_init__(self) -> None:
        self.slots = _Slots(self.client)

    def search(
        self, covering: Covering, detector: Detector, chunks: Sequence[int], progress: Progress
    ) -> Iterator[tuple[int, Detections]]:
        """See `Searcher`; the workers have detectors of their own."""
        slide = copy(covering.slide)
        slide.path = slide.path.resolve()
        entire = Part(replace(covering, slide=slide), worker.size_of(slide.path))
        total = len(covering.tiles)
        done = total - sum(_tiles(covering, number) for number in chunks)

        def look() -> None:
            progress(done, total, 0.0)

        given: dict[str, Any] = {}
        if detector.standardised or type(detector).for_slide is not Detector.for_slide:
            measured = replace(entire, covering=entire.covering.measured(detector.blocks))
            [(_, given)] = self._results(covering, worker.statistics, {0: (self.how, measured)}, look)
        calls = {n: (self.how, replace(entire, covering=_chunk(entire.covering, n)), given) for n in chunks}
        for number, (points, mm2) in self._results(covering, worker.points, calls, look):
            done += _tiles(covering, number)
            progress(done, total, mm2)
            yield number, points

    def _results(
        self, covering: Covering, function: Callable[..., Any], calls: Mapping[int, Call], look: Callable[[], None]
    ) -> Iterator[tuple[int, Any]]:
        """What `function` gives for each call, as they are done.

        Raises:
            InputError: what the function raised, by the slide's path as the user gave it; or it ended its workers.
        """
        from distributed import KilledWorker

        path = covering.slide.path
        suspects: dict[int, Call] = {}
        try:
            for number, future in self._finished(function, calls, self.slots.take, look):
                try:
                    yield number, future.result()
                except KilledWorker:
                    suspects[number] = calls[number]
            if suspects:
                with self.slots.alone() as take:
                    for number, future in self._finished(function, suspects, take, look):
                        yield number, future.result()
        except KilledWorker:
            raise InputError(
                path, "ended each worker that searched a certain part of it", "is their memory too small?"
            ) from None
        except InputError as error:
            if error.path != path.resolve():
                raise
            raise InputError(path, error.found, error.remedy) from None

    def _finished(
        self,
        function: Callable[..., Any],
        calls: Mapping[int, Call],
        take: Callable[[], bool],
        look: Callable[[], None],
    ) -> Iterator[tuple[int, Future[Any]]]:
        """The calls' futures as they come to their end; those that are not wanted any more are cancelled."""
        left = list(calls)[::-1]
        under_way: dict[Any, tuple[int, Future[Any]]] = {}
        ended: SimpleQueue[Future[Any]] = SimpleQueue()
        try:
            while left or under_way:
                look()
                while left and take():
                    future = self.client.submit(function, *calls[left[-1]], pure=False)
                    under_way[future.key] = left.pop(), future
                    future.add_done_callback(ended.put)
                try:
                    future = ended.get(timeout=LOOK_S)
                except Empty:
                    continue
                item = under_way.pop(future.key)
                self.slots.free()
                yield item
        finally:
            self.client.cancel([future for _, future in under_way.values()])
            self.slots.free(len(under_way))


@dataclass
class _Slots:
    """How many parts may be under way, of all slides: `PARTS_A_WORKER` for each worker that there is just now."""

    client: Client
    _lock: Lock = field(default_factory=Lock)
    _taken: int = 0
    _alone: int = 0
    _most: int = 0
    _asked: float = float("-inf")

    def take(self) -> bool:
        """Whether a part may begin; none may while another is to be alone."""
        with self._lock:
            if time.monotonic() > self._asked + 1:
                self._most = PARTS_A_WORKER * max(1, len(self.client.nthreads()))
                self._asked = time.monotonic()
            free = not self._alone and self._taken < self._most
            self._taken += free
            return free

    @contextmanager
    def alone(self) -> Iterator[Callable[[], bool]]:
        """Gives what says whether a part may begin that is to be alone, once the others are done."""

        def take() -> bool:
            with self._lock:
                free = self._taken == 0
                self._taken += free
                return free

        with self._lock:
            self._alone += 1
        try:
            yield take
        finally:
            with self._lock:
                self._alone -= 1

    def free(self, parts: int = 1) -> None:
        """That many are done."""
        with self._lock:
            self._taken -= parts


def _tiles(covering: Covering, chunk: int) -> int:
    return sum(map(len, covering.chunks[chunk]))


def _chunk(covering: Covering, number: int) -> Covering:
    return replace(covering, runs=covering.chunks[number], tissue=None)
