"""What the devices' helper promises where it can be seen from outside."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mitosight.device import _trim, release

MIB = 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux" or _trim() is None, reason="only glibc keeps free memory back")
def test_free_memory_goes_back_to_the_system() -> None:
    release()
    before = _resident()
    pieces = [np.ones(100 * 1024, dtype=np.uint8) for _ in range(3000)]  # each too small for a map of its own
    kept = pieces[::100]
    del pieces
    held = _resident() - before
    release()
    assert held > 200 * MIB  # the gaps between what lives
    assert _resident() - before < 60 * MIB
    assert sum(int(piece.sum()) for piece in kept) == 30 * 100 * 1024
