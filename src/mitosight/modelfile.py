"""What a model file says of itself, read from its header alone: no torch, no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mitosight import __version__
from mitosight.errors import InputError

FILE = "model.safetensors"
FIRST = "first"  # folder of the model that looks first (`mitosight pair`), beside the model's file
FORMAT = 1
SHIPPED = Path(__file__).parent / "weights"  # a folder for each model that comes with the package
CARD = "card.md"
USUAL = "mitosight"  # of these, where nothing else is asked for
KEYS = {"format", "mitosight", "method", "arguments", "scanners", "threshold", "provenance"}
_EXPECTED = f"expected the {FILE} that mitosight train writes, its folder, or a name that mitosight models lists"
_LONGEST_HEADER = 100_000_000  # bytes; the limit of safetensors


def shipped() -> dict[str, Path]:
    """The models that come with the package: the file of each, by its name."""
    return {file.parent.name: file for file in sorted(SHIPPED.glob(f"*/{FILE}"))}


def locate(path: str | Path) -> Path:
    """The model file that `path` names: itself, the one in that folder, or one that comes with the package."""
    path = Path(path)
    inside = path / FILE
    if path.is_file() or inside.is_file():
        return inside if path.is_dir() else path
    return shipped().get(str(path), inside if path.is_dir() else path)


def read_header(path: str | Path) -> dict[str, Any]:
    """Method, arguments, scanners, threshold and provenance of a model; `path` is the file or its folder.

    Raises:
        InputError: no such file, not a model of mitosight, truncated, or of a format that this version does not know.
    """
    file = locate(path)
    try:
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            table = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        header = json.loads(table.pop("__metadata__")["mitosight"])
        end = 8 + length + max(entry["data_offsets"][1] for entry in table.values())
        known = header["format"] == FORMAT and set(header) >= KEYS
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", _EXPECTED) from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise InputError(file, "is no model of mitosight", _EXPECTED) from None
    if not known:
        raise InputError(
            file,
            f"has model format {header['format']} (written by mitosight {header.get('mitosight')})",
            f"this is mitosight {__version__}, which reads format {FORMAT}",
        )
    if file.stat().st_size != end:
        raise InputError(file, f"is damaged: {file.stat().st_size} bytes instead of {end}", "copy the file again")
    return dict(header)
