"""Slides: one class for every image file, and the writer of tiled TIFF; no other module opens an image file."""

from __future__ import annotations

from mitosight.slide.files import find_slides
from mitosight.slide.reader import SUFFIXES
from mitosight.slide.slide import Slide
from mitosight.slide.writing import write_tiff

__all__ = ["SUFFIXES", "Slide", "find_slides", "write_tiff"]
