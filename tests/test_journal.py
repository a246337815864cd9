"""Chunks that are kept while a slide is searched."""

from pathlib import Path

import numpy as np

from mitosight.cohort.journal import Journal
from mitosight.detections import Detections


def test_what_is_kept_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {n: Detections(rng.uniform(0, 1e5, (n, 2)), rng.random(n)) for n in (0, 3, 12)}
    journal = Journal(tmp_path / "progress" / "a", "key")
    assert journal.done() == {}
    for number, points in parts.items():
        journal.add(number, points)
    found = Journal(tmp_path / "progress" / "a", "key").done()
    assert list(found) == [0, 3, 12]
    for number, points in parts.items():
        assert np.array_equal(found[number].xy, points.xy) and np.array_equal(found[number].score, points.score)
    journal.remove()
    assert not (tmp_path / "progress").exists()


def test_chunks_of_another_search_and_damaged_ones_go(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a", "key")
    for number in range(4):
        journal.add(number, Detections(np.ones((1, 2)), np.ones(1)))
    Journal(tmp_path / "a", "other").add(1, Detections())
    file = tmp_path / "a" / "000002.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    (tmp_path / "a" / ".000003.77.partial.safetensors").write_bytes(b"half")  # left by a kill
    assert list(journal.done()) == [0, 3]
    assert not file.exists() and not (tmp_path / "a" / "000001.safetensors").exists()


def test_two_slides_leave_each_other_alone(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "p" / "one", "k"), Journal(tmp_path / "p" / "two", "k")
    one.add(0, Detections())
    two.add(0, Detections())
    one.remove()
    assert list(two.done()) == [0]
