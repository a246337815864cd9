"""How the preparatory trainings of a method step."""

from __future__ import annotations

import math
from typing import Any

from mitosight.optimisation import Optimisation

STATES = 10  # of a preparatory training, from which it can be resumed


def stage(steps: int, **settings: Any) -> Optimisation:
    """At least `steps` steps in ten epochs of equal length; `settings` are others of `Optimisation`."""
    epochs = min(STATES, steps)
    return Optimisation(epochs=epochs, steps_per_epoch=math.ceil(steps / epochs), **settings)
