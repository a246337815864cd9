"""Chung 2021: the defaults of the paper, the transfer's length, its training and its use by any detector."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mitosight import checkpoint, recipe, regions, training
from mitosight.augment import Turns
from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.methods.chung2021 import Chung2021, style_optimisation
from mitosight.methods.parts.restyle import Restyle
from mitosight.methods.parts.stargan import Generator
from mitosight.methods.parts.style import StyleTransfer
from mitosight.methods.retinanet import RetinaNet
from mitosight.validation import Judge
from mitosight.workshop import Workshop

CPU = torch.device("cpu")
TINY = """
method = "{method}"
[detector]
tile_px = 256
weights = "none"
depth = 18
channels = 16
levels = [4]
anchor_base_px = [50.0]
head_convs = 1
{more}
[training]
tiles_per_scanner = 1
crop_px = 224
validation_batches = 1
[optimisation]
epochs = 1
steps_per_epoch = 2
lr = 1e-3
"""
STYLE = """
style_width = 4
style_blocks = 1
style_crop_px = 16
style_critic_depth = 2
style_critic_steps = 1
style_steps = 2
style_tiles_per_scanner = 2
restyle = 0.5
"""


def tiny(folder: Path, method: str = "chung2021", more: str = STYLE) -> recipe.Recipe:
    path = folder / "tiny.toml"
    path.write_text(TINY.format(method=method, more=more))
    return recipe.load(str(path))


def small(**more: Any) -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(scanners=["a", "b"], weights="none", channels=16, head_convs=1, normalise="none", **more)


def test_the_papers_values() -> None:
    detector = Chung2021(scanners=["a", "b", "c", "d"])
    assert detector.trunk.depth == 101 and detector.restyle == 0.2 and detector.threshold == 0.7
    assert detector.augmentation == Turns(turns=True, flips=False)
    sides = [round(side, 1) for side in detector.sides_px[7]]
    assert sides == [50.0, 63.0, 79.4] and detector.sides_px[3] == detector.sides_px[7]
    maps = detector.eval().network(torch.zeros(1, 3, 128, 128))
    assert [tuple(m.shape[1:]) for m in maps[::2]] == [(9, s, s) for s in (16, 8, 4, 2, 1)]
    assert float(maps[0].sigmoid().mean().detach()) == pytest.approx(0.01, abs=1e-4)
    assert Chung2021(scanners=["a"], depth=18, augment=False).augmentation is None


def test_the_papers_recipe() -> None:
    found = recipe.load("chung2021")
    steps, tiles = found.optimisation, found.training
    assert steps.epochs * steps.steps_per_epoch == 500_000
    assert [m * 500_000 for m in steps.milestones] == [320_000, 450_000]
    background = 1 - tiles.near_figure
    assert background / tiles.near_figure == pytest.approx(6, rel=1e-4)
    assert (steps.optimiser, steps.schedule, steps.warmup_steps) == ("sgd", "step", 1000)
    assert found.detector == {}


def test_length_of_the_transfers_training() -> None:
    """1.6 M steps of the critic in cycles of 5 are 320,000 of the generator, 1.92 M steps of the engine."""
    full = style_optimisation(1_600_000, 5, 1e-4, "fp32")
    assert (full.epochs, full.steps_per_epoch) == (1600, 1200)
    assert (full.optimiser, full.momentum, full.beta2, full.weight_decay) == ("adam", 0.5, 0.999, 0.0)
    short = style_optimisation(7, 3, 1e-4, "bf16")  # 3 cycles of 4
    assert (short.epochs, short.steps_per_epoch, short.precision) == (1, 12, "bf16")
    odd = style_optimisation(1005, 5, 1e-4, "fp32")  # 201 cycles: two epochs of 101
    assert (odd.epochs, odd.steps_per_epoch) == (2, 606)


def test_a_training_leaves_its_transfer(drawn: Path, tmp_path: Path) -> None:
    data, out = regions.load(drawn), tmp_path / "out"
    model = training.train(tiny(tmp_path), data, out, CPU)
    file = out / "style-transfer" / "style-transfer.safetensors"
    transfer = StyleTransfer.load(out)
    assert transfer.scanners == ("grey", "pink") and transfer.mpp == 0.25
    start = Generator(2, 4, 1).state_dict()
    assert {n for n in load_file(file) if n.startswith("generator.")} == {f"generator.{n}" for n in start}
    assert not any("generator" in name or "critic" in name for name in load_file(model))
    log = (out / "log.jsonl").read_text()
    assert "0.5 of the tiles are painted in mixtures of grey, pink" in log
    terms = [set(json.loads(line)) for line in (out / "style-transfer" / "log.jsonl").read_text().splitlines()]
    assert [("cycle" in t, "penalty" in t) for t in terms if "step" in t and "epoch" not in t] == [
        (False, True), (True, False), (False, True), (True, False)
    ]  # fmt: skip
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["mitosight"])
    assert facts["kind"] == "style-transfer" and facts["arguments"]["width"] == 4
    assert checkpoint.load(model).scanners == ("grey", "pink")

    other = tiny(tmp_path, "wilm2021", f"restyle = 1.0\nstyle = '{out}'\nstyle_codes = 'one-hot'")
    training.train(other, data, tmp_path / "other", CPU)
    assert not (tmp_path / "other" / "style-transfer").exists()
    assert "1 of the tiles are painted" in (tmp_path / "other" / "log.jsonl").read_text()


def test_a_resumed_training_equals_an_unbroken_one(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Painted tiles and mixtures are those of the step, whenever it runs."""
    data, chosen = regions.load(drawn), tiny(tmp_path)
    chosen = recipe.parse({**chosen.to_json(), "optimisation": {"epochs": 2, "steps_per_epoch": 2, "lr": 1e-3}})
    unbroken = training.train(chosen, data, tmp_path / "a", CPU)
    judge, calls = Judge.__call__, []

    def stopped(self: Judge, detector: Any, epoch: int) -> dict[str, Any]:
        calls.append(epoch)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return judge(self, detector, epoch)

    monkeypatch.setattr(Judge, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.train(chosen, data, tmp_path / "b", CPU)
    resumed = training.train(chosen, data, tmp_path / "b", CPU)
    assert calls == [0, 1, 1]
    for file in (unbroken, tmp_path / "a" / "style-transfer" / "style-transfer.safetensors"):
        again = load_file(tmp_path / "b" / file.relative_to(tmp_path / "a"))
        assert all(torch.equal(value, again[name]) for name, value in load_file(file).items())
    assert resumed == tmp_path / "b" / "model.safetensors"


def test_prepare_trains_once(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shops: list[Workshop] = []
    prepare = Chung2021.prepare

    def kept(self: Chung2021, workshop: Workshop) -> list[str]:
        shops.append(workshop)
        return prepare(self, workshop)

    monkeypatch.setattr(Chung2021, "prepare", kept)
    chosen = tiny(tmp_path)
    training.train(chosen, regions.load(drawn), tmp_path / "out", CPU)
    file = tmp_path / "out" / "style-transfer" / "style-transfer.safetensors"
    written = file.stat().st_mtime_ns
    again = create("chung2021", ["grey", "pink"], chosen.detector)
    assert isinstance(again, Chung2021)
    prepare(again, shops[0])
    assert file.stat().st_mtime_ns == written
    assert again.restyling is not None
    learnt = load_file(file)
    for name, value in again.restyling.generator.state_dict().items():
        assert torch.equal(value, learnt[f"generator.{name}"]), name


def test_the_transfer_sees_unlabelled_scanners(drawn: Path, tmp_path: Path) -> None:
    chosen = tiny(tmp_path)
    one = recipe.parse(
        {**chosen.to_json(), "training": {**chosen.to_json()["training"], "labelled_scanners": ["grey"]}}
    )
    model = training.train(one, regions.load(drawn), tmp_path / "out", CPU)
    assert StyleTransfer.load(tmp_path / "out").scanners == ("grey", "pink")
    assert checkpoint.read_header(model)["provenance"]["data"]["labelled"] == ["grey"]


def test_one_scanner_has_no_other_style(drawn: Path, tmp_path: Path) -> None:
    chosen = tiny(tmp_path)
    alone = recipe.parse({**chosen.to_json(), "training": {**chosen.to_json()["training"], "scanners": ["grey"]}})
    with pytest.raises(UsageError, match=r"it needs two scanners; restyle = 0 goes without"):
        training.train(alone, regions.load(drawn), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()
    bare = recipe.parse({**alone.to_json(), "detector": {**alone.detector, "restyle": 0.0}})
    assert training.train(bare, regions.load(drawn), tmp_path / "out", CPU).is_file()


def test_restyling_needs_a_transfer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"restyle = 0.2 without a style transfer; name its file with style"):
        small(restyle=0.2)
    with pytest.raises(InputError, match="no such style transfer"):
        small(restyle=0.2, style=str(tmp_path / "none")).prepare(None)  # type: ignore[arg-type]


def test_only_training_restyles() -> None:
    detector, images = small(), torch.rand(2, 3, 64, 64)
    plain = [f.clone() for f in detector.eval().encode(images)]
    detector.restyling = Restyle(Generator(2, width=4, blocks=0), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain, detector.encode(images), strict=True))
    detector.train()
    for module in detector.trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.allclose(plain[0], detector.encode(images)[0])
    assert not any("generator" in name for name in detector.state_dict())


def test_without_restyling_no_random_number_is_drawn() -> None:
    detector = small().train()
    state = torch.get_rng_state()
    detector.encode(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.get_rng_state())
