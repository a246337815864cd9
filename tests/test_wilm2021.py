"""The domain path of Wilm 2021 by hand: reversal, ramp, discriminator, losses and selection in both forms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.parts.domain import DomainDiscriminator, focal_cross_entropy, ganin_ramp, reverse_gradient
from mitosight.methods.retinanet import RetinaNet
from mitosight.methods.wilm2021 import Wilm2021

SMALL: dict[str, Any] = {"weights": "none", "channels": 16, "head_convs": 1, "normalise": "none", "levels": [4]}
FOUR = ("A", "B", "C", "D")


def make(**more: Any) -> Wilm2021:
    torch.manual_seed(0)
    return Wilm2021(**{"scanners": FOUR, **SMALL, **more})


def batch(domains: list[int], labelled: list[bool], side: int = 224) -> Batch:
    n = len(domains)
    images = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))
    figures = [torch.tensor([[100.0, 100.0, 50.0]])] * n
    return Batch(images, figures, [torch.zeros(0, 3)] * n, torch.tensor(domains), torch.tensor(labelled))


class Says(nn.Module):
    """A discriminator with given logits, whatever it sees."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, feature: Tensor) -> Tensor:
        return self.logits[: len(feature)]


def features(n: int) -> list[Tensor]:
    return [torch.zeros(n, c, 7, 7) for c in (128, 256, 512)]


def test_gradient_is_reversed_and_scaled() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(x, y)
    (y * torch.tensor([5.0, 7.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == pytest.approx([-1.5, -2.1])


@pytest.mark.parametrize(("epoch", "alpha"), [(1, 0.025), (20, 0.46), (50, 0.85), (100, 0.987), (200, 0.9999)])
def test_ramp_over_200_epochs(epoch: int, alpha: float) -> None:
    digits = len(str(alpha)) - 2
    assert round(ganin_ramp(epoch / 200), digits) == alpha
    assert ganin_ramp(0) == 0


def test_discriminator_shapes() -> None:
    """16 - 14 - 12 - 10 cells, 512 - 512 - 256 - 128 channels, no padding, no bias, weights from N(0, 0.01)."""
    discriminator = DomainDiscriminator(512, 4, 0.5)
    seen: list[tuple[int, ...]] = []
    convs = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        conv.register_forward_hook(lambda module, given, found: seen.append((*given[0].shape[1:], *found.shape[1:])))
    assert discriminator(torch.rand(2, 512, 16, 16)).shape == (2, 4)
    assert seen == [(512, 16, 16, 512, 14, 14), (512, 14, 14, 256, 12, 12), (256, 12, 12, 128, 10, 10)]
    assert all(conv.bias is None for conv in convs) and discriminator.last.bias is None
    assert discriminator.last.weight.shape == (4, 128)
    assert [round(conv.weight.std().item(), 4) for conv in convs] == [0.01] * 3
    kinds = [type(m).__name__ for m in discriminator.layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout"] * 3 + ["AdaptiveAvgPool2d", "Flatten"]
    assert {m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert discriminator(torch.rand(2, 512, 7, 7)).shape == (2, 4)
    with pytest.raises(RuntimeError):
        discriminator(torch.rand(2, 512, 6, 6))


def test_focal_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])  # p = 1/4, 3/4
    found = focal_cross_entropy(logits, torch.tensor([0, 1]), 2.0)
    assert found.tolist() == pytest.approx([(3 / 4) ** 2 * math.log(4), (1 / 4) ** 2 * math.log(4 / 3)])


def test_domain_loss_of_the_paper_by_hand() -> None:
    detector = make(scanners=("A", "B"), domain_form="paper")
    detector.discriminators["c5"] = Says([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    found = detector.domain_loss(features(2), torch.tensor([0, 1]))
    assert found.item() == pytest.approx(((3 / 4) ** 2 * math.log(4) + (1 / 4) ** 2 * math.log(4 / 3)) / 2)


def test_domain_loss_of_the_code_by_hand() -> None:
    detector = make(scanners=("A", "B"), domain_form="code")
    detector.discriminators["c5"] = Says([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    found = detector.domain_loss(features(2), torch.tensor([0, 1]))
    entropy = (math.log(4) + math.log(4 / 3)) / 2
    assert found.item() == pytest.approx(0.25 * (1 - math.exp(-entropy)) ** 2 * entropy / 2)


@pytest.mark.parametrize(("form", "detection", "domain"), [("paper", 3, 4), ("code", 1, 1)])
def test_weights_of_the_terms(form: str, detection: int, domain: int) -> None:
    """In the paper's form detection counts once for each labelled scanner and the domain loss once for each scanner."""
    given = batch([0, 1, 2, 3] * 2, [True, True, True, False] * 2)
    found = make(domain_form=form, domain_weight=0.7).eval()
    with torch.no_grad():
        plain = found.detection_losses(found.network(given.images), given)
        alone = found.domain_loss(found.encode(given.images), given.domain)
        losses = found.losses(given)
    assert losses["classification"].item() == pytest.approx(plain["classification"].item() * detection, rel=1e-5)
    assert losses["box"].item() == pytest.approx(plain["box"].item() * detection, rel=1e-5)
    assert losses["domain"].item() == pytest.approx(alone.item() * domain * 0.7, rel=1e-5)


def test_several_discriminators_add_up() -> None:
    detector = make(discriminators=("c3", "c5")).eval()
    assert detector.least_tile_px == 224 and make(discriminators=("c3",)).least_tile_px == 56
    assert [m.layers[0].in_channels for m in detector.discriminators.values()] == [128, 512]  # type: ignore[union-attr,index]
    given = [torch.rand_like(f) for f in features(4)]
    domain = torch.tensor([0, 1, 2, 3])
    both = detector.domain_loss(given, domain).item()
    alone = []
    for kept in ("c3", "c5"):
        one = make(discriminators=(kept,)).eval()
        one.discriminators[kept].load_state_dict(detector.discriminators[kept].state_dict())
        alone.append(one.domain_loss(given, domain).item())
    assert both == pytest.approx(sum(alone))
    assert make(discriminators=()).domain_loss(given, domain).item() == 0


def test_encoder_is_pushed_the_other_way_than_the_discriminator() -> None:
    """With the reversal the encoder's gradient is -alpha times that of the plain loss; the discriminator's is plain."""
    detector = make().eval()
    domain = torch.tensor([0, 1])
    images = batch([0, 1], [True, True]).images
    detector.progress = 0.1
    alpha = ganin_ramp(0.1)

    def gradients(loss: Tensor) -> tuple[Tensor, Tensor]:
        encoder = detector.trunk.body.conv1.weight
        last = detector.discriminators["c5"].last.weight
        first, second = torch.autograd.grad(loss, [encoder, last])  # type: ignore[list-item]
        return first, second

    reversed_encoder, own = gradients(detector.domain_loss(detector.encode(images), domain))
    logits = detector.discriminators["c5"](detector.encode(images)[-1])
    plain_encoder, same = gradients(focal_cross_entropy(logits, domain, 2.0).mean())
    largest = plain_encoder.abs().max()
    assert largest > 1e-4
    assert ((reversed_encoder + alpha * plain_encoder).abs() < 1e-4 * largest).all()
    assert torch.allclose(own, same, rtol=1e-4, atol=1e-9)


def test_domain_path_does_not_change_detections() -> None:
    torch.manual_seed(0)
    plain = RetinaNet(scanners=FOUR, **SMALL).eval()
    whole = make(discriminators=("c4", "c5")).eval()
    missing = whole.load_state_dict(plain.state_dict(), strict=False)
    assert all(key.startswith("discriminators.") for key in missing.missing_keys) and not missing.unexpected_keys
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        for a, b in zip(plain.network(images), whole.network(images), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("positions", [("c5",), ("c4", "c5")])
def test_confusion_is_one_for_discriminators_that_know_nothing(form: str, positions: tuple[str, ...]) -> None:
    detector = make(domain_form=form, discriminators=positions, domain_weight=0.3, domain_gamma=1.5).eval()
    for position in positions:
        detector.discriminators[position] = Says([[0.0] * 4] * 8)
    for present in ([0, 1, 2, 3], [0, 3]):  # validation may lack a scanner
        with torch.no_grad():
            losses = detector.losses(batch(present * (8 // len(present)), [True] * 8))
        assert detector.confusion(losses["domain"].item(), 8, len(present)) == pytest.approx(1.0, rel=1e-5)


def test_selection_of_the_paper_by_hand() -> None:
    detector = make()
    chance = 4 * (3 / 4) ** 2 * math.log(4)  # four scanners, gamma 2
    for share, counted in ((0.5, 0.5), (0.0, 0.0), (1.7, 1.0)):
        found = detector.selection(0.6, {"domain": share * chance, "classification": 9.0, "box": 9.0}, 12, 4)
        assert found == pytest.approx(0.6 + 0.1 * counted)
    assert make(confusion_weight=0.5).selection(0.6, {"domain": chance / 2}, 12, 4) == pytest.approx(0.85)
    assert make(scanners=("A",)).selection(0.6, {"domain": 0.0}, 12, 1) == pytest.approx(0.7)


def test_selection_of_the_code_by_hand() -> None:
    losses = {"domain": 0.02, "classification": 1.2, "box": 0.6}
    assert make(selection_form="code").selection(0.6, losses, 12, 4) == pytest.approx(0.02 - 1.8 / 12)


@pytest.mark.parametrize(
    "given", [{"discriminators": ("c2",)}, {"domain_form": "thesis"}, {"selection_form": "thesis"}]
)
def test_unknown_choices(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(given))}.*(positions|accepted) are"):
        make(**given)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_without_weight_there_is_no_confusion_to_reward(form: str) -> None:
    detector = Wilm2021(scanners=["a", "b"], domain_weight=0.0, domain_form=form, channels=8)  # type: ignore[arg-type]
    assert detector.selection(0.5, {"domain": 0.0}, 6, 2) == pytest.approx(0.5 + 0.1)
