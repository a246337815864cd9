"""What a process of a cluster does: it keeps a model, and searches parts of slides with it."""

from __future__ import annotations

from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from threading import Lock
from typing import Any

import torch

from mitosight import __version__, device, inference, runtime
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.inference import Covering, Workers
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.runtime.agreement import NEAR_PX

MEND = "slides and the model must lie at the same path for all workers"


@dataclass(frozen=True)
class How:
    """The model that searches, and all that decides how it runs; what a process keeps is kept by it.

    Attributes:
        model: absolute path of the model's file, whose checksum is `sha256`.
        device: as of `--device`; "gpu-by-name" gives each of the workers 0, 1, 2... a GPU of its own.
        near_px, tolerance: how far points and scores may be from those of torch in another runtime (`open_runtime`).
    """

    model: Path
    sha256: str
    device: str
    batch: int | None
    bf16: bool
    runtime: str
    near_px: float = NEAR_PX
    tolerance: float | None = None


@dataclass(frozen=True)
class Part:
    """Tiles of one slide. The slide has an absolute path, and its file `size` bytes, which a worker checks."""

    covering: Covering
    size: int


def seen(model: Path) -> tuple[str, bool]:
    """The version that this process has, and whether it sees the model; cheap, since it holds up all else."""
    return __version__, model.is_file()


def size_of(path: Path) -> int:
    """The bytes of a slide's file; 0 for a folder of DICOM files, whose own size says nothing."""
    return path.stat().st_size if not path.is_dir() else 0


def statistics(how: How, part: Part) -> dict[str, Any]:
    """What the tiles of a whole slide give the detector: attributes by name, without those that it has anyway."""
    detector = _ready(how)[0]
    with _opened(part).slide:
        own = detector.for_slide(part.covering)
    had = vars(detector)
    return {name: value for name, value in vars(own).items() if name not in had or had[name] is not value}


def points(how: How, part: Part, given: dict[str, Any]) -> tuple[Detections, float]:
    """The points of one chunk in level-0 px and the mm² that were searched; `given` are the slide's statistics."""
    base, by = _ready(how)
    detector = copy(base)
    vars(detector).update(given)
    area_mm2 = 0.0

    def progress(done: int, total: int, mm2: float) -> None:
        nonlocal area_mm2
        area_mm2 += mm2

    with _opened(part).slide:
        [(_, found)] = inference.search(part.covering, detector, [0], by, progress)
    return found, area_mm2


def _opened(part: Part) -> Covering:
    """The part's tiles, once it is clear that this machine has the same slide.

    Raises:
        InputError: it has not.
    """
    path = part.covering.slide.path
    try:
        size = size_of(path)
    except OSError as error:
        raise InputError(path, f"cannot be read by a worker on {gethostname()} ({error.strerror})", MEND) from None
    if size != part.size:
        raise InputError(path, f"is another file for a worker on {gethostname()} ({size} bytes, not {part.size})", MEND)
    return part.covering


_kept: dict[How, tuple[Detector, Workers]] = {}
MOST_KEPT = 2  # a model and its first look
_loading = Lock()
_lasting = ExitStack()  # what holds for as long as the process lives


def _ready(how: How) -> tuple[Detector, Workers]:
    """The detector and the threads of this process, made on the first call and kept until another is asked for."""
    with _loading:
        if how not in _kept:
            while len(_kept) >= MOST_KEPT:
                _kept.pop(next(iter(_kept)))
            _kept[how] = _load(how)
        return _kept[how]


def _load(how: How) -> tuple[Detector, Workers]:
    from distributed import get_worker

    if not how.model.is_file():
        raise InputError(how.model, f"is not there for a worker on {gethostname()}", MEND)
    if sha256(how.model) != how.sha256:
        raise InputError(how.model, f"is another model for a worker on {gethostname()}", MEND)
    me = get_worker()
    name = f"cuda:{int(me.name) % torch.cuda.device_count()}" if how.device == "gpu-by-name" else how.device
    where = device.choose(name)
    threads = me.state.nthreads
    _lasting.enter_context(device.exact())
    by = inference.made(where, threads, how.batch, how.bf16)
    strict: dict[str, Any] = {"near_px": how.near_px, "tolerance": how.tolerance}
    return runtime.load(how.model, how.runtime, device=where, threads=threads, **strict), by
