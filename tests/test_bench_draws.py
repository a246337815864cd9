"""Slides drawn anew: what is drawn together, scores of what was drawn, intervals and differences."""

import numpy as np
import pytest

from mitosight.bench.counts import Domain, compared, draw, groups, images_of, interval, rates
from mitosight.bench.ranking import RECALLS, Ranking, ranked, ranking, stepped
from mitosight.detections import Detections
from mitosight.evaluation import evaluate
from mitosight.regions import Domain as Origin
from mitosight.regions import Region

ALL_THREE = ("average_precision", "aucpr", "froc_auc")


def region(name: str, scanner: str, figures: int, slide: str = "") -> Region:
    """1 mm² with figures in a row, 25 µm apart."""
    xy = np.array([(100.0 * i, 0) for i in range(figures)]).reshape(-1, 2)
    label = np.ones(figures, np.int64)
    return Region(name, 4000, 4000, xy, label, domain=Origin(scanner), slide=slide, mpp=0.25)


# units and draws


def test_rates_by_hand() -> None:
    found = rates(np.array([[2, 1, 1], [0, 3, 0], [0, 0, 2], [0, 0, 0]]))
    np.testing.assert_allclose(found["precision"], [2 / 3, 0, np.nan, np.nan])
    np.testing.assert_allclose(found["recall"], [2 / 3, np.nan, 0, np.nan])
    np.testing.assert_allclose(found["f1"], [4 / 6, 0, 0, np.nan])


def test_what_shares_a_member_is_one_group() -> None:
    assert groups([("A", "B"), ("C",), ("B", "D"), ("E", "C"), ("D",)]).tolist() == [0, 1, 0, 1, 0]
    assert len(set(groups([("a",), ("b",), ("c",), ("a", "b", "c")]).tolist())) == 1  # tied by the last
    assert groups([]).tolist() == []


def test_images_of_composed_slides_are_drawn_together() -> None:
    """Five slides; the third image ties the first four to one unit. Seven images of both scanners are of six slides."""
    names = ("A|B", "C|D", "B|C", "E", "E")
    regions = [region(f"{k}.png", "x", k, slide) for k, slide in enumerate(names)]
    there = images_of([*regions, region("y.png", "y", 1, "E"), region("z.png", "y", 0, "F")], "scanner")
    assert there["x"].told() == {"images": 5, "figures": 10, "drawn": 2}
    assert there["y"].told() == {"images": 2, "figures": 1, "drawn": 2}
    assert there["x"].unit[3] == there["x"].unit[4] == there["y"].unit[0]


def test_images_of_a_unit_are_drawn_together() -> None:
    """The first unit holds two images, of which one is perfect and one is all wrong: its F1 is always 2 / 3."""
    counts = np.array([[[1, 0, 0], [0, 1, 0], [2, 1, 1]]])
    taken = np.array([[2, 0], [1, 1], [0, 2]])
    drawn = Domain("d", np.array([3, 3, 7]), {"m": counts}).drawn(taken)["m"]
    assert drawn["f1"].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert drawn["recall"].tolist() == pytest.approx([1, 3 / 4, 2 / 3])


def test_a_run_that_finds_nothing_has_no_precision_and_does_not_count_for_it() -> None:
    counts = np.array([[[1, 1, 0]], [[0, 0, 1]]])  # two runs on one image
    drawn = Domain("d", np.array([0]), {"m": counts}).drawn(np.array([[1], [2]]))["m"]
    assert drawn["precision"].tolist() == [0.5, 0.5] and drawn["recall"].tolist() == [0.5, 0.5]
    assert drawn["f1"].tolist() == pytest.approx([1 / 3, 1 / 3])  # 2/3 and 0


def test_an_interval_by_hand() -> None:
    assert interval(np.append(np.arange(41) / 40, np.nan)) == [0.025, 0.975]
    assert interval(np.array([np.nan, np.nan])) is None


def test_four_slides_give_no_interval() -> None:
    counts = {"m": np.tile([1, 1, 0], (1, 5, 1)), "n": np.tile([1, 0, 0], (1, 5, 1))}
    five, four = Domain("five", np.arange(5), counts), Domain("four", np.array([5, 6, 7, 8, 8]), counts)
    whole = draw([five], 100)
    assert interval(whole.mean["m"]["f1"]) == [0.6667, 0.6667] == interval(whole.of("m", "five")["f1"])
    drawn = draw([five, four], 100)
    assert list(drawn.by_domain["m"]) == ["five"] and drawn.mean == {} and drawn.of("m", "four") == {}
    (pair,) = compared([five, four], drawn)
    assert pair == {"a": "m", "b": "n", "difference": -0.3333, "interval": None, "p": None}
    assert draw([four], 100).by_domain == {}


def test_scans_of_the_same_slides_are_drawn_together() -> None:
    """What is found in a slide's one scan is missed in the other: the mean recall is 1/2 on every draw."""
    there = np.array([[[1, 0, 0]] * 3 + [[0, 0, 1]] * 3])
    one = Domain("one", np.arange(6), {"m": there})
    other = Domain("other", np.arange(6), {"m": 1 - there - np.array([0, 1, 0])})
    apart = Domain("apart", np.arange(10, 16), other.counts)
    drawn = draw([one, other], 200)
    assert set(drawn.mean["m"]["recall"].round(6)) == {0.5} and len(set(drawn.of("m", "one")["recall"])) > 3
    assert len(set(draw([one, apart], 200).mean["m"]["recall"].round(6))) > 3


def test_the_better_model_is_better_on_the_same_slides() -> None:
    """On ten images of a slide each one model is right where the other is not, but for one image."""
    right, wrong = np.tile([1, 0, 0], (1, 10, 1)), np.tile([0, 1, 1], (1, 10, 1))
    wrong[0, 0] = (1, 0, 0)
    there = [Domain("d", np.arange(10), {"m": right, "n": wrong, "same": right})]
    pairs = {(p["a"], p["b"]): p for p in compared(there, draw(there, 2000))}
    assert pairs["m", "n"]["difference"] == pytest.approx(0.9) and pairs["m", "n"]["p"] < 0.01
    assert pairs["m", "n"]["interval"][0] > 0.5
    assert pairs["m", "same"]["difference"] == 0 and pairs["m", "same"]["p"] == 1


# scores over all thresholds


def test_what_is_kept_of_points() -> None:
    """A figure, a second point on it that is too far off for its box, a false point, and the second figure."""
    where = region("r.png", "x", 2)
    points = Detections(np.array([[0, 900], [0, 0], [20, 20], [105, 0]]), np.array([0.5, 0.9, 0.8, 0.3]))
    assert ranked({"r.png": points}, [where, region("e.png", "x", 1)], 7.5) == {
        "r.png": {"score": [0.9, 0.8, 0.5, 0.3], "gains": "1001", "boxed": "1001"},
        "e.png": {"score": [], "gains": "", "boxed": ""},
    }


def test_scores_of_drawn_points_by_hand() -> None:
    """Of three figures one is found at 0.9 and one at 0.7, with a false point at 0.8."""
    of_unit = Ranking(
        np.array([0.9, 0.8, 0.7]), np.array([0, 0, 0]), np.array([1, 0, 1]), np.array([1, 0, 1]),
        np.array([3, 0]), np.array([1, 1]),
    )  # fmt: skip
    drawn = of_unit.drawn(np.array([[1, 0], [2, 0], [1, 1], [0, 1]]))
    assert drawn["aucpr"].tolist() == pytest.approx([1 / 3 + 2 / 9] * 3 + [np.nan], nan_ok=True)
    # 34 recalls from 0 to 0.33 have precision 1, 33 to 0.66 have 2/3
    assert drawn["average_precision"].tolist() == pytest.approx([(34 + 22) / 101] * 3 + [np.nan], nan_ok=True)
    # recall 1/3 below one false point an image, 2/3 from there to 8, in 49 steps, one of them across
    one_image = (6 / 3 + 1 / 2 + 42 * 2 / 3) * 8 / 49
    # with the second image, which is empty, half a false point an image: three steps, one across, 45
    assert drawn["froc_auc"].tolist() == pytest.approx(
        [one_image, one_image, (3 / 3 + 1 / 2 + 45 * 2 / 3) * 8 / 49, np.nan], nan_ok=True
    )
    assert of_unit.curve()[RECALLS.searchsorted([0, 0.33, 0.34, 0.66, 0.67])].tolist() == pytest.approx(
        [1, 1, 2 / 3, 2 / 3, 0]
    )


@pytest.mark.parametrize("equal", [False, True])
def test_drawn_scores_are_those_of_an_evaluation_of_what_was_drawn(equal: bool) -> None:
    """Three images of two units, drawn up to three times, against copies of the images under other names.

    Scores are equal between images, or in one image too; then AP hangs on the order of the points and is not compared.
    """
    scores = ALL_THREE[1:] if equal else ALL_THREE
    rng = np.random.default_rng(3)
    regions = [
        Region(f"{k}.png", 600, 600, rng.uniform(0, 600, (12, 2)), np.ones(12, np.int64), mpp=0.25) for k in range(3)
    ]
    points = {
        r.file_name: Detections(
            np.concatenate([r.figures + rng.normal(0, 12, (12, 2)), rng.uniform(0, 600, (20, 2))]),
            (rng.permutation(32) // (4 if equal else 1) + 1) / 33,
        )
        for r in regions
    }
    kept = ranked(points, regions, 7.5)
    of_domain = ranking(kept, [r.file_name for r in regions], np.array([4, 9, 4]), np.array([12, 12, 12]))
    taken = np.array([[1, 1], [3, 1], [0, 2], [2, 0]])
    drawn = of_domain.drawn(taken)
    for i, times in enumerate(taken.tolist()):
        copies = [(r, f"{r.file_name} {n}") for r, u in zip(regions, (0, 1, 0), strict=True) for n in range(times[u])]
        again = [Region(name, 600, 600, r.xy, r.label, mpp=0.25) for r, name in copies]
        total = evaluate({name: points[r.file_name] for r, name in copies}, again, bootstrap=0).total
        assert [drawn[key][i] for key in scores] == pytest.approx([getattr(total, key) for key in scores])
        if i == 0:
            assert total.aucpr == pytest.approx(of_domain.curve().mean(), abs=0.02)


def test_no_points_at_all() -> None:
    nothing = ranking({"r.png": {"score": [], "gains": "", "boxed": ""}}, ["r.png"], np.array([0]), np.array([2]))
    assert {key: values.tolist() for key, values in nothing.drawn(np.array([[1], [3]])).items()} == {
        key: [0, 0] for key in ALL_THREE
    }
    assert not nothing.curve().any()


def test_a_curve_by_hand() -> None:
    found = stepped(np.array([0.0, 0.5, 0.6]), np.array([0.0, 0.8, 0.9]))
    at = dict(zip(RECALLS.round(3).tolist(), found.tolist(), strict=True))
    assert (at[0], at[0.005], at[0.5], at[0.505], at[0.6], at[0.605]) == (0, 0.8, 0.8, 0.9, 0.9, 0)
