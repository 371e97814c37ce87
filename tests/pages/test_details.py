"""The drawer of one request: its error, timeline, raw JSON and curl; and the card of errors."""

import asyncio
import json
import os
import re
from pathlib import Path

from playwright.async_api import Page, expect

from browser import check_accessible
from fakes import EASY, FakeUpstream, answer_json, error_json, whole
from live import StartProxy
from pages.conftest import Show
from pages.hostile import ALL, check_quiet
from pages.test_chat import PHONE
from pages.test_dashboard import listed, record, settled
from proxy.record import Ending, Target
from stored import fill

TRICKY = "It's \"new\":\n$HOME `id` \\ ! é {'a': 1}"
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
KEY = "the-key-of-a-team"


async def copied(page: Page, label: str) -> str:
    await page.get_by_role("button", name=label).click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    text: str = await page.evaluate("navigator.clipboard.readText()")
    return text


async def run_in_bash(command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-ec",
        command.replace("curl ", "curl -sS --noproxy '*' ", 1),
        env=os.environ | {"API_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error
    return out


async def test_a_failure_shows_what_the_upstream_said_and_its_json(
    start: StartProxy, show: Show, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json("The <b>model</b> is overloaded."), status=400)
    proxy = await start()
    answer = await proxy.chat(model="cloud", text=EASY, user="me")
    row = await proxy.row_of(answer)
    page = await show(proxy.origin, f"/dashboard#request={row['id']}", **CLIPBOARD)
    drawer = page.get_by_role("dialog")
    await expect(drawer).to_contain_text("The <b>model</b> is overloaded. (status 400")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert not any(url.endswith("/body") for url in asked)
    await drawer.get_by_text("Raw JSON").click()
    await expect(drawer.get_by_label("Request", exact=True).last).to_contain_text('"user": "me"')
    await expect(drawer.get_by_label("Response")).to_contain_text("The <b>model</b>")
    await check_accessible(page)
    assert json.loads(await copied(page, "Copy request"))["user"] == "me"


async def test_the_timeline_is_a_table_in_the_order_of_time(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    times = {
        "opened_ms": 10.0, "attempt_ms": 210.0, "decision_ms": 8.0, "queue_ms": 100.0,
        "connect_ms": 5.0, "ttft_ms": 500.0, "upstream_ms": 890.0, "duration_ms": 901.0,
        "fallback_from": Target.LOCAL, "fallback_why": "server_error",
        "fallback_error": "Out of memory. (status 500)", "target": Target.CLOUD, "streamed": True,
    }  # fmt: skip
    item = record(0, **times)
    fill(f"sqlite:///{tmp_path}/router.db", [item])
    proxy = await start()
    page = await show(proxy.origin, f"/dashboard#request={item.id}", viewport=PHONE)
    drawer = page.get_by_role("dialog")
    await expect(drawer).to_contain_text("Out of memory. (status 500)")
    table = drawer.get_by_role("table", name="Phases of the request")
    await expect(table.locator("tbody th")).to_have_text([
        "Reading the request", "Decision", "Local attempt, discardedserver error",
        "Waiting for a slot", "Connecting", "Waiting for the first token",
        "Streaming the answer", "Sending the answer",
    ])  # fmt: skip
    boxes = [await bar.bounding_box() for bar in await table.locator(".phase").all()]
    axis = await table.locator(".track").first.bounding_box()
    assert axis is not None
    shares = [
        ((box["x"] - axis["x"]) / axis["width"], box["width"] / axis["width"])
        for box in boxes
        if box is not None
    ]
    expected = [(10, 200), (210, 100), (310, 5), (315, 185), (500, 400)]
    for (start_share, width), (at, duration) in zip(shares[2:7], expected, strict=True):
        assert abs(start_share - at / 901) < 0.03
        assert abs(width - duration / 901) < 0.03
    assert all(box is not None and box["x"] + box["width"] <= 391 for box in boxes)
    await check_accessible(page)


async def test_curl_sends_the_same_request_again(
    start: StartProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = whole(answer_json("Again!"))
    proxy = await start({"storage": {"bodies": "all"}})
    row = await proxy.row_of(await proxy.chat(model="local", text=TRICKY, temperature=0.25))
    page = await show(proxy.origin, f"/dashboard#request={row['id']}", **CLIPBOARD)
    command = await copied(page, "Copy as curl")
    assert json.loads(await run_in_bash(command))["choices"][0]["message"]["content"] == "Again!"
    first, second = local.calls
    assert json.loads(first.body) == json.loads(second.body)


async def test_curl_is_rebuilt_from_the_texts_and_has_a_key(
    start: StartProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = whole(answer_json("Again!"))
    proxy = await start({"server": {"api_keys": [KEY]}, "storage": {"bodies": "none"}})
    headers = {"authorization": f"Bearer {KEY}"}
    row = await proxy.row_of(await proxy.chat(model="local", text=TRICKY, headers=headers))
    page = await show(proxy.origin, "/login", **CLIPBOARD)
    await page.locator("input[name=key]").fill(KEY)
    await page.locator("main form button").click()
    await page.wait_for_url(proxy.origin + "/")
    await page.goto(f"{proxy.origin}/dashboard#request={row['id']}")
    command = await copied(page, "Copy as curl")
    assert KEY not in command
    assert b"Again!" in await run_in_bash(command)
    assert json.loads(local.calls[1].body)["messages"] == [{"role": "user", "content": TRICKY}]


async def test_curl_of_a_shortened_request_is_refused(start: StartProxy, show: Show) -> None:
    proxy = await start({"storage": {"bodies": "all"}})
    turns = [
        {"role": "user", "content": "word " * 100_000},
        {"role": "tool", "tool_call_id": "call_1", "content": "A result."},  # no text to rebuild
    ]
    row = await proxy.row_of(await proxy.chat(model="local", messages=turns))
    page = await show(proxy.origin, f"/dashboard#request={row['id']}", **CLIPBOARD)
    await page.evaluate("navigator.clipboard.writeText('before')")
    await page.get_by_role("button", name="Copy as curl").click()
    await page.get_by_role("button", name="The stored request is not complete.").wait_for()
    assert await page.evaluate("navigator.clipboard.readText()") == "before"


async def test_a_question_is_asked_again_in_the_chat(
    start: StartProxy, show: Show, local: FakeUpstream
) -> None:
    proxy = await start()
    row = await proxy.row_of(await proxy.chat(model="local", text=TRICKY))
    page = await show(proxy.origin, f"/dashboard#request={row['id']}")
    compare = page.get_by_role("link", name="Open in Compare")
    await expect(compare).to_have_attribute("href", f"/compare?request={row['id']}")
    await page.get_by_role("link", name="Ask again in chat").click()
    await expect(page.locator("#prompt")).to_have_value(TRICKY)
    assert "request=" not in page.url


async def test_errors_are_shown_by_cause_and_filter_the_list(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    failed = {"ending": Ending.UPSTREAM_ERROR, "target": Target.CLOUD}
    records = [
        *(record(n) for n in range(5)),
        *(
            record(n, error=f"Limit {n}. (status 429)", error_code="upstream_4xx", **failed)
            for n in range(5, 9)
        ),
        record(9, error=ALL, error_code="overloaded", **failed),
        record(10, ending=Ending.REJECTED, target=None, error="No.", error_code="no_such_model"),
    ]
    fill(f"sqlite:///{tmp_path}/router.db", records)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    card = page.locator("#errors")
    await expect(card.locator("tr.kind")).to_have_text(["Failures5", "Refused by the proxy1"])
    first = card.locator(".failures tr").nth(1)
    await expect(first).to_contain_text("Limit #. (status 429)")
    await expect(first.locator("td.num")).to_have_text([re.compile("4"), re.compile("36.4 ?%")])
    await check_quiet(page)
    await check_accessible(page)
    await first.get_by_role("button", name="upstream 4xx", exact=True).click()
    await expect(listed(page)).to_have_count(4)
    await card.get_by_role("button", name="no such model", exact=True).click()
    await expect(listed(page)).to_have_count(1)
    await card.get_by_role("button", name="Example of overloaded").click()
    await expect(page.get_by_role("dialog")).to_contain_text(records[9].id)


async def test_without_errors_the_card_says_so(start: StartProxy, show: Show) -> None:
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await expect(page.locator("#errors")).to_have_text("No errors in this time range.")
