"""Trainings end to end on drawn regions, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import write_recipe
from mitosight import checkpoint, modelfile, recipe, regions, training
from mitosight.errors import InputError, UsageError
from mitosight.material import gather
from mitosight.regions import DataFolder
from mitosight.training import _with_earlier
from mitosight.validation import Judge

CPU = torch.device("cpu")
Run = Callable[..., tuple[int, str, str]]


def tiny(method: str = "retinanet", *settings: str, folder: Path) -> recipe.Recipe:
    return recipe.load(str(write_recipe(folder / f"{method}.toml", method)), settings)


def without(data: DataFolder, part: str, scanner: str, labels_only: bool = False) -> DataFolder:
    """The data without a scanner's regions in one part of the split, or without their annotations."""
    names = {r.file_name for r in data.regions if r.domain.scanner == scanner} & set(data.split[part])
    if labels_only:
        from dataclasses import replace

        bare = [
            replace(r, xy=r.xy[:0], label=r.label[:0], votes=()) if r.file_name in names else r for r in data.regions
        ]
        return DataFolder(data.images, tuple(bare), data.split)
    split = {name: tuple(n for n in of if name != part or n not in names) for name, of in data.split.items()}
    return DataFolder(data.images, data.regions, split)


def test_train_detect_evaluate_info(drawn: Path, tmp_path: Path, mitosight: Run) -> None:
    file = write_recipe(tmp_path / "tiny.toml", "wilm2021")
    model, found, scores = tmp_path / "model", tmp_path / "found", tmp_path / "scores.json"
    status, printed, _ = mitosight("train", file, "--data", drawn, "--out", model, "--set", "lr=2e-3")
    assert status == 0 and printed.strip() == str(model / "model.safetensors")
    assert {"model.safetensors", "recipe.json", "log.jsonl", "state.safetensors", "run.json"} <= {
        p.name for p in model.iterdir()
    }
    run = json.loads((model / "run.json").read_text())
    assert run["recipe"]["optimisation"]["lr"] == 2e-3 and run["seconds"] > 0 and run["versions"]["torch"]
    assert run["preparation_seconds"] == json.loads((model / "preparation.json").read_text())["seconds"]
    log = [json.loads(line) for line in (model / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3, 4]
    assert {"classification", "box", "domain"} <= {key for line in log for key in line}

    slides = [drawn / "images" / f"{scanner}_test_0.tiff" for scanner in ("grey", "pink")]
    assert mitosight("detect", *slides, "--model", model, "--out", found)[0] == 0
    assert mitosight("evaluate", found, drawn, "--part", "test", "--bootstrap", 0, "--json", scores)[0] == 0
    assert json.loads(scores.read_text())["figures"] == 12

    status, printed, _ = mitosight("info", model)
    header = modelfile.read_header(model)
    assert status == 0 and "wilm2021" in printed and "trained on: grey, pink" in printed
    assert f"threshold: {header['threshold']:g}" in printed and "256 px at 0.25 µm per px" in printed
    assert header["provenance"]["data"]["train"] == {"regions": 2, "figures": 12}
    assert json.loads(mitosight("info", model / "model.safetensors", "--json")[1])["method"] == "wilm2021"


def test_resumed_model_equals_an_unbroken_one(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, chosen = regions.load(drawn), tiny("wilm2021", folder=tmp_path)
    unbroken = training.train(chosen, data, tmp_path / "a", CPU)
    judge, calls = Judge.__call__, []

    def stopped(self: Judge, detector: object, epoch: int) -> object:
        calls.append(epoch)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return judge(self, detector, epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(Judge, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.train(chosen, data, tmp_path / "b", CPU)
    assert not (tmp_path / "b" / "run.json").exists()
    resumed = training.train(chosen, data, tmp_path / "b", CPU)
    assert calls == [0, 1, 1]
    for name, value in load_file(unbroken).items():
        assert torch.equal(value, load_file(resumed)[name]), name
    headers = [modelfile.read_header(path) for path in (unbroken, resumed)]
    assert headers[0] == headers[1]
    states = [load_file(path.with_name("state.safetensors")) for path in (unbroken, resumed)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_folder_holds_one_training(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = regions.load(drawn), tmp_path / "out"
    chosen = tiny("retinanet", "epochs=1", "steps_per_epoch=1", folder=tmp_path)
    model = training.train(chosen, data, out, CPU)
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    capsys.readouterr()
    assert training.train(chosen, data, out, CPU) == model
    assert "finished, nothing is left to do" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"another recipe \(training differ\); choose another --out"):
        training.train(tiny("retinanet", "epochs=1", "steps_per_epoch=1", "seed=1", folder=tmp_path), data, out, CPU)
    fewer = without(data, "val", "grey")
    with pytest.raises(InputError, match="this recipe on other data"):
        training.train(chosen, fewer, out, CPU)
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    (out / "recipe.json").write_text("{")
    with pytest.raises(InputError, match=r"recipe.json: is no recipe of mitosight train"):
        training.train(chosen, data, out, CPU)
    (out / "recipe.json").unlink()
    with pytest.raises(InputError, match=r"holds model.safetensors without recipe.json"):
        training.train(chosen, data, out, CPU)


def test_the_digest_follows_what_is_learnt_from(drawn: Path, tmp_path: Path) -> None:
    data, chosen = regions.load(drawn), tiny(folder=tmp_path)
    same = gather(chosen, regions.load(drawn)).digest()
    assert gather(chosen, data).digest() == same
    for changed in (
        without(data, "val", "grey"),
        without(data, "val", "grey", labels_only=True),
        DataFolder(data.images, data.regions, {**data.split, "train": data.split["train"][::-1][:1]}),
    ):
        assert gather(chosen, changed).digest() != same
    tests_gone = DataFolder(data.images, data.regions, {**data.split, "test": ()})
    assert gather(chosen, tests_gone).digest() == same


def test_a_tumour_without_annotations_counts_as_unlabelled(drawn: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    data = regions.load(drawn)
    grey = {r.file_name for r in data.regions if r.domain.scanner == "grey"}
    skin = [
        replace(r, domain=replace(r.domain, tumor_type="skin"), xy=r.xy[:0], label=r.label[:0], votes=())
        if r.file_name in grey
        else replace(r, domain=replace(r.domain, scanner="grey"))
        for r in data.regions
    ]
    data = DataFolder(data.images, tuple(skin), data.split)  # one scanner, two tumour types, one of them annotated
    for method, both in (("wilm2021", True), ("retinanet", False)):
        found = gather(tiny(method, folder=tmp_path), data)
        assert (found.scanners, found.labelled, found.unlabelled_tumors) == (["grey"], ["grey"], ["skin"])
        assert {r.domain.tumor_type for r in found.train} == ({"skin", "drawn"} if both else {"drawn"})
        assert found.domains()["tumor_type"] == sorted({r.domain.tumor_type for r in found.train})
    with pytest.raises(InputError, match="holds no mitotic figure of grey"):
        gather(tiny("wilm2021", 'unlabelled_tumors=["skin", "drawn"]', folder=tmp_path), data)


@pytest.mark.parametrize("labels_only", [False, True])
def test_a_scanner_may_be_missing_in_validation(drawn: Path, tmp_path: Path, labels_only: bool) -> None:
    data = without(regions.load(drawn), "val", "grey", labels_only)
    chosen = tiny("wilm2021", "epochs=1", "steps_per_epoch=1", folder=tmp_path)
    model = training.train(chosen, data, tmp_path / "out", CPU)
    found = checkpoint.read_header(model)["provenance"]["validation"]
    assert set(found["aucpr_by_scanner"]) == {"pink"}
    assert set(found["losses"]) == {"classification", "box", "domain"}


def test_unlabelled_scanners_are_drawn_for_methods_that_use_them(drawn: Path, tmp_path: Path) -> None:
    data = without(regions.load(drawn), "train", "grey", labels_only=True)
    used = gather(tiny("wilm2021", folder=tmp_path), data)
    assert (used.scanners, used.labelled) == (["grey", "pink"], ["pink"])
    plain = gather(tiny("retinanet", folder=tmp_path), data)
    assert (plain.scanners, plain.labelled) == (["pink"], ["pink"])
    assert {r.domain.scanner for r in plain.train + plain.val} == {"pink"}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("scanners=['green']", "no training region of scanner 'green'; there are those of grey, pink"),
        ("labelled_scanners=['green']", "labelled scanner 'green' is no training scanner; those are grey, pink"),
        ("crop_px=192", "training tiles of 192 px; wilm2021 needs 224 px or more"),
        ("crop_px=288", r"is smaller than a tile of 288 px"),
        ("tile_px=288", r"is smaller than a tile of 288 px"),
    ],
)
def test_settings_that_do_not_fit_the_data(drawn: Path, tmp_path: Path, setting: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        training.train(tiny("wilm2021", setting, folder=tmp_path), regions.load(drawn), tmp_path / "out", CPU)
    assert isinstance(caught.value, UsageError) == (setting == "crop_px=192")
    assert not (tmp_path / "out").exists()


def test_mpp_of_the_files_serves_where_the_table_has_none(drawn: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    data = regions.load(drawn)
    bare = DataFolder(data.images, tuple(replace(r, mpp=None) for r in data.regions), data.split)
    chosen = tiny("retinanet", "epochs=1", "steps_per_epoch=1", folder=tmp_path)
    assert training.train(chosen, bare, tmp_path / "out", CPU).is_file()


@pytest.mark.parametrize("there", [True, False])
def test_tensorboard_is_written_where_it_is_installed(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    pytest.importorskip("tensorboard")
    if not there:
        monkeypatch.setattr("mitosight.log.find_spec", lambda name: None)
    chosen = tiny("retinanet", "epochs=1", "steps_per_epoch=1", folder=tmp_path)
    training.train(chosen, regions.load(drawn), tmp_path / "out", CPU)
    assert bool(list((tmp_path / "out").glob("tensorboard/events*"))) == there


def test_seconds_of_a_preparation_add_up_over_sessions(tmp_path: Path) -> None:
    assert _with_earlier(tmp_path, 2.5) == 2.5
    assert _with_earlier(tmp_path, 1.0) == 3.5
    assert json.loads((tmp_path / "preparation.json").read_text()) == {"seconds": 3.5}
