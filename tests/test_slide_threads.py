"""Several threads read one slide: what they want is decoded once, side by side, and kept up to a number of bytes."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitosight.errors import InputError
from mitosight.slide import Slide, write_tiff
from mitosight.slide.pillow_reader import PillowReader
from mitosight.slide.segments import Segment, Segments

WAIT = 60.0  # seconds until a test gives up


def segment(nbytes: int = 30) -> Segment:
    return Segment(np.zeros((1, nbytes, 1), np.uint8), 0, 0, 0)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def waiting(segments: Segments, key: int, calls: int) -> tuple[list[Future[Segment]], threading.Event, list[int]]:
    """`calls` threads that ask for `key`, the first of which decodes until the event is set; and how often it did."""
    begun, go, counted = threading.Event(), threading.Event(), []

    def decode() -> Segment:
        counted.append(key)
        begun.set()
        assert go.wait(WAIT)
        return segment()

    pool = ThreadPoolExecutor(calls)
    futures = [pool.submit(segments.get, key, decode)]
    assert begun.wait(WAIT)
    futures += [pool.submit(segments.get, key, decode) for _ in range(calls - 1)]
    pool.shutdown(wait=False)
    return futures, go, counted


def test_what_several_ask_for_is_decoded_once() -> None:
    segments = Segments(1000)
    futures, go, counted = waiting(segments, 7, 5)
    assert not any(future.done() for future in futures)
    go.set()
    assert len({id(future.result(WAIT)) for future in futures}) == 1 and counted == [7]


def test_others_are_decoded_meanwhile() -> None:
    segments = Segments(1000)
    meeting = threading.Barrier(3, timeout=WAIT)  # passed only when three decode at the same time

    def decode() -> Segment:
        meeting.wait()
        return segment()

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(segments.get, key, decode) for key in range(3)]:
            future.result(WAIT)
    assert set(segments.keys()) == {0, 1, 2}


def test_an_error_goes_to_all_and_is_not_kept() -> None:
    segments = Segments(1000)
    begun, go = threading.Event(), threading.Event()

    def broken() -> Segment:
        begun.set()
        assert go.wait(WAIT)
        raise InputError("a.tif", "is damaged")

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(segments.get, 0, broken)]
        assert begun.wait(WAIT)
        futures.append(pool.submit(segments.get, 0, broken))
        go.set()
        for future in futures:
            with pytest.raises(InputError, match=r"a\.tif: is damaged"):
                future.result(WAIT)
    assert segments.get(0, segment).pixels is not None and segments.keys() == [0]


def test_an_interrupt_leaves_nobody_waiting() -> None:
    segments = Segments(1000)
    begun, go = threading.Event(), threading.Event()

    def interrupted() -> Segment:
        begun.set()
        assert go.wait(WAIT)
        raise KeyboardInterrupt

    def decode() -> Segment:  # where the second comes only after the first has left
        raise CancelledError

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(segments.get, 0, interrupted)
        assert begun.wait(WAIT)
        second = pool.submit(segments.get, 0, decode)
        go.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(WAIT)
        with pytest.raises(CancelledError):
            second.result(WAIT)
    assert segments.keys() == []


def test_the_limit_is_in_bytes_and_the_oldest_go() -> None:
    segments = Segments(100)
    for key in (0, 1, 2):
        segments.get(key, segment)  # 30 bytes each
    segments.get(0, segment)  # asked for again
    segments.get(3, segment)
    assert segments.keys() == [2, 0, 3]
    segments.get(4, lambda: segment(500))
    assert segments.keys() == [4]  # larger than the limit: alone
    segments.get(5, segment)
    assert segments.keys() == [5]
    segments.clear()
    for key in (0, 1, 2):
        segments.get(key, segment)
    assert segments.keys() == [0, 1, 2]


def test_a_tile_that_is_not_stored_takes_no_room() -> None:
    segments = Segments(100)
    for key in range(50):
        segments.get(key, lambda: Segment(None, 0, 0, 0))
    segments.get(50, lambda: segment(100))
    assert len(segments.keys()) == 51


@pytest.mark.parametrize("kind", ["tiff", "svs by openslide", "png"])
def test_threads_read_what_one_reads(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitosight.slide.tifffile_reader.CACHE_BYTES", 8 * 64 * 64 * 3)  # tiles come and go
    image, path = noise(500, 400), tmp_path / "a.img"
    if kind == "png":
        Image.fromarray(image).save(path, format="PNG")
    else:
        write_tiff(path, image, 0.25, tile_px=64, compression="lzw", pyramid=True)
    if kind == "svs by openslide":
        monkeypatch.setattr("mitosight.slide.same_pixels._same", lambda fast, slow: False)
    rng = np.random.default_rng(1)
    places = [(int(x), int(y), int(w), int(h)) for x, y, w, h in rng.integers(1, 200, (200, 4))]
    with Slide(path) as slide, ThreadPoolExecutor(6) as pool:
        assert slide.reader == {"tiff": "tifffile", "png": "pillow"}.get(kind, "openslide")
        for (x, y, w, h), found in zip(
            places, pool.map(lambda p: slide.read((p[0], p[1]), (p[2], p[3])), places), strict=True
        ):
            np.testing.assert_array_equal(found, image[y : y + h, x : x + w])


def test_a_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(50, 40)).save(tmp_path / "a.png")
    reader, counted = PillowReader(tmp_path / "a.png"), []
    decoded, meeting = reader._decoded, threading.Barrier(4, timeout=WAIT)

    def counting() -> np.ndarray:
        counted.append(1)
        return decoded()

    def read(_: int) -> np.ndarray:
        meeting.wait()
        return reader.region(0, 0, 0, 50, 40)

    monkeypatch.setattr(reader, "_decoded", counting)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))
    assert counted == [1]


def test_tile_sizes(tmp_path: Path) -> None:
    import tifffile

    write_tiff(tmp_path / "a.tiff", noise(300, 200), 0.25, tile_px=64, pyramid=True)
    tifffile.imwrite(tmp_path / "b.tif", noise(300, 200), rowsperstrip=16, photometric="rgb", metadata=None)
    Image.fromarray(noise(300, 200)).save(tmp_path / "c.png")
    slides = [Slide(tmp_path / name) for name in ("a.tiff", "b.tif", "c.png")]
    assert [slide.tile_size(0) for slide in slides] == [(64, 64), (300, 16), None]
    assert slides[0].tile_size(2) == (64, 64)
