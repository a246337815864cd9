"""Seconds that the parts of a run take, several threads at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Time by name of a part.

    `seconds` is the sum over threads; `wall` is the time in which at least one thread was at it, so that what two
    threads do at once counts once; `calls` is how often it was done. `before_reading` is called at each start and
    end: a GPU has to finish its work before a clock means anything.
    """

    def __init__(self, before_reading: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._at_it: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()
        self._before_reading = before_reading or (lambda: None)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Adds the time of the block to `name`."""
        self._before_reading()
        started = time.monotonic()
        with self._lock:
            if not self._at_it.get(name):
                self._since[name] = started
            self._at_it[name] = self._at_it.get(name, 0) + 1
        try:
            yield
        finally:
            self._before_reading()
            ended = time.monotonic()
            with self._lock:
                self._at_it[name] -= 1
                self.seconds[name] = self.seconds.get(name, 0.0) + ended - started
                self.calls[name] = self.calls.get(name, 0) + 1
                if not self._at_it[name]:
                    self.wall[name] = self.wall.get(name, 0.0) + ended - self._since[name]

    def parts(self) -> dict[str, dict[str, float]]:
        """What a JSON says of it."""
        return {
            name: {
                "seconds": round(self.seconds[name], 4),
                "wall": round(self.wall[name], 4),
                "calls": self.calls[name],
            }
            for name in self.seconds
        }
