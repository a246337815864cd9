"""Which device torch runs on."""

from __future__ import annotations

import os

import torch

from mitosight.errors import UsageError


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
