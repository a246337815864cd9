"""The best convolution rate of this machine: large 3x3 convolutions in each runtime that is installed, in GFLOP/s.

    python benchmarks/convolution_rate.py RATES.json

A yardstick for a network: no network of convolutions is faster than these. A multiplication and an addition count as
two. Each size is repeated for some time and the quickest repetition taken; each rate is that of the best size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mitosight.outputs import write_json

SIZES = ((64, 256), (128, 128), (256, 128), (512, 64))  # channels in and out, side of the map in px
BATCH, KERNEL = 4, 3
SECONDS = 1.0  # for each size, after one repetition that is not counted

Job = Callable[[], object]


def gflop(channels: int, side: int) -> float:
    """Of one such convolution with its border padded."""
    return 2 * BATCH * channels * channels * KERNEL**2 * side**2 / 1e9


def jobs(channels: int, side: int) -> Iterator[tuple[str, Job]]:
    """The convolution in each runtime, by name."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((BATCH, channels, side, side), dtype=np.float32)
    weight = rng.standard_normal((channels, channels, KERNEL, KERNEL), dtype=np.float32) / channels
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
    layer = layer.to(dtype).to(memory_format=torch.channels_last)
    given = torch.from_numpy(image).to(dtype).contiguous(memory_format=torch.channels_last)

    def job() -> object:
        with torch.inference_mode():
            return layer(given)

    return job


def _in_onnxruntime(image: np.ndarray, weight: np.ndarray) -> Job:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "convolution", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"x": image})


def _in_openvino(image: np.ndarray, weight: np.ndarray, precision: str, int8: bool = False) -> Job:
    """`precision` is that of the arithmetic; `int8` rounds input and weights to 255 levels, which makes it int8's."""
    import openvino
    from openvino import opset13

    x = opset13.parameter(image.shape, np.float32)
    inner, w = x, opset13.constant(weight)
    if int8:
        inner, w = (_rounded(node, np.abs(values).max()) for node, values in ((x, image), (w, weight)))
    y = opset13.convolution(inner, w, [1, 1], [1, 1], [1, 1], [1, 1])
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
