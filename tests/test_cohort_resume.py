"""Searches that are killed, repeated, disturbed: nothing is lost, nothing is done twice."""

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mitosight import checkpoint, detections, inference, outputs
from mitosight.cohort.journal import Journal
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.inference import Covering
from mitosight.methods import create
from mitosight.methods.retinanet import RetinaNet
from mitosight.slide import Slide, write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 128}
TILES, CHUNK = 17 * 14, 4 * 17  # of 128 px on 1100 x 900 px; a chunk is four rows of them
Run = Callable[..., tuple[int, str, str]]

KILLED = """
import os, signal, sys, threading
from mitosight.cli import main
from mitosight.methods.retinanet import RetinaNet
last, sys.argv = int(sys.argv[1]), ["mitosight", *sys.argv[2:]]
lock, searched, search = threading.Lock(), 0, RetinaNet.detect
def detect(self, images):
    global searched
    with lock:
        searched += len(images)
        if searched == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return search(self, images)
RetinaNet.detect = detect
try:
    main()
finally:
    print("searched", searched)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    detector = create("retinanet", ["one"], SMALL)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL, {})


def slide(path: Path, seed: int = 0, size: tuple[int, int] = (900, 1100), mpp: float = 0.25) -> Path:
    noise = np.random.default_rng(seed).integers(-50, 50, (*size, 3))
    write_tiff(path, (np.array([200, 120, 170]) + noise).astype(np.uint8), mpp, compression="lzw")
    return path


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of tiles of each batch."""
    seen: list[int] = []
    search = RetinaNet.detect

    def detect(self: RetinaNet, images: torch.Tensor) -> list[detections.Detections]:
        seen.append(len(images))
        return search(self, images)

    monkeypatch.setattr(RetinaNet, "detect", detect)
    return seen


def test_killed_at_random_moments(tmp_path: Path, model: Path, mitosight: Run) -> None:
    """Killed twice and brought to its end: the same bytes as in one go, and no chunk that was done is done again."""
    path = slide(tmp_path / "a.tiff")
    assert mitosight("detect", path, "--model", model, "--out", tmp_path / "whole")[0] == 0
    out, dice = tmp_path / "out", random.Random()
    done = 0
    for last in (dice.randint(70, 120), dice.randint(70, 120), 0):
        words = (last, "detect", path, "--model", model, "--out", out, "--runtime", "torch")
        command = [sys.executable, "-c", KILLED, *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if last:
            assert ran.returncode == -9, (last, ran.stderr)
            assert not (out / "a.csv").exists() and not (out / "summary.csv").exists()
            now = len(list((out / ".progress" / "a").glob("[0-9]*.safetensors")))
            assert done <= now <= 2, last
            done = now
        else:
            assert ran.returncode == 0, ran.stderr
            assert f"searched {TILES - CHUNK * done}" in ran.stdout
    assert (out / "a.csv").read_bytes() == (tmp_path / "whole" / "a.csv").read_bytes()
    assert len(detections.read(out)["a.tiff"]) > 20
    assert sorted(p.name for p in out.iterdir()) == ["a.csv", "run.json", "summary.csv"]


def test_what_is_there_is_not_searched_again(tmp_path: Path, model: Path, mitosight: Run, searched: list[int]) -> None:
    path, other, out = slide(tmp_path / "a.tiff"), slide(tmp_path / "b.tiff", 1, (200, 200)), tmp_path / "out"
    run = ("detect", path, "--model", model, "--out", out)
    status, first, _ = mitosight(*run)
    points, keys = (out / "a.csv").read_bytes(), json.loads((out / "run.json").read_text())["keys"]
    assert status == 0 and sum(searched) == TILES
    assert mitosight(*run)[:2] == (0, first) and sum(searched) == TILES
    assert mitosight(*run, other)[0] == 0 and sum(searched) == TILES + 9
    assert (out / "a.csv").read_bytes() == points
    assert json.loads((out / "run.json").read_text())["keys"].items() > keys.items()
    status, labelled, _ = mitosight(*run, "--threshold", 1)  # other labels, the same points
    assert status == 0 and "a.tiff: 0 mitotic figures" in labelled and sum(searched) == TILES + 9
    assert b",mitotic figure" not in (out / "a.csv").read_bytes() and b",mitotic figure" in points
    assert mitosight(*run, "--redo")[0] == 0 and sum(searched) == 2 * TILES + 9
    assert mitosight(*run, "--tile-px", 256)[0] == 0 and sum(searched) > 2 * TILES + 9  # other settings
    slide(path, 2)  # other pixels
    before = sum(searched)
    assert mitosight(*run, "--tile-px", 256)[0] == 0 and sum(searched) > before


def test_a_chunk_of_other_pixels_is_not_taken(
    tmp_path: Path, model: Path, mitosight: Run, searched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the first chunk; then the slide changes."""
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    add = Journal.add

    def stop(self: Journal, number: int, points: detections.Detections) -> None:
        add(self, number, points)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", stop)
        assert mitosight("detect", path, "--model", model, "--out", out)[0] == 130
    assert len(list((out / ".progress" / "a").iterdir())) == 1
    slide(path, 3)
    searched.clear()
    assert mitosight("detect", path, "--model", model, "--out", out)[0] == 0
    assert sum(searched) == TILES and not (out / ".progress").exists()


def test_two_runs_at_once(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path, out = slide(tmp_path / "a.tiff", size=(200, 200)), tmp_path / "out"
    run = ("detect", path, "--model", model, "--out", out)
    with outputs.alone(out):
        status, _, told = mitosight(*run)
        assert (status, told) == (
            2,
            f"mitosight: error: {out}: is being written to by another run; wait for it, or choose another --out\n",
        )
    assert mitosight(*run)[0] == 0


def test_a_slide_that_vanishes_while_it_is_searched(
    tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other, out = slide(tmp_path / "a.tiff"), slide(tmp_path / "b.tiff", 1, (200, 200)), tmp_path / "out"
    read = Covering.read_run

    def vanish(self: Covering, run: inference.covering.Run) -> np.ndarray:
        if self.slide.name == "a.tiff" and run[0].y_px > 500:
            os.truncate(path, 1000)  # as by a disk that is taken away; a file that is open can be deleted
        return read(self, run)

    monkeypatch.setattr(Covering, "read_run", vanish)
    run = ("--model", model, "--out", out, "--no-tissue")  # the search for tissue would have read it all
    status, printed, told = mitosight("detect", path, other, *run)
    assert status == 1 and "b.tiff: " in printed and told.startswith(f"{path}: ") and "Traceback" not in told
    assert not (out / "a.csv").exists() and (out / "b.csv").is_file()


def test_tissue_options(tmp_path: Path, model: Path, mitosight: Run, searched: list[int]) -> None:
    """Glass is not searched; what GeoJSON draws is, and nothing else; one warning for a slide without tissue."""
    glass, path = tmp_path / "glass.tiff", slide(tmp_path / "a.tiff")
    write_tiff(glass, np.full((300, 300, 3), 245, np.uint8), 0.25)
    run = ("detect", "--model", model, "--out", tmp_path / "out")
    status, printed, _ = mitosight(*run, glass)
    assert status == 0 and not searched
    assert printed == (
        "glass.tiff: 0 mitotic figures in 0.0000 mm² of tissue; "
        "no tissue was found: see --preview, or search everywhere with --no-tissue\n"
    )
    status, printed, _ = mitosight(*run, glass, "--no-tissue")
    assert status == 0 and sum(searched) == 16 and "mm² of tissue" not in printed
    square = [[300, 200], [500, 200], [500, 400], [300, 400], [300, 200]]
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    searched.clear()
    status, printed, _ = mitosight(*run, path, "--tissue", drawn, "--preview")
    assert status == 0 and "in 0.0025 mm² of tissue" in printed and 9 <= sum(searched) <= 25
    xy = detections.read(tmp_path / "out" / "a.csv")["a.tiff"].xy
    assert len(xy) and (xy >= [300, 200]).all() and (xy <= [500, 400]).all()
    assert (tmp_path / "out" / "a.png").is_file()
    status, _, told = mitosight(*run, path, "--tissue", drawn, "--no-tissue")
    assert status == 2 and "--tissue and --no-tissue" in told


def test_a_coarse_slide_is_searched_with_a_warning(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path = slide(tmp_path / "a.tiff", size=(200, 200), mpp=0.5)
    status, printed, _ = mitosight("detect", path, "--model", model, "--out", tmp_path / "out")
    assert status == 0 and "0.5 µm/px was enlarged to the model's 0.25: expect misses" in printed


def test_a_folder_that_cannot_be_written(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path = slide(tmp_path / "a.tiff", size=(200, 200))
    (tmp_path / "file").write_text("in the way")
    status, _, told = mitosight("detect", path, "--model", model, "--out", tmp_path / "file" / "out")
    assert status == 1 and told.count("\n") == 1 and "cannot be written" in told


def test_a_folder_that_is_read_only(
    tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk mounted read-only, which also tells who may write everywhere."""
    path = slide(tmp_path / "a.tiff", size=(200, 200))

    def refused(self: Path, *rest: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    status, _, told = mitosight("detect", path, "--model", model, "--out", tmp_path / "out")
    out = tmp_path / "out"
    assert (status, told) == (
        1,
        f"mitosight: error: {out}: cannot be written (Read-only file system); choose another place\n",
    )


def test_chunks_of_other_tiles_are_not_taken(
    tmp_path: Path, model: Path, mitosight: Run, searched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The side of the tiles may hang on the device; what was kept of a search by others is done again."""
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    run = ("detect", path, "--model", model, "--out", out, "--no-tissue", "--runtime", "torch")
    add = Journal.add

    def stop(self: Journal, number: int, points: object) -> None:
        add(self, number, points)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", stop)
    assert mitosight(*run)[0] == 130 and list((out / ".progress" / "a").iterdir())
    monkeypatch.setattr(Journal, "add", add)
    side = inference.covering.fitted_px
    monkeypatch.setattr(inference.covering, "fitted_px", lambda *given: side(*given) + 32)
    searched.clear()
    assert mitosight(*run)[0] == 0
    with Slide(path) as opened:
        assert sum(searched) == len(inference.cover(opened, checkpoint.load(model)).tiles)


def test_a_disk_that_is_full_while_a_slide_is_searched(
    tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before stays, and the search goes on there once there is room."""
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    run = ("detect", path, "--model", model, "--out", out, "--no-tissue", "--runtime", "torch")
    add, added = Journal.add, []

    def full(self: Journal, number: int, points: Detections) -> None:
        if added:
            raise InputError(self.folder, "cannot be written (No space left on device)", "free space")
        added.append(number)
        add(self, number, points)

    monkeypatch.setattr(Journal, "add", full)
    status, _, told = mitosight(*run)
    assert status == 1 and "No space left on device" in told and "Traceback" not in told
    assert len(list((out / ".progress" / "a").glob("*.safetensors"))) == 1 and not (out / "a.csv").exists()
    monkeypatch.setattr(Journal, "add", add)
    assert mitosight(*run)[0] == 0
    whole = tmp_path / "whole"
    assert mitosight(*run[:4], "--out", whole, *run[6:])[0] == 0
    assert (out / "a.csv").read_bytes() == (whole / "a.csv").read_bytes()
