"""What the papers of the two candidate methods say in numbers is what their recipes and defaults are."""

from __future__ import annotations

from mitosight import recipe
from mitosight.adaptation import Choice, Settings
from mitosight.adaptation.adapting import PATCHES
from mitosight.candidates import BlueRatio
from mitosight.methods import arguments, create
from mitosight.methods.parts.incdp import PAPER
from mitosight.methods.wang2023 import Wang2023


def test_kondo_2021() -> None:
    """Blue ratio of mean + 3 deviations, 64 px; Adam, 1e-5, cosine, 30 epochs of 128; adaptation: 1.7e-6, 5 epochs."""
    asked, defaults = recipe.load("kondo2021"), arguments("kondo2021")
    steps = asked.optimisation
    assert (steps.optimiser, steps.lr, steps.schedule, steps.epochs) == ("adam", 1e-5, "cosine", 30)
    assert (defaults["finder"], defaults["patch_px"], defaults["patches_per_batch"]) == ("blue-ratio", 64, 128)
    finder = BlueRatio()
    assert (finder.formula, finder.deviations, finder.least_px, finder.most_side_px) == ("plain", 3.0, 2, 50)
    how = Settings()
    assert (how.lr, how.epochs, PATCHES) == (1.7e-6, 5, 128)
    assert Choice().of(patches=True) == (10_000, 10)


def test_wang_2023() -> None:
    """80 px, ResNet38, 10 clusters, epsilon 0.5, 4 children, lambda 0.5; SGD, 1e-3, decay 5e-4, batches of 150."""
    asked, defaults = recipe.load("wang2023"), arguments("wang2023")
    steps = asked.optimisation
    assert (steps.optimiser, steps.lr, steps.weight_decay) == ("sgd", 1e-3, 5e-4)
    assert (defaults["patch_px"], defaults["patches_per_batch"], defaults["network"]) == (80, 150, "resnet38")
    assert (defaults["clusters"], defaults["epsilon"], defaults["children"]) == (10, 0.5, 4)
    assert all(defaults[part] for part in ("dgsb", "unsa", "efdmix", "incdp"))
    small = create("wang2023", ["a", "b"], {**asked.detector, "width": 4})
    assert isinstance(small, Wang2023) and small.terms == PAPER
    assert (PAPER.entropy, PAPER.focal, PAPER.centre, PAPER.child, PAPER.omega) == (0.0, 1.0, 1.0, 0.5, "nearest")
