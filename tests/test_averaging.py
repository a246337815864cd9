"""The mean of weights over steps: by hand, in a training, and after a training that was broken off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mitosight.averaging import Average
from mitosight.engine import fit
from mitosight.log import RunLog
from test_engine import STEPS, Brightness, Noise


def test_by_hand() -> None:
    """From 0 by 1 - 1/10 of the way to 10, by 1/2 of what is left to 20 once the decay is the limit; counts follow."""
    module = nn.BatchNorm1d(1)
    average = Average(module, 0.5)
    mean = average.mean["running_mean"]
    module.running_mean, module.num_batches_tracked = torch.tensor([10.0]), torch.tensor(7)
    average.update(1)
    assert mean.item() == pytest.approx(9.0) and average.mean["num_batches_tracked"].item() == 7
    module.running_mean = torch.tensor([20.0])
    average.update(100)
    assert mean.item() == pytest.approx(14.5)
    with average.in_place():
        assert module.running_mean.item() == pytest.approx(14.5)
    assert module.running_mean.item() == 20.0


def averaged(folder: Path, stop_after: int = 0) -> tuple[list[dict[str, Tensor]], nn.Module]:
    """The weights that each epoch of a training was validated with, and the module at its end."""
    folder.mkdir(exist_ok=True)
    module, seen, log = Brightness(), [], RunLog(folder)

    def after_epoch(epoch: int) -> dict[str, object]:
        if stop_after and epoch + 1 > stop_after:
            raise KeyboardInterrupt
        seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return {}

    try:
        fit(module, Noise(), replace(STEPS, average=0.9), log, seed=3, after_epoch=after_epoch)
    except KeyboardInterrupt:
        pass
    finally:
        log.close()
    return seen, module


def test_the_mean_is_validated_and_the_weights_go_on(tmp_path: Path) -> None:
    seen, module = averaged(tmp_path / "a")
    plain = Brightness()
    log = RunLog(tmp_path)
    fit(plain, Noise(), STEPS, log, seed=3)
    log.close()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name  # as without a mean
    assert not torch.equal(seen[-1]["layers.0.weight"], plain.state_dict()["layers.0.weight"])


def test_a_resumed_training_has_the_same_mean(tmp_path: Path) -> None:
    unbroken, _ = averaged(tmp_path / "a")
    averaged(tmp_path / "b", stop_after=1)
    resumed, _ = averaged(tmp_path / "b")
    assert len(unbroken) == 3 and len(resumed) == 2
    for name, value in unbroken[-1].items():
        assert torch.equal(value, resumed[-1][name]), name
