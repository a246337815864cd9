"""Work done by threads ahead of its use: in order, bounded, and stopped when nobody wants it any more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], pool: Executor, depth: int) -> Iterator[Result]:
    """`function(item)` for each item in their order, computed by `pool` while the caller is at earlier results.

    At most `depth` results are under way or waiting beside the one that the caller holds; `items` are drawn in the
    caller's thread, no sooner than they are needed. An exception of `function` is raised in its turn. When the caller
    stops early, what has not begun is cancelled.
    """
    assert depth > 0, depth
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
