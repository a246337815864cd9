from pathlib import Path

import pytest
import torch

from mitosight import probe, regions
from mitosight.errors import InputError
from mitosight.methods import create
from mitosight.methods.retinanet import RetinaNet


@pytest.fixture
def untrained() -> RetinaNet:
    torch.manual_seed(0)
    detector = create("retinanet", ["grey", "pink"], {"weights": "none", "channels": 16, "normalise": "midog"})
    assert isinstance(detector, RetinaNet)
    return detector


def test_scanners_of_another_tint_are_told_apart(
    drawn: Path, untrained: RetinaNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TILES_PER_SCANNER", 16)
    data = regions.load(drawn)
    fit, test = data.part("train"), data.part("test")
    assert probe.scanner_accuracy(untrained, data.images, fit, test, tile_px=96) > 0.9


def test_one_scanner_cannot_be_told_from_itself(drawn: Path, untrained: RetinaNet) -> None:
    data = regions.load(drawn)
    grey = [r for r in data.part("train") if r.domain.scanner == "grey"]
    with pytest.raises(InputError, match="nothing to tell apart"):
        probe.scanner_accuracy(untrained, data.images, grey, data.part("test"))
