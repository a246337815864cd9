"""Training of a style transfer, its file, and the restyling of tiles."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from mitosight.batch import Batch
from mitosight.engine import fit
from mitosight.errors import InputError, UsageError
from mitosight.log import RunLog
from mitosight.methods.parts.restyle import Restyle, draw_codes
from mitosight.methods.parts.stargan import Generator
from mitosight.methods.parts.style import StyleTransfer
from mitosight.optimisation import Optimisation

TINY: dict[str, Any] = {"width": 4, "blocks": 1, "crop_px": 16, "critic_depth": 2}
CRITIC, GENERATOR = {"critic", "critic_scanner", "penalty"}, {"fool", "scanner", "cycle"}


class Tiles(Dataset[Batch]):
    """Batch i holds noise that depends on i alone, of scanners b, a, b, a; their domain is of another list."""

    def __getitem__(self, index: int) -> Batch:
        images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(index))
        empty = [torch.zeros(0, 3)] * 4
        columns = {"scanner": ["b", "a", "b", "a"]}
        return Batch(images, empty, empty, torch.tensor([7, 8, 7, 8]), torch.zeros(4, dtype=torch.bool), columns)


def transfer(**more: Any) -> StyleTransfer:
    torch.manual_seed(0)
    return StyleTransfer(["a", "b"], **{**TINY, **more})


def stored(path: Path, learner: StyleTransfer, facts: dict[str, Any] | None = None) -> Path:
    metadata = {"mitosight": json.dumps(learner.facts() if facts is None else facts)}
    save_file({k: v.contiguous() for k, v in learner.state_dict().items()}, path, metadata=metadata)
    return path


def test_critic_and_generator_take_turns() -> None:
    learner = transfer(critic_steps=2).train()
    turns = [set(learner.losses(Tiles()[i])) for i in range(6)]
    assert turns == [CRITIC, CRITIC, GENERATOR, CRITIC, CRITIC, GENERATOR]
    assert int(learner.turn) == 0
    learner.eval()
    assert [set(learner.losses(Tiles()[i])) for i in range(2)] == [CRITIC, CRITIC]  # looking on takes no turn


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_the_weights_of_the_player_change(tmp_path: Path, precision: Any) -> None:
    learner, log = transfer(critic_steps=1), RunLog(tmp_path, quiet=True)
    steps = Optimisation(1, 2, "adam", 1e-3, 0.0, 0.5, 0.999, "constant", precision=precision)
    seen = [{name: p.detach().clone() for name, p in learner.named_parameters()}]
    losses = learner.losses

    def watched(batch: Batch) -> dict[str, Tensor]:
        seen.append({name: p.detach().clone() for name, p in learner.named_parameters()})
        return losses(batch)

    learner.losses = watched  # type: ignore[method-assign]
    fit(learner, Tiles(), steps, log, seed=1)
    start, _, after_critic = seen
    after_generator = dict(learner.named_parameters())
    for name, value in start.items():
        moved = not torch.equal(value, after_critic[name])
        assert moved == name.startswith("critic."), name
        moved = not torch.equal(after_critic[name], after_generator[name])
        assert moved == name.startswith("generator."), name


class Mean(nn.Module):
    """A critic that judges by brightness and knows no scanner."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean(dim=(1, 2, 3)), torch.zeros(len(images), 2)


class Paint(nn.Module):
    """A generator that adds a quarter for scanner b."""

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        return images + codes[:, 1, None, None, None] / 4


def test_losses_by_hand() -> None:
    learner = transfer(cycle_weight=8.0, class_weight=2.0)
    learner.critic, learner.generator = Mean(), Paint()  # type: ignore[assignment]
    real = torch.full((2, 3, 4, 4), 0.5)
    source, target = torch.tensor([0, 1]), torch.tensor([1, 0])  # a painted as b, b as a
    found = learner.generator_losses(real, source, target)
    assert float(found["fool"]) == pytest.approx(-(0.75 + 0.5) / 2)
    assert float(found["scanner"]) == pytest.approx(2 * 0.6931, abs=1e-3)
    assert float(found["cycle"]) == pytest.approx(8 * 0.25)  # a: + b, then + a; b: + a, then + b
    found = learner.critic_losses(real, source, target)
    assert float(found["critic"]) == pytest.approx(0.625 - 0.5)
    assert float(found["critic_scanner"]) == pytest.approx(2 * 0.6931, abs=1e-3)
    slope = (3 * 16) ** 0.5 / 48  # of a mean over 48 numbers
    assert float(found["penalty"]) == pytest.approx(10 * (slope - 1) ** 2, rel=1e-5)


def test_targets_are_the_scanners_of_the_batch_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, seen = transfer().eval(), []

    def watched(real: Tensor, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        seen.append((source.tolist(), target.tolist(), float(real.min())))
        return {}

    monkeypatch.setattr(learner, "critic_losses", watched)
    for i in range(20):
        learner.losses(Tiles()[i])
    assert all(source == [1, 0, 1, 0] for source, _, _ in seen)  # by name, not by the batch's domain
    assert all(sorted(target) == [0, 0, 1, 1] for _, target, _ in seen)
    assert len({tuple(target) for _, target, _ in seen}) > 2
    assert all(least < -0.9 for _, _, least in seen)  # tiles go in as [-1, 1]


def test_a_scanner_that_it_does_not_know() -> None:
    batch = Tiles()[0]
    batch.columns["scanner"][2] = "c"
    with pytest.raises(InputError, match=r"tiles of 'c'; the style transfer knows a, b"):
        transfer().losses(batch)


@pytest.mark.parametrize(
    ("scanners", "more", "told"),
    [
        (["a"], {}, r"style transfer between \['a'\]; it needs two scanners; restyle = 0 goes without"),
        (["a", "b"], {"crop_px": 18}, "style crop of 18 px with 2 layers"),
        (["a", "b"], {"critic_depth": 5}, "style crop of 16 px with 5 layers"),
    ],
)
def test_what_cannot_be(scanners: list[str], more: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        StyleTransfer(scanners, **{**TINY, **more})


def run(folder: Path, stop_after: int = 0) -> StyleTransfer:
    folder.mkdir(exist_ok=True)
    learner, log = transfer(critic_steps=2), RunLog(folder, quiet=True)

    def after_epoch(epoch: int) -> dict[str, Any]:
        if stop_after and epoch + 1 > stop_after:
            raise KeyboardInterrupt
        return {}

    steps = Optimisation(3, 4, "adam", 1e-3, 0.0, 0.5, 0.999, "constant")  # an epoch ends inside a cycle of 3
    with suppress(KeyboardInterrupt):
        fit(learner, Tiles(), steps, log, seed=3, after_epoch=after_epoch)
    return learner


def test_a_resumed_transfer_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = run(tmp_path / "a")
    run(tmp_path / "b", stop_after=1)
    resumed = run(tmp_path / "b")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    start = transfer(critic_steps=2).state_dict()
    assert any(not torch.equal(v, start[n]) for n, v in unbroken.state_dict().items() if n.startswith("generator"))


TWO = """
import sys
from contextlib import suppress
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from test_style import Optimisation, RunLog, Tiles, fit, transfer
from mitosight.engine import process

rank, _ = process()
folder = Path(sys.argv[2]) / str(rank)
folder.mkdir()
learner, log = transfer(critic_steps=1), RunLog(folder, quiet=True)
fit(learner, Tiles(), Optimisation(1, 4, "adam", 1e-3, 0.0, 0.5, 0.999, "constant"), log)
torch.save(learner.state_dict(), folder / "result.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_take_turns_together(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / r / "result.pt", weights_only=True) for r in "01")
    start = transfer().state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for player in ("generator.", "critic."):
        assert any(not torch.equal(v, start[n]) for n, v in first.items() if n.startswith(player))


def test_saved_and_loaded_paints_the_same(tmp_path: Path) -> None:
    learner = transfer(mpp=0.5, critic_steps=3)
    folder = tmp_path / "style-transfer"
    folder.mkdir()
    file = stored(folder / "style-transfer.safetensors", learner)
    images, codes = torch.rand(2, 3, 16, 16), torch.eye(2)
    for path in (file, folder, tmp_path):
        again = StyleTransfer.load(path)
        assert again.scanners == ("a", "b") and again.mpp == 0.5 and again.critic_steps == 3
        with torch.no_grad():
            assert torch.equal(again.generator(images, codes), learner.generator(images, codes))


def test_bad_files(tmp_path: Path) -> None:
    file, learner = tmp_path / "style.safetensors", transfer()
    with pytest.raises(InputError, match=r"style.safetensors: no such style transfer; expected the style-transfer.saf"):
        StyleTransfer.load(file)
    with pytest.raises(InputError, match="no such style transfer"):
        StyleTransfer.load(tmp_path)
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is no readable style transfer"):
        StyleTransfer.load(file)
    stored(file, learner)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="is no readable style transfer"):
        StyleTransfer.load(file)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"is no style transfer of this version \(something else\)"):
        StyleTransfer.load(file)
    for facts, told in (
        ({"format": 1, "method": "wilm2021"}, r"is no style transfer of this version \(wilm2021\)"),
        ({**learner.facts(), "format": 2}, "is no style transfer of this version"),
        ({**learner.facts(), "scanners": ["a", "b", "c"]}, "is a damaged style transfer"),
        ({**learner.facts(), "arguments": {"wings": 2}}, r"is a damaged style transfer \(.*wings"),
        ({**learner.facts(), "scanners": ["a"]}, "is a damaged style transfer"),
        ([], "is a damaged style transfer"),
    ):
        stored(file, learner, facts)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=told) as caught:
            StyleTransfer.load(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "alpha", "deviation"),  # of a component; of a Dirichlet sqrt((k - 1) / (k^2 (k alpha + 1)))
    [("dirichlet", 1.0, 0.194), ("dirichlet", 0.3, 0.292), ("uniform", 1.0, 0.140), ("softmax", 1.0, 0.188),
     ("one-hot", 1.0, 0.433)],
)  # fmt: skip
def test_codes_lie_on_the_simplex(kind: Any, alpha: float, deviation: float) -> None:
    torch.manual_seed(0)
    codes = draw_codes(20_000, 4, kind, alpha)
    assert codes.shape == (20_000, 4) and codes.min() >= 0
    assert torch.allclose(codes.sum(dim=1), torch.ones(20_000), atol=1e-5)
    assert codes.mean(dim=0).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    assert codes.std(dim=0).tolist() == pytest.approx([deviation] * 4, abs=0.005)
    if kind == "one-hot":
        assert set(codes.unique().tolist()) == {0.0, 1.0}


def test_restyles_a_share_of_the_tiles() -> None:
    torch.manual_seed(0)
    generator, images = Generator(3, width=4, blocks=0), torch.rand(400, 3, 16, 16, requires_grad=True)
    painted = Restyle(generator, 0.2)(images)
    changed = (painted != images).flatten(1).any(dim=1)
    assert 50 < int(changed.sum()) < 110  # 80 of 400, standard deviation 8
    assert torch.equal(painted[~changed], images[~changed])
    assert not painted.requires_grad and not any(p.requires_grad for p in generator.parameters())
    assert (Restyle(generator, 1.0)(images) != images).flatten(1).any(dim=1).all()
    torch.manual_seed(5)
    first = Restyle(generator, 0.5)(images)
    torch.manual_seed(5)
    assert torch.equal(first, Restyle(generator, 0.5)(images))


def test_probability_0_leaves_the_batch_alone() -> None:
    images = torch.rand(50, 3, 16, 16)
    assert Restyle(Generator(3, width=4, blocks=0), 0.0)(images) is images


def test_half_precision_stays_inside(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 18, 17)
    with torch.autocast("cpu", torch.bfloat16):
        painted = Restyle(Generator(3, width=4, blocks=0), 1.0)(images)
    assert painted.dtype == torch.float32 and painted.shape == images.shape


class Painter:
    """Paints in two styles: the tile a little paler, and the tile as a share of its negative."""

    styles = 2

    def __init__(self, negative: float) -> None:
        self.negative = negative

    def eval(self) -> "Painter":
        return self

    def requires_grad_(self, on: bool) -> "Painter":
        return self

    def to(self, device: torch.device) -> "Painter":
        return self

    def restyled(self, images: Tensor, codes: Tensor) -> Tensor:
        other = (1 - images) * self.negative + images * (1 - self.negative)
        return torch.where(codes[:, :1, None, None] > 0, 0.9 * images + 0.1, other)


def test_a_transfer_that_turns_light_and_dark_is_told() -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for negative, kept in ((0.0, 1.0), (1.0, 0.0)):  # the mean of 1 and 1, and of 1 and -1
        restyle = Restyle(Painter(negative), 0.2)  # type: ignore[arg-type]
        assert restyle.brightness_kept(images) == pytest.approx(kept, abs=1e-5)
        assert restyle.told(images).startswith("WARNING: ") == (kept < 0.3)
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert Restyle(Painter(0.0), 0.2).brightness_kept(grey) == 0.0  # type: ignore[arg-type]


def test_identity_asks_for_the_tile_in_its_own_style() -> None:
    """By hand: the generator paints every tile grey (0); the tile is 0.5 away everywhere."""
    learner = transfer(identity_weight=4.0)
    learner.generator.forward = lambda images, codes: torch.zeros_like(images)  # type: ignore[method-assign]
    real, source = torch.full((2, 3, 16, 16), 0.5), torch.tensor([0, 1])
    terms = learner.generator_losses(real, source, source.flip(0))
    assert terms["identity"].item() == pytest.approx(4 * 0.5)
    assert set(terms) == GENERATOR | {"identity"}
    assert set(transfer().generator_losses(real, source, source)) == GENERATOR
