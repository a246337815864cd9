"""Slides searched by worker processes: the same bytes as in one process, whatever happens to the workers."""

import ast
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import dask
import numpy as np
import pytest
import torch
from distributed import Client, WorkerPlugin

from mitosight import checkpoint, cohort, detections, inference, outputs
from mitosight.cohort import cluster, scheduler, worker
from mitosight.cohort.journal import Journal
from mitosight.cohort.worker import How
from mitosight.errors import InputError, UsageError
from mitosight.inference import Covering
from mitosight.methods import create
from mitosight.slide import Slide, write_tiff

SMALL = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none", "tile_px": 128}
CANDIDATES = {"weights": "none", "tile_px": 256, "normalise": "none", "widths": [8, 4]}
SOURCE = Path(cohort.__file__).parents[1]
Run = Callable[..., tuple[int, str, str]]


def slide(path: Path, seed: int = 0) -> Path:
    """448 px of noise in the colours of eosin: 6 x 6 tiles of 128 px, in three chunks of two rows."""
    noise = np.random.default_rng(seed).integers(-50, 50, (448, 448, 3))
    write_tiff(path, (np.array([200, 120, 170]) + noise).astype(np.uint8), 0.25, compression="lzw")
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.covering, "CHUNK_TILES", 12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    detector = create("retinanet", ["one"], SMALL)
    torch.nn.init.normal_(detector.class_head.layers[-1].weight, std=0.3)
    torch.nn.init.constant_(detector.class_head.layers[-1].bias, -0.5)
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL, {})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with scheduler.local(2) as made:
        made.wait_for_workers(2)
        yield made.scheduler_address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address, set_as_default=False) as found:
        yield found


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Grows by each chunk that goes into the result: its slide and its number."""
    found: list[tuple[str, int]] = []
    add = Journal.add

    def noted(self: Journal, number: int, points: detections.Detections) -> None:
        found.append((self.folder.name, number))
        add(self, number, points)

    monkeypatch.setattr(Journal, "add", noted)
    return found


def test_a_worker_dies(
    tmp_path: Path,
    model: Path,
    address: str,
    client: Client,
    mitosight: Run,
    kept: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when the first chunk is done: what it was at is done again, each chunk is once in the result."""
    bad = tmp_path / "bad.tiff"
    paths = [slide(tmp_path / "a.tiff"), bad, slide(tmp_path / "b.tiff", 1)]
    bad.write_bytes(paths[0].read_bytes()[:-30_000])
    alone = mitosight("detect", *paths, "--model", model, "--out", tmp_path / "alone")
    assert alone[0] == 1 and alone[2].startswith(f"{bad}: is truncated")
    kept.clear()
    killed: list[int] = []
    first = Lock()  # two slides are at work, and their first chunks may be done together
    add = Journal.add

    def kill(self: Journal, number: int, points: detections.Detections) -> None:
        with first:
            if not killed:
                busy = max((keys, where) for where, keys in client.processing().items())[1]
                assert client.processing()[busy]
                killed.append(client.run(os.getpid)[busy])
                os.kill(killed[0], signal.SIGKILL)
        add(self, number, points)

    monkeypatch.setattr(Journal, "add", kill)
    shared = mitosight("detect", *paths, "--model", model, "--out", tmp_path / "shared", "--scheduler", address)
    replaced = [line.replace("shared", "alone") for line in shared[1:]]
    assert (shared[0], *replaced) == alone
    for name in ("a.csv", "b.csv"):
        points = (tmp_path / "shared" / name).read_bytes()
        assert points == (tmp_path / "alone" / name).read_bytes() and points.count(b"\n") > 20
    assert sorted(kept) == [(name, number) for name in "ab" for number in range(3)]
    client.wait_for_workers(2)
    assert len(killed) == 1 and killed[0] not in client.run(os.getpid).values()


def test_interrupted_and_resumed(
    tmp_path: Path,
    model: Path,
    address: str,
    client: Client,
    mitosight: Run,
    kept: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of it is left with the scheduler, and the next run hands out what is missing alone."""
    path, out = slide(tmp_path / "a.tiff"), tmp_path / "out"
    run = ("detect", path, "--model", model, "--scheduler", address)
    assert mitosight(*run, "--out", tmp_path / "whole")[0] == 0
    assert sorted(kept) == [("a", 0), ("a", 1), ("a", 2)]
    kept.clear()
    add = Journal.add

    def stop(self: Journal, number: int, points: detections.Detections) -> None:
        add(self, number, points)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", stop)
        assert mitosight(*run, "--out", out)[::2] == (130, "mitosight: interrupted\n")
    assert len(kept) == 1 and len(list((out / ".progress" / "a").iterdir())) == 1
    assert client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks]) == []
    assert mitosight(*run, "--out", out)[0] == 0
    assert sorted(kept) == [("a", 0), ("a", 1), ("a", 2)]  # both runs together
    assert (out / "a.csv").read_bytes() == (tmp_path / "whole" / "a.csv").read_bytes()


def test_statistics_of_a_slide(tmp_path: Path, address: str, mitosight: Run) -> None:
    """A method that takes them from the whole slide finds the same, though each worker sees parts."""
    torch.manual_seed(0)
    detector = create("kondo2021", ["one", "two"], CANDIDATES)
    model = checkpoint.save(tmp_path, detector, "kondo2021", CANDIDATES, {})
    path = slide(tmp_path / "a.tiff")
    image = np.full((448, 448, 3), (235, 190, 215), np.uint8)
    for x, y in np.random.default_rng(0).integers(20, 420, (40, 2)):
        image[y - 6 : y + 6, x - 6 : x + 6] = (70, 40, 110)
    write_tiff(path, image, 0.25, compression="lzw")
    run = ("detect", path, "--model", model, "--tile-px", 128)
    assert mitosight(*run, "--out", tmp_path / "alone")[0] == 0
    assert mitosight(*run, "--out", tmp_path / "shared", "--scheduler", address)[0] == 0
    points = (tmp_path / "shared" / "a.csv").read_bytes()
    assert points == (tmp_path / "alone" / "a.csv").read_bytes() and points.count(b"\n") > 5


def test_what_a_worker_does_not_see(
    tmp_path: Path, model: Path, address: str, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where another file, or none, is at the path; the slide is told by the path as it was given."""
    slide(tmp_path / "a.tiff")
    monkeypatch.chdir(tmp_path)
    size = worker.size_of
    with monkeypatch.context() as patched:
        patched.setattr(worker, "size_of", lambda path: size(path) + 1)
        told = mitosight("detect", "a.tiff", "--model", model, "--out", "out", "--scheduler", address)[2]
    assert told.startswith("a.tiff: is another file for a worker on ")
    assert "slides and the model must lie at the same path for all workers\n" in told
    gone = tmp_path / "gone.safetensors"
    with pytest.raises(UsageError, match=r"gone.safetensors: is not there for worker tcp://"):
        scheduler.connected(address, How(gone, "", "cpu", None, False, "torch")).__enter__()
    with Slide("a.tiff") as opened:
        part = worker.Part(inference.cover(opened, checkpoint.load(model)), size(opened.path))
        assert worker._opened(part).slide.name == "a.tiff"
        shutil.move("a.tiff", "b.tiff")
        with pytest.raises(InputError, match=r"cannot be read by a worker on .* \(No such file or directory\)"):
            worker._opened(part)


class Deadly(WorkerPlugin):
    """Ends each process that reads a certain slide."""

    def setup(self, worker: Any) -> None:
        read = Covering.read_run

        def deadly(self: Covering, run: inference.covering.Run) -> np.ndarray:
            if self.slide.name == "deadly.tiff":
                os.kill(os.getpid(), signal.SIGKILL)
            return read(self, run)

        Covering.read_run = deadly  # type: ignore[method-assign]


def test_a_part_that_kills_workers(
    tmp_path: Path, model: Path, address: str, client: Client, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slide fails with one line; another, parts of which are with the same workers, is done.

    The last test of the cluster: what is started anew after it has nothing to load.
    """
    monkeypatch.setattr(inference.covering, "CHUNK_TILES", 36)
    client.register_plugin(Deadly())
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))  # fewer restarts
    good, deadly, out = slide(tmp_path / "good.tiff"), slide(tmp_path / "deadly.tiff"), tmp_path / "out"
    run = ("--model", model, "--scheduler", address, "--out", out)
    status, printed, told = mitosight("detect", deadly, good, *run)
    assert status == 1 and printed.startswith("good.tiff: ")
    assert told.splitlines() == [
        f"{deadly}: ended each worker that searched a certain part of it; is their memory too small?",
        f"mitosight: 1 of 2 slides failed; see {out / 'summary.csv'}",
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("local:0", "--scheduler local:0; accepted are local, local:N"),
        ("here", "--scheduler here; accepted are local, local:N"),
        ("tcp://127.0.0.1:9", "no scheduler answers at tcp://127.0.0.1:9 ("),
        ("nonsense://here", "no scheduler answers at nonsense://here ("),
    ],
)
def test_wrong_schedulers(given: str, told: str) -> None:
    how = How(Path("model.safetensors"), "", "cpu", None, False, "torch")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(UsageError) as refused:
        scheduler.connected(given, how).__enter__()
    assert str(refused.value).startswith(told) and "\n" not in str(refused.value)


def test_without_dask(tmp_path: Path, model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "find_spec", lambda name: None)
    run = ("detect", slide(tmp_path / "a.tiff"), "--model", model, "--out", tmp_path / "out", "--scheduler", "local")
    status, _, told = mitosight(*run)
    assert (status, told) == (
        2,
        "mitosight: error: dask is not installed; python3 -m pip install 'mitosight[cluster]'\n",
    )


def test_dask_is_imported_where_it_is_asked_for() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {n.name for n in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not {name.split(".")[0] for name in names} & {"dask", "distributed"}, path


def test_a_preparation_of_each_slide_stays_in_one_process(tmp_path: Path, model: Path) -> None:
    settings, detector = replace(cohort.Settings(), scheduler="local"), checkpoint.load(model)
    with pytest.raises(UsageError, match="--scheduler for slides with a preparation of their own; search them without"):
        cohort.detect_slides([], model, detector, tmp_path / "out", settings, None, lambda slide: None)  # type: ignore
    assert not (tmp_path / "out").exists()


def test_work_under_way_is_bounded() -> None:
    class Workers:
        there = 2

        def nthreads(self) -> dict[str, int]:
            return {f"tcp://{n}": 1 for n in range(self.there)}

    workers = Workers()
    slots = cluster._Slots(workers)  # type: ignore[arg-type]
    assert [slots.take() for _ in range(6)] == [True] * 4 + [False] * 2
    slots.free()
    with slots.alone() as take:
        assert not slots.take() and not take()  # three others are not done yet
        slots.free(3)
        assert take() and not take() and not slots.take()
        slots.free()
    workers.there, slots._asked = 0, float("-inf")  # all of them died; new ones will come
    assert [slots.take() for _ in range(3)] == [True, True, False]


def test_parts_are_whole_chunks(tmp_path: Path, model: Path) -> None:
    """However large chunks are where it is searched, a part is one of them."""
    with Slide(slide(tmp_path / "a.tiff")) as opened:
        covering = inference.cover(opened, checkpoint.load(model))
        assert [cluster._tiles(covering, n) for n in range(len(covering.chunks))] == [12, 12, 12]
        parts = [cluster._chunk(covering, n) for n in range(3)]
        assert [tile for part in parts for tile in part.tiles] == covering.tiles
        assert all(len(part.chunks) == 1 for part in parts)


def test_models_are_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[How] = []
    monkeypatch.setattr(worker, "_load", lambda how: loaded.append(how) or (how, None))
    monkeypatch.setattr(worker, "_kept", {})
    monkeypatch.setattr(worker, "MOST_KEPT", 1, raising=False)
    one = How(model, outputs.sha256(model), "cpu", None, False, "torch")
    for how in (one, one, replace(one, bf16=True), replace(one, bf16=True), one):
        assert worker._ready(how)[0] == how  # type: ignore[comparison-overlap]
    assert loaded == [one, replace(one, bf16=True), one]
