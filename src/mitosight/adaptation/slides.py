"""The detectors for `cohort.detect_slides`: adapted to each slide, or to all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mitosight import checkpoint, seen
from mitosight.adaptation.adapting import Settings, adapt, learned, remembered_f1
from mitosight.adaptation.memory import FILE, Memory, check_choice, read
from mitosight.adaptation.target import Target, joined, of_slide
from mitosight.cohort import Prepared, tissue_of
from mitosight.cohort import Settings as Reading
from mitosight.errors import InputError
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256
from mitosight.regions import fingerprints
from mitosight.slide import Slide
from mitosight.tissue import Tissue

ADAPTED = "adapted"  # folder of the model that was adapted to several slides


def recalled(model: Path, asked: Mapping[str, Any] | None = None) -> Memory:
    """The memory beside a model file.

    Args:
        asked: the options that it must have been made by, as in `check_choice`.

    Raises:
        InputError: there is none, that of another model, or one that was made by other options.
    """
    file = model.with_name(FILE)
    if not file.is_file():
        raise InputError(
            file, "is not there: the model remembers nothing of its training slides", "pass --data to have it made"
        )
    memory = read(file, sha256(model))
    check_choice(file, memory, asked or {})
    return memory


class Each:
    """Adapts a model to each slide by itself; every slide starts from the model as it is.

    Attributes:
        settings: what the record says of it; names the memory by the checksum of its file.
    """

    def __init__(self, detector: Detector, memory: Memory, how: Settings) -> None:
        self.detector, self.memory, self.how = detector, memory, how
        self.before: float | None = None  # F1 on remembered slides, once it is known
        self.settings: dict[str, Any] = {"together": False, "memory": memory.sha256, **asdict(how)}

    def __call__(self, slide: Slide, where: Tissue | None = None) -> Prepared:
        """The detector for one slide, or the tissue of it."""
        return self.adapted(self.target(slide, where))

    def adapted(self, target: Target) -> Prepared:
        """The detector for what lies in a target."""
        if self.before is None:
            self.before = remembered_f1(self.detector, self.memory)
        found = adapt(self.detector, self.memory, target, self.how, self.before)
        return Prepared(found.detector, found.message, found.facts)

    def target(self, slide: Slide, where: Tissue | None) -> Target:
        """What of a slide is adapted to."""
        memory, how = self.memory, self.how
        return of_slide(slide, self.detector, memory.side_px, memory.coding, how.most, how.seed, where)


class Unguarded(Each):
    """As `Each`, but a copy that has learned on is used whatever came of it, and one that broke down is an error."""

    def adapted(self, target: Target) -> Prepared:
        """The detector for what lies in a target; the model as it is where that is nothing.

        Raises:
            InputError: as `learned`.
        """
        if not len(target):
            return Prepared(self.detector, "", {})
        copy, _ = learned(self.detector, self.memory, target, self.how)
        return Prepared(copy, "", {})


class Together:
    """Adapts a model once, to several slides; writes `out/adapted/model.safetensors` where the adapted one is used."""

    def __init__(self, each: Each, slides: Sequence[Path], reading: Reading, model: Path, out: Path) -> None:
        self.each, self.slides, self.reading, self.model, self.out = each, slides, reading, model, out
        names = sorted(str(path.resolve()) for path in slides)
        self.settings = {**each.settings, "together": True, "slides": names}
        self.prepared: Prepared | None = None

    def __call__(self, slide: Slide, where: Tissue | None = None) -> Prepared:
        """The detector for any of the slides."""
        if self.prepared is None:
            self.prepared = self.each.adapted(joined(self._targets(), self.each.memory.side_px))
            if self.prepared.facts["used"]:
                self._save(self.prepared)
        return self.prepared

    def _targets(self) -> Iterator[Target]:
        """What of each slide is adapted to; those that cannot be read are left out, and fail when they are searched."""
        for path in self.slides:
            with (
                suppress(InputError),
                Slide(path, mpp=self.reading.mpp, table_mpp=self.reading.table_of(path)) as slide,
            ):
                yield self.each.target(slide, tissue_of(slide, self.reading.tissue))

    def _save(self, prepared: Prepared) -> None:
        """Writes the model, which has seen the slides now; their paths are for the record alone, which stays here."""
        header = checkpoint.read_header(self.model)
        how = {name: value for name, value in self.settings.items() if name != "slides"}
        provenance = {**header["provenance"], "adaptation": {"model": sha256(self.model), **how, **prepared.facts}}
        if (before := seen.slides_of(header)) is not None:
            adapted_to = fingerprints(name for path in self.slides for name in self.reading.names_of(path))
            provenance["data"] = {**provenance["data"], seen.SLIDES: sorted(before | adapted_to)}
        checkpoint.save(self.out / ADAPTED, prepared.detector, header["method"], header["arguments"], provenance)
