"""Finders of candidates: ratios and centres by hand, statistics that do not depend on tiles, limits of size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mitosight.candidates import BlueRatio, Candidates, Finder, Haematoxylin, Statistics, finder_named, parsed
from mitosight.candidates.blue_ratio import ratios
from mitosight.candidates.finder import parts
from mitosight.candidates.haematoxylin import halved
from mitosight.candidates.slides import reached
from mitosight.errors import InputError, UsageError

PINK, PURPLE, DARK = (235, 190, 215), (140, 110, 175), (60, 40, 110)
FINDERS: list[Finder] = [BlueRatio(), BlueRatio(formula="chang"), Haematoxylin(), Haematoxylin(separation="sparse")]
every_finder = pytest.mark.parametrize("finder", FINDERS, ids=repr)


def drawn(boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (240, 200)) -> NDArray[np.uint8]:
    """Pink noisy ground with paler nuclei in rows and dark boxes (x, y, width, height); `size` is (width, height)."""
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(PINK, 3, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    for x, y, width, height in boxes:
        image[y : y + height, x : x + width] = DARK
    return image


@pytest.mark.parametrize(
    ("colour", "plain", "chang"),
    [((255, 255, 255), 0.50, 16.7), ((90, 60, 140), 0.93, 81.6), ((50, 35, 90), 1.06, 152), ((0, 0, 0), 0, 0)],
)
def test_ratios(colour: tuple[int, int, int], plain: float, chang: float) -> None:
    code = (colour[0] + colour[1]) * 256 + colour[2]
    assert ratios("plain")[code] == pytest.approx(plain, abs=0.005)
    assert ratios("chang")[code] == pytest.approx(chang, rel=0.005)


def test_threshold_of_the_blue_ratio() -> None:
    """Four px of ratio 1/2 and one of 3/2: mean 0.7, variance (4 * 0.04 + 0.64) / 5 = 0.16."""
    image = np.array([[(100, 100, 100)] * 4 + [(50, 50, 150)]], dtype=np.uint8)
    assert BlueRatio().statistics([image]) == Statistics(pytest.approx(0.7 + 3 * 0.4), 5)


@every_finder
def test_a_blob_gives_its_centre_and_area(finder: Finder) -> None:
    """The blur of haematoxylin adds at most a px of half resolution at each side."""
    image = drawn([(40, 60, 20, 12), (150, 100, 12, 24)])
    found = finder.find(image, finder.statistics([image]))
    assert found.xy == pytest.approx(np.array([(50.0, 66.0), (156.0, 112.0)]))
    assert (found.area_px >= (20 * 12 - 4, 12 * 24 - 4)).all() and (found.area_px <= (24 * 16, 16 * 28)).all()


@every_finder
@pytest.mark.parametrize("cut", [64, 90, 118])
def test_statistics_do_not_depend_on_the_cut(finder: Finder, cut: int) -> None:
    image = drawn([(40, 60, 20, 12), (150, 100, 12, 24)], (241, 199))
    pieces = [image[:cut, :100], image[:cut, 100:], image[cut:]]
    assert finder.statistics(pieces) == finder.statistics([image])


@every_finder
@pytest.mark.parametrize("colour", [PINK, (255, 255, 255), (0, 0, 0), PURPLE])
def test_an_even_image_has_no_candidate(finder: Finder, colour: tuple[int, int, int]) -> None:
    """White and black hold no tissue; of another colour all is above its own mean or share, and too large."""
    image = np.full((240, 240, 3), colour, dtype=np.uint8)
    assert len(finder.find(image, finder.statistics([image]))) == 0


@every_finder
def test_tiny_tiles(finder: Finder) -> None:
    image = drawn([(40, 60, 20, 12)])
    statistics = finder.statistics([image])
    for height, width in ((1, 1), (1, 7), (3, 2)):
        assert len(finder.find(image[:height, :width], statistics)) == 0
    assert len(finder.find(image[60:72, 40:60], statistics)) == 1  # all of it a nucleus


def test_limits_of_the_blue_ratio() -> None:
    """1 px is too little; 50 px are not too wide, 51 are; the same for height."""
    boxes = [(5, 5, 1, 1), (20, 5, 2, 1), (20, 30, 50, 3), (20, 60, 51, 3), (150, 30, 3, 50), (180, 30, 3, 51)]
    finder = BlueRatio(formula="plain")
    found = finder.find(drawn(boxes), Statistics(0.8, 1))
    assert found.xy.tolist() == [[21.0, 5.5], [45.0, 31.5], [151.5, 55.0]]
    assert found.area_px.tolist() == [2, 150, 150]


def test_limits_of_haematoxylin() -> None:
    """At half resolution, by the finder's own threshold: 2 x 2 px are too few, 30 x 30 too many for 400."""
    image = drawn([(10, 10, 4, 4), (40, 40, 20, 20), (100, 60, 60, 60)])
    finder = Haematoxylin(most_px=400)
    assert finder.find(image, finder.statistics([image])).xy.tolist() == [[50.0, 50.0]]
    assert len(Haematoxylin(most_side_px=20).find(image, finder.statistics([image]))) == 1


def test_diagonal_neighbours_are_one_part() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[3, 5] = True
    found = parts(mask)
    assert found.area.tolist() == [2, 1]
    assert found.candidates(np.array([True, True]), 2).xy.tolist() == [[2.0, 2.0], [11.0, 7.0]]


@pytest.mark.parametrize("separation", ["fixed", "sparse"])
@pytest.mark.parametrize("colour", [(5, 5, 5), (15, 40, 110)])
def test_one_dark_artefact_changes_nothing_else(separation: str, colour: tuple[int, int, int]) -> None:
    """Black dust over 4 % of the image, and a speck darker than any nucleus: the maximum would follow both."""
    boxes = [(20 + 40 * i, 20 + 40 * j, 14, 14) for i in range(5) for j in range(3)]
    clean, marked = drawn(boxes), drawn(boxes)
    side = 44 if max(colour) < 10 else 6
    marked[150 : 150 + side, 190 : 190 + side] = colour
    finder = Haematoxylin(separation=separation)  # type: ignore[arg-type]
    expected = finder.find(clean, finder.statistics([clean]))
    found = finder.find(marked, finder.statistics([marked]))
    assert len(expected) == len(boxes)
    assert found.xy[found.xy[:, 1] < 140].tolist() == expected.xy.tolist()


def test_the_maximum_follows_an_artefact() -> None:
    """Why the percentile is not 100, as in the reference code: pale nuclei are lost beside one black speck."""
    image = drawn([])
    image[40:60, 40:60] = PURPLE
    finder = Haematoxylin(percentile=100, tissue_lightness=(0, 90))
    assert len(finder.find(image, finder.statistics([image]))) == 1
    image[150:160, 150:160] = 0
    assert finder.find(image, finder.statistics([image])).xy.tolist() == [[155.0, 155.0]]


def test_half_resolution_at_an_odd_border() -> None:
    image = np.array([[0, 2, 10], [4, 6, 20], [8, 12, 30]], dtype=np.uint8)[..., None].repeat(3, axis=2)
    assert halved(image)[..., 0].tolist() == [[3, 15], [10, 30]]


def test_reached() -> None:
    figures = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 50.0]])
    candidates = Candidates(np.array([[30.0, 0.0], [100.0, 31.0]]), np.ones(2))
    assert reached(figures, candidates, 30).tolist() == [True, False, False]
    assert reached(figures, Candidates(), 30).tolist() == [False] * 3
    assert reached(np.empty((0, 2)), candidates, 30).tolist() == []


def test_statistics_as_json() -> None:
    for statistics in (Statistics(0.5, 7, ((0.6, 0.7, 0.3), (0.1, 0.9, 0.1))), Statistics(np.inf, 0)):
        assert Statistics.from_json(statistics.to_json()) == statistics
    for wrong in (None, {}, {"threshold": "x", "pixels": 1, "stains": []}, {"threshold": 1, "pixels": 1, "stains": 3}):
        with pytest.raises(InputError, match="no statistics"):
            Statistics.from_json(wrong)


def test_no_tile_is_an_error() -> None:
    with pytest.raises(InputError, match="without tiles"):
        BlueRatio().statistics([])


def test_finders_by_name() -> None:
    assert finder_named("blue-ratio") == BlueRatio()
    given = parsed(["separation=sparse", "share=0.5", "least_px=9", "tissue_lightness=5,80"])
    assert finder_named("haematoxylin", given) == Haematoxylin(
        separation="sparse", share=0.5, least_px=9, tissue_lightness=(5.0, 80.0)
    )


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("eosin", [], "finder 'eosin' is not known; choose haematoxylin or blue-ratio"),
        ("blue-ratio", ["share=0.4"], "blue-ratio has no setting 'share'; there are formula, deviations"),
        ("blue-ratio", ["formula=red"], "formula is 'red'"),
        ("blue-ratio", ["least_px=0"], "least_px is '0'"),
        ("haematoxylin", ["share=nan"], "share is 'nan'"),
        ("haematoxylin", ["percentile=101"], "percentile is '101'"),
        ("haematoxylin", ["tissue_lightness=90,10"], "tissue_lightness"),
        ("haematoxylin", ["share"], "expected key=value"),
    ],
)
def test_wrong_settings(name: str, words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        finder_named(name, parsed(words))
