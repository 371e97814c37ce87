"""The import of ONNX Runtime in a process that is pinned to one core."""

import os
import subprocess
import sys

from router_model.runtime import unpinned

PROGRAM = """
import os
core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
import router_model.model
for thread in os.listdir("/proc/self/task"):
    assert os.sched_getaffinity(int(thread)) == {core}, thread
"""


def test_a_pinned_process_and_its_threads_stay_pinned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_pinned_thread_may_use_the_other_cores_within_only() -> None:
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    os.sched_setaffinity(0, {core})
    try:
        with unpinned():
            assert allowed <= os.sched_getaffinity(0)
        assert os.sched_getaffinity(0) == {core}
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_choice_of_several_cores_is_not_changed() -> None:
    allowed = os.sched_getaffinity(0)
    with unpinned():
        assert len(allowed) == 1 or os.sched_getaffinity(0) == allowed
    assert os.sched_getaffinity(0) == allowed


def test_the_system_refuses_other_cores() -> None:
    """A sandbox may forbid the call; the import then goes on with one core."""
    program = PROGRAM.replace(
        "import router_model.model",
        "set_affinity = os.sched_setaffinity\n"
        "def refuse(pid, cores):\n"
        "    raise PermissionError\n"
        "os.sched_setaffinity = refuse\n"
        "import router_model.model",
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
