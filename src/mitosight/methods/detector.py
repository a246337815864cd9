"""The contract of a method: what the engine, the inference and the command line ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mitosight import colours
from mitosight.augment import Augment
from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.errors import UsageError
from mitosight.optimisation import Optimisation

LEAST_SEARCH_PX = 128  # of the tiles of a slide, which overlap by 64


Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Part = Literal["train", "val"]
Files = Mapping[str, Callable[[str], Path | None]]
Made = TypeVar("Made")


class Source(Protocol):
    """Batches of training tiles, by index."""

    @property
    def scanners(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


class Workshop(Protocol):
    """What a training lends a method for its preparation; see `mitosight.workshop`."""

    @property
    def source(self) -> Source: ...

    @property
    def seen(self) -> Source: ...

    @property
    def device(self) -> torch.device: ...

    def candidates(self, part: Part, finder: Any) -> Any: ...

    def patches(
        self,
        part: Part,
        candidates: Any,
        chosen: NDArray[np.intp],
        label: NDArray[np.int64],
        patch_px: int,
        size: int,
        **how: Any,
    ) -> Any: ...

    def tiles(self, tile_px: int, tiles_per_scanner: int, augment: Any = None) -> Any: ...

    def agreed(self, made: Callable[[], Made]) -> Made: ...

    def fit(
        self, name: str, learner: nn.Module, source: Any, optimisation: Optimisation, facts: dict[str, Any]
    ) -> Path: ...


class Detector(nn.Module):
    """One published method: trained on batches of tiles, applied to tiles. Knows no slide, file or metric.

    The keyword arguments of a subclass's constructor, with the paper's values as defaults, are the schema of its
    recipe. The constructor reaches for no file and no network.

    Attributes:
        title: one line for `mitosight methods`.
        uses_unlabelled: what tiles of scanners or tumours without labels teach it: nothing ("never"), what it
            learns before its training ("preparation"), or also the network itself ("training"); only then are they
            among its training tiles.
        converted: the method of its own that a runtime other than torch computes (`mitosight.runtime`).
        least_tile_px: side of the smallest tile that it can be trained on.
        grid_px: where the tiles of a slide begin, and where they are cut to what each owns, is a multiple of it.
        suppression_um: of the points of a slide within it of each other only the best is kept; 6.25, 25 px at 0.25
            µm/px (reference code of Wilm 2021).
        overlap_px: of the tiles of a slide; 64, by which a figure of 50 px is whole in at least one.
        mpp: µm per px that the network expects.
        mpp_tolerance: a slide within this share of `mpp` is read at its own resolution.
        tile_px: side of the tiles that are read.
        scanners: names of the training scanners, in the order of `Batch.domain`.
        augmentation: applied to each training tile; None for none.
        progress: share of the training done, in (0, 1]; set by the engine at the start of each epoch.
        learns_balanced: whether it learned from as many figures as others, whatever their share in the data.
        standardised: whether it is given tiles in the colours of a standard slide (`mitosight.colours`).
        blocks: small ones of level 0 that `for_slide` looks at, at most; None for all that hold tissue, at the
            resolution of the search.
        table: what makes the colours of the slide that is searched those of the standard one (`for_slide`).
        threshold: score from which a point counts as a mitotic figure; chosen on validation regions.
        of_its_data: how the names of weights begin that belong to the data of a training, such as those that tell its
            scanners; a training that starts from another model does not take them over.
        files: arguments that may name a file that was trained before, each with what finds the file by the argument's
            value; None where the value is another word, such as "imagenet".
        in_stages: whether its preparation trains weights of its own, which a start from another model would undo.
        runtime: what computes `converted` ("name"), and how the check of it went; see `mitosight.runtime`.
    """

    title: ClassVar[str]
    uses_unlabelled: ClassVar[Literal["never", "preparation", "training"]] = "never"
    converted: ClassVar[str] = "network"
    of_its_data: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[Files] = {}
    in_stages: ClassVar[bool] = False
    least_tile_px: int = 32
    grid_px: int = 1
    overlap_px: int = 64
    suppression_um: float = 6.25
    standardised: bool = False
    blocks: int | None = None
    table: colours.Table | None = None
    learns_balanced: bool = False

    def __init__(
        self,
        *,
        scanners: Sequence[str],
        mpp: float,
        mpp_tolerance: float,
        tile_px: int,
        augmentation: Augment | None,
    ) -> None:
        super().__init__()
        if tile_px < LEAST_SEARCH_PX:
            raise UsageError(None, f"tile_px = {tile_px}", f"expected at least {LEAST_SEARCH_PX} px")
        if not (mpp > 0 and mpp_tolerance >= 0):
            raise UsageError(None, f"mpp = {mpp}, mpp_tolerance = {mpp_tolerance}", "expected more than 0, at least 0")
        self.scanners = tuple(scanners)
        self.mpp = mpp
        self.mpp_tolerance = mpp_tolerance
        self.tile_px = tile_px
        self.augmentation = augmentation
        self.progress = 1.0
        self.threshold = 0.5
        self.runtime: Mapping[str, Any] = {"name": "torch"}

    @classmethod
    def told_by_data(cls, given: dict[str, Any], domains: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The arguments `given`, with those that the training data decide filled in.

        `domains` holds the names in the training regions by column of `domains.csv` (scanner, tumor_type, species).
        """
        return given

    def settled(self) -> dict[str, Any]:
        """Arguments in full that leave defaults to something else; a model file keeps them so."""
        return {}

    def prepare(self, workshop: Workshop) -> list[str]:
        """Runs before training: first weights, statistics of tiles, trainings of its own; returns lines for the log.

        A training that is resumed prepares again; what `workshop.fit` has finished is not trained twice. It runs in
        each of several processes: what hangs on rounding is chosen by one of them for all (`workshop.agreed`).
        """
        return []

    def started(self) -> list[str]:
        """Runs once the weights of another model were taken over; returns lines for the log."""
        return []

    def batches(self, workshop: Workshop, part: Part) -> Source:
        """What it is trained on, and what its validation losses are taken of; asked for once it is prepared."""
        return workshop.source if part == "train" else workshop.seen

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of one batch; the engine sums them, steps and logs."""
        raise NotImplementedError

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) RGB in [0, 1] to raw maps: all that a runtime other than torch has to compute."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] to (N, C): what is left of a tile, or patch, before it is judged."""
        raise NotImplementedError

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        """Raw maps of N tiles of (H, W) px to their figures, best first, in the tile's frame."""
        raise NotImplementedError

    def detect(self, images: Tensor) -> list[Detections]:
        """(N, 3, H, W) RGB in [0, 1] to the figures of each tile, best first, in px of the tile."""
        height, width = images.shape[-2:]
        return self.decode(self.network(images), (height, width))

    def for_slide(self, tiles: Iterable[NDArray[np.uint8]]) -> Detector:
        """The detector that searches one slide: itself, or one with the statistics of the slide.

        `tiles` are arrays (H, W, 3) RGB that show each part of the slide once, at the resolution of the search, or as
        many small parts as `blocks` says, at that of level 0; they are read anew each time they are gone through.
        Weights are shared, and this detector stays as it is.
        """
        if not self.standardised:
            return self
        found = copy(self)
        found.table = colours.table(tiles)
        return found

    def samples(self, image: Tensor, side_px: int) -> tuple[Tensor, NDArray[np.float64]]:
        """What a tile (3, H, W) of a slide gives to adapt to the slide: (n, 3, side, side) and their centres (n, 2).

        The default are windows side by side; centres are in px of the tile.
        """
        rows, columns = (length // side_px for length in image.shape[1:])
        corners = [(x * side_px, y * side_px) for y in range(rows) for x in range(columns)]
        windows = [image[:, y : y + side_px, x : x + side_px] for x, y in corners]
        empty = image.new_empty((0, 3, side_px, side_px))
        return torch.stack(windows) if windows else empty, np.array(corners, np.float64).reshape(-1, 2) + side_px / 2

    def new_scanner(self) -> int:
        """Index, for `Batch.domain`, of a scanner that it was not trained on; makes room where there is none.

        Raises:
            UsageError: it has no domain branch.
        """
        raise UsageError(None, f"{type(self).__name__} has no domain branch", "adapt a model of a method that has one")

    def selection(self, aucpr: float, losses: dict[str, float], tiles: int, scanners: int) -> float:
        """What the checkpoint to keep has most of.

        Args:
            aucpr: area under the precision-recall curve on the validation regions, averaged over labelled scanners.
            losses: the loss terms averaged over validation batches.
            tiles: number of tiles in such a batch.
            scanners: number of scanners in it; fewer than in training where validation lacks some.
        """
        return aucpr
