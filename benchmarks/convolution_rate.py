"""The best convolution rate of this machine: large 3x3 convolutions in each runtime that is installed, in GFLOP/s.

    python benchmarks/convolution_rate.py RATES.json

A yardstick for a network: few networks of convolutions are faster than these. A multiplication and an addition count as
two. Several convolutions follow each other, so that what a runtime does to its input and output weighs little. Each
size is repeated for some time and the quickest repetition taken; each rate is that of the best size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from mitosight.outputs import write_json

SIZES = ((64, 256), (128, 128), (256, 64))  # channels and side in px of the maps of a ResNet-18 for a tile of 1024 px
BATCH, KERNEL, DEPTH = 1, 3, 6
SECONDS = 1.0  # for each size, after one repetition that is not counted

Job = Callable[[], object]


def gflop(channels: int, side: int) -> float:
    """Of DEPTH such convolutions with their borders padded."""
    return 2 * DEPTH * BATCH * channels * channels * KERNEL**2 * side**2 / 1e9


def jobs(channels: int, side: int) -> Iterator[tuple[str, Job]]:
    """The convolutions in each runtime, by name."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((BATCH, channels, side, side), dtype=np.float32)
    weight = rng.standard_normal((channels, channels, KERNEL, KERNEL), dtype=np.float32)
    weight /= np.float32(KERNEL * channels**0.5)  # what goes in and what comes out is of one size
    for name, dtype in (("torch fp32", torch.float32), ("torch bf16", torch.bfloat16)):
        yield name, _in_torch(image, weight, dtype)
    if find_spec("onnxruntime") and find_spec("onnx"):
        yield "onnxruntime fp32", _in_onnxruntime(image, weight)
    if find_spec("openvino"):
        yield "openvino fp32", _in_openvino(image, weight, "f32")
        yield "openvino bf16", _in_openvino(image, weight, "bf16")
        yield "openvino int8", _in_openvino(image, weight, "f32", int8=True)


def _in_torch(image: np.ndarray, weight: np.ndarray, dtype: torch.dtype) -> Job:
    channels = weight.shape[0]
    layer = torch.nn.Conv2d(channels, channels, KERNEL, padding=1, bias=False)
    layer.weight.data = torch.from_numpy(weight)
    layers = torch.nn.Sequential(*[layer] * DEPTH).to(dtype).to(memory_format=torch.channels_last)
    given = torch.from_numpy(image).to(dtype).contiguous(memory_format=torch.channels_last)

    def job() -> object:
        with torch.inference_mode():
            return layers(given)

    return job


def _in_onnxruntime(image: np.ndarray, weight: np.ndarray) -> Job:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    maps = [f"x{i}" for i in range(DEPTH + 1)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in (maps[0], maps[-1])]
    nodes = [helper.make_node("Conv", [x, "w"], [y], pads=[1, 1, 1, 1]) for x, y in pairwise(maps)]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {maps[0]: image})


def _in_openvino(image: np.ndarray, weight: np.ndarray, precision: str, int8: bool = False) -> Job:
    """`precision` is that of the arithmetic; `int8` rounds input and weights to 255 levels, which makes it int8's."""
    import openvino
    from openvino import opset13

    x = y = opset13.parameter(image.shape, np.float32)
    w = opset13.constant(weight)
    if int8:
        w = _rounded(w, np.abs(weight).max())
    for _ in range(DEPTH):
        y = opset13.convolution(_rounded(y, np.abs(image).max()) if int8 else y, w, [1, 1], [1, 1], [1, 1], [1, 1])
    config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    compiled = openvino.compile_model(openvino.Model([y], [x]), "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(image))
    return request.infer


def _rounded(node: object, largest: float) -> object:
    from openvino import opset13

    low, high = (opset13.constant(np.float32(end)) for end in (-largest, largest))
    return opset13.fake_quantize(node, low, high, low, high, 255)


def best(job: Job) -> float:
    """Seconds of the quickest repetition."""
    job()
    quickest, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        job()
        quickest = min(quickest, time.perf_counter() - started)
    return quickest


def rates() -> dict[str, float]:
    """GFLOP/s by runtime and precision."""
    found: dict[str, float] = {}
    for channels, side in SIZES:
        for name, job in jobs(channels, side):
            found[name] = max(found.get(name, 0.0), gflop(channels, side) / best(job))
    return found


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), rates())
