"""The tissue mask of drawn slides whose tissue is known, and the geometry of Tissue by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mitosight.errors import InputError, UsageError
from mitosight.slide import Slide, write_tiff
from mitosight.tissue import Tissue, everywhere, find_tissue, finding, preview

MPP = 4.0
TISSUE = np.s_[100:220, 100:260]  # rows, columns: 480 x 640 µm
PENS = {"blue": (40, 60, 170), "green": (30, 140, 80), "black": (45, 42, 48), "red": (205, 35, 45)}
CLEAR = (244, 244, 245)
PALE = (250, 236, 245)  # of the light that falls on it, in 255
ROSY, DENSE = (225, 150, 195), (120, 85, 160)  # eosin, and nuclei packed tightly


def canvas(glass: tuple[int, ...] = CLEAR, size: tuple[int, int] = (320, 480)) -> NDArray[np.float64]:
    """(height, width, 3) of glass with the grain of a scanner."""
    return np.full((*size, 3), glass) + np.random.default_rng(0).normal(0, 1, (*size, 3))


def stain(image: NDArray[np.float64], where: tuple[slice, slice], colour: tuple[int, ...]) -> None:
    """Lays grainy stain on the glass: light is multiplied."""
    grain = np.random.default_rng(1).normal(1, 0.02, image[where].shape[:2])[..., None]
    image[where] *= np.array(colour) / 255 * grain


def found(path: Path, image: NDArray[np.float64], mpp: float = MPP, **arguments: float) -> NDArray[np.bool_]:
    """Whether each level-0 px lies in tissue."""
    write_tiff(path / "slide.tiff", image.clip(0, 255).astype(np.uint8), mpp, compression="lzw")
    with Slide(path / "slide.tiff") as slide:
        tissue = find_tissue(slide, **arguments)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return tissue.holds(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(image.shape[:2])


@pytest.mark.parametrize("colour", [PALE, ROSY, DENSE], ids=["pale", "eosin", "haematoxylin"])
@pytest.mark.parametrize(
    "glass",
    [(255, 255, 255), CLEAR, (190, 190, 190), (242, 238, 220), (226, 233, 244)],
    ids=["white", "clear", "grey", "yellowish", "bluish"],
)
def test_tissue_is_kept_and_glass_dropped(tmp_path: Path, glass: tuple[int, ...], colour: tuple[int, ...]) -> None:
    image = canvas(glass)
    stain(image, TISSUE, colour)
    inside = found(tmp_path, image)
    assert inside[TISSUE].all()
    near = np.zeros_like(inside)
    near[88:232, 88:272] = True  # the margin of 24 µm is 6 px, and two px of the mask are 4
    assert not inside[~near].any()


def test_uneven_light_is_no_tissue(tmp_path: Path) -> None:
    image = canvas()
    stain(image, TISSUE, PALE)
    image *= (1 - 0.2 * (np.arange(480) / 240 - 1) ** 2)[None, :, None]
    inside = found(tmp_path, image)
    assert inside[TISSUE].all()
    assert not inside[:, 280:].any()


@pytest.mark.parametrize("ink", PENS.values(), ids=PENS)
def test_pen_beside_tissue_is_dropped(tmp_path: Path, ink: tuple[int, ...]) -> None:
    image = canvas()
    for colour, rows in ((PALE, np.s_[40:100]), (DENSE, np.s_[140:200]), (ROSY, np.s_[240:300])):
        stain(image, (rows, np.s_[60:200]), colour)
    stain(image, np.s_[20:300, 330:400], ink)
    inside = found(tmp_path, image)
    for rows in (np.s_[40:100], np.s_[140:200], np.s_[240:300]):
        assert inside[rows, 60:200].all()
    assert not inside[:, 220:].any()


def test_black_border_and_white_fill_are_dropped(tmp_path: Path) -> None:
    image = canvas()
    stain(image, TISSUE, PALE)
    image[:30], image[:, -40:] = 0, 0
    image[-60:] = 255
    inside = found(tmp_path, image)
    assert inside[TISSUE].all()
    assert not inside[:80].any() and not inside[240:].any() and not inside[:, 280:].any()


@pytest.mark.parametrize("mpp", [0.25, 2.0])
@pytest.mark.parametrize("colour", [PALE, ROSY, DENSE, (215, 190, 180)], ids=["pale", "eosin", "dense", "old stain"])
def test_tissue_all_over_stays_whole(tmp_path: Path, colour: tuple[int, ...], mpp: float) -> None:
    image = canvas((255, 255, 255), (256, 200))
    stain(image, np.s_[:, :], (235, 200, 225))
    stain(image, np.s_[:, :100], colour)  # two tissues, which a histogram would part
    assert found(tmp_path, image, mpp).all()


def test_no_tissue_is_an_empty_mask(tmp_path: Path) -> None:
    write_tiff(tmp_path / "glass.tiff", canvas().astype(np.uint8), MPP)
    with Slide(tmp_path / "glass.tiff") as slide:
        tissue = find_tissue(slide)
        preview(slide, tissue, tmp_path / "glass.png")
    assert not tissue.mask.any() and tissue.area_mm2(MPP) == 0
    assert not tissue.touches(0, 0, 480, 320)


def test_holes_and_specks_by_their_area(tmp_path: Path) -> None:
    image = canvas()
    stain(image, TISSUE, ROSY)
    image[140:180, 160:200] = CLEAR  # 160 x 160 µm, less the margin on each side
    stain(image, np.s_[20:35, 400:415], ROSY)  # 60 x 60 µm: 0.0036 mm²
    stain(image, np.s_[300:320, 400:410], ROSY)  # smaller, but it may go on beyond the border
    inside = found(tmp_path, image)
    assert inside[160, 180] and not inside[:80].any() and inside[300:, 400:410].all()
    strict = found(tmp_path, image, hole_mm2=0.005, speck_mm2=0.003)
    assert not strict[160, 180] and strict[20:35, 400:415].all()


def near_equal(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
    """Whether two masks differ by at most a px of their border."""
    square = np.ones((3, 3), dtype=bool)
    wider = ndimage.binary_dilation(first, square), ndimage.binary_dilation(second, square)
    return not (first & ~wider[1]).any() and not (second & ~wider[0]).any()


def test_every_layout_gives_the_same_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.repeat(np.repeat(canvas(size=(160, 240)), 4, axis=0), 4, axis=1)
    stain(image, np.s_[200:420, 120:500], (248, 228, 242))  # not so pale that grain decides at its corner
    stain(image, np.s_[300:600, 600:900], DENSE)
    pixels, masks = image.clip(0, 255).astype(np.uint8), []
    for name, tile_px, pyramid in (("levels", 64, True), ("few", 256, True), ("none", 256, False)):
        write_tiff(tmp_path / f"{name}.tiff", pixels, 1.0, compression="lzw", tile_px=tile_px, pyramid=pyramid)
        with Slide(tmp_path / f"{name}.tiff") as slide:
            masks.append(find_tissue(slide).mask)
    monkeypatch.setattr(finding, "READ_PX", 100)
    with Slide(tmp_path / "none.tiff") as slide:
        masks.append(find_tissue(slide).mask)  # in many squares, as a large slide is read
    assert masks[0].any() and not masks[0].all()
    assert all(near_equal(masks[0], mask) for mask in masks[1:])


def test_one_px_high(tmp_path: Path) -> None:
    image = canvas((255, 255, 255), (1, 500))
    stain(image, np.s_[:, :], ROSY)
    assert found(tmp_path, image, 0.25).all()


def test_unknown_mpp_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(canvas().astype(np.uint8)).save(tmp_path / "plain.png")
    with Slide(tmp_path / "plain.png") as slide, pytest.raises(InputError, match="--mpp"):
        find_tissue(slide)
    with Slide(tmp_path / "plain.png", mpp=1) as slide, pytest.raises(UsageError, match="a tissue mask of 0"):
        find_tissue(slide, mask_mpp=0)


def test_geometry_by_hand() -> None:
    mask = np.array([[True, False, False], [False, False, True]])
    tissue = Tissue(mask, 10.0, (25, 18))  # the last column is 5 px wide, the last row 8 px high
    assert tissue.area_mm2(1.0) == pytest.approx((10 * 10 + 5 * 8) / 1e6)
    assert tissue.area_mm2(0.5) == pytest.approx(140 / 4e6)
    xy = np.array([[0, 0], [9.99, 9.99], [10, 5], [20, 10], [25, 18], [25.1, 15], [-0.1, 5], [22, 9.9]])
    assert tissue.holds(xy).tolist() == [True, True, False, True, True, False, False, False]
    assert tissue.holds(np.empty((0, 2))).tolist() == []
    assert tissue.touches(9, 9, 12, 12)
    assert not tissue.touches(10, 0, 25, 10)
    assert tissue.touches(10, 0, 25, 10.5)
    assert tissue.touches(-50, -50, 1, 1)
    assert not tissue.touches(-50, -50, 0, 0)
    assert not tissue.touches(25, 10, 40, 18)


def test_everywhere_is_the_whole_slide(tmp_path: Path) -> None:
    Image.fromarray(canvas().astype(np.uint8)).save(tmp_path / "plain.png")
    with Slide(tmp_path / "plain.png") as slide:
        tissue = everywhere(slide)
    assert tissue.area_mm2(1000.0) == 480 * 320
    assert tissue.holds(np.array([[0, 0], [480, 320], [481, 0]])).tolist() == [True, True, False]


def test_preview_shows_the_outline(tmp_path: Path) -> None:
    image = canvas()
    stain(image, TISSUE, ROSY)
    write_tiff(tmp_path / "slide.tiff", image.clip(0, 255).astype(np.uint8), MPP)
    mask = np.zeros((16, 24), dtype=bool)
    mask[5:11, 5:13] = True
    with Slide(tmp_path / "slide.tiff") as slide:
        preview(slide, Tissue(mask, 20.0, (480, 320)), tmp_path / "preview.png")
    picture = np.asarray(Image.open(tmp_path / "preview.png"))
    assert picture.shape == (320 + 44, 480, 3)
    line = (picture == (0, 150, 60)).all(axis=2)
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (100, 219, 100, 259)
    assert line.sum() == 120 * 160 - 116 * 156
    assert (picture[320:] < 100).any()
