"""Networks from patches to features at stride 8, with places where features are mixed: ResNet38 and wide ResNets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from mitosight.errors import UsageError
from mitosight.methods.parts.freezing import Freezing
from mitosight.methods.parts.trunk import ResNet, loaded

STRIDE = 8
Mix = Callable[[Tensor], Tensor]


class Backbone(Freezing):
    """Stages one after another: (N, 3, H, W) to (N, channels, H / 8, W / 8).

    Attributes:
        name: for messages.
        channels: of the features.
        mix_after: number of stages after each of which `mix` is applied.
    """

    name: str
    channels: int

    def __init__(self, mix_after: Sequence[int]) -> None:
        super().__init__()
        self.mix_after = tuple(mix_after)

    @property
    def stages(self) -> Sequence[nn.Module]:
        """In order; the first is the first convolution with what belongs to it."""
        raise NotImplementedError

    def forward(self, images: Tensor, mix: Mix | None = None) -> Tensor:
        """Images, normalised as the weights want them, to features; `mix` takes features and keeps their shape."""
        x = images
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if mix is not None and number in self.mix_after:
                x = mix(x)
        return x

    def layers(self) -> list[list[nn.Module]]:
        """One of each stage."""
        return [[stage] for stage in self.stages]

    def initialise(self, weights: str) -> tuple[bool, str]:
        """Loads first weights, as `Trunk.initialise` does; returns whether there are any, and what was done."""
        raise NotImplementedError


class ResNet38(Backbone):
    """The wide network A1 of Wu, Shen, van den Hengel 2019, without its classifier, as Wang 2023 uses it.

    3x3 convolution; b2, b3, b4 with 3, 3, 6 blocks that each halve the sides once; b5 with 3 blocks dilated by 2; b6
    and b7 with one bottleneck each, dilated by 4, with dropout of channels; batch norm and ReLU. Blocks are
    pre-activated; where the shape changes, the shortcut is a 1x1 convolution of what the first norm and ReLU give.

    Args:
        width: channels of the first convolution; 64 gives 128, 256, 512, 1024, 2048 and 4096 in b2 to b7.
        dropout: of b6 and b7.
        mix_after: 1 is the first convolution, 2 is b2, 3 is b3: where EFDMix enters in the reference code.
    """

    name = "ResNet38"

    def __init__(self, width: int = 64, dropout: float = 0.5, mix_after: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__(mix_after)
        w = width
        self.conv1 = nn.Conv2d(3, w, 3, padding=1, bias=False)
        self.b2 = _blocks(w, 2 * w, 2 * w, count=3, stride=2)
        self.b3 = _blocks(2 * w, 4 * w, 4 * w, count=3, stride=2)
        self.b4 = _blocks(4 * w, 8 * w, 8 * w, count=6, stride=2)
        self.b5 = _blocks(8 * w, 8 * w, 16 * w, count=3, dilation=2)
        self.b6 = PreActivated((16 * w, 8 * w, 16 * w, 32 * w), (1, 3, 1), dilations=(1, 4, 1), dropout=dropout)
        self.b7 = PreActivated((32 * w, 16 * w, 32 * w, 64 * w), (1, 3, 1), dilations=(1, 4, 1), dropout=dropout)
        self.last = nn.Sequential(nn.BatchNorm2d(64 * w), nn.ReLU(inplace=True))
        self.channels = 64 * w

    @property
    def stages(self) -> Sequence[nn.Module]:
        """First convolution, b2 to b7, the last norm."""
        return [self.conv1, self.b2, self.b3, self.b4, self.b5, self.b6, self.b7, self.last]

    def initialise(self, weights: str) -> tuple[bool, str]:
        """As `Trunk.initialise`; nobody offers ImageNet weights of this network as safetensors, so a file is needed."""
        if weights in ("none", "imagenet"):
            why = "weights = none" if weights == "none" else "its ImageNet weights cannot be fetched: name a file"
            return False, f"{self.name} starts from random weights ({why})"
        self.load_state_dict(loaded(weights, self.state_dict(), self.name))
        return True, f"{self.name} starts from {weights}"


class PreActivated(nn.Module):
    """Batch norm, ReLU and convolution, once for each of `kernels`, added to what came in.

    Args:
        channels: those that come in, and those that each convolution gives.
        stride: of the first convolution and of the shortcut.
        dilations: one for each convolution.
        dropout: share of channels that is set to 0 before each convolution but the first; none with 0.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernels: Sequence[int],
        *,
        stride: int = 1,
        dilations: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        strides = [stride] + [1] * (len(kernels) - 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, s, padding=k // 2 * d, dilation=d, bias=False)
            for (i, o), k, s, d in zip(pairwise(channels), kernels, strides, dilations, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        same = channels[0] == channels[-1] and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels[0], channels[-1], 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels[0], h, w) to (N, channels[-1], h / stride, w / stride)."""
        past = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            active = functional.relu(norm(x))
            if i == 0 and self.shortcut is not None:
                # the stride by taking pixels: of few channels, torch's own crashes on a CPU (2.15, channels last)
                past = self.shortcut(active[..., :: self.stride, :: self.stride])
            x = conv(self.dropout(active) if i else active)
        return past + x


class DilatedResNet(Backbone):
    """torchvision's ResNet with its last two stages dilated instead of strided, so that features have stride 8.

    For reduced recipes, and where ImageNet weights are wanted: they fit as they are. The stem counts as the first
    stage, `layer1` as the second.

    Args:
        depth: 18, 34 (512 channels), 50 or 101 (2048 channels).
        mix_after: 1 is the stem, 2 `layer1`, 3 `layer2`: as many places as in `ResNet38`, and as deep.
    """

    def __init__(self, depth: int, mix_after: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__(mix_after)
        self.name = f"ResNet-{depth}"
        self.trunk = ResNet(depth)
        self.channels = self.trunk.channels[-1]
        for layer, before, after in ((self.trunk.body.layer3, 1, 2), (self.trunk.body.layer4, 2, 4)):
            _dilate(layer, before, after)

    @property
    def stages(self) -> Sequence[nn.Module]:
        """Stem, then `layer1` to `layer4`."""
        body = self.trunk.body
        stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
        return [stem, body.layer1, body.layer2, body.layer3, body.layer4]

    def initialise(self, weights: str) -> tuple[bool, str]:
        """As `Trunk.initialise`."""
        return self.trunk.initialise(weights)


def backbone(name: str, width: int = 64, dropout: float = 0.5) -> Backbone:
    """The network called "resnet38", or "resnet18", "resnet34", "resnet50", "resnet101".

    `width` and `dropout` are those of `ResNet38`; the others have their own.

    Raises:
        UsageError: no such network.
    """
    if name == "resnet38":
        return ResNet38(width, dropout)
    depth = name.removeprefix("resnet")
    if not depth.isdigit():
        raise UsageError(None, f"no network {name!r}", "there are resnet38, resnet18, resnet34, resnet50, resnet101")
    return DilatedResNet(int(depth))


def _blocks(inputs: int, inner: int, outputs: int, *, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Blocks of two 3x3 convolutions; the first of all has the stride, and its own dilation stays 1."""
    first = PreActivated((inputs, inner, outputs), (3, 3), stride=stride, dilations=(1, dilation))
    more = [PreActivated((outputs, inner, outputs), (3, 3), dilations=(dilation, dilation)) for _ in range(count - 1)]
    return nn.Sequential(first, *more)


def _dilate(layer: nn.Module, before: int, after: int) -> None:
    """Takes the stride out of a stage of torchvision's ResNet and dilates its 3x3 convolutions in exchange.

    The first of them still sees the spacing of the stage before, hence its dilation.
    """
    strided = False
    for module in layer.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.kernel_size == (3, 3):
            spacing = after if strided else before
            module.dilation = module.padding = (spacing, spacing)
            strided = True
        module.stride = (1, 1)
