import pytest
import torch
from torchvision.ops import nms

from mitosight.methods.parts import boxes

# IoU of square anchors with a 50-px box on the same centre is the ratio of the areas: (a / 50)^2 or (50 / a)^2


def test_anchor_counts_of_the_reference_code() -> None:
    count = 0
    for stride, cells in ((8, 64), (16, 32), (32, 16)):
        sides = [4 * stride * s for s in (0.2, 0.4, 0.6, 0.8, 1.0)]
        count += len(boxes.level_anchors(cells, cells, stride, sides, (1.0,)))
    assert count == 26_880


def test_anchor_geometry_by_hand() -> None:
    anchors = boxes.level_anchors(1, 2, 16, (12.8, 64.0), (1.0,))
    assert anchors.tolist() == pytest.approx(
        [
            pytest.approx([1.6, 1.6, 14.4, 14.4]),
            pytest.approx([-24.0, -24.0, 40.0, 40.0]),
            pytest.approx([17.6, 1.6, 30.4, 14.4]),
            pytest.approx([-8.0, -24.0, 56.0, 40.0]),
        ]
    )


def test_ratio_keeps_the_area() -> None:
    x0, y0, x1, y1 = boxes.level_anchors(1, 1, 8, (10.0,), (4.0,))[0].tolist()
    assert (x1 - x0, y1 - y0) == pytest.approx((5.0, 20.0))


def test_coding_by_hand_and_back() -> None:
    anchors = torch.tensor([[0.0, 0.0, 50.0, 50.0]])
    box = torch.tensor([[5.0, -10.0, 55.0, 40.0]])  # moved by 0.1 and -0.2 anchor sides: codes 1 and -2
    assert boxes.encode(box, anchors)[0].tolist() == pytest.approx([1.0, -2.0, 0.0, 0.0])
    twice = torch.tensor([[-25.0, -25.0, 75.0, 75.0]])
    assert boxes.encode(twice, anchors)[0, 2].item() == pytest.approx(0.6931 / 0.2, abs=1e-3)
    random = torch.rand(20, 2) * 100
    box = torch.cat([random, random + 20 + torch.rand(20, 2) * 60], dim=1)
    many = anchors.repeat(20, 1)
    assert torch.allclose(boxes.decode(boxes.encode(box, many), many), box, atol=1e-3)
    assert boxes.encode(twice, anchors, (1.0, 0.5))[0].tolist() == pytest.approx([0.0, 0.0, 1.3863, 1.3863], abs=1e-4)
    unscaled = (1.0, 1.0)
    assert torch.allclose(boxes.decode(boxes.encode(box, many, unscaled), many, unscaled), box, atol=1e-3)


def test_which_anchors_may_be_positive_for_a_figure() -> None:
    """P3 none (at most 0.41), P4 38.4 (0.59), 51.2 (0.95) and 64 px (0.61), by areas."""
    box = boxes.squares(torch.tensor([[8.0, 8.0, 50.0]]))  # centred in a P4 cell
    sides = [6.4, 12.8, 19.2, 25.6, 32.0, 38.4, 51.2, 64.0]
    anchors = torch.cat([boxes.level_anchors(1, 1, 16, (side,), (1.0,)) for side in sides])
    matched = boxes.match(box, anchors, 0.5, 0.4, force=False)
    assert matched.tolist() == [-1, -1, -1, -1, -2, 0, 0, 0]  # 32 px: (32 / 50)^2 = 0.41, neither


def test_force_match_and_empty() -> None:
    anchors = boxes.level_anchors(1, 2, 16, (12.8,), (1.0,))
    box = torch.tensor([[0.0, 0.0, 50.0, 50.0]])
    assert boxes.match(box, anchors, 0.5, 0.4, force=False).tolist() == [-1, -1]
    assert boxes.match(box, anchors, 0.5, 0.4, force=True).tolist() == [0, 0]  # both overlap it equally
    assert boxes.match(box[:0], anchors, 0.5, 0.4, force=True).tolist() == [-1, -1]


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (60, 4), (400, 10), (400, 300)])
def test_suppression_of_the_best_is_the_beginning_of_all_of_it(count: int, most: int) -> None:
    """Also where a hundred boxes overlap so much that the first looks leave too few, and among equal scores."""
    torch.manual_seed(count)
    points = torch.cat([torch.rand(count, 2) * 400, torch.rand(count, 1) * 30 + 35], dim=1)
    points[: count // 4, :2] = 200 + torch.rand(count // 4, 2)
    found, score = boxes.squares(points), (torch.rand(count) * 20).round() / 20
    score[: count // 4] += 1
    assert torch.equal(boxes.suppressed(found, score, 0.4, most), nms(found, score, 0.4)[:most])


def test_suppression_by_hand() -> None:
    """Of two boxes on one place the better stays; the third touches neither."""
    found = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    assert boxes.suppressed(found, torch.tensor([0.3, 0.9, 0.5]), 0.4, 9).tolist() == [1, 2]
    assert boxes.suppressed(found, torch.tensor([0.3, 0.9, 0.5]), 0.4, 1).tolist() == [1]
