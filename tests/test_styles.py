"""The study of a style transfer: measures by hand, with generators whose work is known, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mitosight import checkpoint, regions
from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.methods.parts.style import StyleTransfer
from mitosight.styles import Settings, find, study, told
from mitosight.styles.findings import MIXTURE, REAL, Findings, figure_scores
from mitosight.styles.structure import gradient_correlation, kept, overlap

QUICK = Settings(part="test", tile_px=96, tiles_per_scanner=4, rows=3, mixtures=2, classifier_steps=40)
TINT = torch.tensor([[200, 200, 210], [235, 190, 215]]) / 255  # of the drawn scanners grey and pink


def transfer(scanners: tuple[str, ...] = ("grey", "pink"), **more: Any) -> StyleTransfer:
    torch.manual_seed(0)
    return StyleTransfer(scanners, **{"width": 4, "blocks": 0, "crop_px": 16, "critic_depth": 2, **more})


class Known(nn.Module):
    """Paints nothing ("leave") or changes the drawn tint into that of the code ("tint")."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def restyled(self, images: Tensor, codes: Tensor) -> Tensor:
        if self.what == "leave":
            return images
        background = images.flatten(2).median(dim=2).values
        return (images + (codes @ TINT - background)[:, :, None, None]).clamp(0, 1)


def with_generator(what: str) -> StyleTransfer:
    made = transfer()
    made.generator = Known(what)  # type: ignore[assignment]
    return made


def test_overlap_by_hand() -> None:
    one, other = np.array([1, 1, 1, 0], dtype=bool), np.array([0, 1, 1, 1], dtype=bool)
    assert overlap(one, other) == (2 * 2 / 6, 2 / 4)
    assert overlap(one, one) == (1.0, 1.0) and overlap(~one & one, ~one & one) == (1.0, 1.0)
    assert overlap(one, ~one) == (0.0, 0.0)


def test_gradient_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((32, 32, 3)) / 2
    assert gradient_correlation(image, 0.9 - image) == pytest.approx(1.0)  # edges stay when colours turn
    assert abs(gradient_correlation(image, rng.random((32, 32, 3)))) < 0.15
    assert gradient_correlation(image, np.full((32, 32, 3), 0.5)) == 0.0


def test_a_paler_tile_keeps_its_structure() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.6, 0.9, (32, 32, 3))
    image[8:16, 8:16] = (0.3, 0.2, 0.5)
    measures = kept(image, image)
    assert measures == pytest.approx({"gradient_correlation": 1, "haematoxylin_dice": 1, "haematoxylin_iou": 1})
    assert kept(image, image**0.5)["haematoxylin_dice"] > 0.99
    assert kept(image, np.roll(image, 12, axis=1))["haematoxylin_dice"] < 0.1


class Reads(nn.Module):
    """Reads scanner b where a tile is bright."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - bright, bright - 0.5], dim=1)


class Finds:
    """One point at (10, 10) of the score that the tile's first pixel has."""

    mpp = 0.25

    def detect(self, images: Tensor) -> list[Detections]:
        return [Detections(np.array([[10.0, 10.0]]), np.array([float(i[0, 0, 0])]), 0.25) for i in images]


def batch() -> Batch:
    """Tiles of scanner a (0.25) and b (0.75), each with a figure, the second one out of reach."""
    images = torch.tensor([0.25, 0.75])[:, None, None, None].expand(2, 3, 64, 64).contiguous()
    figures = [torch.tensor([[20.0, 20.0, 50.0]]), torch.tensor([[32.0, 32.0, 50.0]])]
    none = [torch.zeros(0, 3)] * 2
    return Batch(images, figures, none, torch.tensor([0, 1]), torch.ones(2).bool(), {"scanner": ["a", "b"]})


def test_findings_by_hand() -> None:
    tiles = batch()
    found = Findings(["a", "b"], Reads(), Finds())  # type: ignore[arg-type]
    all_bright = torch.full_like(tiles.images, 0.875)
    found.add(tiles, {REAL: tiles.images, "a": tiles.images, "b": all_bright, MIXTURE: all_bright})
    facts = found.facts()
    assert facts["reading"] == {
        "chance": 0.5,
        "real": {"balanced": 1.0, "by_scanner": {"a": 1.0, "b": 1.0}},
        # b painted as a stays bright and is read as b; a painted as b is read as b
        "painted": {"balanced": 0.5, "by_target": {"a": 0.0, "b": 1.0}, "still_read_as_its_own": 0.5},
    }
    # the figure at (20, 20) is 14 px from (10, 10), that at (32, 32) 31 px: beyond 7.5 µm, 30 px
    assert facts["scores"] == {"figures": 2, "mean": {REAL: 0.125, "a": 0.125, "b": 0.4375, MIXTURE: 0.4375}}
    assert found.tiles == 2 and set(facts["structure"]["haematoxylin_dice"]) == {"a", "b", MIXTURE, "another tile"}
    text = told(facts)
    assert "target read from painted tiles: 0.500 (a 0.000, b 1.000)" in text
    assert "mean score at 2 figures: real 0.125, a 0.125" in text


def test_without_classifier_and_detector() -> None:
    found = Findings(["a"], None, None)
    found.add(batch(), {REAL: batch().images, MIXTURE: batch().images})
    facts = found.facts()
    assert facts["reading"] is None and facts["scores"] is None
    assert told(facts).startswith("no scanner classifier")


def test_figures_without_any_detection_score_0() -> None:
    class Blind(Finds):
        def detect(self, images: Tensor) -> list[Detections]:
            return [Detections(np.zeros((0, 2)), np.zeros(0), 0.25)] * len(images)

    assert figure_scores(Blind(), batch().images, batch().figures) == [0.0, 0.0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "target", "own"), [("leave", 0.0, 1.0), ("tint", 1.0, 0.0)])
def test_the_classifier_reads_what_was_painted(
    drawn: Path, tmp_path: Path, what: str, target: float, own: float
) -> None:
    facts = study(with_generator(what), regions.load(drawn), tmp_path / "out", QUICK)
    reading = facts["reading"]
    assert reading["real"]["balanced"] == 1.0 and reading["chance"] == 0.5
    assert reading["painted"]["balanced"] == target and reading["painted"]["still_read_as_its_own"] == own
    assert facts["tiles"] == 8
    correlation = facts["structure"]["gradient_correlation"]
    assert min(correlation["grey"], correlation["pink"]) > 0.9 > 0.3 > correlation["another tile"]
    if what == "leave":
        assert facts["structure"]["haematoxylin_dice"]["grey"] == 1.0
    assert json.loads((tmp_path / "out" / "styles.json").read_text()) == facts
    with Image.open(tmp_path / "out" / "styles.png") as sheet:
        assert sheet.size == (150 + 5 * 102, 44 + 3 * 102)  # original, two styles, two mixtures; three tiles


def test_a_transfer_of_other_scanners_is_shown_without_reading(drawn: Path, tmp_path: Path) -> None:
    facts = study(transfer(("x", "y", "z")), regions.load(drawn), tmp_path, QUICK)
    assert facts["reading"] is None and set(facts["structure"]["haematoxylin_iou"]) >= {"x", "y", "z"}


def test_what_is_refused(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; --out names a folder"):
        study(transfer(), regions.load(drawn), tmp_path / "file", QUICK)
    coarse = create("retinanet", ["grey", "pink"], {"weights": "none", "channels": 8, "mpp": 0.5})
    with pytest.raises(UsageError, match=r"the detector reads 0.5 µm/px; the transfer 0.25"):
        study(transfer(), regions.load(drawn), tmp_path, QUICK, coarse)
    with pytest.raises(InputError, match="smaller than a tile of 512 px"):
        study(transfer(), regions.load(drawn), tmp_path, Settings(tile_px=512))


def write(path: Path, made: StyleTransfer) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.contiguous() for k, v in made.state_dict().items()}
    save_file(tensors, path, metadata={"mitosight": json.dumps(made.facts())})
    return path


def test_finds_the_transfer_of_a_detector(tmp_path: Path) -> None:
    file = write(tmp_path / "run" / "style-transfer" / "style-transfer.safetensors", transfer())
    given = {"weights": "none", "channels": 8, "restyle": 0.2, "style": str(file)}
    model = checkpoint.save(tmp_path / "run", create("retinanet", ["a"], given), "retinanet", given, {})
    for path in (file, file.parent, tmp_path / "run", model):
        assert find(path) == file
    alone = checkpoint.save(tmp_path / "other", create("retinanet", ["a"], given), "retinanet", given, {})
    assert find(alone) == file and find(tmp_path / "other") == file
    with pytest.raises(InputError, match="no such style transfer"):
        StyleTransfer.load(find(tmp_path / "nothing"))


def test_the_command(drawn: Path, tmp_path: Path, mitosight: Any) -> None:
    file = write(tmp_path / "style-transfer.safetensors", transfer())
    given = {"weights": "none", "channels": 8, "normalise": "none"}
    model = checkpoint.save(tmp_path, create("retinanet", ["grey"], given), "retinanet", given, {})
    options = ["--part", "test", "--tiles", 2, "--tile-px", 128, "--rows", 2, "--classifier-steps", 2]
    out = tmp_path / "out"
    status, printed, _ = mitosight("styles", file, "--data", drawn, "--out", out, "--detector", model, *options)
    assert status == 0 and printed.splitlines()[-1] == str(out / "styles.png")
    assert "scanner read from real tiles" in printed and "figures: real 0.000, grey 0.000, pink" in printed
    status, _, told = mitosight("styles", tmp_path / "none", "--data", drawn, "--out", out)
    assert status == 1 and "no such style transfer" in told
