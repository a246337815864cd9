"""µm per pixel of a microscope image: what is possible."""

from __future__ import annotations

LOWEST_MPP, HIGHEST_MPP = 0.05, 10.0
ACCEPTED_MPP = f"expected {LOWEST_MPP:g} to {HIGHEST_MPP:g} µm per px"


def possible(mpp: float) -> bool:
    """Whether `mpp` can be that of a microscope image: 0.05 to 10 µm per px; never for NaN."""
    return LOWEST_MPP <= mpp <= HIGHEST_MPP
