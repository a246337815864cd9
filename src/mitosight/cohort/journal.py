"""The points of a slide that is being searched, kept chunk by chunk, so that a killed search goes on."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mitosight.detections import Detections
from mitosight.outputs import whole


class Journal:
    """A folder with a file for each chunk that is done: its points in level-0 px, as they are.

    Files of another `key` (other pixels, model, settings or tiles) are not taken for this search's and go.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def part(self, name: str) -> Journal:
        """A journal within this one, which goes with it."""
        return Journal(self.folder / name, self.key)

    def of(self, tiles: str) -> Journal:
        """The same for chunks of these tiles (`Covering.fingerprint`): other tiles have other chunks."""
        return Journal(self.folder, f"{self.key} {tiles}")

    def done(self) -> dict[int, Detections]:
        """The chunks that are done, by number; files of another key, or damaged ones, are removed."""
        found: dict[int, Detections] = {}
        for file in sorted(self.folder.glob("[0-9]*.safetensors")):
            try:
                with safe_open(file, framework="numpy") as stored:
                    if (stored.metadata() or {}).get("key") == self.key:
                        found[int(file.stem)] = Detections(stored.get_tensor("xy"), stored.get_tensor("score"))
                        continue
            except (SafetensorError, OSError, ValueError):
                pass
            file.unlink(missing_ok=True)
        return found

    def add(self, number: int, points: Detections) -> None:
        """Keeps a chunk.

        Raises:
            InputError: the file cannot be written.
        """
        with whole(self.folder / f"{number:06d}.safetensors") as temporary:
            temporary.write_bytes(save({"xy": points.xy, "score": points.score}, metadata={"key": self.key}))

    def remove(self) -> None:
        """Leaves nothing: the slide is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # of other slides
            self.folder.parent.rmdir()
