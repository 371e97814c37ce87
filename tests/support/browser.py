"""Chromium of the system, driven by Playwright, for the page tests and the screenshots.

    async with open_browser() as browser:
        page = await open_page(browser, "http://127.0.0.1:8080/dashboard")
        await check_accessible(page.page)

Needs: apt-get install chromium
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

import needs

FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS: Final = 20_000.0  # generous for a busy machine
SERIOUS: Final = ("serious", "critical")

expect.set_options(timeout=PATIENCE_MS)  # its own default is 5 seconds, whatever the context's


def find_chromium() -> str:
    return needs.find("chromium")


@contextlib.asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=list(FLAGS)
        )
        try:
            yield browser
        finally:
            await browser.close()


class OpenPage:
    """A page in its own browser context, with its console messages and requests."""

    def __init__(self, context: BrowserContext, page: Page, origin: str) -> None:
        self.context = context
        self.page = page
        self.origin = origin
        self.messages: list[str] = []
        self.requested: list[str] = []
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("console", self._record)
        page.on("request", lambda request: self.requested.append(request.url))

    def _record(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.messages.append(f"{message.text} {message.location.get('url', '')}")

    async def go(self, path: str) -> None:
        await self.page.goto(self.origin + path)

    def check(self, expected: tuple[str, ...] = ()) -> None:
        """Assert that the page logged no other errors and requested nothing from other origins.

        Args:
            expected: parts of the messages to ignore.
        """
        unexpected = [
            message for message in self.messages if not any(part in message for part in expected)
        ]
        assert not unexpected, unexpected
        foreign = [
            url for url in self.requested
            if not url.startswith((self.origin, "data:", "blob:", "about:"))
        ]  # fmt: skip
        assert not foreign, foreign


async def open_page(browser: Browser, origin: str, path: str = "/", **settings: Any) -> OpenPage:
    """Open a page; `settings` are options of Playwright's `new_context`."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | settings)
    context.set_default_timeout(PATIENCE_MS)
    opened = OpenPage(context, await context.new_page(), origin)
    await opened.go(path)
    return opened


async def check_accessible(page: Page) -> None:
    """Assert that axe-core has no serious finding on the current page."""
    # Over the DevTools protocol, because the page's policy blocks injected scripts.
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": AXE_SCRIPT})
    result = await session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document).then(({violations}) => violations.map("
            "({id, impact, nodes}) => ({id, impact, where: nodes.map(n => n.html + ' ' + "
            "n.failureSummary)})))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    assert "exceptionDetails" not in result, result
    serious = [finding for finding in result["result"]["value"] if finding["impact"] in SERIOUS]
    assert not serious, serious


async def fits_its_width(page: Page) -> bool:
    """Whether the page fits its viewport without horizontal scrolling."""
    fits: bool = await page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return fits
