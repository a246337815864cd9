"""A trained detector as one safetensors file: weights, and in its header all that is needed to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as weights_file

from mitosight import __version__, modelfile
from mitosight.errors import InputError, UsageError
from mitosight.methods import METHODS, create
from mitosight.methods import arguments as defaults
from mitosight.methods.detector import Detector
from mitosight.outputs import whole

FILE = modelfile.FILE


def save(folder: Path, detector: Detector, method: str, arguments: dict[str, Any], provenance: dict[str, Any]) -> Path:
    """Writes `folder/model.safetensors`; `provenance` says how the weights came about. Returns the file.

    The header holds `arguments` and the defaults of all others, so that a model stays what it is when a default
    changes.
    """
    header = {
        "format": modelfile.FORMAT,
        "mitosight": __version__,
        "method": method,
        "arguments": {**defaults(method), **arguments, **detector.settled()},
        "scanners": list(detector.scanners),
        "threshold": detector.threshold,
        "provenance": provenance,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    path = folder / FILE
    with whole(path) as temporary:
        temporary.write_bytes(weights_file.save(tensors, metadata={"mitosight": json.dumps(header)}))
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """What a model file says of itself; `path` is the file or its folder.

    Raises:
        InputError: as `modelfile.read_header`, or the method is one that this version does not have.
    """
    header = modelfile.read_header(path)
    if header["method"] not in METHODS:
        raise InputError(
            modelfile.locate(path),
            f"is a model of method {header['method']!r}",
            f"mitosight {__version__} has {', '.join(METHODS)}",
        )
    return header


def _earlier(method: str) -> dict[str, Any]:
    """What a model had whose header does not name it: values of arguments that came later with another default."""
    return {"suppression_um": 6.25} if "suppression_um" in defaults(method) else {}


def load(path: str | Path) -> Detector:
    """The detector of a model file or folder, in evaluation mode on the CPU.

    Raises:
        InputError: as `read_header`, or arguments or weights do not fit the method that the header names.
    """
    header, file = read_header(path), modelfile.locate(path)
    method = header["method"]
    try:
        detector = create(method, header["scanners"], {**_earlier(method), **header["arguments"]})
        detector.load_state_dict(weights_file.load_file(file))
    except UsageError as error:
        raise InputError(file, f"holds arguments that do not fit {method} ({error})") from None
    except (SafetensorError, OSError) as error:
        raise InputError(file, f"is damaged ({error})", "copy the file again") from None
    except RuntimeError as error:
        told = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(file, f"holds weights that do not fit {method} ({told})") from None
    detector.threshold = float(header["threshold"])
    return detector.eval()
