"""Decoded strips and tiles of a file: kept up to a number of bytes, and decoded once whoever asks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mitosight.errors import InputError

CACHE_BYTES = 32 * 2**20  # for each open file, hundreds of which may be open in a training; as much as OpenSlide's own


class Segment(NamedTuple):
    """A decoded strip or tile (height, width, channels) of one plane; `top`, `left` in px of its level.

    `pixels` is None where the file stores nothing.
    """

    pixels: NDArray[np.uint8] | None
    plane: int
    top: int
    left: int


class Segments:
    """Several threads may ask at once and decode in parallel; the least recently asked for go first.

    One that is larger than the limit is kept alone.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Segment] = OrderedDict()
        self._under_way: dict[Hashable, Future[Segment]] = {}
        self._bytes = 0

    def get(self, key: Hashable, decode: Callable[[], Segment]) -> Segment:
        """The segment `key`; without it `decode()`, called by one thread while others that want it wait.

        An InputError of `decode` goes to all of them, and nothing is kept.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            others = self._under_way.get(key)
            if others is None:
                mine = self._under_way[key] = Future()
        if others is not None:
            return others.result()
        try:
            segment = decode()
        except InputError as error:
            mine.set_exception(error)
            raise
        else:
            self._keep(key, segment)
            mine.set_result(segment)
            return segment
        finally:
            mine.cancel()  # an interrupt leaves nobody waiting; without effect on what is done
            with self._lock:
                self._under_way.pop(key, None)

    def _keep(self, key: Hashable, segment: Segment) -> None:
        with self._lock:
            self._kept[key] = segment
            self._bytes += _size(segment)
            while len(self._kept) > 1 and self._bytes > self._most_bytes:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= _size(gone)

    def keys(self) -> list[Hashable]:
        """What is kept, the least recently asked for first."""
        with self._lock:
            return list(self._kept)

    def clear(self) -> None:
        """Forgets the pixels."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def _size(segment: Segment) -> int:
    return 0 if segment.pixels is None else segment.pixels.nbytes
