"""POST /v1/responses: routed like a chat, streamed in typed events, continued by its id.

The cloud stores its responses. The local tier stores nothing, so the proxy does it instead.
"""

import json
import sqlite3
from typing import Any

import httpx2
import openai
import pytest

from fakes import (
    EASY,
    HARD,
    RESPONSES_USAGE,
    End,
    FakeUpstream,
    Gate,
    chunked,
    error_json,
    response_answer,
    response_events,
    response_fields,
    typed,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL, LiveProxy, StartProxy, envelope_of, released

OLLAMA = {
    "/api/version": whole(b'{"version":"0.32.6"}'),
    "/api/ps": whole(b'{"models":[{"name":"phi3:latest"}]}'),
    "/api/show": whole(
        b'{"capabilities":["completion","tools","vision"],"model_info":{"phi3.context_length":131072}}'
    ),
}


FUNCTION = {"type": "function", "name": "f"}
TOOL_TURNS = [
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "4"},
]
FILE_PARTS = [
    {"type": "input_file", "file_id": "file_1"},
    {"type": "input_image", "file_id": "file_1"},
]
CLOUD_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}, "input": None}, "prompt"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    *(
        ({"input": [{"role": "user", "content": [part]}]}, "input[0].content")
        for part in FILE_PARTS
    ),
]


@pytest.fixture(autouse=True)
def upstreams(local: FakeUpstream, cloud: FakeUpstream) -> None:
    local.answer = response_answer(response_id="resp_local")
    cloud.answer = response_answer(response_id="resp_cloud")


def query_database(proxy: LiveProxy, statement: str) -> list[Any]:
    path = proxy.proxy.config.storage.url.path
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def create(proxy: LiveProxy, headers: Any = None, **fields: Any) -> httpx2.Response:
    body = {"model": "auto", "input": EASY} | fields
    response: httpx2.Response = await proxy.client.post("/v1/responses", json=body, headers=headers)
    return response


def local_id(answer: httpx2.Response) -> str:
    """The id that the proxy gives a local response."""
    return "resp_" + answer.headers["x-request-id"].removeprefix("req_")


def local_item_id(answer: httpx2.Response, kind: str = "msg", number: int = 1) -> str:
    """The id that the proxy gives an item of a local response."""
    return f"{kind}_{local_id(answer).removeprefix('resp_')}_{number}"


def with_local_ids(sent: bytes, answer: httpx2.Response) -> bytes:
    """The local tier's bytes as the client receives them."""
    sent = sent.replace(b'"resp_local"', json.dumps(local_id(answer)).encode())
    return sent.replace(b'"msg_1"', json.dumps(local_item_id(answer)).encode())


def local_message(answer: httpx2.Response, text: str = "Hello!") -> dict[str, Any]:
    """The message of a local response, as the proxy stores it."""
    message: dict[str, Any] = response_fields(text)["output"][0]
    return message | {"id": local_item_id(answer)}


# Complete responses.


async def test_response_is_routed_and_passes_unchanged(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    response = await create(proxy, unknown_field={"kept": [1, 2]}, instructions="Be brief.")
    sent = json.dumps(response_fields(response_id="resp_local")).encode()
    assert response.content == with_local_ids(sent, response)
    assert local.call.path == "/v1/responses"
    assert local.call.json == {
        "model": LOCAL_MODEL,
        "input": EASY,
        "unknown_field": {"kept": [1, 2]},
        "instructions": "Be brief.",
    }
    hard = await create(proxy, input=[{"role": "user", "content": HARD}])
    assert hard.headers["x-router-target"] == "cloud"
    assert cloud.call.json["input"] == [{"role": "user", "content": HARD}]
    rows = (await proxy.finish(2)).rows
    for row in rows:
        assert (row["endpoint"], row["ending"], row["reason"]) == ("responses", "ok", "score")
        assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
        assert (row["cached_input_tokens"], row["usage_source"]) == (8, "upstream")
        assert row["response"] == "Hello!"
    assert json.loads(rows[0]["prompt"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": EASY},
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": HARD},
        {"type": "message", "role": "user", "content": HARD},
        {"role": "user", "content": [{"type": "input_text", "text": HARD}]},
        {"role": "user", "content": [{"type": "text", "text": HARD}]},
    ],
)
async def test_every_message_format_is_read(proxy: LiveProxy, item: Any) -> None:
    earlier = [
        {"role": "user", "content": EASY},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "something_new", "content": 7},
    ]
    response = await create(proxy, input=[*earlier, item])
    assert response.headers["x-router-target"] == "cloud"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": EASY}, {"content": "x"}]}, "input[1].role"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"instructions": []}, "instructions"),
        ({"model": "auto:speed=1"}, "model"),
    ],
)
async def test_invalid_field_is_named(
    proxy: LiveProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    response = await create(proxy, **fields)
    assert response.status_code == 400
    assert envelope_of(response)["param"] == param
    assert not local.calls
    assert (await proxy.finish()).row["ending"] == "rejected"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [FUNCTION], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [{"type": "custom", "name": "f"}]}, "tools"),
        ({"store": True}, "store"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text.format"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"reasoning": {"effort": "minimal"}}, "reasoning.effort"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0]"),
        ({"input": [{"type": "custom_tool_call_output", "output": "x"}]}, "input[0]"),
        *(
            ({"input": [{"role": "user", "content": [part]}]}, "input[0].content")
            for part in (
                {"type": "input_image", "image_url": "http://x"},
                {"type": "input_file", "file_data": "data:text/plain;base64,AA=="},
                {"type": "refusal", "refusal": "No."},
            )
        ),
        *CLOUD_ONLY,
    ],
    ids=str,
)
async def test_fields_unsupported_by_ollama_go_to_the_cloud(
    start: StartProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    local.native = OLLAMA
    limited = {"upstreams": {"local": {"capabilities": ["tools", "vision"]}}}
    proxy = await start(limited)
    response = await create(proxy, **fields)
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "capability"
    forced = await create(proxy, headers={"x-router-target": "local"}, **fields)
    assert forced.status_code == 400
    assert envelope_of(forced)["code"] == "unsupported_by_local_model"
    assert envelope_of(forced)["param"] == param
    assert not local.calls


@pytest.mark.parametrize(("fields", "param"), CLOUD_ONLY, ids=str)
async def test_cloud_only_fields_go_to_the_cloud_for_any_local_server(
    proxy: LiveProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    """For a server not known to be Ollama, no other limits are assumed."""
    assert (await create(proxy, **fields)).headers["x-router-reason"] == "capability"
    forced = await create(proxy, headers={"x-router-target": "local"}, **fields)
    assert (forced.status_code, envelope_of(forced)["param"]) == (400, param)
    assert not local.calls


async def test_tool_results_require_a_model_with_tools(
    start: StartProxy, local: FakeUpstream
) -> None:
    show = b'{"capabilities":["completion"],"model_info":{"phi3.context_length":131072}}'
    local.native = OLLAMA | {"/api/show": whole(show)}
    answer = await create(await start(), input=[{"role": "user", "content": EASY}, *TOOL_TURNS])
    assert answer.headers["x-router-reason"] == "capability"


async def test_request_is_adapted_to_ollama(start: StartProxy, local: FakeUpstream) -> None:
    local.native = OLLAMA
    proxy = await start()
    items = [
        {"role": "developer", "content": "Be brief.", "id": "x"},
        {"type": "message", "role": "user", "content": 'the "developer" role'},
        *TOOL_TURNS,
    ]
    await create(proxy, input=items, tools=[FUNCTION], tool_choice="none", unknown=1)
    adapted = [items[0] | {"role": "system"}, *items[1:]]
    assert local.call.json == {"model": LOCAL_MODEL, "input": adapted, "unknown": 1}


async def test_supported_fields_stay_with_the_local_tier(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native = OLLAMA
    proxy = await start()
    response = await create(
        proxy,
        tools=[{"type": "function", "name": "f", "parameters": {}}],
        store=False,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": EASY},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
                ],
            }
        ],
    )
    assert response.headers["x-router-target"] == "local"


async def test_failed_tier_falls_back(proxy: LiveProxy, local: FakeUpstream) -> None:
    local.answer = whole(error_json("no"), status=500)
    response = await create(proxy)
    assert response.json()["id"] == "resp_cloud"
    assert response.headers["x-router-fallback"].startswith("local->cloud")


async def test_failed_response_falls_back(proxy: LiveProxy, local: FakeUpstream) -> None:
    error = {"code": "server_error", "message": "out of memory"}
    local.answer = response_answer("", status="failed", error=error)
    assert (await create(proxy)).json()["id"] == "resp_cloud"


# Streams.


async def test_stream_passes_unchanged(proxy: LiveProxy, local: FakeUpstream) -> None:
    events = response_events(response_id="resp_local")
    local.answer = chunked(*events)
    response = await create(proxy, stream=True)
    assert response.content == with_local_ids(b"".join(events), response)
    assert "stream_options" not in local.call.json
    row = (await proxy.finish()).row
    assert (row["ending"], row["streamed"], row["usage_source"]) == ("ok", 1, "upstream")
    assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
    assert row["response"] == "Hello wörld 🙂!"
    assert row["ttft_ms"] is not None


async def test_stream_truncated_at_the_token_limit_succeeds(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*response_events(last="response.incomplete"))
    await create(proxy, stream=True)
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_client_may_disconnect_after_the_last_event(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    """Clients disconnect then: the request still succeeded."""
    local.answer = chunked(*response_events(), Gate())
    body = json.dumps({"model": "auto", "input": EASY, "stream": True}).encode()
    head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    client = await proxy.connect_raw(head + body)
    await client.read_until(b"event: response.completed")
    await client.read_until(b"\n\n")
    await client.leave()
    await local.call.closed()
    assert (await proxy.finish()).row["ending"] == "ok"


@pytest.mark.parametrize(
    "steps",
    [
        [End.RESET],
        [],
        [*response_events()[:2], typed("keepalive", 2)],
        [typed("response.created", 0, response={"id": "r"}), typed("error", 1, message="no")],
        [*response_events()[:2], response_events(last="response.failed")[-1]],
    ],
    ids=["reset", "empty", "begun only", "error", "failed"],
)
async def test_stream_that_fails_before_its_first_output_falls_back(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, steps: Any
) -> None:
    local.answer = chunked(*steps)
    cloud.answer = chunked(*(events := response_events(response_id="resp_cloud")))
    response = await create(proxy, stream=True)
    assert response.content == b"".join(events)
    assert response.headers["x-router-reason"] == "fallback"


@pytest.mark.parametrize("end", [[End.RESET], []], ids=["reset", "no last event"])
async def test_interrupted_stream_ends_with_one_typed_error(
    proxy: LiveProxy, local: FakeUpstream, end: Any
) -> None:
    events = response_events(response_id="resp_local")[:6]
    local.answer = chunked(*events, *end)
    response = await create(proxy, stream=True)
    received = with_local_ids(b"".join(events), response)
    assert response.content.startswith(received)
    last = response.content.removeprefix(received).decode()
    assert last.startswith("event: error\ndata: ")
    assert last.count("\n\n") == 1
    data = json.loads(last.partition("data: ")[2])
    assert (data["type"], data["code"]) == ("error", "upstream_broken")
    assert isinstance(data["sequence_number"], int)
    assert data["error"]["message"] == data["message"]
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_disconnect_releases_the_upstream(proxy: LiveProxy, local: FakeUpstream) -> None:
    local.answer = chunked(*response_events()[:6], Gate())
    body = json.dumps({"model": "auto", "input": EASY, "stream": True}).encode()
    head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    client = await proxy.connect_raw(head + body)
    await client.read_until(b"output_text.delta")
    client.vanish()
    await released(await local.called())
    assert (await proxy.finish()).row["ending"] == "client_gone"


# Continuation.


async def test_cloud_response_is_continued_in_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    first = await create(proxy, input=HARD)
    assert first.json()["id"] == "resp_cloud"
    second = await create(proxy, previous_response_id="resp_cloud")
    assert second.headers["x-router-target"] == "cloud"
    assert second.headers["x-router-reason"] == "sticky"
    assert cloud.calls[-1].json["previous_response_id"] == "resp_cloud"
    forced = await create(
        proxy, headers={"x-router-target": "local"}, previous_response_id="resp_cloud"
    )
    assert forced.status_code == 400
    assert envelope_of(forced)["param"] == "previous_response_id"
    assert not local.calls
    await proxy.stop()
    after = await start()
    answer = await create(after, previous_response_id="resp_cloud")
    assert answer.headers["x-router-reason"] == "sticky"


async def test_local_responses_with_the_same_id_stay_distinct(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    """Ollama draws its ids from a million numbers."""
    first = await create(proxy, input="I am Alice.")
    second = await create(proxy, input="I am Bob.")
    assert first.json()["id"] == local_id(first) != local_id(second)
    await create(proxy, input="Who am I?", previous_response_id=local_id(first))
    assert [item.get("content") for item in local.calls[-1].json["input"]][::2] == [
        "I am Alice.",
        "Who am I?",
    ]


async def test_ids_are_replaced_in_a_stream_but_not_in_its_text(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    words = ("msg_1", "resp_local", '"msg_1"', '{"id":"msg_1"}', '\\"id": "resp_local"', "🙂")
    events = response_events(words, response_id="resp_local", metadata={"my": "resp_local"})
    local.answer = chunked(*(bytes([byte]) for byte in b"".join(events)))
    response = await create(proxy, stream=True)
    received = [
        json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data:")
    ]
    assert "".join(event.get("delta", "") for event in received) == "".join(words)
    assert [event["item_id"] for event in received if "item_id" in event] == [
        local_item_id(response)
    ] * (len(words) + 2)
    assert received[2]["item"]["id"] == local_item_id(response)
    (first, *_, last) = (event["response"] for event in received if "response" in event)
    assert (first["id"], last["id"]) == (local_id(response), local_id(response))
    assert last["metadata"] == {"my": "resp_local"}
    assert last["output"] == [local_message(response, "".join(words))]
    events = response_events(words, response_id=local_id(response), metadata=last["metadata"])
    item_id = local_item_id(response)
    sent = b"".join(events)
    for key in ("id", "item_id"):
        sent = sent.replace(f'"{key}": "msg_1"'.encode(), f'"{key}": "{item_id}"'.encode())
    assert response.content == sent


async def test_response_with_invalid_utf8_is_stored(proxy: LiveProxy, local: FakeUpstream) -> None:
    body = json.dumps(response_fields("Hello, X!", metadata={"x": "X"})).encode()
    local.answer = whole(body.replace(b"X", b"\xff"))
    first = await create(proxy)
    assert first.status_code == 200
    await create(proxy, previous_response_id=local_id(first))
    assert local.calls[-1].json["input"][1] == local_message(first, "Hello, \ufffd!")


async def test_response_without_ids_passes_unchanged(proxy: LiveProxy, local: FakeUpstream) -> None:
    for body in (b'{"output":[7]}', b'{"id":null,"status":"completed"}', b'{"status":"queued"}'):
        local.answer = whole(body)
        assert (await create(proxy)).content == body


CALL = {"type": "function_call", "id": "fc_7", "call_id": "call_7", "name": "f", "arguments": "{}"}
REASONING = {
    "type": "reasoning",
    "id": "rs_resp_7",
    "summary": [{"type": "summary_text", "text": "I think so."}],
    "encrypted_content": "I think so.",
}
ENCRYPTED_REASONING = {
    "type": "reasoning",
    "id": "rs_68af4030",
    "summary": [],
    "encrypted_content": "gAAAAAB+/=",
}
USER = {"role": "user", "content": EASY}


def reference(item_id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": item_id}


def last_input(upstream: FakeUpstream) -> list[Any]:
    items: list[Any] = upstream.calls[-1].json["input"]
    return items


@pytest.mark.parametrize("restart", [False, True])
async def test_item_references_to_local_responses_are_resolved(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, restart: bool
) -> None:
    """Some clients rely on stored responses, such as the Vercel AI SDK."""
    local.native = OLLAMA
    local.answer = response_answer(output=[CALL, response_fields()["output"][0]])
    proxy = await start()
    tools = [{"type": "function", "name": CALL["name"]}]
    first = await create(proxy, tools=tools)
    call, message = (
        CALL | {"id": local_item_id(first, "fc")},
        local_message(first) | {"id": local_item_id(first, number=2)},
    )
    assert first.json()["output"] == [call, message]
    if restart:
        await proxy.stop()
        proxy = await start()
    result = {"type": "function_call_output", "call_id": "call_7", "output": "4"}
    items = [USER, reference(call["id"]), result, reference(message["id"])]
    local_response = await create(proxy, input=items, tools=tools)
    assert local_response.headers["x-router-target"] == "local"
    assert last_input(local) == [USER, call, result, message]
    cloud_response = await create(proxy, input=[*items, {"role": "user", "content": HARD}])
    assert cloud_response.headers["x-router-target"] == "cloud"
    assert last_input(cloud) == [USER, call, result, message, {"role": "user", "content": HARD}]


async def test_other_item_references_pass_to_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.native = OLLAMA
    proxy = await start()
    first = await create(proxy)
    await create(proxy, input=HARD)
    items = [reference(local_item_id(first)), reference("msg_of_the_clouds"), USER]
    both = await create(proxy, input=items, previous_response_id="resp_cloud")
    assert both.headers["x-router-target"] == "cloud"
    assert last_input(cloud) == [local_message(first), *items[1:]]
    assert cloud.calls[-1].json["previous_response_id"] == "resp_cloud"
    await create(proxy, input=items, previous_response_id=local_id(first))
    assert last_input(cloud) == [USER, local_message(first), local_message(first), *items[1:]]
    assert "previous_response_id" not in cloud.calls[-1].json
    missing = await create(proxy, input=[USER, reference(local_item_id(first, number=9))])
    assert (missing.status_code, envelope_of(missing)["param"]) == (404, "input[1].id")


async def test_item_reference_of_another_key_is_rejected(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    first = await create(proxy, headers={"authorization": "Bearer mine"})
    stolen = await create(
        proxy, headers={"authorization": "Bearer theirs"}, input=[reference(local_item_id(first))]
    )
    assert (stolen.status_code, envelope_of(stolen)["param"]) == (404, "input[0].id")


@pytest.mark.parametrize("how", ["continued", "referred to", "sent again", "sent without ids"])
async def test_reasoning_items_stay_with_their_tier(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, how: str
) -> None:
    """A cloud rejects items that it has not encrypted; Ollama accepts foreign items as its own."""
    local.native = OLLAMA
    local.answer = response_answer(output=[REASONING, response_fields()["output"][0]])
    proxy = await start()
    first = await create(proxy)
    reasoning = REASONING | {"id": local_item_id(first, "rs")}
    message = local_message(first) | {"id": local_item_id(first, number=2)}
    fields: dict[str, Any] = {
        "continued": {"previous_response_id": local_id(first), "input": []},
        "referred to": {"input": [USER, reference(reasoning["id"]), reference(message["id"])]},
        "sent again": {"input": [USER, reasoning, message, ENCRYPTED_REASONING]},
        "sent without ids": {
            "input": [USER, without_id(reasoning), message, without_id(ENCRYPTED_REASONING)],
        },
    }[how]
    if how == "sent without ids":
        reasoning = without_id(reasoning)
    await create(proxy, **fields)
    assert last_input(local) == [USER, reasoning, message]
    fields["input"].append({"role": "user", "content": HARD})
    await create(proxy, **fields)
    encrypted = [
        item for item in fields["input"][:-1] if item.get("encrypted_content") == "gAAAAAB+/="
    ]
    assert last_input(cloud) == [USER, message, *encrypted, {"role": "user", "content": HARD}]
    local.answer = whole(error_json("no"), status=500)
    fields["input"].pop()
    await create(proxy, **fields)
    assert last_input(cloud) == [USER, message, *encrypted]  # a fallback


def without_id(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "id"}


async def test_tool_loop_stays_with_the_cloud(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    cloud.answer = response_answer(output=TOOL_TURNS[:1])
    asked = [{"role": "user", "content": EASY}]
    first = await create(proxy, model="cloud", input=asked)
    assert first.headers["x-router-target"] == "cloud"
    second = await create(proxy, input=[*asked, *TOOL_TURNS])
    assert second.headers["x-router-reason"] == "sticky"
    assert (await create(proxy, input=asked)).headers["x-router-target"] == "local"


async def test_unknown_previous_response_goes_to_the_cloud(proxy: LiveProxy) -> None:
    answer = await create(proxy, previous_response_id="resp_of_last_year")
    assert answer.headers["x-router-target"] == "cloud"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("restart", [False, True])
async def test_local_continuation_sends_the_full_history(
    start: StartProxy, local: FakeUpstream, stream: bool, restart: bool
) -> None:
    """Ollama silently ignores `previous_response_id`."""
    if stream:
        local.answer = chunked(*response_events(("Hello!",), response_id="resp_local"))
    proxy = await start()
    first = await create(proxy, stream=stream)
    if restart:
        await proxy.stop()
        proxy = await start()
    local.answer = response_answer("Again.", response_id="resp_second")
    second = await create(proxy, input="And you?", previous_response_id=local_id(first), store=True)
    sent = local.calls[-1].json if len(local.calls) > 1 else None
    assert sent is not None
    assert "previous_response_id" not in sent
    assert sent["input"] == [
        {"role": "user", "content": EASY},
        local_message(first),
        {"role": "user", "content": "And you?"},
    ]
    await create(proxy, input="Third.", previous_response_id=local_id(second))
    assert local.calls[-1].json["input"] == [
        *sent["input"],
        local_message(second, "Again."),
        {"role": "user", "content": "Third."},
    ]


async def test_local_response_can_be_continued_in_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    first = await create(proxy)
    answer = await create(proxy, input=HARD, previous_response_id=local_id(first))
    assert answer.headers["x-router-target"] == "cloud"
    assert len(cloud.call.json["input"]) == 3
    assert "previous_response_id" not in cloud.call.json


@pytest.mark.parametrize(
    ("changes", "fields"),
    [({"storage": {"prompts": "hash"}}, {}), ({}, {"store": False})],
    ids=["prompts are hashed", "store is false"],
)
async def test_response_that_was_not_stored_cannot_be_continued(
    start: StartProxy, local: FakeUpstream, changes: Any, fields: Any
) -> None:
    proxy = await start(changes)
    first = await create(proxy, **fields)
    item = {"type": "item_reference", "id": local_item_id(first)}
    for continuation, param in (
        ({"previous_response_id": local_id(first)}, "previous_response_id"),
        ({"input": [item]}, "input[0].id"),
    ):
        answer = await create(proxy, **continuation)
        assert answer.status_code == 400
        error = envelope_of(answer)
        assert (error["code"], error["param"]) == ("previous_response_not_found", param)
    assert len(local.calls) == 1


async def test_response_of_another_key_is_not_found(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    first = await create(proxy, headers=mine)
    await create(proxy, headers=mine, input=HARD)
    for response_id in (local_id(first), "resp_cloud"):
        stolen = await create(proxy, headers=theirs, previous_response_id=response_id)
        assert stolen.status_code == 400
        assert envelope_of(stolen)["code"] == "previous_response_not_found"
        read = await proxy.client.get(f"/v1/responses/{response_id}", headers=theirs)
        assert (read.status_code, envelope_of(read)["code"]) == (
            404,
            "previous_response_not_found",
        )


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp%5Fcloud",
        "/v1/responses/%72esp_cloud/input_items",
        "/v1/responses/resp_cloud/",
        "/v1/responses/resp_cloud/what_comes_next",
        "/v1/responses%2Fresp_cloud",
        "/v1/responses%5Cresp_cloud",
        "/v1/Responses/resp_cloud",
        "/v1%2Fresponses/resp_cloud",
        "/v1//responses/resp_cloud",
        "/v1/responses/./resp_cloud",
        "/v1/responses/x/../resp_cloud",
        "/v1/x/%2e%2e/responses/resp_cloud",
        "/v1/responses/resp_cloud%20",
        "/v1/responses/resp_cloud%00",
        "/v1/responses/resp_cloud;x",
        "/v1/responses/resp_cloud%3Fx",
        "/v1/responses/resp_cloud.",
        "/v1/responses/RESP_cloud",
    ],
)
async def test_no_path_spelling_returns_the_response_of_another_key(
    start: StartProxy, cloud: FakeUpstream, method: str, path: str
) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    await create(proxy, headers={"authorization": "Bearer mine"}, input=HARD)
    client = await proxy.connect_raw(
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer theirs\r\n"
        "connection: close\r\n\r\n".encode()
    )
    assert b" 404 " in (await client.read_to_end()).split(b"\r\n")[0]
    await client.leave()
    assert len(cloud.calls) == 1


@pytest.mark.parametrize("spelled", ["resp_cloud ", "resp_cloud\0", "resp_cloud;x", "RESP_CLOUD"])
async def test_no_spelling_of_its_id_continues_an_answer_of_another_key(
    start: StartProxy, cloud: FakeUpstream, spelled: str
) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    await create(proxy, headers={"authorization": "Bearer mine"}, input=HARD)
    headers = {"authorization": "Bearer theirs"}
    refused = await create(proxy, headers=headers, previous_response_id=spelled)
    assert refused.status_code == 400
    assert envelope_of(refused)["param"] == "previous_response_id"
    assert len(cloud.calls) == 1


@pytest.mark.parametrize("instructions", ["", " " * (3 * 2**19)], ids=["small", "large"])
@pytest.mark.parametrize("ends", [True, False])
async def test_every_streamed_answer_that_the_client_got_belongs_to_its_key(
    start: StartProxy, cloud: FakeUpstream, instructions: str, ends: bool
) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    events = response_events(response_id="resp_mine", instructions=instructions)
    cloud.answer = chunked(*(events if ends else [*events[:6], End.FIN]))
    await create(proxy, headers=mine, model="cloud", stream=True, instructions=instructions)
    await proxy.rows_of(1)
    cloud.answer = whole(json.dumps(response_fields()).encode())
    follow: dict[str, Any] = {"model": "cloud", "previous_response_id": "resp_mine"}
    assert (await create(proxy, headers=theirs, **follow)).status_code == 400
    assert (await create(proxy, headers=mine, **follow)).status_code == 200


async def test_a_local_answer_that_was_cut_off_cannot_be_continued(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    local.answer = chunked(*response_events()[:6], End.FIN)
    answer = await create(proxy, model="local", stream=True)
    await proxy.rows_of(1)
    refused = await create(proxy, model="local", previous_response_id=local_id(answer))
    assert envelope_of(refused)["code"] == "previous_response_not_found"


@pytest.mark.parametrize("path", ["/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_token_counts_reject_responses_of_another_key(
    start: StartProxy, cloud: FakeUpstream, path: str
) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    await create(proxy, headers={"authorization": "Bearer mine"}, input=HARD)
    theirs = {"authorization": "Bearer theirs"}
    for unread in ({}, {"tools": 7}):
        fields = {"model": "auto", "previous_response_id": "resp_cloud"} | unread
        response = await proxy.client.post(path, json=fields, headers=theirs)
        assert response.status_code == 400
    assert len(cloud.calls) == 1


async def test_with_keys_a_response_of_unverified_owner_is_refused(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    keys = {"server": {"api_keys": ["mine", "theirs"]}}
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    proxy = await start(keys)
    await create(proxy, headers=mine, input=HARD)
    await proxy.stop()
    proxy = await start(keys)
    query_database(proxy, "drop table responses")
    read = await proxy.client.get("/v1/responses/resp_cloud", headers=theirs)
    continued = await create(proxy, headers=theirs, previous_response_id="resp_cloud")
    for refused in (read, continued):
        assert (refused.status_code, envelope_of(refused)["code"]) == (503, "unavailable")
    assert len(cloud.calls) == 1
    await proxy.stop()
    proxy = await start()
    assert (await proxy.client.get("/v1/responses/resp_cloud")).status_code == 200


@pytest.mark.parametrize("tier", ["local", "cloud"])
async def test_response_is_stored_before_its_client_disconnects(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    """Clients disconnect at the last event; the upstream connection may end later."""
    upstream = {"local": local, "cloud": cloud}[tier]
    upstream.answer = chunked(*response_events(response_id="resp_cloud"), Gate())
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    body = json.dumps({"model": tier, "input": EASY, "stream": True}).encode()
    client = await proxy.connect_raw(
        b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer mine\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )
    await client.read_until(b"event: response.completed\ndata: ")
    last = await client.read_until(b"\n\n")
    await client.leave()
    await upstream.call.closed()
    response_id = json.loads(last)["response"]["id"]
    upstream.answer = response_answer(response_id="resp_second")
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    stolen = await create(proxy, headers=theirs, previous_response_id=response_id)
    assert envelope_of(stolen)["code"] == "previous_response_not_found"
    continued = await create(proxy, headers=mine, previous_response_id=response_id)
    assert continued.headers["x-router-target"] == tier
    assert len(upstream.calls[-1].json["input"]) == (3 if tier == "local" else len(EASY))


async def test_local_response_can_be_read_and_deleted(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    first = await create(proxy, input=[{"role": "user", "content": EASY}])
    path = f"/v1/responses/{local_id(first)}"
    assert (await proxy.client.get(path)).content == first.content
    streamed = await proxy.client.get(f"{path}?stream=true")
    assert (streamed.status_code, envelope_of(streamed)["param"]) == (400, "stream")
    items = (await proxy.client.get(path + "/input_items")).json()
    (item,) = items["data"]
    assert (item["type"], item["role"]) == ("message", "user")
    assert item["content"] == [{"type": "input_text", "text": EASY}]
    cancelled = await proxy.client.post(path + "/cancel")
    assert cancelled.status_code == 404
    deleted = await proxy.client.delete(path)
    assert deleted.json() == {"id": local_id(first), "object": "response", "deleted": True}
    assert not cloud.calls
    await proxy.client.get(path)
    assert cloud.call.path == path  # the proxy no longer knows it
    await proxy.stop()
    assert query_database(proxy, "select id from responses") == []


async def test_input_items_are_paginated(proxy: LiveProxy) -> None:
    texts = ("one", "two", EASY)
    answer = await create(proxy, input=[{"role": "user", "content": text} for text in texts])
    path = f"/v1/responses/{local_id(answer)}/input_items"

    async def page(**query: Any) -> dict[str, Any]:
        response = await proxy.client.get(path, params=query)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body | {"texts": [item["content"][0]["text"] for item in body["data"]]}

    assert (await page())["texts"] == [EASY, "two", "one"]
    first = await page(order="asc", limit=2)
    assert (first["texts"], first["has_more"]) == (["one", "two"], True)
    rest = await page(order="asc", limit=2, after=first["last_id"])
    assert (rest["texts"], rest["has_more"]) == ([EASY], False)
    assert (await page(after="none of these"))["data"] == []
    for query, param in (
        ({"limit": 0}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
    ):
        wrong = await proxy.client.get(path, params=query)
        assert (wrong.status_code, envelope_of(wrong)["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_token_counts_use_the_cloud_model(
    proxy: LiveProxy, cloud: FakeUpstream, path: str
) -> None:
    cloud.answer = whole(b'{"input_tokens":3}')
    for model, sent in (("auto", CLOUD_MODEL), ("auto:cost=0.3", CLOUD_MODEL), ("gpt-5", "gpt-5")):
        response = await proxy.client.post(path, json={"model": model, "input": EASY, "new": 1})
        assert response.json() == {"input_tokens": 3}
        assert cloud.calls[-1].json == {"model": sent, "input": EASY, "new": 1}
    first = await create(proxy)  # a local response, which the cloud does not know
    fields = {"model": "auto", "input": "And?", "previous_response_id": local_id(first)}
    await proxy.client.post(path, json=fields)
    assert "previous_response_id" not in cloud.calls[-1].json
    assert len(cloud.calls[-1].json["input"]) == 3


async def test_stored_prompt_needs_no_model(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    body = {"prompt": {"id": "pmpt_1"}, "input": EASY}
    response = await proxy.client.post("/v1/responses", json=body)
    assert (response.status_code, response.headers["x-router-target"]) == (200, "cloud")
    assert cloud.call.json == body
    missing = await proxy.client.post("/v1/responses", json={"input": EASY})
    assert (missing.status_code, envelope_of(missing)["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_cloud"),
        ("GET", "/v1/responses/resp_cloud?include=x&stream=false"),
        ("GET", "/v1/responses/resp_cloud/input_items?limit=2"),
        ("DELETE", "/v1/responses/resp_cloud"),
        ("POST", "/v1/responses/resp_cloud/cancel"),
        ("POST", "/v1/responses/input_tokens"),
    ],
)
async def test_requests_about_cloud_responses_go_to_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream, method: str, path: str
) -> None:
    cloud.answer = whole(b'{"from":"the cloud"}')
    response = await proxy.client.request(method, path)
    assert response.json() == {"from": "the cloud"}
    assert (cloud.call.method, cloud.call.path) == (method, path)
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["target"], row["ending"]) == ("other", "cloud", "ok")


@pytest.mark.parametrize(
    ("method", "part"), [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]
)
async def test_known_cloud_response_is_not_an_unknown_path(
    start: StartProxy, cloud: FakeUpstream, method: str, part: str
) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    await create(proxy, input=HARD)
    response = await proxy.client.request(method, "/v1/responses/resp_cloud" + part)
    assert (response.status_code, response.headers["x-router-target"]) == (200, "cloud")
    unknown = await proxy.client.request(method, "/v1/responses/resp_of_nobody" + part)
    assert (unknown.status_code, envelope_of(unknown)["code"]) == (404, "unknown_url")
    assert len(cloud.calls) == 2


# Background mode and budgets.


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_pending_background_response_costs_nothing(
    proxy: LiveProxy, cloud: FakeUpstream, status: str
) -> None:
    cloud.answer = response_answer(
        "", response_id="resp_cloud", status=status, output=[], usage=None
    )
    response = await create(proxy, model="cloud", background=True)
    assert response.json()["status"] == status
    assert "x-router-cost-usd" not in response.headers
    cloud.answer = response_answer(response_id="resp_cloud")
    assert (await proxy.client.get("/v1/responses/resp_cloud")).json()["status"] == "completed"
    for row in (await proxy.finish(2)).rows:
        assert (row["ending"], row["input_tokens"], row["cost_usd"]) == ("ok", None, None)


async def test_a_stored_prompt_costs_what_its_own_model_costs(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 1000, "total_tokens": 2000}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
    answer |= {"model": "gpt-5.5-pro-2026-04-24", "usage": usage}
    cloud.answer = whole(json.dumps(answer).encode())
    proxy = await start()
    body = json.dumps({"prompt": {"id": "pmpt_1"}, "input": "Hello"}).encode()
    response = await proxy.client.post("/v1/responses", content=body)
    assert response.status_code == 200
    # gpt-5.5-pro: 30 and 180 USD per million tokens.
    assert (await proxy.finish()).row["cost_usd"] == pytest.approx(0.21)


async def test_unknown_models_are_rejected_in_stored_prompts(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    body = json.dumps({"prompt": {"id": "pmpt_1"}, "input": "Hello"}).encode()
    response = await proxy.client.post("/v1/responses", content=body)
    assert (response.status_code, envelope_of(response)["param"]) == (400, "model")
    assert not cloud.calls


UNCOUNTED_TOOLS: list[dict[str, Any]] = [
    {"type": "image_generation"},
    {"type": "image_generation", "quality": "high"},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "shell"},
    {"type": "web_search_of_tomorrow"},
    {"type": "of_tomorrow"},
]
COUNTED_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": {}},
    {"type": "custom", "name": "c"},
    {"type": "namespace", "name": "n", "tools": []},
    {"type": "mcp", "server_label": "s", "server_url": "https://e.org"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "local_shell"},
    {"type": "web_search_preview_2025_03_11"},
    {"type": "web_search_2025_08_26"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
]


@pytest.mark.parametrize("scope", ["key", "global"])
async def test_a_tool_of_unknown_cost_is_refused_with_a_budget(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, scope: str
) -> None:
    keys = [{"key": "mine", "cloud_usd_per_day": 1000.0}]
    changes = {"budget": {"cloud_usd_per_day": 1000}} if scope == "global" else {}
    proxy = await start({"server": {"api_keys": keys}} if scope == "key" else changes)
    mine = {"authorization": "Bearer mine"} if scope == "key" else {}
    function = COUNTED_TOOLS[0]
    for tool in UNCOUNTED_TOOLS:
        refused = await create(proxy, headers=mine, model="cloud", tools=[function, tool])
        assert (refused.status_code, envelope_of(refused)["code"]) == (400, "uncounted_cost")
        assert envelope_of(refused)["param"] == "tools"
    chat = await proxy.chat(model="cloud", headers=mine, tools=[{"type": "of_tomorrow"}])
    assert envelope_of(chat)["code"] == "uncounted_cost"
    assert not cloud.calls
    for tool in COUNTED_TOOLS:
        answered = await create(proxy, headers=mine, model="cloud", tools=[function, tool])
        assert answered.status_code == 200
    tools = UNCOUNTED_TOOLS[:1]
    kept = await create(proxy, headers=mine, model="cloud", tools=tools, tool_choice="none")
    assert kept.status_code == 200


@pytest.mark.parametrize(
    "changes", [{}, {"budget": {"cloud_usd_per_day": 9, "uncounted": "allow"}}]
)
async def test_a_tool_of_unknown_cost_may_be_allowed(
    start: StartProxy, cloud: FakeUpstream, changes: dict[str, Any]
) -> None:
    proxy = await start(changes)
    answered = await create(proxy, model="cloud", tools=UNCOUNTED_TOOLS)
    assert answered.status_code == 200


async def test_key_with_a_budget_may_not_use_background_mode(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    keys = [{"key": "mine", "cloud_usd_per_day": 1.0}, {"key": "free"}]
    proxy = await start({"server": {"api_keys": keys}})
    mine, free = ({"authorization": f"Bearer {key}"} for key in ("mine", "free"))
    refused = await create(proxy, headers=mine, background=True)
    assert (refused.status_code, envelope_of(refused)["param"]) == (400, "background")
    assert envelope_of(refused)["code"] == "uncounted_cost"
    assert not local.calls
    assert not cloud.calls
    assert (await create(proxy, headers=mine, background=False)).status_code == 200
    assert (await create(proxy, headers=free, model="cloud", background=True)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses/resp_cloud", 200),
        ("POST", "/v1/responses/resp_cloud/cancel", 200),
        ("DELETE", "/v1/responses/resp_cloud", 200),
        ("POST", "/v1/batches/batch_1/cancel", 200),
        ("GET", "/v1/files", 200),
        ("POST", "/v1/responses/compact", 429),
        ("POST", "/v1/images/generations", 429),
    ],
)
async def test_exhausted_budget_rejects_only_billed_requests(
    start: StartProxy, cloud: FakeUpstream, method: str, path: str, status: int
) -> None:
    usage = RESPONSES_USAGE | {"output_tokens": 1000}
    cloud.answer = response_answer(response_id="resp_cloud", usage=usage)
    keys = [{"key": "mine", "cloud_usd_per_day": 0.0001}]
    proxy = await start({"server": {"api_keys": keys}})
    mine = {"authorization": "Bearer mine"}
    assert (await create(proxy, headers=mine, model="cloud")).status_code == 200
    response = await proxy.client.request(method, path, headers=mine)
    assert response.status_code == status


# The official client.


@pytest.fixture
def sdk(proxy: LiveProxy) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused", max_retries=0)


async def test_official_client_creates_and_streams_responses(
    sdk: openai.AsyncOpenAI, local: FakeUpstream
) -> None:
    async with sdk:
        response = await sdk.responses.create(model="auto", input=EASY)
        assert response.output_text == "Hello!"
        assert response.usage is not None
        assert response.usage.input_tokens == RESPONSES_USAGE["input_tokens"]
        local.answer = chunked(*response_events())
        text = ""
        stream = await sdk.responses.create(model="auto", input=EASY, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
        assert text == "Hello wörld 🙂!"


async def test_official_client_raises_on_an_interrupted_stream(
    sdk: openai.AsyncOpenAI, local: FakeUpstream
) -> None:
    local.answer = chunked(*response_events()[:6], End.RESET)
    async with sdk:
        stream = await sdk.responses.create(model="auto", input=EASY, stream=True)
        with pytest.raises(openai.APIError, match="interrupted its response"):
            async for _ in stream:
                pass
