"""Adaptations that come to nothing: the model searches as it is, and what happened is told; what the record names."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mitosight.adaptation import Each, Memory, Settings, Unguarded, adapt, joined
from mitosight.adaptation.memory import read
from mitosight.batch import Batch
from mitosight.errors import InputError
from test_adaptation import FOUR, SIDE, Brightness, memory, target


class Breaks(Brightness):
    """The loss is finite until the scanner's outputs have moved by more than `limit`; then it is NaN."""

    limit = 0.02

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return {**terms, "domain": terms["domain"] + (self.limit - self.scanner.abs().max()).sign().sqrt()}


class BreaksAtTheEnd(Brightness):
    """The loss is finite, and its gradient is not: the root of 0."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return {**terms, "domain": terms["domain"] + self.scanner.square().sum().sqrt()}


def test_an_adaptation_that_diverges_leaves_the_model_as_it_is() -> None:
    """Adam's first step moves each weight by the rate, 0.1, so that the second loss is NaN."""
    model = Breaks()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = adapt(model, FOUR, target(0.5, 0.6), Settings(lr=0.1, epochs=1, batch=2, guard=1.0))
    assert found.detector is model and found.facts["used"] is False
    assert found.message.startswith("not adapted: the loss of step 2 (batch 1) is not finite: classification ")
    assert found.message.endswith("; lower --lr") and "optimisation" not in found.message
    facts = found.facts
    assert (facts["source_f1_before"], facts["source_f1_after"], facts["steps"]) == (1.0, None, None)
    assert facts["seconds"] >= 0 and facts["peak_mb"] > 0  # benchmarks/kondo2021.py reads them
    json.dumps(facts, allow_nan=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_weights_that_the_last_step_ruined_are_not_used() -> None:
    model = BreaksAtTheEnd()
    found = adapt(model, FOUR, target(0.5, 0.6), Settings(lr=0.1, epochs=1, batch=4, guard=1.0))
    assert found.detector is model and found.facts["used"] is False
    assert found.message == "not adapted: a weight is not finite after 1 steps; lower --lr"


def test_a_damaged_memory_is_still_an_error() -> None:
    broken = Memory(**{**FOUR.__dict__, "images": [b"nothing"] * 4})
    with pytest.raises(InputError, match="a remembered sample is damaged"):
        adapt(Brightness(), broken, target(0.5), Settings(), before=1.0)


def test_without_a_sample_of_the_target_the_model_stays_as_it_is() -> None:
    model = Brightness()
    found = adapt(model, FOUR, target(), Settings())
    assert found.detector is model
    assert found.message == "not adapted: no candidate to adapt to"
    assert {"used": False, "samples": 0, "steps": None, "source_f1_after": None}.items() <= found.facts.items()
    assert found.facts["seconds"] >= 0 and found.facts["peak_mb"] > 0
    both = joined([target(), target(0.5)], SIDE)
    assert len(joined([], SIDE)) == 0 and len(both) == 1 and both.side_px == SIDE


def test_the_record_names_the_memory(tmp_path: Path) -> None:
    """By its checksum, so that what was found with another is not taken for this one's."""
    FOUR.write(tmp_path / "a.safetensors")
    memory(*([[0.2, 0.9], [1, 0], [0, 0], [0, 1]])).write(tmp_path / "b.safetensors")
    told = [Each(Brightness(), read(tmp_path / name), Settings()).settings for name in ("a.safetensors",) * 2]
    assert told[0] == told[1]
    assert told[0]["memory"] == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    assert Each(Brightness(), read(tmp_path / "b.safetensors"), Settings()).settings != told[0]


def test_for_tuning_nothing_is_guarded() -> None:
    """A rate that ruins the classifier is used; one that breaks the learning down is an error, and no target none."""
    wrong = memory([0.9, 0.1, 0.1, 0.9], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1])
    model, harsh = Brightness(), Settings(lr=1.0, epochs=25, batch=4)
    assert Unguarded(model, wrong, harsh).adapted(target(0.5, 0.6)).detector is not model
    assert Unguarded(model, wrong, harsh).adapted(target()).detector is model
    with pytest.raises(InputError, match=r"the loss of step 2 .* is not finite"):
        Unguarded(Breaks(), FOUR, Settings(lr=0.1, batch=4)).adapted(target(0.5, 0.6))
