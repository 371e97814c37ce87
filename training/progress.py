"""Long work made visible: a rich bar on a terminal, one plain line in a while elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

PLAIN_LINE_SECONDS = 30.0


def say(message: str) -> None:
    """One line for the person who waits."""
    print(message, flush=True)


def track(items: Iterable[T], title: str, *, total: int) -> Iterator[T]:
    """Yield the items while showing how many of `total` are done and how long is left."""
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
