from pathlib import Path
from typing import Any

import pytest
import torch

from mitosight import probe, regions
from mitosight.errors import InputError
from mitosight.methods import create
from mitosight.methods.parts.candidates import CandidateDetector
from mitosight.methods.retinanet import RetinaNet


@pytest.fixture
def untrained() -> RetinaNet:
    torch.manual_seed(0)
    detector = create("retinanet", ["grey", "pink"], {"weights": "none", "channels": 16, "normalise": "midog"})
    assert isinstance(detector, RetinaNet)
    return detector


def test_scanners_of_another_tint_are_told_apart(drawn: Path, untrained: RetinaNet) -> None:
    data = regions.load(drawn)
    fit, test = data.part("train"), data.part("test")
    assert probe.scanner_accuracy(untrained, data.images, fit, test, tile_px=96, samples=16) > 0.9


SMALL: dict[str, dict[str, Any]] = {
    "kondo2021": {"weights": "none", "tile_px": 256, "normalise": "none"},
    "wang2023": {"weights": "none", "tile_px": 256, "width": 4},
}


@pytest.mark.parametrize("method", list(SMALL))
def test_features_of_patches_carry_the_scanner_or_nothing(
    drawn: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ground of a patch has the scanner's tint. Features that are all alike leave one class for all: 1/2."""
    torch.manual_seed(0)
    detector = create(method, ["grey", "pink"], SMALL[method])
    data = regions.load(drawn)
    fit, test = data.part("train"), data.part("test")
    assert probe.scanner_accuracy(detector, data.images, fit, test) > 0.9
    monkeypatch.setattr(detector, "features", lambda images: torch.ones(len(images), 8))
    assert probe.scanner_accuracy(detector, data.images, fit, test) == 0.5


def test_patches_of_the_probe_are_those_of_candidates(drawn: Path) -> None:
    """Six blobs in each region, all below 200: each is a candidate, and each is drawn once."""
    detector = create("kondo2021", ["grey", "pink"], SMALL["kondo2021"])
    assert isinstance(detector, CandidateDetector)
    data = regions.load(drawn)
    source = probe.patches_of(detector, data.images, data.part("val"), ["grey", "pink"], 200, 0)
    batch = source[0]
    assert len(source) == 1 and batch.images.shape == (12, 3, 64, 64)
    assert batch.domain.tolist() == [0] * 6 + [1] * 6
    assert (source.pool.figure_px < 2).all()


def test_one_scanner_cannot_be_told_from_itself(drawn: Path, untrained: RetinaNet) -> None:
    data = regions.load(drawn)
    grey = [r for r in data.part("train") if r.domain.scanner == "grey"]
    with pytest.raises(InputError, match="nothing to tell apart"):
        probe.scanner_accuracy(untrained, data.images, grey, data.part("test"))
