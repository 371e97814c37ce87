"""Slopes of what must not grow in a long run, with their limits.

slopes = measure(series)                 # of the time after the first third, in which it settles
failures = list(exceeded(slopes, minutes=480))
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

BLOCKS: Final = 20
# In shorter runs a slope per hour is mostly noise: the growth itself is compared.
LONG_MINUTES: Final = 10.0

Series = Sequence[tuple[float, float]]  # seconds and values, in order


class Limit(NamedTuple):
    """The growth that fails a run.

    Attributes:
        unit: of the values.
        per_hour: in a long run.
        grown: between the first third of a shorter run and its end.
    """

    unit: str
    per_hour: float
    grown: float


LIMITS: Final[dict[str, Limit]] = {
    "memory": Limit("MB", 10.0, 20.0),
    "open_files": Limit("files", 2.0, 15.0),
    "threads": Limit("threads", 1.0, 4.0),
    "cloud_p50": Limit("ms", 5.0, 50.0),
    "cloud_p99": Limit("ms", 50.0, 500.0),
    # The load is 100,000 requests an hour, and a row with its indexes has about 2 kB.
    "database": Limit("MB", 500.0, 60.0),
}
# What a block of values is reduced to.
_OF_BLOCK: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "cloud_p50": statistics.median,
    "cloud_p99": lambda values: sorted(values)[math.ceil(0.99 * len(values)) - 1],
}


def measure(series: Mapping[str, Series]) -> dict[str, dict[str, Any]]:
    """The slope of each series of `LIMITS` per hour, its standard error, and its unit."""
    return {name: _slope(name, values) for name, values in series.items()}


def _slope(name: str, values: Series) -> dict[str, Any]:
    end = values[-1][0]
    settled = [(at / 3600, value) for at, value in values if at >= end / 3]
    x, y = zip(*settled, strict=True)
    slope, error = trend(x, y, of_block=_OF_BLOCK.get(name, statistics.fmean))
    unit = LIMITS[name].unit
    return {
        "unit": f"{unit}/h",
        "slope": slope,
        "error": error,
        "grown": slope * (x[-1] - x[0]),
        "limit": LIMITS[name].per_hour,
    }


def trend(
    x: Sequence[float],
    y: Sequence[float],
    *,
    of_block: Callable[[Sequence[float]], float] = statistics.fmean,
) -> tuple[float, float]:
    """The slope by least squares, and its standard error.

    Over BLOCKS blocks: samples are autocorrelated, so the error over single samples would be far
    too small.
    """
    size = max(1, len(x) // BLOCKS)
    starts = range(0, len(x) - size + 1, size)
    at = [statistics.fmean(x[start : start + size]) for start in starts]
    values = [of_block(y[start : start + size]) for start in starts]
    slope, intercept = statistics.linear_regression(at, values)
    residuals = sum((b - intercept - slope * a) ** 2 for a, b in zip(at, values, strict=True))
    spread = sum((a - statistics.fmean(at)) ** 2 for a in at)
    return slope, math.sqrt(residuals / (len(at) - 2) / spread)


def exceeded(slopes: Mapping[str, Mapping[str, Any]], *, minutes: float) -> Iterator[str]:
    """What grows beyond its limit and beyond chance, a line for each."""
    for name, found in slopes.items():
        limit = LIMITS[name]
        if found["slope"] <= 2 * found["error"]:
            continue
        text = f"{name.replace('_', ' ')} grows"
        if minutes < LONG_MINUTES:
            if found["grown"] > limit.grown:
                yield f"{text} by {found['grown']:.1f} {limit.unit}"
        elif found["slope"] > limit.per_hour:
            yield f"{text} by {found['slope']:.1f} ± {found['error']:.1f} {limit.unit} an hour"
