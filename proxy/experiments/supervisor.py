"""Process supervisor: a command and its children end when the parent process does.

    python supervisor.py GRACE_SECONDS COMMAND ARGUMENT…

The parent holds the other end of standard input. When it closes that or is killed, the command's
process group gets SIGTERM, and SIGKILL after GRACE_SECONDS. When the command ends by itself, its
remaining children are killed. The exit status is the command's, or 128 + N after signal N.

This file runs as a script and imports only the standard library, so it starts fast.
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

NICENESS: Final = 10  # lower priority than serving requests
_NO_SUCH_COMMAND: Final = 127  # as in shells


def supervised(command: Sequence[str], *, grace_seconds: float) -> list[str]:
    """The command line that runs a command under this supervisor, with a lower priority."""
    return [sys.executable, "-I", __file__, str(grace_seconds), *command]


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    grace_seconds, command = float(arguments[0]), arguments[1:]
    _lower_priority()
    try:
        process = subprocess.Popen(  # noqa: S603 -- the parent's command
            command, stdin=subprocess.DEVNULL, process_group=0
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return _NO_SUCH_COMMAND
    ending = threading.Event()

    def end() -> None:
        ending.wait()
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
        _signal_group(process.pid, signal.SIGKILL)

    def watch_stdin() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ending.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    for work in (end, watch_stdin):
        threading.Thread(target=work, daemon=True).start()
    status = process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # the rest of the group
    return status if status >= 0 else 128 - status


def _lower_priority() -> None:
    """Lower the CPU priority, also of the autogroup.

    With Linux's autogroups the niceness of a process counts within its session only (sched(7), "The
    autogroup feature").
    """
    os.nice(NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:  # noqa: PTH123
        group.write(str(NICENESS))


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
