"""The report: counts by group, what undefined scores are, intervals, suppression, errors, published experiments."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mitosight import detections as found_points
from mitosight import regions as annotated
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.evaluation import check_images, evaluate
from mitosight.regions import Domain, Region

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published"
MPP = 0.25  # 7.5 µm are 30 px


def region(
    name: str, figures: list[tuple[float, float]], hard: Sequence[tuple[float, float]] = (), **more: Any
) -> Region:
    label = [1] * len(figures) + [2] * len(hard)
    return Region(name, 4000, 2000, np.reshape([*figures, *hard], (-1, 2)), np.array(label), **{"mpp": MPP, **more})


def points(*rows: tuple[float, float, float]) -> Detections:
    table = np.reshape(rows, (-1, 3))
    return Detections(table[:, :2], table[:, 2])


XR, CS2 = Domain("XR", "breast"), Domain("CS2", "lymphoma")
REGIONS = [
    region("a", [(100, 100), (500, 100)], [(900, 100)], domain=XR),
    region("b", [(100, 100)], domain=XR),
    region("c", [], domain=CS2),
    region("d", [(300, 300), (700, 300)], domain=CS2),
]
FOUND = {
    "a": points((110, 100, 0.9), (105, 100, 0.8), (905, 100, 0.7), (500, 120, 0.4)),
    "c": points((50, 50, 0.6)),
    "d": points((300, 300, 0.95), (700, 310, 0.3)),
}


def test_counts_by_hand_in_total_and_by_group() -> None:
    report = evaluate(FOUND, REGIONS, threshold=0.5)
    total = report.total
    assert (total.true_positives, total.false_positives, total.false_negatives) == (2, 3, 3)
    assert (total.images, total.figures, total.detections) == (4, 5, 5)
    assert total.precision == pytest.approx(2 / 5)
    assert total.recall == pytest.approx(2 / 5)
    assert total.f1 == pytest.approx(2 / 5)
    xr, cs2 = report.by_scanner["XR"], report.by_scanner["CS2"]
    assert (xr.true_positives, xr.false_positives, xr.false_negatives) == (1, 2, 2)
    assert (cs2.true_positives, cs2.false_positives, cs2.false_negatives) == (1, 1, 1)
    assert report.by_tumor_type["breast"].to_json() == xr.to_json()
    assert list(report.by_image) == ["a", "b", "c", "d"]
    assert (report.by_image["b"].false_negatives, report.by_image["b"].f1) == (1, 0)


def test_an_image_without_predictions_counts_its_misses() -> None:
    assert evaluate({}, REGIONS).total.false_negatives == 5
    assert evaluate({}, REGIONS).total.f1 == 0


def test_no_threshold_counts_every_detection() -> None:
    total = evaluate(FOUND, REGIONS).total
    assert (total.true_positives, total.false_positives, total.false_negatives) == (4, 3, 1)


def test_the_threshold_itself_counts() -> None:
    assert evaluate(FOUND, REGIONS, threshold=0.95).total.detections == 1


@pytest.mark.parametrize("matching", ["one-to-one", "many-to-many"])
def test_groups_add_up_to_the_total(matching: str) -> None:
    report = evaluate(*drawn(3), threshold=0.5, matching=matching)
    for name in ("images", "figures", "detections", "true_positives", "false_positives", "false_negatives"):
        for group in (report.by_scanner, report.by_tumor_type, report.by_image):
            assert sum(getattr(scores, name) for scores in group.values()) == getattr(report.total, name)
    assert report.total.true_positives + report.total.false_negatives == report.total.figures


def drawn(seed: int, images: int = 12) -> tuple[dict[str, Detections], list[Region]]:
    """Random images with figures, some found, and false detections."""
    random = np.random.default_rng(seed)
    regions, found = [], {}
    for i in range(images):
        xy = random.random((int(random.integers(0, 30)), 2)) * 800
        domain = Domain(f"scanner {i % 3}", f"tumour {i % 2}")
        regions.append(Region(str(i), 800, 800, xy, np.ones(len(xy), dtype=np.int64), domain=domain, mpp=MPP))
        seen = xy[random.random(len(xy)) < 0.8] + random.normal(0, 8)
        every = np.concatenate([seen, random.random((int(random.integers(0, 30)), 2)) * 800])
        found[str(i)] = Detections(every, np.round(random.random(len(every)), 2))
    return found, regions


def test_the_curve_is_exact_at_every_threshold_under_both_rules() -> None:
    found, regions = drawn(4)
    for matching in ("one-to-one", "many-to-many"):
        curve = evaluate(found, regions, matching=matching, bootstrap=0).total.curve
        assert curve is not None
        for k in range(0, len(curve.threshold), 7):
            at = evaluate(found, regions, threshold=curve.threshold[k], matching=matching, bootstrap=0).total
            assert (at.true_positives, at.false_positives) == (curve.true_positives[k], curve.false_positives[k])


def test_the_best_threshold_gives_the_best_f1_and_the_plateau_holds() -> None:
    found, regions = drawn(5)
    total = evaluate(found, regions, bootstrap=0).total
    best = total.best
    assert best is not None and total.curve is not None
    assert best.f1 == pytest.approx(total.curve.f1_at(np.linspace(0, 1, 1001)).max())
    assert evaluate(found, regions, threshold=best.threshold).total.f1 == best.f1
    for threshold in (best.low, best.centre, best.high):
        assert (evaluate(found, regions, threshold=threshold).total.f1 or 0) >= 0.99 * best.f1


def test_densities_need_every_area() -> None:
    total = evaluate(FOUND, REGIONS, threshold=0.5).total
    assert total.area_mm2 == pytest.approx(4 * 1.0 * 0.5)
    assert total.figures_per_mm2 == pytest.approx(2.5)
    assert total.false_positives_per_mm2 == pytest.approx(1.5)
    unknown = evaluate(FOUND, [*REGIONS[:3], replace(REGIONS[3], width_px=0, height_px=0)], threshold=0.5)
    assert unknown.total.area_mm2 is None
    assert unknown.total.false_positives_per_mm2 is None
    assert unknown.by_scanner["XR"].false_positives_per_mm2 == pytest.approx(2.0)


def test_false_positives_on_hard_negatives() -> None:
    report = evaluate(FOUND, REGIONS, threshold=0.5)
    assert report.total.hard_negative_share == pytest.approx(1 / 3)
    assert report.by_scanner["CS2"].hard_negative_share is None  # none is labelled there


def test_mistakes_are_listed_by_falling_score() -> None:
    report = evaluate(FOUND, REGIONS, threshold=0.5)
    wrong, missed = report.false_positives, report.misses
    # on figure a1 the nearer point is the one of 0.8; the one of 0.9 is its duplicate
    assert list(zip(wrong.file_name.tolist(), wrong.score.tolist(), wrong.on_hard_negative.tolist(), strict=True)) == [
        ("a", 0.9, False),
        ("a", 0.7, True),
        ("c", 0.6, False),
    ]
    assert missed.file_name.tolist() == ["a", "d", "b"]
    assert missed.xy.tolist() == [[500, 100], [700, 300], [100, 100]]
    np.testing.assert_array_equal(missed.score, [0.4, 0.3, np.nan])


def test_undefined_scores_are_none() -> None:
    nothing = evaluate({}, [REGIONS[2]]).total
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    assert (nothing.average_precision, nothing.froc_auc, nothing.best_f1) == (None, None, None)
    silent = evaluate({}, [REGIONS[1]]).total
    assert (silent.precision, silent.recall, silent.f1, silent.average_precision) == (None, 0, 0, 0)


def test_the_radius_follows_mpp() -> None:
    found = {"a": points((131, 100, 1))}  # 31 px: 7.75 µm at 0.25, 7.13 µm at 0.23
    assert evaluate(found, [region("a", [(100, 100)])]).total.true_positives == 0
    assert evaluate(found, [region("a", [(100, 100)], mpp=0.23)]).total.true_positives == 1
    assert evaluate(found, [region("a", [(100, 100)])], radius_um=8).total.true_positives == 1
    assert evaluate(found, [region("a", [(100, 100)], mpp=0.23)], radius_px=30).total.true_positives == 0


def test_an_unknown_mpp_is_an_error_unless_the_radius_is_in_px() -> None:
    regions = [replace(REGIONS[0], mpp=None)]
    with pytest.raises(InputError, match=r"a: its µm per px is not known .*--mpp"):
        evaluate({}, regions)
    total = evaluate({"a": FOUND["a"]}, regions, radius_px=30).total
    assert (total.true_positives, total.average_precision) == (2, None)


def test_suppression_and_floor_come_first() -> None:
    found = {"a": points((100, 100, 0.9), (115, 100, 0.5), (900, 500, 0.05))}
    total = evaluate(found, [REGIONS[0]], nms_radius_px=25).total
    assert (total.true_positives, total.false_positives) == (1, 1)
    total = evaluate(found, [REGIONS[0]], nms_radius_px=25, nms_score_floor=0.1).total
    assert (total.true_positives, total.false_positives) == (1, 0)


def test_detections_on_unknown_images_are_an_error() -> None:
    with pytest.raises(InputError, match=r"not annotated: x; file names .* such as a"):
        evaluate({"x": points((1, 1, 1))}, REGIONS)
    with pytest.raises(InputError, match=r"found\.csv: .*: x, y, z and 1 more"):
        check_images({name: points() for name in ("x", "y", "z", "zz")}, REGIONS, "found.csv")


def test_regions_must_be_there_once() -> None:
    with pytest.raises(InputError, match="no annotated images"):
        evaluate({}, [])
    with pytest.raises(InputError, match="the image a 2 times"):
        evaluate({}, [REGIONS[0], REGIONS[0]])


@pytest.mark.parametrize(
    "wrong", [{"matching": "best"}, {"threshold": np.nan}, {"radius_um": 0}, {"radius_px": np.nan}, {"bootstrap": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        evaluate(FOUND, REGIONS, **wrong)


def test_intervals_are_repeatable_and_hold_the_score() -> None:
    found, regions = drawn(6, images=40)
    reports = [evaluate(found, regions, threshold=0.4, bootstrap=300, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (report.total.intervals for report in reports)
    assert first == again != other
    for name, (low, high) in first.items():
        assert low < getattr(reports[0].total, name) < high
    assert set(reports[0].by_scanner["scanner 0"].intervals) == {"precision", "recall", "f1"}
    assert evaluate(found, regions, bootstrap=0).total.intervals == {}


def test_intervals_of_equal_images_are_points() -> None:
    regions = [region(str(i), [(100, 100), (500, 100)]) for i in range(5)]
    found = {str(i): points((100, 100, 1), (900, 100, 1)) for i in range(5)}
    assert evaluate(found, regions).total.intervals["f1"] == (0.5, 0.5)


def test_json_has_the_same_keys_for_every_group() -> None:
    value = evaluate(FOUND, REGIONS, threshold=0.5, seed=3).to_json()
    json.dumps(value, allow_nan=False)
    asked = {"true_positives", "false_positives", "false_negatives", "precision", "recall", "f1"}
    asked |= {"average_precision", "froc_auc", "aucpr", "best_f1", "best_threshold"}
    groups = [value, *value["by_scanner"].values(), *value["by_tumor_type"].values(), *value["by_image"].values()]
    assert all(asked <= set(group) for group in groups)
    assert value["settings"]["threshold"] == 0.5
    assert value["settings"]["radius_um"] == 7.5
    assert max(row["f1"] for row in value["f1_by_threshold"]) == value["best_f1"]


def test_the_table_names_every_group() -> None:
    table = evaluate(FOUND, REGIONS, threshold=0.5).table()
    assert all(word in table for word in ("XR", "CS2", "breast", "lymphoma", "all images", "0.400", "33%"))
    assert "by scanner" not in evaluate({}, [region("a", [(1, 1)])]).table()  # nothing is known of it


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs the published detections in {PUBLISHED}")
@pytest.mark.parametrize("experiment", ["amida13-test-alternative", "tupac16-retinanet-augmented"])
@pytest.mark.parametrize(
    ("rule", "matching", "radius_px"),
    [
        ("many_to_many_25px", "many-to-many", 25.0),
        ("one_to_one_25px", "one-to-one", 25.0),
        ("one_to_one_7.5um", "one-to-one", None),
    ],
)
def test_published_counts_to_the_last_digit(experiment: str, rule: str, matching: str, radius_px: float | None) -> None:
    folder = PUBLISHED / experiment
    expected = json.loads((folder / "expected.json").read_text())
    regions = [replace(one, mpp=expected["mpp"]) for one in annotated.read(folder / "annotations.json")]
    total = evaluate(
        found_points.read(folder / "detections.csv"),
        regions,
        threshold=expected["score_threshold"],
        matching=matching,
        radius_px=radius_px,
        nms_radius_px=expected["nms_radius_px"],
        nms_score_floor=expected["nms_score_floor"],
        bootstrap=0,
    ).total
    assert {name: getattr(total, name) for name in expected[rule]} == expected[rule]


def test_two_files_of_one_image_are_not_one_image(tmp_path: Path) -> None:
    for name in ("s.csv", "s-1234abcd.csv"):
        (tmp_path / name).write_text("file_name,x_px,y_px,score\ns.tiff,1,2,0.5\n")
    with pytest.raises(InputError, match=r"s\.csv: holds detections of s\.tiff, as does s-1234abcd\.csv"):
        found_points.read(tmp_path)
