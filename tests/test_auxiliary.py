"""Auxiliary heads and what they are taught, by hand."""

import math

import pytest
import torch
from torch import nn

from mitosight.batch import Batch
from mitosight.methods.parts.auxiliary import AuxiliaryHead, foreground_target, known_cross_entropy

TUMOURS = ("breast", "lung", "skin")


def test_head_layers() -> None:
    head = AuxiliaryHead(16, (8, 4), 3, 0.2)
    kinds = ["AdaptiveAvgPool2d", "Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [type(m).__name__ for m in head.layers] == kinds
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(16, 8), (8, 4), (4, 3)]
    assert {m.p for m in head.modules() if isinstance(m, nn.Dropout)} == {0.2}
    assert AuxiliaryHead(16, (), 3, 0.2)(torch.rand(2, 16, 5, 7)).shape == (2, 3)


def test_a_head_reads_the_mean_over_the_map() -> None:
    head = AuxiliaryHead(2, (), 1, 0.0)
    last = head.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[2.0, -1.0]]))
        last.bias.fill_(0.5)
    feature = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]])  # means 2 and 2
    assert head(feature).item() == pytest.approx(2 * 2 - 2 + 0.5)


def test_label_loss_by_hand() -> None:
    """Logits 0, ln 2, ln 5 are probabilities 1/8, 2/8, 5/8; names that are no class do not count."""
    row = [0.0, math.log(2), math.log(5)]
    logits = torch.tensor([row, row, row, [9.0, -9.0, 0.0]], requires_grad=True)
    found = known_cross_entropy(logits, ["breast", "skin", "unknown", "bone"], TUMOURS)
    assert found.item() == pytest.approx((math.log(8) + math.log(8 / 5)) / 2)
    found.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([(1 / 8 - 1) / 2, 1 / 8, 5 / 16])
    assert logits.grad[2:].abs().sum() == 0


def test_label_loss_of_ignored_names_alone() -> None:
    logits = torch.rand(2, 3, requires_grad=True)
    found = known_cross_entropy(logits, ["unknown", "bone"], TUMOURS)
    assert found.item() == 0
    found.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and logits.grad.abs().sum() == 0  # not None: several processes wait for it


def test_what_is_foreground() -> None:
    """A figure, a hard negative, both, none."""
    spot, none = torch.tensor([[30.0, 40.0, 50.0]]), torch.zeros(0, 3)
    figures, others = [spot, none, spot, none], [none, spot, spot, none]
    given = Batch(torch.rand(4, 3, 8, 8), figures, others, torch.zeros(4), torch.ones(4, dtype=torch.bool))
    assert foreground_target(given, hard_negatives=True).tolist() == [1, 1, 1, 0]
    assert foreground_target(given, hard_negatives=False).tolist() == [1, 0, 1, 0]
