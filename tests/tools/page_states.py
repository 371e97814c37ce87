"""Pictures of every page to look at: empty, full and failing; light and dark; wide and narrow.

    make page-states OUT=folder     # or: python tests/tools/page_states.py folder

One sheet per page, state and width, PAGE-STATE-WIDTH.png: light and dark side by side. The answers
come from scripted upstreams, and the requests are made up. Needs: apt-get install chromium
"""

import asyncio
import base64
import contextlib
import logging
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
from playwright.async_api import Browser, BrowserContext, Page, Route

from browser import open_browser
from fakes import Call, FakeUpstream, answer_json, chunk, chunked, error_json, event, whole
from live import LiveProxy
from proxy.record import CallRecord, Ending, Reason, Target, key_hash
from stored import fill, finished

ROOT: Final = Path(__file__).resolve().parents[2]
ANSWERS: Final = ROOT / "tests/pages/answers"
WIDTHS: Final = {1440: 900, 390: 844}
SCHEMES: Final = ("light", "dark")
ADMIN: Final = "sk-operator"
NAMES: Final = ("operator", "support-team", "nightly-batch", "search", "notebooks", "mobile-app")
KEYS: Final = [
    {"key": f"sk-{name}", "name": name, "admin": name == "operator", "requests_per_minute": 600}
    for name in NAMES
]
QUESTIONS: Final = (
    "Translate 'good morning' into Spanish.",
    "Prove that the square root of 2 is irrational.",
    "Summarise this meeting in three bullet points: we agreed to ship on Friday.",
    "Write a Python function that merges overlapping intervals, with tests.",
)
ERRORS: Final = (
    ("timeout", "upstream_timeout", "The model did not answer within 30 s."),
    ("upstream_error", "server_error", "The server had an error while processing your request."),
    ("rejected", "context_length_exceeded", "This model's maximum context is 8,192 tokens."),
)


def made_up(number: int) -> CallRecord:
    """A request of the last 30 days."""
    rng = random.Random(number)
    target = Target.LOCAL if rng.random() < 0.62 else Target.CLOUD
    is_local = target is Target.LOCAL
    cost = rng.uniform(0.0004, 0.006)
    values: dict[str, object] = {
        "created_at": time.time() - rng.random() ** 2 * 30 * 86_400,
        "target": target,
        "model": "phi3:latest" if is_local else "gpt-4o-mini",
        "requested_model": "auto",
        "reason": Reason.SCORE if rng.random() < 0.9 else Reason.FORCED,
        "score": min(max(rng.gauss(0.72 if is_local else 0.3, 0.12), 0.02), 0.98),
        "threshold": 0.5,
        "decision_ms": rng.lognormvariate(1.2, 0.3),
        "ttft_ms": rng.lognormvariate(5.4, 0.5),
        "upstream_ms": rng.lognormvariate(7.0, 0.6),
        "status": 200,
        "input_tokens": rng.randrange(20, 900),
        "output_tokens": rng.randrange(10, 700),
        "cost_usd": 0.0 if is_local else cost,
        "cloud_cost_usd": cost,
        "saved_usd": cost if is_local else 0.0,
        "client_key_hash": key_hash(f"sk-{NAMES[number % len(NAMES)]}"),
        "turns": [("user", rng.choice(QUESTIONS))],
        "response": "Buenos días.",
        "streamed": rng.random() < 0.7,
    }
    if rng.random() < 0.03:
        ending, code, message = rng.choice(ERRORS)
        values |= {
            "ending": Ending(ending), "error_code": code, "error": message, "status": 502,
            "cost_usd": 0.0, "saved_usd": 0.0,
        }  # fmt: skip
    record = finished(**values)
    record.duration_ms = record.upstream_ms + record.decision_ms if record.upstream_ms else None
    return record


def answer_with(text: str) -> Callable[[Call], Any]:
    usage = chunk(usage={"prompt_tokens": 41, "completion_tokens": 212, "total_tokens": 253})

    def answer(call: Call) -> Any:
        if not call.json.get("stream"):
            return whole(answer_json(text))
        parts = [event(chunk({"content": text})), event(chunk({}, "stop")), event(usage)]
        return chunked(*parts, event(b"[DONE]"))

    return answer


def read_answer(name: str) -> str:
    return (ANSWERS / f"{name}.md").read_text(encoding="utf-8")


# --- what happens on a page before its picture ---


async def nothing(page: Page) -> None:
    pass


async def ask(page: Page) -> None:
    for number, text in enumerate((QUESTIONS[3], QUESTIONS[1]), 1):
        await page.get_by_label("Message").fill(text)
        await page.get_by_role("button", name="Send").click()
        answers = page.get_by_role("article", name="Answer")
        await answers.nth(number - 1).wait_for()
        await page.locator("article[aria-busy=false]").nth(number - 1).wait_for()
    with contextlib.suppress(Exception):  # a failed answer offers none
        await page.get_by_role("button", name="Ask the").last.click(timeout=2_000)
        await page.get_by_role("button", name="is better").first.wait_for(timeout=5_000)


async def compare(page: Page) -> None:
    await page.get_by_label("Prompt").fill(QUESTIONS[1])
    await page.get_by_role("button", name="Compare").click()
    await (
        page.locator("#announce")
        .get_by_text("model")
        .or_(page.locator("#announce").get_by_text("complete"))
        .wait_for(state="attached")
    )
    with contextlib.suppress(Exception):  # failed answers have no choice
        await page.get_by_role("button", name="Local is better").click(timeout=2_000)
        await page.locator("#score").get_by_text("in 1 of").wait_for(timeout=5_000)


async def details(page: Page) -> None:
    await page.locator(".requests tbody tr button").first.click()
    await page.get_by_role("dialog").wait_for()


Act = Callable[[Page], Awaitable[None]]
PAGES: Final[dict[str, tuple[str, Act]]] = {
    "chat": ("/", ask),
    "compare": ("/compare", compare),
    "dashboard": ("/dashboard?since=30d", nothing),
    "request": ("/dashboard?since=30d", details),
    "keys": ("/keys?since=30d", nothing),
    "usage": ("/usage?since=30d", nothing),
    "experiments": ("/experiments", nothing),
    "login": ("/login", nothing),
}
# In the empty state nothing is asked, and in the failing one the pages' own requests fail.
FAILING: Final = ("/api/stats", "/api/requests", "/api/pareto", "/api/keys", "/api/usage",
                  "/api/experiments", "/api/errors", "/api/headline")  # fmt: skip


async def fail(route: Route) -> None:
    await route.fulfill(
        status=503, json={"error": {"message": "The database is busy.", "code": "unavailable"}}
    )


async def open_context(
    browser: Browser, origin: str, *, width: int, scheme: str, is_failing: bool
) -> BrowserContext:
    context = await browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme
    )
    await context.request.post(origin + "/login", form={"key": ADMIN}, max_redirects=0)
    if is_failing:
        await context.route(lambda url: any(path in url for path in FAILING), fail)
    return context


async def take_picture(context: BrowserContext, url: str, act: Act) -> bytes:
    page = await context.new_page()
    if "/login" in url:
        await context.clear_cookies()
    await page.goto(url)
    await page.wait_for_load_state("networkidle")
    await act(page)
    await page.wait_for_timeout(600)  # charts and layouts settle; a picture asserts nothing
    return await page.screenshot(full_page=True, animations="disabled")


SHEET: Final = """<body style="margin:0">
<div style="display:inline-flex;gap:12px;align-items:start;background:#888">{}</div></body>"""


async def write_sheet(browser: Browser, pictures: list[bytes], file: Path) -> None:
    images = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for picture in pictures
    )
    page = await browser.new_page(viewport={"width": 3_000, "height": 900})
    await page.set_content(SHEET.format(images))
    await page.locator("div").screenshot(path=file)
    await page.close()


async def show_state(browser: Browser, state: str, folder: Path, only: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with FakeUpstream() as local, FakeUpstream() as cloud:
            if state == "failing":
                failure = whole(error_json("The server had an error."), status=500)
                local.answer = cloud.answer = failure
            else:
                local.answer = answer_with(read_answer("steps_with_code"))
                cloud.answer = answer_with(
                    read_answer("python_code") + read_answer("sum_by_induction")
                )
            if state == "full":
                url = f"sqlite:///{name}/router.db"
                fill(url, [made_up(number) for number in range(2_000)])
            changes = {"server": {"api_keys": KEYS}, "routing": {"threshold": 0.5}}
            async with LiveProxy(Path(name), local, cloud, changes=changes) as proxy:
                for page, (path, act) in PAGES.items():
                    if only and page not in only:
                        continue
                    if page == "request" and state != "full":
                        continue
                    for width in WIDTHS:
                        pictures = []
                        for scheme in SCHEMES:
                            context = await open_context(
                                browser, proxy.origin, width=width, scheme=scheme,
                                is_failing=state == "failing",
                            )  # fmt: skip
                            acts = nothing if state == "empty" else act
                            pictures.append(await take_picture(context, proxy.origin + path, acts))
                            await context.close()
                        file = folder / f"{page}-{state}-{width}.png"
                        await write_sheet(browser, pictures, file)
                        print(file, flush=True)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--page", "pages", multiple=True, help="Only this page; can be repeated.")
@click.option("--state", "states", multiple=True, help="Only this state; can be repeated.")
def main(folder: Path, pages: tuple[str, ...], states: tuple[str, ...]) -> None:
    """Write the sheets into FOLDER."""
    logging.disable()
    folder.mkdir(parents=True, exist_ok=True)

    async def show() -> None:
        async with open_browser() as browser:
            for state in states or ("empty", "full", "failing"):
                await show_state(browser, state, folder, pages)

    asyncio.run(show())


if __name__ == "__main__":
    main()
