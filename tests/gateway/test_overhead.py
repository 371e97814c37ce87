"""A guard on what a request costs: CPU time, as a multiple of what an application costs that does
nothing, measured in the same minute on the same machine. Not a time, and no benchmark: `make bench`
is that."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from bench import (
    CONFIG,
    EMPTY_PORT,
    PROBED,
    PROXY_PORT,
    SELF,
    UPSTREAM_PORT,
    Server,
    Subject,
    measure,
    serving,
)
from load import KEY

ROOT = Path(__file__).parents[2]
ROUNDS = 5
SECONDS = 0.5
CLIENTS = 16
# It was 9 when this was written, and twice that before the proxy had an HTTP client of its own.
MOST = 12.0


def test_a_request_costs_a_small_multiple_of_an_empty_one(tmp_path: Path) -> None:
    """With keys, rows, metrics and usage on; without a decision, which is no constant."""
    config = tmp_path / "guard.yaml"
    model = ROOT / "data/models/router"
    config.write_text(CONFIG.format(key=KEY, port=UPSTREAM_PORT, model=model, folder=tmp_path))
    serve = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(config)]
    cores = os.sched_getaffinity(0)
    with ExitStack() as stack:

        def start(*command: str, port: int, path: str = "/") -> Server:
            return stack.enter_context(serving(cores, command, port=port, path=path))

        mock = start(*SELF, "--upstream", port=UPSTREAM_PORT).pid
        empty = start(*SELF, "--empty", port=EMPTY_PORT).pid
        ours = start(*serve, "--port", str(PROXY_PORT), port=PROXY_PORT, path=PROBED).pid
        subjects = [
            Subject(PROXY_PORT, ours, clients=(CLIENTS,)),
            Subject(EMPTY_PORT, empty, clients=(CLIENTS,)),
        ]

        def compare() -> float:
            costs = [
                measure(one, clients=CLIENTS, seconds=SECONDS, mock=mock)["cpu_us"]
                for one in subjects
            ]
            return costs[0] / costs[1]

        compare()  # the first requests open connections
        ratios = [compare() for _ in range(ROUNDS)]
    # The least disturbed of them: what else runs on a machine makes caches cold, never warm.
    assert min(ratios) < MOST, ratios
