"""Stored chats in a real browser: reloads, the list, search, files, several tabs and keys."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from browser import check_accessible, fits_its_width
from fakes import FakeUpstream, Gate, whole
from live import LiveProxy, StartProxy
from pages.chatting import act, answers, ask, choose, complete, conversations, questions, streamed
from pages.conftest import Show
from pages.hostile import ALL, check_quiet

PHONE = {"width": 390, "height": 844}


async def test_reload_in_the_middle_of_an_answer_loses_nothing(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("The first half,", Gate(), " never sent.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await answers(page).get_by_text("The first half,").wait_for()
    await page.reload()
    await complete(page)
    await expect(questions(page)).to_contain_text("One?")
    await expect(answers(page)).to_contain_text("The first half,")
    await expect(answers(page)).to_contain_text("The page was closed before")
    local.answer = streamed(" and the second.")
    await page.get_by_role("button", name="Continue").click()
    await answers(page).get_by_text("The first half, and the second.").wait_for()
    await complete(page)
    await expect(answers(page)).to_have_count(1)
    roles = [message["role"] for message in local.calls[-1].json["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert local.calls[-1].json["messages"][1]["content"] == "The first half,"
    await page.reload()
    await expect(answers(page)).to_contain_text("The first half, and the second.")
    await expect(answers(page)).not_to_contain_text("The page was closed before")


async def test_reload_before_the_first_token_keeps_the_question(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed(gate, "Late.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await gate.reached()
    await expect(conversations(page)).to_have_count(1)
    await page.reload()
    await expect(questions(page)).to_contain_text("One?")
    local.answer = streamed("Now.")
    await page.get_by_role("button", name="Try again").click()
    await answers(page).get_by_text("Now.").wait_for()
    assert local.calls[-1].json["messages"] == [{"role": "user", "content": "One?"}]


# Asks, and loads the page again as soon as the question is shown.
ASK_AND_RELOAD = """(text) => {
  document.querySelector('#prompt').value = text
  document.querySelector('#composer').requestSubmit()
  const wait = () => {
    if (document.querySelector('#thread').textContent.includes(text)) location.reload()
    else setTimeout(wait)
  }
  wait()
}"""


async def test_reload_right_after_a_question_keeps_it(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed(Gate(), "Never sent.")
    page = await show(proxy.origin)
    await page.locator("#samples button").first.wait_for()
    for number in range(1, 7):  # that a question is lost is a matter of chance
        async with page.expect_navigation():
            await page.evaluate(ASK_AND_RELOAD, f"Question {number}?")
        await expect(questions(page)).to_have_count(number)
        await expect(page.locator("#send")).to_be_enabled()


async def test_new_tab_lists_the_chats_and_opens_one(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    for text in ("One?", "Two?"):
        await ask(page, text)
        await complete(page)
        await page.get_by_role("button", name="New chat").click()
    tab = await page.context.new_page()
    await tab.goto(proxy.origin)
    await expect(conversations(tab)).to_have_text(["Two?", "One?"])
    await expect(tab.get_by_role("heading", name="Today")).to_be_visible()
    await expect(answers(tab)).to_have_count(0)
    await conversations(tab).nth(1).click()
    await complete(tab)
    await expect(questions(tab)).to_contain_text("One?")
    await ask(tab, "More?")
    await complete(tab, 2)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents == ["One?", "An answer.", "More?"]
    await expect(conversations(tab)).to_have_text(["One?", "Two?"])  # changed last


async def test_answer_goes_on_while_another_chat_is_open(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed("Half ", gate, "and half.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await answers(page).get_by_text("Half").wait_for()
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    local.answer = streamed("Another.")
    await ask(page, "Two?")
    await complete(page)
    gate.open()
    await page.get_by_role("button", name="One?", exact=True).click()
    await answers(page).get_by_text("Half and half.").wait_for()
    await complete(page)


async def test_search_finds_titles_and_texts(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    for question, answer in (("Trees?", "An OAK is strong."), ("Fish?", "A trout swims.")):
        local.answer = streamed(answer)
        await ask(page, question)
        await complete(page)
        await expect(answers(page)).to_contain_text("saved")
        await page.get_by_role("button", name="New chat").click()
    await page.keyboard.press("Control+k")
    search = page.get_by_label("Search chats")
    await expect(search).to_be_focused()
    for query, found in (
        ("fis", ["Fish?"]), ("oak", ["Trees?"]), ("trou", ["Fish?"]), ("strong tre", ["Trees?"]),
        ("ﬁsh", ["Fish?"]), ("nothing", []),
    ):  # fmt: skip
        await search.fill(query)
        await expect(conversations(page).locator(".title")).to_have_text(found)
    await expect(page.locator("#history-state")).to_have_text("No matching chats")
    await search.fill("strong")
    await expect(conversations(page)).to_contain_text("An OAK is strong.")
    await check_accessible(page)
    # What another answer adds is found, too.
    local.answer = streamed("A birch.")
    await conversations(page).first.click()
    await ask(page, "More?")
    await complete(page, 2)
    await search.fill("birch")
    await expect(conversations(page).locator(".title")).to_have_text(["Trees?"])
    await search.press("Escape")
    await expect(conversations(page)).to_have_count(2)


async def test_chat_is_renamed_deleted_and_restored(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await complete(page)
    await expect(answers(page)).to_contain_text("saved")
    await act(page, "Rename")
    await page.get_by_label("New title").fill(ALL)
    await page.keyboard.press("Enter")
    await expect(conversations(page)).to_contain_text("<script>")
    await act(page, "Rename")
    await page.get_by_label("New title").fill("Arithmetic")
    await page.keyboard.press("Enter")
    await ask(page, "Two?")
    await complete(page, 2)
    await page.reload()
    await expect(conversations(page)).to_have_text(["Arithmetic"])
    await act(page, "Delete")
    await expect(conversations(page)).to_have_count(0)
    await expect(page.get_by_role("heading", name="Ask anything.")).to_be_visible()
    await page.get_by_role("button", name="Undo").click()
    await conversations(page).click()
    await complete(page, 2)
    await act(page, "Delete")
    await expect(conversations(page)).to_have_count(0)
    await page.reload()
    await expect(page.locator("#history-state")).to_contain_text("Your chats appear here.")
    await check_quiet(page)


async def exported(page: Page, name: str) -> str:
    async with page.expect_download() as started:
        if name == "Export all":
            await page.get_by_role("button", name=name).click()
        else:
            await act(page, name)
    path = await (await started.value).path()
    return await asyncio.to_thread(Path(path).read_text, encoding="utf-8")


async def import_text(page: Page, text: str) -> None:
    file = {"name": "chats.json", "mimeType": "application/json", "buffer": text.encode()}
    await page.locator("#import-file").set_input_files([file])


async def test_export_and_import_carry_everything(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("First.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await complete(page)
    local.answer = streamed("Second.")
    await page.get_by_role("button", name="Regenerate").click()
    await answers(page).get_by_text("Second.").wait_for()
    await expect(answers(page)).to_contain_text("saved")
    markdown = await exported(page, "Export as Markdown")
    assert markdown.startswith("# One?\n\n## You\n\nOne?\n\n## Assistant (local, phi3:latest)\n")
    assert "Second." in markdown
    assert "First." not in markdown
    single = await exported(page, "Export as JSON")
    everything = await exported(page, "Export all")
    assert json.loads(single) == json.loads(everything)
    other = await page.context.browser.new_page()  # type: ignore[union-attr]
    await other.goto(proxy.origin)
    await import_text(other, everything)
    await expect(other.locator("#notice")).to_contain_text("1 chat imported.")
    await import_text(other, everything)
    await expect(other.locator("#notice")).to_contain_text("0 chats imported, 1 already here.")
    await conversations(other).click()
    await expect(answers(other)).to_contain_text("Second.")
    await expect(answers(other)).to_contain_text("saved $0.000009")
    await other.get_by_role("button", name="Previous version").click()
    await expect(answers(other)).to_contain_text("First.")
    # The text of an imported chat is found.
    await other.get_by_label("Search chats").fill("second")
    await expect(conversations(other)).to_have_count(1)
    await other.close()


async def test_import_keeps_the_other_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await complete(page)
    await page.get_by_role("button", name="Ask the other tier").click()
    await page.get_by_role("button", name="Cloud is better").click()
    await page.get_by_text("Saved.").wait_for()
    figures = await page.locator(".other-answer .figures").text_content()
    assert figures
    everything = await exported(page, "Export all")
    await act(page, "Delete")
    await expect(conversations(page)).to_have_count(0)
    await import_text(page, everything)
    await conversations(page).click()
    await expect(page.locator(".other-answer")).to_contain_text("Cloud words.")
    await expect(page.locator(".other-answer .figures")).to_have_text(figures)
    await expect(page.get_by_role("button", name="Cloud is better")).to_have_attribute(
        "aria-pressed", "true"
    )


LOOP = [
    {"id": "a", "parent": "b", "role": "user", "content": "Loop?"},
    {"id": "b", "parent": "a", "role": "assistant", "content": "Loop."},
]


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        ("no JSON", "chats.json is not JSON."),
        ("[]", "not an export of this chat"),
        ('{"format":"hybrid-llm-chat","version":9,"conversations":[]}', "unknown version"),
        (
            '{"format":"hybrid-llm-chat","version":1,"conversations":[7,{},{"conversation":{}}]}',
            "0 chats imported, 3 unreadable.",
        ),
    ],
)
async def test_files_that_are_no_exports_are_refused(
    proxy: LiveProxy, show: Show, text: str, notice: str
) -> None:
    page = await show(proxy.origin)
    await import_text(page, text)
    await expect(page.locator("#notice")).to_contain_text(notice)
    await expect(conversations(page)).to_have_count(0)


async def test_hostile_import_is_inert(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin)
    evil: dict[str, Any] = {
        "id": "a", "parent": None, "role": "user", "content": ALL, "createdAt": 1,
        "attachments": [
            {"kind": "image", "name": "x", "url": "https://evil.example/pixel.png"},
            {"kind": "image", "name": "x", "url": "data:image/svg+xml;base64,PHN2Zy8+"},
        ],
    }  # fmt: skip
    answer = {
        "id": "b", "parent": "a", "role": "assistant", "content": ALL, "createdAt": 2,
        "decision": {"target": "<img src=x>", "model": {"a": 1}, "score": "high"}, "row": 3,
        "error": {"message": ALL, "status": "<b>"}, "busy": True,
    }  # fmt: skip
    chats = [
        {"conversation": {"id": "chat-1", "title": ALL[:200], "settings": {"share": "x"}},
         "messages": [evil, answer]},
        {"conversation": {"id": "chat-2", "title": "Loop", "updatedAt": 1e300}, "messages": LOOP},
    ]  # fmt: skip
    await import_text(
        page, json.dumps({"format": "hybrid-llm-chat", "version": 1, "conversations": chats})
    )
    await expect(conversations(page)).to_have_count(2)
    for number in (0, 1):
        await conversations(page).nth(number).click()
        await expect(conversations(page).nth(number)).to_have_attribute("aria-current", "true")
        await expect(answers(page)).to_have_count(1)
        await check_quiet(page)
    await expect(page.locator(".attachment")).to_have_count(0)


# A tab that neither sends nor gets word of changes, like one that is late.
DEAF = "BroadcastChannel = class { addEventListener() {} postMessage() {} }"


async def test_tabs_do_not_overwrite_each_other(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await page.context.add_init_script(DEAF)
    await page.reload()
    await ask(page, "One?")
    await complete(page)
    await expect(answers(page)).to_contain_text("saved")
    tab = await page.context.new_page()
    await tab.goto(proxy.origin)
    await conversations(tab).click()
    await complete(tab)
    # Both ask while neither is complete.
    gates = Gate(), Gate()
    local.answer = streamed("In the first ", gates[0], "tab.")
    await ask(page, "From the first?")
    await answers(page).last.get_by_text("In the first").wait_for()
    local.answer = streamed("In the second ", gates[1], "tab.")
    await ask(tab, "From the second?")
    await answers(tab).last.get_by_text("In the second").wait_for()
    for gate in gates:
        gate.open()
    await answers(page).get_by_text("In the first tab.").wait_for()
    await answers(tab).get_by_text("In the second tab.").wait_for()
    for opened in (page, tab):
        await expect(answers(opened).last).to_contain_text("saved")
    await page.reload()
    for name, text in (("Previous version", "first"), ("Next version", "second")):
        button = page.get_by_role("button", name=name)
        await button.wait_for()
        if await button.is_enabled():
            await button.click()
        await expect(questions(page).last).to_contain_text(f"From the {text}?")
        await expect(answers(page).last).to_contain_text(f"In the {text} tab.")
    await expect(questions(page).first).to_contain_text("One?")


async def test_answer_of_another_tab_is_shown_as_it_arrives(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed("Half ", gate, "and half.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await answers(page).get_by_text("Half").wait_for()
    tab = await page.context.new_page()
    await tab.goto(proxy.origin)
    await conversations(tab).click()
    await expect(answers(tab)).to_contain_text("The answer arrives in another tab.")
    gate.open()
    await answers(tab).get_by_text("Half and half.").wait_for()
    await expect(answers(tab)).to_contain_text("saved")
    await expect(answers(tab)).not_to_contain_text("another tab")
    # A chat that is deleted in one tab is gone in the other.
    await act(page, "Delete")
    await expect(tab.locator("#notice")).to_contain_text("deleted in another tab")
    await expect(answers(tab)).to_have_count(0)
    await expect(conversations(tab)).to_have_count(0)


async def test_keys_of_one_browser_have_chats_of_their_own(
    start: StartProxy, show: Show, local: FakeUpstream
) -> None:
    keys = [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]
    proxy = await start({"server": {"api_keys": keys}})
    local.answer = streamed("An answer.")
    page = await show(proxy.origin, expected=("401",))

    async def sign_in(key: str) -> None:
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        await page.locator("#samples button").first.wait_for(state="attached")

    await sign_in("sk-team")
    await ask(page, "A secret?")
    await complete(page)
    await expect(conversations(page)).to_have_text(["A secret?"])
    tab = await page.context.new_page()
    await tab.goto(proxy.origin)
    await expect(conversations(tab)).to_have_count(1)
    await page.bring_to_front()
    await page.locator("#logout button").click()
    await page.wait_for_url("**/login")
    await sign_in("sk-boss")
    await expect(page.locator("#history-state")).to_contain_text("Your chats appear here.")
    await expect(answers(page)).to_have_count(0)
    # The tab that was open shows the chats of the key that signed in.
    await tab.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    await expect(tab.locator("#history-state")).to_contain_text("Your chats appear here.")
    await page.locator("#logout button").click()
    await sign_in("sk-team")
    await expect(conversations(page)).to_have_text(["A secret?"])


BLOCKED = {
    "refused": "indexedDB.open = () => { throw new DOMException('no', 'SecurityError') }",
    "full": """IDBObjectStore.prototype.put = () => {
        throw new DOMException('full', 'QuotaExceededError')
    }""",
}


@pytest.mark.parametrize(
    ("how", "text"), [("refused", "does not store chats"), ("full", "no space left")]
)
async def test_chat_goes_on_where_the_browser_stores_nothing(
    proxy: LiveProxy, show: Show, local: FakeUpstream, how: str, text: str
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await page.add_init_script(BLOCKED[how])
    await page.reload()
    await ask(page, "One?")
    await complete(page)
    await expect(page.locator("#storage-problem")).to_contain_text(text)
    await ask(page, "Two?")
    await complete(page, 2)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents == ["One?", "An answer.", "Two?"]


FILL = """async (count) => {
  const { ConversationStore, createId } = await import('/ui/conversations.js')
  const store = new ConversationStore(Promise.resolve(null))
  for (let number = 0; number < count; number += 1) {
    const id = createId()
    const updatedAt = Date.now() - number * 3_600_000
    const message = {
      id: createId(), conversation: id, parent: null, role: 'user', createdAt: updatedAt,
      content: `Text ${number} of a chat`,
    }
    await store.create(
      { id, title: `Chat ${number}`, session: id, createdAt: updatedAt, updatedAt, leaf: null,
        settings: {} },
      [message],
    )
  }
}"""


async def test_two_clicks_before_the_chats_are_read_ask_once(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin, "/login")
    opened = asyncio.Event()

    async def answer_late(route: Route) -> None:
        await opened.wait()
        await route.continue_()

    await page.route("**/api/status", answer_late)  # names the database of the chats
    await page.goto(proxy.origin)
    await page.locator("#samples button").first.dblclick()
    opened.set()
    await complete(page)
    await expect(questions(page)).to_have_count(1)
    assert len(local.calls) == 1


# Reads the list as it is, and hands it out later.
LATE = """
{
  const { list } = ConversationStore.prototype
  const opened = new Promise((resolve) => { window.handOut = resolve })
  ConversationStore.prototype.list = async function (limit) {
    const found = await list.call(this, limit)
    window.isRead = true
    await opened
    return found
  }
}
"""


async def test_list_that_is_read_late_keeps_a_new_chat(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin, "/login")

    async def extend(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=await answer.text() + LATE)

    await page.route("**/ui/conversations.js", extend)
    await page.goto(proxy.origin)
    await page.wait_for_function("window.isRead")
    await ask(page, "One?")
    await complete(page)
    await expect(conversations(page)).to_have_text(["One?"])
    await page.evaluate("window.handOut()")
    await page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    await expect(conversations(page)).to_have_text(["One?"])


async def test_messages_that_were_not_stored_are_stored_later(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    page = await show(proxy.origin)
    local.answer = streamed("An answer.")
    await ask(page, "One?")
    await complete(page)
    await page.evaluate(f"window.put = IDBObjectStore.prototype.put; {BLOCKED['full']}; 0")
    await ask(page, "Two?")
    await complete(page, 2)
    await expect(page.locator("#storage-problem")).to_contain_text("no space left")
    await page.evaluate("IDBObjectStore.prototype.put = window.put; 0")
    await ask(page, "Three?")
    await complete(page, 3)
    await expect(page.locator("#storage-problem")).to_be_hidden()
    await page.reload()
    await expect(questions(page)).to_contain_text(["One?", "Two?", "Three?"])


async def test_long_list_is_rendered_in_pages(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin)
    await page.evaluate(FILL, 450)
    await page.reload()
    await expect(conversations(page)).to_have_count(100)
    await expect(page.locator("#conversations h3").first).to_have_text("Today")
    scroll = page.locator("#history-scroll")
    await expect(page.locator("#conversations .conversation").first).to_have_attribute(
        "aria-setsize", "450"
    )
    await scroll.hover()
    while await conversations(page).count() < 450:
        count = await conversations(page).count()
        await scroll.evaluate("element => element.scrollTo(0, element.scrollHeight)")
        await expect(conversations(page)).not_to_have_count(count)
    await expect(conversations(page).last).to_have_text("Chat 449")
    await page.get_by_label("Search chats").fill("text 321 of")
    await expect(conversations(page)).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_list_is_a_drawer_on_a_phone(
    proxy: LiveProxy, show: Show, local: FakeUpstream, scheme: str
) -> None:
    local.answer = streamed("An answer.")
    page = await show(
        proxy.origin, viewport=PHONE, has_touch=True, is_mobile=True, color_scheme=scheme
    )
    await page.get_by_label("Message").fill("One?")
    await page.get_by_role("button", name="Send").click()
    await complete(page)
    await page.get_by_role("button", name="Chats").click()
    await expect(conversations(page)).to_be_visible()
    await check_accessible(page)
    assert await fits_its_width(page)
    await page.get_by_label("Actions of").click()
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await conversations(page).click()
    await expect(conversations(page)).to_be_hidden()
    await page.get_by_role("button", name="Chats").click()
    await page.get_by_role("button", name="Close").click()
    await expect(conversations(page)).to_be_hidden()


async def test_choice_and_settings_survive_a_reload(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await choose(page, "Cost…")
    await page.get_by_role("slider").fill("45")
    await page.reload()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("cost")
    await expect(page.get_by_role("slider")).to_have_value("45")
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("System prompt").fill("Be brief.")
    await page.get_by_label("Temperature").fill("0.3")
    await page.get_by_label("Maximum tokens").fill("77")
    await check_accessible(page)
    await page.get_by_role("button", name="Done").click()
    await page.reload()
    await expect(page.get_by_role("button", name="Settings (changed)")).to_be_visible()
    await ask(page, "One?")
    await complete(page)
    body = (local.calls + cloud.calls)[-1].json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"]) == (0.3, 77)
    (row,) = await proxy.rows_of(1)
    assert row["requested_model"] == "auto:cost=0.45"
    # They belong to this chat; the choice of who answers is that of new chats, too.
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("button", name="Settings", exact=True)).to_be_visible()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("cost")
    await choose(page, "Cloud")
    await conversations(page).click()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("cost")
    await expect(page.get_by_role("button", name="Settings (changed)")).to_be_visible()
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Use for new chats").click()
    await page.reload()
    await page.get_by_role("button", name="New chat").click()
    await page.get_by_role("button", name="Settings").click()
    await expect(page.get_by_label("System prompt")).to_have_value("Be brief.")


async def test_named_model_can_be_chosen(proxy: LiveProxy, show: Show, cloud: FakeUpstream) -> None:
    listed = b'{"object":"list","data":[{"id":"gpt-9","object":"model"},' \
        b'{"id":"text-embedding-3-small","object":"model"}]}'  # fmt: skip
    cloud.models = whole(listed)
    cloud.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await choose(page, "gpt-9")
    names = await page.get_by_label("Model", exact=True).inner_text()
    assert "embedding" not in names
    await page.reload()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("model:gpt-9")
    await ask(page, "One?")
    await complete(page)
    assert cloud.calls[-1].json["model"] == "gpt-9"


async def test_click_is_kept_when_the_list_grows_meanwhile(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page, "First?")
    await complete(page)
    await page.get_by_role("button", name="New chat").click()
    await expect(answers(page)).to_have_count(0)
    await conversations(page).hover()
    await page.mouse.down()
    chat = {
        "conversation": {"id": "other", "title": "Other", "updatedAt": 2},
        "messages": [{"id": "a", "parent": None, "role": "user", "content": "Other?"}],
    }
    await import_text(
        page, json.dumps({"format": "hybrid-llm-chat", "version": 1, "conversations": [chat]})
    )
    await expect(conversations(page)).to_have_count(2)
    await page.mouse.up()
    await expect(answers(page)).to_have_count(1)
