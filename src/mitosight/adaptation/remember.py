"""Which samples of the training slides a model remembers: those it is surest of."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mitosight import checkpoint, modelfile, recipe
from mitosight.adaptation.memory import FILE, Coding, Memory, encoded
from mitosight.batch import Batch
from mitosight.dataset import TileSource
from mitosight.errors import InputError, UsageError
from mitosight.material import gather
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.patches import PatchSource
from mitosight.regions import DataFolder
from mitosight.training import lend

PATCHES, TILES = (10_000, 10), (200, 100)  # remembered of each scanner, and how many of them mitotic
VALIDATION = 2_000  # figures, and others, that the guard sees of each scanner
SEEN_TILES = 4  # tiles that are looked at for each that is remembered
AT_ONCE = 256


@dataclass(frozen=True)
class Choice:
    """What is remembered of each scanner.

    Attributes:
        samples: 0 for 10,000 patches (the paper's), or 200 tiles.
        mitotic: how many of these are, or hold, mitotic figures; None for 10 patches (the paper's), or 100 tiles. Of a
            model that learned from as many mitoses as others None remembers such a mixture: as many of both as there
            are mitoses, up to `samples`. Ten among ten thousand are what the paper's training saw, but would tell this
            model that mitoses have become rare.
        coding: a patch of 64 px takes about 2.5 kB as JPEG, 6.5 kB as PNG. What is adapted to is coded alike, so that
            the coding does not tell source from target.
        look_at: candidates that are looked at in all, besides those on figures; 0 for every one.
    """

    samples: int = 0
    mitotic: int | None = None
    coding: Coding = "jpeg"
    look_at: int = 0

    def of(self, patches: bool, balanced: bool = False) -> tuple[int, int]:
        """Samples of each scanner and how many of them are mitotic, for a model that learned `balanced` or not.

        Raises:
            UsageError: more mitotic ones than samples.
        """
        samples, mitotic = PATCHES if patches else TILES
        samples = self.samples or samples
        mitotic = samples // 2 if balanced else min(mitotic, samples)
        mitotic = mitotic if self.mitotic is None else self.mitotic
        if not 0 <= mitotic <= samples:
            raise UsageError(None, f"{mitotic} of {samples} samples mitotic", "expected at most as many as samples")
        return samples, mitotic


def remember(model: Path, data: DataFolder, choice: Choice, device: torch.device) -> Path:
    """Writes the memory of a model beside it, from the data folder that it was trained on; returns the file.

    Of each scanner the samples of class "mitotic" with the highest probability of a mitosis, and the others with the
    lowest (training part); and for the guard, of the validation part, the figures and the others that are likeliest
    to be taken for figures, since only these change a score.

    Raises:
        InputError: the folder lacks a scanner or a figure that the model learned from, or cannot be read.
        UsageError: the method has no domain branch.
    """
    file = modelfile.locate(model)
    detector = checkpoint.load(file).to(device)
    trained = recipe_of(file)
    material = gather(trained, data)
    if tuple(material.scanners) != detector.scanners:
        there, known = ", ".join(material.scanners), ", ".join(detector.scanners)
        raise InputError(None, f"--data has the scanners {there}", f"the model learned from {known}")
    workshop = lend(trained, data.images, material, detector, file.parent, device, lambda: None)
    learned, judged = detector.batches(workshop, "train"), detector.batches(workshop, "val")
    patches = isinstance(learned, PatchSource)
    samples, mitotic = choice.of(patches, detector.learns_balanced)
    sure = chosen(detector, once(learned, samples, choice.look_at), False, (mitotic, samples - mitotic), choice.coding)
    kept = [
        *(even(sure) if detector.learns_balanced and choice.mitotic is None else sure),
        *chosen(detector, once(judged, samples, choice.look_at), True, (VALIDATION, VALIDATION), choice.coding),
    ]
    gathered(kept, detector, patches, choice, sha256(file)).write(file.with_name(FILE))
    return file.with_name(FILE)


def recipe_of(model: Path) -> recipe.Recipe:
    """The recipe by which a model was trained.

    Raises:
        InputError: the model does not say.
    """
    told = checkpoint.read_header(model)["provenance"]
    if not isinstance(told, dict) or "recipe" not in told:
        raise InputError(model, "does not say how it was trained", "adapt a model that mitosight train wrote")
    return recipe.parse(told["recipe"], model)


def once(source: Any, samples: int, look_at: int) -> PatchSource | TileSource:
    """The same source without augmentation: each candidate once, or some tiles for each that is remembered."""
    if isinstance(source, TileSource):
        return replace(source, augment=None, length=math.ceil(SEEN_TILES * samples / source.tiles_per_scanner))
    if not isinstance(source, PatchSource):
        raise UsageError(None, f"{type(source).__name__} cannot be remembered", "expected tiles or patches")
    index = np.arange(len(source.chosen))
    others = np.flatnonzero(source.label != 1)
    if look_at and len(others) > look_at:
        drawn = np.random.default_rng(source.seed).choice(others, look_at, replace=False)
        index = np.sort(np.concatenate([np.flatnonzero(source.label == 1), drawn]))
    return replace(
        source,
        chosen=source.chosen[index],
        label=source.label[index],
        figure=source.figure[index],
        order="stored",
        size=AT_ONCE,
        augment=None,
    )


@dataclass(frozen=True, order=True)
class Sample:
    """One sample, ordered by how much it is wanted; equals by lot, else they would all be of the first slides."""

    wanted: float
    lot: float
    image: bytes = field(compare=False)
    figures: NDArray[np.float32] = field(compare=False)
    scanner: str = field(compare=False)
    holds: bool = field(compare=False)
    labelled: bool = field(compare=False)
    validation: bool = field(compare=False)
    certainty: float = field(compare=False)


def chosen(
    detector: Detector, source: Any, validation: bool, quota: tuple[int, int], coding: Coding
) -> Iterator[Sample]:
    """The most wanted samples of a source, `quota` mitotic and other ones of each scanner; one pass, ranked.

    Training samples are wanted as the detector is sure of their class; validation samples as it takes them for mitotic.
    """
    best: dict[tuple[str, bool], list[Sample]] = {}
    lots = np.random.default_rng(0)
    for i in range(len(source)):
        batch = source[i]
        sure, holds = certainty(detector, batch.images), holding(batch)
        for k in range(len(batch)):
            scanner, mitotic = source.scanners[int(batch.domain[k])], bool(holds[k])
            rank = float(sure[k] if mitotic or validation else -sure[k]), lots.random()
            heap, most = best.setdefault((scanner, mitotic), []), quota[0 if mitotic else 1]
            if most == 0 or (len(heap) == most and rank < (heap[0].wanted, heap[0].lot)):
                continue
            image, figures = encoded(batch.images[k], coding), batch.figures[k].numpy()
            labelled = bool(batch.labelled[k])
            found = Sample(*rank, image, figures, scanner, mitotic, labelled, validation, float(sure[k]))
            (heapq.heappush if len(heap) < most else heapq.heapreplace)(heap, found)
    for heap in best.values():
        yield from sorted(heap, reverse=True)


def even(samples: Iterable[Sample]) -> Iterator[Sample]:
    """As many others as mitotic ones of each scanner, from samples that come with the most wanted first."""
    every = list(samples)
    room = Counter(s.scanner for s in every if s.holds)
    for sample in every:
        room[sample.scanner] -= not sample.holds
        if sample.holds or room[sample.scanner] >= 0:
            yield sample


def holding(batch: Batch) -> NDArray[np.bool_]:
    """(N,) which samples of a batch are patches of, or tiles with, an annotated mitotic figure."""
    holds = batch.label == 1 if len(batch.label) else torch.tensor([len(figures) > 0 for figures in batch.figures])
    found: NDArray[np.bool_] = (holds & batch.labelled).numpy()
    return found


def certainty(detector: Detector, images: Tensor) -> NDArray[np.float32]:
    """(N,) the highest score that the detector gives in each sample (N, 3, H, W); 0 where it finds nothing."""
    device, training = next(detector.parameters()).device, detector.training
    detector.eval()
    with torch.inference_mode():
        found = detector.decode(detector.network(images.to(device)), (images.shape[2], images.shape[3]))
    detector.train(training)
    return np.array([points.score.max(initial=0) for points in found], np.float32)


def gathered(samples: list[Sample], detector: Detector, patches: bool, choice: Choice, model: str) -> Memory:
    """The memory of some samples, which says by what choice they are those.

    Raises:
        InputError: there is none.
    """
    if not samples:
        raise InputError(None, "the data folder gives nothing to remember", "check the finder's settings and the split")
    figures = [np.empty((0, 3), np.float32), *([] if patches else [s.figures for s in samples])]
    side_px = Image.open(BytesIO(samples[0].image)).width
    return Memory(
        [s.image for s in samples],
        np.array([detector.scanners.index(s.scanner) for s in samples], np.int64),
        np.array([s.holds for s in samples]),
        np.array([s.labelled for s in samples]),
        np.array([s.validation for s in samples]),
        np.array([s.certainty for s in samples], np.float32),
        np.concatenate(figures).astype(np.float32),
        np.repeat(np.arange(len(figures) - 1), [len(f) for f in figures[1:]]).astype(np.int64),
        side_px,
        choice.coding,
        patches,
        detector.scanners,
        model,
        asdict(choice),
    )
