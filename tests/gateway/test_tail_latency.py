"""The tail of the latency, relative to the median of the same requests.

No client may wait while others are served. Nothing is compared with a clock: a slow machine slows
the median, too. For benchmarks see `make bench`.
"""

import os
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench import PROBED, PROXY_PORT, SELF, UPSTREAM_PORT, quantile, serve_command, serving
from load import Load, make_requests

ROUNDS = 3
SECONDS = 2.0
CLIENTS = 128
# Measured: 2 and 3. While uvloop accepted one connection in each turn: 2 and 35.
MAX_P99_RATIO = 5.0
MAX_LONGEST_RATIO = 12.0


def test_no_client_waits_while_others_are_served(tmp_path: Path) -> None:
    """The longest latency contains the wait of the last new connection."""
    cores = os.sched_getaffinity(0)
    requests = make_requests(model="cloud")
    ratios = []
    with ExitStack() as stack:
        for command, port, path in (
            ([*SELF, "--upstream"], UPSTREAM_PORT, "/"),
            (serve_command(tmp_path), PROXY_PORT, PROBED),
        ):
            stack.enter_context(serving(cores, command, port=port, path=path))
        for _ in range(ROUNDS):
            load = Load(PROXY_PORT, requests, stream=False)
            uvloop.run(load.run(CLIENTS, SECONDS))
            p50, p99, longest = (quantile(load.latencies, share) for share in (0.5, 0.99, 1.0))
            ratios.append((longest / p50, p99 / p50))
    # The best round: other processes only ever lengthen a tail.
    longest_ratio, p99_ratio = min(ratios)
    assert longest_ratio < MAX_LONGEST_RATIO, ratios
    assert p99_ratio < MAX_P99_RATIO, ratios
