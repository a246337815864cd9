"""The networks of StarGAN: layers, what the code does, what the critic says, the gradient penalty by hand."""

import pytest
import torch
from torch import Tensor, nn

from mitosight.methods.parts.stargan import Critic, Generator, gradient_penalty

Conv = (nn.Conv2d, nn.ConvTranspose2d)


def convs(module: nn.Module) -> list[tuple[str, int, int, int, int, int, bool]]:
    """Kind, channels in and out, kernel, stride, padding and bias of each convolution in order."""
    return [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], int(m.padding[0]),
         m.bias is not None)
        for m in module.modules()
        if isinstance(m, Conv)
    ]  # fmt: skip


def test_the_generator_has_the_official_layers() -> None:
    generator = Generator(styles=4)
    residual = ("Conv2d", 256, 256, 3, 1, 1, False)
    assert convs(generator) == [
        ("Conv2d", 7, 64, 7, 1, 3, False),
        ("Conv2d", 64, 128, 4, 2, 1, False),
        ("Conv2d", 128, 256, 4, 2, 1, False),
        *[residual] * 12,
        ("ConvTranspose2d", 256, 128, 4, 2, 1, False),
        ("ConvTranspose2d", 128, 64, 4, 2, 1, False),
        ("Conv2d", 64, 3, 7, 1, 3, False),
    ]
    assert all(m.padding_mode == "zeros" for m in generator.modules() if isinstance(m, nn.Conv2d))
    norms = [m for m in generator.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == 17 and all(m.affine and not m.track_running_stats for m in norms)
    assert isinstance(generator.layers[-1], nn.Tanh)


def test_the_critic_has_the_official_layers() -> None:
    critic = Critic(styles=4)
    widths = [64, 128, 256, 512, 1024, 2048]
    assert convs(critic) == [
        *[("Conv2d", i, o, 4, 2, 1, True) for i, o in zip([3, *widths], widths, strict=False)],
        ("Conv2d", 2048, 1, 3, 1, 1, False),
        ("Conv2d", 2048, 4, 2, 1, 0, False),
    ]
    leaks = [m.negative_slope for m in critic.modules() if isinstance(m, nn.LeakyReLU)]
    assert leaks == [0.01] * 6
    assert not any(isinstance(m, nn.InstanceNorm2d | nn.BatchNorm2d) for m in critic.modules())


@pytest.mark.parametrize(("crop_px", "depth", "cells"), [(64, 6, 1), (128, 5, 4), (24, 3, 3), (20, 3, 2)])
def test_critic_maps_fit_the_crop(crop_px: int, depth: int, cells: int) -> None:
    judged, logits = Critic(3, crop_px, width=2, depth=depth)(torch.zeros(2, 3, crop_px, crop_px))
    assert judged.shape == (2, 1, cells, cells) and logits.shape == (2, 3)


def test_the_code_changes_the_picture_everywhere() -> None:
    torch.manual_seed(0)
    generator, images = Generator(2, width=4, blocks=1), torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        one, other = generator(images, torch.eye(2)[:1]), generator(images, torch.eye(2)[1:])
    assert one.shape == (1, 3, 32, 32) and one.abs().max() <= 1
    assert (one - other)[..., 12:20, 12:20].abs().mean() > 1e-3


def test_before_training_the_code_weighs_half_on_a_tile_of_twice_the_side() -> None:
    """It comes in through the zeros at the border, whose share of a tile goes with 1 / side."""
    torch.manual_seed(0)
    generator, images = Generator(2, width=8, blocks=1), torch.rand(1, 3, 128, 128) * 2 - 1
    effects = []
    for side in (32, 64, 128):
        with torch.no_grad():
            one, other = generator(images[..., :side, :side].expand(2, 3, side, side), torch.eye(2))
        inside = slice(side // 4, 3 * side // 4)
        effects.append(float((one - other)[:, inside, inside].abs().mean()))
    assert effects[0] / effects[1] == pytest.approx(2, rel=0.2)
    assert effects[1] / effects[2] == pytest.approx(2, rel=0.2)


def test_without_zeros_at_the_border_the_code_would_do_nothing() -> None:
    """The reason for zero padding: instance norm takes a constant away."""
    torch.manual_seed(0)
    images, norm = torch.rand(1, 3, 32, 32), nn.InstanceNorm2d(4)
    stems = [nn.Conv2d(5, 4, 7, padding=3, bias=False, padding_mode=mode) for mode in ("zeros", "replicate")]
    stems[1].load_state_dict(stems[0].state_dict())
    effects = []
    for stem in stems:
        planes = torch.eye(2)[:, :, None, None].expand(2, 2, 32, 32)
        with torch.no_grad():
            one, other = norm(stem(torch.cat([images.expand(2, 3, 32, 32), planes], dim=1)))
        effects.append(float((one - other).abs().max()))
    assert effects[0] > 0.01 and effects[1] < 1e-4


def test_instance_statistics_in_use_too() -> None:
    torch.manual_seed(0)
    generator, images = Generator(2, width=4, blocks=1), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        trained, used = (generator.train(mode)(images, torch.eye(2)) for mode in (True, False))
        alone = generator(images[:1], torch.eye(2)[:1])
    assert torch.equal(trained, used)
    assert torch.allclose(used[:1], alone, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (19, 18)])
def test_restyled_keeps_size_and_range(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    generator, images, codes = Generator(2, width=4, blocks=1), torch.rand(2, 3, *size), torch.eye(2)
    with torch.no_grad():
        painted = generator.restyled(images, codes)
        assert painted.shape == images.shape and painted.dtype == torch.float32
        assert painted.min() >= 0 and painted.max() <= 1
        if size == (16, 16):
            mirrored = torch.nn.functional.pad(images, (8, 8, 8, 8), mode="reflect")
            assert torch.allclose(painted, (generator(mirrored * 2 - 1, codes)[..., 8:24, 8:24] + 1) / 2)


class Linear(nn.Module):
    """Judges by a weighted sum over the tile."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return (images * self.weight).sum(dim=(1, 2, 3)), None


def test_gradient_penalty_by_hand() -> None:
    """The slope of a linear critic is its weight, wherever it is taken: norm 5 of (3, 4), so (5 - 1)^2."""
    weight = torch.zeros(3, 2, 2)
    weight[0, 0, 0], weight[2, 1, 1] = 3.0, 4.0
    critic = Linear(weight)
    penalty = gradient_penalty(critic, torch.rand(4, 3, 2, 2), torch.rand(4, 3, 2, 2))
    assert float(penalty.detach()) == pytest.approx(16.0)
    penalty.backward()  # type: ignore[no-untyped-call]
    assert critic.weight.grad is not None  # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w| = 8 * (3, 4) / 5
    assert float(critic.weight.grad[0, 0, 0]) == pytest.approx(4.8)
    assert float(critic.weight.grad[2, 1, 1]) == pytest.approx(6.4)


def test_gradient_penalty_lies_between_the_tiles() -> None:
    """For a critic of squares the slope is 2 x: at places between 0 and 1 it has any norm up to 2, by the share."""

    class Squares(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return images.square().sum(dim=(1, 2, 3)), None

    torch.manual_seed(0)
    share = torch.rand(500, 1, 1, 1)
    torch.manual_seed(0)
    painted, real = torch.zeros(500, 1, 1, 1), torch.ones(500, 1, 1, 1)
    penalty = gradient_penalty(Squares(), real, painted).detach()
    assert float(penalty) == pytest.approx(float((2 * share - 1).square().mean()), rel=1e-5)
    assert float(penalty) == pytest.approx(1 / 3, abs=0.05)  # mean of (2 u - 1)^2


def test_the_penalty_is_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    critic, tiles = Critic(2, 16, width=4, depth=2), torch.rand(2, 2, 3, 16, 16)
    penalties = []
    for half in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            penalties.append(gradient_penalty(critic, *tiles).detach())
    assert penalties[1].dtype == torch.float32
    assert torch.equal(penalties[0], penalties[1]) and torch.isfinite(penalties[0])
