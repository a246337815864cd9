"""A trained detector as one safetensors file: weights, and in its header all that is needed to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mitosight import __version__
from mitosight.errors import InputError
from mitosight.methods import METHODS, create
from mitosight.methods.detector import Detector
from mitosight.outputs import whole

FILE = "model.safetensors"
FORMAT = 1
KEYS = {"format", "mitosight", "method", "arguments", "scanners", "threshold", "provenance"}


def save(folder: Path, detector: Detector, method: str, arguments: dict[str, Any], provenance: dict[str, Any]) -> Path:
    """Writes `folder/model.safetensors`; `provenance` says how the weights came about. Returns the file."""
    header = {
        "format": FORMAT,
        "mitosight": __version__,
        "method": method,
        "arguments": arguments,
        "scanners": list(detector.scanners),
        "threshold": detector.threshold,
        "provenance": provenance,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    path = folder / FILE
    with whole(path) as temporary:
        save_file(tensors, temporary, metadata={"mitosight": json.dumps(header)})
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """What a model file says of itself; `path` is the file or its folder.

    Raises:
        InputError: no such file, not a model of mitosight, or one of a format that this version does not know.
    """
    file = _file(path)
    try:
        with safe_open(file, "pt") as stream:
            header = json.loads((stream.metadata() or {})["mitosight"])
    except (OSError, SafetensorError, KeyError, ValueError):
        raise InputError(file, "is no model of mitosight", f"expected the {FILE} that mitosight train writes") from None
    if header.get("format") != FORMAT or not set(header) >= KEYS:
        raise InputError(
            file,
            f"has model format {header.get('format')} (written by mitosight {header.get('mitosight')})",
            f"this is mitosight {__version__}, which reads format {FORMAT}",
        )
    if header["method"] not in METHODS:
        raise InputError(file, f"is a model of method {header['method']!r}", f"this version has {', '.join(METHODS)}")
    return dict(header)


def load(path: str | Path) -> Detector:
    """The detector of a model file or folder, in evaluation mode on the CPU.

    Raises:
        InputError: as `read_header`, or the weights do not fit the method that the header names.
    """
    header, file = read_header(path), _file(path)
    detector = create(header["method"], header["scanners"], header["arguments"])
    with safe_open(file, "pt") as stream:
        state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    try:
        detector.load_state_dict(state)
    except RuntimeError as error:
        told = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(file, f"holds weights that do not fit {header['method']} ({told})") from None
    detector.threshold = float(header["threshold"])
    return detector.eval()


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / FILE if path.is_dir() else path
