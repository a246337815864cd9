"""Which runtime: opened by name or, for "auto", the fastest, once it was seen to find what torch fp32 finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mitosight import checkpoint, modelfile
from mitosight.device import placed
from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.runtime import cache
from mitosight.runtime.agreement import NEAR_PX, Agreement, Tiles, agreement, drawn, judged_from, look
from mitosight.runtime.conversion import with_runner
from mitosight.runtime.files import SUFFIX, check_weights, export, form_of, is_exported, precision_of, read_header
from mitosight.runtime.runners import HalfTorch, OnnxRuntime, OpenVino, Runner

TOLERANCE = {"fp32": 0.001, "bf16": 0.02, "int8": 0.1}  # measured on real tiles: 7e-7, 0.004, 0.041; docs/runtime.md
NAMES = ("torch", "torch-bf16", "onnx", "openvino", "openvino-bf16", "openvino-int8", "auto")
USUAL = "auto"  # of `mitosight detect`
TILES = 8  # that a check looks at

Shown = Tiles | Callable[[], Tiles]
"""Tiles that a check looks at, or what reads them, which is called only where there is something to check."""


@dataclass(frozen=True)
class Asked:
    """One detector and what its runtimes hang on."""

    detector: Detector
    file: Path
    place: Path
    threads: int
    tiles: Tiles
    tolerance: float | None
    near_px: float = NEAR_PX

    @property
    def device(self) -> torch.device:
        return next(self.detector.parameters()).device

    def tolerated(self, name: str) -> float:
        return TOLERANCE[precision_of(name)] if self.tolerance is None else self.tolerance


def load(
    path: str | Path,
    name: str | None = None,
    *,
    device: torch.device | str = "cpu",
    tiles: Shown = (),
    **settings: Any,
) -> Detector:
    """The detector of a model file, a training's folder, or an exported file, in a runtime.

    Args:
        path: what it is, is told by its content.
        name: see `open_runtime`; None for torch, and for the one that an exported file is for.
        tiles, settings: see `open_runtime`; an exported file is not checked again.

    Raises:
        InputError: as `checkpoint.load`, or an exported file is damaged.
        UsageError: as `open_runtime`, or an exported file is for another runtime.
    """
    device = torch.device(device)
    if is_exported(path):
        return _exported(Path(path), name, device, settings.get("threads"))
    file = modelfile.locate(path)
    return open_runtime(placed(checkpoint.load(file), device), file, name or "torch", tiles, **settings)


def open_runtime(  # noqa: PLR0913  what a check hangs on, each with a default
    detector: Detector,
    model_file: Path,
    name: str,
    tiles: Shown = (),
    *,
    tolerance: float | None = None,
    near_px: float = NEAR_PX,
    int8: bool = False,
    threads: int | None = None,
) -> Detector:
    """A copy of `detector` that shares its weights and whose network runs in the runtime `name`.

    But for "torch" it is checked first, against torch fp32, and the outcome kept in $MITOSIGHT_CACHE, else in
    ~/.cache/mitosight, by model, machine and versions: see `agreement.compare`. Its
    `runtime` says name, tolerance, agreement and seconds.

    Args:
        detector: as `checkpoint.load` gives it, on its device.
        model_file: the file it came from, whose checksum names what is kept.
        name: one of `NAMES`. "auto" takes the fastest that is installed and agrees, of fp32 and bf16.
        tiles: (H, W, 3) uint8 that the check looks at, the first eight; best of the slides to come. Without any, drawn
            ones.
        tolerance: largest difference of scores; by default 0.001 for fp32, 0.02 for bf16, 0.1 for int8.
        near_px: how far a point may lie from that of torch.
        int8: whether "auto" may take int8 too.
        threads: cores to be used; those that torch uses by default.

    Raises:
        UsageError: no such runtime, not installed, not for this device, not calibrated, or it does not agree.
        InputError: the cache cannot be written; "auto" does with what needs none.
    """
    if name not in NAMES:
        raise UsageError(None, f"no runtime {name!r}", f"runtimes are {', '.join(NAMES)}")
    if name == "torch":
        return detector
    checksum = sha256(model_file)
    place = cache.folder(checksum)
    asked = Asked(detector, Path(model_file), place, threads or torch.get_num_threads(), (), tolerance, near_px)
    facts = {"tolerance": tolerance, "near_px": near_px, "int8": int8, **cache.machine(asked.device, asked.threads)}
    file = cache.check_file(place, name, facts)
    outcome = cache.read(file)
    if outcome is None:
        shown = tiles() if callable(tiles) else tiles
        asked = replace(asked, tiles=shown[:TILES] if len(shown) else drawn(detector, detector.tile_px))
        names = [n for n in NAMES[1:-1] if int8 or n != "openvino-int8"] if name == "auto" else [name]
        rows, complete = _checked(asked, names, name == "auto")
        outcome = {"model_sha256": checksum, **facts, "runtimes": rows}
        with suppress(InputError) if name == "auto" else nullcontext():
            if complete:
                cache.keep(file, outcome)
    return _chosen(asked, name, outcome["runtimes"])


def _chosen(asked: Asked, name: str, rows: dict[str, dict[str, Any]]) -> Detector:
    """The runtime that was asked for, or the fastest of those that agree; a refusal where it does not."""
    if name == "auto":
        agreeing = {n: row["seconds"] for n, row in rows.items() if row["agrees"]}
        name = min(agreeing, key=lambda n: agreeing[n])
        if name == "torch":
            return asked.detector
    elif not rows[name]["agrees"]:
        raise UsageError(
            asked.file, f"in runtime {name} finds other figures than in torch: {rows[name]['told']}",
            f"use --runtime torch; accepted are 0 points, and scores within {asked.tolerated(name):g}",
        )  # fmt: skip
    told = {"name": name, "tolerance": asked.tolerated(name), **rows[name]}
    found = unchecked(asked, name)
    found.runtime = told
    return found


def asked(detector: Detector, file: Path, place: Path, tiles: Tiles) -> Asked:
    """What `unchecked` asks for."""
    return Asked(detector, file, place, torch.get_num_threads(), tiles, None)


def unchecked(asked: Asked, name: str) -> Detector:
    """The detector in a runtime that nobody compared with torch; for measurements. Errors as in `open_runtime`."""
    return with_runner(asked.detector, _runner(asked, name), {"name": name})


def _checked(asked: Asked, names: Sequence[str], lenient: bool) -> tuple[dict[str, dict[str, Any]], bool]:
    """Agreement and seconds of each runtime, one after the other: each goes before the next takes memory.

    With `lenient` one that cannot be opened is a row that says why. Also returns whether that will be so next time: a
    disk that is full now may have room then.
    """
    plain, complete = look(asked.detector, asked.tiles), True
    rows = {"torch": _row(None, plain.seconds, 0.0)}
    for name in names:
        try:
            other = unchecked(asked, name)
        except (UsageError, InputError) as error:
            if not lenient:
                raise
            rows[name] = {"agrees": False, "told": str(error), "seconds": None}
            complete = complete and isinstance(error, UsageError)
            continue
        seen, tolerated = look(other, asked.tiles), asked.tolerated(name)
        del other
        found = agreement(plain, seen, judged_from(asked.detector, precision_of(name), tolerated), asked.near_px)
        rows[name] = _row(found, seen.seconds, tolerated)
    return rows, complete


def _row(found: Agreement | None, took: float, tolerated: float) -> dict[str, Any]:
    if found is None:
        return {"agrees": True, "told": "what the others are compared with", "seconds": took}
    return {"agrees": found.within(tolerated), "told": found.told(), "seconds": took, **asdict(found)}


def _runner(asked: Asked, name: str) -> Runner:
    """The runtime of that name, of a network that is converted when it is not kept from an earlier time."""
    if name == "torch-bf16":
        return HalfTorch(getattr(asked.detector, asked.detector.converted), asked.device)
    form = form_of(name)
    if form == "openvino" and asked.device.type != "cpu":
        raise UsageError(None, "OpenVINO runs on the CPU", "use --device cpu, or another runtime")
    file = kept_file(asked.place, name)
    if not file.is_file():
        if name == "openvino-int8":
            raise UsageError(
                asked.file, "is not calibrated for int8",
                f"mitosight export {asked.file} --format openvino --precision int8 --calibrate IMAGES",
            )  # fmt: skip
        header = modelfile.read_header(asked.file)
        on_cpu = asked.detector if asked.device.type == "cpu" else checkpoint.load(asked.file)
        export(on_cpu, header, file, form, model_sha256=sha256(asked.file))
    return session(file, name, asked.device, asked.threads)


def kept_file(place: Path, name: str) -> Path:
    """Where in the cache the network for a runtime is; bf16 computes with the file of fp32."""
    form = form_of(name)
    return place / (("openvino-int8" if name == "openvino-int8" else form) + SUFFIX[form])


def session(file: Path, name: str, device: torch.device, threads: int) -> Runner:
    """What computes with an exported file in the runtime `name`; errors as in `OnnxRuntime` and `OpenVino`."""
    if form_of(name) == "onnx":
        return OnnxRuntime(file, device, threads)
    return OpenVino(file, precision_of(name), threads)


def _exported(file: Path, name: str | None, device: torch.device, threads: int | None) -> Detector:
    """The detector of an exported file; it has no weights of its own."""
    header = read_header(file)
    own = header["exported"]["runtime"]
    if name not in (None, "auto", own):
        raise UsageError(file, f"was exported for the runtime {own}, not {name}", "give the model that it came from")
    try:
        detector = create(header["method"], header["scanners"], header["arguments"]).eval().to(device)
    except UsageError as error:
        raise InputError(file, f"holds arguments that do not fit {header['method']} ({error})") from None
    detector.threshold = float(header["threshold"])
    if form_of(own) == "openvino":
        check_weights(file, header)
    runner = session(file, own, device, threads or torch.get_num_threads())
    for weights in detector.parameters():  # they are in the file: what asks for them here is to fail
        weights.data = weights.data.new_empty(0)
    return with_runner(detector, runner, {"name": own, **header["exported"].get("agreement", {})})
