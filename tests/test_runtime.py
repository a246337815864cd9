"""Other runtimes than torch: each method converted, checked, exported and read again."""

import copy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import draw
from mitosight import checkpoint, runtime
from mitosight.errors import InputError, UsageError
from mitosight.methods import METHODS
from mitosight.methods.detector import Detector
from mitosight.methods.retinanet import RetinaNet
from mitosight.runtime import choice, exporting, files
from mitosight.runtime.agreement import Agreement, Look, compare, look, points
from mitosight.runtime.conversion import side_px, with_runner
from mitosight.runtime.runners import HalfTorch, OpenVino
from mitosight.slide import write_tiff
from test_methods import SMALL, make

SIDE = 128
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


def telling(method: str) -> Detector:
    """A detector that has learned nothing but tells places apart: its last layers are random, not zero."""
    detector = make(method).eval()
    if isinstance(detector, RetinaNet):
        for head, scale in ((detector.class_head, 0.2), (detector.box_head, 0.02)):
            torch.nn.init.normal_(head.layers[-1].weight, std=scale)
        torch.nn.init.constant_(detector.class_head.layers[-1].bias, -1.0)
    return detector.requires_grad_(False)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITOSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Detector, Path]]:
    """A detector by method, and its model file; each made once."""
    made: dict[str, tuple[Detector, Path]] = {}

    def give(method: str) -> tuple[Detector, Path]:
        if method not in made:
            detector = telling(method)
            detector.threshold = 0.3
            file = checkpoint.save(tmp_path_factory.mktemp(method), detector, method, SMALL[method], {"from": "a test"})
            made[method] = checkpoint.load(file), file
        return made[method]

    return give


@pytest.fixture(scope="module")
def tiles() -> list[np.ndarray]:
    return [draw(seed, SIDE, (215, 180, 205), figures=3)[0] for seed in (1, 2)]


def same(a: Detector, b: Detector, tiles: list[np.ndarray], tolerance: float = 1e-3) -> int:
    """Asserts that all points are the same; returns how many there are."""
    for one, other in zip(points(a, tiles), points(b, tiles), strict=True):
        one, other = (p[np.lexsort((p.xy[:, 1], p.xy[:, 0]))] for p in (one, other))
        assert len(one) == len(other)
        np.testing.assert_allclose(other.xy, one.xy, atol=0.05)
        np.testing.assert_allclose(other.score, one.score, atol=tolerance)
    return sum(map(len, points(a, tiles)))


@pytest.mark.parametrize("method", list(METHODS))
def test_finds_what_torch_finds(method: str, trained: Any, tiles: list[np.ndarray]) -> None:
    """Both formats, one image and three at a time, and tiles of another side."""
    detector, file = trained(method)
    side = side_px(detector)
    sides = {side} if side < 100 else {96}
    for name in ("onnx", "openvino"):
        found = runtime.open_runtime(detector, file, name, tiles)
        assert found.runtime["name"] == name and found.runtime["agrees"] and found.runtime["score"] < 1e-3
        assert same(detector, found, tiles) > 0
        for number, px in ((n, px) for n in (1, 3) for px in sides):
            images = torch.rand(number, 3, px, px, generator=torch.Generator().manual_seed(number))
            with torch.inference_mode():
                for a, b in zip(detector.network(images), found.network(images), strict=True):
                    assert a.shape == b.shape
                    assert float((a - b).abs().max()) < 1e-3 * max(1.0, float(a.abs().max()))
    assert detector.runtime == {"name": "torch"} and detector.converted not in detector.__dict__


def test_for_slide_keeps_the_runtime(trained: Any, tiles: list[np.ndarray]) -> None:
    detector, file = trained("wang2023")
    found = runtime.open_runtime(detector, file, "openvino", tiles).for_slide(tiles)
    assert isinstance(found.__dict__["look"], OpenVino) and found.runtime["name"] == "openvino"
    assert same(detector.for_slide(tiles), found, tiles) > 0


def off(self: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(m + 0.5 for m in self.true(images))


def test_a_runtime_that_finds_other_figures_is_refused(
    trained: Any, tiles: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector, file = trained("retinanet")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(OpenVino, "true", OpenVino.__call__, raising=False)
    monkeypatch.setattr(OpenVino, "__call__", off)
    with pytest.raises(UsageError, match=r"openvino finds other figures than in torch: [1-9]\d* of [1-9]"):
        runtime.open_runtime(detector, file, "openvino", tiles)
    with pytest.raises(UsageError, match=r"finds other figures than in torch"):
        exporting.export_model(file, "openvino", tmp_path / "m.xml")
    assert not (tmp_path / "m.xml").exists() and not (tmp_path / "m.bin").exists()
    monkeypatch.undo()
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="finds other figures"):  # the outcome is kept
        runtime.open_runtime(detector, file, "openvino", tiles)


def test_auto_takes_the_fastest_that_agrees(
    trained: Any, tiles: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector, file = trained("retinanet")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(HalfTorch, "__call__", lambda self, images: tuple(-m for m in self.network(images)))
    order = {"torch": 4.0, "torch-bf16": 1.0, "onnx": 2.0, "openvino": 3.0, "openvino-bf16": 5.0}

    def timed(detector: Detector, tiles: Any) -> Look:
        return replace(look(detector, tiles), seconds=order[str(detector.runtime["name"])])

    monkeypatch.setattr(choice, "look", timed)
    assert runtime.open_runtime(detector, file, "auto", lambda: tiles).runtime["name"] == "onnx"
    monkeypatch.setattr(choice, "look", None)  # the second time nothing is measured, no tile is read
    assert runtime.open_runtime(detector, file, "auto", lambda: 1 / 0).runtime["name"] == "onnx"
    assert len(list(tmp_path.rglob("check-auto-*.json"))) == 1


def test_auto_does_without_a_cache(trained: Any, tiles: list[np.ndarray], monkeypatch: Any, tmp_path: Path) -> None:
    """Where nothing can be written no network can be converted: what is left is torch."""
    detector, file = trained("retinanet")
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path / "full"))
    found = runtime.open_runtime(detector, file, "auto", tiles)
    assert found.runtime["name"] in ("torch", "torch-bf16")
    with pytest.raises(InputError, match="full"):
        runtime.open_runtime(detector, file, "openvino", tiles)


def test_a_full_disk_is_told_and_not_remembered(
    trained: Any, tiles: list[np.ndarray], monkeypatch: Any, tmp_path: Path
) -> None:
    """OpenVINO's own writing fails: asked for by name that is one line, `auto` goes on and tries again next time."""
    import openvino

    def full(*_: Any) -> None:
        raise RuntimeError("Exception from src/core:\nbasic_ios::clear: iostream error")

    detector, file = trained("retinanet")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    with monkeypatch.context() as disk:
        disk.setattr(openvino, "serialize", full)
        with pytest.raises(InputError, match=r"openvino.xml: cannot be written \(basic_ios.*; free space"):
            runtime.open_runtime(detector, file, "openvino", tiles)
        assert runtime.open_runtime(detector, file, "auto", tiles).runtime["name"] in ("torch", "torch-bf16", "onnx")
    assert not list(tmp_path.rglob("check-auto-*")) and not list(tmp_path.rglob("*.xml"))
    runtime.open_runtime(detector, file, "auto", tiles)
    assert list(tmp_path.rglob("check-auto-*")) and list(tmp_path.rglob("*.xml"))


def test_a_look_times_the_network_for_an_image(tiles: list[np.ndarray]) -> None:
    """The first call is made twice and the quickest counts; what the network saw and gave is kept."""
    detector = make("retinanet").eval()
    true, calls = detector.network, []

    def counted(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(len(images))
        return true(images)

    detector.network = counted  # type: ignore[method-assign]
    found = look(detector, tiles)
    assert calls == [1, 1, 1] and len(found.inputs) == len(found.maps) == len(found.points) == 2
    assert 0 < found.seconds < 60
    for images, maps in zip(found.inputs, found.maps, strict=True):
        with torch.inference_mode():
            assert all(torch.allclose(a, b) for a, b in zip(true(images), maps, strict=True))


def test_agreement_by_hand(tiles: list[np.ndarray]) -> None:
    """Three points; one is moved by 2 px, one scores 0.02 less, one lies below what is judged."""
    from mitosight.detections import Detections

    detector = make("retinanet").eval()
    plain, other = copy.copy(detector), copy.copy(detector)
    xy, moved = np.array([[50.0, 50], [100, 100], [200, 200]]), np.array([[52.0, 50], [100, 100], [200, 230]])
    plain.detect = lambda images: [Detections(xy, [0.9, 0.8, 0.2], 0.25)]  # type: ignore[method-assign]
    other.detect = lambda images: [Detections(moved, [0.9, 0.78, 0.2], 0.25)]  # type: ignore[method-assign]
    found = compare(plain, other, tiles[:1], 0.5)
    assert (found.points, found.missing, found.score) == (2, 2, pytest.approx(0.02))
    assert not found.within(0.03)
    farther = compare(plain, other, tiles[:1], 0.5, near_px=2.0)  # of a first look, say, whose places need not be exact
    assert farther.missing == 0 and farther.within(0.03) and "0 of 2 points more than 2 px off" in farther.told()
    assert Agreement(2, 0, 0.02, 0.5).within(0.03) and not Agreement(2, 0, 0.02, 0.0).within(0.01)
    assert Agreement(0, 0, 0.0, 0.01).within(0.03) and not Agreement(0, 0, 0.0, 0.05).within(0.03)


@pytest.mark.parametrize("name", ["onnx", "openvino", "openvino-bf16"])
def test_export_and_read_again(name: str, trained: Any, tiles: list[np.ndarray], tmp_path: Path) -> None:
    detector, model = trained("kondo2021")
    out = tmp_path / f"model{files.SUFFIX[files.form_of(name)]}"
    written, told = exporting.export_model(model, name, out)
    assert (written == out and "differ" in told) or "points" in told
    header = runtime.read_header(out)
    assert header["provenance"] == {"from": "a test"} and header["scanners"] == ["one", "two"]
    facts = header["exported"]
    wanted = {"runtime": name, "mpp": 0.25, "tile_px": 256, "threshold": 0.3, "classes": ["mitotic figure"],
              "computes": "Kondo2021.network", "side_px": 64, "outputs": ["map0"]}  # fmt: skip
    assert {key: facts[key] for key in wanted} == wanted
    assert facts["agreement"]["tiles"] == 2 and facts["model_sha256"] == files.sha256(model)
    assert not any(zipfile.is_zipfile(f) or f.read_bytes()[:1] == b"\x80" for f in tmp_path.iterdir())  # no pickle
    again = runtime.load(out)
    assert again.threshold == 0.3 and again.scanners == ("one", "two") and again.runtime["name"] == name
    assert same(detector, again, tiles, 1e-3 if name != "openvino-bf16" else 0.02) > 0
    assert sum(p.numel() for p in again.parameters()) == 0


def test_int8_is_calibrated_and_kept(mitosight: Any, trained: Any, tiles: list[np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    detector, model = trained("kondo2021")
    with pytest.raises(UsageError, match="is not calibrated for int8; mitosight export"):
        runtime.open_runtime(detector, model, "openvino-int8", tiles)
    for i in range(4):
        write_tiff(tmp_path / f"{i}.tiff", draw(i, 256, (215, 180, 205))[0], 0.25, compression="lzw")
    images = [part for i in range(4) for part in ("--calibrate", tmp_path / f"{i}.tiff")]
    done, out, error = mitosight(
        "export", model, "--format", "openvino", "--precision", "int8", *images, "--tiles", 4, "--tolerance", 0.2
    )
    assert done == 0, error
    assert "openvino-int8.xml" in out
    found = runtime.open_runtime(detector, model, "openvino-int8", tiles, tolerance=0.2)
    assert found.runtime["name"] == "openvino-int8"
    header = runtime.read_header(Path(out.partition(": ")[0]))
    assert header["exported"]["calibration"]["tiles"] == 3
    types = {str(op.get_output_element_type(0)) for op in found.__dict__["network"]._read().get_ops()}
    assert any("8" in kind for kind in types), types


def test_bad_files_and_arguments(mitosight: Any, trained: Any, tmp_path: Path) -> None:
    detector, model = trained("kondo2021")
    out = tmp_path / "m.xml"
    exporting.export_model(model, "openvino", out)
    with pytest.raises(UsageError, match="was exported for the runtime openvino, not onnx"):
        runtime.load(out, "onnx")
    weights = out.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"m\.bin: does not belong to m\.xml, or is damaged"):
        runtime.load(out)
    weights.unlink()
    with pytest.raises(InputError, match=r"m\.bin: is missing"):
        runtime.load(out)
    (tmp_path / "other.xml").write_text("<?xml version='1.0'?><net/>")
    with pytest.raises(InputError, match="is no model that this mitosight exported"):
        runtime.load(tmp_path / "other.xml")
    (tmp_path / "cut.xml").write_text(out.read_text()[:500])
    with pytest.raises(InputError, match="is damaged"):
        runtime.load(tmp_path / "cut.xml")
    with pytest.raises(UsageError, match="no runtime 'tensorrt'; runtimes are torch,"):
        runtime.open_runtime(detector, model, "tensorrt")
    for arguments, told in (
        (("--format", "onnx", "--precision", "bf16", "--out", tmp_path / "m.onnx"), "onnx has no bf16"),
        (("--format", "openvino", "--precision", "int8"), "int8 without images"),
        (("--format", "onnx", "--out", tmp_path / "m.bin"), "is no name of a file for onnx"),
    ):
        done, _, error = mitosight("export", model, *arguments)
        assert done == 2 and told in error and error.count("\n") == 1


def test_what_is_not_installed_is_named(trained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    detector, file = trained("kondo2021")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(UsageError, match=r"openvino is not installed; .* 'mitosight\[openvino\]'"):
        runtime.open_runtime(detector, file, "openvino")


@pytest.mark.parametrize("missing", ["onnx", "openvino"])
def test_without_a_library_auto_is_torch(
    missing: str, trained: Any, tiles: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where only the package itself is installed, on a machine that has no OpenVINO, or no onnx to get there."""
    detector, file = trained("retinanet")
    monkeypatch.setenv("MITOSIGHT_CACHE", str(tmp_path))
    for module in {missing, "onnxruntime", "onnx"}:
        monkeypatch.setitem(__import__("sys").modules, module, None)
    found = runtime.open_runtime(detector, file, "auto", tiles)
    assert found.runtime["name"] in ("torch", "torch-bf16")
    with pytest.raises(UsageError, match=rf"{missing} is not installed; .* 'mitosight\[openvino\]'"):
        runtime.open_runtime(detector, file, "openvino", tiles)


def test_what_is_compiled_for_earlier_sizes_goes(trained: Any, tiles: list[np.ndarray]) -> None:
    """And comes back: the maps are the same."""
    detector, file = trained("retinanet")
    runner = runtime.open_runtime(detector, file, "openvino", tiles).__dict__["network"]
    images = {px: torch.rand(1, 3, px, px, generator=torch.Generator().manual_seed(px)) for px in (64, 96, 128)}
    before = {px: runner(image) for px, image in images.items()}
    assert list(runner.compiled) == [(96, 96), (128, 128)]
    for px in (64, 128, 96):
        assert all(torch.equal(a, b) for a, b in zip(runner(images[px]), before[px], strict=True))
    assert list(runner.compiled) == [(128, 128), (96, 96)]


FIRST_AT_ONCE = """
import sys, threading, torch
from pathlib import Path
from mitosight.runtime.runners import OpenVino
runner, together, done = OpenVino(Path(sys.argv[1]), "fp32", 2), threading.Barrier(2), []
def first():
    together.wait()
    done.append(runner(torch.zeros(1, 3, 64, 64)))
threads = [threading.Thread(target=first) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(done) == 2
"""


def test_two_threads_may_be_the_first_at_once(trained: Any, tmp_path: Path) -> None:
    """As in a search whose check is kept. In a process of its own: elsewhere OpenVINO has been used before."""
    out = tmp_path / "m.xml"
    exporting.export_model(trained("kondo2021")[1], "openvino", out)
    run = [sys.executable, "-c", FIRST_AT_ONCE, str(out)]
    assert subprocess.run(run, timeout=300, check=False).returncode == 0


def test_a_copy_shares_the_weights() -> None:
    detector = make("retinanet")
    found = with_runner(detector, lambda images: (), {"name": "none"})
    assert found.network(torch.zeros(1)) == () and found.trunk is detector.trunk
    assert type(detector).network is RetinaNet.network and "network" not in detector.__dict__
