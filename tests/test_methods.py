"""The contract, once for each method."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mitosight import checkpoint
from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.errors import UsageError
from mitosight.methods import METHODS, arguments, create
from mitosight.methods.detector import Detector
from mitosight.methods.parts.candidates import CandidateDetector, corners, cut
from mitosight.pool import Pool

SIDE = 256
SMALL: dict[str, dict[str, Any]] = {
    name: {"weights": "none", "tile_px": SIDE, "channels": 32, "normalise": "none"}
    for name in ("retinanet", "wilm2021", "mitosight")
}
SMALL["zhang2022"] = {**SMALL["retinanet"], "depth": 18, "classes": ["one", "two"]}
SMALL["chung2021"] = {
    **SMALL["retinanet"],
    "depth": 18,
    "style_width": 4,
    "style_blocks": 1,
    "style_crop_px": 16,
    "style_critic_depth": 2,
}
SMALL["kondo2021"] = {"weights": "none", "tile_px": SIDE, "normalise": "none", "widths": [32, 16]}
SMALL["wang2023"] = {
    **{"weights": "none", "tile_px": SIDE, "width": 4, "dropout": 0.0, "children": 2, "centre_weight": 0.01},
    **{"clusters": 2, "unsa": False},  # a re-stainer that has learned nothing would hide the figures
}
REACH_PX = {"wang2023": 16}  # how near a figure its point is to be; two cells of the activation map
METHOD = pytest.mark.parametrize("method", list(METHODS))


def make(method: str, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return create(method, ["one", "two"], SMALL[method])


def tiles(labelled: tuple[bool, bool] = (True, True)) -> Batch:
    """Two tiles with two dark spots each."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0.8, 0.02, (2, 3, SIDE, SIDE)).clip(0, 1).astype(np.float32))
    points = [
        torch.tensor([[60.0, 70.0, 50.0], [180.0, 160.0, 50.0]]),
        torch.tensor([[100.0, 200.0, 50.0], [200.0, 50.0, 50.0]]),
    ]
    ys, xs = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    for image, figures in zip(images, points, strict=True):
        for x, y, _ in figures:
            image[:, (xs - x) ** 2 + (ys - y) ** 2 < 100] = torch.tensor([[0.2], [0.15], [0.35]])
    return Batch(images, points, [torch.zeros(0, 3)] * 2, torch.tensor([0, 1]), torch.tensor(labelled))


def lesson(detector: Detector, labelled: tuple[bool, bool] = (True, True)) -> Batch:
    """A batch that the method learns from: the two tiles, or patches of them around figures and elsewhere."""
    batch = tiles(labelled)
    if not isinstance(detector, CandidateDetector):
        return batch
    patches, label, domain = [], [], []
    for k, (image, figures) in enumerate(zip(batch.images, batch.figures, strict=True)):
        other = torch.tensor([[40.0, 215.0], [215.0, 215.0]])
        for of, centres in ((1, figures[:, :2]), (0, other)):
            xy = centres.numpy().astype(float)
            patches.append(cut(image, corners(xy, image, detector.patch_px), detector.patch_px))
            label += [of * getattr(detector, "per_class", 1)] * len(xy)  # the first child of its class
            domain += [k] * len(xy)
    of_tile = torch.tensor(domain)
    none = [torch.zeros(0, 3)] * len(label)
    known = torch.tensor(labelled)[of_tile]
    return Batch(torch.cat(patches), none, none, of_tile, known, label=torch.tensor(label))


class Shop:
    """A workshop that lends tiles and trains nothing."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.source = Tiles()

    def tiles(self, *settings: object) -> "Tiles":
        return self.source

    def fit(self, *settings: object) -> None:
        pass

    def agreed(self, made: Callable[[], Any]) -> Any:
        return made()

    def candidates(self, part: str, finder: object) -> Pool:
        near, far = np.zeros(8, np.float32), np.repeat(np.array([0, np.inf], np.float32), 4)
        return Pool(near.astype(np.int32), np.zeros((8, 2), np.float32), far, near, near == 0)

    def patches(self, part: str, pool: Pool, chosen: Any, label: Any, side: int, size: int, **how: Any) -> list[Batch]:
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.random((len(chosen), 3, side, side), np.float32))
        none = [torch.zeros(0, 3)] * len(chosen)
        return [Batch(images, none, none, torch.zeros(0), torch.zeros(0))]


class Tiles:
    scanners = ("one", "two")

    def __getitem__(self, index: int) -> Batch:
        return tiles()


@METHOD
def test_losses_are_finite_and_reach_every_weight(method: str) -> None:
    detector = make(method).train()
    losses = detector.losses(lesson(detector))
    assert all(torch.isfinite(v) for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


@METHOD
def test_a_batch_without_labels_has_no_detection_loss(method: str) -> None:
    detector = make(method).train()
    losses = detector.losses(lesson(detector, (False, False)))
    assert losses["classification"] == 0 and losses.get("box", 0) == 0


@METHOD
def test_a_new_scanner_is_one_more_of_the_domain_loss_or_refused(method: str) -> None:
    detector = make(method).train()
    if type(detector).new_scanner is Detector.new_scanner:
        with pytest.raises(UsageError, match="has no domain branch"):
            detector.new_scanner()
        return
    batch = lesson(detector, (False, False))
    batch.domain[:] = detector.new_scanner()
    losses = detector.losses(batch)
    assert batch.domain[0] == 2 and torch.isfinite(losses["domain"]) and losses["domain"] > 0
    assert losses["classification"] == 0


@METHOD
def test_learns_two_tiles(method: str) -> None:
    detector = make(method)
    detector.prepare(Shop())  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    batch = tiles()
    learned = lesson(detector)
    detector.train()
    for _ in range(70):
        optimiser.zero_grad()
        torch.stack(list(detector.losses(learned).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    detector.eval()
    with torch.inference_mode():
        found = detector.detect(batch.images)
    for points, figures in zip(found, batch.figures, strict=True):
        best = points.suppressed(25).xy[:2]
        distance = np.linalg.norm(best[:, None] - figures[None, :, :2].numpy(), axis=2)
        assert distance.min(axis=0).max() < REACH_PX.get(method, 10), (best, figures)


@METHOD
def test_detections_are_ranked_and_inside(method: str) -> None:
    detector = make(method).eval()
    with torch.inference_mode():
        maps = detector.network(torch.rand(2, 3, SIDE, SIDE))
        noisy = tuple(m + torch.randn_like(m) * 3 for m in maps)
        found = detector.decode(noisy, (SIDE, SIDE))
    assert len(found) == 2 and len(found[0]) > 0
    for points in found:
        assert isinstance(points, Detections)
        assert (np.diff(points.score) <= 0).all()
        assert (points.xy >= 0).all() and (points.xy < SIDE).all()
        assert ((points.score > 0) & (points.score <= 1)).all()
        assert points.mpp == detector.mpp


@METHOD
def test_saved_and_loaded_detects_the_same(method: str, tmp_path: Any) -> None:
    detector = make(method).eval()
    detector.prepare(Shop())  # type: ignore[arg-type]
    detector.threshold = 0.37
    checkpoint.save(tmp_path, detector, method, SMALL[method], {})
    again = checkpoint.load(tmp_path)
    assert again.threshold == 0.37 and again.scanners == ("one", "two")
    images = tiles().images
    with torch.inference_mode():
        for a, b in zip(detector.network(images), again.network(images), strict=True):
            assert torch.equal(a, b)


@METHOD
def test_same_seed_same_weights_and_nothing_shared(method: str) -> None:
    first, same, other = make(method), make(method), make(method, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    assert any(not torch.equal(v, other.state_dict()[n]) for n, v in first.state_dict().items())


@METHOD
def test_features_are_a_vector_for_each_image(method: str) -> None:
    detector = make(method).eval()
    images = lesson(detector).images
    with torch.inference_mode():
        features = detector.features(images)
    assert features.ndim == 2 and len(features) == len(images)
    assert not torch.equal(features[0], features[1])


@METHOD
def test_arguments_have_defaults_and_a_docstring_names_the_source(method: str) -> None:
    assert all(default is not inspect.Parameter.empty for default in arguments(method).values())
    assert "scanners" not in arguments(method)
    assert re.search(r"(19|20)\d\d", (METHODS[method].__doc__ or "") + METHODS[method].title)


@pytest.mark.parametrize("levels", [(3,), (4,), (4, 5), (5,)])
def test_weights_that_no_level_needs_do_not_learn(levels: tuple[int, ...]) -> None:
    """Several processes wait for the gradient of every weight that learns."""
    torch.manual_seed(0)
    detector = create("retinanet", ["one", "two"], {**SMALL["retinanet"], "levels": levels}).train()
    torch.stack(list(detector.losses(tiles()).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None] == []
    assert any(not p.requires_grad for p in detector.parameters()) == (levels != (3, 4, 5))
