"""Our own detector: its parts are on or off as its arguments say."""

from __future__ import annotations

import pytest
import torch

from mitosight.augment import Augmentation, Turns
from mitosight.errors import UsageError
from mitosight.methods import create
from mitosight.methods.parts.efdmix import EFDMix
from mitosight.scanner_augment import ScannerAugmentation
from mitosight.stain_augment import PatchAugmentation

SMALL = {"weights": "none", "tile_px": 256, "channels": 16, "head_convs": 1}


def test_one_level_that_votes() -> None:
    detector = create("mitosight", ["a"], SMALL).eval()
    with torch.inference_mode():
        maps = detector.network(torch.rand(1, 3, 64, 96))  # type: ignore[operator]
    assert [tuple(m.shape) for m in maps] == [(1, 5, 4, 6), (1, 20, 4, 6)]
    assert detector.vote_iou == 0.5 and detector.augmentation == ScannerAugmentation(PatchAugmentation(hed=0.1))
    assert detector.standardised and detector.blocks == 64 and detector.trunk.mix is None


def test_augmentations() -> None:
    stains = PatchAugmentation(hed=0.2)
    kinds = {
        "turns": Turns(flips=True), "stains": stains, "scanners": ScannerAugmentation(stains), "strong": Augmentation(),
    }  # fmt: skip
    for name, expected in kinds.items():
        made = create("mitosight", ["a"], {**SMALL, "augmentation": name, "stain_jitter": 0.2})
        assert made.augmentation == expected
    assert create("mitosight", ["a"], {**SMALL, "augment": False}).augmentation is None
    with pytest.raises(UsageError, match="augmentation"):
        create("mitosight", ["a"], {**SMALL, "augmentation": "none"})


@pytest.mark.parametrize(("network", "channels"), [("efficientnet-lite0", 40), ("resnet", 128)])
def test_features_are_mixed_in_training_alone(network: str, channels: int) -> None:
    """With probability 1 and mu near 0 or 1 each image takes over the values of another; alone it stays."""
    torch.manual_seed(1)
    detector = create("mitosight", ["a"], {**SMALL, "network": network, "mix_probability": 1.0})
    trunk, images = detector.trunk, torch.rand(4, 3, 64, 64)
    assert isinstance(trunk.mix, EFDMix)  # type: ignore[union-attr]
    plain = create("mitosight", ["a"], {**SMALL, "network": network}).trunk  # type: ignore[union-attr]
    plain.load_state_dict(trunk.state_dict())  # type: ignore[operator, union-attr]
    with torch.no_grad():
        assert torch.equal(trunk.eval()(images)[1], plain.eval()(images)[1])  # type: ignore[operator, union-attr]
        mixed, own = trunk.train()(images), plain.train()(images)  # type: ignore[operator, union-attr]
    assert not torch.allclose(mixed[1], own[1])
    assert mixed[0].shape == own[0].shape == (4, channels, 8, 8)
