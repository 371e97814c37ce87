"""`hybrid-llm` with a clock that runs faster, so that days pass within minutes.

    python tests/support/fast_clock.py START SPEED serve --config FILE

The wall clock (UNIX seconds) of the process begins at START and runs SPEED times as fast. Timeouts
and pauses are by the monotonic clock, which stays as it is.
"""

import sys
import time
from collections.abc import Callable


def fast_clock(start: float, speed: float) -> Callable[[], float]:
    """A clock that begins now."""
    timer, began = time.monotonic, time.monotonic()
    return lambda: start + speed * (timer() - began)


def main() -> None:
    start, speed = map(float, sys.argv[1:3])
    clock = fast_clock(start, speed)
    # Before the import: modules of the proxy take these functions as default arguments.
    time.time = clock
    time.time_ns = lambda: int(clock() * 1e9)
    sys.argv[:3] = ["hybrid-llm"]
    from proxy.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
