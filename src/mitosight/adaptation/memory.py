"""What a model remembers of its training slides, so that it can adapt without them: samples in one compact file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from mitosight.batch import Batch
from mitosight.errors import InputError
from mitosight.outputs import whole

FILE = "memory.safetensors"
FORMAT = 1
QUALITY = 95
MADE_ANEW = "remove it and pass --data to have it made anew, or leave {option} out"
Coding = Literal["jpeg", "png"]
Index = NDArray[np.intp]


def encoded(image: Tensor, coding: Coding) -> bytes:
    """One sample (3, side, side) in [0, 1] as bytes: JPEG of quality 95 without subsampling of colour, or PNG."""
    stream = BytesIO()
    pixels = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy())
    if coding == "jpeg":
        pixels.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    else:
        pixels.save(stream, "PNG")
    return stream.getvalue()


def decoded(samples: Sequence[bytes], side_px: int) -> Tensor:
    """Encoded samples to (n, 3, side, side) in [0, 1].

    Raises:
        InputError: one of them is damaged.
    """
    found = np.empty((len(samples), side_px, side_px, 3), np.uint8)
    try:
        for k, sample in enumerate(samples):
            found[k] = np.asarray(Image.open(BytesIO(sample)).convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(None, f"a remembered sample is damaged ({error})", "have the memory made again") from None
    return torch.from_numpy(found).permute(0, 3, 1, 2).to(torch.float32) / 255


@dataclass(frozen=True)
class Memory:
    """Samples of the training scanners: patches around candidates, or tiles.

    Attributes:
        images: n encoded samples.
        domain: (n,) int64, index of the scanner.
        holds: (n,) bool, whether the sample is (a patch), or holds (a tile), a mitotic figure.
        labelled: (n,) bool, False where nobody annotated the slide.
        validation: (n,) bool, True for those of the part "val", which the guard looks at and nothing learns from.
        certainty: (n,) float32, the model's probability of a mitotic figure when they were chosen.
        figures: (m, 3) float32, centres and box sides in px of their tile; those of all samples one after another.
        figure_of: (m,) int64, the samples they lie in.
        side_px: of a sample.
        coding: of the samples.
        patches: whether they are patches, which have a class, or tiles, which have figures.
        scanners: names, in the order of `domain`.
        model: SHA-256 of the model's file that chose them.
        choice: the options by which they were chosen; None where the file, of an earlier version, does not say.
        sha256: of the file that it was read from; empty for one that was not.
    """

    images: list[bytes]
    domain: NDArray[np.int64]
    holds: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    certainty: NDArray[np.float32]
    figures: NDArray[np.float32]
    figure_of: NDArray[np.int64]
    side_px: int
    coding: Coding
    patches: bool
    scanners: tuple[str, ...]
    model: str
    choice: dict[str, Any] | None = None
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Index) -> Batch:
        """The samples `index` (n,) as a batch to learn from."""
        none = torch.empty(0, 3)
        found = [torch.from_numpy(self.figures[self.figure_of == k]) if not self.patches else none for k in index]
        return Batch(
            decoded([self.images[k] for k in index], self.side_px),
            found,
            [none] * len(index),
            torch.from_numpy(self.domain[index]),
            torch.from_numpy(self.labelled[index]),
            label=torch.from_numpy(self.holds[index].astype(np.int64) if self.patches else np.empty(0, np.int64)),
        )

    def write(self, path: Path) -> None:
        """Writes a safetensors file: the bytes of all samples, where each ends, and the arrays."""
        arrays: dict[str, NDArray[Any]] = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        arrays["ends"] = np.cumsum([len(image) for image in self.images], dtype=np.int64)
        arrays["bytes"] = np.frombuffer(b"".join(self.images), np.uint8)
        told = {"format": FORMAT, "choice": self.choice, **{name: getattr(self, name) for name in TOLD}}
        with whole(path) as temporary:
            temporary.write_bytes(save(arrays, metadata={"memory": json.dumps(told)}))


ARRAYS = ("domain", "holds", "labelled", "validation", "certainty", "figures", "figure_of")
TOLD = ("side_px", "coding", "patches", "scanners", "model")


def read(path: Path, model: str | None = None) -> Memory:
    """The memory in a file.

    Args:
        model: SHA-256 that the file must name, if given.

    Raises:
        InputError: it is damaged, holds something else, or is the memory of another model.
    """
    try:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["memory"])
        arrays = load(content)
        ends = [0, *arrays["ends"].tolist()]
        every = arrays["bytes"].tobytes()
        known = told["format"] == FORMAT
        choice = None if told.get("choice") is None else dict(told["choice"])
        values: dict[str, Any] = {**{name: arrays[name] for name in ARRAYS}, **{name: told[name] for name in TOLD}}
        found = Memory([every[start:end] for start, end in pairwise(ends)], **values, choice=choice)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, f"is no memory of mitosight adapt ({first})", "remove it and pass --data") from None
    if not known:
        raise InputError(path, f"has memory format {told['format']}, not {FORMAT}", "remove it and pass --data")
    if model is not None and found.model != model:
        raise InputError(path, "is the memory of another model", "remove it and pass --data")
    return replace(found, scanners=tuple(found.scanners), sha256=hashlib.sha256(content).hexdigest())


def check_choice(path: Path, memory: Memory, asked: Mapping[str, Any]) -> None:
    """Raises InputError where the memory in a file was chosen by other options than those `asked` for.

    `asked` holds values by the names of `Choice`, those alone that somebody asked for.
    """
    known = {"coding": memory.coding, **(memory.choice or {})}
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        if name not in known:
            raise InputError(path, f"does not say by which {option} it was made", MADE_ANEW.format(option=option))
        if known[name] != value:
            told = f"without {option}" if known[name] is None else f"with {option} {known[name]}"
            raise InputError(path, f"was made {told}, not with {value}", MADE_ANEW.format(option=option))
