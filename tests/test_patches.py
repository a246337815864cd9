"""The pool of candidates and the patches around them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mitosight import pool
from mitosight.candidates import BlueRatio, Haematoxylin
from mitosight.errors import InputError
from mitosight.patches import PatchSource
from mitosight.pool import NEGATIVE, NEITHER, POSITIVE, Pool
from mitosight.regions import Domain, Region


def region(name: str, scanner: str, xy: list[tuple[float, float]], label: list[int]) -> Region:
    return Region(name, 200, 160, np.array(xy), np.array(label), domain=Domain(scanner=scanner), mpp=0.25)


A = region("a.png", "S", [(100, 50), (20, 20)], [1, 2])
B = region("b.png", "T", [], [])


def test_distance_is_the_larger_of_the_axes_at_the_working_mpp() -> None:
    found = pool.of_region(0, A, np.array([[100, 50], [112, 54], [100, 110]]), 0.5, True)
    assert found.figure_px.tolist() == [0, 6, 30]
    assert found.hard_px.tolist() == [40, 46, 45]
    assert pool.of_region(1, B, np.array([[1.0, 2.0]]), 1.0, True).figure_px.tolist() == [np.inf]


def test_labels_by_hand() -> None:
    one = pool.of_region(0, A, np.array([[100, 50], [130, 50], [131, 50], [180, 50], [181, 50]]), 1.0, True)
    assert one.labels(30, 80).tolist() == [POSITIVE, POSITIVE, NEITHER, NEITHER, NEGATIVE]
    other = pool.of_region(1, B, np.array([[1.0, 2.0]]), 1.0, False)
    assert pool.joined([one, other]).labels(30, 80).tolist()[-1] == NEITHER


def test_a_pool_comes_back_from_its_file(tmp_path: Path) -> None:
    both = pool.joined([pool.of_region(0, A, np.array([[1.5, 2.5], [3, 4]]), 1.0, True)] * 2)
    both.write(tmp_path / "train.safetensors", [A], {"finder": "f"})
    again = pool.read(tmp_path / "train.safetensors", [A], {"finder": "f"})
    for name in ("region", "xy", "figure_px", "hard_px", "labelled"):
        assert np.array_equal(getattr(again, name), getattr(both, name))
        assert getattr(again, name).dtype == getattr(both, name).dtype


def test_a_million_candidates_take_21_mb() -> None:
    xy = np.zeros((1_000_000, 2))
    million = pool.of_region(0, B, xy, 1.0, True)
    size = sum(getattr(million, f).nbytes for f in ("region", "xy", "figure_px", "hard_px", "labelled"))
    assert size == 21_000_000


def test_no_pool(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.safetensors: is no pool of candidates"):
        pool.read(tmp_path / "x.safetensors", [A], {})


def test_a_pool_of_another_finder_or_of_other_regions_is_refused(tmp_path: Path) -> None:
    file, finder = tmp_path / "train.safetensors", Haematoxylin()
    found_by = {"finder": finder.name, **asdict(finder)}
    pool.of_region(0, A, np.array([[1.5, 2.5]]), 1.0, True).write(file, [A], found_by)
    assert len(pool.read(file, [A], found_by)) == 1
    told = r"train\.safetensors: holds candidates that were found otherwise \(share 0\.4, here 0\.5\); remove it"
    with pytest.raises(InputError, match=told):
        pool.read(file, [A], {**found_by, "share": 0.5})
    with pytest.raises(InputError, match="finder haematoxylin, here blue-ratio"):
        pool.read(file, [A], {"finder": "blue-ratio", **asdict(BlueRatio())})
    with pytest.raises(InputError, match="candidates of other regions; remove it"):
        pool.read(file, [A, B], found_by)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images whose red is x, green is y, blue is the image's number."""
    for k, name in enumerate(("a.png", "b.png")):
        y, x = np.mgrid[0:160, 0:200]
        Image.fromarray(np.stack([x, y, np.full_like(x, k)], axis=2).astype(np.uint8)).save(tmp_path / name)
    return tmp_path


def source(images: Path, figures: int, others: int, **how: object) -> PatchSource:
    n = figures + others
    xy = np.column_stack([np.linspace(30, 170, n), np.full(n, 80.0)]).astype(np.float32)
    inf = np.full(n, np.inf, np.float32)
    every = Pool((np.arange(n) % 2).astype(np.int32), xy, inf, inf, np.ones(n, bool))
    label = np.array([POSITIVE] * figures + [NEGATIVE] * others)
    settings: dict[str, object] = {"patch_px": 20, "size": 4, "length": 6, **how}
    return PatchSource(images, [A, B], ["S", "T"], every, np.arange(n), label, label == POSITIVE, **settings)  # type: ignore[arg-type]


def test_a_patch_is_centred_on_its_candidate_and_moved_inside_the_image(images: Path) -> None:
    patches = source(images, 1, 1)
    patches.pool.xy[:] = [(100, 80), (199, 2)]
    first, second = (patches.patch(k) * 255 for k in (0, 1))
    assert first.shape == (3, 20, 20)
    assert (first[0, 0, 0], first[0, 0, -1]) == (90, 109)
    assert (first[1, 0, 0], first[1, -1, 0]) == (70, 89)
    assert (second[0, 0, 0], second[1, 0, 0]) == (180, 0)
    assert (first[2].unique().item(), second[2].unique().item()) == (0, 1)


def test_stored_order_gives_each_candidate_once(images: Path) -> None:
    patches = source(images, 3, 7)
    batches = [patches[k] for k in range(len(patches))]
    assert [len(b) for b in batches] == [4, 4, 2]
    assert torch.cat([b.label for b in batches]).tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert batches[0].domain.tolist() == [0, 1, 0, 1]
    assert batches[0].columns["scanner"] == ["S", "T", "S", "T"]


def test_a_round_of_the_shuffled_order_gives_each_once(images: Path) -> None:
    patches = source(images, 3, 9, order="shuffled")
    rounds = [[k for i in of for k in patches._drawn(i).tolist()] for of in (range(3), range(3, 6))]
    assert [sorted(r) for r in rounds] == [list(range(12))] * 2
    assert rounds[0] != rounds[1]


def test_a_round_of_the_balanced_order_has_as_many_others_as_figures(images: Path) -> None:
    patches = source(images, 4, 90, order="balanced")
    for of in (range(2), range(2, 4)):
        drawn = [k for i in of for k in patches._drawn(i).tolist()]
        assert sorted(k for k in drawn if k < 4) == [0, 1, 2, 3]
        assert len({k for k in drawn if k >= 4}) == 4
    few = source(images, 4, 2, order="balanced")
    assert sum(k >= 4 for i in range(2) for k in few._drawn(i)) == 4


def test_a_batch_is_a_function_of_seed_and_index(images: Path) -> None:
    one, other = source(images, 4, 8, order="shuffled"), source(images, 4, 8, order="shuffled")
    one[5]
    assert torch.equal(one[1].images, other[1].images)
    assert not torch.equal(one[1].images, source(images, 4, 8, order="shuffled", seed=1)[1].images)


def test_nothing_to_learn_from(images: Path) -> None:
    with pytest.raises(InputError, match="no candidate to learn from"):
        source(images, 0, 0)
    with pytest.raises(InputError, match="no candidate lies on a figure"):
        source(images, 0, 5, order="balanced")


def test_the_chosen_half_of_a_batch_keeps_its_classes(images: Path) -> None:
    batch = source(images, 2, 2)[0]
    half = batch.only(torch.tensor([True, False, False, True]))
    assert half.label.tolist() == [1, 0]
    assert half.to(torch.device("cpu")).label.tolist() == [1, 0]
