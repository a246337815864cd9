"""A search for the best values by Optuna: kept in a file, resumable, poor trials ended early."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mitosight.errors import InputError, UsageError
from mitosight.outputs import alone, write_csv

FILE, TABLE = "study.journal", "trials.csv"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
UNPRUNED = 5  # trials before any is ended early
Values = Mapping[str, float]
Report = Callable[[int, float], None]
Objective = Callable[[Values, Path, Report], float]


@dataclass(frozen=True)
class Range:
    """Where a value is looked for; whole numbers where both ends are."""

    key: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def parse(cls, text: str) -> Range:
        """Reads `key=low:high` or `key=low:high:log`.

        Raises:
            UsageError: it is neither, or the ends make no range.
        """
        key, _, ends = text.partition("=")
        low, _, rest = ends.partition(":")
        high, colon, kind = rest.partition(":")
        try:
            found = cls(key, _number(low), _number(high), kind == "log")
        except ValueError:
            found = cls("", 0, 0)
        if not found.key or (colon and kind != "log") or not found.low < found.high or (found.log and found.low <= 0):
            raise UsageError(None, f"--search {text}", "expected key=low:high or key=low:high:log with low < high")
        return found

    def drawn(self, trial: optuna.Trial) -> float:
        """The value that a trial tries."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)


@dataclass(frozen=True)
class Best:
    """The best trial: its number, its score, its values, its folder."""

    number: int
    score: float
    values: dict[str, float]
    folder: Path


def search(
    objective: Objective, ranges: Iterable[Range], trials: int, out: Path, claim: dict[str, Any], seed: int = 0
) -> Best:
    """Tries values until `trials` trials have ended, those of earlier calls included; the highest score is the best.

    `objective(values, folder, report)` scores values in a folder of its own. What it reports on the way, by
    increasing step, is compared with the median of earlier trials: below it the trial is ended. A trial that was
    interrupted is begun again first, with its values, in its folder. `out` gets `study.journal` and `trials.csv`.

    Args:
        claim: what the search is of; a folder with another is refused.

    Raises:
        UsageError: another search is going on in `out`.
        InputError: `out` holds another search, or all trials were ended early.
    """
    ranges = list(ranges)
    with alone(out):
        study = _study(out, {**claim, "search": [vars(r) for r in ranges]}, seed)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, {"folder": _folder(trial.number, trial.user_attrs)})
        while len(study.get_trials(states=ENDED)) < trials:
            _try(study, objective, ranges, out)
            _write(study, ranges, out)
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise InputError(out, "no trial went to its end", "ask for more --trials, or narrow --search")
    best = study.best_trial
    return Best(best.number, float(study.best_value), dict(best.params), out / _folder(best.number, best.user_attrs))


def _study(out: Path, claim: dict[str, Any], seed: int) -> optuna.Study:
    """The study in `out`, begun or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    there = (out / FILE).is_file()
    if not there and any(not path.name.startswith(".") for path in out.iterdir()):  # the lock is hidden
        raise InputError(out, f"is not empty and holds no {FILE}", "choose another --out")
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / FILE))),
        study_name="mitosight",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
    )
    claim = json.loads(json.dumps(claim))
    if not there or "claim" not in study.user_attrs:
        study.set_user_attr("claim", claim)
    differing = [key for key, value in claim.items() if study.user_attrs["claim"].get(key) != value]
    if differing:
        what = "this search on other data" if differing == ["data_sha256"] else "another search"
        raise InputError(out, f"holds {what} ({', '.join(differing)} differ)", "choose another --out")
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # else a resumed one repeats itself
    return study


def _try(study: optuna.Study, objective: Objective, ranges: list[Range], out: Path) -> None:
    trial = study.ask()
    values = {r.key: r.drawn(trial) for r in ranges}

    def report(step: int, score: float) -> None:
        trial.report(score, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        score = objective(values, out / _folder(trial.number, trial.user_attrs), report)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except InputError as error:
        if "not finite" not in error.found:
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, state=TrialState.PRUNED)  # values under which a training breaks down are poor, not an error
    else:
        study.tell(trial, score)


def _folder(number: int, told: Mapping[str, Any]) -> str:
    """Below `out`: that of the trial, or of the interrupted one that it goes on with."""
    return str(told.get("folder", f"trial-{number:03d}"))


def _write(study: optuna.Study, ranges: list[Range], out: Path) -> None:
    rows = [
        (t.number, t.state.name.lower(), "" if t.value is None else f"{t.value:.6g}",
         *(f"{t.params[r.key]:.6g}" if r.key in t.params else "" for r in ranges))
        for t in study.get_trials(states=ENDED)
    ]  # fmt: skip
    write_csv(out / TABLE, ("trial", "state", "score", *(r.key for r in ranges)), rows)
