"""What a GPU finds is what a CPU finds, whatever runtime, number of threads and batch; skipped where there is none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import draw, write_folder, write_recipe
from mitosight import checkpoint, detections, inference, runtime
from mitosight.detections import Detections
from mitosight.device import exact, placed
from mitosight.methods import METHODS
from mitosight.methods.detector import Detector
from mitosight.runtime.agreement import compare
from mitosight.runtime.conversion import side_px
from mitosight.runtime.runners import HalfTorch
from mitosight.slide import Slide, write_tiff
from test_methods import SMALL, make

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RetinaNet that has learned nothing but tells places apart; its threshold divides its points."""
    detector = make("retinanet").eval()
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.2)
    torch.nn.init.normal_(detector.box_head.layers[-1].weight, std=0.02)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -1.0)
    detector.threshold = 0.6
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL["retinanet"], {})


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 x 4 tiles of 256 px."""
    path = tmp_path_factory.mktemp("slide") / "a.tiff"
    write_tiff(path, draw(1, 1152, (215, 180, 205), figures=40)[0][:800], 0.25, compression="lzw")
    return path


def found_by(detector: Detector, path: Path, batch: int, most: int = 4) -> Detections:
    """The points of a slide, found by at most so many threads."""
    with Slide(path) as slide, inference.workers(detector, batch, most=most) as by:
        covering = inference.cover(slide, detector)
        parts = inference.search(covering, detector, range(len(covering.chunks)), by)
        return inference.gathered((points for _, points in parts), slide.mpp, detector.suppression_um)


def partners(one: Detections, other: Detections) -> tuple[float, float]:
    """Share of the points of the one that have one of the other within 1 px; largest difference of their scores."""
    distance = np.linalg.norm(one.xy[:, None] - other.xy, axis=2)
    near = distance.min(axis=1) <= 1
    apart = np.abs(one.score - other.score[distance.argmin(axis=1)])
    return float(near.mean()), float(apart[near].max(initial=0))


@pytest.mark.parametrize("name", ["torch", "torch-bf16"])
def test_detect_finds_what_a_cpu_finds(
    name: str, slide: Path, model: Path, tmp_path: Path, mitosight: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 all points but those at the floor; in bf16, unchecked here, most of them, as weak ones may move."""
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(runtime.TOLERANCE, "bf16", 1.0)
    monkeypatch.setattr("mitosight.cohort.opening.NEAR_PX", 1000.0)
    found = []
    for device, runs in (("cpu", "torch"), ("cuda", name)):
        out = tmp_path / device
        words = ("--model", model, "--out", out, "--no-tissue", "--device", device, "--runtime", runs)
        status, _, told = mitosight("detect", slide, *words)
        assert status == 0, told
        found.append(detections.read(out)["a.tiff"])
    one, other = (points[points.score >= 0.1] for points in found)
    assert len(one) > 100
    share, apart = partners(one, other)
    back, _ = partners(other, one)
    assert min(share, back) > (0.99 if name == "torch" else 0.8)
    assert apart < (1e-3 if name == "torch" else 0.1)


@pytest.mark.parametrize("half", [False, True])
def test_several_threads_find_what_one_finds(half: bool, slide: Path, model: Path) -> None:
    """To the bit, in several tries: no thread sees the maps of another, and the last batch is whole."""
    detector = placed(checkpoint.load(model), CUDA)
    if half:
        detector.__dict__["network"] = HalfTorch(detector.network, CUDA)
    first = found_by(detector, slide, batch=4, most=1)
    assert len(first) > 100
    for _ in range(3):
        again = found_by(detector, slide, batch=4)
        assert np.array_equal(first.xy, again.xy) and np.array_equal(first.score, again.score)
    other = found_by(detector, slide, batch=5)
    assert partners(first[first.score >= 0.1], other)[0] > (0.8 if half else 0.99)


@pytest.mark.parametrize("method", list(METHODS))
def test_bf16_as_graphs_gives_what_it_gives_without(method: str) -> None:
    """Each method, by four threads that come for two sizes of batch at once; maps are the caller's own."""
    detector = placed(make(method).eval(), CUDA)
    half = HalfTorch(getattr(detector, detector.converted), CUDA)
    side = side_px(detector)
    images = [torch.rand(2 + k % 2, 3, side, side, device=CUDA) for k in range(8)]
    with torch.inference_mode(), exact():
        plain = [[m.clone() for m in half.half(i.contiguous(memory_format=torch.channels_last))] for i in images]
    torch.cuda.synchronize()

    def on_own_stream(k: int) -> list[torch.Tensor]:
        with torch.cuda.stream(torch.cuda.Stream(CUDA)), torch.inference_mode():
            return [m.cpu() for m in half(images[k])]

    with exact(), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(on_own_stream, [*range(8)] * 3))
    assert len(half.compute.graphs) == 2
    for k, maps in enumerate(found):
        for one, other in zip(plain[k % 8], maps, strict=True):
            torch.testing.assert_close(other, one.cpu(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", ["retinanet", "kondo2021"])
def test_fp32_agrees_with_a_cpu(method: str) -> None:
    """Raw maps and points, by the check of the runtimes."""
    detector = make(method).eval()
    with torch.no_grad():
        for weights in detector.parameters():
            if weights.dim() == 4 and not weights.any():  # last layers begin at 0 and would hide what lies before
                weights.normal_(std=0.05)
    tiles = [draw(seed, 256, (215, 180, 205), figures=5)[0] for seed in (1, 2)]
    other = placed(make(method).eval(), CUDA)
    other.load_state_dict(detector.state_dict())
    found = compare(detector, other, tiles, 0.06)
    assert found.maps < 1e-4 and found.score < 1e-3


def test_training_of_two_steps(tmp_path: Path, mitosight: Callable[..., Any]) -> None:
    data = write_folder(tmp_path / "data", {"grey": (200, 200, 210), "pink": (235, 190, 215)})
    recipe = write_recipe(tmp_path / "recipe.toml", steps=1)  # two epochs of one step
    words = ("--data", data, "--out", tmp_path / "out", "--device", "cuda")
    status, _, told = mitosight("train", recipe, *words)
    assert status == 0, told
    assert all(torch.isfinite(w).all() for w in checkpoint.load(tmp_path / "out").parameters())
