"""Page load times in a real browser: the chat with an empty cache, the dashboard with many rows.

    make bench-pages            # or: python tests/bench/bench_pages.py --rows 1000000

Proxy, database and browser share one machine. Writes data/results/bench_pages.json. Needs: apt-get
install chromium
"""

import asyncio
import json
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
from playwright.async_api import Browser, Page
from rich.console import Console
from rich.table import Table

from bench_store import KINDS, _processor, draw, fill
from browser import open_browser
from fakes import FakeUpstream
from live import LiveProxy
from proxy.config import StorageConfig

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "bench_pages.json"
TIMES: Final = 5
VISITS: Final = 4  # after these a browser has cached its compiled code
# JavaScript conditions, by their names in the table.
CHAT: Final = {"chat: interactive": "document.querySelector('#samples button') !== null"}
DASHBOARD: Final = {
    "figures": "document.querySelector('.figure') && !document.querySelector('.figure .skeleton')",
    "requests": "document.querySelectorAll('.requests tbody tr').length > 0",
    "charts": "['traffic', 'money', 'curve', 'scores'].every("
    "id => document.querySelector('#' + id + ' .main-svg'))",
    "everything": "document.querySelector('#freshness').textContent !== ''",
}
REQUESTS: Final = (
    "/api/stats?since=24h", "/api/stats?since=all", "/api/pareto?since=all",
    "/api/stats?since=1h", "/api/stats?since=all&reason=forced", "/api/headline",
    "/api/requests?sort=cost",
    "/api/requests", "/api/requests?target=cloud&ending=ok", "/api/requests?search=nothing+like+it",
)  # fmt: skip


async def time_page(
    browser: Browser, url: str, wanted: dict[str, str], *, visits: int = 1
) -> dict[str, float]:
    """Milliseconds from the navigation until each condition holds, on the last of `visits` visits.

    The browser's cache is empty before the first visit."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    await page.add_init_script(_watch(wanted))
    for _ in range(visits):
        await page.goto(url)
        times: dict[str, float] = await page.evaluate("window.allSeen")
        await page.wait_for_load_state("networkidle")
    await context.close()
    return times


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
    changes = {"storage": {"retention_days": None}}
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(folder, local, cloud, changes=changes) as proxy,
        open_browser() as browser,
    ):
        pages: dict[str, list[float]] = {}
        for path, names in (
            ("/", CHAT),
            *((f"/dashboard?since={span}", DASHBOARD) for span in ("24h", "all")),
        ):
            for _ in range(TIMES):
                for name, ms in (await time_page(browser, proxy.origin + path, names)).items():
                    key = name if path == "/" else f"{path}: {name}"
                    pages.setdefault(key, []).append(ms)
        for _ in range(TIMES):
            url = proxy.origin + "/dashboard?since=all"
            again = await time_page(browser, url, DASHBOARD, visits=VISITS)
            pages.setdefault("charts, on a later visit", []).append(again["charts"])
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(proxy.origin + "/", wait_until="networkidle")
        size = await count_bytes(page)
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
        fill(config, [draw(random.Random(number)) for number in range(KINDS)], rows)
        results = {
            "machine": f"{os.cpu_count()} cores, {_processor()}",
            "python": platform.python_version(),
            "rows": rows,
            **asyncio.run(measure(folder)),
        }
    table = Table("what", "ms", "slowest", title=f"{rows:,} rows", box=None)
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
