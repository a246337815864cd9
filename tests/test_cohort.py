"""Many slides through one model, at the command line: names, bad slides, records, full disks."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mitosight import checkpoint, detections, inference, outputs
from mitosight.detections import Detections
from mitosight.errors import UsageError
from mitosight.inference import Covering
from mitosight.methods import create
from mitosight.slide import find_slides, write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 256}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model whose scores lie around its threshold: some points above, some below."""
    torch.manual_seed(0)
    detector = create("retinanet", ["one"], SMALL)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    detector.threshold = 0.5
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL, {})


def slide(path: Path, seed: int = 0, side: int = 300, mpp: float = 0.25) -> Path:
    """Noise in the colours of eosin."""
    noise = np.random.default_rng(seed).integers(-50, 50, (side, side, 3))
    write_tiff(path, (np.array([200, 120, 170]) + noise).astype(np.uint8), mpp, compression="lzw")
    return path


def summary(out: Path) -> list[dict[str, str]]:
    with open(out / "summary.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_points_labels_summary_and_record(tmp_path: Path, model: Path, mitosight: Run) -> None:
    first, second = slide(tmp_path / "in" / "a.tiff"), slide(tmp_path / "in" / "b.tiff", 1)
    (tmp_path / "in" / "notes.txt").write_text("no slide")
    out = tmp_path / "out"
    options = ("--model", model.parent, "--out", out, "--tile-px", 128)
    status, printed, told = mitosight("detect", tmp_path / "in", *options)
    assert (status, told) == (0, "")
    rows = summary(out)
    assert list(rows[0]) == [
        *("slide", "figures", "area_mm2", "tissue_mm2"),
        *("seconds", "status", "message", "detections"),
    ]
    assert [row["slide"] for row in rows] == [str(first), str(second)]
    for name, row in zip("ab", rows, strict=True):
        with open(out / f"{name}.csv", newline="") as stream:
            points = list(csv.DictReader(stream))
        assert list(points[0]) == ["file_name", "x_px", "y_px", "score", "label"]
        assert {p["file_name"] for p in points} == {f"{name}.tiff"}
        above = [p for p in points if float(p["score"]) >= 0.5]
        assert 0 < len(above) < len(points)
        assert {p["label"] for p in above} == {"mitotic figure"}
        assert {p["label"] for p in points if p not in above} == {"non-mitotic figure"}
        assert row["figures"] == str(len(above)) and row["detections"] == f"{name}.csv"
        assert float(row["area_mm2"]) == pytest.approx(0.075**2, rel=0.01) and row["status"] == "ok"
        assert row["tissue_mm2"] == row["area_mm2"]  # tissue all over
        assert f"{name}.tiff: {len(above)} mitotic figures in 0.0056 mm² of tissue" in printed
    run = json.loads((out / "run.json").read_text())
    assert run["slides"] == {str(path): outputs.sha256(path) for path in (first, second)}
    assert run["model"]["sha256"] == outputs.sha256(model) and run["model"]["method"] == "retinanet"
    assert run["arguments"]["threshold"] == 0.5 and run["command"][1] == "detect" and run["versions"]["torch"]


def test_the_same_twice_is_the_same(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path = slide(tmp_path / "a.tiff")
    for out in ("one", "two"):
        assert mitosight("detect", path, path, "--model", model, "--out", tmp_path / out)[0] == 0
    assert (tmp_path / "one" / "a.csv").read_bytes() == (tmp_path / "two" / "a.csv").read_bytes()
    assert len(summary(tmp_path / "one")) == 1  # one slide named twice


def test_slides_of_one_name_do_not_overwrite_each_other(tmp_path: Path, model: Path, mitosight: Run) -> None:
    here, there, later = (slide(tmp_path / f / "a.tiff", seed) for seed, f in enumerate(("here", "there", "later")))
    other = slide(tmp_path / "later" / "summary.tiff")
    out = tmp_path / "out"
    run = ("--model", model, "--out", out)
    assert mitosight("detect", here, there, *run)[0] == 0
    names = [row["detections"] for row in summary(out)]
    assert len(set(names)) == 2 and all((out / name).is_file() and name.startswith("a-") for name in names)
    before = {name: (out / name).read_bytes() for name in names}
    assert before[names[0]] != before[names[1]]
    assert mitosight("detect", later, other, *run)[0] == 0  # a second run, and a slide called as the summary is
    assert {name: (out / name).read_bytes() for name in names} == before
    rows = summary(out)
    assert [row["slide"] for row in rows] == [str(p) for p in (here, there, later, other)]
    assert len({row["detections"] for row in rows}) == 4 and "summary.csv" not in {r["detections"] for r in rows}
    assert mitosight("detect", there, *run)[0] == 0  # again alone: under the name it had
    assert [row["detections"] for row in summary(out)] == [row["detections"] for row in rows]
    assert {name: (out / name).read_bytes() for name in names} == before


def test_one_run_then_another_slide_of_that_name(tmp_path: Path, model: Path, mitosight: Run) -> None:
    here, there = (slide(tmp_path / f / "a.tiff", seed) for seed, f in enumerate(("here", "there")))
    for path in (here, there):
        assert mitosight("detect", path, "--model", model, "--out", tmp_path / "out")[0] == 0
    first, second = (row["detections"] for row in summary(tmp_path / "out"))
    assert first == "a.csv" and second.startswith("a-")


def test_bad_slides_are_named_and_the_others_done(tmp_path: Path, model: Path, mitosight: Run) -> None:
    good = slide(tmp_path / "good.tiff")
    empty, text, cut, small, gone = (
        tmp_path / n for n in ("empty.svs", "text.png", "cut.tiff", "small.tiff", "gone.tiff")
    )
    empty.write_bytes(b"")
    text.write_text("no image")
    cut.write_bytes(good.read_bytes()[:-30_000])
    slide(small, side=100)
    bad = {
        empty: "is empty",
        text: "is not an image that can be read",
        cut: "truncated",
        small: "100 x 100 px is smaller than a tile of 128 px; give a larger image",
        gone: "is not there",
    }
    out = tmp_path / "out"
    status, printed, told = mitosight("detect", *bad, good, "--model", model, "--out", out)
    assert status == 1 and "good.tiff: " in printed
    lines = told.splitlines()
    assert len(lines) == 6 and lines[-1] == f"mitosight: 5 of 6 slides failed; see {out / 'summary.csv'}"
    for (path, reason), line, row in zip(bad.items(), lines[:5], summary(out), strict=False):
        assert line.startswith(f"{path}: ") and reason in line
        assert (row["slide"], row["status"], row["message"]) == (str(path), "failed", line)
        assert (row["figures"], row["detections"]) == ("", "")
    assert summary(out)[-1]["status"] == "ok"
    assert sorted(p.name for p in out.iterdir()) == ["good.csv", "run.json", "summary.csv"]


def test_a_slide_that_went_bad_loses_its_old_points(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    run = ("detect", path, "--model", model, "--out", out)
    assert mitosight(*run)[0] == 0 and (out / "a.csv").is_file()
    kept = path.read_bytes()
    path.write_bytes(b"")
    assert mitosight(*run)[0] == 1 and not (out / "a.csv").exists()
    path.write_bytes(kept)
    assert mitosight(*run)[0] == 0 and (out / "a.csv").is_file()


def test_mpp_from_the_argument_and_the_table(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    table = tmp_path / "domains.csv"
    table.write_text("file_name,mpp\na.tiff,0.24\n")
    for more, mpp in (((), 0.25), (("--domains", table), 0.24), (("--domains", table, "--mpp", 0.26), 0.26)):
        assert mitosight("detect", path, "--model", model, "--out", out, *more)[0] == 0
        assert float(summary(out)[0]["area_mm2"]) == pytest.approx((300 * mpp / 1000) ** 2, rel=0.01)


def test_threshold_changes_labels_not_points(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    found = []
    for threshold in (0, 1):
        assert mitosight("detect", path, "--model", model, "--out", out, "--threshold", threshold)[0] == 0
        found.append((detections.read(out)["a.tiff"], summary(out)[0]["figures"]))
    (low, every), (high, none) = found
    assert np.array_equal(low.xy, high.xy) and (every, none) == (str(len(low)), "0")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--mpp", "25"), "--mpp is 25; expected 0.05 to 10 µm per px"),
        (("--mpp", "nan"), "--mpp is nan"),
        (("--threshold", "1.5"), "--threshold is 1.5; scores go from 0 to 1"),
        (("--threshold", "nan"), "--threshold is nan"),
        (("--device", "abacus"), "no device 'abacus' here; accepted are auto, cpu, cuda"),
        (("--device", "meta"), "no device 'meta' here"),
    ],
)
def test_wrong_usage(tmp_path: Path, model: Path, mitosight: Run, arguments: tuple[str, str], told: str) -> None:
    out = tmp_path / "out"
    status, _, line = mitosight("detect", slide(tmp_path / "a.tiff"), "--model", model, "--out", out, *arguments)
    assert status == 2 and told in line and line.count("\n") == 1 and not out.exists()


def test_wrong_folders(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path = slide(tmp_path / "a.tiff")
    (tmp_path / "none").mkdir()
    status, _, line = mitosight("detect", tmp_path / "none", "--model", model, "--out", tmp_path / "out")
    assert status == 2 and "none: holds no slide; accepted are .bif" in line
    assert mitosight("detect", path, "--model", model, "--out", path)[0] == 2
    status, _, line = mitosight("detect", path, "--model", tmp_path, "--out", tmp_path / "out")
    assert (
        status == 1
        and "expected model.safetensors, what mitosight export wrote, or a name that mitosight models lists" in line
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "old").mkdir()
    for text in (
        "file,sum\n1,2\n",
        "slide,figures,area_mm2,tissue_mm2,seconds,status,message,detections\n1,2\n",
        "\xff",
    ):
        (tmp_path / "old" / "summary.csv").write_text(text, encoding="latin-1")
        status, _, line = mitosight("detect", path, "--model", model, "--out", tmp_path / "old")
        assert status == 1 and "is no summary of mitosight detect; choose another --out" in line
        assert (tmp_path / "old" / "summary.csv").read_text(encoding="latin-1") == text


def test_results_of_two_models_do_not_mix(tmp_path: Path, model: Path, mitosight: Run) -> None:
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    assert mitosight("detect", path, "--model", model, "--out", out)[0] == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    other = checkpoint.save(tmp_path / "other", create("retinanet", ["one"], SMALL), "retinanet", SMALL, {})
    status, _, line = mitosight("detect", path, "--model", other, "--out", out)
    assert status == 1 and line == f"mitosight: error: {out}: holds what another model found; choose another --out\n"
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert mitosight("detect", path, "--model", model, "--out", out)[0] == 0
    (out / "run.json").write_text("[]")
    status, _, line = mitosight("detect", path, "--model", model, "--out", out)
    assert status == 1 and "run.json: is no record of mitosight detect" in line


def test_slides_are_each_found_once(tmp_path: Path) -> None:
    a, b = slide(tmp_path / "in" / "a.tiff"), slide(tmp_path / "in" / "B.TIFF")
    gone = tmp_path / "gone.svs"
    assert find_slides([b, tmp_path / "in", gone, a]) == [b, a, gone]
    with pytest.raises(UsageError, match="holds no slide"):
        find_slides([tmp_path])


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
sys.argv = ["mitosight", *sys.argv[1:]]
import numpy as np
from mitosight import inference
from mitosight.cli import main
from mitosight.detections import Detections
from mitosight.methods.detector import Detector
found = Detections(np.random.default_rng(0).uniform(0, 300, (5000, 2)), np.full(5000, 0.9))
inference.search = lambda covering, *rest: [(0, found if covering.slide.name == "b.tiff" else found[:3])]
Detector.suppression_um = 0
main()
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, model: Path) -> None:
    """A limit on the size of files stands for the disk; the second slide's points do not fit."""
    slides = [slide(tmp_path / "a.tiff"), slide(tmp_path / "b.tiff")]
    out = tmp_path / "out"
    words = ["detect", *map(str, slides), "--model", str(model), "--out", str(out), "--runtime", "torch"]
    command = [sys.executable, "-c", FULL, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        f"mitosight: error: {out / 'b.csv'}: cannot be written (File too large); free space or choose another place\n"
    )
    assert sorted(p.name for p in out.iterdir()) == [".progress", "a.csv", "run.json", "summary.csv"]  # b goes on
    assert [row["status"] for row in summary(out)] == ["ok"]
    assert len(detections.read(out)["a.tiff"]) == 3


def test_interrupted_between_slides(
    tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [slide(tmp_path / "a.tiff"), slide(tmp_path / "b.tiff")]
    out = tmp_path / "out"

    def search(covering: Covering, *rest: object) -> list[tuple[int, Detections]]:
        if covering.slide.name == "b.tiff":
            raise KeyboardInterrupt
        return [(0, Detections(np.array([[1.0, 2.0]]), np.array([0.9]), 0.25))]

    monkeypatch.setattr(inference, "search", search)
    status, _, told = mitosight("detect", *slides, "--model", model, "--out", out)
    assert (status, told) == (130, "mitosight: interrupted\n")
    assert [row["slide"] for row in summary(out)] == [str(slides[0])]
    assert sorted(p.name for p in out.iterdir()) == ["a.csv", "run.json", "summary.csv"]
