"""A proxy that measures how long its event loop is blocked, for `bench_loop`.

    python tests/bench/loop_server.py config.yaml [--stacks]

A timer runs every millisecond. How late it runs is how long an event had to wait for the loop. The
processor time of the loop's thread between two runs is the loop's own work in them: without the
time that it waited for the interpreter's lock, or for a core.

Commands come by standard input, one a line: `read` prints the figures since the last one as JSON.
"""

import asyncio
import json
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final, TextIO

from proxy.config import load_config
from proxy.server import Proxy, Server

TICK_SECONDS: Final = 0.001
STALLED_SECONDS: Final = 0.004  # beyond which `--stacks` looks at the threads
_FRAMES: Final = 7  # of a stack, the innermost


class LoopTimer:
    """Measures the loop that it is started in."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._cpu: list[float] = []
        self._cpu_before = 0.0
        self._due = 0.0
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Start the timer; call it in the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._cpu_before = time.thread_time()
        self._schedule()

    @property
    def stalled_seconds(self) -> float:
        """How late the next run is by now."""
        return time.monotonic() - self._due

    def read(self) -> dict[str, list[float]]:
        """Milliseconds of all runs since the last call."""
        late, cpu = self._late, self._cpu
        self._late, self._cpu = [], []
        return {"late_ms": late, "cpu_ms": cpu}

    def _schedule(self) -> None:
        self._due = self._loop.time() + TICK_SECONDS
        self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        cpu = time.thread_time()
        # libuv's timers have whole milliseconds, so the clock itself is asked.
        self._late.append((time.monotonic() - self._due) * 1e3)
        self._cpu.append((cpu - self._cpu_before) * 1e3)
        self._cpu_before = cpu
        self._schedule()


class StackSampler:
    """Counts the stacks of the threads that run while the loop is stalled."""

    def __init__(self, timer: LoopTimer) -> None:
        self.stacks: Counter[str] = Counter()
        self._timer = timer

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="stacks").start()

    def _run(self) -> None:
        own = threading.get_ident()
        while True:
            time.sleep(TICK_SECONDS)
            if (stalled := self._timer.stalled_seconds) < STALLED_SECONDS:
                continue
            for number, frame in sys._current_frames().items():
                if number != own:
                    lines = [
                        f"{Path(entry.filename).name}:{entry.lineno}:{entry.name}"
                        for entry in traceback.extract_stack(frame)[-_FRAMES:]
                    ]
                    self.stacks[" < ".join(reversed(lines))] += round(stalled * 1e3)


class _Server(Server):
    def __init__(self, proxy: Proxy, timer: LoopTimer) -> None:
        super().__init__(proxy)
        self._timer = timer

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._timer.start()


def obey(commands: TextIO, timer: LoopTimer, sampler: StackSampler | None) -> None:
    """Answer commands until their end."""
    for _ in commands:
        figures: dict[str, Any] = timer.read()
        if sampler is not None:
            figures["stacks"] = sampler.stacks.most_common(6)
            sampler.stacks.clear()
        print("figures " + json.dumps(figures), flush=True)


def main() -> None:
    path = Path(sys.argv[1])
    timer = LoopTimer()
    sampler = StackSampler(timer) if "--stacks" in sys.argv else None
    server = _Server(Proxy(load_config(path), path=path), timer)
    if sampler is not None:
        sampler.start()
    threading.Thread(target=obey, args=(sys.stdin, timer, sampler), daemon=True).start()
    server.run()


if __name__ == "__main__":
    main()
