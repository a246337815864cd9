"""Scores of detections against annotations: matching, F1, average precision, FROC, by domain, with intervals."""

from mitosight.evaluation.matching import MANY_TO_MANY, ONE_TO_ONE, RULES, Matches, match
from mitosight.evaluation.report import Report, Scores, Spots
from mitosight.evaluation.scoring import RADIUS_UM, check_images, evaluate

__all__ = [
    "MANY_TO_MANY",
    "ONE_TO_ONE",
    "RADIUS_UM",
    "RULES",
    "Matches",
    "Report",
    "Scores",
    "Spots",
    "check_images",
    "evaluate",
    "match",
]
