"""`mitosight` with a clock: where the time of one run goes.

    python benchmarks/timed_detect.py [--profile] TIMES.json detect SLIDE --model MODEL --out OUT ...

Loading the model is timed always. With `--profile` the functions that read, run the network, decode and write are
replaced by timed ones, whatever threads they run in, and the sizes that the network is given are noted.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

import torch  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402

from mitosight import checkpoint, detections  # noqa: E402
from mitosight.outputs import write_json  # noqa: E402
from mitosight.slide import Slide  # noqa: E402

Shape = tuple[int, ...]


class Profile:
    """The clock of one run; `shapes` counts the sizes (N, 3, H, W) that each of `detectors` was given."""

    def __init__(self, parts: bool) -> None:
        self.parts = parts
        self.watch = Stopwatch(_finish_gpu if parts else None)
        self.shapes: Counter[tuple[int, Shape]] = Counter()
        self.detectors: list[Any] = []
        self._inside = threading.local()

    def install(self) -> None:
        """Replaces what is timed; before the modules are imported that use it by its own name."""
        checkpoint.load = self._loading(checkpoint.load, torchs_own=True)
        if find_spec("mitosight.runtime") is not None:
            runtime = import_module("mitosight.runtime")
            for name in ("load", "open_runtime"):
                if hasattr(runtime, name):
                    setattr(runtime, name, self._loading(getattr(runtime, name)))
        if self.parts:
            Slide.read = self._timed("read", Slide.read)  # type: ignore[method-assign]
            detections.write = self._timed("write", detections.write)

    def _loading(self, load: Callable[..., Any], torchs_own: bool = False) -> Callable[..., Any]:
        """`load`, timed, and the detector that it returns watched."""
        timed = self._timed("load", load)

        @wraps(load)
        def loading(*args: Any, **kwargs: Any) -> Any:
            detector = timed(*args, **kwargs)
            if self.parts:
                if torchs_own:
                    detector.number = len(self.detectors)  # goes with its copies
                    self.detectors.append(copy.deepcopy(detector).to("meta"))  # what arithmetic is counted on
                self._follow(detector)
            return detector

        return loading

    def _follow(self, detector: Any) -> None:
        """Times `network` and `decode` where the detector has them: on itself (another runtime) or on its class."""
        for name in ("network", "decode"):
            owner = detector if name in vars(detector) else type(detector)
            function = getattr(owner, name)
            if not hasattr(function, "timed"):
                timed = self._timed(name, function, detector)
                timed.timed = True  # type: ignore[attr-defined]
                setattr(owner, name, timed)

    def _timed(self, name: str, function: Callable[..., Any], owner: Any = None) -> Callable[..., Any]:
        """`function`, timed; but not within itself, nor while a model is loaded and checked.

        A network belongs to the detector that is its first argument, as a method's does, or else to `owner`.
        """

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            inside = self._inside.__dict__.setdefault("names", set())
            if name in inside or "load" in inside:
                return function(*args, **kwargs)
            if name == "network":
                images = args[-1] if args else kwargs["images"]
                number = getattr(args[0] if len(args) > 1 else owner, "number", 0)
                self.shapes[number, tuple(images.shape)] += 1
            inside.add(name)
            try:
                with self.watch.time(name):
                    return function(*args, **kwargs)
            finally:
                inside.remove(name)

        return timed

    def gflop(self) -> float | None:
        """Of the networks in this run, as the models stand in torch; None without a profile."""
        from torch.utils.flop_counter import FlopCounterMode

        if not self.detectors:
            return None
        total = 0.0
        for (number, shape), times in dict(self.shapes).items():
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                self.detectors[number].eval().network(torch.empty(shape, device="meta"))
            total += times * counter.get_total_flops() / 1e9
        return total


def _finish_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main() -> None:
    """Runs the command line and writes its times."""
    words = sys.argv[1:]
    profile = Profile(words[0] == "--profile")
    times, *command = words[1:] if profile.parts else words
    profile.install()
    import mitosight.cohort  # noqa: F401  (heavy; the command would import it)
    from mitosight import cli

    imported = time.monotonic()
    sys.argv = ["mitosight", *command]
    status: str | int | None = None
    try:
        cli.main()
    except SystemExit as end:
        status = end.code
    written, parts = time.monotonic(), profile.watch.parts()
    if not status:
        write_json(
            Path(times),
            {
                "started": STARTED,
                "imported": imported,
                "written": written,
                "parts": parts,
                "network_gflop": profile.gflop(),
            },
        )
    sys.exit(status)


if __name__ == "__main__":
    main()
