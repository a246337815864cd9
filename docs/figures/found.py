"""Draws found.png, the picture that `make demo` leaves, and writes the demonstration's scores to results/demo.json.

Run from the repository root: python docs/figures/found.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from mitosight import demo
from mitosight.outputs import write_json

OUT = Path(__file__).with_suffix(".png")
SCORES = Path(__file__).parents[1] / "results" / "demo.json"
LEFT_OUT = ("f1_by_threshold", "by_image", "by_tumor_type")
COLOURS = 256  # of the picture in the repository, which is half as large so


def main() -> None:
    """Runs the demonstration in a folder that is removed, and keeps picture and scores."""
    with TemporaryDirectory() as folder:
        scores = demo.run(Path(folder), print).to_json()
        with Image.open(Path(folder) / "found.png") as picture:
            picture.quantize(COLOURS).save(OUT, optimize=True)
    for group in (scores, *scores["by_scanner"].values()):
        for key in LEFT_OUT:
            group.pop(key, None)
    write_json(SCORES, scores)


if __name__ == "__main__":
    main()
