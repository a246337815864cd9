"""Test-time adaptation: a model with a domain branch goes on learning on the slides that it is to search."""

from mitosight.adaptation.adapting import Adapted, Settings, adapt, adaptable, check, remembered_f1
from mitosight.adaptation.memory import FILE, Memory, read
from mitosight.adaptation.remember import Choice, remember
from mitosight.adaptation.slides import Each, Together, recalled
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
    "adapt",
    "adaptable",
    "check",
    "joined",
    "of_slide",
    "read",
    "recalled",
    "remember",
    "remembered_f1",
]
