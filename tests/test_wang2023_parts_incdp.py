"""Child classes, omega, focal and centre losses by hand; both forms of the objective."""

import math

import numpy as np
import pytest
import torch

from mitosight.errors import InputError
from mitosight.methods.parts.incdp import (
    CODE,
    PAPER,
    CentreLoss,
    Level,
    child_centres,
    child_classes,
    child_weights,
    joint_losses,
    nearest_children,
    objective,
)


def test_children_are_found_inside_each_class() -> None:
    """Two heaps of negatives at 0 and 10, two of positives at 1 and 20: never mixed, negatives first."""
    rng = np.random.default_rng(0)
    places, sizes = [0.0, 10.0, 1.0, 20.0], [50, 8, 30, 5]
    heap = np.repeat(np.arange(4), sizes)
    features = np.column_stack([np.array(places)[heap] + rng.normal(0, 0.05, 93), np.zeros(93)]).astype(np.float32)
    parent = (heap >= 2).astype(int)
    label, centres = child_classes(lambda some: np.array_split(features[some], 4), parent, children=2, seed=0)
    assert set(label[heap < 2]) == {0, 1} and set(label[heap >= 2]) == {2, 3}
    assert all(len(set(label[heap == k])) == 1 for k in range(4))
    for k, place in enumerate(places):
        assert centres[label[heap == k][0]].tolist() == pytest.approx([place, 0.0], abs=0.1)


def test_only_the_own_children_count() -> None:
    centres = np.array([[0.0], [10.0], [1.0], [20.0]], np.float32)
    features = np.array([[1.0], [1.0], [9.0], [9.0]], np.float32)
    assert nearest_children(features, np.array([0, 1, 0, 1]), centres).tolist() == [0, 2, 1, 2]


def test_too_few_for_the_children() -> None:
    with pytest.raises(InputError, match="3 patches of class 1 for 4 child classes"):
        child_centres(np.random.default_rng(0).random((10, 2), np.float32), np.array([0] * 7 + [1] * 3), 4, seed=0)


def test_omega_of_four_centres_on_a_line() -> None:
    """Negatives at 0 and 3, positives at 4 and 8; nearest opposite at 4, 1, 1, 5."""
    centres = np.array([[0.0], [3.0], [4.0], [8.0]], np.float32)
    mean = (1 / 4 + 1 + 1 + 1 / 5) / 4  # 0.6125
    assert child_weights(centres).tolist() == pytest.approx([0.25 / mean, 1 / mean, 1 / mean, 0.2 / mean])
    distance = [6.0, 3.0, 2.5, 6.5]  # to both on average
    average = sum(1 / d for d in distance) / 4
    assert child_weights(centres, "mean").tolist() == pytest.approx([1 / d / average for d in distance])
    assert child_weights(centres, "uniform").tolist() == [1, 1, 1, 1]
    assert child_weights(centres).mean() == pytest.approx(1.0)
    assert np.isfinite(child_weights(np.zeros((4, 1), np.float32))).all()  # all in one place


def test_centre_loss_of_two_points() -> None:
    """(3, 4) is 5 from its centre 0, (1, 1) is 1 from (1, 0): 25/2 and 1/2; the gradient is x - c."""
    loss = CentreLoss(2, 2)
    loss.centres.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    x = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    found = loss(x, torch.tensor([0, 1]))
    assert found.tolist() == [12.5, 0.5]
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [[3.0, 4.0], [0.0, 1.0]]
    # Wen: c + 0.5 (x - c) / (1 + 1)
    assert loss.centres.tolist() == [[0.75, 1.0], [1.0, 0.25]]


def test_centres_follow_their_class_alone() -> None:
    loss = CentreLoss(3, 1)
    x, label = torch.tensor([[2.0], [4.0], [-8.0]]), torch.tensor([0, 0, 2])
    loss(x, label)
    assert loss.centres.flatten().tolist() == [1.0, 0.0, -2.0]  # 0.5 * 6 / 3, none, 0.5 * -8 / 2
    for _ in range(60):
        loss(x, label)
    assert loss.centres.flatten().tolist() == pytest.approx([3.0, 0.0, -8.0])
    loss.eval()
    before = loss.centres.clone()
    loss(x + 5, label)
    assert torch.equal(loss.centres, before)


def test_centres_of_the_code_stay_where_they_were_drawn() -> None:
    torch.manual_seed(0)
    loss = CentreLoss(2, 5000, moves=False)
    before = loss.centres.clone()
    loss(torch.ones(4, 5000), torch.tensor([0, 1, 1, 0]))
    assert torch.equal(loss.centres, before)
    assert float(before.mean()) == pytest.approx(0.0, abs=0.03) and float(before.std()) == pytest.approx(1.0, abs=0.03)


def small_level(classes: int, logits: list[list[float]]) -> Level:
    """A level whose logits of the unit features are `logits` (features, classes)."""
    level = Level(classes, len(logits)).requires_grad_(False)
    with torch.no_grad():
        level.classifier.weight.copy_(torch.tensor(logits).T)
    return level


def test_terms_of_a_level_by_hand() -> None:
    """p of the right class 3/4 and 1/4: focal (1/4)^2 log(4/3) and (3/4)^2 log 4; centres at 0, features of norm 1."""
    level = small_level(2, [[0.0, math.log(3)], [0.0, math.log(3)]])
    found = level.losses(torch.eye(2), torch.tensor([1, 0]), PAPER)
    easy, hard = math.log(4 / 3) / 16, math.log(4) * 9 / 16
    assert set(found) == {"classification", "centre"}
    assert float(found["classification"]) == pytest.approx((easy + hard) / 2)
    assert float(found["centre"]) == pytest.approx(0.5)
    level.place(torch.eye(2).flip(0), torch.tensor([1.5, 0.5]))
    found = level.losses(torch.eye(2), torch.tensor([1, 0]), PAPER)
    assert float(found["classification"]) == pytest.approx((0.5 * easy + 1.5 * hard) / 2)
    assert float(found["centre"]) == 0.0


def test_equation_10() -> None:
    """Children weigh half; with one child a class, uniform, they are the parents again."""
    parent = small_level(2, [[0.0, 1.0], [1.0, -1.0]]).eval()
    child = small_level(2, [[0.0, 1.0], [1.0, -1.0]]).eval()
    labels = (torch.tensor([1, 1]), torch.tensor([1, 1]))
    found = joint_losses(parent, child, torch.eye(2), labels, PAPER)
    assert set(found) == {"classification", "centre", "child_classification", "child_centre"}
    for term in ("classification", "centre"):
        assert float(found[f"child_{term}"]) == pytest.approx(float(found[term]) / 2)
    alone = joint_losses(parent, None, torch.eye(2), labels, PAPER)
    assert alone == {name: found[name] for name in ("classification", "centre")}


def test_the_form_of_the_code() -> None:
    """Cross-entropy + 0.1 focal + 0.0001 times the whole squared distance; children weigh as much."""
    parent, child = (small_level(2, [[0.0, math.log(3)]]).eval() for _ in range(2))
    labels = (torch.tensor([0]), torch.tensor([0]))
    found = joint_losses(parent, child, torch.tensor([[1.0]]), labels, CODE)
    for level in ("", "child_"):
        assert float(found[f"{level}classification"]) == pytest.approx(math.log(4) * (1 + 0.1 * 9 / 16))
        assert float(found[f"{level}centre"]) == pytest.approx(1e-4)
    assert (CODE.omega, CODE.centres_move) == ("uniform", False)


def test_objective_by_form() -> None:
    assert objective("paper") == PAPER and objective("code") == CODE
    assert objective("paper", child=0.3, centre=0.0).child == 0.3
    assert "centre" not in Level(2, 3).losses(torch.ones(1, 3), torch.tensor([0]), objective("paper", centre=0.0))


def test_no_samples_no_loss() -> None:
    level = Level(2, 3)
    found = level.losses(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), CODE)
    assert found["classification"] == 0 and found["centre"] == 0
    found["classification"].backward()  # type: ignore[no-untyped-call]
    assert level.classifier.weight.grad is not None and not level.classifier.weight.grad.any()


def test_gradients_reach_the_classifiers() -> None:
    torch.manual_seed(0)
    parent, child = Level(2, 6), Level(8, 6)
    pooled = torch.rand(5, 6, requires_grad=True)
    labels = (torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 3, 4, 7, 5]))
    torch.stack(list(joint_losses(parent, child, pooled, labels, PAPER).values())).sum().backward()  # type: ignore[no-untyped-call]
    for grad in (parent.classifier.weight.grad, child.classifier.weight.grad, pooled.grad):
        assert grad is not None and torch.isfinite(grad).all() and grad.abs().sum() > 0
