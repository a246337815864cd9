"""`mitosight evaluate` through its front door, the labels of a detection file, and the sheet of crops."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitosight import detections as found_points
from mitosight import regions as annotated
from mitosight.cli import main
from mitosight.detections import Detections
from mitosight.errors import InputError
from mitosight.evaluation.sheet import CAPTION, CROP_PX, MARGIN, TITLE, ZOOM

SCORES = {"found": 0.9, "false": 0.7, "weak": 0.2}


def mitosight(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs the command as a shell would; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["mitosight", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def found(drawn: Path, tmp_path: Path) -> Path:
    """Detections on the drawn folder: all figures but one found, one of them weakly, and one false in each image."""
    points = {}
    for region in annotated.load(drawn).regions:
        xy = np.concatenate([region.figures[1:], [[3.0, 3.0]]])
        score = np.full(len(xy), SCORES["found"])
        score[0], score[-1] = SCORES["weak"], SCORES["false"]
        points[region.file_name] = Detections(xy, score)
    found_points.write(tmp_path / "found.csv", points, 0.5)
    return tmp_path / "found.csv"


def scored(path: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads(path.read_text())
    return value


def counts(value: dict[str, object]) -> tuple[object, ...]:
    return tuple(value[name] for name in ("true_positives", "false_positives", "false_negatives"))


def test_scores_a_data_folder(
    drawn: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert mitosight(monkeypatch, "evaluate", found, drawn, "--json", out) == 0
    # six regions of six figures: four found, one below the threshold that the labels tell, one not seen
    assert counts(scored(out)) == (24, 6, 12)
    printed = capsys.readouterr().out
    assert "grey" in printed and "pink" in printed and "0.727" in printed
    assert "score >= 0.9" not in printed and "labelled mitotic figure count (score >= 0.7)" in printed


def test_threshold_and_part_can_be_chosen(
    drawn: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.json"
    more = ("--part", "test", "--threshold", "0.1", "--bootstrap", "0")
    assert mitosight(monkeypatch, "evaluate", found, drawn, "--json", out, *more) == 0
    assert counts(scored(out)) == (10, 2, 2)
    assert set(scored(out)["by_image"]) == {"grey_test_0.tiff", "pink_test_0.tiff"}  # type: ignore[call-overload]


def test_an_annotation_file_needs_mpp_and_takes_a_split(
    drawn: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "scores.json", drawn / "annotations.json"
    assert mitosight(monkeypatch, "evaluate", found, file) == 1
    assert "--mpp" in capsys.readouterr().err
    assert mitosight(monkeypatch, "evaluate", found, file, "--mpp", "0.25", "--json", out) == 0
    assert counts(scored(out)) == (24, 6, 12)
    assert mitosight(monkeypatch, "evaluate", found, file, "--domains", drawn / "domains.csv", "--json", out) == 0
    assert set(scored(out)["by_scanner"]) == {"grey", "pink"}  # type: ignore[call-overload]
    part = ("--split", drawn / "split.json", "--part", "val")
    assert mitosight(monkeypatch, "evaluate", found, file, *part, "--json", out) == 0
    assert counts(scored(out)) == (8, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--matching", "best"), 2, "one-to-one or many-to-many"),
        (("--mpp", "25"), 2, "0.05 to 10"),
        (("--radius-px", "0"), 2, "above 0"),
        (("--split", "split.json"), 2, "--part"),
        (("--part", "holiday"), 1, "no part 'holiday'"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: tuple[str, ...],
    status: int,
    message: str,
    drawn: Path,
    found: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert mitosight(monkeypatch, "evaluate", found, drawn, *arguments) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_detections_on_an_unknown_image_name_the_file(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found_points.write(tmp_path / "other.csv", {"nowhere.tiff": Detections([[1, 1]], [0.5])}, 0.5)  # type: ignore[arg-type]
    assert mitosight(monkeypatch, "evaluate", tmp_path / "other.csv", drawn) == 1
    error = capsys.readouterr().err
    assert "other.csv" in error and "nowhere.tiff" in error


def test_evaluating_does_not_import_torch(drawn: Path, found: Path) -> None:
    code = (
        f"import sys; sys.argv = ['mitosight', 'evaluate', {str(found)!r}, {str(drawn)!r}]\n"
        "from mitosight.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def labelled(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["file_name,x_px,y_px,score,label", *rows]) + "\n")
    return path


def test_labels_tell_the_threshold(tmp_path: Path) -> None:
    yes, no = "mitotic figure", "non-mitotic figure"
    file = labelled(tmp_path / "a.csv", f"a,1,1,0.9,{yes}", f"a,1,1,0.5,{yes}", f"b,1,1,0.5,{no}", f"b,1,1,0.1,{no}")
    assert found_points.labelled_threshold(file) == 0.5
    none = found_points.labelled_threshold(labelled(tmp_path / "b.csv", f"a,1,1,0.25,{no}"))
    assert none is not None and 0.25 < none < 0.25 + 1e-12
    plain = tmp_path / "c.csv"
    plain.write_text("file_name,x_px,y_px,score\na,1,1,0.5\n")
    assert found_points.labelled_threshold(plain) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a,1,1,0.9,non-mitotic figure", "a,1,1,0.5,mitotic figure"), "no single threshold"),
        (("a,1,1,0.9,mitosis",), "the label 'mitosis'"),
        (("a,1,1,0.9,mitotic figure", "a,1,1,0.5"), "some points only"),
    ],
)
def test_contradictory_labels_are_an_error(rows: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        found_points.labelled_threshold(labelled(tmp_path / "a.csv", *rows))


def test_the_sheet_shows_each_kind_of_mistake(
    drawn: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = tmp_path / "sheet.png"
    assert mitosight(monkeypatch, "evaluate", found, drawn, "--sheet", sheet, "--sheet-crops", "5") == 0
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    side = CROP_PX * ZOOM
    wrong, missed = (top + side // 2 for top in (TITLE, 2 * TITLE + side + CAPTION + MARGIN))
    middles = [MARGIN + i * (side + MARGIN) + side // 2 for i in range(5)]
    figure = np.array([70, 40, 110])  # the colour of the drawn figures
    assert (np.abs(pixels[missed, middles] - figure) < 15).all()
    assert (np.abs(pixels[wrong, middles] - figure).sum(axis=1) > 100).all()
    assert (pixels[missed, middles[-1] + side + MARGIN] == 255).all()  # no sixth


def test_the_sheet_needs_the_images(
    drawn: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, file = tmp_path / "sheet.png", drawn / "annotations.json"
    assert mitosight(monkeypatch, "evaluate", found, file, "--mpp", "0.25", "--sheet", sheet) == 2
    assert "--images" in capsys.readouterr().err
    assert mitosight(monkeypatch, "evaluate", found, drawn, "--sheet", sheet, "--images", tmp_path) == 1
    assert "tiff" in capsys.readouterr().err
    assert not sheet.exists()
