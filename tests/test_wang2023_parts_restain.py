"""The re-stainer: its network, losses by hand, turns with a critic, training, file, and use on patches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mitosight.batch import Batch
from mitosight.engine import fit
from mitosight.errors import InputError, UsageError
from mitosight.log import RunLog
from mitosight.methods.parts.restain import Restain, ReStainer
from mitosight.methods.parts.style import StyleTransfer
from mitosight.methods.parts.unet import PatchCritic, Styled, StyledUNet, check_side
from mitosight.optimisation import Optimisation
from mitosight.stain_augment import stained

TINY: dict[str, Any] = {"width": 4, "depth": 1, "critic_width": 2}
TINTS = torch.tensor([[1.0, 0.6, 0.8], [0.6, 0.8, 1.0]])[:, :, None, None]  # what scanners a and b make of white


def batch(seed: int, side: int = 16) -> Batch:
    """Grey structures as scanners a, b, a, b show them."""
    light = torch.rand(4, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.4
    empty = [torch.zeros(0, 3)] * 4
    names = {"scanner": ["a", "b", "a", "b"]}
    labelled = torch.zeros(4, dtype=torch.bool)
    return Batch(light * TINTS[[0, 1, 0, 1]], empty, empty, torch.tensor([7, 8, 7, 8]), labelled, names)


class Tiles:
    def __getitem__(self, index: int) -> Batch:
        return batch(index)


def restainer(**more: Any) -> ReStainer:
    torch.manual_seed(0)
    return ReStainer(["a", "b"], **{**TINY, **more})


def stored(path: Path, learner: ReStainer | StyleTransfer) -> Path:
    metadata = {"mitosight": json.dumps(learner.facts())}
    save_file({k: v.contiguous() for k, v in learner.state_dict().items()}, path, metadata=metadata)
    return path


@pytest.mark.parametrize("size", [(16, 16), (80, 80), (19, 34)])
def test_the_network_keeps_size_and_range(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = StyledUNet(styles=2, width=2, depth=3)
    with torch.no_grad():
        painted = network(torch.rand(2, 1, *size), torch.eye(2))
    assert painted.shape == (2, 3, *size) and painted.min() > 0 and painted.max() < 1


@pytest.mark.parametrize(("side", "most"), [(16, 3), (17, 4), (80, 6), (128, 6), (129, 7)])
def test_the_deepest_network_leaves_two_px_at_the_bottom(side: int, most: int) -> None:
    """16 px halved four times are one, which has nothing to mirror; 17 are mirrored to 32 and end as two."""
    check_side(side, most)
    with torch.no_grad():
        assert StyledUNet(1, 1, most)(torch.rand(2, 1, side, side), torch.ones(2, 1)).shape == (2, 3, side, side)
    for depth in (most + 1, 10**9):
        with pytest.raises(UsageError, match=f"of {side} px are halved {depth} times; expected {most} times at most"):
            check_side(side, depth)
    with pytest.raises(UsageError, match=f"images of {side} px are halved {most + 1} times"):
        StyledUNet(1, 1, most + 1)(torch.rand(1, 1, side, 2 * side), torch.ones(1, 1))


def test_the_layers_of_the_network() -> None:
    network = StyledUNet(styles=5, width=8, depth=2)
    convs = [(m.conv.in_channels, m.conv.out_channels) for m in network.modules() if isinstance(m, Styled)]
    down = [(1, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32)]
    up = [(48, 16), (16, 16), (24, 8), (8, 8)]  # enlarged 32 with 16 from beside, 16 with 8
    assert convs == down + up
    of_a_style = sum(m.weight[:, 0].numel() for m in network.modules() if isinstance(m, nn.Linear))
    assert of_a_style == 2 * (8 + 8 + 16 + 16 + 32 + 32 + 16 + 16 + 8 + 8)


def test_style_by_hand() -> None:
    """In use a norm of mean 0 and variance 1 does nothing; then 3 x 2 + 1 for the first style, 3 x 0 - 5 below 0."""
    layer = Styled(1, 1, 2).eval()
    layer.norm.eps = 0.0
    with torch.no_grad():
        layer.conv.weight.zero_()[0, 0, 1, 1] = 1.0
        layer.scale.weight.copy_(torch.tensor([[2.0, 0.0]]))
        layer.shift.weight.copy_(torch.tensor([[1.0, -5.0]]))
        found = layer(torch.full((3, 1, 2, 2), 3.0), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    assert found[:, 0, 0, 0].tolist() == [7.0, 0.0, 1.0]  # of the half-half code 3 x 1 - 2


def test_critic_sees_70_px_in_the_map_of_the_style() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(styles=2, width=2)
    for m in critic.modules():
        if isinstance(m, nn.InstanceNorm2d):
            m.forward = lambda x: x  # type: ignore[method-assign]  # it takes the mean of all
    images = torch.rand(2, 3, 128, 128, requires_grad=True)
    judged = critic(images, torch.tensor([0, 1]))
    assert judged.shape == (2, 14, 14)  # 128, 64, 32, 16, 15, 14
    (slope,) = torch.autograd.grad(judged[0, 7, 7], images)
    rows = slope[0].abs().sum(dim=(0, 2)).nonzero()[:, 0]
    assert int(rows.max() - rows.min()) + 1 == 70 and not slope[1].any()
    with torch.no_grad():
        swapped = critic(images, torch.tensor([1, 0]))
    assert not torch.allclose(judged[0], swapped[0])


class Paints(nn.Module):
    """In the place of the network: the same amounts everywhere."""

    def __init__(self, *amounts: float) -> None:
        super().__init__()
        self.amounts = torch.tensor(amounts)

    def forward(self, grey: Tensor, codes: Tensor) -> Tensor:
        return stained(self.amounts[:, None, None].expand(len(grey), 3, *grey.shape[-2:]))


def test_stain_losses_by_hand() -> None:
    """0.5 of haematoxylin and 0.2 of eosin were there; 0.4 and 0.3 are painted."""
    learner = restainer(stain_weight=2.0)
    learner.painter = Paints(0.4, 0.3, 0.0)  # type: ignore[assignment]
    there = stained(torch.tensor([0.5, 0.2, 0.0])[:, None, None].expand(2, 3, 8, 8))
    found = learner.stain_losses(torch.rand(2, 1, 8, 8), there, torch.tensor([0, 1]))
    assert float(found["haematoxylin"]) == pytest.approx(0.2, abs=1e-4)
    assert float(found["eosin"]) == pytest.approx(0.2, abs=1e-4)
    painted = stained(torch.tensor([0.4, 0.3, 0.0])[:, None, None].expand(2, 3, 8, 8))
    assert float(found["colour"]) == pytest.approx(float((painted - there).abs().mean()))


def test_learns_the_colours_of_each_scanner(tmp_path: Path) -> None:
    """A tile of a painted as b has b's tint: channels in the ratio of its white."""
    learner = restainer(width=8)
    steps = Optimisation(1, 150, "adam", 5e-3, 0.0, 0.9, 0.999, "constant")
    fit(learner, Tiles(), steps, RunLog(tmp_path, quiet=True), seed=1)
    learner.eval()
    images = batch(1000).images[:1]
    for style in (0, 1):
        mean = learner.restained(images, torch.tensor([style])).mean(dim=(0, 2, 3))
        wanted = TINTS[style, :, 0, 0]
        assert torch.allclose(mean / mean.sum(), wanted / wanted.sum(), atol=0.02), (style, mean)
    painted, grey = learner.restained(images, torch.tensor([1])), images.mean(dim=1)
    assert float(torch.corrcoef(torch.stack([painted.mean(dim=1).flatten(), grey.flatten()]))[0, 1]) > 0.9


def test_without_a_critic_every_weight_learns() -> None:
    learner = restainer().train()
    torch.stack(list(learner.losses(batch(0)).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert [n for n, p in learner.named_parameters() if p.grad is None] == []
    assert not learner.alternates and learner.critic is None


def test_with_a_critic_the_two_take_turns(tmp_path: Path) -> None:
    learner = restainer(adversarial_weight=0.1)
    seen = [{n: p.detach().clone() for n, p in learner.named_parameters()}]
    terms = []
    losses = learner.losses

    def watched(tiles: Batch) -> dict[str, Tensor]:
        terms.append(losses(tiles))
        seen.append({n: p.detach().clone() for n, p in learner.named_parameters()})
        return terms[-1]

    class Wide(Tiles):
        def __getitem__(self, index: int) -> Batch:
            return batch(index, side=32)

    learner.losses = watched  # type: ignore[method-assign]
    fit(learner, Wide(), Optimisation(1, 2, "adam", 1e-3, schedule="constant"), RunLog(tmp_path, quiet=True), seed=1)
    assert [set(t) for t in terms] == [{"critic"}, {"colour", "haematoxylin", "eosin", "fool"}]
    end = {n: p.detach() for n, p in learner.named_parameters()}
    for name, value in seen[0].items():
        assert (not torch.equal(value, seen[2][name])) == name.startswith("critic."), name
        assert (not torch.equal(seen[2][name], end[name])) == name.startswith("painter."), name
    assert int(learner.turn) == 0


def test_jitter_changes_the_grey_in_training_alone() -> None:
    learner, grey = restainer(grey_jitter=0.3), torch.full((200, 1, 2, 2), 0.5)
    shaken = learner.train()._shaken(grey)[:, 0, 0, 0]
    assert 0.35 <= shaken.min() < 0.37 and 0.63 < shaken.max() <= 0.65
    assert learner.eval()._shaken(grey) is grey


def test_saved_and_loaded_paints_the_same(tmp_path: Path) -> None:
    learner = restainer(stain_weight=3.0).eval()
    folder = tmp_path / "re-stainer"
    folder.mkdir()
    file = stored(folder / "re-stainer.safetensors", learner)
    images, style = torch.rand(2, 3, 16, 16), torch.tensor([1, 0])
    for path in (file, folder, tmp_path):
        again = ReStainer.load(path)
        assert again.scanners == ("a", "b") and again.stain_weight == 3.0
        assert torch.equal(again.restained(images, style), learner.restained(images, style))


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a re-stainer without scanners"):
        ReStainer([])
    with pytest.raises(InputError, match=r"no such re-stainer; expected the re-stainer.safetensors that a training"):
        ReStainer.load(tmp_path)
    transfer = StyleTransfer(["a", "b"], width=4, blocks=1, crop_px=16, critic_depth=2)
    with pytest.raises(InputError, match=r"is no re-stainer of this version \(style-transfer\)"):
        ReStainer.load(stored(tmp_path / "style.safetensors", transfer))
    other = batch(0)
    other.columns = {"scanner": ["a", "b", "c", "b"]}
    with pytest.raises(InputError, match="tiles of 'c'; the re-stainer knows a, b"):
        restainer().losses(other)


def test_a_share_of_the_patches_is_stained_again() -> None:
    """By default that of the union of the patches with their copies: two styles, two of three patches."""
    learner, images = restainer(), torch.rand(600, 3, 16, 16)
    nn.init.normal_(learner.painter.down[0].first.shift.weight)  # styles start alike
    torch.manual_seed(2)
    again = Restain(learner)(images)
    changed = (again != images).flatten(1).any(dim=1)
    assert 360 < int(changed.sum()) < 440  # 400, standard deviation 11.5
    painted = [learner.restained(images, torch.full((600,), k)) for k in (0, 1)]
    first, second = ((again - p).abs().flatten(1).amax(dim=1) < 1e-5 for p in painted)
    assert bool((first | second)[changed].all()) and 150 < int((first & changed).sum()) < 250
    assert Restain(learner, styles=3).probability == pytest.approx(2 / 3)
    assert Restain(learner, styles=1).probability == 0.5
    assert Restain(learner, probability=0.0)(images) is images
    assert not any(p.requires_grad for p in learner.parameters())
    one = Restain(learner, styles=1, probability=1.0)(images)
    assert torch.allclose(one, painted[0], atol=1e-5)
