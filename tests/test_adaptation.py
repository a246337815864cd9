"""Test-time adaptation: what is remembered, that only copies learn, and the guard."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save_file
from torch import Tensor, nn
from torch.nn import functional

from mitosight import adaptation, regions
from mitosight.adaptation import Each, Memory, Settings, Target, adapt, remembered_f1
from mitosight.adaptation.adapting import Mixed
from mitosight.adaptation.memory import check_choice, decoded, encoded, read
from mitosight.adaptation.remember import Choice, chosen, even, gathered, holding, once
from mitosight.batch import Batch
from mitosight.dataset import TileSource
from mitosight.detections import Detections
from mitosight.errors import InputError, UsageError
from mitosight.methods import create
from mitosight.methods.detector import Detector
from mitosight.methods.wilm2021 import Wilm2021

SIDE = 16


class Brightness(Detector):
    """A patch is a mitosis the darker it is; told by two weights, and the scanner by three more."""

    def __init__(self, slope: float = 8.0) -> None:
        super().__init__(scanners=("one", "two"), mpp=0.25, mpp_tolerance=0.1, tile_px=128, augmentation=None)
        self.weight = nn.Parameter(torch.tensor([-slope, slope / 2]))
        self.scanner = nn.Parameter(torch.zeros(3))
        self.norm = nn.BatchNorm2d(3, affine=False)

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        self.norm(images)
        return (self.weight[0] * images.mean(dim=(1, 2, 3)) + self.weight[1],)

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        middle = np.array([[size_px[1] / 2, size_px[0] / 2]])
        return [Detections(middle, np.array([s]), self.mpp) for s in maps[0].sigmoid().cpu().numpy()]

    def detect(self, images: Tensor) -> list[Detections]:
        return super().detect(images)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        (logits,) = self.network(batch.images)
        told = batch.labelled
        wrong = functional.binary_cross_entropy_with_logits(logits[told], batch.label[told].float(), reduction="sum")
        scanner = (self.scanner + logits[:, None] * 0).log_softmax(dim=1)
        return {"classification": wrong / told.sum().clamp(min=1), "domain": functional.nll_loss(scanner, batch.domain)}

    def new_scanner(self) -> int:
        return 2


def shade(*levels: float) -> Tensor:
    """Patches of one grey each."""
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, SIDE, SIDE).contiguous()


class Stored:
    """A source of given batches of patches."""

    scanners = ("one", "two")

    def __init__(self, *batches: Batch) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def batch(levels: list[float], label: list[int], domain: list[int]) -> Batch:
    none = [torch.empty(0, 3)] * len(levels)
    known = torch.ones(len(levels), dtype=torch.bool)
    return Batch(shade(*levels), none, none, torch.tensor(domain), known, label=torch.tensor(label))


def memory(levels: list[float], holds: list[int], domain: list[int], validation: list[int]) -> Memory:
    n = len(levels)
    return Memory(
        [encoded(image, "png") for image in shade(*levels)],
        np.array(domain),
        np.array(holds, bool),
        np.ones(n, bool),
        np.array(validation, bool),
        np.linspace(0, 1, n, dtype=np.float32),
        np.empty((0, 3), np.float32),
        np.empty(0, np.int64),
        SIDE,
        "png",
        True,
        ("one", "two"),
        "0" * 64,
    )


FOUR = memory([0.1, 0.9, 0.1, 0.9], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1])


def target(*levels: float) -> Target:
    return Target([encoded(image, "png") for image in shade(*levels)], SIDE)


# what is remembered


def test_the_surest_of_each_class_and_scanner_are_chosen() -> None:
    """Dark is mitotic: of the figures the darkest, of the others the lightest, one and two of each scanner."""
    first = batch([0.1, 0.2, 0.9, 0.8, 0.7], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0])
    second = batch([0.3, 0.4, 0.6, 0.95, 0.05], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0])
    found = list(chosen(Brightness(), Stored(first, second), False, (1, 2), "png"))
    told = sorted((s.scanner, s.holds, round(float(decoded([s.image], SIDE).mean()), 2)) for s in found)
    assert told == [
        ("one", False, 0.8),
        ("one", False, 0.9),
        ("one", True, 0.1),
        ("two", False, 0.6),
        ("two", False, 0.95),
        ("two", True, 0.3),
    ]
    assert all(not s.validation for s in found)


def test_for_the_guard_the_likeliest_to_be_taken_for_figures_are_chosen() -> None:
    source = Stored(batch([0.1, 0.2, 0.9, 0.3, 0.7], [1, 1, 0, 0, 0], [0] * 5))
    found = list(chosen(Brightness(), source, True, (2, 1), "png"))
    told = [(s.holds, round(float(decoded([s.image], SIDE).mean()), 2)) for s in found]
    assert sorted(told) == [(False, 0.3), (True, 0.1), (True, 0.2)]


def test_none_are_chosen_of_a_class_that_is_not_asked_for() -> None:
    found = list(chosen(Brightness(), Stored(batch([0.1, 0.9], [1, 0], [0, 0])), False, (0, 5), "png"))
    assert [s.holds for s in found] == [False]


def test_as_many_others_as_mitotic_ones_of_each_scanner() -> None:
    """One and two mitotic; of the others those that come first stay."""
    source = Stored(
        batch([0.1, 0.9, 0.8, 0.7], [1, 0, 0, 0], [0] * 4), batch([0.1, 0.2, 0.6, 0.9, 0.5], [1, 1, 0, 0, 0], [1] * 5)
    )
    found = even(chosen(Brightness(), source, False, (5, 5), "png"))
    told = [(s.scanner, s.holds, round(float(decoded([s.image], SIDE).mean()), 2)) for s in found]
    assert sorted(told) == [
        ("one", False, 0.9),
        ("one", True, 0.1),
        ("two", False, 0.6),
        ("two", False, 0.9),
        ("two", True, 0.1),
        ("two", True, 0.2),
    ]


def test_equals_are_drawn_by_lot_not_from_the_first_slides() -> None:
    batches = [batch([1.0] * 50, [0] * 50, [0] * 50) for _ in range(4)]
    for k, b in enumerate(batches):
        b.images[:, 0, 0, 0] = k / 10  # tells where it came from, outside of the mean's third digit
    found = list(chosen(_Flat(), Stored(*batches), False, (0, 20), "png"))
    origins = {round(float(decoded([s.image], SIDE)[0, 0, 0, 0]) * 10) for s in found}
    assert len(found) == 20 and len(origins) == 4


class _Flat(Brightness):
    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros(len(images)),)


def test_numbers_by_default_and_by_argument() -> None:
    assert Choice().of(patches=True) == (10_000, 10)
    assert Choice().of(patches=False) == (200, 100)
    assert Choice(samples=30).of(patches=False) == (30, 30)
    assert Choice(samples=30, mitotic=4).of(patches=True) == (30, 4)
    assert Choice().of(patches=True, balanced=True) == (10_000, 5_000)
    assert Choice(samples=30, mitotic=4).of(patches=True, balanced=True) == (30, 4)
    with pytest.raises(UsageError, match="31 of 30 samples mitotic"):
        Choice(samples=30, mitotic=31).of(patches=True)


def test_tiles_hold_figures_only_where_somebody_looked() -> None:
    points, none = torch.zeros(1, 3), torch.zeros(0, 3)
    known = torch.tensor([True, True, False])
    tiles = Batch(torch.zeros(3, 3, 8, 8), [points, none, points], [none] * 3, torch.zeros(3), known)
    assert holding(tiles).tolist() == [True, False, False]


def test_of_tiles_four_times_as_many_are_looked_at(drawn: Path) -> None:
    folder = regions.load(drawn)
    names = ["grey", "pink"]
    source = TileSource(folder.images, folder.part("train"), names, names, 64, tiles_per_scanner=3)
    assert len(once(source, 10, 0)) == 14  # 14 x 3 is the first to reach 40


# the file


def test_png_is_exact_and_jpeg_near() -> None:
    rng = np.random.default_rng(0)
    smooth = np.linspace(40, 200, 64)[None, :, None] + rng.normal(0, 4, (64, 64, 3))
    image = torch.from_numpy(smooth.clip(0, 255).astype(np.uint8)).permute(2, 0, 1).float() / 255
    assert torch.equal(decoded([encoded(image, "png")], 64)[0], image)
    again = decoded([encoded(image, "jpeg")], 64)[0]
    assert (again - image).abs().mean() < 3 / 255
    assert len(encoded(image, "jpeg")) < len(encoded(image, "png")) < 64 * 64 * 3


def test_a_memory_comes_back_from_its_file(tmp_path: Path) -> None:
    tiles = Memory(
        **{
            **FOUR.__dict__,
            "patches": False,
            "figures": np.array([[1, 2, 50], [3, 4, 50]], np.float32),
            "figure_of": np.array([2, 2]),
        }
    )
    tiles.write(tmp_path / "memory.safetensors")
    again = read(tmp_path / "memory.safetensors", "0" * 64)
    assert again.images == tiles.images and again.scanners == ("one", "two") and again.choice is None
    assert again.sha256 == hashlib.sha256((tmp_path / "memory.safetensors").read_bytes()).hexdigest()
    for name in ("domain", "holds", "labelled", "validation", "certainty", "figures", "figure_of"):
        assert np.array_equal(getattr(again, name), getattr(tiles, name)), name
    one = again.batch(np.array([2, 1]))
    assert one.figures[0].tolist() == [[1, 2, 50], [3, 4, 50]] and one.figures[1].shape == (0, 3)
    assert len(one.label) == 0
    assert FOUR.batch(np.array([0, 3])).label.tolist() == [1, 0]


@pytest.mark.parametrize("damage", ["text", "cut", "model"])
def test_a_file_that_is_no_memory_is_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "memory.safetensors"
    FOUR.write(file)
    if damage == "text":
        file.write_text("nothing")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    told = "is the memory of another model" if damage == "model" else "is no memory of mitosight adapt"
    with pytest.raises(InputError, match=told):
        read(file, "1" * 64)


def test_a_memory_says_by_which_options_it_was_made(tmp_path: Path) -> None:
    """Only options that somebody asked for are compared."""
    file = tmp_path / "memory.safetensors"
    few = list(chosen(Brightness(), Stored(batch([0.1, 0.9], [1, 0], [0, 0])), False, (1, 1), "png"))
    gathered(few, Brightness(), True, Choice(samples=6, coding="png"), "0" * 64).write(file)
    found = read(file)
    assert found.choice == {"samples": 6, "mitotic": None, "coding": "png", "look_at": 0}
    for same in ({}, {"samples": 6}, {"coding": "png", "look_at": 0}):
        check_choice(file, found, same)
    for other, told in (
        ({"samples": 3}, "was made with --samples 6, not with 3; remove it and pass --data to have it made anew"),
        ({"samples": 6, "mitotic": 1}, "was made without --mitotic, not with 1; .* or leave --mitotic out"),
        ({"look_at": 5}, "was made with --look-at 0, not with 5"),
        ({"coding": "jpeg"}, "was made with --coding png, not with jpeg"),
    ):
        with pytest.raises(InputError, match=told):
            check_choice(file, found, other)


def test_a_memory_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its header says the coding, and not how many samples were asked for."""
    file = tmp_path / "memory.safetensors"
    FOUR.write(file)
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    told = {name: value for name, value in json.loads(header["memory"]).items() if name != "choice"}
    save_file(load(content), file, metadata={"memory": json.dumps(told)})
    found = read(file, "0" * 64)
    assert found.images == FOUR.images and found.choice is None
    check_choice(file, found, {"coding": "png"})
    with pytest.raises(InputError, match="does not say by which --samples it was made; remove it"):
        check_choice(file, found, {"samples": 4})


# the adaptation


def test_batches_mix_what_is_remembered_with_the_target() -> None:
    """Of the memory the two training samples; each sample once a round; the target unlabelled, of the new scanner."""
    mixed = Mixed(FOUR, target(0.4, 0.5), 2, Settings(batch=2))
    assert len(mixed) == 2
    for start in (0, 2):
        round_ = [mixed[start], mixed[start + 1]]
        told = sorted((round(float(i.mean()), 1), int(d), bool(k), int(c)) for b in round_ for i, d, k, c in
                      zip(b.images, b.domain, b.labelled, b.label, strict=True))  # fmt: skip
        assert told == [(0.1, 0, True, 1), (0.4, 2, False, -1), (0.5, 2, False, -1), (0.9, 1, True, 0)]
    assert torch.equal(mixed[1].images, Mixed(FOUR, target(0.4, 0.5), 2, Settings(batch=2))[1].images)


def test_only_a_copy_learns() -> None:
    model = Brightness()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = adapt(model, FOUR, target(0.5, 0.6), Settings(lr=0.1, epochs=2, batch=2))
    assert found.facts["used"] and found.detector is not model
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    changed = found.detector.state_dict()
    assert not torch.equal(changed["weight"], before["weight"])
    assert changed["scanner"].argmax() == 2  # half of all samples
    assert found.facts["steps"] == 4 and found.facts["remembered"] == 2 and found.facts["samples"] == 2
    assert found.facts["seconds"] >= 0 and found.facts["peak_mb"] > 0
    assert not found.detector.training


def test_every_slide_starts_from_the_model_as_it_is(tmp_path: Path) -> None:
    """The second of two equal targets gives the detector of the first."""
    each = Each(Brightness(), FOUR, Settings(lr=0.1, epochs=1, batch=2))
    first, second = each.adapted(target(0.5, 0.6)), each.adapted(target(0.5, 0.6))
    for name, value in first.detector.state_dict().items():
        assert torch.equal(value, second.detector.state_dict()[name]), name


@pytest.mark.parametrize(
    "asked, balanced, kept", [(False, True, False), (True, False, True), (None, True, True), (None, False, False)]
)
def test_norms_follow_the_mixture_or_are_kept(asked: bool | None, balanced: bool, kept: bool) -> None:
    model = Brightness()
    model.learns_balanced = balanced
    found = adapt(model, FOUR, target(0.5, 0.6), Settings(lr=0.0, batch=4, keep_norm=asked))
    assert bool((found.detector.state_dict()["norm.running_mean"] == 0).all()) == kept


def test_f1_of_what_is_remembered_by_hand() -> None:
    """Scanner one: a figure found, one missed, one false: 2 / (2 + 1 + 1). Scanner two: found. Mean 0.75."""
    seen = memory([0.1, 0.9, 0.2, 0.9, 0.1, 0.1], [1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 0])
    assert remembered_f1(Brightness(), seen) == pytest.approx(0.75)


def test_the_guard_refuses_and_says_so() -> None:
    """A learning rate that ruins the classifier: validation F1 falls from 1 to 0."""
    wrong = memory([0.9, 0.1, 0.1, 0.9], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1])
    model, harsh = Brightness(), {"lr": 1.0, "epochs": 25, "batch": 4}
    found = adapt(model, wrong, target(0.5, 0.6), Settings(**harsh))
    assert found.detector is model and not found.facts["used"]
    assert found.message == "not adapted: the F1 on remembered slides would fall from 1.000 to 0.000"
    allowed = adapt(model, wrong, target(0.5, 0.6), Settings(**harsh, guard=1.0))
    assert allowed.facts["used"] and allowed.message == "adapted to 2 samples"


def test_a_method_without_a_domain_branch_is_named_with_those_that_have_one() -> None:
    plain = create("retinanet", ["one"], {"weights": "none", "channels": 16, "levels": [4]})
    with pytest.raises(UsageError, match=r"RetinaNet has no domain branch; methods .* are wilm2021, kondo2021"):
        adaptation.check(plain)
    alone = create("wilm2021", ["one"], {"weights": "none", "channels": 16, "discriminators": []})
    with pytest.raises(UsageError, match="no domain branch"):
        adaptation.check(alone)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"lr": -1.0}, {"lr": float("nan")}, {"lr": 1e38}, {"epochs": 0}, {"most": 0}, {"guard": -0.1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Settings(**wrong)  # type: ignore[arg-type]
    for name in ("epochs", "batch", "most", "seed"):
        with pytest.raises(UsageError, match=f"{name} is 1.5; expected a whole number"):
            Settings(**{name: 1.5})  # type: ignore[arg-type]
    assert Settings(lr=1.0).lr == 1.0


def test_wilm_gets_one_output_more_and_keeps_the_others() -> None:
    torch.manual_seed(0)
    model = create("wilm2021", ["one", "two"], {"weights": "none", "channels": 16, "levels": [4]}).eval()
    assert isinstance(model, Wilm2021)
    feature = torch.rand(2, 512, 8, 8)
    with torch.no_grad():
        before = model.discriminators["c5"](feature)
        assert model.new_scanner() == 2
        after = model.discriminators["c5"](feature)
    assert torch.equal(after[:, :2], before) and torch.equal(after[:, 2], torch.zeros(2))
    assert model.scanners == ("one", "two", "adapted to")


def test_tiles_fall_into_windows() -> None:
    image = torch.arange(3 * 40 * 50, dtype=torch.float32).reshape(3, 40, 50)
    windows, xy = Brightness().samples(image, 20)
    assert xy.tolist() == [[10, 10], [30, 10], [10, 30], [30, 30]]
    assert torch.equal(windows[1], image[:, :20, 20:40])
    assert len(Brightness().samples(image, 64)[0]) == 0
