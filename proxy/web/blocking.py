"""Queries of the database, which block, from the handlers of the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from proxy.errors import Unavailable
from proxy.storage import StoreUnavailable

T = TypeVar("T")


async def ask(query: Callable[[], T]) -> T:
    """Run a blocking query in a thread. Raises Unavailable."""
    try:
        return await asyncio.to_thread(query)
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None
