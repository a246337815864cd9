"""Which device torch runs on, and how it computes there."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from mitosight.errors import UsageError

Network = TypeVar("Network", bound=nn.Module)


def choose(name: str) -> torch.device:
    """The device called `name`; "auto" takes this process's GPU where there is one.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        known = device.type in ("cpu", "cuda")
    except (RuntimeError, AssertionError):
        known = False
    if not known:
        raise UsageError(None, f"no device {name!r} here", "accepted are auto, cpu, cuda and cuda:N")
    return device


def described(device: torch.device) -> str:
    """The device in words for a record: with a GPU's model, since times hang on it."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def placed(network: Network, device: torch.device) -> Network:
    """The network on a device; on a GPU with the weights in the order in which its convolutions read them."""
    found = network.to(device)
    return found.to(memory_format=torch.channels_last) if device.type == "cuda" else found


@contextmanager
def exact() -> Iterator[None]:
    """While it is open, convolutions in float32 on a GPU are that, not TF32 with its 10 bits, and repeatable.

    It holds for all threads.
    """
    cudnn: Any = torch.backends.cudnn
    kinds = (cudnn.conv, cudnn.rnn)  # where the two differ, torch's older settings can no longer be read
    before, repeatable = [kind.fp32_precision for kind in kinds], cudnn.deterministic
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        cudnn.deterministic = True
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
        cudnn.deterministic = repeatable


def release() -> None:
    """Hands free memory back to the system, where glibc keeps it: batches of ever other sizes leave gaps in it.

    Elsewhere nothing is done.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
