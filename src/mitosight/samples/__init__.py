"""What a training on candidates learned from, and what its model sees in them: sheets to look at, and one number."""

from mitosight.samples.study import Settings, study, told

__all__ = ["Settings", "study", "told"]
