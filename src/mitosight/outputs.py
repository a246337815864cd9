"""Output files that are written whole or not at all, and the record of a run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mitosight import __version__
from mitosight.errors import InputError, UsageError


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well.

    The temporary file keeps the suffix of `path`, is synced before the rename and removed after a failure.

    Raises:
        InputError: the folder or the file cannot be written (permission, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(path), str(path.parent)):
            raise
        raise InputError(
            path, f"cannot be written ({error.strerror or error})", "free space or choose another place"
        ) from None
    finally:
        with suppress(OSError):  # not there, or its folder is a file
            temporary.unlink()


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it to `path` when the block ends well.

    The temporary folder is removed after a failure.

    Raises:
        InputError: `path` is there and not an empty folder, or cannot be written (permission, disk full).
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(path, "is there already", "name a new or an empty folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        if error.filename and not Path(error.filename).is_relative_to(path.parent):
            raise
        raise InputError(
            path, f"cannot be written ({error.strerror or error})", "free space or choose another place"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing to `folder`, which is made, for as long as the block takes.

    Raises:
        UsageError: another process is at it.
        InputError: the folder cannot be made or written to.
    """
    file = folder / ".lock"
    lock = FileLock(file, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(folder, "is being written to by another run", "wait for it, or choose another --out") from None
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", "choose another place") from None
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a comma-separated table with a header line, whole or not at all."""
    with whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of mitosight, Python, the system and the libraries that shape a result."""
    system = f"{platform.system()} {platform.machine()}"
    found = {"mitosight": __version__, "python": platform.python_version(), "system": system}
    for name in (
        "torch",
        "torchvision",
        "numpy",
        "scipy",
        "openslide-python",
        "openslide-bin",
        "tifffile",
        "imagecodecs",
        "simplejpeg",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_run(folder: str | Path, **facts: Any) -> None:
    """Writes `run.json`: the command line, versions and whatever `facts` the run states of itself."""
    write_json(Path(folder) / "run.json", {"command": sys.argv, "versions": versions(), **facts})
