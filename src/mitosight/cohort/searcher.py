"""What finds the points of a slide's chunks: the threads of this process, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mitosight import inference
from mitosight.cohort.scheduler import connected
from mitosight.cohort.settings import FirstLook, Settings, of_first_look
from mitosight.cohort.worker import How
from mitosight.detections import Detections
from mitosight.inference import Covering, Progress, Workers
from mitosight.methods.detector import Detector


class Searcher(Protocol):
    """Several threads may search at once.

    Attributes:
        at_once: how many slides are worth searching at the same time.
    """

    @property
    def at_once(self) -> int: ...

    def search(
        self, covering: Covering, detector: Detector, chunks: Sequence[int], progress: Progress
    ) -> Iterator[tuple[int, Detections]]:
        """The points of each of the chunks, in level-0 px, with its number; each once, as they are done.

        `progress` may stop the search by raising; it is called at least when a chunk is done.
        """
        ...


@contextmanager
def searcher(model: Path, checksum: str, detector: Detector, settings: Settings) -> Iterator[tuple[Searcher, Searcher]]:
    """What searches where `settings` say, with the detector and with the first look; `model` is its file.

    Raises:
        UsageError: the scheduler cannot be used; see `connected`.
    """
    if settings.scheduler is None:
        with inference.workers(detector, settings.batch, settings.bf16) as by:
            yield Here(by), Here(by)
    else:
        how = How(model.resolve(), checksum, settings.device, settings.batch, settings.bf16, settings.runtime)
        with connected(settings.scheduler, how) as found:
            first = settings.first
            early = found.how if first is None else _early(found.how, first)
            yield found, replace(found, how=early)


def _early(how: How, first: FirstLook) -> How:
    """How the workers open the first look."""
    strict = of_first_look(first.detector, first.runtime)
    return replace(how, model=first.file.resolve(), sha256=first.sha256, runtime=first.runtime, **strict)


@dataclass(frozen=True)
class Here:
    """The threads of this process."""

    by: Workers
    at_once: int = 2  # while the last tiles of one are searched, the next is opened and read

    def search(
        self, covering: Covering, detector: Detector, chunks: Sequence[int], progress: Progress
    ) -> Iterator[tuple[int, Detections]]:
        """See `Searcher`."""
        yield from inference.search(covering, inference.own(detector, covering), chunks, self.by, progress)
