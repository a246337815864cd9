"""RetinaNet: losses and decoding by hand on a detector whose maps are given."""

import math
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods.parts import boxes
from mitosight.methods.parts.trunk import STATISTICS, Pyramid
from mitosight.methods.retinanet import RetinaNet
from mitosight.methods.wilm2021 import Wilm2021

SMALL: dict[str, Any] = {
    "weights": "none",
    "channels": 16,
    "head_convs": 1,
    "normalise": "none",
    "scanners": ["a", "b"],
}
BACKGROUND = 0.25 / 4 * math.log(2)  # focal loss of a negative at logit 0: (1 - 0.75) * 0.5^2 * ln 2
FIGURE = 0.75 / 4 * math.log(2)


def one_anchor(**more: Any) -> RetinaNet:
    """One anchor of 64 px in each cell of P4."""
    return RetinaNet(**{**SMALL, "levels": [4], "anchor_scales": [1.0], **more})


def batch(*figures: list[list[float]], labelled: tuple[bool, ...] = (), side: int = 64) -> Batch:
    n = len(figures)
    points = [torch.tensor(f).reshape(-1, 3) for f in figures]
    known = torch.tensor(labelled or (True,) * n)
    return Batch(torch.zeros(n, 3, side, side), points, [torch.zeros(0, 3)] * n, torch.arange(n) % 2, known)


def maps(n: int = 1, cells: int = 4, anchors: int = 1) -> tuple[Tensor, Tensor]:
    return torch.zeros(n, anchors, cells, cells), torch.zeros(n, 4 * anchors, cells, cells)


def losses(detector: RetinaNet, found: tuple[Tensor, ...], given: Batch) -> tuple[float, float]:
    terms = detector.detection_losses(found, given)
    return terms["classification"].item(), terms["box"].item()


def test_tile_without_figures_is_all_background() -> None:
    assert losses(one_anchor(), maps(), batch([])) == pytest.approx((16 * BACKGROUND, 0.0))


def test_a_figure_of_the_anchors_size_by_hand() -> None:
    """A 64-px figure at (24, 24) is the anchor of cell (1, 1), but for clipping to the tile: x, y from 0 to 56.

    Its IoU with that anchor, which reaches from -8 to 56, is (56 / 64)^2 = 0.766; neighbours: anchor (0, 1) reaches
    from -24 to 40 in x, so 40 * 56 / (56^2 + 64^2 - 40 * 56) = 0.449, ignored; (2, 1): x 8 to 72, 48 * 56 /
    (56^2 + 64^2 - 48 * 56) = 0.592, positive; (2, 2): 48^2 / (56^2 + 64^2 - 48^2) = 0.468, ignored; (0, 0): 40^2 /
    (...) = 0.284; (3, 1): 32 * 56 / (...) = 0.329; (0, 2): 40 * 48 / (...) = 0.362: background.
    """
    given = batch([[24.0, 24.0, 64.0]])
    positive, ignored = 3, 3  # (1, 1), (2, 1), (1, 2); (0, 1), (1, 0), (2, 2)
    background = 16 - positive - ignored
    classification, box = losses(one_anchor(), maps(), given)
    assert classification == pytest.approx((positive * FIGURE + background * BACKGROUND) / positive)
    # codes wanted: clipped box 56 px centred at 28 in anchors of 64 px centred at 24 (or 40): 4 / 64 / 0.1 = 0.625 and
    # -12 / 64 / 0.1 = -1.875; log(56 / 64) / 0.2 = -0.6677 for the size; smooth L1 of 0: x^2 / 2, or |x| - 0.5 above 1
    near, far, size = 0.625**2 / 2, 1.875 - 0.5, (math.log(56 / 64) / 0.2) ** 2 / 2
    expected = (2 * near + 2 * size + 2 * (near + far + 2 * size)) / (positive * 4)
    assert box == pytest.approx(expected)


def test_focal_weights_by_hand() -> None:
    """alpha and gamma at logits of the anchors of one positive and of the background."""
    detector = one_anchor(focal_alpha=0.6, focal_gamma=1.0)
    found = maps()
    found[0][0, 0, 1, 1] = 2.0
    p = 1 / (1 + math.exp(-2.0))
    given = batch([[24.0, 24.0, 64.0]])
    figure, background = 0.6 * 0.5 * math.log(2), 0.4 * 0.5 * math.log(2)
    expected = (0.6 * (1 - p) * -math.log(p) + 2 * figure + 10 * background) / 3
    assert losses(detector, found, given)[0] == pytest.approx(expected)


def test_ignored_anchors_have_no_gradient() -> None:
    found = maps()
    found[0].requires_grad_()
    one_anchor().detection_losses(found, batch([[24.0, 24.0, 64.0]]))["classification"].backward()  # type: ignore[no-untyped-call]
    silent = [(x, y) for y, x in (found[0].grad[0, 0] == 0).nonzero().tolist()]  # type: ignore[index]
    assert sorted(silent) == [(0, 1), (1, 0), (2, 2)]
    assert found[0].grad[0, 0, 1, 1] < 0 < found[0].grad[0, 0, 3, 3]  # type: ignore[index]


def test_unlabelled_tiles_do_not_count() -> None:
    """The mean is over labelled tiles: the second tile changes nothing, with or without figures."""
    figure = [[24.0, 24.0, 64.0]]
    alone = losses(one_anchor(), maps(), batch(figure))
    for unlabelled in ([], figure):
        found = maps(2)
        found[0][1] = 5.0
        assert losses(one_anchor(), found, batch(figure, unlabelled, labelled=(True, False))) == pytest.approx(alone)
    empty = losses(one_anchor(), maps(), batch([]))
    both = losses(one_anchor(), maps(2), batch(figure, []))
    assert both == pytest.approx(((alone[0] + empty[0]) / 2, alone[1] / 2))
    assert losses(one_anchor(), maps(), batch(figure, labelled=(False,))) == (0.0, 0.0)


def test_decode_by_hand() -> None:
    """Anchor (2, 1) of 64 px is centred at (40, 24); codes 1, -0.5 move it by 6.4 and -3.2 px."""
    found = maps()
    found[0].fill_(-9.0)
    found[0][0, 0, 1, 2] = 1.0
    found[1][0, :, 1, 2] = torch.tensor([1.0, -0.5, 3.0, -2.0])
    points = one_anchor().decode(found, (64, 64))[0]
    assert points.xy[0].tolist() == pytest.approx([46.4, 20.8])
    assert points.score.tolist() == pytest.approx([1 / (1 + math.exp(-1.0))])
    assert points.mpp == 0.25


def test_decode_keeps_the_order_of_anchors_of_several_scales() -> None:
    """Box map channels are anchor by anchor: 4 * k to 4 * k + 3 belong to anchor k."""
    found = maps(anchors=2)
    found[0].fill_(-9.0)
    found[0][0, 1, 0, 3] = 0.0
    found[1][0, 4:, 0, 3] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # a tenth of 64 px
    found[1][0, :4, 0, 3] = 7.0
    points = one_anchor(anchor_scales=[0.5, 1.0]).decode(found, (64, 64))[0]
    assert points.xy.tolist() == [pytest.approx([56 + 6.4, 8.0], abs=1e-5)]


def test_floor_suppression_number_and_border() -> None:
    found = maps()
    found[0].fill_(-9.0)
    found[0][0, 0, 1, 1], found[0][0, 0, 1, 2] = 2.0, 1.0  # anchors 16 px apart: IoU 48 / 80 = 0.6
    assert one_anchor().decode(found, (64, 64))[0].xy.tolist() == [[24.0, 24.0]]
    both = one_anchor(nms_iou=0.7).decode(found, (64, 64))[0]
    assert both.xy.tolist() == [[24.0, 24.0], [40.0, 24.0]] and (np.diff(both.score) < 0).all()
    assert len(one_anchor(nms_iou=0.7, most_per_tile=1).decode(found, (64, 64))[0]) == 1
    assert len(one_anchor(score_floor=0.9).decode(found, (64, 64))[0]) == 0
    found[1][0, 0, 1, 1] = -4.0  # moves the best by 25.6 px to x = -1.6, out of the tile and away from the other
    assert one_anchor().decode(found, (64, 64))[0].xy.tolist() == [[40.0, 24.0]]


def test_levels_are_chosen_and_strides_follow() -> None:
    images = torch.rand(1, 3, 128, 128)
    for levels, cells in (([4], [8]), ([3, 5], [16, 4]), ([5, 4, 3], [16, 8, 4])):
        detector = RetinaNet(**{**SMALL, "levels": levels}).eval()
        with torch.inference_mode():
            found = detector.network(images)
        assert [m.shape[1] for m in found] == [5, 20] * len(levels)
        assert [m.shape[-1] for m in found[::2]] == cells
    for levels in ([], [2, 3]):
        with pytest.raises(UsageError, match="pyramid levels are"):
            RetinaNet(**{**SMALL, "levels": levels})


def test_new_heads_say_background_at_every_anchor() -> None:
    detector = RetinaNet(**SMALL).eval()
    with torch.inference_mode():
        found = detector.network(torch.rand(1, 3, 128, 128))
    for classes, box in zip(found[::2], found[1::2], strict=True):
        assert torch.allclose(classes, torch.tensor(-4.0)) and (box == 0).all()


class Tiles:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __getitem__(self, index: int) -> Batch:
        assert index == 0
        return Batch(self.images, [], [], torch.zeros(0), torch.zeros(0))


def test_normalise_options() -> None:
    images = torch.rand(4, 3, 32, 32) * torch.tensor([0.5, 0.8, 1.0])[:, None, None]
    expected = {
        "none": ((0.0,) * 3, (1.0,) * 3),
        "midog": (STATISTICS["midog"][0], STATISTICS["midog"][1]),
        "batch": (images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))),
    }
    for option, (mean, std) in expected.items():
        detector = RetinaNet(**{**SMALL, "normalise": option})
        lines = detector.prepare(SimpleNamespace(source=Tiles(images)))  # type: ignore[arg-type]
        assert torch.allclose(detector.mean, torch.as_tensor(mean)), option
        assert torch.allclose(detector.std, torch.as_tensor(std)), option
        assert "weights = none" in lines[0] and f"({option})" in lines[1]
        seen = []
        detector.trunk.register_forward_pre_hook(lambda module, given: seen.append(given[0]))  # noqa: B023
        detector.eval().encode(images)
        wanted = (images - torch.as_tensor(mean)[:, None, None]) / torch.as_tensor(std)[:, None, None]
        assert torch.allclose(seen[0], wanted, atol=1e-6)
    with pytest.raises(UsageError, match="accepted are batch, midog, imagenet, none"):
        RetinaNet(**{**SMALL, "normalise": "macenko"})


@pytest.mark.parametrize("given", [{"tile_px": 64}, {"mpp": 0.0}, {"mpp_tolerance": -1.0}, {"depth": 19}])
def test_impossible_arguments(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(given))):
        RetinaNet(**{**SMALL, **given})


def test_running_divisor_by_hand() -> None:
    """Sums over the batch, divided by 0.9 x 100 + 0.1 x positives; plain L1 of the codes."""
    detector = one_anchor(divide_by="running", box_loss="l1").train()
    found, given = maps(2), batch([[24.0, 24.0, 64.0]], [])
    classification, box = losses(detector, found, given)
    divisor = 0.9 * 100 + 0.1 * 3
    assert classification == pytest.approx((3 * FIGURE + (10 + 16) * BACKGROUND) / divisor)
    near, far, size = 0.625, 1.875, -math.log(56 / 64) / 0.2
    assert box == pytest.approx((2 * near + 2 * size + 2 * (near + far + 2 * size)) / divisor)
    assert losses(detector.eval(), found, given)[0] == pytest.approx(classification)  # evaluation leaves it alone
    assert float(detector.positives) == pytest.approx(divisor)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [(4,), (3, 5), (5,), (3, 4, 5)])
def test_a_pyramid_without_what_nobody_asked_for_is_torchvisions(levels: tuple[int, ...]) -> None:
    """Sides of 18, 9 and 5: the upsampling meets odd numbers."""
    torch.manual_seed(0)
    pyramid = Pyramid((8, 16, 32), 12, levels)
    features = [torch.rand(2, c, s, s) for c, s in ((8, 18), (16, 9), (32, 5))]
    whole = pyramid.fpn(OrderedDict(zip("345", features, strict=True)))
    for level, found in zip(levels, pyramid(features), strict=True):
        torch.testing.assert_close(found, whole[str(level)], rtol=0, atol=0)


def test_a_trunk_that_ends_early() -> None:
    """C4 has stride 16 and 256 channels; the pyramid begins there, and nothing beyond has weights."""
    detector = RetinaNet(**{**SMALL, "levels": [4], "deepest": 4}).eval()
    whole = RetinaNet(**{**SMALL, "levels": [4]}).eval()
    images = torch.rand(1, 3, 64, 64)
    assert [tuple(f.shape[1:]) for f in detector.encode(images)] == [(128, 8, 8), (256, 4, 4)]
    assert [m.shape for m in detector.network(images)] == [m.shape for m in whole.network(images)]
    assert detector.features(images).shape == (1, 256)
    assert not [name for name in detector.state_dict() if "layer4" in name or "inner_blocks.2" in name]
    detector.trunk.body.load_state_dict({k: v for k, v in whole.trunk.body.state_dict().items() if "layer4" not in k})
    for one, other in zip(detector.encode(images), whole.encode(images), strict=False):
        assert torch.equal(one, other)
    detector.trunk.freeze(2, True)
    assert not detector.trunk.body.layer1[0].conv1.weight.requires_grad
    with pytest.raises(UsageError, match=r"levels = \[4, 5\] with deepest = 4; expected at most 4"):
        RetinaNet(**{**SMALL, "levels": [4, 5], "deepest": 4})
    with pytest.raises(UsageError, match=r"discriminators = \['c5'\]; the trunk ends at c4"):
        Wilm2021(**{**SMALL, "levels": [4], "deepest": 4})


def test_levels_up_to_seven_and_their_anchors() -> None:
    detector = RetinaNet(**{**SMALL, "levels": [3, 4, 5, 6, 7], "anchor_base_px": (50,) * 5, "anchor_scales": [1, 2]})
    assert detector.sides_px == {level: [50, 100] for level in (3, 4, 5, 6, 7)}
    found = detector.eval().network(torch.zeros(1, 3, 256, 256))
    assert [m.shape[-1] for m in found[::2]] == [32, 16, 8, 4, 2]
    with pytest.raises(UsageError, match="anchor_base_px holds 2 sides; expected 3"):
        RetinaNet(**{**SMALL, "anchor_base_px": (50, 50)})
    with pytest.raises(UsageError, match="pyramid levels are"):
        RetinaNet(**{**SMALL, "levels": [8]})


def test_frozen_layers_keep_weights_and_statistics() -> None:
    detector = RetinaNet(**SMALL)
    detector.trunk.freeze(2, norm=True)
    body = detector.train().trunk.body
    before = {name: value.clone() for name, value in body.state_dict().items()}
    learning = {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == {"layer2", "layer3", "layer4"}
    optimiser = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1)
    given = batch([[24.0, 24.0, 50.0]], [])
    given.images = torch.rand(2, 3, 64, 64)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.1)  # type: ignore[arg-type]
    torch.stack(list(detector.losses(given).values())).sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    changed = {name for name, value in body.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"layer{i}.{j}.{n}.weight" for i in (2, 3, 4) for j in (0, 1) for n in ("conv1", "conv2")} | {
        f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4)
    }


def test_random_layers_are_not_frozen() -> None:
    detector = RetinaNet(**{**SMALL, "freeze_stages": 2, "freeze_norm": True})
    lines = detector.prepare(SimpleNamespace(source=Tiles(torch.rand(1, 3, 32, 32))))  # type: ignore[arg-type]
    assert "no layer is frozen: there are no first weights to keep" in lines
    assert all(p.requires_grad for p in detector.trunk.parameters())


def test_voted_by_hand() -> None:
    """The second box, 4 px to the right (IoU 36 / 44), has half the score: a quarter of the vote, moves 0.8 px."""
    square = torch.tensor([0.0, 0.0, 40.0, 40.0])
    every = torch.stack([square, square + torch.tensor([4.0, 0, 4, 0]), square + 100])
    score, kept = torch.tensor([0.8, 0.4, 0.6]), torch.tensor([0, 2])
    assert boxes.voted(every, score, kept, 0.0).tolist() == [[20, 20], [120, 120]]
    assert boxes.voted(every, score, kept, 0.5).tolist() == [pytest.approx([20.8, 20]), [120, 120]]
    assert boxes.voted(every, score, kept, 0.9).tolist() == [[20, 20], [120, 120]]
    assert boxes.voted(every[:0], score[:0], kept[:0], 0.5).shape == (0, 2)


def test_a_vote_does_not_jump_where_scores_are_alike() -> None:
    square = torch.tensor([0.0, 0.0, 40.0, 40.0])
    every = torch.stack([square, square + torch.tensor([4.0, 0, 4, 0])])
    found = []
    for score in (torch.tensor([0.7001, 0.7]), torch.tensor([0.7, 0.7001])):
        kept = boxes.suppressed(every, score, 0.4, 300)
        found.append([float(boxes.voted(every, score, kept, iou)[0, 0]) for iou in (0.0, 0.5)])
    assert found[0][0] == 20 and found[1][0] == 24 and abs(found[0][1] - found[1][1]) < 0.01
