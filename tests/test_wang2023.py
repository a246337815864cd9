"""MitDet as a whole: what it is made of, its stages on drawn nuclei, its ablations, detection by patches."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mitosight import checkpoint, inference
from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods import create
from mitosight.methods.wang2023 import Wang2023
from mitosight.optimisation import Optimisation
from mitosight.outputs import write_csv, write_json
from mitosight.recipe import Recipe, Training
from mitosight.regions import load
from mitosight.slide import Slide, write_tiff
from mitosight.training import train
from mitosight.validation import Judge

SIDE, CELL = 512, 128
TINTS = {"grey": (205, 200, 215), "pink": (235, 190, 215)}
SMALL: dict[str, Any] = {
    "tile_px": SIDE, "network": "resnet38", "width": 4, "weights": "none", "patches_per_batch": 8, "clusters": 2,
    "cluster_share": 1.0, "per_cluster": 4, "difficulty_steps": 2, "style_width": 4, "style_depth": 1,
    "style_crop_px": 32, "style_steps": 2, "style_tiles_per_scanner": 1, "children": 2, "parent_steps": 2,
}  # fmt: skip


def draw(seed: int, tint: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei 128 px apart, far enough for a negative: six dark figures, ten paler ones; returns image and figures."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(tint, 5, (SIDE, SIDE, 3)), 0, 255)
    cells = rng.permutation(16)
    centres = np.stack([cells % 4, cells // 4], axis=1) * CELL + CELL / 2 + rng.uniform(-8, 8, (16, 2))
    ys, xs = np.mgrid[:SIDE, :SIDE] + 0.5
    for k, (x, y) in enumerate(centres):
        colour, radius = ((60, 30, 100), 8) if k < 6 else ((125, 95, 165), 11)
        image[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = colour
    return image.astype(np.uint8), centres[:6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nuclei")
    images, annotations, domains = [], [], []
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for s, (scanner, tint) in enumerate(TINTS.items()):
        for p, part in enumerate(split):
            name = f"{scanner}_{part}.tiff"
            image, centres = draw(10 * s + p, tint)
            write_tiff(path / "images" / name, image, 0.25, compression="lzw")
            images.append({"file_name": name, "id": len(images) + 1, "width": SIDE, "height": SIDE})
            split[part].append(name)
            domains.append((name, name.removesuffix(".tiff"), scanner, "drawn", "none", 0.25))
            for x, y in centres:
                box = [x - 25, y - 25, x + 25, y + 25]
                annotations.append({"bbox": box, "category_id": 1, "image_id": len(images), "id": len(annotations) + 1})
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    write_json(path / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})
    write_csv(path / "domains.csv", ("file_name", "slide", "scanner", "tumor_type", "species", "mpp"), domains)
    write_json(path / "split.json", split)
    return path


SHORT = Optimisation(1, 2, "adam", 1e-3, schedule="constant")


def made(folder: Path, out: Path, steps: Optimisation = SHORT, **detector: Any) -> Path:
    recipe = Recipe("wang2023", {**SMALL, **detector}, Training(validation_batches=1), steps)
    return train(recipe, load(folder), out, torch.device("cpu"))


def log_of(out: Path) -> str:
    return "\n".join(str(json.loads(line)) for line in (out / "log.jsonl").read_text().splitlines())


def small(**more: Any) -> Wang2023:
    torch.manual_seed(0)
    detector = create("wang2023", ["grey", "pink"], {**SMALL, **more})
    assert isinstance(detector, Wang2023)
    return detector


def patches(side: int = 80) -> Batch:
    """Four patches of child classes 0, 1, 2 and 3, of which the last two are mitoses."""
    none, label = [torch.zeros(0, 3)] * 4, torch.arange(4)
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    return Batch(images, none, none, torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.bool), {}, label)


def test_all_of_it_from_folder_to_points(folder: Path, tmp_path: Path) -> None:
    file = made(folder, tmp_path)
    for name in ("difficulty", "re-stainer", "parents"):
        assert (tmp_path / name / f"{name}.safetensors").is_file()
    told = log_of(tmp_path)
    assert "32 candidates, 12 on figures, 20 far from any" in told
    assert "8 drawn" in told and "of 20 are difficult" in told
    assert "0.67 of the patches are stained again as grey, pink" in told
    assert "samples of the child classes, and their weights" in told
    detector = checkpoint.load(file)
    with Slide(folder / "images" / "pink_test.tiff", table_mpp=0.25) as slide:
        found, again = (inference.detect(slide, detector) for _ in range(2))
    assert len(found) > 0 and np.array_equal(found.xy, again.xy) and np.array_equal(found.score, again.score)
    assert (found.xy >= 0).all() and (found.xy <= SIDE).all()
    with safe_open(tmp_path / "re-stainer" / "re-stainer.safetensors", "pt") as opened:
        assert json.loads(opened.metadata()["mitosight"])["scanners"] == ["grey", "pink"]


def test_the_plain_classifier_of_the_ablation(folder: Path, tmp_path: Path) -> None:
    file = made(folder, tmp_path, dgsb=False, unsa=False, efdmix=False, incdp=False)
    assert not any((tmp_path / name).exists() for name in ("difficulty", "re-stainer", "parents"))
    detector = checkpoint.load(file)
    assert isinstance(detector, Wang2023)
    batch = patches()
    batch.label = torch.tensor([0, 1, 0, 1])
    assert set(detector.train().losses(batch)) == {"classification"}
    assert detector.classifier.mix is None and detector.classifier.restain is None


def test_a_restainer_from_a_file(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "first")
    style = str(tmp_path / "first" / "re-stainer")
    made(folder, tmp_path / "second", style=style, dgsb=False, incdp=False, styles=1, restain=0.4)
    assert not (tmp_path / "second" / "re-stainer").exists()
    assert "0.40 of the patches are stained again as grey" in log_of(tmp_path / "second")


def test_a_resumed_training_equals_an_unbroken_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples, child classes and centres of the second preparation are those of the first."""
    unbroken = made(folder, tmp_path / "a", steps=replace(SHORT, epochs=2))
    judge, calls = Judge.__call__, []

    def stopped(self: Judge, detector: Any, epoch: int) -> dict[str, Any]:
        calls.append(epoch)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return judge(self, detector, epoch)

    monkeypatch.setattr(Judge, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(folder, tmp_path / "b", steps=replace(SHORT, epochs=2))
    resumed = made(folder, tmp_path / "b", steps=replace(SHORT, epochs=2))
    assert calls == [0, 1, 1]
    again = load_file(resumed)
    assert all(torch.equal(value, again[name]) for name, value in load_file(unbroken).items())


TWO_PROCESSES = """
import sys
from pathlib import Path
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from test_wang2023 import SHORT, SMALL
from mitosight.engine import leave, process
from mitosight.material import gather
from mitosight.methods import create
from mitosight.methods.parts.patchnet import PatchClassifier
from mitosight.recipe import Recipe, Training
from mitosight.regions import load
from mitosight.training import lend

rank, processes = process()
told, rng = PatchClassifier._told, np.random.default_rng(rank)

def shaken(*arguments):
    for part in told(*arguments):
        yield part + rng.normal(0, 1, part.shape).astype(np.float32)

PatchClassifier._told = shaken
folder, out = load(Path(sys.argv[2])), Path(sys.argv[3])
recipe = Recipe("wang2023", {**SMALL, "unsa": False}, Training(), SHORT)
torch.manual_seed(0)
material = gather(recipe, folder)
detector = create("wang2023", material.scanners, recipe.detector)
workshop = lend(recipe, folder.images, material, detector, out, torch.device("cpu"), lambda: None)
detector.prepare(workshop)
torch.save([processes, detector.chosen.tolist(), detector.label.tolist(), detector.classifier.state_dict()],
           out / f"{rank}.pt")
leave()
"""


def test_processes_learn_from_the_same_samples(folder: Path, tmp_path: Path) -> None:
    """Features and probabilities have an error of their own in each process, as if they were of other devices."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    arguments = [str(Path(__file__).parent), str(folder), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first[0] == 2 and first[1:3] == second[1:3] and len(first[1]) == len(first[2]) > 12
    assert all(torch.equal(value, second[3][name]) for name, value in first[3].items())


@pytest.mark.parametrize("terms", [{}, {"form": "code"}], ids=["paper", "code"])
def test_learns_to_tell_figures_from_nuclei(folder: Path, tmp_path: Path, terms: dict[str, Any]) -> None:
    """With the terms of the code the maps of one turn each are brightest 37 px beside every figure."""
    steps = Optimisation(3, 20, "adam", 2e-3, schedule="one-cycle")
    made(
        folder, tmp_path, steps, width=8, patches_per_batch=16, unsa=False, mix_probability=0.0, dropout=0.0,
        difficulty_steps=10, parent_steps=30, stage_optimiser="adam", stage_lr=2e-3, stage_schedule="one-cycle",
        **terms,
    )  # fmt: skip
    validation = json.loads((tmp_path / "run.json").read_text())["validation"]
    assert validation["f1"] > 0.9


def test_the_losses() -> None:
    both = {"classification", "centre"}
    assert set(small().train().losses(patches())) == both | {"child_classification", "child_centre"}
    assert set(small().eval().losses(patches())) == both
    assert set(small(centre_weight=0.0).eval().losses(patches())) == {"classification"}
    code = small(form="code", child_weight=0.7).terms
    assert (code.entropy, code.focal, code.child, code.omega) == (1.0, 0.1, 0.7, "uniform")


def test_parents_of_children() -> None:
    """Classes 0 and 1 are negatives, 2 and 3 mitoses: a classifier that is sure of this has no parent loss."""
    detector = small(centre_weight=0.0, efdmix=False).eval().requires_grad_(False)
    classifier = detector.classifier
    classifier.pooled = lambda images, domain=None: torch.tensor([[-9.0], [-9.0], [9.0], [9.0]])  # type: ignore
    classifier.parent.classifier.weight = torch.nn.Parameter(torch.tensor([[-1.0], [1.0]]), False)
    assert float(detector.losses(patches())["classification"]) < 1e-6


def test_what_speaks_for_a_mitosis() -> None:
    """Left the features are (1, 0), right (0, 1). The class has (0, 1): right. The other has (-3, 0): left."""
    features = torch.zeros(1, 2, 10, 10)
    features[0, 0, :, :5], features[0, 1, :, 5:] = 1.0, 1.0
    bright = {}
    for activation in ("difference", "mitosis", "none"):
        classifier = small(activation=activation, turns=1).eval().requires_grad_(False).classifier
        classifier.parent.classifier.weight = torch.nn.Parameter(torch.tensor([[-3.0, 0.0], [0.0, 1.0]]), False)
        classifier.forward = lambda images: features  # type: ignore[method-assign]
        logits, level = classifier.network(torch.zeros(1, 3, 80, 80))
        assert logits.tolist() == [[-1.5, 0.5]]
        bright[activation] = [float(level[0, 40, 20]), float(level[0, 40, 60])]
    assert bright == {"difference": [1.0, 0.0], "mitosis": [0.0, 1.0], "none": [0.0, 0.0]}


def test_what_lies_beside_the_figure_turns_with_the_patch() -> None:
    """Features that show a spot, and a brighter one four cells to its left: in four turns the spot is the peak."""
    image = torch.zeros(2, 3, 80, 80)
    image[:, :, 40:48, 40:48] = 1.0
    image[1] /= 100  # too pale to be called a mitosis
    for turns, peak in ((1, [12.0, 44.0]), (4, [44.0, 44.0])):
        detector = small(turns=turns, score_floor=0.6).eval().requires_grad_(False)
        classifier = detector.classifier
        classifier.parent.classifier.weight = torch.nn.Parameter(torch.tensor([[0.0], [20.0]]), False)

        def features(images: torch.Tensor) -> torch.Tensor:
            spot = images[:, :1, 4::8, 4::8]
            return spot + 1.5 * torch.roll(spot, -4, dims=3)

        classifier.forward = features  # type: ignore[method-assign, assignment]
        logits, level = detector.network(image)
        assert logits[:, 1].tolist() == pytest.approx([20 * 2.5 / 100, 0.2 * 2.5 / 100])  # as it is, in any turn
        found = detector.decode((logits, level), (80, 80))
        assert found[0].xy.tolist() == [peak] and len(found[1]) == 0


def test_points_of_patches_by_hand() -> None:
    """Of three patches one is below the floor; the map of one has its peak at columns 10 to 19, rows 40 to 49."""
    maps = torch.zeros(3, 80, 80)
    maps[0, 40:50, 10:20] = 0.9
    logits = torch.tensor([[0.0, np.log(3)], [5.0, 0.0], [0.0, 0.0]])
    found = small().decode((logits, maps), (80, 80))
    assert [len(points) for points in found] == [1, 0, 1]
    assert found[0].xy.tolist() == [[15.0, 45.0]] and found[0].score.tolist() == pytest.approx([0.75])
    assert found[2].xy.tolist() == [[40.0, 40.0]] and found[2].score.tolist() == pytest.approx([0.5])


def test_arguments_that_do_not_fit() -> None:
    for given, told in (
        ({"negative_px": 20.0}, r"negative_px = 20.0; expected 30.0 \(positive_px\) or more"),
        ({"network": "vgg"}, "no network 'vgg'"),
        ({"children": 1}, "children = 1"),
        ({"form": "other"}, "form = 'other'"),
        ({"patch_px": 16, "style_depth": 4}, "style_depth: patches of 16 px are halved 4 times; expected 3 times at"),
        (
            {"style_depth": 8, "style_crop_px": 512},
            "style_depth: patches of 80 px are halved 8 times; expected 6 times",
        ),
        ({"style_depth": 5}, r"style_depth: crops \(style_crop_px\) of 32 px are halved 5 times; expected 4 times"),
    ):
        with pytest.raises(UsageError, match=told):
            small(**given)
    assert small(style_depth=8, unsa=False).patch_px == 80  # there is no such network


def test_tiles_overlap_enough() -> None:
    assert small().overlap_px >= 80 and small().patch_px == 80
