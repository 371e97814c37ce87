"""Work on a whole request body: in a thread where it would delay other requests."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from proxy.protocol import LARGE_BODY_BYTES, is_heavy

T = TypeVar("T")


async def parse_large(body: bytes, work: Callable[[bytes], T]) -> T:
    """Parse or rewrite a body, a large one in a thread, so that other requests go on."""
    if is_heavy(body):
        return await asyncio.to_thread(work, body)
    return work(body)


async def run_large(size: int, work: Callable[[], T]) -> T:
    """Do work that takes time by a size in bytes; with a large one in a thread."""
    if size > LARGE_BODY_BYTES:
        return await asyncio.to_thread(work)
    return work()
