"""What networks that paint tiles in the styles of scanners share: whose tile is whose, and a file to come back from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from mitosight.batch import Batch
from mitosight.errors import InputError, UsageError


class StyleLearner(nn.Module):
    """Learns one style for each of its scanners. A learner for `mitosight.engine.fit`, stored by `workshop.fit`.

    Attributes:
        name: of the folder and the file that a training leaves.
        what: the same in words.
        made_by: the training that leaves one, for messages.
        form: of the file; another number is refused.
        scanners: names of the styles, in the order of the components of a code.
        arguments: of the constructor, beside the scanners.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    made_by: ClassVar[str]
    form: ClassVar[int] = 1

    def __init__(self, scanners: Sequence[str], arguments: dict[str, Any]) -> None:
        super().__init__()
        self.scanners, self.arguments = tuple(scanners), arguments
        self.progress = 1.0

    def scanner_of(self, batch: Batch) -> Tensor:
        """Index (N,) in `scanners` of each tile's scanner, by its name.

        Raises:
            InputError: a tile is of another scanner.
        """
        names = batch.columns["scanner"]
        if unknown := sorted(set(names) - set(self.scanners)):
            raise InputError(None, f"tiles of {unknown[0]!r}", f"the {self.what} knows {', '.join(self.scanners)}")
        return torch.tensor([self.scanners.index(name) for name in names])

    def one_hot(self, index: Tensor) -> Tensor:
        """Codes (N, scanners) of single scanners (N,)."""
        return functional.one_hot(index, len(self.scanners)).float()

    def facts(self) -> dict[str, Any]:
        """What a file must say of the weights for `load` to rebuild them."""
        return {"kind": self.name, "format": self.form, "scanners": list(self.scanners), "arguments": self.arguments}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The network in a file that a training left (or in its folder), in evaluation mode on the CPU.

        Raises:
            InputError: no such file, damaged, or something else.
        """
        file, expected = (
            cls.locate(path),
            f"expected the {cls.name}.safetensors that {cls.made_by} leaves, or its folder",
        )
        try:
            with safe_open(file, "pt") as opened:
                told = (opened.metadata() or {}).get("mitosight", "{}")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise InputError(file, f"no such {cls.what}", expected) from None
        except (SafetensorError, OSError) as error:
            raise InputError(file, f"is no readable {cls.what} ({error})", expected) from None
        try:
            facts = json.loads(told)
            if facts.get("kind") != cls.name or facts.get("format") != cls.form:
                found = facts.get("method") or facts.get("kind") or "something else"
                raise InputError(file, f"is no {cls.what} of this version ({found})", expected)
            learner = cls(facts["scanners"], **facts["arguments"])
            learner.load_state_dict(tensors)
        except (UsageError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(file, f"is a damaged {cls.what} ({str(error).splitlines()[0]})", expected) from None
        return learner.eval()

    @classmethod
    def locate(cls, path: str | Path) -> Path:
        """The file that `path` means: itself, or the one in that folder of its training or of a detector's."""
        path = Path(path)
        inside = [path / f"{cls.name}.safetensors", path / cls.name / f"{cls.name}.safetensors"]
        return next((file for file in inside if file.is_file()), inside[0]) if path.is_dir() else path
