"""Drawn regions with known figures, from two made-up scanners; fast to make and to learn."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight.cli import main
from mitosight.outputs import write_csv, write_json
from mitosight.slide import write_tiff

TINY = """
method = "{method}"
[detector]
tile_px = 256
weights = "none"
channels = 16
levels = [4]
head_convs = 1
[training]
tiles_per_scanner = 1
crop_px = {crop_px}
validation_batches = 1
[optimisation]
epochs = 2
steps_per_epoch = {steps}
lr = 1e-3
"""


def write_recipe(path: Path, method: str = "retinanet", crop_px: int = 224, steps: int = 2) -> Path:
    """A recipe of two epochs of a RetinaNet, or a method that extends it, as small as it gets."""
    path.write_text(TINY.format(method=method, crop_px=crop_px, steps=steps))
    return path


def draw(
    seed: int, side: int, tint: tuple[int, int, int], figures: int = 6
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A tinted noisy square with dark round blobs; returns the image and the blobs' centres (n, 2)."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(tint, 6, (side, side, 3)), 0, 255)
    cells = rng.permutation((side // 64) ** 2)[:figures]
    centres = (
        np.stack([cells % (side // 64), cells // (side // 64)], axis=1) * 64.0 + 32 + rng.uniform(-6, 6, (figures, 2))
    )
    ys, xs = np.mgrid[:side, :side] + 0.5
    for x, y in centres:
        image[(xs - x) ** 2 + (ys - y) ** 2 < 9**2] = (70, 40, 110)
    return image.astype(np.uint8), centres


def write_folder(folder: Path, scanners: dict[str, tuple[int, int, int]], side: int = 256, per_part: int = 1) -> Path:
    """A data folder: for each scanner `per_part` regions in each of train, val and test."""
    images, annotations, domains = [], [], []
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for s, (scanner, tint) in enumerate(scanners.items()):
        for p, part in enumerate(split):
            for k in range(per_part):
                name = f"{scanner}_{part}_{k}.tiff"
                image, centres = draw(100 * s + 10 * p + k, side, tint)
                write_tiff(folder / "images" / name, image, 0.25, compression="lzw")
                images.append({"file_name": name, "id": len(images) + 1, "width": side, "height": side})
                split[part].append(name)
                domains.append((name, name.removesuffix(".tiff"), scanner, "drawn", "none", 0.25))
                for x, y in centres:
                    box = [x - 25, y - 25, x + 25, y + 25]
                    annotations.append(
                        {"bbox": box, "category_id": 1, "image_id": len(images), "id": len(annotations) + 1}
                    )
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    write_json(folder / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})
    write_csv(folder / "domains.csv", ("file_name", "slide", "scanner", "tumor_type", "species", "mpp"), domains)
    write_json(folder / "split.json", split)
    return folder


@pytest.fixture(autouse=True)
def torch_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime is chosen, converted and compared for each model that a test makes; tests of that name one."""
    monkeypatch.setattr("mitosight.runtime.choice.USUAL", "torch")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of two scanners, `pink` and `grey`, 256 px regions, one for each part."""
    return write_folder(tmp_path_factory.mktemp("drawn"), {"grey": (200, 200, 210), "pink": (235, 190, 215)})


@pytest.fixture
def mitosight(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command as a shell would: gives its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mitosight", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run
