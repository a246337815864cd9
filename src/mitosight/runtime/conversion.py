"""What a runtime computes of a detector, as an ONNX graph."""

from __future__ import annotations

import io
import warnings
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from mitosight.methods.detector import Detector
from mitosight.methods.parts.candidates import CandidateDetector
from mitosight.runtime.runners import Runner

OPSET = 17  # the newest that the exporter knows
LARGEST_SIDE_PX = 256  # of the example that the graph is traced with; its sides stay open


class _Converted(nn.Module):
    """The part of a detector that is converted, as a module of its own."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = getattr(self.detector, self.detector.converted)(images)
        return found


def side_px(detector: Detector) -> int:
    """Side of the images that the network of a detector sees: of its patches, or of its tiles."""
    return detector.patch_px if isinstance(detector, CandidateDetector) else detector.tile_px


def as_onnx(detector: Detector) -> tuple[bytes, list[str]]:
    """The ONNX graph of what `detector.converted` names, and the names of its outputs; the detector is on the CPU.

    Its input "images" is (N, 3, H, W); number and sides are open, but the sides of patches are fixed.

    torch's tracing exporter is used, not the one by torch.export. It converts all methods, and took 0.7 s of a core
    for a RetinaNet-18 where the other took about 5, and needs no library but onnx. Its known fault, that a branch in
    Python is frozen as the example took it, does no harm to networks without branches, and the check would show it.
    """
    patches = isinstance(detector, CandidateDetector)
    side = min(side_px(detector), side_px(detector) if patches else LARGEST_SIDE_PX)
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    training = detector.training
    module = _Converted(detector.eval())
    module.eval()
    names = [f"map{i}" for i in range(len(_maps(module, example)))]
    free = {0: "n"} if patches else {0: "n", 2: "h", 3: "w"}
    axes: dict[str, Any] = {"images": free, **{name: {0: "n"} for name in names}}
    file: Any = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            file,
            dynamo=False,
            input_names=["images"],
            output_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    detector.train(training)
    return file.getvalue(), names


def _maps(module: nn.Module, example: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        maps: tuple[Tensor, ...] = module(example)
    return maps


def with_runner(detector: Detector, runner: Runner, told: dict[str, Any]) -> Detector:
    """A copy of a detector that shares its weights and in which `runner` computes; `told` goes to its `runtime`."""
    found = copy(detector)
    setattr(found, detector.converted, runner)
    found.runtime = told
    return found
