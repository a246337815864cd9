"""Model files: what they hold, and every way in which a file is none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mitosight import __version__, checkpoint, modelfile
from mitosight.errors import InputError
from mitosight.methods import arguments, create

SMALL: dict[str, Any] = {"weights": "none", "channels": 16, "head_convs": 1, "levels": [4], "normalise": "none"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model."""
    torch.manual_seed(0)
    detector = create("retinanet", ["one", "two"], SMALL)
    detector.threshold = 0.25
    return checkpoint.save(tmp_path_factory.mktemp("model"), detector, "retinanet", SMALL, {"recipe": {"a": 1}})


def changed(model: Path, folder: Path, weights: dict[str, torch.Tensor] | None = None, **header: object) -> Path:
    """A copy of the model with other values in its header, None removing a key."""
    found = {**modelfile.read_header(model), **header}
    text = json.dumps({key: value for key, value in found.items() if value is not None})
    path = folder / "changed.safetensors"
    save_file(weights or load_file(model), path, metadata={"mitosight": text})
    return path


def test_header_holds_all_that_is_needed(model: Path) -> None:
    header = checkpoint.read_header(model)
    assert header == checkpoint.read_header(model.parent) == modelfile.read_header(model)
    assert (header["method"], header["scanners"], header["threshold"]) == ("retinanet", ["one", "two"], 0.25)
    assert header["mitosight"] == __version__ and header["format"] == modelfile.FORMAT
    assert header["provenance"] == {"recipe": {"a": 1}}
    assert set(header["arguments"]) == set(arguments("retinanet"))  # the defaults too: they may change
    assert header["arguments"]["channels"] == 16 and header["arguments"]["mpp"] == 0.25


def test_loaded_is_ready_to_detect(model: Path) -> None:
    detector = checkpoint.load(model)
    assert not detector.training and detector.threshold == 0.25 and detector.scanners == ("one", "two")
    assert all(torch.equal(value, load_file(model)[name]) for name, value in detector.state_dict().items())


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"format": 2, "mitosight": "9.1"}, r"has model format 2 \(written by mitosight 9.1\); this is mitosight"),
        ({"method": "yolo"}, r"is a model of method 'yolo'; mitosight \S+ has retinanet, wilm2021"),
        ({"arguments": {"wings": 2}}, r"holds arguments that do not fit retinanet \(.*no argument 'wings'"),
        ({"arguments": {"levels": [9]}}, r"holds arguments that do not fit retinanet \(levels"),
        ({"threshold": None}, "has model format 1"),
        ({"format": None}, "is no model of mitosight"),
        ({"arguments": {**SMALL, "depth": 34}}, r"holds weights that do not fit retinanet \(Missing key"),
        ({"arguments": {**SMALL, "channels": 32}}, r"holds weights that do not fit retinanet \(size mismatch"),
        ({"method": "wilm2021"}, r"holds weights that do not fit wilm2021 \(Missing key"),
    ],
)
def test_models_of_another_kind(model: Path, tmp_path: Path, header: dict[str, Any], told: str) -> None:
    path = changed(model, tmp_path, **header)
    with pytest.raises(InputError, match=told) as caught:
        checkpoint.load(path)
    assert caught.value.exit_status == 1 and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_other_weights_do_not_fit(model: Path, tmp_path: Path) -> None:
    weights = {"wrong": torch.zeros(3)}
    with pytest.raises(InputError, match="weights that do not fit retinanet"):
        checkpoint.load(changed(model, tmp_path, weights))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda whole: b"", "is no model of mitosight"),
        (lambda whole: b"\x00" * 100, "is no model of mitosight"),
        (lambda whole: b"\xff" * 100, "is no model of mitosight"),
        (lambda whole: b"II*\x00" + whole[:5000], "is no model of mitosight"),
        (lambda whole: whole[:200], "is no model of mitosight"),
        (lambda whole: whole[:-1], r"is damaged: \d+ bytes instead of \d+; copy the file again"),
        (lambda whole: whole[: len(whole) // 2], "is damaged"),
        (lambda whole: whole + b"x", "is damaged"),
    ],
)
def test_damaged_files(model: Path, tmp_path: Path, damage: Any, told: str) -> None:
    path = tmp_path / modelfile.FILE
    path.write_bytes(damage(model.read_bytes()))
    for given in (path, tmp_path):
        with pytest.raises(InputError, match=told):
            checkpoint.load(given)


def test_missing_files_and_foreign_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read \(No such file"):
        checkpoint.load(tmp_path)
    with pytest.raises(InputError, match=r"nothing: cannot be read \(No such file .*expected the model.safetensors"):
        modelfile.read_header(tmp_path / "nothing")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(InputError, match="is no model of mitosight"):
        modelfile.read_header(foreign)


def test_info_on_a_model_does_not_import_torch(model: Path) -> None:
    code = (
        "import sys; from mitosight.cli import app\n"
        f"try:\n    app(['info', {str(model)!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "sys.exit('torch' in sys.modules or 'safetensors' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "retinanet" in done.stdout and "one, two" in done.stdout and "0.25" in done.stdout
