"""The guide to scaling: its tables are those of the results, and its limits those of the code."""

import json

from bench_scale import GUIDE, RESULTS, SETUPS, balancer_config, fill_in
from proxy.budget.spending_limits import MAX_RESERVATION_WAITERS, WAIT_SECONDS
from proxy.gateway.conversations import MAX_ANSWERS
from proxy.gateway.stored_responses import MAX_CACHED
from proxy.routing.router import MAX_CACHED_SCORES
from proxy.routing.shadow_router import MAX_IN_FLIGHT
from proxy.server.app import Intervals
from proxy.server.notifications import MAX_QUEUED
from proxy.storage.database import MAX_CONNECTIONS
from proxy.storage.writer import MAX_PENDING
from proxy.upstream.concurrency import MAX_WAITING
from proxy.upstream.learned import MAX_ENTRIES

TEXT = GUIDE.read_text(encoding="utf-8")


def test_the_tables_match_the_results() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["setups"].keys() == SETUPS.keys()
    assert fill_in(TEXT, results) == TEXT, "python tests/bench/bench_scale.py --readme"


def test_limits_per_process_are_those_of_the_code() -> None:
    for line in (
        f"| requests that wait for a tier | {MAX_WAITING} |",
        f"| requests that wait for reserved dollars | {MAX_RESERVATION_WAITERS}, "
        f"for {WAIT_SECONDS:g} seconds |",
        f"| connections to PostgreSQL | {MAX_CONNECTIONS} |",
        f"| rows that wait for the database | {MAX_PENDING:,}, or",
        f"| remembered scores | {MAX_CACHED_SCORES:,} |",
        f"| remembered answers of conversations | {MAX_ANSWERS:,} |",
        f"| stored responses in memory | {MAX_CACHED:,}, or",
        f"| remembered refusals of a tier | {MAX_ENTRIES}, for",
        f"| texts that the shadow router scores at once | {MAX_IN_FLIGHT} |",
        f"| messages that wait for the webhook | {MAX_QUEUED} |",
    ):
        assert line in TEXT


def test_intervals_of_background_work_are_those_of_the_code() -> None:
    intervals = Intervals()
    for work, seconds in (
        ("reading the local models", intervals.refresh_capabilities),
        ("reading the loaded models, probing a failed tier", intervals.probe),
        ("reading the keys of the page", intervals.keys),
        ("reading the spent dollars (with a budget)", intervals.spent),
        ("reading answer quality", intervals.quality),
        ("measuring drift", intervals.drift),
        ("self-calibration (with `learning.auto`)", intervals.learning),
    ):
        assert f"| {work} | {seconds:g} s |" in TEXT


def test_the_balancer_of_the_benchmark_has_all_proxies() -> None:
    text = balancer_config(4)
    assert [text.count(f'server proxy-{n} "${{PROXY_{n}}}"') for n in (1, 2, 3, 4, 5)] == [
        2, 2, 2, 2, 0,
    ]  # fmt: skip
    assert "http-reuse safe" in text  # what a setup of the benchmark replaces
