"""Messages of a chat in a real browser: versions, editing, deleting, failures, keys, scrolling."""

import asyncio

import pytest
from playwright.async_api import Route, expect

from browser import check_accessible, fits_its_width
from fakes import EASY, End, FakeUpstream, Gate, error_json, refused_address, whole
from live import LiveProxy, StartProxy
from pages.chatting import act, answers, ask, choose, complete, conversations, questions, streamed
from pages.conftest import Show

PHONE = {"width": 390, "height": 844}
STORED_MESSAGES = """() => new Promise((resolve) => {
  indexedDB.open('hybrid-llm-chat').onsuccess = ({ target: { result } }) => {
    const request = result.transaction('messages').objectStore('messages').count()
    request.onsuccess = () => resolve(request.result)
  }
})"""


async def test_edited_question_is_a_version_beside_the_first(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    for text in ("One", "Two"):
        local.answer = streamed(f"About {text}.")
        await ask(page, f"{text}?")
        await answers(page).get_by_text(f"About {text}.").wait_for()
    local.answer = streamed("About Three.")
    await questions(page).last.get_by_role("button", name="Edit").click()
    field = page.get_by_label("Edit the question")
    await expect(field).to_have_value("Two?")
    await field.fill("Three?")
    await check_accessible(page)
    await field.press("Enter")
    await answers(page).get_by_text("About Three.").wait_for()
    await complete(page, 2)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents == ["One?", "About One.", "Three?"]
    await questions(page).last.get_by_role("button", name="Previous version").click()
    await expect(answers(page).last).to_contain_text("About Two.")
    await expect(page.get_by_label("Version 1 of 2")).to_have_text("1/2")
    await page.reload()
    await expect(answers(page).last).to_contain_text("About Two.")
    await questions(page).last.get_by_role("button", name="Next version").click()
    await expect(answers(page).last).to_contain_text("About Three.")
    # What is asked next follows the version that is shown.
    await ask(page, "Four?")
    await complete(page, 3)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents[2:] == ["Three?", "About Three.", "Four?"]


async def test_answer_is_regenerated_beside_the_first(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await choose(page, "Cloud")
    await page.get_by_role("button", name="Regenerate").click()
    await answers(page).get_by_text("Cloud words.").wait_for()
    await expect(answers(page)).to_contain_text("2/2")
    await page.get_by_role("button", name="Previous version").click()
    await expect(answers(page)).to_contain_text("Local words.")
    assert cloud.calls[-1].json["messages"] == local.calls[-1].json["messages"]
    await expect(page.locator("#tally")).to_contain_text("answers 2")


async def test_arrow_up_edits_the_last_question(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_label("Message")).to_be_focused()
    await ask(page, "One?")
    await complete(page)
    await page.keyboard.type("text")
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_label("Edit the question")).to_have_count(0)
    await page.get_by_label("Message").fill("")
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_label("Edit the question")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Edit")).to_be_focused()
    await expect(questions(page)).to_contain_text("One?")


async def test_question_is_deleted_with_its_answer_and_restored(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    for text in ("One", "Two", "Three"):
        local.answer = streamed(f"About {text}.")
        await ask(page, f"{text}?")
        await answers(page).get_by_text(f"About {text}.").wait_for()
        await complete(page, ("One", "Two", "Three").index(text) + 1)
    await questions(page).nth(1).get_by_role("button", name="Delete the question").click()
    await expect(answers(page)).to_have_count(2)
    await ask(page, "Four?")
    await complete(page, 3)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents == ["One?", "About One.", "Three?", "About Three.", "Four?"]
    await questions(page).nth(2).get_by_role("button", name="Delete the question").click()
    await expect(answers(page)).to_have_count(2)
    await page.get_by_role("button", name="Undo").click()
    await expect(answers(page)).to_have_count(3)
    await page.reload()
    await expect(questions(page)).to_contain_text(["One?", "Three?", "Four?"])


async def test_undo_keeps_what_was_asked_since(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    for number, text in enumerate(("One", "Two", "Three"), 1):
        local.answer = streamed(f"About {text}.")
        await ask(page, f"{text}?")
        await complete(page, number)
    await questions(page).nth(1).get_by_role("button", name="Delete the question").click()
    await expect(answers(page)).to_have_count(2)
    gate = Gate()
    local.answer = streamed("About ", gate, "Four.")
    await ask(page, "Four?")
    await expect(answers(page)).to_have_count(3)
    await page.get_by_role("button", name="Undo").click()
    gate.open()
    await answers(page).get_by_text("About Four.").wait_for()
    await complete(page, 4)
    await page.reload()
    await expect(questions(page)).to_contain_text(["One?", "Two?", "Three?", "Four?"])
    await expect(answers(page)).to_contain_text([f"About {n}." for n in (
        "One", "Two", "Three", "Four"
    )])  # fmt: skip


async def test_deleted_answer_stays_away_when_its_cost_arrives(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    costs = asyncio.Event()

    async def delay(route: Route) -> None:
        await costs.wait()
        await route.continue_()

    await page.route("**/api/requests/*", delay)
    local.answer = streamed("About One.")
    await ask(page, "One?")
    await complete(page)
    await questions(page).get_by_role("button", name="Delete the question").click()
    await expect(answers(page)).to_have_count(0)
    async with page.expect_response("**/api/requests/*"):
        costs.set()
    local.answer = streamed("About Two.")
    await ask(page, "Two?")
    await complete(page)
    await page.reload()
    await expect(answers(page)).to_contain_text(["About Two."])
    await expect(page.get_by_label("Version")).to_have_count(0)
    assert await page.evaluate(STORED_MESSAGES) == 2


async def test_stopped_answer_is_continued(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("Half an ", Gate(), "never.")
    page = await show(proxy.origin)
    await ask(page)
    await answers(page).get_by_text("Half an").wait_for()
    await page.keyboard.press("Escape")
    local.answer = streamed("answer.")
    await page.get_by_role("button", name="Continue").click()
    await answers(page).get_by_text("Half an answer.").wait_for()
    await expect(answers(page)).not_to_contain_text("Stopped.")
    # Both requests were paid for.
    await expect(page.locator("#tally")).to_contain_text("answers 2")


@pytest.mark.parametrize(
    ("status", "choice", "text"),
    [
        (503, "Cloud", "The cloud model answered 503, and the local model was not tried because "
         "the cloud model was requested explicitly."),
        (400, "Cloud", "The cloud model answered 400"),
    ],
)  # fmt: skip
async def test_failure_says_why_the_other_tier_was_not_tried(
    proxy: LiveProxy, show: Show, cloud: FakeUpstream, status: int, choice: str, text: str
) -> None:
    cloud.answer = whole(error_json("Something is wrong.", code="odd"), status=status)
    page = await show(proxy.origin, expected=(str(status),))
    await choose(page, choice)
    await ask(page)
    alert = page.get_by_role("alert").filter(has_text="Something is wrong.")
    await expect(alert).to_contain_text(text)
    parts = await alert.locator("p").all_inner_texts()
    assert parts[0] == "Something is wrong."
    assert parts[-1] == f"HTTP {status} · odd"
    await check_accessible(page)
    # Nothing is empty: the text, head and foot of an answer without them take no room.
    boxes = await answers(page).evaluate(
        "element => [...element.children].filter(child => child.offsetHeight)"
        ".filter(child => !child.textContent.trim()).length"
    )
    assert boxes == 0


async def test_code_that_repeats_the_status_is_shown_once(
    proxy: LiveProxy, show: Show, cloud: FakeUpstream
) -> None:
    # As llama.cpp writes it.
    cloud.answer = whole(b'{"error": {"code": 500, "message": "Broken.", "type": "x"}}', status=500)
    page = await show(proxy.origin, expected=("500",))
    await choose(page, "Cloud")
    await ask(page)
    await expect(page.get_by_role("alert").locator("p").last).to_have_text("HTTP 500")


async def test_failure_says_that_both_tiers_were_tried(
    start: StartProxy, show: Show, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json("Overloaded."), status=503)
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        page = await show(proxy.origin, expected=("50",))
        await ask(page, EASY)
        alert = page.get_by_role("alert").filter(has_text="HTTP")
        await expect(alert).to_contain_text(
            "Both models were tried: the local model could not be reached, then the cloud model "
            "answered 503."
        )


async def test_refusal_by_the_proxy_says_that_no_model_was_asked(
    start: StartProxy, show: Show
) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    page = await show(proxy.origin, expected=("404",))
    await page.evaluate(
        """() => { const select = document.querySelector('#model')
        select.append(new Option('x', 'model:nothing-like-it'))
        select.value = 'model:nothing-like-it'
        select.dispatchEvent(new Event('change')) }"""
    )
    await ask(page)
    await expect(page.get_by_role("alert").filter(has_text="HTTP")).to_contain_text(
        "The proxy refused the request. Neither model was asked."
    )


async def test_answer_that_broke_off_says_so(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("The beginning of", End.RESET, finish=None)
    page = await show(proxy.origin)
    await ask(page)
    await expect(page.get_by_role("alert").filter(has_text="was not tried")).to_contain_text(
        "because a part of the answer had already been sent"
    )


async def test_finished_stream_is_not_an_aborted_request(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()  # between [DONE] and the end of the body
    local.answer = [*streamed("An answer.")[:-1], gate, b"0\r\n\r\n"]
    page = await show(proxy.origin)
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    async with page.expect_request_finished(
        lambda request: request.url.endswith("/v1/chat/completions")
    ):
        await ask(page)
        await complete(page)
        gate.open()
    assert failed == []


async def test_stream_that_stays_open_after_its_end_is_cancelled(
    proxy: LiveProxy, show: Show
) -> None:
    """The end of a stream is waited for in the background, and not for ever."""
    page = await show(proxy.origin)
    outcome = await page.evaluate("""async () => {
      const cancelled = Promise.withResolvers()
      const encoder = new TextEncoder()
      window.fetch = async () => new Response(new ReadableStream({
        start(controller) {
          const data = '{"choices":[{"delta":{"content":"Hi"}}]}'
          controller.enqueue(encoder.encode(`data: ${data}\\n\\ndata: [DONE]\\n\\n`))
        },
        cancel: () => cancelled.resolve(performance.now()),
      }))
      const { complete } = await import('/ui/completion.js')
      for await (const part of complete({ messages: [] })) void part
      const completeAt = performance.now()
      return await cancelled.promise - completeAt
    }""")
    assert outcome > 1000


async def test_shortcuts_are_listed_and_work(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await complete(page)
    await page.keyboard.type("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    await expect(dialog).to_be_hidden()  # a question mark in a message is text
    await page.locator("#thread").focus()
    await page.keyboard.press("?")
    await expect(dialog).to_be_visible()
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await page.keyboard.press("Control+Shift+O")
    await expect(answers(page)).to_have_count(0)
    await page.keyboard.press("Control+k")
    await expect(page.get_by_label("Search chats")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(conversations(page)).to_be_focused()
    await page.keyboard.press("Enter")
    await complete(page)


async def test_escape_closes_a_dialog_and_not_the_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed("Half ", gate, "and half.")
    page = await show(proxy.origin)
    await ask(page)
    await answers(page).get_by_text("Half").wait_for()
    await page.get_by_role("button", name="Settings").click()
    await page.keyboard.press("Escape")
    await page.get_by_label("Actions of").click()
    await page.keyboard.press("Escape")
    await expect(page.locator("#actions")).to_be_hidden()
    await act(page, "Rename")
    await page.keyboard.press("Escape")
    await expect(answers(page)).to_have_attribute("aria-busy", "true")
    gate.open()
    await answers(page).get_by_text("Half and half.").wait_for()


async def test_jump_to_the_end(proxy: LiveProxy, show: Show, local: FakeUpstream) -> None:
    local.answer = streamed(*[f"Line {n}\n\n" for n in range(100)])
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    jump = page.get_by_role("button", name="Jump to the end")
    await expect(jump).to_be_hidden()
    await page.locator("#thread").hover()
    await page.mouse.wheel(0, -100_000)
    await jump.click()
    await expect(answers(page).get_by_text("Line 99")).to_be_in_viewport()
    await expect(jump).to_be_hidden()


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 600}])
async def test_whole_welcome_can_be_reached(
    proxy: LiveProxy, show: Show, size: dict[str, int]
) -> None:
    page = await show(proxy.origin, viewport=size)
    heading = page.get_by_role("heading", name="Ask anything.")
    await page.locator("#samples button").first.wait_for()
    header = await page.locator(".top").bounding_box()
    box = await heading.bounding_box()
    assert header
    assert box
    assert box["y"] >= header["y"] + header["height"]
    await expect(heading).to_be_in_viewport(ratio=1)
    await page.locator("#samples button").last.scroll_into_view_if_needed()
    await expect(page.locator("#samples button").last).to_be_in_viewport(ratio=1)


async def test_phone_has_large_targets_and_no_keyboard_at_first(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin, viewport=PHONE, has_touch=True, is_mobile=True)
    await page.locator("#samples button").first.wait_for()
    assert await page.evaluate("document.activeElement === document.body")
    await page.get_by_label("Message").fill("One?")
    await page.get_by_role("button", name="Send").click()
    await complete(page)
    await expect(answers(page)).to_contain_text("saved")
    small = await page.evaluate("""() => [...document.querySelectorAll(
        '.chat button, .chat select, .chat input, .chat textarea')]
      .filter(element => element.checkVisibility() && element.offsetHeight < 44
        && !element.matches('textarea, [type=range], .code button'))
      .map(element => element.outerHTML.slice(0, 90))""")
    assert small == []
    fonts = await page.evaluate("""() => [...document.querySelectorAll('textarea, select, input')]
      .map(element => parseFloat(getComputedStyle(element).fontSize))""")
    assert min(fonts) >= 16
    assert await fits_its_width(page)
    # The visual viewport shrinks while the keyboard is open.
    await page.evaluate("""() => {
      Object.defineProperty(visualViewport, 'height', { value: 420, configurable: true })
      visualViewport.dispatchEvent(new Event('resize'))
    }""")
    box = await page.locator("#composer").bounding_box()
    assert box
    assert box["y"] + box["height"] <= 420
