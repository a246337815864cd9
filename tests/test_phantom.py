"""Phantoms: the same seed is the same tissue, figures are where they are said to be, folders load again."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from typer.testing import CliRunner

from mitosight.cli import app
from mitosight.errors import UsageError
from mitosight.phantom import LOOKALIKES, PHASES, SCANNERS, Tissue, draw_tissue, scan, write, write_pairs
from mitosight.phantom.canvas import Canvas, smooth_noise
from mitosight.regions import HARD_NEGATIVE, MITOTIC_FIGURE, load
from mitosight.slide import Slide

SIZE_UM = (110.0, 90.0)
A = SCANNERS["phantom-A"]


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return draw_tissue(5, SIZE_UM, figures_per_mm2=900, lookalikes_per_mm2=900)


def test_the_same_seed_draws_the_same_tissue_and_another_does_not(tissue: Tissue) -> None:
    again = draw_tissue(5, SIZE_UM, figures_per_mm2=900, lookalikes_per_mm2=900)
    other = draw_tissue(6, SIZE_UM, figures_per_mm2=900, lookalikes_per_mm2=900)
    assert again.figures == tissue.figures and other.figures != tissue.figures
    np.testing.assert_array_equal(again.haematoxylin, tissue.haematoxylin)
    np.testing.assert_array_equal(again.eosin, tissue.eosin)
    assert not np.array_equal(other.haematoxylin, tissue.haematoxylin)


def test_the_seed_of_a_scan_changes_the_noise_alone(tissue: Tissue) -> None:
    first, region = scan(tissue, A, 1)
    again, _ = scan(tissue, A, 1)
    second, other = scan(tissue, A, 2)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(region.xy, other.xy)
    difference = first.astype(float) - second
    assert 0 < np.abs(difference).mean() < 3 * A.noise and abs(difference.mean()) < 0.1


def test_all_scanners_see_the_same_figures_at_their_own_scale(tissue: Tissue) -> None:
    xy_um = np.array([f.xy_um for f in tissue.figures])
    assert len(xy_um) > 5
    for scanner in SCANNERS.values():
        image, region = scan(tissue, scanner, 0)
        np.testing.assert_allclose(region.xy * scanner.mpp, xy_um, atol=1e-9)
        assert region.label.tolist() == [f.label for f in tissue.figures]
        assert (region.slide, region.mpp, region.domain.scanner) == ("phantom-5", scanner.mpp, scanner.name)
        assert image.dtype == np.uint8 and image.shape == (region.height_px, region.width_px, 3)
        np.testing.assert_allclose(np.array(image.shape[1::-1]) * scanner.mpp, SIZE_UM, atol=scanner.mpp)


def test_figures_lie_inside_and_apart(tissue: Tissue) -> None:
    for scanner in SCANNERS.values():
        region = scan(tissue, scanner, 0)[1]
        assert (region.xy > 25).all() and (region.xy < np.array([region.width_px, region.height_px]) - 25).all()
        assert pdist(region.xy).min() > 25


@pytest.mark.parametrize("kind", [*PHASES, *LOOKALIKES])
def test_a_requested_kind_is_drawn_labelled_and_darker_than_its_surroundings(kind: str) -> None:
    phases, others = ([kind], []) if kind in PHASES else ([], [kind])
    found = 0
    for seed in range(4):
        drawn = draw_tissue(seed, (80, 80), 900, 900, phases, others)
        assert {f.phase for f in drawn.figures} <= {kind}
        assert {f.label for f in drawn.figures} <= {MITOTIC_FIGURE if kind in PHASES else HARD_NEGATIVE}
        grey = scan(drawn, A, seed)[0].mean(axis=2)
        found += len(drawn.figures)
        for figure in drawn.figures:
            near, around = (pixels(grey, figure.xy_um, *ring) for ring in ((0, 7.0), (7.0, 10.0)))
            darkest = np.sort(near)[: len(near) // 20]
            assert darkest.mean() < np.median(around) - 30, (seed, figure)
    assert found >= 8


def pixels(grey: NDArray[np.float64], xy_um: tuple[float, float], inner_um: float, outer_um: float) -> NDArray:
    """Values in a ring around a point."""
    y, x = (np.indices(grey.shape) + 0.5) * A.mpp
    distance = np.hypot(x - xy_um[0], y - xy_um[1])
    return grey[(distance >= inner_um) & (distance < outer_um)]


def test_annotated_objects_are_where_haematoxylin_was_laid(tissue: Tissue) -> None:
    # the same tissue without its figures cannot be drawn, so: the mass of stain within 6 µm is centred on the point
    dense = np.maximum(tissue.haematoxylin - 0.8, 0)
    y, x = (np.indices(dense.shape) + 0.5) * tissue.mpp
    offsets = []
    for figure in tissue.figures:
        weight = dense * (np.hypot(x - figure.xy_um[0], y - figure.xy_um[1]) < 6.5)
        if weight.sum() > 0:
            offsets.append(
                [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()] - np.array(figure.xy_um)
            )
    assert len(offsets) > len(tissue.figures) / 2
    assert np.abs(np.median(offsets, axis=0)).max() < 0.5  # µm: no shift between the drawing and its annotation


def test_look_alikes_are_as_dark_as_figures() -> None:
    darkest: dict[int, list[float]] = {MITOTIC_FIGURE: [], HARD_NEGATIVE: []}
    for seed in range(5):
        drawn = draw_tissue(seed, (128, 128), 600, 600)
        grey = scan(drawn, A, seed)[0].mean(axis=2)
        for figure in drawn.figures:
            darkest[figure.label].append(float(np.percentile(pixels(grey, figure.xy_um, 0, 5), 10)))
    figures, others = (np.array(darkest[label]) for label in (MITOTIC_FIGURE, HARD_NEGATIVE))
    assert min(len(figures), len(others)) > 20
    auc = (figures[:, None] < others[None, :]).mean()
    assert 0.2 < auc < 0.9, auc  # darkness alone does not tell them apart


def test_scanners_differ_in_colour_and_two_are_far_off(tissue: Tissue) -> None:
    means = {name: scan(tissue, scanner, 0)[0].mean(axis=(0, 1)) for name, scanner in SCANNERS.items()}
    assert len(means) >= 6
    assert pdist(np.array(list(means.values()))).min() > 5
    offset = {name: np.linalg.norm(mean - means["phantom-A"]) for name, mean in means.items()}
    assert sorted(offset, key=lambda name: offset[name])[-2:] in (
        ["phantom-E", "phantom-F"],
        ["phantom-F", "phantom-E"],
    )


def test_the_reference_scanner_has_the_colours_of_real_sections() -> None:
    # range over fields of a real scanner with the same character, as measured once: mean R, G, B
    mean = np.mean([scan(draw_tissue(seed, (128, 128)), A, 0)[0].mean(axis=(0, 1)) for seed in range(4)], axis=0)
    assert ((np.array([175, 115, 191]) < mean) & (mean < np.array([202, 158, 208]))).all(), mean


def test_optical_density_adds_up_in_an_ideal_scanner(tissue: Tissue) -> None:
    from dataclasses import replace

    ideal = replace(A, strength=(1, 1), white=(1, 1, 1), vignetting=0, blur_um=1e-6, sharpening=0, noise=0)
    image = scan(tissue, ideal, 0)[0]
    h, e = (np.array(v) / np.linalg.norm(v) for v in (A.haematoxylin, A.eosin))
    density = tissue.haematoxylin[..., None] * h + tissue.eosin[..., None] * e
    np.testing.assert_array_equal(np.abs(image - 255 * 10.0**-density) <= 0.51, True)


def test_a_written_folder_loads_again_with_the_scanners_mpp(tmp_path: Path) -> None:
    split = {"train": [3], "test": [4]}
    written = write(tmp_path, ["phantom-B", "phantom-E"], [3, 4], (64, 64), split, figures_per_mm2=900)
    data = load(tmp_path)
    assert [r.file_name for r in data.regions] == [r.file_name for r in written]
    assert {r.file_name for r in data.part("train")} == {"phantom-B_3.tiff", "phantom-E_3.tiff"}
    for region, source in zip(data.regions, written, strict=True):
        scanner = SCANNERS[region.domain.scanner]
        np.testing.assert_allclose(region.xy, source.xy, atol=0.51)
        assert region.label.tolist() == source.label.tolist()
        assert (region.slide, region.mpp) == (source.slide, scanner.mpp)
        with Slide(data.image_path(region)) as slide:  # no table: from the file's own tags
            assert slide.mpp == pytest.approx(scanner.mpp, rel=1e-4)
            assert (slide.width_px, slide.height_px) == (region.width_px, region.height_px)
        with tifffile.TiffFile(data.image_path(region)) as file:
            assert file.pages[0].is_tiled and file.pages[0].compression.name == "JPEG"


def test_pairs_give_each_scanner_its_own_slides(tmp_path: Path) -> None:
    found = write_pairs(tmp_path, [("phantom-A", 1), ("phantom-C", 2)], (40, 40))
    assert [r.slide for r in found] == ["phantom-1", "phantom-2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seed": -1}, "seed -1"),
        ({"size_um": (10, 100)}, "32 to 4096"),
        ({"size_um": (float("nan"), 100)}, "32 to 4096"),
        ({"figures_per_mm2": -1}, "0 to 2000"),
        ({"phases": ["interphase"]}, "'interphase'"),
        ({"lookalikes": ["metaphase"]}, "'metaphase'"),
    ],
)
def test_impossible_drawings_are_refused(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        draw_tissue(**{"seed": 1, **arguments})  # type: ignore[arg-type]


def test_folders_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    for scanners, seeds, split in (
        (["phantom-X"], [1], None),
        (["phantom-A", "phantom-A"], [1], None),
        (["phantom-A"], [], None),
        (["phantom-A"], [1], {"train": [1], "test": [1]}),
    ):
        with pytest.raises(UsageError):
            write(tmp_path / "out", scanners, seeds, (40, 40), split)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_folder_and_lists_scanners(tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["phantom", "--list"])
    assert listed.exit_code == 0 and all(name in listed.output for name in (*SCANNERS, *PHASES, *LOOKALIKES))
    chosen = ["--scanner", "phantom-A", "--scanner", "phantom-F", "--regions", "3", "--own-tissue"]
    size = ["--size-um", "40", "40", "--seed", "7", "--split", "1", "1", "1"]
    assert run(app, ["phantom", str(tmp_path), *chosen, *size]).exit_code == 0
    data = load(tmp_path)
    assert [r.slide for r in data.regions] == [f"phantom-{seed}" for seed in range(7, 13)]
    assert [r.file_name for r in data.part("val")] == ["phantom-A_8.tiff", "phantom-F_11.tiff"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["OUT", "--scanner", "X"],
        ["OUT", "--width-px", "200"],
        ["OUT", "--width-px", "200", "--height-px", "200", "--size-um", "50", "50"],
        ["OUT", "--width-px", "200", "--height-px", "200", "--scanner", "all"],
        ["OUT", "--split", "1", "1", "1"],
    ],
)
def test_wrong_commands_are_refused(arguments: list[str], tmp_path: Path) -> None:
    given = [str(tmp_path / "out") if a == "OUT" else a for a in arguments]
    result = CliRunner().invoke(app, ["phantom", *given])
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()


def test_a_size_in_pixels_is_the_scanners(tmp_path: Path) -> None:
    size = ["--width-px", "160", "--height-px", "150", "--scanner", "phantom-B"]
    assert CliRunner().invoke(app, ["phantom", str(tmp_path), *size]).exit_code == 0
    region = load(tmp_path).regions[0]
    assert (region.width_px, region.height_px) == (160, 150)


def test_noise_fields_are_standard_and_smooth_at_the_asked_scale() -> None:
    rng = np.random.default_rng(0)
    for sigma_px in (1.5, 8.0):
        field = smooth_noise(rng, (300, 400), sigma_px)
        assert field.shape == (300, 400) and abs(field.mean()) < 0.15 and 0.8 < field.std() < 1.15
        correlation = np.corrcoef(field[:, :-1].ravel(), field[:, 1:].ravel())[0, 1]
        assert correlation == pytest.approx(np.exp(-1 / (4 * sigma_px**2)), abs=0.05)  # of a field blurred by sigma


def test_objects_beyond_the_border_leave_the_canvas_alone() -> None:
    canvas = Canvas(np.random.default_rng(0), (40.0, 40.0))
    assert canvas.window((-30.0, 20.0), 10.0) is None
    window = canvas.window((0.0, 20.0), 5.0)
    assert window is not None and window.x.min() > 0
    window.lay(np.ones_like(window.x), 0.5, 0.25)
    assert canvas.h.max() == 0.5 and canvas.h[:, 25:].max() == 0
