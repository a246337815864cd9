"""Tissue: where a slide has any, found at low resolution or drawn by hand, and a picture of it."""

from mitosight.tissue.finding import find_tissue
from mitosight.tissue.geojson import tissue_from_geojson
from mitosight.tissue.preview import preview
from mitosight.tissue.tissue import Tissue, everywhere

__all__ = ["Tissue", "everywhere", "find_tissue", "preview", "tissue_from_geojson"]
