"""Phantoms: drawn H&E regions with known figures, one tissue seen by many virtual scanners."""

from mitosight.phantom.figures import LOOKALIKES, PHASES
from mitosight.phantom.folder import scanner_named, write, write_pairs
from mitosight.phantom.scanner import SCANNERS, Scanner, scan
from mitosight.phantom.tissue import Figure, Tissue, draw_tissue

__all__ = [
    "LOOKALIKES",
    "PHASES",
    "SCANNERS",
    "Figure",
    "Scanner",
    "Tissue",
    "draw_tissue",
    "scan",
    "scanner_named",
    "write",
    "write_pairs",
]
