"""Take screenshots of the pages for the README: data/results/pages/NAME-light.png and -dark.png.

    make screenshots      # or: .venv/bin/python tests/tools/screenshots.py --requests 150

The data are real: `hybrid-llm demo` answers prompts of data/everyday.jsonl with its two small
models and the shipped router. A browser then opens the pages. Needs: apt-get install chromium
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import yaml
from playwright.async_api import Browser, Page, expect

from browser import open_browser
from demo_check import wait_until_ready

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "data/results/pages"
SCHEMES: Final = ("light", "dark")
START_SECONDS: Final = 120.0
ANSWER_MS: Final = 180_000.0
ANSWER_TOKENS: Final = 60  # limit of the traffic; questions asked in the pages have no limit
CONCURRENCY: Final = 2
EASY: Final = "Write a friendly two-sentence reminder about the team lunch on Friday."
HARD: Final = "Prove that there are infinitely many primes congruent to 3 modulo 4."


@asynccontextmanager
async def demo(folder: Path, port: int) -> AsyncIterator[str]:
    """Run a demo with its own database and yield its origin."""
    fields = yaml.safe_load((ROOT / "configs/demo.yaml").read_text(encoding="utf-8"))
    fields["storage"] = {"url": f"sqlite:///{folder}/demo.db"}
    config = folder / "demo.yaml"
    config.write_text(yaml.safe_dump(fields), encoding="utf-8")
    shutil.copy(ROOT / "configs/pricing.yaml", folder)
    command = Path(sys.executable).with_name("hybrid-llm"), "demo", "--config", config
    overrides = {"OLLAMA_BASE_URL": "http://127.0.0.1:9", "OPENAI_API_KEY": "", "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=os.environ | overrides)
    try:
        origin = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(wait_until_ready, origin, seconds=START_SECONDS, pid=process.pid)
        yield origin
    finally:
        process.terminate()
        await process.wait()


async def send_traffic(origin: str, number: int) -> None:
    """Send everyday prompts to `auto` and rate some of the answers."""
    lines = (ROOT / "data/everyday.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [
        json.loads(line)["query"] for line in lines
    ]  # drawn with repetition, as in real traffic
    rng = random.Random(0)
    queue = rng.choices(prompts, k=number)
    async with httpx2.AsyncClient(base_url=origin, timeout=300, trust_env=False) as client:

        async def send_prompts() -> None:
            while queue:
                body = {
                    "model": "auto", "max_tokens": ANSWER_TOKENS, "stream": rng.random() < 0.7,
                    "messages": [{"role": "user", "content": queue.pop()}],
                }  # fmt: skip
                answer = await client.post("/v1/chat/completions", json=body)
                if rng.random() < 0.2:
                    thumb = {"request_id": answer.headers["x-request-id"], "thumb": "up"}
                    await client.post("/v1/feedback", json=thumb)
                if len(queue) % 25 == 0:
                    print(f"{len(queue)} prompts left", flush=True)

        await asyncio.gather(*(send_prompts() for _ in range(CONCURRENCY)))


async def chat(page: Page) -> None:
    for number, text in enumerate((EASY, HARD), 1):
        await page.get_by_label("Message").fill(text)
        await page.keyboard.press("Enter")
        answers = page.get_by_role("article", name="Answer")
        await expect(answers).to_have_count(number)
        await expect(answers.last).to_have_attribute("aria-busy", "false", timeout=ANSWER_MS)
    await page.locator("#tally").get_by_text("answers 2").wait_for()
    await page.locator("#thread").evaluate("element => { element.scrollTop = 0 }")


async def compare(page: Page) -> None:
    await page.get_by_label("Prompt").fill(EASY)
    await page.get_by_role("button", name="Compare").click()
    done = page.get_by_text("Both answers are complete.")
    await done.wait_for(state="attached", timeout=ANSWER_MS)
    await page.locator("#saving").get_by_text("less").wait_for()


async def dashboard(page: Page) -> None:
    await page.get_by_text("updated").wait_for()
    for name in ("traffic", "money", "curve", "scores"):
        await page.locator(f"#{name} .main-svg").first.wait_for()


async def experiments(page: Page) -> None:
    await page.wait_for_load_state("networkidle")
    await page.locator(".main-svg").first.wait_for()


PAGES: Final = {
    "chat": ("/", chat, 820),
    "compare": ("/compare", compare, 820),
    "dashboard": ("/dashboard", dashboard, 1500),
    "experiments": ("/experiments", experiments, 1500),
}


async def capture_pages(browser: Browser, origin: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        for name, (path, prepare, height) in PAGES.items():
            context = await browser.new_context(
                viewport={"width": 1280, "height": height}, color_scheme=scheme
            )
            page = await context.new_page()
            await page.goto(origin + path)
            await prepare(page)
            file = FOLDER / f"{name}-{scheme}.png"
            await page.screenshot(path=file, animations="disabled")
            print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e3:.0f} kB", flush=True)
            await context.close()


async def take_screenshots(*, requests: int, port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with demo(Path(folder), port) as origin:
            await send_traffic(origin, requests)
            async with open_browser() as browser:
                await capture_pages(browser, origin)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--requests", type=int, default=150, help="requests to send before the screenshots"
    )
    parser.add_argument("--port", type=int, default=8079)
    options = parser.parse_args()
    asyncio.run(take_screenshots(requests=options.requests, port=options.port))


if __name__ == "__main__":
    main()
