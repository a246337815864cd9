"""A U-Net (Ronneberger 2015) that is told the style to paint in, and a critic of patches (Isola 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mitosight.errors import UsageError

LEAK = 0.2


class Styled(nn.Module):
    """3x3 convolution, batch norm, scale and shift by the style's code, ReLU. Borders are mirrored."""

    def __init__(self, inputs: int, outputs: int, styles: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)
        self.scale = nn.Linear(styles, outputs, bias=False)
        self.shift = nn.Linear(styles, outputs, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """(N, inputs, h, w) and codes (N, styles) that sum to 1 to (N, outputs, h, w)."""
        scale, shift = self.scale(codes)[:, :, None, None], self.shift(codes)[:, :, None, None]
        return functional.relu(self.norm(self.conv(x)) * scale + shift)


class Pair(nn.Module):
    """Two styled convolutions."""

    def __init__(self, inputs: int, outputs: int, styles: int) -> None:
        super().__init__()
        self.first, self.second = Styled(inputs, outputs, styles), Styled(outputs, outputs, styles)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """As `Styled`."""
        result: Tensor = self.second(self.first(x, codes), codes)
        return result


def check_side(side_px: int, depth: int, what: str = "images") -> None:
    """Raises UsageError where images, or `what` they are called, are too small for a U-Net that halves them so often.

    The last halving must leave 2 px: a border of a single one has nothing to mirror.
    """
    most = (side_px - 1).bit_length() - 1
    if depth > most:
        raise UsageError(None, f"{what} of {side_px} px are halved {depth} times", f"expected {most} times at most")


class StyledUNet(nn.Module):
    """Grey image and style to a coloured image.

    `depth` times two styled convolutions and halving, two more, and `depth` times nearest enlargement, joined with
    what had that size on the way down, and two styled convolutions; a 1x1 convolution and a sigmoid give the colours.
    Channels double with each halving.
    """

    def __init__(self, styles: int, width: int, depth: int) -> None:
        super().__init__()
        self.styles, self.depth = styles, depth
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(Pair(i, o, styles) for i, o in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(Pair(3 * o, o, styles) for o in reversed(widths[:-1]))
        self.colours = nn.Conv2d(width, 3, 1)

    def forward(self, grey: Tensor, codes: Tensor) -> Tensor:
        """Grey images (N, 1, H, W) in [0, 1] and codes (N, styles) that sum to 1, to RGB (N, 3, H, W) in [0, 1].

        Sides that halving does not fit are mirrored to the next that it does, and cut again.

        Raises:
            UsageError: as `check_side`.
        """
        height, width = grey.shape[-2:]
        check_side(min(height, width), self.depth)
        step = 2**self.depth
        x = functional.pad(grey, (0, -width % step, 0, -height % step), mode="reflect")
        passed: list[Tensor] = []
        for i, pair in enumerate(self.down):
            x = pair(functional.max_pool2d(x, 2) if i else x, codes)
            passed.append(x)
        for pair, beside in zip(self.up, reversed(passed[:-1]), strict=True):
            x = pair(torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), beside], dim=1), codes)
        return torch.sigmoid(self.colours(x).float())[..., :height, :width]


class PatchCritic(nn.Module):
    """Judges patches of 70 px of a tile, for each style in a map of its own: is this what that scanner shows?

    4x4 convolutions, three of stride 2 and two of stride 1, LeakyReLU, instance norm but in the first and the last.
    """

    def __init__(self, styles: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(LEAK)]
        for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inputs * width, outputs * width, 4, stride, 1, bias=False),
                nn.InstanceNorm2d(outputs * width),
                nn.LeakyReLU(LEAK),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, styles, 4, 1, 1))

    def forward(self, images: Tensor, style: Tensor) -> Tensor:
        """RGB (N, 3, H, W) in [0, 1] and indices (N,) of styles to judgements (N, h, w), float32; 1 is real."""
        maps: Tensor = self.layers(images * 2 - 1).float()
        return maps[torch.arange(len(maps), device=maps.device), style]
