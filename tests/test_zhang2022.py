"""The auxiliary heads of Zhang 2022 by hand: what they are taught, by which tiles, and what they leave alone."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mitosight import checkpoint, recipe, regions, training
from mitosight.augment import Jitter, Turns
from mitosight.batch import Batch
from mitosight.errors import UsageError
from mitosight.methods import zhang2022
from mitosight.methods.retinanet import RetinaNet
from mitosight.methods.zhang2022 import Zhang2022

SMALL: dict[str, Any] = {
    "weights": "none",
    "depth": 18,
    "channels": 16,
    "head_convs": 1,
    "normalise": "none",
    "levels": [4, 5],
    "anchor_base_px": (50.0, 50.0),
}
TUMOURS = ("breast", "lung", "skin")
SPOT = torch.tensor([[30.0, 40.0, 50.0]])
NONE = torch.zeros(0, 3)
HEADS = ("label_head", "foreground_head")


def make(**more: Any) -> Zhang2022:
    torch.manual_seed(0)
    return Zhang2022(**{"scanners": ("A", "B"), "classes": TUMOURS, **SMALL, **more})


def batch(
    names: list[str], labelled: list[bool], figures: list[Tensor] | None = None, others: list[Tensor] | None = None
) -> Batch:
    n = len(names)
    images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    domain, columns = torch.zeros(n, dtype=torch.int64), {"tumor_type": names, "scanner": ["A"] * n}
    return Batch(images, figures or [SPOT] * n, others or [NONE] * n, domain, torch.tensor(labelled), columns)


class Says(nn.Module):
    """A head with given logits for the features it gets, whatever they are; remembers how many those were."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.asked: list[int] = []

    def forward(self, feature: Tensor) -> Tensor:
        self.asked.append(len(feature))
        return self.logits[: len(feature)]


def gradient(term: Tensor, weights: Tensor) -> float:
    found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)[0]
    return 0.0 if found is None else found.abs().sum().item()


def test_foreground_loss_by_hand() -> None:
    """Focal loss, alpha 0.25 for the foreground, gamma 2; p = 1/2 and 3/4; mean over the labelled tiles."""
    detector = make(foreground_weight=0.5)
    says = Says([[0.0], [math.log(3)]])
    detector.foreground_head = says  # type: ignore[assignment]
    given = batch(["lung"] * 3, [True, False, True], [SPOT, SPOT, NONE])
    found = detector.auxiliary_losses(torch.rand(3, 16, 2, 2), given)["foreground"]
    first = 0.25 * (1 / 2) ** 2 * math.log(2)  # foreground
    second = 0.75 * (3 / 4) ** 2 * math.log(4)  # background, taken for foreground with 3/4
    assert found.item() == pytest.approx(0.5 * (first + second) / 2)
    assert says.asked == [2]


def test_label_term_is_weighted_and_asks_all_tiles() -> None:
    detector = make(label_weight=0.3)
    says = Says([[0.0, math.log(2), math.log(5)]] * 2)
    detector.label_head = says  # type: ignore[assignment]
    found = detector.auxiliary_losses(torch.rand(2, 16, 2, 2), batch(["breast", "lung"], [True, False]))["label"]
    assert found.item() == pytest.approx(0.3 * (math.log(8) + math.log(4)) / 2)
    assert says.asked == [2]


def test_label_column_is_an_argument() -> None:
    detector = make(label="scanner", classes=("A", "B"), label_weight=1.0)
    detector.label_head = Says([[0.0, math.log(3)]])  # type: ignore[assignment]
    found = detector.auxiliary_losses(torch.rand(1, 16, 2, 2), batch(["lung"], [True]))["label"]
    assert found.item() == pytest.approx(math.log(4))  # scanner A, given 1/4


def test_unlabelled_tiles_reach_the_label_head_alone() -> None:
    detector = make().eval()
    encoder = detector.trunk.body.conv1.weight
    losses = detector.losses(batch(["lung", "skin"], [False, False]))
    assert set(losses) == {"classification", "box", "foreground", "label"}
    assert [losses[name].item() for name in ("classification", "box", "foreground")] == [0, 0, 0]
    assert losses["label"].item() > 0.05  # 0.1 ln 3 = 0.11 from a new head
    assert gradient(losses["label"], encoder) > 0
    assert [gradient(losses[name], encoder) for name in ("classification", "box", "foreground")] == [0, 0, 0]
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []  # several processes wait for each


def test_detection_and_foreground_are_those_of_the_labelled_tiles() -> None:
    detector = make().eval()
    names = ["lung", "skin", "lung"]
    mixed = batch(names, [True, False, True], [SPOT, SPOT, NONE])
    alone = mixed.only(mixed.labelled)
    asked: list[int] = []
    detector.class_head.register_forward_hook(lambda module, given, found: asked.append(len(given[0])))
    with torch.no_grad():
        detection = detector.detection_losses(detector.network(alone.images), alone)
        found, expected = detector.losses(mixed), detector.losses(alone)
    assert set(asked) == {2}
    for name, value in detection.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert found["foreground"].item() == pytest.approx(expected["foreground"].item(), rel=1e-4)
    assert found["label"].item() != pytest.approx(expected["label"].item(), rel=1e-4)


@pytest.mark.parametrize(("level", "channels", "cells"), [("c5", 512, 2), ("p4", 16, 4), ("p5", 16, 2)])
def test_the_heads_read_the_level_asked_for(level: str, channels: int, cells: int) -> None:
    detector = make(auxiliary_level=level).eval()
    seen: list[tuple[int, ...]] = []
    for head in (detector.label_head, detector.foreground_head):
        assert head is not None
        head.register_forward_hook(lambda module, given, found: seen.append(tuple(given[0].shape)))
    detector.losses(batch(["lung", "skin"], [True, False]))
    assert seen == [(2, channels, cells, cells), (1, channels, cells, cells)]


def test_a_level_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"auxiliary_level = 'p7'.*accepted are c5, p4, p5"):
        make(auxiliary_level="p7")


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ({}, {"label", "foreground"}),
        ({"label_weight": 0.0}, {"foreground"}),
        ({"foreground_weight": 0.0}, {"label"}),
        ({"label_weight": 0.0, "foreground_weight": 0.0}, set()),
        ({"classes": ("lung",)}, {"foreground"}),
        ({"classes": ("lung", "lung")}, {"foreground"}),
        ({"classes": ()}, {"foreground"}),
    ],
)
def test_heads_without_weight_or_with_one_class_are_not_there(given: dict[str, Any], terms: set[str]) -> None:
    detector = make(**given)
    heads = {name.split("_head")[0] for name, _ in detector.named_parameters() if name.split(".")[0] in HEADS}
    assert heads == terms
    assert set(detector.losses(batch(["lung", "skin"], [True, True]))) == {"classification", "box", *terms}


def test_detections_are_those_of_the_detector_alone() -> None:
    torch.manual_seed(0)
    plain = RetinaNet(scanners=("A", "B"), **{**SMALL, "anchor_scales": (1.0,)}).eval()
    whole = make(anchor_scales=(1.0,), anchor_ratios=(1.0,), divide_by="tile").eval()
    missing = whole.load_state_dict(plain.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing.missing_keys} == set(HEADS) and not missing.unexpected_keys
    for head in HEADS:
        setattr(whole, head, Says([[0.0]]))
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(plain.network(images), whole.network(images), strict=True):
            assert torch.equal(a, b)
    assert whole.label_head.asked == whole.foreground_head.asked == []  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "domains", "classes", "told"),
    [
        (
            {},
            {"tumor_type": ["lung", "skin", "unknown"]},
            ("lung", "skin"),
            "the tumour head tells 2 apart: lung, skin",
        ),
        (
            {},
            {"tumor_type": ["skin", "unknown"]},
            ("skin",),
            "the training regions hold one tumour type (skin): trained without the tumour head",
        ),
        (
            {},
            {"tumor_type": ["unknown"]},
            (),
            "the training regions hold no tumour type by name: trained without the tumour head",
        ),
        (
            {"label": "scanner"},
            {"tumor_type": ["lung", "skin"], "scanner": ["A"]},
            ("A",),
            "the training regions hold one scanner (A): trained without the scanner head",
        ),
        ({"label": "scanner"}, {"scanner": ["B", "A"]}, ("B", "A"), "the scanner head tells 2 apart: B, A"),
        (
            {"classes": ("skin", "lung")},
            {"tumor_type": ["bone", "lung", "skin"]},
            ("skin", "lung"),
            "2 apart: skin, lung",
        ),
        ({"label_weight": 0.0}, {"tumor_type": ["skin"]}, ("skin",), None),
    ],
)
def test_classes_come_from_the_data(
    given: dict[str, Any], domains: dict[str, list[str]], classes: tuple[str, ...], told: str | None
) -> None:
    found = Zhang2022.told_by_data(given, domains)
    assert found == {**given, "classes": classes}
    shop = SimpleNamespace(source=[batch(["lung"], [True])])
    log = Zhang2022(**{**SMALL, **found}).prepare(shop)  # type: ignore[arg-type]
    if told is None:
        assert not any("head" in line for line in log)
    else:
        assert told in log[-1]


def test_a_class_that_the_data_do_not_hold() -> None:
    with pytest.raises(UsageError, match="no training region of class 'lungs'; the tumor_type there: lung, skin"):
        Zhang2022.told_by_data({"classes": ("lungs",)}, {"tumor_type": ["lung", "skin"]})


def test_unknown_is_what_regions_call_unknown() -> None:
    assert regions.UNKNOWN == zhang2022.UNKNOWN


def test_classes_travel_with_the_model(tmp_path: Path) -> None:
    given = Zhang2022.told_by_data(dict(SMALL), {"tumor_type": ["lung", "skin"]})
    detector = Zhang2022(scanners=("A", "B"), **given).eval()
    checkpoint.save(tmp_path, detector, "zhang2022", given, {})
    again = checkpoint.load(tmp_path)
    assert checkpoint.read_header(tmp_path)["arguments"]["classes"] == ["lung", "skin"]
    assert isinstance(again, Zhang2022) and again.classes == ("lung", "skin")
    assert detector.label_head is not None and again.label_head is not None
    feature = torch.rand(1, 16, 2, 2)
    assert torch.equal(detector.label_head(feature), again.label_head(feature))


@pytest.mark.parametrize(
    ("label", "classes", "told"),
    [
        ("tumor_type", ["drawn"], "hold one tumour type (drawn): trained without the tumour head"),
        ("scanner", ["grey", "pink"], "the scanner head tells 2 apart: grey, pink"),
    ],
)
def test_a_training_names_its_classes(drawn: Path, tmp_path: Path, label: str, classes: list[str], told: str) -> None:
    table = {
        "method": "zhang2022",
        "detector": {**SMALL, "levels": [5], "anchor_base_px": [50.0], "tile_px": 256, "label": label},
        "training": {"crop_px": 128, "tiles_per_scanner": 1, "validation_batches": 1},
        "optimisation": {"epochs": 1, "steps_per_epoch": 1},
    }
    model = training.train(recipe.parse(table), regions.load(drawn), tmp_path, torch.device("cpu"))
    assert checkpoint.read_header(model)["arguments"]["classes"] == classes
    log = (tmp_path / "log.jsonl").read_text()
    assert told in log and '"foreground"' in log and ('"label"' in log) == (len(classes) > 1)


def test_augmentation_of_the_paper() -> None:
    flips = Turns(turns=False, flips=True)
    assert make().augmentation == Jitter(0.35, 0.2, 0.1, 0.1, after=flips)
    assert make(augment=False).augmentation is None
    without = make(jitter=(0, 0, 0, 0)).augmentation
    assert without is not None
    image = torch.rand(3, 8, 8)
    for seed in range(8):  # flips alone: nothing but the order of the pixels changes
        flipped, _ = without(image, NONE, np.random.default_rng(seed))
        assert torch.equal(flipped.flatten().sort().values, image.flatten().sort().values)


def test_the_papers_recipe() -> None:
    found = recipe.load("zhang2022")
    steps = found.optimisation
    assert (steps.optimiser, steps.lr, steps.schedule, steps.weight_decay) == ("adam", 1e-5, "constant", 0)
    assert found.training.tiles_per_scanner * 4 == 16 and found.detector == {}
    detector = Zhang2022(classes=TUMOURS)
    assert (detector.trunk.depth, detector.levels, detector.focal_alpha, detector.focal_gamma) == (
        50,
        (3, 4, 5, 6, 7),
        0.25,
        2.0,
    )
    assert detector.sides_px[7] == pytest.approx([50.0, 63.0, 79.4], abs=0.05)


def test_jitter_beyond_reason_is_refused() -> None:
    with pytest.raises(UsageError, match="jitter"):
        recipe.load("zhang2022", ["jitter=[0.35, 0.2, 0.1, 0.6]"])
