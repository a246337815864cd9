"""Recipes: the built-in ones, what is refused and how it is said, and settings over a recipe."""

from pathlib import Path

import pytest

from mitosight import recipe
from mitosight.errors import UsageError
from mitosight.methods import METHODS, create


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recipe file that names a method only."""
    path = tmp_path / "mine.toml"
    path.write_text('method = "wilm2021"\n')
    return path


@pytest.mark.parametrize("name", sorted(recipe.builtin()))
def test_built_in_recipes_make_a_detector(name: str) -> None:
    found = recipe.load(name)
    detector = create(found.method, ["one", "two", "three", "four"], found.detector)
    assert type(detector) is METHODS[found.method]
    side_px = found.training.crop_px or detector.tile_px
    assert side_px >= detector.least_tile_px
    first = recipe.builtin()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 30  # what `mitosight methods` shows


def test_the_papers_recipe() -> None:
    found = recipe.load("wilm2021")
    steps = found.optimisation
    assert (steps.epochs, steps.steps_per_epoch, steps.lr, steps.schedule) == (200, 500, 1e-4, "one-cycle")
    assert (found.training.crop_px, found.training.tiles_per_scanner, found.training.near_figure) == (512, 3, 0.5)
    weak = recipe.load("wilm2021-weak")
    assert weak.detector == {"normalise": "none", "augment": False} and weak.method == "retinanet"


def test_a_bare_method_takes_every_default(file: Path) -> None:
    assert recipe.load(str(file)) == recipe.Recipe("wilm2021")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"names no method; expected a line such as method = \"wilm2021\""),
        ("method = 3", "names no method"),
        ("method = [", "is no readable recipe .*expected TOML"),
        ('method = "yolo"', "no method 'yolo'; methods are retinanet, wilm2021"),
        ('method = "retinanet"\nlr = 1', "unknown key 'lr'; accepted are method, detector, training, optimisation"),
        ('method = "retinanet"\ntraining = 1', r"training is not a table; write \[training\]"),
        ('method = "retinanet"\n[schedule]\nlr = 1', "unknown key 'schedule'"),
        ('method = "retinanet"\n[detector]\nwings = 1', "retinanet has no argument 'wings'; it has anchor_base"),
        ('method = "retinanet"\n[detector]\ndomain_weight = 1', "retinanet has no argument 'domain_weight'"),
        ('method = "retinanet"\n[training]\nlr = 1', r"\[training\] has the unknown key 'lr'; accepted are scanners"),
        ('method = "retinanet"\n[optimisation]\nseed = 1', r"\[optimisation\] has the unknown key 'seed'"),
        ('method = "retinanet"\n[detector]\nmpp = "fine"', "mpp = 'fine'; accepted: a valid number"),
        ('method = "retinanet"\n[detector]\nlevels = "345"', "levels = '345'"),
        (
            'method = "retinanet"\n[detector]\nnormalise = "x"',
            "normalise = 'x'; accepted: 'batch', 'midog', 'imagenet' or 'none'",
        ),
        (
            'method = "retinanet"\n[training]\nscanners = "one"',
            r"\[training\] scanners = 'one'; accepted: a valid tuple",
        ),
        ('method = "retinanet"\n[training]\nnear = "far"', r"near = 'far'; accepted: 'corner', 'radius' or 'inside'"),
        (
            'method = "retinanet"\n[training]\nnear_figure = 1.5',
            r"near_figure = 1.5; accepted: less than or equal to 1",
        ),
        ('method = "retinanet"\n[training]\nvalidate_every = 0', "validate_every = 0; accepted: greater than or equal"),
        ('method = "retinanet"\n[training]\nseed = -1', "seed = -1"),
        ('method = "retinanet"\n[optimisation]\nepochs = 2.5', "epochs = 2.5; accepted: a valid integer"),
        ('method = "retinanet"\n[optimisation]\nepochs = 0', "epochs = 0; accepted: greater than or equal to 1"),
        ('method = "retinanet"\n[optimisation]\nlr = nan', "lr = nan"),
        ('method = "retinanet"\n[optimisation]\nprecision = "fp16"', "accepted: 'fp32' or 'bf16'"),
    ],
)
def test_what_is_refused(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=told) as caught:
        recipe.load(str(file))
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wilm2020: no such recipe; give a file or one of .*demo, .*wilm2021"):
        recipe.load("wilm2020")
    with pytest.raises(UsageError, match="is no readable recipe"):
        recipe.load(str(tmp_path))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no readable recipe"):
        recipe.load(str(tmp_path / "bytes.toml"))


def test_settings_go_over_the_recipe(file: Path) -> None:
    found = recipe.load(
        str(file),
        [
            "epochs=3",
            "optimisation.lr=1e-3",
            "weights=none",
            "augment=false",
            'scanners=["A b", "C"]',
            "near='radius'",
            "detector.discriminators=['c4', 'c5']",
            "milestones=[0.5]",
            "seed=1",
            "seed=2",
        ],
    )
    assert (found.optimisation.epochs, found.optimisation.lr, found.optimisation.milestones) == (3, 1e-3, (0.5,))
    assert found.detector == {"weights": "none", "augment": False, "discriminators": ("c4", "c5")}
    assert (found.training.scanners, found.training.near, found.training.seed) == (("A b", "C"), "radius", 2)
    assert recipe.load(str(file), ["method=retinanet"]).method == "retinanet"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("epochs", "--set epochs sets nothing; expected key=value"),
        ("wings=2", "there is no 'wings'; keys are detector.domain_form, .*training.scanners, .*optimisation.epochs"),
        ("training.epochs=2", "there is no 'training.epochs'"),
        ("detector.training.seed=2", "there is no 'detector.training.seed'"),
        ("epochs=many", "epochs = 'many'"),
        ("method=yolo", "no method 'yolo'"),
    ],
)
def test_settings_that_are_refused(file: Path, setting: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        recipe.load(str(file), [setting])


def test_a_key_of_two_tables_needs_its_table(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "arguments", lambda method: {"seed": 0})
    with pytest.raises(UsageError, match=r"'seed' may be detector.seed or training.seed; write it with its table"):
        recipe.load(str(file), ["seed=1"])
    assert recipe.load(str(file), ["training.seed=1"]).training.seed == 1


def test_a_recipe_written_as_json_is_read_back(file: Path) -> None:
    found = recipe.load(str(file), ["epochs=3", "discriminators=['c4']"])
    assert recipe.parse(found.to_json()) == found


@pytest.mark.parametrize(
    "setting",
    ["channels=0", "anchor_scales=[]", "anchor_scales=[-1.0]", "head_convs=-1", "class_bias=nan", "most_per_tile=0",
     "score_floor=1.5", "mpp=100", "domain_dropout=2", "domain_weight=-1"],
)  # fmt: skip
def test_impossible_values_of_a_detector(setting: str) -> None:
    with pytest.raises(UsageError, match=setting.split("=")[0]):
        recipe.load("wilm2021", [setting])
