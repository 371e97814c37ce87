"""The slopes of a long run: what they find, and what is noise."""

import random

import pytest

from slopes import LIMITS, exceeded, measure, trend


def series(
    hours: float, per_hour: float, *, noise: float = 0.0, warm_up: float = 0.0
) -> list[tuple[float, float]]:
    """A value a second that grows, after a warm-up in the first tenth of the time."""
    rng, seconds = random.Random(1), int(hours * 3600)
    return [
        (
            float(at),
            100 + per_hour * at / 3600 + rng.gauss(0, noise) - warm_up * (at < seconds / 10),
        )
        for at in range(seconds)
    ]


def test_slope_is_found_in_noise() -> None:
    found = measure({"memory": series(1, 12.0, noise=3.0, warm_up=80.0)})["memory"]
    assert found["slope"] == pytest.approx(12.0, abs=3 * found["error"])
    assert 0 < found["error"] < 2
    assert (found["unit"], found["limit"]) == ("MB/h", 10.0)
    assert found["grown"] == pytest.approx(found["slope"] * 2 / 3, rel=0.01)


@pytest.mark.parametrize("name", LIMITS)
def test_growth_beyond_the_limit_fails(name: str) -> None:
    limit = LIMITS[name].per_hour
    for factor, fails in ((1.3, True), (0.7, False), (-1.3, False)):
        slopes = measure({name: series(1, factor * limit, noise=limit / 20)})
        assert bool(list(exceeded(slopes, minutes=60))) == fails


def test_noise_alone_never_fails() -> None:
    slopes = measure({"memory": series(1, 0.0, noise=200.0)})
    assert list(exceeded(slopes, minutes=60)) == []


def test_a_short_run_compares_the_growth() -> None:
    slow, fast = (measure({"memory": series(0.1, per_hour)}) for per_hour in (100.0, 500.0))
    assert list(exceeded(slow, minutes=6)) == []
    (line,) = exceeded(fast, minutes=6)
    assert line.startswith("memory grows by 33")
    assert list(exceeded(slow, minutes=60)) == ["memory grows by 100.0 ± 0.0 MB an hour"]


def test_p99_is_that_of_each_block() -> None:
    values = [(float(at), 1_000.0 if at % 50 == 0 else 5.0) for at in range(6_000)]
    found = measure({"cloud_p50": values, "cloud_p99": values})
    assert found["cloud_p50"]["slope"] == found["cloud_p99"]["slope"] == 0
    rising = [(at, value * (1 + at / 6_000)) for at, value in values]
    assert measure({"cloud_p99": rising})["cloud_p99"]["slope"] > 500


def test_trend_of_a_line_is_exact() -> None:
    slope, error = trend([float(n) for n in range(100)], [3.0 * n for n in range(100)])
    assert slope == pytest.approx(3.0)
    assert error == pytest.approx(0.0, abs=1e-9)
