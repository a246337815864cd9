"""Peak memory of a training on 10,000, 100,000 and 1,000,000 candidates, and the size of their pool.

    python benchmarks/candidate_memory.py --work runs/candidate-memory --steps 20 --out memory.json
    python benchmarks/candidate_memory.py --clusters --out clusters.json

Draws four regions (phantoms), looks for their candidates, and repeats these, moved by a few px, until there are enough.
The four images go by 200 names, so that as many slides are opened as in a training on 200 regions. For each size a
fresh process reads the pool from its file and trains a small classifier on batches from `PatchSource`. Prints JSON:
peak resident memory of the process before the pool is read and at its end, bytes of the pool's arrays, and seconds of
the steps. With --clusters it is the first sampler of `wang2023` instead: ten clusters of as many samples, of which a
fifth is fitted on, with random features of 4,096 numbers in parts of 150, as its ResNet38 gives them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mitosight import phantom, pool, regions
from mitosight.candidates import Haematoxylin
from mitosight.methods.parts.dgsb import cluster_of_each
from mitosight.outputs import versions, write_json
from mitosight.patches import PatchSource, candidates_of
from mitosight.pool import Pool
from mitosight.regions import Region

DRAWN, REGIONS = 4, 200  # regions that are drawn, and names that they go by
SIDE_UM = 256.0
MOVED_PX = 8
FINDER = Haematoxylin()
PATCH_PX, BATCH = 64, 32
CLUSTERS, SHARE, FEATURES, PART = 10, 0.2, 4096, 150


def named_regions(work: Path) -> list[Region]:
    """The drawn regions under all their names; drawn where they are not there yet."""
    folder = work / "drawn"
    if not (folder / "annotations.json").is_file():
        phantom.write_pairs(folder, [("phantom-A", seed) for seed in range(DRAWN)], (SIDE_UM, SIDE_UM))
    drawn = regions.load(folder).regions
    found = []
    for k in range(REGIONS):
        region = drawn[k % DRAWN]
        name = folder / "images" / f"{k}-{region.file_name}"
        if not name.exists():
            os.link(folder / "images" / region.file_name, name)
        found.append(replace(region, file_name=name.name))
    return found


def made(work: Path, every: list[Region], count: int) -> Path:
    """The file of a pool of `count` candidates: those of the drawn regions, again and again, a few px away."""
    file = work / f"pool-{count}.safetensors"
    own = [candidates_of(k, every[k], work / "drawn" / "images", FINDER, True) for k in range(DRAWN)]
    rng, parts, left, k = np.random.default_rng(0), [], count, 0
    while left > 0:
        of = own[k % DRAWN]
        some = of[np.arange(min(left, len(of)))]
        moved = some.xy + rng.uniform(-MOVED_PX, MOVED_PX, some.xy.shape).astype(np.float32)
        parts.append(replace(some, region=np.full(len(some), k % REGIONS, np.int32), xy=moved))
        left, k = left - len(some), k + 1
    pool.joined(parts).write(file, every, {"finder": FINDER.name})
    return file


def trained(work: Path, every: list[Region], count: int, steps: int) -> dict[str, Any]:
    """Trains on a pool in this process; returns what it took."""
    before = peak_mb()
    candidates: Pool = pool.read(work / f"pool-{count}.safetensors", every, {"finder": FINDER.name})
    label = candidates.labels(25, 25)
    chosen = np.arange(len(candidates))
    images, scanners = work / "drawn" / "images", [every[0].domain.scanner]
    figure = label == pool.POSITIVE
    source = PatchSource(
        images, every, scanners, candidates, chosen, label, figure, PATCH_PX, BATCH, order="shuffled", length=steps
    )
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    optimiser, started = torch.optim.Adam(network.parameters()), time.perf_counter()
    for step in range(steps):
        batch = source[step]
        optimiser.zero_grad()
        functional.cross_entropy(network(batch.images), batch.label).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    seconds = time.perf_counter() - started
    return {
        "candidates": len(candidates),
        "figures": int(figure.sum()),
        "pool_bytes": sum(getattr(candidates, f.name).nbytes for f in fields(Pool)),
        "peak_mb_before": before,
        "peak_mb": peak_mb(),
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def clustered(count: int) -> dict[str, Any]:
    """Clusters samples in this process; returns what it took."""
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((PART, FEATURES), dtype=np.float32)
    cluster_of_each(lambda index: (spread for _ in range(2)), 2 * PART, CLUSTERS, 1.0, 0)  # loads the libraries
    before, started = peak_mb(), time.perf_counter()

    def features(index: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(index), PART):
            size = min(PART, len(index) - start)
            yield rng.permutation(spread)[:size] + rng.standard_normal((size, 1), dtype=np.float32)

    cluster = cluster_of_each(features, count, CLUSTERS, SHARE, 0)
    seconds = round(time.perf_counter() - started, 1)
    told = {"samples": len(cluster), "clusters": len(np.unique(cluster)), "peak_mb_before": before}
    return {**told, "peak_mb": peak_mb(), "seconds": seconds}


def peak_mb() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Makes the pools, trains on each in a process of its own, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/candidate-memory"))
    parser.add_argument("--steps", type=int, default=20, help="batches of 32 patches")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="JSON of the results")
    parser.add_argument("--clusters", action="store_true", help="the first sampler of wang2023")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one and given.clusters:
        print(json.dumps(clustered(given.one)))
        return
    every = [] if given.clusters else named_regions(given.work)
    if given.one:
        print(json.dumps(trained(given.work, every, given.one, given.steps)))
        return
    rows = []
    for count in given.counts:
        if given.clusters:
            command = [sys.executable, __file__, "--clusters"]
        else:
            made(given.work, every, count)
            command = [sys.executable, __file__, "--work", str(given.work), "--steps", str(given.steps)]
        done = subprocess.run([*command, "--one", str(count)], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
    drawn = {} if given.clusters else {"regions": REGIONS, "images": DRAWN}
    result = {"command": sys.argv[1:], "versions": versions(), **drawn, "rows": rows}
    print(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
