"""The state of an interrupted training as one safetensors file: weights and optimiser, without pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mitosight.errors import InputError
from mitosight.outputs import whole


def save_state(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
    mean: Mapping[str, Tensor],
) -> None:
    """Writes the weights of `module`, the moments of `optimiser`, the number of steps done and the time they took.

    `mean` is a mean of the weights, by the names of the module; empty where there is none.
    """
    tensors = {f"module.{k}": v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    tensors |= {f"mean.{k}": v.detach().cpu().contiguous() for k, v in mean.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value.detach().cpu().contiguous()
    with whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"step": str(step), "seconds": str(seconds)}))


def load_state(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, mean: Mapping[str, Tensor]
) -> tuple[int, float]:
    """Puts a saved state back, into `mean` too; returns the number of steps done and the seconds they took.

    Raises:
        InputError: the file is damaged or belongs to another network.
    """
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            step, seconds = int(told["step"]), float(told["seconds"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")})
        for name, value in mean.items():
            value.copy_(tensors[f"mean.{name}"])
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(path, f"is no state of this training ({first})", "remove it to start again") from None
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    for weight in (weight for group in optimiser.param_groups for weight in group["params"]):
        own = optimiser.state.get(weight, {})
        for key, value in own.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:  # a GPU steps fast over equal formats only
                own[key] = torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value)
    return step, seconds
