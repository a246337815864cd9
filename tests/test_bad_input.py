"""Bad input to `mitosight train`, and to all commands: one clear line, the exit status, nothing half-written."""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import write_recipe
from mitosight.slide import write_tiff
from mitosight.validation import Judge

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the drawn data folder, to be spoilt."""
    return Path(shutil.copytree(drawn, tmp_path / "data"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of two steps."""
    return write_recipe(tmp_path / "tiny.toml", crop_px=128, steps=1)


def refused(mitosight: Run, recipe: Path, data: Path, *more: object) -> tuple[int, str]:
    """Exit status and the one line of stderr of a training that must not begin."""
    out = recipe.parent / "out"
    status, printed, told = mitosight("train", recipe, "--data", data, "--out", out, *more)
    assert printed == "" and told.count("\n") == 1 and told.startswith("mitosight: error: "), told
    assert not out.exists()
    return status, told


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Changes a JSON file."""
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


IMAGE = "pink_train_0.tiff"


@pytest.mark.parametrize("name", [IMAGE, "grey_val_0.tiff"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("no image at all"), "is not an image that can be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20_000]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged or truncated"),
    ],
)
def test_images_that_are_none(
    mitosight: Run, recipe: Path, data: Path, name: str, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(data / "images" / name)
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and str(data / "images" / name) in line and told in line


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_picture(mitosight: Run, recipe: Path, data: Path, suffix: str) -> None:
    path = data / "images" / IMAGE
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data / f"whole.{suffix}")
    path.write_bytes((data / f"whole.{suffix}").read_bytes()[:20_000])
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and f"{path}: is truncated or damaged" in line and "copy the file again" in line


def test_image_smaller_than_a_tile(mitosight: Run, recipe: Path, data: Path) -> None:
    status, line = refused(mitosight, recipe, data, "--set", "crop_px=300")
    assert status == 1 and "256 x 256 px is smaller than a tile of 300 px" in line and "training.crop_px" in line
    status, line = refused(mitosight, recipe, data, "--set", "tile_px=512")  # found before the first validation
    assert status == 1 and "_val_0.tiff: 256 x 256 px is smaller than a tile of 512 px" in line


def test_image_of_another_size_than_annotated(mitosight: Run, recipe: Path, data: Path) -> None:
    write_tiff(data / "images" / IMAGE, np.full((200, 200, 3), 200, np.uint8), 0.25)
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and f"{IMAGE}: is 200 x 200 px, its annotations say 256 x 256 px" in line


def test_annotation_outside_its_image(mitosight: Run, recipe: Path, data: Path) -> None:
    def far(table: dict[str, Any]) -> None:
        table["annotations"][0]["bbox"] = [975, 75, 1025, 125]

    edit(data / "annotations.json", far)
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and "an annotation at x 1000, y 100 lies outside its image grey_train_0.tiff (256 x 256" in line

    def sizeless(table: dict[str, Any]) -> None:
        for image in table["images"]:
            image["width"] = image["height"] = 0

    edit(data / "annotations.json", sizeless)  # then the image itself tells
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and "at x 1000, y 100 lies outside its image grey_train_0.tiff (256 x 256" in line


def test_annotation_that_is_no_number(mitosight: Run, recipe: Path, data: Path) -> None:
    def nan(table: dict[str, Any]) -> None:
        table["annotations"][0]["bbox"][0] = float("nan")

    edit(data / "annotations.json", nan)
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and "annotations.json: annotation 1 " in line and "not four finite numbers" in line


def test_annotation_on_an_image_that_is_not_there(mitosight: Run, recipe: Path, data: Path) -> None:
    (data / "images" / IMAGE).unlink()
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and f"annotations.json: lists {IMAGE}, not in {data / 'images'}" in line

    edit(data / "annotations.json", lambda table: table["annotations"][0].update(image_id=999))
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and "annotations.json" in line and "999" in line


@pytest.mark.parametrize("part", ["train", "val"])
def test_no_figures_in_a_part_of_the_split(mitosight: Run, recipe: Path, data: Path, part: str) -> None:
    def bare(table: dict[str, Any]) -> None:
        gone = {image["id"] for image in table["images"] if f"_{part}_" in image["file_name"]}
        table["annotations"] = [a for a in table["annotations"] if a["image_id"] not in gone]

    edit(data / "annotations.json", bare)
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and f"the part '{part}' of the split holds no mitotic figure" in line


def test_no_split(mitosight: Run, recipe: Path, data: Path) -> None:
    (data / "split.json").unlink()
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and "there is no split: give split.json" in line


def test_mpp_that_nobody_says(mitosight: Run, recipe: Path, data: Path) -> None:
    table = (data / "domains.csv").read_text()
    (data / "domains.csv").write_text(table.replace(",0.25", ","))
    Image.new("RGB", (256, 256)).save(data / "images" / IMAGE, format="PNG")  # the TIFFs say theirs
    status, line = refused(mitosight, recipe, data)
    assert status == 1 and f"{IMAGE}: its µm per px is unknown" in line and "give it in domains.csv" in line


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("--set", "wings=2"), "there is no 'wings'"),
        (("--set", "epochs=none"), "[optimisation] epochs = 'none'; accepted: a valid integer"),
        (("--set", "crop_px=64", "--set", "method=wilm2021"), "training tiles of 64 px; wilm2021 needs 224 px or more"),
        (("--device", "abacus"), "no device 'abacus' here"),
    ],
)
def test_wrong_settings(mitosight: Run, recipe: Path, data: Path, settings: tuple[str, ...], told: str) -> None:
    status, line = refused(mitosight, recipe, data, *settings)
    assert status == 2 and told in line


def test_unknown_recipe_key(mitosight: Run, recipe: Path, data: Path) -> None:
    recipe.write_text(recipe.read_text().replace("crop_px", "crop_um"))
    status, line = refused(mitosight, recipe, data)
    assert status == 2 and f"{recipe}: [training] has the unknown key 'crop_um'; accepted are scanners" in line


def test_out_that_is_a_file(mitosight: Run, recipe: Path, data: Path) -> None:
    out = recipe.parent / "file"
    out.write_text("mine")
    status, _, told = mitosight("train", recipe, "--data", data, "--out", out)
    assert status == 2 and told.count("\n") == 1 and "--out names a folder" in told and out.read_text() == "mine"


def test_interrupted_training_says_so_and_goes_on(
    mitosight: Run, recipe: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, out = Judge.__call__, recipe.parent / "out"

    def interrupted(self: Judge, detector: Any, epoch: int) -> dict[str, Any]:
        if epoch == 1:
            raise KeyboardInterrupt
        return judge(self, detector, epoch)

    monkeypatch.setattr(Judge, "__call__", interrupted)
    status, printed, told = mitosight("train", recipe, "--data", data, "--out", out)
    assert (status, printed) == (130, "") and told.endswith("\nmitosight: interrupted\n") and "Traceback" not in told
    monkeypatch.undo()
    status, printed, told = mitosight("train", recipe, "--data", data, "--out", out)
    assert status == 0 and printed == f"{out / 'model.safetensors'}\n" and "resumed at step 1 of 2" in told


def test_full_disk_in_a_training(mitosight: Run, recipe: Path, data: Path) -> None:
    """No file may pass 1 MB, less than the model: it is not there in part, and the training can be called again."""
    out = recipe.parent / "out"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "from mitosight.cli import main; sys.argv[0] = 'mitosight'; main()"
    )
    command = [sys.executable, "-c", code, "train", str(recipe), "--data", str(data), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"mitosight: error: {out / 'model.safetensors'}: cannot be written (File too large); "
        "free space or choose another place"
    )
    assert {p.name for p in out.iterdir()} <= {"recipe.json", "preparation.json", "log.jsonl", "tensorboard"}
    assert mitosight("train", recipe, "--data", data, "--out", out)[0] == 0


def test_full_disk_anywhere_else_is_one_line(mitosight: Run, monkeypatch: pytest.MonkeyPatch, drawn: Path) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    monkeypatch.setattr("mitosight.regions.load", full)
    status, printed, told = mitosight("info", drawn)
    assert (status, printed) == (1, "")
    assert told == "mitosight: error: /somewhere: No space left on device; free space or choose another place\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mitosight.errors import InputError
    from mitosight.log import RunLog

    class Full:
        def write(self, text: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr("mitosight.log.find_spec", lambda name: None)
    log = RunLog(tmp_path)
    assert log._file is not None
    log._file.close()
    log._file = Full()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"log.jsonl: cannot be written \(No space left on device\); free space"):
        log.step(1, {"loss": 1.0})
    log.close()
