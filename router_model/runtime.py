"""ONNX Runtime, with AMX also in a process that is pinned to one core.

At its import ONNX Runtime decides whether it uses AMX, the matrix unit of newer Intel processors.
It moves a thread from one core to another, and uses AMX only if the thread keeps its registers.
With one allowed core this test is not possible, and AMX stays off. So the import may use all cores,
and the process is pinned again before any other work. The scores are the same bit by bit
(docs/decisions/022-amx-on-one-core.md).

Modules of this package import ONNX Runtime from here.
"""

import contextlib
import os
from collections.abc import Iterator

import numpy as np  # noqa: F401  # before `unpinned`: its threads inherit the cores

__all__ = ["ort"]


@contextlib.contextmanager
def unpinned() -> Iterator[None]:
    """Let this thread, and threads that it starts, use all cores if it is pinned to one.

    No effect if a cpuset has one core only, or if the system has no affinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    if len(allowed) != 1:
        yield
        return
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, allowed)


with unpinned():
    import onnxruntime as ort
