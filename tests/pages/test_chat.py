"""Chat page in a real browser against a live proxy."""

import gzip
import json
import re
from typing import Any

import pytest
from playwright.async_api import Route, expect

from browser import check_accessible, fits_its_width
from fakes import EASY, HARD, End, FakeUpstream, Gate, chunk, chunked, error_json, event, whole
from live import LiveProxy, StartProxy
from pages.chatting import answers, ask, choose, complete, streamed
from pages.conftest import Show
from pages.hostile import ALL, check_quiet

PHONE = {"width": 390, "height": 844}
CODE = "Here:\n\n```python\nprint('a < b')\n```\n\n| n | ms |\n|---|---|\n| 1 | 2 |\n"


async def test_answer_is_shown_while_it_streams(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed("Four, ", gate, "of course.")
    page = await show(proxy.origin)
    await ask(page)
    answer = answers(page)
    await answer.get_by_text("Four,").wait_for()
    # The tier is known before the first token.
    await expect(answer.locator(".badge")).to_have_text("localphi3:latest")
    await expect(answer.get_by_role("img")).to_have_attribute(
        "aria-label", "Score 0.90, threshold 0.50"
    )
    await expect(answer).to_have_attribute("aria-busy", "true")
    assert "of course" not in await answer.inner_text()
    gate.open()
    await answer.get_by_text("Four, of course.").wait_for()
    await complete(page)
    await expect(page.locator("#announce")).to_have_text(
        "The answer from the local model is complete."
    )


async def test_answer_shows_its_cost_and_saving(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page, EASY)
    await complete(page)
    await ask(page, HARD)
    await complete(page, 2)
    # 19 tokens at $0.15 and 10 at $0.60 a million.
    easy, hard = answers(page).first, answers(page).last
    await expect(easy).to_contain_text("cost $0.00 · saved $0.000009")
    await expect(hard.locator(".badge")).to_have_text("cloudgpt-4o-mini")
    await expect(hard).to_contain_text("score 0.10 < threshold 0.50")
    await expect(hard).to_contain_text("cost $0.000009")
    await expect(easy).to_contain_text("first token")
    await expect(page.locator("#tally")).to_have_text(
        re.compile(r"answers 2cost \$0.000009saved \$0.000009 \(50\s?%\)")
    )


KEPT = {
    "second_look": "kept", "evidence": '{"broken":false,"agrees":true,"margin":2.5}',
    "verified_score": 0.71, "verified_merit": 0.71, "second_look_ms": 812.0,
}  # fmt: skip
ESCALATED = {
    "target": "cloud", "model": "gpt-4o-mini", "reason": "escalated", "fallback_from": "local",
    "fallback_why": "evidence", "second_look": "escalated", "evidence": '{"broken":true}',
    "verified_score": 0.2, "verified_merit": 0.2, "second_look_ms": 1_500.0,
    "discarded_tokens": 340,
}  # fmt: skip


TIMED_OUT = {
    "target": "cloud", "model": "gpt-4o-mini", "reason": "fallback", "fallback_from": "local",
    "fallback_why": "verify_timeout", "second_look": "timed_out", "evidence": None,
    "second_look_ms": 20_000.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            KEPT,
            [
                "localphi3:latest", "kept by a second look · verified merit 0.71 ≥ threshold 0.50",
                "Second look: kept", "Second modelagrees", "Margin2.500 nats",
                "Verified score0.7100", "Time to the result812 ms",
            ],
        ),
        (
            TIMED_OUT,
            [
                "cloudgpt-4o-mini", "a second look timed out · score 0.90 ≥ threshold 0.50",
                "Second look: timed out", "Time to the result20 s",
            ],
        ),
        (
            ESCALATED,
            [
                "cloudgpt-4o-mini",
                "escalated by a second look · verified merit 0.20 < threshold 0.50",
                "Second look: escalated", "Final answernone",
                "Time to the result1.5 s", "Discarded tokens340",
            ],
        ),
    ],
)  # fmt: skip
async def test_second_look_of_an_answer_is_shown(
    proxy: LiveProxy, show: Show, local: FakeUpstream, values: dict[str, Any], expected: list[str]
) -> None:
    """Also where the headers do not have it, because the stream had begun."""
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)

    async def answer(route: Route) -> None:
        row = await (await route.fetch()).json()
        evidence = json.loads(values["evidence"] or "null")
        await route.fulfill(json=row | values | {"evidence": evidence})

    await page.route("**/api/requests/*", answer)
    await ask(page)
    await complete(page)
    await answers(page).get_by_text("Second look:").click()
    for text in expected:
        await expect(answers(page)).to_contain_text(text)
    await check_accessible(page)
    await page.reload()
    await expect(answers(page).get_by_text(expected[2])).to_be_visible()


async def test_answer_without_a_second_look_shows_none(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page)
    await expect(answers(page)).to_contain_text("saved")
    await expect(answers(page).locator(".look")).to_be_hidden()


async def test_second_look_in_the_headers_is_shown_before_the_first_token(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = streamed("Half ", gate, "an answer.")
    page = await show(proxy.origin)
    await page.evaluate(WITH_SECOND_LOOK)
    await ask(page)
    await answers(page).get_by_text("Half").wait_for()
    await expect(answers(page)).to_contain_text(
        "kept by a second look · verified merit 0.62 ≥ threshold 0.50"
    )
    gate.open()
    await complete(page)


# Adds the headers to every answer: a route of the browser would wait for the whole stream.
WITH_SECOND_LOOK = """() => {
  const original = window.fetch
  window.fetch = async (...request) => {
    const response = await original(...request)
    const headers = new Headers(response.headers)
    headers.set('x-router-second-look', 'kept')
    headers.set('x-router-verified-merit', '0.6200')
    return new Response(response.body, { status: response.status, headers })
  }
}"""


async def test_conversation_sends_its_history_and_session(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("First ", "answer.")
    page = await show(proxy.origin)
    await ask(page, "One?")
    await complete(page)
    await ask(page, "Two?")
    await complete(page, 2)
    first, second = local.calls
    assert second.json["messages"] == [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "Two?"},
    ]
    assert first.json["messages"] == second.json["messages"][:1]
    rows = await proxy.rows_of(2)
    assert rows[0]["session_id"] == rows[1]["session_id"] is not None


@pytest.mark.parametrize("how", ["button", "escape"])
async def test_stopping_closes_the_upstream_request(
    proxy: LiveProxy, show: Show, local: FakeUpstream, how: str
) -> None:
    local.answer = streamed("Half an ", Gate(), "answer.")
    page = await show(proxy.origin)
    await ask(page)
    await answers(page).get_by_text("Half an").wait_for()
    if how == "button":
        await page.get_by_role("button", name="Stop").click()
    else:
        await page.keyboard.press("Escape")
    await answers(page).get_by_text("Stopped.").wait_for()
    await (await local.called()).closed()
    (row,) = await proxy.rows_of(1)
    assert (row["ending"], row["response"]) == ("client_gone", "Half an ")
    await expect(answers(page)).to_contain_text("Half an")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_thumb_rates_the_request(proxy: LiveProxy, show: Show, local: FakeUpstream) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    (row,) = await proxy.rows_of(1)
    good = page.get_by_role("button", name="Good answer")
    bad = page.get_by_role("button", name="Bad answer")
    for button, rating in ((good, 1.0), (bad, -1.0), (bad, 0.0)):
        async with page.expect_response("**/v1/feedback") as answered:
            await button.click()
        assert (await (await answered.value).json()) == {
            "object": "feedback", "request_id": row["id"], "rating": rating,
        }  # fmt: skip
        await expect(button).to_have_attribute("aria-pressed", str(rating != 0).lower())
    await expect(good).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(
    ("mode", "share", "model", "description"),
    [
        ("Auto", None, "auto", None),
        ("Local", None, "local", None),
        ("Cloud", None, "cloud", None),
        ("Cost…", "45", "auto:cost=0.45", "at most 45% of the all-cloud cost"),
        ("Quality…", "80", "auto:quality=0.8", "recover at least 80% of the quality gap"),
    ],
)
async def test_routing_mode_selects_the_model(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream,
    mode: str, share: str | None, model: str, description: str | None,
) -> None:  # fmt: skip
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin)
    await choose(page, mode)
    slider = page.get_by_role("slider")
    if share is None:
        await expect(slider).to_be_hidden()
    else:
        await slider.fill(share)
        await expect(page.locator("output")).to_have_text(description or "")
    await ask(page)
    await complete(page)
    (row,) = await proxy.rows_of(1)
    assert row["requested_model"] == model
    if model in ("local", "cloud"):
        await expect(answers(page).locator(".badge")).to_contain_text(model)
        await expect(answers(page)).to_contain_text("requested explicitly")


async def test_upstream_error_is_shown_and_can_be_retried(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    message = "You have <b>used</b> it all up."
    refusal = error_json(message, kind="requests", code="rate_limit_exceeded")
    cloud.answer = whole(refusal, status=429)
    local.answer = streamed("Better now.")
    page = await show(proxy.origin, expected=("429",))
    await choose(page, "Cloud")
    await ask(page)
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text(message)
    await expect(alert).to_contain_text("HTTP 429 · rate_limit_exceeded")
    await choose(page, "Local")
    await page.get_by_role("button", name="Try again").click()
    await answers(page).get_by_text("Better now.").wait_for()
    assert await answers(page).count() == 1
    (call,) = local.calls
    assert call.json["messages"] == [{"role": "user", "content": EASY}]


async def test_interrupted_answer_keeps_its_text_and_error(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("The beginning of", End.RESET, finish=None)
    page = await show(proxy.origin)
    await ask(page)
    await page.get_by_role("alert").wait_for()
    await expect(answers(page)).to_contain_text("The beginning of")
    (row,) = await proxy.rows_of(1)
    assert row["error"] is not None
    await expect(page.get_by_role("alert")).to_contain_text(row["error"])
    local.answer = streamed("Whole.")
    await page.get_by_role("button", name="Try again").click()
    await answers(page).get_by_text("Whole.").wait_for()


async def test_failed_question_is_not_sent_again_and_can_be_retried(
    proxy: LiveProxy, show: Show, cloud: FakeUpstream
) -> None:
    """Many chat templates refuse two turns of the user in a row."""
    cloud.answer = whole(error_json("Overloaded."), status=503)
    page = await show(proxy.origin, expected=("503",))
    await choose(page, "Cloud")
    await ask(page, "One?")
    await page.get_by_role("alert").wait_for()
    cloud.answer = streamed("Whole.")
    await ask(page, "Two?")
    await complete(page, 2)
    assert cloud.calls[-1].json["messages"] == [{"role": "user", "content": "Two?"}]
    await expect(page.get_by_role("article", name="You").first).to_contain_text("One?")
    cloud.answer = streamed("Again.")
    await page.get_by_role("button", name="Try again").click()
    # The failed answer is replaced, and what followed it stays.
    await answers(page).first.get_by_text("Again.").wait_for()
    assert cloud.calls[-1].json["messages"] == [{"role": "user", "content": "One?"}]
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await page.reload()
    await complete(page, 2)
    await ask(page, "Three?")
    await complete(page, 3)
    contents = [message["content"] for message in cloud.calls[-1].json["messages"]]
    assert contents == ["One?", "Again.", "Two?", "Whole.", "Three?"]


async def test_interrupted_answer_stays_in_the_history(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("Half", End.RESET, finish=None)
    page = await show(proxy.origin)
    await ask(page, "One?")
    await page.get_by_role("alert").wait_for()
    local.answer = streamed("Whole.")
    await ask(page, "Two?")
    await complete(page, 2)
    contents = [message["content"] for message in local.calls[-1].json["messages"]]
    assert contents == ["One?", "Half", "Two?"]


async def test_unreachable_proxy_is_reported(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, expected=("ERR_",))
    await page.get_by_text("no router model").wait_for()
    await proxy.stop()
    await ask(page)
    await expect(page.get_by_role("alert")).to_contain_text("Cannot reach the proxy.")


async def test_code_and_tables_are_rendered_and_copied(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed(*CODE)
    page = await show(proxy.origin, permissions=["clipboard-read", "clipboard-write"])
    await ask(page)
    await complete(page)
    await expect(answers(page).locator("pre")).to_have_text("print('a < b')\n")
    await expect(answers(page).locator("figcaption")).to_contain_text("python")
    await expect(answers(page).get_by_role("cell", name="2")).to_be_visible()
    await expect(answers(page)).to_contain_text("saved")  # the answer is final
    for place, text in ((".code", "print('a < b')\n"), (".actions", CODE)):
        button = answers(page).locator(place).get_by_role("button").first
        await button.click()
        await expect(button).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == text


async def test_reasoning_is_collapsed_and_truncation_reported(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = chunked(
        event(chunk({"reasoning": "Two and two, <b>hm</b>."})),
        event(chunk({"content": "Four."})),
        event(chunk({}, "length")),
        event(b"[DONE]"),
    )
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await expect(answers(page).get_by_text("Two and two, <b>hm</b>.")).to_be_hidden()
    await answers(page).get_by_text("Thinking").click()
    await expect(answers(page).get_by_text("Two and two, <b>hm</b>.")).to_be_visible()
    await expect(answers(page)).to_contain_text("Stopped at the token limit.")


async def test_hostile_chat_text_is_inert(
    start: StartProxy, show: Show, local: FakeUpstream
) -> None:
    name = "<img src=x onerror=window.pwned=1>"
    proxy = await start({"upstreams": {"local": {"model": name}}})
    local.answer = streamed(*ALL)
    page = await show(proxy.origin)
    await ask(page, ALL)
    await complete(page)
    await check_quiet(page)
    await expect(answers(page).locator(".badge")).to_have_text("local" + name)
    await expect(page.get_by_role("article", name="You")).to_contain_text("<script>window.pwned=1")
    await page.reload()
    await complete(page)
    await check_quiet(page)


async def test_hostile_error_text_is_inert(
    proxy: LiveProxy, show: Show, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json(ALL), status=400)
    page = await show(proxy.origin, expected=("400",))
    await choose(page, "Cloud")
    await ask(page)
    await expect(page.get_by_role("alert")).to_contain_text("<script>window.pwned=1</script>")
    await check_quiet(page)


async def test_chat_works_with_the_keyboard_only(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = streamed("An answer.")
    page = await show(proxy.origin)
    press = page.keyboard.press
    await expect(page.get_by_label("Message")).to_be_focused()
    await press("Tab")
    await expect(page.get_by_role("button", name="Attach files")).to_be_focused()
    await press("Tab")
    await expect(page.get_by_label("Model", exact=True)).to_be_focused()
    await page.keyboard.type("Cloud")
    await press("Shift+Tab")
    await press("Shift+Tab")
    await page.keyboard.type("Line one")
    await press("Shift+Enter")
    await page.keyboard.type("line two")
    await press("Enter")
    await complete(page)
    assert (await cloud.called()).json["messages"][0]["content"] == "Line one\nline two"
    await expect(page.get_by_label("Message")).to_be_focused()
    while await page.evaluate("document.activeElement.ariaLabel") != "Good answer":
        await press("Shift+Tab")
    async with page.expect_response("**/v1/feedback"):
        await press("Space")
    await expect(page.get_by_role("button", name="Good answer")).to_be_focused()


async def test_chat_survives_a_reload_and_can_be_reset(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    page = await show(proxy.origin)
    sample = page.locator("#samples").get_by_text("What is the capital of France?")
    await sample.click()
    await complete(page)
    await expect(answers(page)).to_contain_text("saved")
    text = await page.locator("#thread").inner_text()
    await page.reload()
    await complete(page)
    assert await page.locator("#thread").inner_text() == text
    await page.get_by_role("button", name="New chat").click()
    await expect(sample).to_be_visible()
    await expect(answers(page)).to_have_count(0)


async def test_very_long_answer_is_shown_completely(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    words = [f"Paragraph {n} of a **long** answer, `code` and all.\n\n" for n in range(3000)]
    local.answer = streamed(*words, "The very end.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await expect(answers(page).locator(".block")).to_have_count(3001)
    # The thread scrolls along with the end.
    await expect(answers(page).get_by_text("The very end.")).to_be_in_viewport()
    assert await fits_its_width(page)


async def test_thread_does_not_scroll_while_the_user_reads_above(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    gate = Gate()
    words = [f"Line {n}\n\n" for n in range(100)]
    local.answer = streamed(*words, gate, *words, "The end.")
    page = await show(proxy.origin)
    await ask(page)
    await answers(page).get_by_text("Line 99").wait_for()
    await page.locator("#thread").hover()
    await page.mouse.wheel(0, -100_000)
    await expect(answers(page).get_by_text("Line 0")).to_be_in_viewport()
    gate.open()
    await complete(page)
    await expect(answers(page).get_by_text("Line 0").first).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_conversation_is_accessible(
    proxy: LiveProxy, show: Show, local: FakeUpstream, scheme: str
) -> None:
    local.answer = streamed(CODE + "# Heading\n\n- [link](https://example.com)\n- `code`\n\n> said")
    page = await show(proxy.origin, color_scheme=scheme, viewport=PHONE)
    await ask(page)
    await complete(page)
    await choose(page, "Quality…")
    await check_accessible(page)
    assert await fits_its_width(page)
    background = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(14, 17, 22)") is (scheme == "dark")


async def test_first_visit_loads_less_than_150_kb(proxy: LiveProxy, show: Show) -> None:
    """Compressed response bodies of a first visit, without headers."""
    page = await show(proxy.origin)
    await page.get_by_text("no router model").wait_for()
    names: list[str] = await page.evaluate(
        "performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    size = 0
    for url in {proxy.origin + "/", *names}:
        path = url.removeprefix(proxy.origin)
        async with proxy.client.stream("GET", path, headers={"accept-encoding": "gzip"}) as sent:
            raw = b"".join([part async for part in sent.aiter_raw()])
        if path.startswith("/ui/"):
            assert len(gzip.decompress(raw)) > 0
        size += len(raw)
    assert not any("plotly" in name for name in names)
    assert size < 150_000
    assert json.dumps(names).count("/ui/") >= 6
