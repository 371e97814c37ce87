"""Page load times in a real browser: the chat with an empty cache and with many stored chats, the
dashboard and the pages of keys with many rows.

    make bench-pages            # or: python tests/bench/bench_pages.py --rows 1000000

The rows are of many keys, and the browser is signed in as an admin. Proxy, database and browser
share one machine. Writes data/results/bench_pages.json. Needs: apt-get install chromium
"""

import asyncio
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
from playwright.async_api import Browser, BrowserContext, Page
from rich.console import Console
from rich.table import Table

from bench_store import _processor
from browser import open_browser
from fakes import FakeUpstream
from live import LiveProxy
from proxy.config import StorageConfig
from stored_rows import KEY_TEXTS, WORDS, draw_pool, fill

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "bench_pages.json"
TIMES: Final = 5
CHATS_STORED: Final = 5_000
ADMIN: Final = KEY_TEXTS[0]
VISITS: Final = 4  # after these a browser has cached its compiled code
# JavaScript conditions, by their names in the table.
CHAT: Final = {"interactive": "document.querySelector('#samples button') !== null"}
CHATS: Final = CHAT | {"list": "document.querySelectorAll('#conversations .open').length >= 100"}
DASHBOARD: Final = {
    "figures": "document.querySelector('.figure') && !document.querySelector('.figure .skeleton')",
    "requests": "document.querySelectorAll('.requests tbody tr').length > 0",
    "charts": "['traffic', 'money', 'curve', 'scores'].every("
    "id => document.querySelector('#' + id + ' .main-svg'))",
    "everything": "document.querySelector('#freshness').textContent !== ''",
}
KEYS: Final = {"list": "document.querySelectorAll('.keys tbody tr').length > 0"}
USAGE: Final = {"figures": DASHBOARD["figures"]}
PAGES: Final = (
    ("/", CHAT),
    ("/dashboard?since=24h", DASHBOARD),
    ("/dashboard?since=all", DASHBOARD),
    ("/keys?since=all", KEYS),
    ("/usage?since=all", USAGE),
)
REQUESTS: Final = (
    "/api/keys?since=all", "/api/usage?since=all",
    "/api/stats?since=24h", "/api/stats?since=all", "/api/pareto?since=all",
    "/api/stats?since=1h", "/api/stats?since=all&reason=forced", "/api/headline",
    "/api/requests?sort=cost",
    "/api/requests", "/api/requests?target=cloud&ending=ok", "/api/requests?search=nothing+like+it",
)  # fmt: skip


async def sign_in(browser: Browser, origin: str) -> BrowserContext:
    """A browser context of the admin, with an empty cache."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    answer = await context.request.post(origin + "/login", form={"key": ADMIN}, max_redirects=0)
    assert answer.status == 303, answer.status
    return context


async def time_page(
    browser: Browser, origin: str, path: str, wanted: dict[str, str], *, visits: int = 1
) -> dict[str, float]:
    """Milliseconds from the navigation until each condition holds, on the last of `visits` visits.

    The browser's cache is empty before the first visit."""
    context = await sign_in(browser, origin)
    times = await time_visits(context, origin + path, wanted, visits=visits)
    await context.close()
    return times


async def time_visits(
    context: BrowserContext, url: str, wanted: dict[str, str], *, visits: int = 1
) -> dict[str, float]:
    """The same in a new tab of an open browser."""
    page = await context.new_page()
    await page.add_init_script(_watch(wanted))
    for _ in range(visits):
        await page.goto(url)
        times: dict[str, float] = await page.evaluate("window.allSeen")
        await page.wait_for_load_state("networkidle")
    await page.close()
    return times


async def time_chats(context: BrowserContext, url: str) -> dict[str, float]:
    """Milliseconds of what a user does in a browser with many stored chats."""
    times = await time_visits(context, url, CHATS)
    page = await context.new_page()
    await page.goto(url, wait_until="networkidle")
    for name in ("search, the first", "search"):  # the first one reads the texts
        times[name] = await page.evaluate(_SEARCH, f"word{CHATS_STORED // 2}")
        await page.evaluate(_SEARCH, "")
    times["open a chat"] = await page.evaluate(_OPEN)
    await page.close()
    return times


# From the input until the rows are there; the rows of a search have its text.
_SEARCH: Final = """async (text) => {
  const search = document.querySelector('#search')
  const rows = () => document.querySelectorAll('#conversations .open').length
  const started = performance.now()
  search.focus()
  search.value = text
  search.dispatchEvent(new Event('input', { bubbles: true }))
  while (text ? rows() !== 1 : rows() < 100) await new Promise(requestAnimationFrame)
  return performance.now() - started
}"""
_OPEN: Final = """async () => {
  const started = performance.now()
  document.querySelectorAll('#conversations .open')[50].click()
  while (!document.querySelector('#thread article')) await new Promise(requestAnimationFrame)
  return performance.now() - started
}"""


def export_chats(number: int) -> bytes:
    """A file of the chat's export, with this many chats of two questions and answers."""
    now = int(time.time() * 1e3)
    chats = [
        {
            "conversation": {
                "id": f"chat-{index}", "title": f"Chat {index}", "updatedAt": now - index * 600_000,
            },
            "messages": [
                {
                    "id": f"{turn}", "parent": f"{turn - 1}" if turn else None,
                    "role": ("user", "assistant")[turn % 2], "createdAt": now - index * 600_000,
                    "content": f"{' '.join(WORDS * 2)} word{index} {turn}",
                }
                for turn in range(4)
            ],
        }
        for index in range(number)
    ]  # fmt: skip
    exported = {"format": "hybrid-llm-chat", "version": 1, "conversations": chats}
    return json.dumps(exported).encode()


async def store_chats(context: BrowserContext, url: str, number: int) -> None:
    page = await context.new_page()
    await page.goto(url)
    exported = export_chats(number)
    await page.locator("#import-file").set_input_files(
        [{"name": "chats.json", "mimeType": "application/json", "buffer": exported}]
    )
    await page.locator("#notice").get_by_text("chats imported.").wait_for(timeout=600_000)
    await page.close()


def _watch(wanted: dict[str, str]) -> str:
    """A script that records when each condition first holds, by the page's clock."""
    checks = ", ".join(f"{json.dumps(name)}: () => {check}" for name, check in wanted.items())
    return (
        f"window.allSeen = new Promise(done => {{ const seen = {{}}, checks = {{{checks}}};"
        "const look = () => { for (const [name, check] of Object.entries(checks)) {"
        "try { if (!(name in seen) && document.body && check()) seen[name] = performance.now() }"
        "catch {} } if (Object.keys(seen).length === Object.keys(checks).length) done(seen);"
        "else requestAnimationFrame(look) }; look() })"
    )


async def time_request(proxy: LiveProxy, path: str) -> float:
    """The median of `TIMES` requests, in ms."""
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        (await proxy.client.get(path, timeout=60)).raise_for_status()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def count_bytes(page: Page) -> int:
    """The bytes that a page has transferred."""
    size: int = await page.evaluate(
        "['resource', 'navigation'].flatMap(type => performance.getEntriesByType(type))"
        ".reduce((sum, entry) => sum + entry.transferSize, 0)"
    )
    return size


async def measure(folder: Path) -> dict[str, Any]:
    keys = [
        {"key": key, "name": key.removeprefix("sk-"), "admin": key == ADMIN} for key in KEY_TEXTS
    ]
    changes = {"storage": {"retention_days": None}, "server": {"api_keys": keys}}
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(folder, local, cloud, changes=changes) as proxy,
        open_browser() as browser,
    ):
        proxy.client.headers["authorization"] = f"Bearer {ADMIN}"
        pages: dict[str, list[float]] = {}

        def add(page: str, times: dict[str, float]) -> None:
            for name, ms in times.items():
                pages.setdefault(f"{page}: {name}", []).append(ms)

        for path, wanted in PAGES:
            for _ in range(TIMES):
                add(path, await time_page(browser, proxy.origin, path, wanted))
        for _ in range(TIMES):
            path = "/dashboard?since=all"
            again = await time_page(browser, proxy.origin, path, DASHBOARD, visits=VISITS)
            add("a later visit", {"charts": again["charts"]})
        context = await sign_in(browser, proxy.origin)
        page = await context.new_page()
        await page.goto(proxy.origin + "/", wait_until="networkidle")
        size = await count_bytes(page)
        await page.close()
        await store_chats(context, proxy.origin, CHATS_STORED)
        for _ in range(TIMES):
            add(f"{CHATS_STORED:,} chats", await time_chats(context, proxy.origin))
        await context.close()
        return {
            "chat_first_load_bytes": size,
            "pages_ms": {name: round(statistics.median(ms)) for name, ms in pages.items()},
            "slowest_ms": {name: round(max(ms)) for name, ms in pages.items()},
            "questions_ms": {path: round(await time_request(proxy, path), 1) for path in REQUESTS},
        }


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows in the database.")
def main(rows: int) -> None:
    """Measure the load times of the pages."""
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = StorageConfig(url=f"sqlite:///{folder}/router.db", retention_days=None)
        fill(config, draw_pool(), rows)
        results = {
            "machine": f"{os.cpu_count()} cores, {_processor()}",
            "python": platform.python_version(),
            "rows": rows,
            "keys": len(KEY_TEXTS),
            **asyncio.run(measure(folder)),
        }
    table = Table(
        "what", "ms", "slowest", title=f"{rows:,} rows of {len(KEY_TEXTS)} keys", box=None
    )
    for what, ms in results["pages_ms"].items():
        table.add_row(what, f"{ms:,}", f"{results['slowest_ms'][what]:,}")
    for what, ms in results["questions_ms"].items():
        table.add_row(what, f"{ms:,}", "")
    console = Console(width=100)
    console.print(table)
    console.print(f"first load of the chat: {results['chat_first_load_bytes'] / 1e3:.1f} kB")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
