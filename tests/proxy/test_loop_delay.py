"""The delay of the event loop: each measurement is counted, and the median is the present one."""

import asyncio
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from late_clock import LateClock
from proxy.loop_delay import WINDOW, LoopDelay
from proxy.metrics import Metrics


async def measure(delays: Sequence[float]) -> list[tuple[float, float]]:
    """Each measurement of a loop that is late by these seconds, with the delay after it."""
    results: list[tuple[float, float]] = []
    done = asyncio.Event()
    clock = LateClock()
    clock.delay = delays[0]

    def observe(seconds: float) -> None:
        results.append((round(seconds, 6), round(delay.seconds, 6)))
        if len(results) == len(delays):
            done.set()
        else:
            clock.delay = delays[len(results)]

    delay = LoopDelay(observe=observe, clock=clock)
    delay.start()
    await done.wait()
    delay.stop()
    return results


async def test_each_measurement_is_observed() -> None:
    delays = [0.0, 0.25, 2.0]
    assert [seconds for seconds, _ in await measure(delays)] == delays


async def test_one_long_pause_is_no_delay() -> None:
    delays = [0.0, 60.0, 0.0, 0.0, 0.0, 0.0]
    assert {delay for _, delay in await measure(delays)} == {0.0}


async def test_a_lasting_delay_counts_after_half_a_window_and_ends_likewise() -> None:
    delays = [2.0] * WINDOW + [0.0] * WINDOW
    half = WINDOW // 2
    expected = [0.0] * half + [2.0] * WINDOW + [0.0] * (half + 1)
    assert [delay for _, delay in await measure(delays)] == expected


async def test_a_late_loop_is_in_the_histogram() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.3, 3.0):
        metrics.observe_loop_delay(seconds)
    text = metrics.expose().decode()
    (family,) = (
        family
        for family in text_string_to_metric_families(text)
        if family.name == "router_loop_delay_seconds"
    )
    counts = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert (counts["0.001"], counts["0.25"], counts["0.5"], counts["5.0"]) == (1, 1, 2, 3)


async def test_stopping_ends_the_measurement() -> None:
    delay = LoopDelay(observe=lambda seconds: None, clock=LateClock())
    delay.start()
    delay.stop()
    delay.stop()
    assert delay.seconds == 0
