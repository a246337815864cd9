"""Kondo 2021: label rule, branches, where its points lie, and its arguments."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from conftest import draw
from mitosight import checkpoint, inference, pool
from mitosight.batch import Batch
from mitosight.candidates import BlueRatio, Finder, Haematoxylin
from mitosight.detections import Detections
from mitosight.errors import UsageError
from mitosight.methods import create
from mitosight.methods.kondo2021 import Kondo2021
from mitosight.methods.parts.candidates import corners, cut
from mitosight.patches import PatchSource
from mitosight.pool import Pool
from mitosight.regions import Domain, Region
from mitosight.slide import Slide, write_tiff

SMALL: dict[str, Any] = {"weights": "none", "tile_px": 256, "normalise": "none", "widths": [8, 4]}


def kondo(**more: Any) -> Kondo2021:
    torch.manual_seed(0)
    found = create("kondo2021", ["one", "two"], {**SMALL, **more})
    assert isinstance(found, Kondo2021)
    return found


def patches(labels: list[int], domain: list[int], labelled: bool = True) -> Batch:
    n = len(labels)
    torch.manual_seed(1)
    none = [torch.empty(0, 3)] * n
    known = torch.full((n,), labelled)
    return Batch(torch.rand(n, 3, 64, 64), none, none, torch.tensor(domain), known, label=torch.tensor(labels))


class Shop:
    """Lends a pool of candidates at x = 0, 25, 26, 60 beside a figure at 0, and takes down what is asked of patches."""

    def __init__(self) -> None:
        region = Region("a.png", 200, 160, np.array([[0.0, 50.0]]), np.array([1]), domain=Domain(scanner="one"))
        xy = np.array([[0, 50], [25, 50], [26, 50], [60, 50]], float)
        self.pool = pool.of_region(0, region, xy, 1.0, True)

    def candidates(self, part: str, finder: Finder) -> Pool:
        return self.pool

    def patches(self, part: str, pool: Pool, chosen: Any, label: Any, patch_px: int, size: int, **how: Any) -> Any:
        return SimpleNamespace(part=part, chosen=chosen.tolist(), label=label.tolist(), px=patch_px, size=size, **how)


def test_a_candidate_is_a_mitosis_within_25_px_on_both_axes() -> None:
    asked: Any = kondo().batches(Shop(), "train")  # type: ignore[arg-type]
    assert (asked.chosen, asked.label) == ([0, 1, 2, 3], [1, 1, 0, 0])
    assert (asked.px, asked.size, asked.order, asked.augment) == (64, 128, "shuffled", None)


def test_what_lies_between_the_distances_is_left_out() -> None:
    model = kondo(positive_px=25, negative_px=50, sampling="balanced", augment=True)
    asked: Any = model.batches(Shop(), "train")  # type: ignore[arg-type]
    assert (asked.chosen, asked.label, asked.order) == ([0, 1, 3], [1, 1, 0], "balanced")
    assert asked.augment is not None
    judged: Any = model.batches(Shop(), "val")  # type: ignore[arg-type]
    assert (judged.order, judged.augment) == ("shuffled", None)


def test_the_log_counts_candidates_and_mitoses() -> None:
    told = kondo().prepare(Shop())  # type: ignore[arg-type]
    assert told[1] == "blue-ratio: 4 candidates in the training regions, 2 of them mitoses"
    assert "hardly enough" in told[2]


def test_losses_are_plain_cross_entropies() -> None:
    model, batch = kondo().eval(), patches([1, 0, -1, 1], [0, 0, 1, 1])
    with torch.inference_mode():
        losses = model.losses(batch)
        features = model.features(batch.images)
        known = torch.tensor([0, 1, 3])
        wanted = functional.cross_entropy(model.mitosis(features)[known], batch.label[known])
        scanner = functional.cross_entropy(model.scanner(features), batch.domain)
    assert torch.allclose(losses["classification"], wanted) and torch.allclose(losses["domain"], scanner)


def test_the_scanner_branch_learns_and_the_features_unlearn() -> None:
    """The gradient of the scanner loss is that of an ordinary one in the branch, and its opposite in the trunk."""
    batch = patches([-1, -1, -1, -1], [0, 1, 1, 0])
    reversed_, plain = kondo(reversal_weight=0.5).eval(), kondo().eval()
    torch.stack(list(reversed_.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    logits = plain.scanner(plain.features(batch.images))
    functional.cross_entropy(logits, batch.domain).backward()  # type: ignore[no-untyped-call]
    for mine, other in zip(reversed_.scanner.parameters(), plain.scanner.parameters(), strict=True):
        assert mine.grad is not None and torch.allclose(mine.grad, other.grad, atol=1e-7)  # type: ignore[arg-type]
    mine, other = reversed_.trunk.body.layer4[1].conv2.weight, plain.trunk.body.layer4[1].conv2.weight
    assert other.grad.abs().max() > 0
    assert torch.allclose(mine.grad, -0.5 * other.grad, atol=1e-8)


def test_the_ramp_starts_without_reversal() -> None:
    model, batch = kondo(reversal="ramp").eval(), patches([-1, -1], [0, 1])
    model.progress = 0.0
    torch.stack(list(model.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert model.trunk.body.conv1.weight.grad.abs().max() == 0


def test_the_scanner_branch_has_an_output_to_spare() -> None:
    model = kondo()
    assert model.scanner[-1].out_features == 3 and model.new_scanner() == 2
    assert [layer.out_features for layer in model.mitosis if hasattr(layer, "out_features")] == [8, 4, 2]
    full = create("kondo2021", ["a", "b", "c"], {"weights": "none"})
    assert isinstance(full, Kondo2021)
    widths = [layer.out_features for layer in full.scanner if hasattr(layer, "out_features")]
    assert widths == [256, 128, 4]


class Everywhere(Kondo2021):
    """Candidates at given places, all mitoses."""

    def candidates(self, image: torch.Tensor) -> Any:
        return np.array([[5.0, 100.0], [100.0, 100.5], [250.0, 250.0]])

    def network(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.shapes = tuple(images.shape)
        return (torch.tensor([[0.0, 2.0]]).expand(len(images), 2),)


def test_a_new_scanner_is_as_likely_as_the_others_on_average() -> None:
    model = kondo().eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        before = model.scanner(model.features(images))
        assert model.new_scanner() == 2
        after = model.scanner(model.features(images))
    assert torch.equal(before[:, :2], after[:, :2])
    assert torch.allclose(after[:, 2], after[:, :2].mean(dim=1), atol=1e-6)


def test_points_lie_at_the_candidates_even_where_a_window_was_moved_inside() -> None:
    model = Everywhere(scanners=["one"], **SMALL)
    (found,) = model.detect(torch.zeros(1, 3, 256, 256))
    assert sorted(found.xy.tolist()) == [[5, 100], [100, 100.5], [250, 250]]
    assert found.score.tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 3)
    assert model.shapes == (3, 3, 64, 64)


def test_points_below_the_floor_are_not_given() -> None:
    model = Everywhere(scanners=["one"], score_floor=0.9, **SMALL)
    assert len(model.detect(torch.zeros(1, 3, 256, 256))[0]) == 0


def test_windows_by_hand_and_as_in_training(tmp_path: Path) -> None:
    """Centres (0, 0), (40, 40.4), (99, 70) in 100 x 80 px: corners clamped to 0, rounded, clamped to the far side."""
    rgb = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
    image = torch.from_numpy(rgb).permute(2, 0, 1).float() / 255
    xy = np.array([[0, 0], [40, 40.4], [99, 70]])
    at = corners(xy, image, 32)
    assert at.tolist() == [[0, 0], [24, 24], [68, 48]]
    write_tiff(tmp_path / "a.tiff", rgb, 0.25, compression="lzw")
    region = Region("a.tiff", 100, 80, np.empty((0, 2)), np.empty(0), domain=Domain(scanner="one"), mpp=0.25)
    found = pool.of_region(0, region, xy, 1.0, True)
    source = PatchSource(tmp_path, [region], ["one"], found, np.arange(3), np.zeros(3, int), np.zeros(3, bool), 32, 3)
    assert torch.equal(source[0].images, cut(image, at, 32))


def test_statistics_are_those_of_the_slide_and_the_model_stays() -> None:
    model = kondo()
    dark, light = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 250, np.uint8)
    own = model.for_slide([dark, light])
    assert model.statistics is None and own.statistics == model.finder.statistics([dark, light])
    assert own.trunk is model.trunk


def test_the_finder_is_chosen_by_arguments() -> None:
    model = kondo(finder_settings={"formula": "plain", "deviations": 2})
    assert model.finder == BlueRatio("plain", 2.0)
    assert model.overlap_px == 64  # a patch; the finder's own is 52
    other = kondo(finder="haematoxylin")
    assert isinstance(other.finder, Haematoxylin) and other.overlap_px == other.finder.overlap_px > 64


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"finder_settings": {"formel": "plain"}}, "no setting 'formel'; there are formula, deviations, least_px"),
        ({"finder_settings": {"formula": "blue"}}, "blue-ratio: formula is 'blue'; accepted: 'chang' or 'plain'"),
        ({"positive_px": 30}, "negative_px = 25.0; expected 30.0 (positive_px) or more"),
        ({"patch_px": 512}, "patch_px = 512; expected at most 256 (tile_px)"),
    ],
)
def test_wrong_arguments_are_one_line(more: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        kondo(**more)


def test_a_cut_region_gives_the_same_points(tmp_path: Path) -> None:
    """The blobs of a region, searched in one tile and in many."""
    image, centres = draw(3, 448, (210, 200, 215), figures=8)
    write_tiff(tmp_path / "a.tiff", image, 0.25, compression="lzw")
    model = kondo(score_floor=0).eval()
    with Slide(tmp_path / "a.tiff") as slide:
        whole: Detections = inference.detect(slide, model, tile_px=448)
        parts = inference.detect(slide, model, tile_px=160)
    assert len(whole) == 8
    order, again = np.lexsort(whole.xy.T), np.lexsort(parts.xy.T)
    assert np.array_equal(whole.xy[order], parts.xy[again])
    assert np.allclose(whole.score[order], parts.score[again], atol=1e-5)
    assert np.abs(np.sort(whole.xy[:, 0]) - np.sort(centres[:, 0])).max() < 1


def test_a_model_of_an_earlier_version_keeps_its_suppression(tmp_path: Path) -> None:
    """Its header does not name it; its threshold was chosen with 6.25 µm."""
    detector = create("kondo2021", ["a"], {"weights": "none", "widths": [8, 4]})
    file = checkpoint.save(tmp_path, detector, "kondo2021", {"weights": "none", "widths": [8, 4]}, {})
    assert checkpoint.load(file).suppression_um == 10.0
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["mitosight"])
    del header["arguments"]["suppression_um"]
    save_file(load_file(file), file, {"mitosight": json.dumps(header)})
    assert checkpoint.load(file).suppression_um == 6.25
