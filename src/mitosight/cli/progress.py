"""What a terminal shows of a search: slides done, tiles and mm² per second of those at hand, time left."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mitosight.inference import Progress as Watcher


class Bars:
    """A bar for all slides and one for each that is being searched; nothing where stderr is no terminal."""

    def __init__(self, slides: int, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._slides = slides
        self._all: TaskID | None = None
        self._tasks: dict[Path, TaskID] = {}

    def __enter__(self) -> Self:
        self._shown.start()
        if self._slides > 1:
            self._all = self._shown.add_task("slides", total=self._slides, unit="slides", rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def __call__(self, path: Path) -> Watcher:
        """What shows how far one slide is; a second search of it has a bar of its own."""
        area_mm2 = 0.0
        if path in self._tasks:
            self._shown.remove_task(self._tasks.pop(path))

        def show(done: int, total: int, mm2: float) -> None:
            nonlocal area_mm2
            if path not in self._tasks:
                self._tasks[path] = self._shown.add_task(path.name, total=total, unit="tiles", rate="")
            area_mm2 += mm2  # what an earlier run did does not count for the rate
            task = self._tasks[path]
            seconds = self._shown.tasks[self._shown.task_ids.index(task)].elapsed
            self._shown.update(task, completed=done, rate=f"{area_mm2 / seconds:.2f} mm²/s" if seconds else "")

        return show

    def done(self, path: Path) -> None:
        """A slide is done, or failed: its bar goes."""
        if path in self._tasks:
            self._shown.remove_task(self._tasks.pop(path))
        if self._all is not None:
            self._shown.advance(self._all)
