"""EFDMix by hand: values, gradient, partners, share."""

import pytest
import torch

from mitosight.methods.parts.efdmix import EFDMix, draw_partners, efdmix

PAIR = torch.tensor([[[[3.0, 1.0], [4.0, 2.0]]], [[[10.0, 40.0], [30.0, 20.0]]]])  # (2, 1, 2, 2)
SWAP = torch.tensor([1, 0])


def test_values_by_hand() -> None:
    """The ranks of 3 1 4 2 take the other's 30 10 40 20; those of 10 40 30 20 take 1 4 3 2."""
    whole = efdmix(PAIR, SWAP, torch.zeros(2))
    assert whole[0, 0].tolist() == [[30.0, 10.0], [40.0, 20.0]]
    assert whole[1, 0].tolist() == [[1.0, 4.0], [3.0, 2.0]]
    part = efdmix(PAIR, SWAP, torch.tensor([0.75, 1.0]))
    assert part[0, 0].tolist() == [[9.75, 3.25], [13.0, 6.5]]  # 3 + (30 - 3) / 4, ...
    assert torch.equal(part[1], PAIR[1])


def test_gradient_by_hand() -> None:
    """1 through the image itself, 1 - mu through its partner."""
    x = PAIR.clone().requires_grad_()
    mixed = efdmix(x, SWAP, torch.tensor([0.75, 0.5]))
    mixed[0, 0, 0, 0].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    # the value 3 of the first is matched with the 30 of the second, which stands at row 1, column 0
    assert x.grad[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert x.grad[1, 0].tolist() == [[0.0, 0.0], [0.25, 0.0]]


def test_each_channel_has_its_own_order() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 3, 5, 5)
    partner = torch.tensor([2, 3, 1, 0])
    mixed = efdmix(x, partner, torch.zeros(4))
    assert torch.equal(mixed.flatten(2).sort().values, x[partner].flatten(2).sort().values)
    assert torch.equal(mixed.flatten(2).argsort(), x.flatten(2).argsort())


def test_partners_of_other_domains() -> None:
    torch.manual_seed(0)
    domain = torch.tensor([0, 0, 1, 2])
    for _ in range(20):
        drawn = draw_partners(4, domain)
        assert (domain[drawn] != domain).all()
    assert draw_partners(3, torch.tensor([5, 5, 5])).tolist() == [0, 1, 2]
    assert sorted(draw_partners(6).tolist()) == list(range(6))


def test_only_in_training_and_for_half_of_the_calls() -> None:
    torch.manual_seed(0)
    mix, x = EFDMix(alpha=1.0), torch.rand(4, 2, 3, 3)
    changed = sum(not torch.equal(mix(x), x) for _ in range(400))
    assert 160 < changed < 240  # 200, standard deviation 10; a permutation of 4 seldom is the identity
    mix.eval()
    assert mix(x) is x
    assert not torch.equal(EFDMix(1.0, 1.0, "crossdomain")(x, torch.tensor([0, 1, 0, 1])), x)


def test_mu_is_mostly_near_the_ends() -> None:
    """Of Beta(0.1, 0.1): mean 1/2, variance 1 / (4 (2 a + 1)) = 0.208."""
    torch.manual_seed(0)
    mix = EFDMix(1.0)
    x = torch.cat([torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)]).repeat(4000, 1, 1, 1)
    moved = (mix(x) - x).abs().flatten()
    share = moved[moved > 0]  # those whose partner is the other value move by 1 - mu
    assert float((moved > 0.5).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(((share < 0.1) | (share > 0.9)).float().mean()) > 0.7


def test_a_seed_gives_the_same_mixture() -> None:
    x = torch.rand(6, 2, 4, 4)
    mixed = []
    for _ in range(2):
        torch.manual_seed(3)
        mixed.append(EFDMix(1.0)(x))
    assert torch.equal(mixed[0], mixed[1])
