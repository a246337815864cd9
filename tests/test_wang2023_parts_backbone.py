"""ResNet38 and the dilated ResNets: layers, stride, what is frozen, where features are mixed, first weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from mitosight.errors import InputError, UsageError
from mitosight.methods.parts.resnet38 import DilatedResNet, ResNet38, backbone

ALL = pytest.mark.parametrize("make", [lambda: ResNet38(width=2), lambda: DilatedResNet(18)], ids=["38", "18"])


def convs(module: nn.Module) -> list[tuple[int, int, int, int, int]]:
    """Channels in and out, kernel, stride and dilation of each convolution in order; padding keeps the size."""
    found = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.padding[0] == m.kernel_size[0] // 2 * m.dilation[0] and m.bias is None for m in found)
    return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.dilation[0]) for m in found]


def test_the_layers_of_resnet38() -> None:
    with torch.device("meta"):
        network = ResNet38()
    assert network.channels == 4096
    assert convs(network.conv1) == [(3, 64, 3, 1, 1)]
    for stage, (inputs, outputs, blocks) in zip(
        (network.b2, network.b3, network.b4), ((64, 128, 3), (128, 256, 3), (256, 512, 6)), strict=True
    ):
        same = [(outputs, outputs, 3, 1, 1)] * 2
        first = [(inputs, outputs, 3, 2, 1), (outputs, outputs, 3, 1, 1), (inputs, outputs, 1, 1, 1)]
        assert convs(stage) == first + same * (blocks - 1)
        assert [block.stride for block in stage] == [2] + [1] * (blocks - 1)  # of the shortcut
    more = [(1024, 512, 3, 1, 2), (512, 1024, 3, 1, 2)]
    assert convs(network.b5) == [(512, 512, 3, 1, 1), (512, 1024, 3, 1, 2), (512, 1024, 1, 1, 1), *more, *more]
    assert convs(network.b6) == [
        (1024, 512, 1, 1, 1), (512, 1024, 3, 1, 4), (1024, 2048, 1, 1, 1), (1024, 2048, 1, 1, 1),
    ]  # fmt: skip
    assert convs(network.b7) == [
        (2048, 1024, 1, 1, 1), (1024, 2048, 3, 1, 4), (2048, 4096, 1, 1, 1), (2048, 4096, 1, 1, 1),
    ]  # fmt: skip
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout2d) and m.p] == [0.5, 0.5]


@ALL
def test_stride_8(make: type[ResNet38]) -> None:
    network = make()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 80, 80)).shape == (2, network.channels, 10, 10)
        assert network(torch.rand(1, 3, 64, 48)).shape == (1, network.channels, 8, 6)


def test_a_block_by_hand() -> None:
    """One value, weights 1: relu(3) is 3, twice; the shortcut is taken after norm and ReLU, so -5 gives 0."""
    network = ResNet38(width=1, dropout=0.0).eval()
    block = network.b2[0]
    for conv in [*block.convs, block.shortcut]:
        nn.init.dirac_(conv.weight)
    for norm in block.norms:
        norm.eps = 0.0
    with torch.no_grad():
        assert block(torch.tensor([[[[3.0]]]])).flatten().tolist() == [6.0, 0.0]
        assert block(torch.tensor([[[[-5.0]]]])).flatten().tolist() == [0.0, 0.0]
        same = network.b2[1]
        for conv in same.convs:
            nn.init.zeros_(conv.weight)
        assert same(torch.tensor([[[[-5.0]], [[2.0]]]])).flatten().tolist() == [-5.0, 2.0]  # passes through


@pytest.mark.parametrize("depth", [18, 50])
def test_dilation_for_stride(depth: int) -> None:
    """torchvision has it for its bottlenecks; for the others each conv of the last stages sees what it saw before."""
    torch.manual_seed(0)
    network = DilatedResNet(depth).eval()
    strides = [m.stride[0] for m in network.trunk.body.layer3.modules() if isinstance(m, nn.Conv2d)]
    assert set(strides) == {1}
    if depth == 50:
        known = models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
        known.load_state_dict({**known.state_dict(), **network.trunk.body.state_dict()})
        x = images = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            x = known.maxpool(known.relu(known.bn1(known.conv1(x))))
            for layer in (known.layer1, known.layer2, known.layer3, known.layer4):
                x = layer(x)
            assert torch.equal(network(images), x)
    else:
        spacing = [m.dilation[0] for m in network.trunk.body.layer4.modules() if isinstance(m, nn.Conv2d)]
        assert spacing == [2, 4, 1, 4, 4]  # two, the shortcut, two


@ALL
def test_frozen_layers_keep_weights_and_statistics(make: type[ResNet38]) -> None:
    torch.manual_seed(0)
    network = make()
    network.freeze(2, norm=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    optimiser.step()
    frozen = {id(m) for stage in network.stages[:2] for m in stage.modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.training and torch.equal(module.running_mean, before[f"{name}.running_mean"])
            assert torch.equal(module.weight, before[f"{name}.weight"])
        if isinstance(module, nn.Conv2d):
            assert torch.equal(module.weight, before[f"{name}.weight"]) == (id(module) in frozen), name


def test_channels_last_on_a_cpu() -> None:
    """As a training runs it; a strided 1x1 convolution of so few channels would end the process."""
    torch.manual_seed(0)
    network = ResNet38(width=4).to(memory_format=torch.channels_last)
    network(torch.rand(4, 3, 80, 80)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_nothing_is_frozen_unasked() -> None:
    network = ResNet38(width=2)
    network.freeze(0, norm=False)
    network.train()
    assert all(p.requires_grad for p in network.parameters()) and all(m.training for m in network.modules())


@ALL
def test_features_are_mixed_after_three_stages(make: type[ResNet38]) -> None:
    network, seen = make().eval(), []

    def mix(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[1:]))
        return torch.zeros_like(x)

    with torch.no_grad():
        mixed = network(torch.rand(2, 3, 32, 32), mix)
        assert torch.equal(mixed[0], mixed[1])  # nothing of the images is left
        assert not torch.equal(*network(torch.rand(2, 3, 32, 32)))
    expected = [(2, 32, 32), (4, 16, 16), (8, 8, 8)] if isinstance(network, ResNet38) else None
    assert seen == (expected or [(64, 8, 8), (64, 8, 8), (128, 4, 4)])


def test_first_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, other = ResNet38(width=2), ResNet38(width=2)
    file = tmp_path / "weights.safetensors"
    save_file(other.state_dict(), file)
    assert network.initialise(str(file)) == (True, f"ResNet38 starts from {file}")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())
    there, told = network.initialise("imagenet")
    assert not there and "name a file" in told
    with pytest.raises(InputError, match=r"does not hold a ResNet38 \(conv1.weight is missing or differs\)"):
        ResNet38(width=3).initialise(str(file))
    with pytest.raises(InputError, match="is no readable safetensors file"):
        network.initialise(str(tmp_path / "none.safetensors"))


def test_by_name() -> None:
    assert isinstance(backbone("resnet38", width=2), ResNet38) and backbone("resnet38", width=2).channels == 128
    assert backbone("resnet18").channels == 512
    for name, told in (("vgg", "no network 'vgg'"), ("resnet20", "no ResNet of depth 20")):
        with pytest.raises(UsageError, match=told):
            backbone(name)
