"""Many slides through one model: points, a summary and a record, resumed where a run was broken off."""

from mitosight.cohort.annotated import search_regions, settings_of
from mitosight.cohort.opening import first_look, opened
from mitosight.cohort.record import FAILED, HEADER, OK, Row
from mitosight.cohort.searching import Watch, detect_slides
from mitosight.cohort.settings import FirstLook, Preparation, Prepared, Settings, tissue_of

__all__ = [
    "FAILED",
    "HEADER",
    "OK",
    "FirstLook",
    "Preparation",
    "Prepared",
    "Row",
    "Settings",
    "Watch",
    "detect_slides",
    "first_look",
    "opened",
    "search_regions",
    "settings_of",
    "tissue_of",
]
