"""ResNet trunk with a feature pyramid, and where its first weights come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mitosight.errors import InputError, UsageError
from mitosight.methods.parts.efdmix import EFDMix
from mitosight.methods.parts.freezing import Freezing

STRIDES = {3: 8, 4: 16, 5: 32, 6: 64, 7: 128}
STAGES = ("layer2", "layer3", "layer4")  # that give C3, C4, C5
DEPTHS = (18, 34, 50, 101)
STATISTICS = {  # mean and standard deviation by colour channel
    "midog": ((0.7481, 0.5692, 0.7225), (0.1759, 0.2284, 0.1792)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
UNSCALED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Trunk(Freezing):
    """A network without its head: (N, 3, H, W) to C3, C4, C5 at strides 8, 16, 32, as far as `deepest` goes.

    Its first stage is the stem, the second goes as far as stride 4.

    Attributes:
        channels: of C3, C4, C5.
        mix: changes the features at strides 4 and 8 in training; None leaves them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels: tuple[int, ...] = ()
        self.mix: EFDMix | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns [C3, C4, C5], as far as it goes."""
        raise NotImplementedError

    def initialise(self, weights: str) -> tuple[bool, str]:
        """Loads first weights: "imagenet", "none", or the path of a safetensors file.

        Returns whether there are any, and what was done.

        Raises:
            InputError: the file cannot be read or holds another network.
        """
        raise NotImplementedError

    def _mixed(self, x: Tensor) -> Tensor:
        mixed: Tensor = x if self.mix is None else self.mix(x)
        return mixed


class ResNet(Trunk):
    """ResNet without its head; see `Trunk`."""

    def __init__(self, depth: int, deepest: int = 5) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise UsageError(None, f"no ResNet of depth {depth}", f"depths are {', '.join(map(str, DEPTHS))}")
        self.depth = depth
        self.body = getattr(models, f"resnet{depth}")(weights=None)
        widest = self.body.fc.in_features
        del self.body.fc, self.body.avgpool
        self.stages = STAGES[: deepest - 2]
        for name in STAGES[deepest - 2 :]:
            delattr(self.body, name)
        self.channels = (widest // 4, widest // 2, widest)[: deepest - 2]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns [C3, C4, C5], as far as it goes."""
        body = self.body
        x = self._mixed(body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(images))))))
        found: list[Tensor] = []
        for name in self.stages:
            x = getattr(body, name)(x)
            x = self._mixed(x) if name == STAGES[0] else x
            found.append(x)
        return found

    def layers(self) -> list[list[nn.Module]]:
        """The stem, layer1 to layer4."""
        body = self.body
        return [[body.conv1, body.bn1], [body.layer1], *([getattr(body, name)] for name in self.stages)]

    def initialise(self, weights: str) -> tuple[bool, str]:
        """Loads first weights: "imagenet" (fetched), "none", or the path of a safetensors file.

        Returns whether there are any, and what was done.

        Raises:
            InputError: the file cannot be read or holds another network.
        """
        if weights == "none":
            return False, f"ResNet-{self.depth} starts from random weights (weights = none)"
        if weights == "imagenet":
            return self._fetch()
        self.body.load_state_dict(loaded(weights, self.body.state_dict(), f"ResNet-{self.depth}"))
        return True, f"ResNet-{self.depth} starts from {weights}"

    def _fetch(self) -> tuple[bool, str]:
        enum = models.get_model_weights(f"resnet{self.depth}")
        try:
            state = enum.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            return (
                False,
                f"ResNet-{self.depth} starts from random weights: ImageNet weights could not be fetched ({error})",
            )
        self.body.load_state_dict({k: state[k] for k in self.body.state_dict()})
        return True, f"ResNet-{self.depth} starts from ImageNet weights"


class Pyramid(nn.Module):
    """C3 to C5 to the pyramid levels asked for, all with `channels` channels (1x1 lateral, nearest, 3x3).

    `inputs` are the channels of C3, C4, C5, as far as the trunk goes. Levels that nobody asked for are not computed.
    P6 is a 3x3 convolution of C5 at stride 2, P7 one of P6 after ReLU; they are there when one of them is asked for.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        more = LastLevelP6P7(inputs[-1], channels) if max(levels) > 5 else None
        self.fpn = FeaturePyramidNetwork(list(inputs), channels, more)
        for module in self.fpn.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for i, level in enumerate(range(3, 3 + len(inputs))):  # what no level asked for passes through learns nothing
            self.fpn.inner_blocks[i].requires_grad_(level >= min(levels))
            self.fpn.layer_blocks[i].requires_grad_(level in levels)
        if more is not None:
            more.p7.requires_grad_(7 in levels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns one map for each level, finest first."""
        if max(self.levels) > 5:
            named = self.fpn(OrderedDict((str(i), feature) for i, feature in enumerate(features)))
            found = dict(zip(STRIDES, named.values(), strict=False))
            return [found[level] for level in self.levels]
        found, above = {}, None
        for i in reversed(range(min(self.levels) - 3, len(features))):
            inner = self.fpn.inner_blocks[i](features[i])
            above = inner if above is None else inner + functional.interpolate(above, size=inner.shape[-2:])
            if i + 3 in self.levels:
                found[i + 3] = self.fpn.layer_blocks[i](above)
        return [found[level] for level in self.levels]


class ConvHead(nn.Module):
    """`convs` 3x3 convolutions with ReLU, then a 3x3 output of weights 0 and bias `bias`, shared over levels."""

    def __init__(self, channels: int, convs: int, outputs: int, bias: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convs):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            layers += [conv, nn.ReLU(inplace=True)]
        last = nn.Conv2d(channels, outputs, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels, h, w) to (N, outputs, h, w)."""
        result: Tensor = self.layers(feature)
        return result


def weights_file(weights: str) -> Path | None:
    """The file that an argument `weights` names; None for "imagenet" and "none"."""
    return None if weights in ("imagenet", "none") else Path(weights)


def loaded(weights: str, expected: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors in the safetensors file `weights` that have the names and shapes of `expected`.

    Raises:
        InputError: the file cannot be read, or one of them is missing; `name` says of which network.
    """
    try:
        state = load_file(Path(weights))
    except (OSError, SafetensorError) as error:
        raise InputError(
            weights, f"is no readable safetensors file ({error})", "convert weights with safetensors.torch.save_file"
        ) from None
    wrong = [k for k, v in expected.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise InputError(weights, f"does not hold a {name} ({wrong[0]} is missing or differs)")
    return {k: state[k] for k in expected}


def known_statistics(kind: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) called "midog" or "imagenet"; 0 and 1 for any other name."""
    mean, std = STATISTICS.get(kind, UNSCALED)
    return torch.tensor(mean), torch.tensor(std)


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) by colour channel of images (N, 3, H, W)."""
    return images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images (N, 3, H, W) less `mean` (3,), divided by `std` (3,)."""
    return (images - mean[:, None, None]) / std[:, None, None]
