"""The networks of StarGAN (Choi 2018): a generator that is told the style to paint in, and its critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.01
SCALE = 4  # the generator halves its input twice
RIM_PX = 8  # where the zeros at the border show in what is painted


class Residual(nn.Module):
    """Two 3x3 convolutions with instance norm, ReLU between them, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to the same shape."""
        result: Tensor = x + self.layers(x)
        return result


class Generator(nn.Module):
    """Paints a tile in the style that a code asks for: the layers of the official code.

    7x7 stem, two 4x4 convolutions of stride 2, `blocks` residual blocks, two transposed convolutions, 7x7 output with
    tanh. Instance norm takes the statistics of the tile at hand, in training and in use. Borders are padded with
    zeros: the code enters as constant planes, instance norm takes constants away, and only what the zeros do to them
    at the border remains. With mirrored borders the code would have no effect (remark in the official code).
    """

    def __init__(self, styles: int, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.styles = styles
        layers: list[nn.Module] = [*_painted(nn.Conv2d(3 + styles, width, 7, padding=3, bias=False))]
        for channels in (width, 2 * width):
            layers += _painted(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False))
        layers += [Residual(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += _painted(nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1], sides divisible by 4, and codes (N, styles) to images in [-1, 1]."""
        height, width = images.shape[-2:]
        planes = codes.to(images.dtype)[:, :, None, None].expand(-1, -1, height, width)
        painted: Tensor = self.layers(torch.cat([images, planes], dim=1))
        return painted

    def restyled(self, images: Tensor, codes: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1], 16 px or more a side, and codes (N, styles), to float32 images in [0, 1].

        A mirrored rim is painted with them and cut off, since the zeros at the border leave a coloured one.
        """
        height, width = images.shape[-2:]
        rim = (RIM_PX, RIM_PX + -width % SCALE, RIM_PX, RIM_PX + -height % SCALE)
        painted: Tensor = self(functional.pad(images, rim, mode="reflect") * 2 - 1, codes).float()
        inside = painted[..., RIM_PX : RIM_PX + height, RIM_PX : RIM_PX + width]
        return ((inside + 1) / 2).clamp(0, 1)


class Critic(nn.Module):
    """Judges patches of a tile, real or painted, and names its scanner: `depth` 4x4 convolutions of stride 2.

    Channels double from `width`; LeakyReLU, no norm. A 3x3 convolution makes the map of judgements; another, as large
    as the map that a tile of `crop_px` leaves, the logits. The official code has depth 6 for tiles of 128 px; a tile
    needs at least 2**depth px.
    """

    def __init__(self, styles: int, crop_px: int = 128, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(LEAK)]
        for i in range(depth - 1):
            layers += [nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, 2, 1), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers)
        widest = width * 2 ** (depth - 1)
        self.judge = nn.Conv2d(widest, 1, 3, padding=1, bias=False)
        self.name = nn.Conv2d(widest, styles, crop_px // 2**depth, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, crop, crop) in [-1, 1] to a map of judgements (N, 1, h, w) and logits (N, styles)."""
        features = self.layers(images)
        return self.judge(features), self.name(features).flatten(1)


def gradient_penalty(critic: nn.Module, real: Tensor, painted: Tensor) -> Tensor:
    """How far the critic's slope is from 1 between real and painted tiles: mean of (norm - 1)^2, scalar.

    One place on the line between the two is drawn for each tile. In float32 always: half precision is too coarse for
    the gradient of a gradient.
    """
    with torch.autocast(real.device.type, enabled=False):
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (share * real.float() + (1 - share) * painted.float()).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between)[0].sum(), between, create_graph=True)
        norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        return (norm - 1).square().mean()


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)


def _painted(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, _norm(conv.out_channels), nn.ReLU(inplace=True)]
