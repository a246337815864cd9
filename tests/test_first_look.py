"""A first look at coarser resolution, and the second where it found something."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mitosight import checkpoint, cohort, detections, inference, pairing, regions
from mitosight.cohort.searcher import _early
from mitosight.cohort.settings import FirstLook
from mitosight.cohort.worker import How
from mitosight.inference.covering import REACH_UM
from mitosight.methods import create
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.slide import Slide, write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 256}
Run = Callable[..., tuple[int, str, str]]


def model(folder: Path, seed: int, **more: object) -> Path:
    torch.manual_seed(seed)
    settings = {**SMALL, **more}
    detector = create("retinanet", ["one"], settings)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    return checkpoint.save(folder, detector, "retinanet", settings, {})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose figures lie anywhere: an untrained first look finds something near each."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    found = []
    for name in ("a", "b"):
        noise = rng.integers(-50, 50, (600, 800, 3))
        write_tiff(folder / "images" / f"{name}.tiff", (np.array([200, 120, 170]) + noise).astype(np.uint8), 0.25)
        xy = rng.uniform(100, 500, (6, 2))
        found.append(regions.Region(f"{name}.tiff", 800, 600, xy, np.ones(6, np.int64), mpp=0.25, slide=name))
    regions.write(found, folder / "annotations.json")
    (folder / "domains.csv").write_text("file_name,scanner,mpp\na.tiff,one,0.25\nb.tiff,one,0.25\n")
    (folder / "split.json").write_text(json.dumps({"train": ["a.tiff"], "val": ["b.tiff"], "test": []}))
    return folder


def test_a_pair_searches_what_the_first_sees(data: Path, tmp_path: Path, mitosight: Run) -> None:
    """As by hand: the fine model everywhere, of which what lies near the coarse model's points stays."""
    fine, coarse = model(tmp_path / "fine", 0), model(tmp_path / "coarse", 1, mpp=0.5)
    status, printed, told = mitosight("pair", fine, coarse, "--data", data, "--recall", 0.5)
    assert status == 0, told
    file = tmp_path / "fine" / "first" / "model.safetensors"
    first = checkpoint.load(file)
    facts = checkpoint.read_header(file)["provenance"]["first"]
    assert printed.startswith(f"{file}: sees ") and "of 6 figures in 1 regions" in printed
    assert facts["of"] == sha256(fine) and facts["asked"] == 0.5 <= facts["recall"] <= 1 and first.mpp == 0.5
    path, out = data / "images" / "a.tiff", tmp_path / "out"
    run = ("detect", path, "--model", fine, "--out", out, "--no-tissue")
    assert mitosight(*run, "--fast")[0] == 0
    found = detections.read(out)["a.tiff"]
    arguments = json.loads((out / "run.json").read_text())["arguments"]
    assert (arguments["first"], arguments["first_runtime"]) == (sha256(file), "torch")
    with Slide(path) as slide:
        seen = inference.detect(slide, first)
        places = seen.xy[seen.score >= first.threshold]
        every = inference.detect(slide, checkpoint.load(fine))
    assert 0 < len(places) < len(seen) and 0 < len(found) < len(every)
    distance = np.linalg.norm(found.xy[:, None] - places, axis=2).min(axis=1)
    assert distance.max() <= REACH_UM / 0.25 + 0.01
    assert mitosight(*run)[0] == 0  # without the first look: searched anew
    assert len(detections.read(out)["a.tiff"]) == len(every)


class Dots(Detector):
    """Finds each px that is quite black; knows how many slide px it was shown for its statistics."""

    shown = 0

    def __init__(self, mpp: float) -> None:
        super().__init__(scanners=(), mpp=mpp, mpp_tolerance=0.1, tile_px=256, augmentation=None)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.searched = 0

    def for_slide(self, tiles):  # type: ignore[no-untyped-def]
        self.shown = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
        return self

    def detect(self, images: torch.Tensor) -> list[detections.Detections]:
        self.searched += images.shape[0] * images.shape[2] * images.shape[3]
        found = []
        for image in images:
            y, x = torch.nonzero(image.mean(dim=0) < 0.4, as_tuple=True)
            found.append(detections.Detections(np.stack([x + 0.5, y + 0.5], 1), np.full(len(x), 0.9), self.mpp))
        return found


def test_the_second_look_finds_all_and_searches_little(tmp_path: Path) -> None:
    """Dots of 4 x 4 px at known places, some on seams and borders; statistics are of the whole slide."""
    image = np.full((1500, 2000, 3), 230, np.uint8)
    places = np.array([[2, 2], [1998, 1498], [128, 700], [700, 192], [1000, 1000], [1030, 1000]])
    for x, y in places:
        image[y - 2 : y + 2, x - 2 : x + 2] = 0
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw")
    fine, coarse = Dots(0.25), Dots(0.5)
    file = checkpoint.save(tmp_path / "model", create("retinanet", ["one"], SMALL), "retinanet", SMALL, {})
    settings = cohort.Settings(tissue="all", first=cohort.FirstLook(coarse, file, "first"))
    out = tmp_path / "out"
    [row] = cohort.detect_slides([tmp_path / "a.tiff"], file, fine, out, settings)
    assert row.status == "ok", row.message
    found = detections.read(out)["a.tiff"]
    assert len(found) == 6
    distance = np.linalg.norm(found.xy[:, None] - places, axis=2)
    assert sorted(distance.argmin(axis=1)) == [0, 1, 2, 3, 4, 5] and distance.min(axis=1).max() < 3
    assert fine.shown == 1500 * 2000 and coarse.searched >= 1500 * 2000 / 4
    assert fine.searched < 0.4 * 1500 * 2000
    everywhere = replace(settings, first=None, redo=True)
    cohort.detect_slides([tmp_path / "a.tiff"], file, fine, out, everywhere)
    assert np.array_equal(detections.read(out)["a.tiff"].xy, found.xy)


def test_what_is_no_pair(data: Path, tmp_path: Path, mitosight: Run) -> None:
    fine, coarse = model(tmp_path / "fine", 0), model(tmp_path / "coarse", 1, mpp=0.5)
    run = ("detect", data / "images" / "a.tiff", "--model", fine, "--out", tmp_path / "out", "--fast")
    status, _, told = mitosight(*run)
    assert status == 2 and "is not there: the model has no first look; make it with mitosight pair" in told
    status, _, told = mitosight("pair", coarse, fine, "--data", data)
    assert status == 2 and "works at 0.25 µm/px, the model at 0.5; expected a coarser one" in told
    status, _, told = mitosight("pair", fine, coarse, "--data", data, "--recall", 1.5)
    assert status == 2 and "--recall is 1.5" in told
    assert mitosight("pair", fine, coarse, "--data", data, "--recall", 0.5)[0] == 0
    model(tmp_path / "fine", 3)  # trained again
    status, _, told = mitosight(*run)
    assert status == 1 and "is the first look of another model; make it again with mitosight pair" in told
    assert not (tmp_path / "out").exists() and pairing.FOLDER == "first"


def test_workers_open_the_first_look_as_this_process_did() -> None:
    """In its own runtime, and as lenient with places: 2 µm are 4 px at 0.5 µm/px."""
    detector = create("retinanet", ["a"], {"weights": "none", "mpp": 0.5})
    detector.runtime = {"name": "openvino-bf16"}
    how = How(Path("/m/model.safetensors"), "1", "cpu", None, False, "torch")
    early = _early(how, FirstLook(detector, Path("/m/first/model.safetensors"), "2"))
    assert (early.model, early.sha256) == (Path("/m/first/model.safetensors"), "2")
    assert (early.runtime, early.near_px, how.near_px) == ("openvino-bf16", 4.0, 1.0)
    assert (early.tolerance, how.tolerance) == (0.05, None)


def test_tiles_of_a_second_look_reach_beyond_what_they_own(tmp_path: Path) -> None:
    """7 µm are 28 px: 56 px that it owns, 32 px in steps of which it begins, and 2 x 32 px beyond: 160 px."""
    write_tiff(tmp_path / "a.tiff", np.full((800, 900, 3), 230, np.uint8), 0.25)
    detector = Dots(0.25)
    places = np.random.default_rng(0).uniform(100, 700, (50, 2))
    with Slide(tmp_path / "a.tiff") as slide:
        tiles = inference.cover_near(slide, detector, places).tiles
    assert {tile.side_px for tile in tiles} == {160} and len(tiles) == 50
    for tile in tiles:
        x0, y0, x1, y1 = tile.owns
        assert min(x0 - tile.x_px, y0 - tile.y_px) >= 32 - 1
        assert min(tile.x_px + 160 - x1, tile.y_px + 160 - y1) >= 32 - 1
        assert tile.x_px % 32 == tile.y_px % 32 == 0
