import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import Dataset

from mitosight.batch import Batch
from mitosight.engine import agreed, fit
from mitosight.errors import InputError
from mitosight.log import RunLog
from mitosight.optimisation import Optimisation, learning_rate, optimiser_for
from mitosight.state import load_state, save_state


class Noise(Dataset[Batch]):
    """Batch i holds images that depend on i alone."""

    def __getitem__(self, index: int) -> Batch:
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        empty = [torch.zeros(0, 3)] * 4
        return Batch(images, empty, empty, torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.bool))


class Brightness(nn.Module):
    """Learns the mean brightness; dropout and batch norm make the order of random numbers matter."""

    def __init__(self, broken_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 1)
        )
        self.progress = 0.0
        self.seen: list[float] = []
        self.broken_at, self.calls = broken_at, 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append(self.progress)
        self.calls += 1
        loss = (self.layers(batch.images)[:, 0] - batch.images.mean(dim=(1, 2, 3))).square().mean()
        return {"error": loss * (math.nan if self.calls == self.broken_at else 1), "zero": loss * 0}


STEPS = Optimisation(epochs=3, steps_per_epoch=4, lr=1e-2, clip_norm=1.0)


def run(module: nn.Module, folder: Path, steps: Optimisation = STEPS, stop_after: int = 0) -> nn.Module:
    folder.mkdir(exist_ok=True)
    log = RunLog(folder)

    def after_epoch(epoch: int) -> dict[str, object]:
        if stop_after and epoch + 1 > stop_after:
            raise KeyboardInterrupt
        return {}

    try:
        fit(module, Noise(), steps, log, seed=3, after_epoch=after_epoch)
    except KeyboardInterrupt:
        pass
    finally:
        log.close()
    return module


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_resumed_weights_equal_unbroken_ones(tmp_path: Path, optimiser: str) -> None:
    steps = Optimisation(**{**STEPS.__dict__, "optimiser": optimiser})
    unbroken = run(Brightness(), tmp_path / "a", steps)
    run(Brightness(), tmp_path / "b", steps, stop_after=1)  # stopped at the end of the second epoch, which is lost
    resumed = run(Brightness(), tmp_path / "b", steps)
    assert len(resumed.seen) == 8  # type: ignore[arg-type]
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_resumed_training_counts_the_time_of_all_sessions(tmp_path: Path) -> None:
    import json

    run(Brightness(), tmp_path, stop_after=1)
    state = tmp_path / "state.safetensors"
    save_file(load_file(state), state, metadata={"step": "4", "seconds": "1000"})
    run(Brightness(), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "loss" in line]
    assert seconds[0] < 500 and all(1000 < s < 1500 for s in seconds[-8:])


def test_progress_is_set_once_an_epoch(tmp_path: Path) -> None:
    module = run(Brightness(), tmp_path)
    assert module.seen == pytest.approx([1 / 3] * 4 + [2 / 3] * 4 + [1.0] * 4)  # type: ignore[arg-type]


def test_loss_falls_and_is_logged(tmp_path: Path) -> None:
    import json

    run(Brightness(), tmp_path, Optimisation(epochs=10, steps_per_epoch=10, lr=1e-2))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 100
    assert sum(losses[-20:]) < sum(losses[:20])
    assert {"error", "zero", "lr", "seconds"} <= set(lines[0])


def test_loss_that_is_not_finite_stops_with_the_batch_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 6 \(batch 5\) is not finite: error nan"):
        run(Brightness(broken_at=6), tmp_path)
    state = tmp_path / "state.safetensors"
    assert load_state(state, Brightness(), torch.optim.AdamW([torch.zeros(1)]), {})[0] == 4


def test_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"state.safetensors: is no state of this training"):
        run(Brightness(), tmp_path)


def test_one_cycle_meets_torch() -> None:
    total = 50
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0, betas=(0.95, 0.99))
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-2, total_steps=total, pct_start=0.3, div_factor=25, final_div_factor=1e4
    )
    steps = Optimisation(lr=1e-2)
    for step in range(total):
        lr, momentum = learning_rate(steps, step, total)
        assert lr == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        assert momentum == pytest.approx(optimiser.param_groups[0]["betas"][0], rel=1e-6)
        optimiser.step()
        oracle.step()


def test_other_schedules_by_hand() -> None:
    cosine = Optimisation(schedule="cosine", lr=2.0)
    assert [learning_rate(cosine, s, 3)[0] for s in range(3)] == pytest.approx([2.0, 1.0, 0.0])
    step = Optimisation(schedule="step", lr=1.0, milestones=(0.5, 0.75))
    assert [learning_rate(step, s, 4)[0] for s in range(4)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    assert learning_rate(Optimisation(schedule="constant", lr=0.3), 9, 10)[0] == 0.3


def test_resumed_moments_lie_in_memory_as_their_weights(tmp_path: Path) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = Brightness().to(memory_format=torch.channels_last)
        return module, optimiser_for(module, STEPS)

    module, before = fresh()
    sum(Brightness.losses(module, Noise()[0]).values()).backward()
    before.step()
    save_state(tmp_path / "state", module, before, 1, 0.0, {})
    resumed, after = fresh()
    load_state(tmp_path / "state", resumed, after, {})
    weight = resumed.layers[0].weight  # a convolution: the formats differ
    assert not weight.is_contiguous()
    for name in ("exp_avg", "exp_avg_sq"):
        assert after.state[weight][name].stride() == weight.stride()
        assert torch.equal(after.state[weight][name], before.state[module.layers[0].weight][name])


def test_adam_is_fused_on_a_gpu_alone() -> None:
    with FakeTensorMode():
        module = nn.Linear(2, 2, device="cuda")
        assert optimiser_for(module, Optimisation(optimiser="adam")).defaults["fused"] is True
    assert optimiser_for(nn.Linear(2, 2), Optimisation(optimiser="adam")).defaults["fused"] is None


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from test_engine import Brightness, Noise, Optimisation, RunLog, fit
from mitosight.engine import agreed, leave, process

rank, processes = process()
assert processes == 2
folder = Path(sys.argv[2]) / str(rank)
folder.mkdir()
module = Brightness()
drawn = []

class Watched(Noise):
    def __getitem__(self, index):
        drawn.append(index)
        return super().__getitem__(index)

log = RunLog(folder)
fit(module, Watched(), Optimisation(epochs=2, steps_per_epoch=3, lr=1e-2), log)
log.close()
calls = []
first = agreed(lambda: calls.append(rank) or rank + 5, torch.device("cpu"))
torch.save([drawn, list(module.state_dict().values()), first, calls], folder / "result.pt")
leave()
"""


def test_two_processes_share_the_batches_and_agree(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    arguments = [str(Path(__file__).parent), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    told, other = (torch.load(tmp_path / rank / "result.pt", weights_only=True) for rank in "01")
    assert sorted(told[0] + other[0]) == list(range(12))
    start = list(Brightness().state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(told[1], other[1], strict=True))  # statistics of the norm too
    assert not all(torch.equal(a, b) for a, b in zip(told[1], start, strict=True))
    assert (told[2], other[2]) == (5, 5) and (told[3], other[3]) == (
        [0],
        [],
    )  # what the first says; the other is silent


def test_alone_a_process_agrees_with_itself() -> None:
    assert agreed(lambda: 7, torch.device("cpu")) == 7


def test_warm_up_by_hand() -> None:
    steps = Optimisation(lr=0.01, schedule="step", milestones=(0.5,), warmup_steps=100)
    rates = [learning_rate(steps, step, 1000)[0] for step in (0, 50, 99, 100, 499, 500)]
    assert rates == pytest.approx([1e-5, 0.01 * 0.5005, 0.01 * 0.99001, 0.01, 0.01, 0.001])
