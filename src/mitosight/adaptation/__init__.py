"""Test-time adaptation: a model with a domain branch goes on learning on the slides that it is to search."""

from mitosight.adaptation.adapting import Adapted, Settings, adapt, adaptable, check, check_recipe, remembered_f1
from mitosight.adaptation.memory import FILE, Memory, read
from mitosight.adaptation.remember import Choice, remember
from mitosight.adaptation.slides import Each, Together, Unguarded, recalled
from mitosight.adaptation.target import Target, joined, of_slide

__all__ = [
    "FILE",
    "Adapted",
    "Choice",
    "Each",
    "Memory",
    "Settings",
    "Target",
    "Together",
    "Unguarded",
    "adapt",
    "adaptable",
    "check",
    "check_recipe",
    "joined",
    "of_slide",
    "read",
    "recalled",
    "remember",
    "remembered_f1",
]
