"""Searches: ranges, stored and resumed studies with a stub objective, trainings and the adaptation at the command."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import write_folder, write_recipe
from mitosight import recipe
from mitosight.errors import InputError, UsageError
from mitosight.methods.kondo2021 import Kondo2021
from mitosight.tuning import Adapting, Range, search
from mitosight.tuning.study import Report, Values

Run = Callable[..., tuple[int, str, str]]
LR = Range("lr", 1e-6, 1e-2, True)
TINY = """method = "kondo2021"
[detector]
weights = "none"
tile_px = 256
patch_px = 32
widths = [8, 4]
sampling = "balanced"
patches_per_batch = 8
[training]
validation_batches = 1
[optimisation]
epochs = 1
steps_per_epoch = 1
optimiser = "adam"
schedule = "constant"
"""


class Stub:
    """Scores a value by how near it is to 1e-4; takes down what it was asked, and fails where it is told to."""

    def __init__(self, interrupt: int = -1) -> None:
        self.asked: list[tuple[float, str]] = []
        self.interrupt = interrupt

    def __call__(self, values: Values, folder: Path, report: Report) -> float:
        self.asked.append((values["lr"], folder.name))
        if len(self.asked) - 1 == self.interrupt:
            raise KeyboardInterrupt
        return -abs(values["lr"] - 1e-4)


def table(out: Path) -> list[dict[str, str]]:
    with open(out / "trials.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lr=1e-6:1e-2:log", Range("lr", 1e-6, 1e-2, True)),
        ("optimisation.momentum=0.5:0.99", Range("optimisation.momentum", 0.5, 0.99)),
        ("epochs=1:10", Range("epochs", 1, 10)),
    ],
)
def test_ranges_are_read(text: str, wanted: Range) -> None:
    assert Range.parse(text) == wanted
    assert isinstance(Range.parse(text).low, int) == (text == "epochs=1:10")


@pytest.mark.parametrize("text", ["lr", "lr=1", "lr=1:2:lin", "lr=2:1", "lr=0:1:log", "lr=a:b", "=1:2", "lr=1:2:"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected key=low:high"):
        Range.parse(text)


def test_the_best_of_the_trials_is_found_and_told(tmp_path: Path) -> None:
    stub = Stub()
    best = search(stub, [LR], 8, tmp_path / "out", {"a": 1})
    scores = {value: -abs(value - 1e-4) for value, _ in stub.asked}
    assert len(scores) == 8 and all(1e-6 <= value <= 1e-2 for value in scores)
    assert best.score == max(scores.values()) and scores[best.values["lr"]] == best.score
    assert best.folder == tmp_path / "out" / f"trial-{best.number:03d}"
    rows = table(tmp_path / "out")
    assert [row["trial"] for row in rows] == [str(k) for k in range(8)]
    assert {row["state"] for row in rows} == {"complete"}


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """Three trials in all: the interrupted one begins again with its value, in its folder; none is done twice."""
    first, second = Stub(interrupt=1), Stub()
    with pytest.raises(KeyboardInterrupt):
        search(first, [LR], 3, tmp_path, {"a": 1})
    search(second, [LR], 3, tmp_path, {"a": 1})
    assert len(first.asked) == 2 and len(second.asked) == 2
    assert second.asked[0] == first.asked[1]
    values = {value for value, _ in first.asked + second.asked}
    assert len(values) == 3 and len(table(tmp_path)) == 3
    third = Stub()
    search(third, [LR], 3, tmp_path, {"a": 1})
    assert third.asked == []
    search(third, [LR], 4, tmp_path, {"a": 1})
    assert len(third.asked) == 1 and third.asked[0][0] not in values


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    seen = []

    def objective(values: Values, folder: Path, report: Report) -> float:
        seen.append(values["epochs"])
        return 0.0

    search(objective, [Range("epochs", 1, 3)], 4, tmp_path, {})
    assert all(isinstance(value, int) and 1 <= value <= 3 for value in seen)


def test_poor_trials_are_ended_early(tmp_path: Path) -> None:
    """Six good trials report 1, then 2; a later one that reports 0 does not come to its second report."""
    reached = []

    def objective(values: Values, folder: Path, report: Report) -> float:
        number = int(folder.name.removeprefix("trial-"))
        report(0, 1.0 if number < 6 else 0.0)
        reached.append(number)
        report(1, 2.0)
        return 2.0 + number / 100

    best = search(objective, [LR], 7, tmp_path, {})
    assert reached == [0, 1, 2, 3, 4, 5]
    assert best.number == 5
    assert [row["state"] for row in table(tmp_path)] == ["complete"] * 6 + ["pruned"]


def test_a_loss_that_is_not_finite_ends_a_trial_and_bad_data_the_search(tmp_path: Path) -> None:
    def breaks(values: Values, folder: Path, report: Report) -> float:
        if folder.name == "trial-000":
            raise InputError(None, "the loss of step 1 (batch 0) is not finite: box nan")
        return 1.0

    assert search(breaks, [LR], 2, tmp_path / "a", {}).number == 1

    def bad(values: Values, folder: Path, report: Report) -> float:
        raise InputError("x.tiff", "is truncated")

    with pytest.raises(InputError, match="truncated"):
        search(bad, [LR], 2, tmp_path / "b", {})


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    search(Stub(), [LR], 1, tmp_path / "out", {"by": "f1"})
    with pytest.raises(InputError, match=r"holds another search \(by differ\)"):
        search(Stub(), [LR], 1, tmp_path / "out", {"by": "aucpr"})
    with pytest.raises(InputError, match=r"holds another search \(search differ\)"):
        search(Stub(), [Range("lr", 1e-5, 1e-2, True)], 1, tmp_path / "out", {"by": "f1"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds no study.journal"):
        search(Stub(), [LR], 1, tmp_path / "full", {})


def test_one_search_at_a_time_in_a_folder(tmp_path: Path) -> None:
    """A second one is refused while the first tries a value, and leaves its trial as it is; then it may go on."""

    def objective(values: Values, folder: Path, report: Report) -> float:
        with pytest.raises(UsageError, match="is being written to by another run"):
            search(Stub(), [LR], 1, tmp_path, {"a": 1})
        return 1.0

    search(objective, [LR], 2, tmp_path, {"a": 1})
    assert [row["state"] for row in table(tmp_path)] == ["complete", "complete"]
    search(Stub(), [LR], 3, tmp_path, {"a": 1})
    assert len(table(tmp_path)) == 3


def test_a_written_recipe_reads_as_what_it_was(tmp_path: Path) -> None:
    table = {
        "method": "kondo2021",
        "detector": {"finder_settings": {"formula": "plain", "deviations": 2.5}, "widths": [8, 4], "weights": 'a "b"'},
        "training": {"scanners": ["Zeiß", "b"], "validate_every": 2},
        "optimisation": {"lr": 1.5e-7, "milestones": [0.5]},
    }
    given = recipe.parse(table)
    recipe.write(tmp_path / "best.toml", given, "kondo2021, tuned")
    assert recipe.load(str(tmp_path / "best.toml")) == given
    assert (tmp_path / "best.toml").read_text().startswith("# kondo2021, tuned\n")


def test_trainings_are_tried_and_the_best_becomes_a_recipe(tmp_path: Path, drawn: Path, mitosight: Run) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    out = tmp_path / "out"
    asked = ("tune", tmp_path / "tiny.toml", "--data", drawn, "--out", out, "--set", "seed=1", "--by", "f1")
    status, printed, _ = mitosight(*asked, "--trials", 2)
    assert status == 0 and printed.splitlines()[-1] == str(out / "best.toml")
    rows = table(out)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    best = recipe.load(str(out / "best.toml"))
    assert best.training.seed == 1 and best.detector["patch_px"] == 32
    top = max(rows, key=lambda row: float(row["score"]))
    assert f"{best.optimisation.lr:.6g}" in [r["optimisation.lr"] for r in rows if r["score"] == top["score"]]
    for k in (0, 1):
        run = json.loads((out / f"trial-{k:03d}" / "run.json").read_text())
        assert run["validation"]["f1"] == pytest.approx(float(rows[k]["score"]), abs=1e-5)
        assert not (out / f"trial-{k:03d}" / "state.safetensors").exists()
    assert (out / "candidates" / "train.safetensors").is_file()


def test_a_search_goes_on_with_the_same_data_alone(tmp_path: Path, drawn: Path, mitosight: Run) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    other = write_folder(tmp_path / "other", {"grey": (200, 200, 210), "pink": (235, 190, 215)}, per_part=2)
    asked = ("tune", tmp_path / "tiny.toml", "--out", tmp_path / "out", "--trials", 1, "--data")
    assert mitosight(*asked, drawn)[0] == 0
    assert mitosight(*asked, drawn)[0] == 0
    status, _, error = mitosight(*asked, other)
    assert status == 1 and error.count("\n") == 1
    assert "holds this search on other data (data_sha256 differ); choose another --out" in error
    assert len(table(tmp_path / "out")) == 1


def test_the_rate_of_the_adaptation_is_tried_on_a_scanner_left_out(
    tmp_path: Path, drawn: Path, mitosight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    out = tmp_path / "out"
    asked = ("tune", tmp_path / "tiny.toml", "--data", drawn, "--out", out, "--target", "pink", "--trials", 1)
    status, printed, _ = mitosight(*asked, "--search", "epochs=1:2")
    assert status == 0 and "on pink (trial 0); mitosight adapt MODEL SLIDES --epochs " in printed
    from mitosight import checkpoint

    assert checkpoint.read_header(out / "source")["scanners"] == ["grey"]
    assert (out / "source" / "memory.safetensors").is_file()
    learned = Kondo2021.losses
    monkeypatch.setattr(
        Kondo2021, "losses", lambda self, batch: {k: v * float("nan") for k, v in learned(self, batch).items()}
    )
    asked = (*asked[:-1], 2, "--search", "epochs=1:2")
    assert mitosight(*asked)[0] == 0  # what breaks the learning down is poor, and not as good as no adaptation
    assert [row["state"] for row in table(out)] == ["complete", "pruned"]


def test_wrong_commands_are_one_line(tmp_path: Path, drawn: Path, mitosight: Run) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    asked = ("tune", tmp_path / "tiny.toml", "--data", drawn, "--out", tmp_path / "out", "--trials", 1)
    for more, told in (
        (("--search", "lr=2:1"), "expected key=low:high"),
        (("--search", "speed=1:2"), "there is no 'speed'"),
        (("--by", "recall"), "accepted are aucpr, f1, selection"),
        (("--target", "blue"), "leave out one of several: grey, pink"),
        (("--target", "pink", "--search", "guard=0.1:0.2"), "accepted are lr, epochs, batch"),
        (("--target", "pink", "--search", "epochs=1.5:2.5"), "epochs is 1.5; expected a whole number, 1 or more"),
        (("--target", "pink", "--search", "batch=8:16.5"), "batch is 16.5; expected a whole number, 0 or more"),
        (("--target", "pink", "--search", "lr=0.1:10"), "lr is 10; expected 0 to 1"),
        (("--search", "optimisation.epochs=1:2.5"), "[optimisation] epochs = 2.5"),
    ):
        status, _, error = mitosight(*asked, *more)
        assert status == 2 and told in error and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()


def test_a_method_without_a_domain_branch_is_refused_before_it_is_trained(
    tmp_path: Path, drawn: Path, mitosight: Run
) -> None:
    plain, wilm = write_recipe(tmp_path / "a.toml"), write_recipe(tmp_path / "b.toml", "wilm2021")
    asked = ("--data", drawn, "--out", tmp_path / "out", "--trials", 1, "--target", "pink")
    for words in (("tune", plain), ("tune", wilm, "--set", "discriminators=[]")):
        status, _, error = mitosight(*words, *asked)
        assert status == 2 and error.count("\n") == 1, error
        assert "has no domain branch; methods that have one are wilm2021, kondo2021" in error
    assert not (tmp_path / "out").exists()


def test_without_figures_of_the_target_nothing_can_be_tuned(tmp_path: Path) -> None:
    import torch

    from mitosight import regions

    folder = regions.load(write_folder(tmp_path / "data", {"grey": (200, 200, 210), "pink": (235, 190, 215)}))
    asked = recipe.parse({"method": "kondo2021", "training": {"labelled_scanners": ["grey"]}})
    with pytest.raises((UsageError, InputError), match="leave out"):
        Adapting(asked, "pink", folder, tmp_path / "out", torch.device("cpu"))
