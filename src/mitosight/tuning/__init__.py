"""Tuning of a recipe's values, and of the adaptation's learning rate, by Optuna."""

from mitosight.tuning.objectives import Adapting, Training
from mitosight.tuning.study import Best, Range, search

__all__ = ["Adapting", "Best", "Range", "Training", "search"]
