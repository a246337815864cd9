"""Slides by name: files as they are, and folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mitosight.errors import UsageError
from mitosight.slide.reader import SUFFIXES


def find_slides(paths: Sequence[Path]) -> list[Path]:
    """The slides named by `paths`, folders replaced by the image files in them; each once, in order.

    Raises:
        UsageError: a folder holds no image file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise UsageError(path, "holds no slide", f"accepted are {' '.join(sorted(SUFFIXES))}")
        for slide in inside:
            found.setdefault(slide.resolve(), slide)
    return list(found.values())
