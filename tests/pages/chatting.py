"""What the tests of the chat page share: scripted answers, and how to ask for one."""

from typing import Any

from playwright.async_api import Locator, Page, expect

from fakes import EASY, End, Gate, chunk, chunked, event


def streamed(*pieces: str | Gate | End, finish: str | None = "stop") -> Any:
    """A stream of these chunks that waits at gates. Without `finish` it does not end properly."""
    steps = [
        event(chunk({"content": piece})) if isinstance(piece, str) else piece for piece in pieces
    ]
    if finish is not None:
        usage = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
        steps += [event(chunk({}, finish)), event(chunk(usage=usage)), event(b"[DONE]")]
    return chunked(*steps)


async def ask(page: Page, text: str = EASY) -> None:
    await page.get_by_label("Message").fill(text)
    await page.keyboard.press("Enter")


async def choose(page: Page, name: str) -> None:
    """Choose who answers."""
    await page.get_by_label("Model", exact=True).select_option(label=name)


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Answer")


def questions(page: Page) -> Locator:
    return page.get_by_role("article", name="You")


def conversations(page: Page) -> Locator:
    """The rows of the list of chats."""
    return page.locator("#conversations .open")


async def complete(page: Page, number: int = 1) -> None:
    """Wait until the last of this many answers is complete."""
    await expect(answers(page)).to_have_count(number)
    await expect(answers(page).last).to_have_attribute("aria-busy", "false")


async def act(page: Page, name: str, *, row: int = 0) -> None:
    """Use an action of a chat of the list."""
    await page.get_by_label("Actions of").nth(row).click()
    await page.locator("#actions").get_by_role("button", name=name, exact=True).click()
