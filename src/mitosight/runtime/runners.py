"""What computes: a network in torch bf16, ONNX Runtime or OpenVINO, called like the torch one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mitosight.errors import InputError, UsageError
from mitosight.runtime.graphs import Graphs

Runner = Callable[[Tensor], tuple[Tensor, ...]]
MOST_SIZES = 2


class HalfTorch:
    """torch in bf16: autocast, channels last; on a GPU as CUDA graphs."""

    def __init__(self, network: Runner, device: torch.device) -> None:
        self.device, self.network = device, network
        self.compute = Graphs(self.half) if device.type == "cuda" else self.half

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to float32 maps."""
        return self.compute(images.contiguous(memory_format=torch.channels_last))

    def half(self, images: Tensor) -> tuple[Tensor, ...]:
        """The same, one kernel after the other."""
        cached = self.device.type == "cpu"  # weights cast while a graph is recorded belong to it
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=cached):
            maps = self.network(images)
        return tuple(m.float() for m in maps)


class OnnxRuntime:
    """ONNX Runtime, fp32; on a GPU where its CUDA provider is installed, which was never run."""

    def __init__(self, file: Path, device: torch.device, threads: int) -> None:
        """Opens a file; `threads` is the number of cores that it may take.

        Raises:
            UsageError: it is not installed, or not for this device.
            InputError: the file is damaged.
        """
        onnxruntime = imported("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise UsageError(None, f"ONNX Runtime has no {provider} here", "install onnxruntime-gpu, or use torch")
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=[provider])
        except (onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf, RuntimeError) as error:
            raise InputError(file, f"cannot be opened by ONNX Runtime ({_line(error)})", "export it again") from None

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to float32 maps on the device of the images."""
        maps = self.session.run(None, {"images": images.contiguous().cpu().numpy()})
        return tuple(torch.from_numpy(m).to(images.device) for m in maps)


class OpenVino:
    """OpenVINO on the CPU; compiled for each tile size, any number of tiles at a time, by any thread.

    What is compiled for the last `MOST_SIZES` is kept: two slides at work at once may have tiles of different sizes.
    """

    def __init__(self, file: Path, precision: str, threads: int) -> None:
        """Opens a file; `precision` is fp32, bf16 or int8, `threads` the number of cores that it may take.

        Raises:
            UsageError: it is not installed, or the CPU has no bf16.
            InputError: the file is damaged.
        """
        self.openvino = imported("openvino", "openvino")
        self.openvino.Tensor(np.zeros(1))  # its first look at numpy waits for itself where two threads come at once
        self.core = self.openvino.Core()
        if precision == "bf16" and "BF16" not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UsageError(None, "this processor has no bf16", "use openvino or onnx")
        self.file = file
        self.config = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self.compiled: OrderedDict[tuple[int, int], tuple[Any, dict[int, Any]]] = OrderedDict()
        self.lock = threading.Lock()
        self._read()

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to float32 maps."""
        height, width = images.shape[-2:]
        found = self._request(height, width).infer([images.contiguous().numpy()], share_inputs=True)
        return tuple(torch.from_numpy(found[i].copy()) for i in range(len(found)))

    def _request(self, height: int, width: int) -> Any:
        """What this thread computes tiles of a size with."""
        with self.lock:
            if (height, width) not in self.compiled:
                model = self._read()
                model.reshape([-1, 3, height, width])
                self.compiled[height, width] = self.core.compile_model(model, "CPU", self.config), {}
            self.compiled.move_to_end((height, width))
            while len(self.compiled) > MOST_SIZES:
                self.compiled.popitem(last=False)
            compiled, requests = self.compiled[height, width]
            thread = threading.get_ident()
            if thread not in requests:
                requests[thread] = compiled.create_infer_request()
            return requests[thread]

    def _read(self) -> Any:
        try:
            return self.core.read_model(self.file)
        except RuntimeError as error:
            raise InputError(self.file, f"cannot be opened by OpenVINO ({_line(error)})", "export it again") from None


def imported(module: str, extra: str) -> Any:
    """A library of the optional dependencies `extra`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return __import__(module)
    except ImportError:
        raise UsageError(
            None, f"{module} is not installed", f"python3 -m pip install 'mitosight[{extra}]', or use --runtime torch"
        ) from None


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
