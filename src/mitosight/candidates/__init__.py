"""Finders of candidates, which need no training: places of a slide that may hold a mitotic figure."""

from mitosight.candidates.blue_ratio import BlueRatio
from mitosight.candidates.cohort import Found, find_in_slides, sensitivity
from mitosight.candidates.finder import Candidates, Finder, Statistics
from mitosight.candidates.haematoxylin import Haematoxylin
from mitosight.candidates.settings import FINDERS, finder_named, parsed
from mitosight.candidates.slides import find_in_slide, reached, search

__all__ = [
    "FINDERS",
    "BlueRatio",
    "Candidates",
    "Finder",
    "Found",
    "Haematoxylin",
    "Statistics",
    "find_in_slide",
    "find_in_slides",
    "finder_named",
    "parsed",
    "reached",
    "search",
    "sensitivity",
]
