"""Where converted networks and outcomes of checks are kept, so that the next start is quick."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from mitosight.outputs import write_json

VARIABLE = "MITOSIGHT_CACHE"
LIBRARIES = ("onnxruntime", "openvino")
FORMAT = 4  # of what is kept; to be raised when the conversion or the check changes


def folder(model_sha256: str, cache: Path | None = None) -> Path:
    """The folder of one model in `cache`, else in $MITOSIGHT_CACHE, else in ~/.cache/mitosight."""
    named = os.environ.get(VARIABLE)
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mitosight"
    return (cache or (Path(named) if named else usual)) / f"runtime-{FORMAT}" / model_sha256[:32]


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the outcome of a check hangs on: processor, cores that are used, versions."""
    from importlib import metadata

    facts: dict[str, Any] = {"device": device.type, "processor": processor(), "threads": threads}
    if device.type == "cuda":
        facts["processor"] = torch.cuda.get_device_name(device)
    for name in ("torch", *LIBRARIES):
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = None
    return facts


def processor() -> str:
    """The name of the CPU, and which of the instructions that matter it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
    return " ".join([told.get("model name", platform.machine()), *sorted(known & set(told.get("flags", "").split()))])


def check_file(place: Path, name: str, facts: dict[str, Any]) -> Path:
    """The file for the outcome of a check under these facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return place / f"check-{name}-{digest[:16]}.json"


def read(file: Path) -> dict[str, Any] | None:
    """An earlier outcome; None where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep(file: Path, outcome: dict[str, Any]) -> None:
    """Writes an outcome, whole.

    Raises:
        InputError: the cache cannot be written.
    """
    write_json(file, outcome)
