"""A slide and a detector to Detections: overlapping tiles, each point kept by the tile that owns it, suppressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mitosight.colours import changed
from mitosight.detections import Detections, concatenate
from mitosight.device import exact, release
from mitosight.inference.covering import Covering, Run, cover
from mitosight.methods.detector import Detector
from mitosight.pipeline import ahead
from mitosight.slide import Slide
from mitosight.tiles import Tile, Tissue

MOST_WORKERS = 4  # each holds the activations of a batch
GPU_BATCH = 16
GPU_READERS = 8  # threads; one decodes far less than a GPU searches

Progress = Callable[[int, int, float], None]
"""Called with tiles done, tiles in all, and the mm² that were searched since the last call."""


@dataclass(frozen=True)
class Workers:
    """Threads that search tiles: reading, network and decoding of different batches go on at the same time.

    Attributes:
        pool: of threads, each with its share of torch's.
        number: of them.
        batch: tiles at a time for each; by default one on a CPU, sixteen on a GPU.
        bf16: whether the network runs in half precision.
        readers: runs that are read at the same time.
    """

    pool: Executor
    number: int
    batch: int
    bf16: bool
    readers: int = 1


@contextmanager
def workers(
    detector: Detector, batch: int | None = None, bf16: bool = False, most: int = MOST_WORKERS
) -> Iterator[Workers]:
    """As many workers as torch has threads, `most` at most, which share torch's threads while they are there."""
    threads = torch.get_num_threads()
    by = made(next(detector.parameters()).device, threads, batch, bf16, most)
    try:
        with exact():
            yield by
    finally:
        by.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def made(device: torch.device, threads: int, batch: int | None, bf16: bool, most: int = MOST_WORKERS) -> Workers:
    """Workers on a device that share `threads` threads of torch from now on; see `workers`, which gives these back.

    On a GPU each has a stream of its own, so that one copies and decodes while the network of another computes.
    """
    number = max(1, min(threads, most))
    torch.set_num_threads(max(1, threads // number))
    gpu = device.type == "cuda"
    own = partial(_own_stream, device, count()) if gpu else None
    pool = ThreadPoolExecutor(number, thread_name_prefix="search", initializer=own)
    return Workers(pool, number, batch or (GPU_BATCH if gpu else 1), bf16, min(threads, GPU_READERS) if gpu else 1)


@cache
def _stream(device: torch.device, number: int) -> Any:
    """One of the streams, which are made once: freed memory is kept for the stream that used it."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _own_stream(device: torch.device, numbers: Iterator[int]) -> None:
    torch.cuda.set_stream(_stream(device, next(numbers)))


def detect(
    slide: Slide,
    detector: Detector,
    *,
    tile_px: int | None = None,
    batch: int | None = None,
    bf16: bool = False,
    tissue: Tissue | None = None,
    progress: Progress | None = None,
) -> Detections:
    """Finds the figures of a slide; deterministic for one device, tile size, batch and number of threads.

    Args:
        slide: read at its own resolution where that is within the detector's tolerance, else at the detector's mpp.
        detector: runs on the device where its weights are, in evaluation mode.
        tile_px: side of the tiles; the detector's own by default.
        batch, bf16: see `Workers`.
        tissue: tiles that own none of it are passed over, and points outside are dropped.

    Returns all points above the detector's floor in level-0 px, best first.

    Raises:
        InputError: the slide's mpp is unknown, the slide is smaller than a tile, or its file is damaged.
    """
    covering = cover(slide, detector, tile_px, tissue)
    if not covering.tiles:
        return Detections(mpp=slide.mpp)
    with workers(detector, batch, bf16, min(MOST_WORKERS, len(covering.tiles))) as by:
        found = search(covering, own(detector, covering), range(len(covering.chunks)), by, progress)
        every = gathered((points for _, points in found), slide.mpp, detector.suppression_um)
    return every if tissue is None else every[tissue.holds(every.xy)]


def own(detector: Detector, covering: Covering) -> Detector:
    """The detector that searches the slide of a covering: with its statistics, where they count."""
    return detector.for_slide(covering.measured(detector.blocks))


def search(
    covering: Covering, detector: Detector, chunks: Iterable[int], by: Workers, progress: Progress | None = None
) -> Iterator[tuple[int, Detections]]:
    """The points of each of the chunks of a covering, with its number, as they are done; in level-0 px.

    A detector that is in training goes back to it at the end.
    """
    numbers = list(chunks)
    total = len(covering.tiles)
    done = total - sum(len(run) for number in numbers for run in covering.chunks[number])
    training = detector.training
    detector.eval()
    found: list[Detections] = []
    try:
        with ThreadPoolExecutor(by.readers, thread_name_prefix="read") as reader:
            parts = _parts(covering, numbers, by, reader)
            results = ahead(partial(_points, detector, covering, by.bf16), parts, by.pool, 2 * by.number)
            for number, tiles, points, last in results:
                found.append(points)
                done += len(tiles)
                if progress is not None:
                    progress(done, total, sum(_area_px(tile) for tile in tiles) * (covering.mpp / 1000) ** 2)
                if last:
                    yield number, concatenate(found)
                    found = []
                    release()
    finally:
        detector.train(training)


def gathered(parts: Iterable[Detections], mpp: float, suppression_um: float) -> Detections:
    """The points of a whole slide, best first: of those within `suppression_um` of each other only the best."""
    every = concatenate(list(parts))
    return Detections(every.xy, every.score, mpp).suppressed(suppression_um / mpp)


@dataclass(frozen=True)
class _Part:
    """Tiles that a worker searches together, and their px; `last` of its chunk or not."""

    chunk: int
    tiles: Sequence[Tile]
    pixels: Sequence[NDArray[np.uint8]]
    last: bool


def _parts(covering: Covering, numbers: Sequence[int], by: Workers, reader: Executor) -> Iterator[_Part]:
    """The batches of each chunk, over the borders of its runs; the next runs are read while one is searched."""
    runs = [(n, run, k + 1 == len(covering.chunks[n])) for n in numbers for k, run in enumerate(covering.chunks[n])]

    def read(item: tuple[int, Run, bool]) -> tuple[int, Run, bool, NDArray[np.uint8]]:
        return (*item, covering.read_run(item[1]))

    waiting: list[tuple[Tile, NDArray[np.uint8]]] = []
    batch = max(by.batch, covering.batch)
    for number, run, ends, pixels in ahead(read, runs, reader, by.readers):
        left = [tile.x_px - run[0].x_px for tile in run]
        waiting += [(tile, pixels[:, x : x + tile.side_px]) for x, tile in zip(left, run, strict=True)]
        while len(waiting) >= batch or (ends and waiting):
            tiles, cut = zip(*waiting[:batch], strict=True)
            del waiting[:batch]
            yield _Part(number, tiles, cut, ends and not waiting)


def _points(
    detector: Detector, covering: Covering, bf16: bool, part: _Part
) -> tuple[int, Sequence[Tile], Detections, bool]:
    """What a batch of tiles holds, each point kept by the tile that owns it."""
    device = next(detector.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        found = detector.detect(as_images([changed(px, detector.table) for px in part.pixels], device))
    kept = []
    for tile, points in zip(part.tiles, found, strict=True):
        placed = points.moved((tile.x_px, tile.y_px))
        kept.append(placed[tile.owned(placed.xy)].moved((0, 0), covering.scale))
    return part.chunk, part.tiles, concatenate(kept), part.last


def as_images(pixels: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Tiles (side, side, 3) as (N, 3, side, side) in [0, 1], channels last in memory.

    To a GPU they go as bytes, from pinned memory, while this thread goes on; it computes once what was asked of it
    before, such as a step of an adaptation, is done.
    """
    gpu = device.type == "cuda"
    held = torch.empty((len(pixels), *pixels[0].shape), dtype=torch.uint8, pin_memory=gpu)
    np.stack(pixels, out=held.numpy())
    if gpu:
        torch.cuda.current_stream(device).wait_stream(torch.cuda.default_stream(device))
    images = held.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return images.to(torch.float32).div_(255)


def _area_px(tile: Tile) -> int:
    x0, y0, x1, y1 = tile.owns
    return (x1 - x0) * (y1 - y0)
