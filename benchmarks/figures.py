"""Medians, how far rounds lie apart, and when that is too far to believe them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The middle half of the rounds lies within this part of their median, or they are noisy.
NOISY = 0.25


def spread(values: Sequence[float]) -> float:
    """Return how far the middle half of *values* lies apart, as a part of their median."""
    if len(values) < 3:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0


def is_noisy(*series: Sequence[float]) -> bool:
    """Whether rounds of the same work lie too far apart to be believed."""
    return any(spread(values) > NOISY for values in series)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that *percent* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
