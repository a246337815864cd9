"""One slide and a detector to the figures of the slide: streamed tile by tile, in memory that does not grow with it."""

from mitosight.inference.covering import Covering, cover, cover_near, near
from mitosight.inference.searching import Progress, Workers, detect, gathered, made, own, search, workers

__all__ = [
    "Covering",
    "Progress",
    "Workers",
    "cover",
    "cover_near",
    "detect",
    "gathered",
    "made",
    "near",
    "own",
    "search",
    "workers",
]
