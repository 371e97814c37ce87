"""A command on a leash: it ends, with whatever it has started, when the holder lets go.

    python leash.py GRACE_SECONDS COMMAND ARGUMENT…

Standard input is the leash. When it ends, because its holder closed it or was killed, the command's
process group is told to stop, and after GRACE_SECONDS it is killed. What a command leaves behind
when it ends by itself is killed, too. The exit status is the command's, 128 + N after signal N.

Run as a file, with nothing but the standard library, so that it starts at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Final

NICENESS: Final = 10  # requests come first
_NO_SUCH_COMMAND: Final = 127  # as shells have it


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    grace_seconds, command = float(arguments[0]), arguments[1:]
    _step_back()
    try:
        process = subprocess.Popen(  # noqa: S603 -- what the holder says
            command, stdin=subprocess.DEVNULL, process_group=0
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return _NO_SUCH_COMMAND
    ending = threading.Event()

    def end() -> None:
        ending.wait()
        _tell(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
        _tell(process.pid, signal.SIGKILL)

    def hold() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ending.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    for work in (end, hold):
        threading.Thread(target=work, daemon=True).start()
    status = process.wait()
    _tell(process.pid, signal.SIGKILL)  # the rest of the group
    return status if status >= 0 else 128 - status


def _step_back() -> None:
    """Leave the processors to others. Where Linux shares them out by sessions, a process's own
    niceness counts within its session only (sched(7), "The autogroup feature")."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:  # noqa: PTH123
        group.write(str(NICENESS))


def _tell(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
