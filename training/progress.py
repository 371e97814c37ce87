"""Progress of long steps: a rich bar on a terminal, otherwise a plain line at an interval.

The environment variable PROGRESS_SECONDS sets the interval.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

PLAIN_LINE_SECONDS = float(os.environ.get("PROGRESS_SECONDS", "30"))


def say(message: str) -> None:
    """Print one line at once."""
    print(message, flush=True)


def track(items: Iterable[T], title: str, *, total: int) -> Iterator[T]:
    """Yield the items and show the progress and the remaining time."""
    if sys.stdout.isatty():
        with Progress(console=Console()) as bar:
            yield from bar.track(items, total=total, description=title)
        return
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= PLAIN_LINE_SECONDS:
            shown = now
            left = (now - started) / done * (total - done)
            say(f"{title}: {done}/{total}, about {left / 60:.1f} min left")


@contextmanager
def meter(title: str, *, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call after each of `total` steps, in any order, with a note to show."""
    if sys.stdout.isatty():
        with Progress(console=Console()) as bar:
            task = bar.add_task(title, total=total)
            yield lambda note: bar.update(task, advance=1, description=f"{title} {note}")
        return
    done, shown = 0, time.monotonic()

    def step(note: str) -> None:
        nonlocal done, shown
        done += 1
        now = time.monotonic()
        if now - shown >= PLAIN_LINE_SECONDS or done == total:
            shown = now
            say(f"{title}: {done}/{total} {note}")

    yield step


class Steps:
    """Named steps of a command: the current one, and at the end the duration of each."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announce a step and time it."""
        say(f"[{self._names.index(name) + 1}/{len(self._names)}] {name}")
        started = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - started

    def show(self) -> None:
        """Print the duration of each step, in one line."""
        say("done: " + ", ".join(f"{n} {self._seconds.get(n, 0):.0f} s" for n in self._names))
