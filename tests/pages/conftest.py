"""Browser fixtures of the page tests. A test fails on browser errors and foreign requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from browser import OpenPage


class Show(Protocol):
    """Opens a page of a proxy and checks it for errors after the test.

    Args:
        origin: `LiveProxy.origin`.
        expected: parts of the console messages to ignore.
        settings: options of Playwright's `new_context`.
    """

    def __call__(
        self, origin: str, path: str = "/", *, expected: tuple[str, ...] = (), **settings: Any
    ) -> Awaitable[Page]: ...


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    import browser as browsers

    async with browsers.open_browser() as opened:
        yield opened


@pytest.fixture
async def show(browser: Browser) -> AsyncIterator[Show]:
    import browser as browsers

    pages: list[tuple[OpenPage, tuple[str, ...]]] = []

    async def show_page(
        origin: str, path: str = "/", *, expected: tuple[str, ...] = (), **settings: Any
    ) -> Page:
        opened = await browsers.open_page(browser, origin, path, **settings)
        pages.append((opened, expected))
        return opened.page

    yield show_page
    for opened, expected in pages:
        opened.check(expected)
        await opened.context.close()
