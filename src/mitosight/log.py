"""The log of a training: a progress bar for people, JSON lines for programs, TensorBoard where it is installed."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mitosight.errors import InputError


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} steps/s" if task.speed else "")


class RunLog:
    """Writes `log.jsonl` (appending, so that a resumed training goes on in it) and shows progress on stderr.

    `quiet` processes (rank above 0) write nothing. The bar is drawn on a terminal only; elsewhere each epoch is a
    line.
    """

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.folder = folder
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet)
        self._path = folder / "log.jsonl"
        self._file = None if quiet else open(self._path, "ab", buffering=0)  # noqa: SIM115
        self._board: Any = None
        if not quiet and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))
        self._progress: Progress | None = None
        self._step = 0

    def say(self, line: str) -> None:
        """A line for people and for the file."""
        self.console.print(line, highlight=False, soft_wrap=True)
        self._write({"message": line})

    def start(self, step: int, total: int) -> None:
        """Begins the bar at `step` of `total`."""
        self._step = step
        if step:
            self.say(f"resumed at step {step} of {total}")
        if sys.stderr.isatty() and not self.quiet:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._progress = Progress(*columns, console=self.console)
            self._progress.start()
            self._task = self._progress.add_task("", total=total, completed=step)

    def step(self, step: int, terms: dict[str, float]) -> None:
        """One optimisation step: loss terms, learning rate, seconds of training so far."""
        self._step = step
        self._write({"step": step, **{k: round(v, 8) for k, v in terms.items()}})
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=f"loss {terms['loss']:.3f}")
        if self._board is not None:
            for name, value in terms.items():
                self._board.add_scalar(f"train/{name}", value, step)

    def epoch(self, epoch: int, facts: dict[str, Any]) -> None:
        """The end of an epoch, with what validation found."""
        self._write({"epoch": epoch, "step": self._step, **facts})
        shown = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        self.console.print(f"epoch {epoch}: {shown or 'done'}", highlight=False, soft_wrap=True)
        if self._board is not None:
            for name, value in facts.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"validation/{name}", value, self._step)

    def finish(self) -> None:
        """Ends the bar; the log stays open for further lines."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        """Closes the files."""
        self.finish()
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            raise InputError(self._path, f"cannot be written ({error.strerror})", "free space, then go on") from None
