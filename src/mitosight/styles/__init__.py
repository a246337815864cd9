"""What a trained style transfer does to tiles: a sheet to look at, and measures of style and structure."""

from mitosight.styles.findings import told
from mitosight.styles.study import Settings, find, study

__all__ = ["Settings", "find", "study", "told"]
