"""The benchmarks of speed and memory: the rebuilt reference has the published size, clocks add up, slides are whole."""

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mitosight.slide import Slide

Load = Callable[[str], ModuleType]
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_reference_has_192_tiles_that_cover_the_region(load: Load) -> None:
    """7215 px: starts 0, 460 ... 6440 and 6703, 16 of them; 5412 px: 0, 460 ... 4600 and 4900, 12 of them."""
    corners = load("midog_reference").corners(7215, 5412)
    assert len(corners) == 16 * 12 == 192
    assert corners[:2] == [(0, 0), (460, 0)]
    assert corners[14:17] == [(6440, 0), (6703, 0), (0, 460)]
    assert corners[-1] == (7215 - 512, 5412 - 512)


def test_a_region_of_one_tile_is_one_tile(load: Load) -> None:
    assert load("midog_reference").corners(512, 512) == [(0, 0)]
    assert load("midog_reference").corners(973, 512) == [(0, 0), (460, 0), (461, 0)]


def multiply_adds_by_hand() -> int:
    """Of the reference for one tile of 512 px: kernel px x channels in x channels out x px of the map."""
    half, s4, s8, s16, s32 = 256**2, 128**2, 64**2, 32**2, 16**2
    first = 49 * 3 * 64 * half + 4 * 9 * 64 * 64 * s4
    stages = 0
    for narrow, wide, px in ((64, 128, s8), (128, 256, s16), (256, 512, s32)):
        stages += 9 * narrow * wide * px + 3 * 9 * wide * wide * px + narrow * wide * px  # the last is the shortcut
    lateral = 128 * (128 * s8 + 256 * s16 + 512 * s32)
    smooth = 9 * 128 * 128 * (s8 + s16 + s32)
    dropped = 9 * 512 * 128 * 8**2 + 9 * 128 * 128 * 4**2  # P6 and P7
    heads = 9 * 128 * (2 * 3 * 128 + 5 * 2 + 5 * 4) * (s8 + s16 + s32)
    domain = 9 * (512 * 512 * 14**2 + 512 * 256 * 12**2 + 256 * 128 * 10**2) + 128 * 4
    return first + stages + lateral + smooth + dropped + heads + domain


def test_reference_takes_32_gflop_a_tile(load: Load) -> None:
    by_hand = multiply_adds_by_hand()
    assert round(by_hand / 1e9) == 16
    assert load("midog_reference").gflop() == pytest.approx(2 * by_hand / 1e9, rel=1e-9)


def test_reference_decodes_a_box_where_its_anchor_is(load: Load) -> None:
    """One anchor of P4 with code 0: the cell at row 2, column 3 of stride 16 has its centre at (56, 40)."""
    reference = load("midog_reference")
    places = reference.anchors()
    index = 64 * 64 * 5 + (2 * 32 + 3) * 5 + 3
    assert places[index].tolist() == pytest.approx([56, 40, 0.8 * 4 * 16])
    logits, codes = torch.full((len(places), 2), -9.0), torch.zeros(len(places), 4)
    logits[index, 0] = 2.0
    codes[index, 0] = 1.0  # a tenth of the anchor's side to the right: 5.12 px
    xy, score = reference.decode(logits, codes, places)
    # x: 61.12 -+ 25.6 = 35.52 and 86.72, cut to 35 and 86; y: 40 -+ 25.6 = 14.4 and 65.6, cut to 14 and 65
    assert xy.tolist() == [[60.5, 39.5]]
    assert score == pytest.approx([1 / (1 + np.exp(-2))])


def test_ratio_is_that_of_the_same_round(load: Load) -> None:
    against = load("region_speed").against
    reference, ours = ([{"search": s} for s in seconds] for seconds in ((30.0, 60.0, 30.0), (3.0, 5.0, 2.0)))
    assert against(reference, ours, "search") == {"median": 12.0, "least": 10.0, "most": 15.0}


def test_candidates_take_turns(load: Load) -> None:
    speed = load("region_speed")
    candidates = [speed.reference(), speed.ours("a=model"), speed.ours("b=model --batch 2")]
    order: list[str] = []
    speed.in_turns(candidates, 2, lambda candidate: order.append(candidate.name) or {})
    assert order == ["reference", "a", "b", "a", "b", "reference"]
    command = candidates[2].command(Path("slide.tiff"), Path("out"), True)
    assert command[2:6] == ["--profile", "out/times.json", "detect", "slide.tiff"]
    assert command[6:] == ["--out", "out/found", "--model", "model", "--batch", "2"]


def test_threads_at_once_count_once_on_the_wall(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads at it from 0 to 3 and from 1 to 5, by a clock of the test: 7 s in sum, 5 s on the wall."""
    stopwatch = load("stopwatch")
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    watch, second, entered, leave = stopwatch.Stopwatch(), None, threading.Event(), threading.Event()

    def work() -> None:
        with watch.time("read"):
            entered.set()
            leave.wait(10)

    with watch.time("read"):
        now[0] = 1.0
        second = threading.Thread(target=work)
        second.start()
        assert entered.wait(10)
        now[0] = 3.0
    now[0] = 5.0
    leave.set()
    second.join()
    assert watch.parts() == {"read": {"seconds": 7.0, "wall": 5.0, "calls": 2}}


def test_memory_slide_is_a_whole_pyramid(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc of tissue on glass, of the share asked for, that every level shows; mpp is kept."""
    memory = load("memory")
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 160, (512, 512, 3), dtype=np.uint8)
    monkeypatch.setattr(memory, "_blocks", lambda: [picture, picture[::2, ::2].copy()])
    memory.Drawing(4096, 0.25).write(tmp_path / "slide.tiff")
    with Slide(tmp_path / "slide.tiff") as slide:
        assert (slide.width_px, slide.height_px, slide.mpp) == (4096, 4096, pytest.approx(0.25))
        assert slide.level_downsamples == (1, 2, 4, 8)
        for downsample in slide.level_downsamples:
            level = slide.read((0, 0), (int(4096 / downsample),) * 2, 0.25 * downsample)
            assert (level.mean(axis=2) < 200).mean() == pytest.approx(0.25, abs=0.05)
            assert level[0, 0].tolist() == [243, 243, 243]


def test_tables_say_the_rate_of_the_network(load: Load) -> None:
    """1 mm² in 2 s; 100 GFLOP in 0.5 s are 200 GFLOP/s: 80 % of a best of 250 in fp32, 40 % of one of 500 at all."""
    run = {"search": 2.0, "start": 3.0, "load": 1.0, "whole": 6.5, "cpu": 4.0, "peak_mb": 900.0, "points": 7}
    run |= {"load_average": 1.5, "others_before": 0.0, "others_during": 1.9, "disturbed": "yes"}
    parts = {"network": {"wall": 0.5, "seconds": 0.9, "calls": 3}}
    result = {
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "threads": 1,
            "versions": {"torch": "2", "onnx": "not installed"},
        },
        "size_px": [4000, 4000],
        "area_mm2": 1.0,
        "runs": {"reference": [run]},
        "times_as_fast": {"reference": {"median": 1.0, "least": 1.0, "most": 1.0}},
        "times_as_fast_whole": {"reference": {"median": 1.0, "least": 1.0, "most": 1.0}},
        "profiles": {"reference": {**run, "parts": parts, "network_gflop": 100.0}},
        "convolution_gflop_per_s": {"torch fp32": 250.0, "torch bf16": 500.0},
    }
    text = load("region_speed_tables").tables(result)
    assert "| reference | 2.00 (2.00 to 2.00) | 0.500 | 1.0 (1.0 to 1.0) | 3.00 | 1.00 | 6.50 (6.50 to 6.50) |" in text
    assert "| reference | 2.00 | – | 0.50 (0.90) | – | – | 100 | 200 | 80% | 40% |" in text
    assert "Other work was running in 1 of 1 runs (up to 1.9 cores)" in text
    assert "onnx" not in text
