"""Annotated regions: every annotation format of the field, read into one frame, and written back."""

from mitosight.regions.checks import checked
from mitosight.regions.domains import read_mpp, read_slides, with_domains
from mitosight.regions.fingerprints import fingerprint, fingerprints, met, names_of
from mitosight.regions.folder import DataFolder, load, merged, together
from mitosight.regions.formats import read, write
from mitosight.regions.region import (
    BOX_PX,
    HARD_NEGATIVE,
    LABEL_NAMES,
    MITOTIC_FIGURE,
    UNKNOWN,
    Domain,
    Region,
)

__all__ = [
    "BOX_PX",
    "HARD_NEGATIVE",
    "LABEL_NAMES",
    "MITOTIC_FIGURE",
    "UNKNOWN",
    "DataFolder",
    "Domain",
    "Region",
    "checked",
    "fingerprint",
    "fingerprints",
    "load",
    "merged",
    "met",
    "names_of",
    "read",
    "read_mpp",
    "read_slides",
    "together",
    "with_domains",
    "write",
]
