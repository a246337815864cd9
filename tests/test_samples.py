"""What a training on candidates learned from, shown: numbers by hand, a trained run, the command."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mitosight import checkpoint
from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.regions import load
from mitosight.samples import Settings, sheets, study, told
from mitosight.samples.features import plane, separability
from mitosight.samples.trained import taken_up
from test_wang2023 import SIDE, folder, log_of, made

__all__ = ["folder"]  # the fixture
QUICK = Settings(examples=3, rows=2, patches=12)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "model"
    made(folder, out, score_floor=0.0)
    return out


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "model"
    made(folder, out, dgsb=False, unsa=False, efdmix=False, incdp=False, score_floor=0.0)
    return out


def test_separability_by_hand() -> None:
    """Points 0 and 1 against 10 and 11: a is 1, b 10.5 for the outer and 9.5 for the inner of each pair."""
    features = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    apart = (2 * (1 - 1 / 10.5) + 2 * (1 - 1 / 9.5)) / 4
    assert separability(features, np.array([0, 0, 1, 1])) == pytest.approx(apart)
    assert separability(7 * features, np.array([0, 0, 1, 1])) == pytest.approx(apart)
    mixed = separability(features, np.array([0, 1, 0, 1]))
    assert mixed is not None and mixed < 0
    assert separability(features, np.zeros(4, int)) is None and separability(features, np.arange(4)) is None


def test_plane_keeps_the_main_directions() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 4)) * [0, 5, 0, 2]).astype(np.float32)
    xy, share = plane(features)
    assert share == pytest.approx(1.0)
    centred = features - features.mean(axis=0)
    assert np.linalg.norm(xy, axis=1) == pytest.approx(np.linalg.norm(centred, axis=1), rel=1e-4)


def test_heat_over_an_image() -> None:
    """Grey where the map is 0, on the way to red where it is 1."""
    image, level = torch.full((3, 2, 2), 0.5), np.array([[0, 0], [0, 1]], np.float32)
    over = sheets.heated(image, level)
    assert over[:, 0, 0].tolist() == [0.5, 0.5, 0.5]
    assert over[:, 1, 1].tolist() == pytest.approx([0.45 * 0.5 + 0.55, 0.45 * 0.5, 0.45 * 0.5])


def test_places_and_distances() -> None:
    level = np.zeros((80, 80), np.float32)
    known = np.array([[43.0, 44.0], [0.0, 0.0]])
    found = sheets.Found(0, 1, 0.9, level, np.array([40.0, 40.0]), known)
    assert found.off_px == 5.0
    assert sheets.Found(0, 0, 0.9, level, np.array([40.0, 40.0]), known).off_px is None
    white = np.full((160, 160, 3), 255, np.uint8)
    marked = sheets.marked(white, found)
    assert tuple(marked[88, 86]) == sheets.TRUE and tuple(marked[0, 0]) == sheets.TRUE
    assert tuple(marked[80, 68]) == sheets.FOUND and tuple(marked[120, 120]) == (255, 255, 255)


def test_the_sheets_of_a_training(folder: Path, run: Path, plain: Path, tmp_path: Path) -> None:
    """Clusters are those that the training logged; two child classes each; the parents alone stand beside the model."""
    facts = study(run, load(folder), tmp_path, QUICK, plain)
    logged = re.search(r"negatives by cluster: ([\d, ]+);", log_of(run))
    assert logged and sorted(facts["clusters"]) == sorted(int(n) for n in logged[1].split(", "))
    assert facts["found"]["of"] == 12  # six figures on each of two scanners
    names = ["model without child classes", "parent classes alone", "model, with child classes"]
    assert list(facts["separability"]) == names == list(facts["children"])
    assert len(set(facts["separability"].values())) == 3
    assert {k: v for k, v in json.loads((tmp_path / "samples.json").read_text()).items() if k != "versions"} == facts
    with Image.open(tmp_path / "clusters.png") as sheet:
        assert sheet.size == (150 + 3 * 166, 44 + 2 * 166)
    with Image.open(tmp_path / "stains.png") as sheet:
        assert sheet.size == (150 + 3 * 166, 44 + 2 * 166)  # original and two scanners
    with Image.open(tmp_path / "features.png") as plot:
        assert plot.width == pytest.approx(3 * 4.6 * 120, abs=2)
    assert all(name in told(facts) for name in names)


def test_patches_know_where_their_figures_are(folder: Path, run: Path) -> None:
    """The candidate on a figure lies within 2 px of it, so that the figure is in the middle of its patch."""
    trained = taken_up(run, load(folder), torch.device("cpu"))
    source, label = trained.chosen("val", 3, 0)
    assert label.tolist() == [1, 1, 1, 0, 0, 0]
    for candidate in source.chosen[:3]:
        figures = source.regions[source.pool.region[candidate]].figures
        nearest = np.abs(source.inside(int(candidate), figures) - 40).max(axis=1).min()
        assert nearest < 2.5
    corner = source.corner(int(source.chosen[0]))
    assert all(0 <= c <= SIDE - 80 for c in corner)


def test_a_plain_classifier_has_fewer_sheets(folder: Path, plain: Path, tmp_path: Path) -> None:
    facts = study(plain, load(folder), tmp_path / "out", QUICK)
    assert list(facts["separability"]) == ["model"] and "clusters" not in facts
    assert facts["children"] == facts["separability"]  # the only child of each class is the class
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"features.png", "samples.json"} <= there <= {"features.png", "samples.json", "maps.png"}


def test_what_cannot_be_shown(folder: Path, drawn: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trained on other regions than --data holds; give its data folder"):
        study(run, load(drawn), tmp_path / "out", QUICK)
    checkpoint.save(tmp_path / "other", create("retinanet", ["a"], {}), "retinanet", {}, {})
    with pytest.raises(UsageError, match="is a model of retinanet; expected one of wang2023"):
        study(tmp_path / "other", load(folder), tmp_path / "out", QUICK)
    with pytest.raises(UsageError, match="has child classes; expected a model that was trained with incdp=false"):
        study(run, load(folder), tmp_path / "out", QUICK, run)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; --out names a folder"):
        study(run, load(folder), tmp_path / "file", QUICK)


def test_the_command(folder: Path, run: Path, tmp_path: Path, mitosight: Callable[..., tuple[int, str, str]]) -> None:
    out = tmp_path / "out"
    options = ("--patches", 4, "--examples", 1, "--rows", 1, "--part", "train", "--device", "cpu")
    status, printed, _ = mitosight("samples", run, "--data", folder, "--out", out, *options)
    assert status == 0 and printed.startswith("negatives by cluster: ")
    assert printed.splitlines()[-1] == str(out) and (out / "features.png").is_file()
