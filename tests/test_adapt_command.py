"""`mitosight adapt`, end to end on drawn slides: memory, adaptation, search, and what it refuses."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import draw, write_folder
from mitosight import checkpoint, regions
from mitosight.adaptation import Memory
from mitosight.adaptation.memory import read
from mitosight.adaptation.remember import certainty
from mitosight.batch import Batch
from mitosight.methods import create
from mitosight.methods.kondo2021 import Kondo2021
from mitosight.slide import write_tiff

Run = Callable[..., tuple[int, str, str]]
GREY, PINK = (200, 200, 210), (235, 190, 215)


def blobs(path: Path, seed: int, tint: tuple[int, int, int]) -> Path:
    image, _ = draw(seed, 256, tint)
    write_tiff(path, image, 0.25, compression="lzw")
    return path


SMALL: dict[str, Any] = {
    "weights": "none",
    "tile_px": 256,
    "patch_px": 32,
    "widths": [8, 4],
    "sampling": "balanced",
    "patches_per_batch": 8,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data folder, and a kondo2021 of few steps trained on it that can be copied."""
    from mitosight import recipe
    from mitosight.training import train

    folder = tmp_path_factory.mktemp("adapt")
    write_folder(folder / "data", {"grey": GREY, "pink": PINK})
    table = {
        "method": "kondo2021",
        "detector": SMALL,
        "training": {"validation_batches": 1},
        "optimisation": {"epochs": 1, "steps_per_epoch": 3, "optimiser": "adam", "lr": 1e-3, "schedule": "constant"},
    }
    train(recipe.parse(table), regions.load(folder / "data"), folder / "model", torch.device("cpu"))
    blobs(folder / "new" / "a.tiff", 7, (225, 205, 190))
    blobs(folder / "new" / "b.tiff", 8, (225, 205, 190))
    return folder / "data", folder / "model"


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the model's folder, without a memory."""
    folder = shutil.copytree(trained[1], tmp_path / "model", ignore=shutil.ignore_patterns("state*", "memory*"))
    return Path(folder)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "summary.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_slides_are_adapted_to_and_searched(trained: tuple[Path, Path], model: Path, mitosight: Run) -> None:
    """The first use makes the memory; the model's file stays; each slide has its row, points and facts."""
    data, out, slides = trained[0], model / "out", trained[0].parent / "new"
    checksum = (model / "model.safetensors").read_bytes()
    asked = ("adapt", model, slides, "--out", out, "--epochs", 1, "--step", 8, "--guard", 1)
    status, _, told = mitosight(*asked)
    assert status == 1 and "memory.safetensors: is not there" in told and "pass --data" in told
    status, printed, told = mitosight(*asked, "--data", data, "--samples", 6, "--mitotic", 2)
    assert (status, told) == (0, "")
    assert printed.splitlines()[0] == str(model / "memory.safetensors")
    assert "a.tiff: " in printed and "; adapted to 6 samples" in printed
    assert (model / "model.safetensors").read_bytes() == checksum
    kept = read(model / "memory.safetensors")
    train = ~kept.validation
    assert kept.patches and kept.side_px == 32 and kept.scanners == ("grey", "pink")
    assert [int((kept.holds & train & (kept.domain == d)).sum()) for d in (0, 1)] == [2, 2]
    found = rows(out)
    assert [row["status"] for row in found] == ["ok", "ok"]
    assert all(row["message"] == "adapted to 6 samples" for row in found)
    assert (out / "a.csv").is_file() and (out / "b.csv").is_file()
    record = json.loads((out / "run.json").read_text())
    assert record["adaptation"]["epochs"] == 1 and record["adaptation"]["together"] is False
    facts = record["adapted"][str((slides / "a.tiff").resolve())]
    assert {"used", "source_f1_before", "source_f1_after", "seconds", "peak_mb", "steps"} <= set(facts)
    status, _, told = mitosight(*asked, "--lr", 1e-5)
    assert status == 1 and "with another adaptation" in told
    status, _, told = mitosight("detect", slides, "--model", model, "--out", out)
    assert status == 1 and "with another adaptation" in told


def test_together_one_model_is_written_for_later_use(trained: tuple[Path, Path], model: Path, mitosight: Run) -> None:
    data, out, slides = trained[0], model / "out", trained[0].parent / "new"
    asked = ("adapt", model, slides, "--out", out, "--together", "--epochs", 1, "--step", 8, "--guard", 1)
    status, printed, _ = mitosight(*asked, "--data", data, "--samples", 6)
    assert status == 0 and "; adapted to 12 samples" in printed
    header = checkpoint.read_header(out / "adapted")
    assert header["provenance"]["adaptation"]["together"] is True
    status, _, told = mitosight("detect", slides, "--model", out / "adapted", "--out", model / "later")
    assert (status, told) == (0, "")
    for name in ("a.csv", "b.csv"):
        assert (out / name).read_text() == (model / "later" / name).read_text()


def test_what_it_adapted_to_together_is_seen(trained: tuple[Path, Path], model: Path, mitosight: Run) -> None:
    """By the names of the files or those of a table; their paths, which name patients and machines, stay out of it."""
    data, slides = trained[0], trained[0].parent / "new"
    before = set(checkpoint.read_header(model)["provenance"]["data"]["slides"])
    assert before == {regions.fingerprint(f"{s}_{p}_0") for s in ("grey", "pink") for p in ("train", "val")}
    asked = ("adapt", model, slides, "--together", "--epochs", 1, "--step", 8, "--guard", 1)
    status, _, told = mitosight(*asked, "--out", model / "out", "--data", data, "--samples", 6)
    assert (status, told) == (0, "")
    header = checkpoint.read_header(model / "out" / "adapted")
    names = ("a", "b", "new/a", "new/b")  # in a data folder they may lie in a subfolder
    assert set(header["provenance"]["data"]["slides"]) == before | {regions.fingerprint(name) for name in names}
    assert str(slides) not in json.dumps(header)
    (model / "table.csv").write_text("file_name,slide\na.tiff,MIDOG21:024|MIDOG21:025\n")
    status, _, told = mitosight(*asked, "--out", model / "named", "--domains", model / "table.csv")
    assert (status, told) == (0, "")
    found = set(checkpoint.read_header(model / "named" / "adapted")["provenance"]["data"]["slides"])
    assert regions.met(["024", "MIDOG21:025", "025", "a", "b", "c"], found) == ["024", "025", "MIDOG21:025", "b"]


def test_a_model_that_does_not_say_what_it_saw_does_not_after_an_adaptation_either(
    trained: tuple[Path, Path], model: Path, mitosight: Run
) -> None:
    header = checkpoint.read_header(model)
    del header["provenance"]["data"]["slides"]
    checkpoint.save(model, checkpoint.load(model), "kondo2021", header["arguments"], header["provenance"])
    asked = ("adapt", model, trained[0].parent / "new", "--out", model / "out", "--together", "--step", 8)
    status, _, told = mitosight(*asked, "--epochs", 1, "--guard", 1, "--data", trained[0], "--samples", 6)
    assert (status, told) == (0, "")
    assert "slides" not in checkpoint.read_header(model / "out" / "adapted")["provenance"]["data"]


def test_where_the_guard_refuses_the_model_searches_as_it_is(
    trained: tuple[Path, Path], model: Path, mitosight: Run
) -> None:
    data, out, slides = trained[0], model / "out", trained[0].parent / "new"
    mitosight("adapt", model, "--data", data, "--samples", 20)
    detector = checkpoint.load(model)
    memory = read(model / "memory.safetensors")
    verdict = certainty(detector, memory.batch(np.arange(len(memory))).images) >= detector.threshold
    assert verdict[memory.validation].any()
    holds = verdict & memory.validation  # the guard's samples are as the model says; all that it learns from are none
    Memory(**{**memory.__dict__, "holds": holds}).write(model / "memory.safetensors")
    each = ("--epochs", 3, "--step", 8, "--lr", 0.05)
    status, printed, told = mitosight("adapt", model, slides, "--out", out, "--together", *each)
    assert status == 0, told
    assert "not adapted: the F1 on remembered slides would fall from 1.000" in printed
    assert not (out / "adapted").exists()
    assert all(row["message"].startswith("not adapted") for row in rows(out))
    mitosight("detect", slides, "--model", model, "--out", model / "plain")
    for name in ("a.csv", "b.csv"):
        assert (out / name).read_text() == (model / "plain" / name).read_text()


def test_tiles_are_remembered_and_adapted_to(tmp_path: Path, mitosight: Run, drawn: Path) -> None:
    """wilm2021: windows of the side of its training tiles, and one output more for the scanner."""
    detector = {"weights": "none", "tile_px": 256, "channels": 16, "levels": [4], "normalise": "none"}
    table = {"method": "wilm2021", "detector": detector, "training": {"crop_px": 224, "tiles_per_scanner": 4}}
    torch.manual_seed(0)
    untrained = create("wilm2021", ["grey", "pink"], detector)
    model, out = tmp_path / "model", tmp_path / "out"
    checkpoint.save(model, untrained, "wilm2021", detector, {"recipe": table})
    slide = blobs(tmp_path / "a.tiff", 9, (225, 205, 190))
    more = ("--samples", 1, "--mitotic", 1, "--epochs", 1, "--together", "--guard", 1)
    status, printed, told = mitosight("adapt", model, slide, "--out", out, "--data", drawn, *more)
    assert (status, told) == (0, "") and "adapted to 1 samples" in printed
    assert read(model / "memory.safetensors").side_px == 224
    assert checkpoint.load(out / "adapted").scanners == ("grey", "pink", "adapted to")


def test_other_data_than_the_training_had_is_refused(tmp_path: Path, model: Path, mitosight: Run) -> None:
    other = write_folder(tmp_path / "other", {"blue": (190, 200, 235)})
    status, _, told = mitosight("adapt", model, "--data", other)
    assert status == 1 and "--data has the scanners blue; the model learned from grey, pink" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to do; name slides, or --data"),
        (("a.tiff",), "slides without a place for the results; pass --out"),
        (("a.tiff", "--out", "x", "--coding", "gif"), "--coding is gif; accepted are jpeg and png"),
        (("a.tiff", "--out", "x", "--lr", "-1"), "lr is -1.0; expected 0 to 1"),
        (("a.tiff", "--out", "x", "--lr", "1e38"), "lr is 1e+38; expected 0 to 1"),
    ],
)
def test_wrong_commands_are_one_line(model: Path, mitosight: Run, arguments: tuple[str, ...], told: str) -> None:
    status, _, error = mitosight("adapt", model, *arguments)
    assert status == 2 and error == f"mitosight: error: {told}\n" if "nothing" not in told else told in error


def test_a_slide_without_tissue_has_no_figure(trained: tuple[Path, Path], model: Path, mitosight: Run) -> None:
    write_tiff(model / "blank.tiff", np.full((256, 256, 3), 230, np.uint8), 0.25, compression="lzw")
    slides = (model / "blank.tiff", trained[0].parent / "new" / "a.tiff")
    more = ("--data", trained[0], "--samples", 6, "--epochs", 1, "--step", 8, "--guard", 1)
    status, printed, told = mitosight("adapt", model, *slides, "--out", model / "out", *more)
    assert status == 0 and "blank.tiff: 0 mitotic figures" in printed and "a.tiff: " in printed, told
    table = rows(model / "out")
    assert (table[0]["status"], table[0]["figures"]) == ("ok", "0")
    assert table[0]["message"].startswith(NONE) and "no tissue was found" in table[0]["message"]


def flat(path: Path) -> Path:
    """A pink slide: all of it is tissue, and no place is bluer than the others."""
    write_tiff(path, np.full((256, 256, 3), PINK, np.uint8), 0.25, compression="lzw")
    return path


NONE = "not adapted: no candidate to adapt to"


@pytest.mark.parametrize("together", [(), ("--together",)])
def test_slides_without_a_candidate_are_searched_as_detect_does(
    trained: tuple[Path, Path], model: Path, mitosight: Run, together: tuple[str, ...]
) -> None:
    """The flat ones give nothing to adapt to; together with another slide they are searched by what that gave."""
    flats, out = [flat(model / "c.tiff"), flat(model / "d.tiff")], model / "out"
    asked = ("--data", trained[0], "--samples", 6, "--epochs", 1, "--step", 8, "--guard", 1, *together)
    status, printed, told = mitosight("adapt", model, *flats, "--out", out, *asked)
    assert (status, told) == (0, "") and not (out / "adapted").exists()
    assert [line.partition(" in ")[0] for line in printed.splitlines()[1:]] == [
        "c.tiff: 0 mitotic figures",
        "d.tiff: 0 mitotic figures",
    ]
    assert [(row["status"], row["message"]) for row in rows(out)] == [("ok", NONE)] * 2
    facts = json.loads((out / "run.json").read_text())["adapted"].values()
    assert all(not f["used"] and f["samples"] == 0 and f["seconds"] >= 0 and f["peak_mb"] > 0 for f in facts)
    mixed = (flats[0], trained[0].parent / "new" / "a.tiff")
    status, _, told = mitosight("adapt", model, *mixed, "--out", model / "mixed", *asked)
    assert (status, told) == (0, "")
    adapted = "adapted to 6 samples"
    assert [row["message"] for row in rows(model / "mixed")] == [adapted if together else NONE, adapted]


def test_together_slides_that_cannot_be_searched_fail_as_they_do_alone(
    trained: tuple[Path, Path], model: Path, mitosight: Run
) -> None:
    """One file is damaged, one slide is smaller than a tile: there is nothing to adapt to at all."""
    (model / "bad.tiff").write_bytes(b"nothing")
    write_tiff(model / "small.tiff", np.full((64, 64, 3), PINK, np.uint8), 0.25, compression="lzw")
    bad = (model / "bad.tiff", model / "small.tiff")
    more = ("--data", trained[0], "--samples", 6, "--epochs", 1, "--together")
    status, _, told = mitosight("adapt", model, *bad, "--out", model / "out", *more)
    assert status == 1 and "64 x 64 px is smaller than a tile of 128 px" in told
    assert [row["status"] for row in rows(model / "out")] == ["failed", "failed"]


def test_an_adaptation_that_breaks_down_leaves_the_model_to_search(
    trained: tuple[Path, Path], model: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The points are those of the model as it is, and the row names what happened and the option to change."""
    out, slide = model / "out", trained[0].parent / "new" / "a.tiff"
    learned = Kondo2021.losses

    def ruined(self: Kondo2021, batch: Batch) -> dict[str, Tensor]:
        terms = learned(self, batch)
        return {**terms, "domain": terms["domain"] * float("nan")}

    mitosight("adapt", model, "--data", trained[0], "--samples", 6)
    monkeypatch.setattr(Kondo2021, "losses", ruined)
    status, printed, told = mitosight("adapt", model, slide, "--out", out, "--step", 8)
    assert (status, told) == (0, "")
    assert "; not adapted: the loss of step 1 (batch 0) is not finite: " in printed
    assert printed.rstrip().endswith("domain nan; lower --lr")
    assert [row["status"] for row in rows(out)] == ["ok"]
    facts = json.loads((out / "run.json").read_text())["adapted"][str(slide.resolve())]
    assert facts["used"] is False and facts["source_f1_after"] is None
    mitosight("detect", slide, "--model", model, "--out", model / "plain")
    assert (out / "a.csv").read_text() == (model / "plain" / "a.csv").read_text()


def test_a_memory_that_is_there_is_used_and_said_so_or_refused(
    trained: tuple[Path, Path], model: Path, mitosight: Run
) -> None:
    """Options of the memory count only where it is made: asked for again they have to be those it was made by."""
    file, data = model / "memory.safetensors", ("--data", trained[0])
    assert mitosight("adapt", model, *data, "--samples", 6)[:2] == (0, f"{file}\n")
    before = file.read_bytes()
    for same in ((), ("--samples", 6), ("--coding", "jpeg", "--look-at", 0)):
        status, printed, told = mitosight("adapt", model, *data, *same)
        assert (status, told) == (0, "")
        assert printed == f"{file}: is there and is used as it is; remove it to have it made anew\n"
    slide = (trained[0].parent / "new" / "a.tiff", "--out", model / "out")
    for other in ((*data, "--samples", 3, "--mitotic", 1), (*slide, "--samples", 3), (*data, *slide, "--samples", 3)):
        status, printed, told = mitosight("adapt", model, *other)
        assert (status, printed) == (1, "") and told.count("\n") == 1
        assert f"{file}: was made with --samples 6, not with 3; remove it and pass --data" in told
    assert file.read_bytes() == before and not (model / "out").exists()


def test_results_found_with_another_memory_are_refused(trained: tuple[Path, Path], model: Path, mitosight: Run) -> None:
    out, slide = model / "out", trained[0].parent / "new" / "a.tiff"
    asked = ("adapt", model, slide, "--out", out, "--epochs", 1, "--step", 8, "--guard", 1, "--data", trained[0])
    assert mitosight(*asked, "--samples", 6)[0] == 0
    assert mitosight(*asked)[0] == 0
    (model / "memory.safetensors").unlink()
    status, _, told = mitosight(*asked, "--samples", 4)
    assert status == 1 and "holds what the model found with another adaptation" in told
