"""Debian's Chromium, driven by Playwright: what the pages' tests and the pictures of them need.

    async with open_browser() as browser:
        page = await open_page(browser, "http://127.0.0.1:8080/dashboard")
        await check_accessible(page.page)

Needs: apt-get install chromium
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

import needs

FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS: Final = 20_000.0  # for what a page does on a machine that is busy with something else
SERIOUS: Final = ("serious", "critical")


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
    """A page in a window of its own, and what went wrong in it."""

    def __init__(self, context: BrowserContext, page: Page, origin: str) -> None:
        self.context = context
        self.page = page
        self.origin = origin
        self.complaints: list[str] = []
        self.requested: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        page.on("request", lambda request: self.requested.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    async def go(self, path: str) -> None:
        await self.page.goto(self.origin + path)

    def check(self, expected: tuple[str, ...] = ()) -> None:
        """Nothing failed but what was to be expected, and nothing was asked of others.

        Args:
            expected: parts of the complaints that are no surprise.
        """
        wrong = [one for one in self.complaints if not any(part in one for part in expected)]
        assert not wrong, wrong
        foreign = [
            url for url in self.requested
            if not url.startswith((self.origin, "data:", "blob:", "about:"))
        ]  # fmt: skip
        assert not foreign, foreign


async def open_page(browser: Browser, origin: str, path: str = "/", **settings: Any) -> OpenPage:
    """A page, with the settings of its window as Playwright names them."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | settings)
    context.set_default_timeout(PATIENCE_MS)
    opened = OpenPage(context, await context.new_page(), origin)
    await opened.go(path)
    return opened


async def check_accessible(page: Page) -> None:
    """axe-core has no serious finding on the page as it is now."""
    # Over the devtools protocol: the page's own policy lets no script of ours in.
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": AXE_SCRIPT})
    found = await session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document).then(({violations}) => violations.map("
            "({id, impact, nodes}) => ({id, impact, where: nodes.map(n => n.html + ' ' + "
            "n.failureSummary)})))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    assert "exceptionDetails" not in found, found
    serious = [one for one in found["result"]["value"] if one["impact"] in SERIOUS]
    assert not serious, serious


async def fits_its_width(page: Page) -> bool:
    """Whether nothing makes the page itself scroll sideways."""
    wide: bool = await page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return wide
