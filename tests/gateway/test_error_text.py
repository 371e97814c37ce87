"""What a row keeps of an upstream's error, of its waits, and of the bodies."""

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from fakes import (
    EASY,
    HARD,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    refused_address,
    whole,
)
from live import CLOUD_KEY, LiveProxy, Row, StartProxy
from proxy.record import MAX_ERROR_CHARS

WORDS = "The engine has run out of memory on its card."
FAILING = whole(error_json(WORDS, code="engine_overloaded"), status=503)
NO_RETRY = {"routing": {"fallback": False}}
ONCE = [("x-should-retry", "false")]
ANSWERS = {"type": "message", "max_tokens": 9, "messages": [{"role": "user", "content": EASY}]}


async def row_of(proxy: LiveProxy) -> Row:
    return (await proxy.finish()).row


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": EASY}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": EASY}], "stream": True}),
        ("/v1/completions", {"prompt": EASY}),
        ("/v1/responses", {"input": EASY}),
        ("/v1/embeddings", {"input": EASY}),
        ("/v1/messages", ANSWERS),
        ("/api/chat", {"messages": [{"role": "user", "content": EASY}]}),
        ("/api/generate", {"prompt": EASY, "stream": False}),
        ("/api/embed", {"input": EASY}),
    ],
)
@pytest.mark.parametrize("prompts", ["full", "hash"])
async def test_an_upstreams_error_is_kept_as_prompts_allow(
    start: StartProxy, local: FakeUpstream, path: str, fields: dict[str, Any], prompts: str
) -> None:
    local.answer = whole(error_json(WORDS, code="engine_overloaded"), status=503, headers=ONCE)
    proxy = await start({**NO_RETRY, "storage": {"prompts": prompts}})
    response = await proxy.client.post(path, json={"model": "local", **fields})
    assert response.status_code == 503
    row = await row_of(proxy)
    assert row["error_code"] == "upstream_5xx"
    assert "status 503, engine_overloaded, server_error" in row["error"]
    assert (WORDS in row["error"]) == (prompts == "full")


async def test_a_passed_through_error_is_kept(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(error_json("No such voice.", code="bad_voice"), status=400)
    proxy = await start()
    sent = {"model": "tts-1", "input": "Hello"}
    await proxy.client.post("/v1/audio/speech", json=sent)
    row = await row_of(proxy)
    assert row["error"] == "No such voice. (status 400, bad_voice, server_error)"
    assert row["queue_ms"] == pytest.approx(0, abs=50)
    assert 0 < row["connect_ms"] < 5_000


async def test_no_store_keeps_only_codes(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(error_json(WORDS, code=HARD), status=400)
    proxy = await start()
    await proxy.chat(text=HARD, headers={"x-router-no-store": "true"})
    await proxy.client.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "input": "Hello"},
        headers={"x-router-no-store": "true"},
    )
    rows = (await proxy.finish(2)).rows
    # A code that is a text of the client is no code.
    assert [row["error"] for row in rows] == ["status 400, server_error"] * 2
    assert not bodies(proxy)


async def test_a_fallback_keeps_what_the_first_tier_said(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = FAILING
    cloud.answer = whole(error_json("Billing is not set up."), status=402)
    proxy = await start()
    await proxy.chat(text=EASY)
    row = await row_of(proxy)
    assert (row["fallback_from"], row["fallback_why"]) == ("local", "server_error")
    assert row["fallback_error"] == f"{WORDS} (status 503, engine_overloaded, server_error)"
    assert row["error"] == "Billing is not set up. (status 402, server_error)"
    assert row["opened_ms"] < row["attempt_ms"] < row["duration_ms"]


async def test_a_fallback_keeps_why_a_tier_cannot_be_reached(
    tmp_path: Path, cloud: FakeUpstream
) -> None:
    with refused_address() as nowhere:
        async with LiveProxy(tmp_path, nowhere, cloud) as proxy:
            assert (await proxy.chat(text=EASY)).status_code == 200
            row = await row_of(proxy)
    assert row["ending"] == "ok"
    assert row["error"] is None
    why = "The local upstream cannot be reached: the connection was refused."
    assert row["fallback_error"] == why


@pytest.mark.parametrize("spoke", [True, False])
async def test_an_error_event_of_a_stream_is_kept(
    start: StartProxy, cloud: FakeUpstream, spoke: bool
) -> None:
    first = [event(chunk({"content": "Hello"}))] if spoke else []
    failure = event(error_json("The worker crashed.", code="worker_lost"))
    cloud.answer = chunked(*first, failure)
    proxy = await start(NO_RETRY)
    await proxy.chat(model="cloud", stream=True)
    row = await row_of(proxy)
    assert row["ending"] == "upstream_error"
    assert row["error"] == "The worker crashed. (status 200, worker_lost, server_error)"


async def test_an_error_has_no_keys_and_no_control_characters(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    text = (
        f"Bad \x1b[31m\nheaders {{'authorization': 'Bearer {CLOUD_KEY}'}}, key sk-proj-1234567890,"
        f" url https://user:pw123@host/ and {'x' * 3_000}"
    )
    cloud.answer = whole(error_json(text), status=422)
    proxy = await start(NO_RETRY)
    await proxy.chat(model="cloud")
    row = await row_of(proxy)
    error = row["error"]
    assert error.startswith("Bad [31m headers {'authorization': '[redacted]'}, key [redacted],")
    assert error.endswith("… (status 422, server_error)")
    assert len(error) == MAX_ERROR_CHARS
    assert "pw123" not in error
    ((_, answer),) = bodies(proxy)
    assert CLOUD_KEY not in answer
    assert "sk-proj" not in answer


async def test_a_rejected_key_is_kept_without_words(start: StartProxy, cloud: FakeUpstream) -> None:
    error = error_json("Wrong key: abcd***wxyz", kind="invalid_request_error", code="invalid_key")
    cloud.answer = whole(error, status=401)
    proxy = await start(NO_RETRY)
    await proxy.chat(model="cloud")
    row = await row_of(proxy)
    assert "wxyz" not in row["error"]
    assert row["error"].endswith("cloud tier: status 401, invalid_key, invalid_request_error")
    assert [answer for _, answer in bodies(proxy)] == [None]


async def test_the_title_of_a_web_page_is_kept(start: StartProxy, cloud: FakeUpstream) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    cloud.answer = whole(page, status=502, content_type="text/html", headers=ONCE)
    proxy = await start(NO_RETRY)
    await proxy.chat(model="cloud")
    assert (await row_of(proxy))["error"] == "502 Bad Gateway (status 502)"


# ── Waits ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_wait_for_a_slot_and_for_a_connection_are_recorded(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = [gate, *whole(answer_json())]
    proxy = await start({"upstreams": {"local": {"max_concurrency": 1}}})
    first = asyncio.ensure_future(proxy.chat(text=EASY))
    await gate.reached()
    second = asyncio.ensure_future(proxy.chat(model="local"))
    await proxy.queued("local")
    waited_from = time.monotonic()
    while time.monotonic() - waited_from < 0.1:
        await proxy.client.get("/health")
    gate.open()
    await asyncio.gather(first, second)
    one, two = (await proxy.finish(2)).rows
    assert one["queue_ms"] < 50
    assert one["connect_ms"] is not None
    assert 100 <= two["queue_ms"] <= two["upstream_ms"]
    assert two["connect_ms"] == 0  # the connection of the first request


# ── Bodies ────────────────────────────────────────────────────────────────────────────────────


def bodies(proxy: LiveProxy) -> list[tuple[str | None, str | None]]:
    connection = sqlite3.connect(proxy.config_file.with_name("router.db"))
    try:
        return list(connection.execute("SELECT request, response FROM bodies ORDER BY created_at"))
    finally:
        connection.close()


async def test_bodies_of_failures_are_kept(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start(NO_RETRY)
    await proxy.chat(model="local", text="answered")
    local.answer = whole(error_json(WORDS), status=503, headers=ONCE)
    await proxy.chat(model="local", text="failed", user="me")
    await proxy.chat(model="local", messages=[])  # refused
    await proxy.finish(3)
    ((request, response),) = bodies(proxy)
    assert request is not None
    assert json.loads(request)["user"] == "me"
    assert response == error_json(WORDS).decode()


async def test_all_bodies_are_kept_without_images(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start({"storage": {"bodies": "all"}})
    image = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{'iVBOR/+9' * 9_999}"},
    }
    content = [{"type": "text", "text": "What is this?"}, image]
    await proxy.chat(model="cloud", messages=[{"role": "user", "content": content}])
    cloud.answer = chunked(*openai_events())
    await proxy.chat(model="cloud", text="long " * 50_000, stream=True)
    await proxy.finish(2)
    (first, answer), (second, events) = bodies(proxy)
    assert first is not None
    url = json.loads(first)["messages"][0]["content"][1]["image_url"]["url"]
    assert url == "data:image/png;base64,[79,992 characters of base64]"
    assert answer is not None
    assert "choices" in json.loads(answer)
    assert second is not None
    assert len(second) == 2**16
    assert second.endswith("… [cut]")
    assert events is not None
    assert events.startswith("data: {")
    assert events.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("storage", [{"bodies": "none"}, {"bodies": "all", "prompts": "hash"}])
async def test_no_bodies_are_kept_without_texts(
    start: StartProxy, local: FakeUpstream, storage: dict[str, str]
) -> None:
    local.answer = FAILING
    proxy = await start({**NO_RETRY, "storage": storage})
    await proxy.chat(model="local")
    await proxy.finish()
    assert bodies(proxy) == []
