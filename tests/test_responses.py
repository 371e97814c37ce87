"""POST /v1/responses: routed like a chat, streamed in typed events, continued by its id.

The cloud remembers its answers. The local tier remembers nothing, so the proxy does it for it.
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
    response_events,
    response_fields,
    typed,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL, LiveProxy, StartProxy, envelope_of, released

OLLAMA = {
    "/api/version": whole(b'{"version":"0.32.6"}'),
    "/api/ps": whole(b'{"models":[]}'),
    "/api/show": whole(
        b'{"capabilities":["completion","tools","vision"],"model_info":{"phi3.context_length":131072}}'
    ),
}


FUNCTION = {"type": "function", "name": "f"}
CALLED = [
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "4"},
]
FILE_PARTS = [
    {"type": "input_file", "file_id": "file_1"},
    {"type": "input_image", "file_id": "file_1"},
]
ONLY_IN_THE_CLOUD: list[tuple[dict[str, Any], str]] = [
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


def answered(text: str = "Hello!", **fields: Any) -> list[Any]:
    return whole(json.dumps(response_fields(text, **fields)).encode())


@pytest.fixture(autouse=True)
def upstreams(local: FakeUpstream, cloud: FakeUpstream) -> None:
    local.answer = answered(response_id="resp_local")
    cloud.answer = answered(response_id="resp_cloud")


async def ask(proxy: LiveProxy, headers: Any = None, **fields: Any) -> httpx2.Response:
    body = {"model": "auto", "input": EASY} | fields
    response: httpx2.Response = await proxy.client.post("/v1/responses", json=body, headers=headers)
    return response


# Whole answers.


async def test_it_is_routed_and_passes_untouched(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    response = await ask(proxy, unknown_field={"kept": [1, 2]}, instructions="Be brief.")
    assert response.json() == response_fields(response_id="resp_local")
    assert local.call.path == "/v1/responses"
    assert local.call.json == {
        "model": LOCAL_MODEL,
        "input": EASY,
        "unknown_field": {"kept": [1, 2]},
        "instructions": "Be brief.",
    }
    hard = await ask(proxy, input=[{"role": "user", "content": HARD}])
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
async def test_every_form_of_a_message_is_read(proxy: LiveProxy, item: Any) -> None:
    earlier = [
        {"role": "user", "content": EASY},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "something_new", "content": 7},
    ]
    response = await ask(proxy, input=[*earlier, item])
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
async def test_a_wrong_field_is_named(
    proxy: LiveProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    response = await ask(proxy, **fields)
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
        *ONLY_IN_THE_CLOUD,
    ],
    ids=str,
)
async def test_what_the_local_server_would_drop_goes_to_the_cloud(
    start: StartProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    local.native = OLLAMA
    limited = {"upstreams": {"local": {"capabilities": ["tools", "vision"]}}}
    proxy = await start(limited)
    response = await ask(proxy, **fields)
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "capability"
    forced = await ask(proxy, headers={"x-router-target": "local"}, **fields)
    assert forced.status_code == 400
    assert envelope_of(forced)["code"] == "unsupported_by_local_model"
    assert envelope_of(forced)["param"] == param
    assert not local.calls


@pytest.mark.parametrize(("fields", "param"), ONLY_IN_THE_CLOUD, ids=str)
async def test_no_local_server_has_what_the_cloud_remembers_and_runs(
    proxy: LiveProxy, local: FakeUpstream, fields: Any, param: str
) -> None:
    """Of one that is not Ollama, or not known to be, nothing else is presumed."""
    assert (await ask(proxy, **fields)).headers["x-router-reason"] == "capability"
    forced = await ask(proxy, headers={"x-router-target": "local"}, **fields)
    assert (forced.status_code, envelope_of(forced)["param"]) == (400, param)
    assert not local.calls


async def test_results_of_tools_need_a_model_with_tools(
    start: StartProxy, local: FakeUpstream
) -> None:
    show = b'{"capabilities":["completion"],"model_info":{"phi3.context_length":131072}}'
    local.native = OLLAMA | {"/api/show": whole(show)}
    answer = await ask(await start(), input=[{"role": "user", "content": EASY}, *CALLED])
    assert answer.headers["x-router-reason"] == "capability"


async def test_ollama_gets_what_it_understands(start: StartProxy, local: FakeUpstream) -> None:
    local.native = OLLAMA
    proxy = await start()
    said = [
        {"role": "developer", "content": "Be brief.", "id": "x"},
        {"type": "message", "role": "user", "content": 'the "developer" role'},
        *CALLED,
    ]
    await ask(proxy, input=said, tools=[FUNCTION], tool_choice="none", unknown=1)
    mended = [said[0] | {"role": "system"}, *said[1:]]
    assert local.call.json == {"model": LOCAL_MODEL, "input": mended, "unknown": 1}


async def test_what_the_local_server_can_do_may_stay(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native = OLLAMA
    proxy = await start()
    response = await ask(
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


async def test_a_failing_tier_is_replaced(proxy: LiveProxy, local: FakeUpstream) -> None:
    local.answer = whole(error_json("no"), status=500)
    response = await ask(proxy)
    assert response.json()["id"] == "resp_cloud"
    assert response.headers["x-router-fallback"].startswith("local→cloud")


async def test_an_answer_that_failed_is_no_answer(proxy: LiveProxy, local: FakeUpstream) -> None:
    error = {"code": "server_error", "message": "out of memory"}
    local.answer = answered("", status="failed", error=error)
    assert (await ask(proxy)).json()["id"] == "resp_cloud"


# Streams.


async def test_a_stream_passes_untouched(proxy: LiveProxy, local: FakeUpstream) -> None:
    events = response_events()
    local.answer = chunked(*events)
    response = await ask(proxy, stream=True)
    assert response.content == b"".join(events)
    assert "stream_options" not in local.call.json
    row = (await proxy.finish()).row
    assert (row["ending"], row["streamed"], row["usage_source"]) == ("ok", 1, "upstream")
    assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
    assert row["response"] == "Hello wörld 🙂!"
    assert row["ttft_ms"] is not None


async def test_a_stream_that_ends_early_by_limit_is_an_answer(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*response_events(last="response.incomplete"))
    await ask(proxy, stream=True)
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_a_stream_is_over_with_its_last_event(proxy: LiveProxy, local: FakeUpstream) -> None:
    """Clients hang up then; that is no broken request."""
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
async def test_a_stream_that_fails_before_it_speaks_is_replaced(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, steps: Any
) -> None:
    local.answer = chunked(*steps)
    cloud.answer = chunked(*(events := response_events(response_id="resp_cloud")))
    response = await ask(proxy, stream=True)
    assert response.content == b"".join(events)
    assert response.headers["x-router-reason"] == "fallback"


@pytest.mark.parametrize("end", [[End.RESET], []], ids=["reset", "no last event"])
async def test_a_stream_that_breaks_ends_in_one_typed_error(
    proxy: LiveProxy, local: FakeUpstream, end: Any
) -> None:
    begun = response_events()[:6]
    local.answer = chunked(*begun, *end)
    response = await ask(proxy, stream=True)
    assert response.content.startswith(b"".join(begun))
    last = response.content.removeprefix(b"".join(begun)).decode()
    assert last.startswith("event: error\ndata: ")
    assert last.count("\n\n") == 1
    data = json.loads(last.partition("data: ")[2])
    assert (data["type"], data["code"]) == ("error", "upstream_broken")
    assert isinstance(data["sequence_number"], int)
    assert data["error"]["message"] == data["message"]
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_a_client_that_leaves_takes_its_upstream_along(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
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


# Continued.


async def test_the_clouds_answers_are_continued_by_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    first = await ask(proxy, input=HARD)
    assert first.json()["id"] == "resp_cloud"
    second = await ask(proxy, previous_response_id="resp_cloud")
    assert second.headers["x-router-target"] == "cloud"
    assert second.headers["x-router-reason"] == "sticky"
    assert cloud.calls[-1].json["previous_response_id"] == "resp_cloud"
    forced = await ask(
        proxy, headers={"x-router-target": "local"}, previous_response_id="resp_cloud"
    )
    assert forced.status_code == 400
    assert envelope_of(forced)["param"] == "previous_response_id"
    assert not local.calls
    await proxy.stop()
    after = await start()
    answer = await ask(after, previous_response_id="resp_cloud")
    assert answer.headers["x-router-reason"] == "sticky"


async def test_a_loop_of_tools_stays_with_the_cloud(proxy: LiveProxy) -> None:
    asked = [{"role": "user", "content": EASY}]
    first = await ask(proxy, model="cloud", input=asked)
    assert first.headers["x-router-target"] == "cloud"
    second = await ask(proxy, input=[*asked, *CALLED])
    assert second.headers["x-router-reason"] == "sticky"
    assert (await ask(proxy, input=asked)).headers["x-router-target"] == "local"


async def test_an_answer_from_before_our_time_is_the_clouds(proxy: LiveProxy) -> None:
    answer = await ask(proxy, previous_response_id="resp_of_last_year")
    assert answer.headers["x-router-target"] == "cloud"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_local_answer_is_continued_with_all_that_went_before(
    start: StartProxy, local: FakeUpstream, stream: bool, restart: bool
) -> None:
    """Ollama ignores `previous_response_id` without a word."""
    if stream:
        local.answer = chunked(*response_events(("Hello!",), response_id="resp_local"))
    proxy = await start()
    await ask(proxy, stream=stream)
    if restart:
        await proxy.stop()
        proxy = await start()
    local.answer = answered("Again.", response_id="resp_second")
    await ask(proxy, input="And you?", previous_response_id="resp_local", store=True)
    sent = local.calls[-1].json if len(local.calls) > 1 else None
    assert sent is not None
    assert "previous_response_id" not in sent
    assert sent["input"] == [
        {"role": "user", "content": EASY},
        response_fields()["output"][0],
        {"role": "user", "content": "And you?"},
    ]
    await ask(proxy, input="Third.", previous_response_id="resp_second")
    assert [item.get("content") for item in local.calls[-1].json["input"]] == [
        EASY,
        response_fields()["output"][0]["content"],
        "And you?",
        response_fields("Again.")["output"][0]["content"],
        "Third.",
    ]


async def test_a_local_answers_continuation_may_need_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    await ask(proxy)
    answer = await ask(proxy, input=HARD, previous_response_id="resp_local")
    assert answer.headers["x-router-target"] == "cloud"
    assert len(cloud.call.json["input"]) == 3
    assert "previous_response_id" not in cloud.call.json


@pytest.mark.parametrize(
    ("changes", "fields"),
    [({"storage": {"prompts": "hash"}}, {}), ({}, {"store": False})],
    ids=["prompts are not kept", "the client said so"],
)
async def test_what_was_not_kept_cannot_be_continued(
    start: StartProxy, local: FakeUpstream, changes: Any, fields: Any
) -> None:
    proxy = await start(changes)
    await ask(proxy, **fields)
    answer = await ask(proxy, previous_response_id="resp_local")
    assert answer.status_code == 400
    error = envelope_of(answer)
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"
    assert len(local.calls) == 1


async def test_an_answer_belongs_to_its_key(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    await ask(proxy, headers=mine)
    await ask(proxy, headers=mine, input=HARD)
    for response_id in ("resp_local", "resp_cloud"):
        stolen = await ask(proxy, headers=theirs, previous_response_id=response_id)
        assert stolen.status_code == 400
        assert envelope_of(stolen)["code"] == "previous_response_not_found"
        read = await proxy.client.get(f"/v1/responses/{response_id}", headers=theirs)
        assert (read.status_code, envelope_of(read)["code"]) == (
            404,
            "previous_response_not_found",
        )


async def test_a_local_answer_can_be_read_and_deleted(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    await ask(proxy, input=[{"role": "user", "content": EASY}])
    got = await proxy.client.get("/v1/responses/resp_local")
    assert got.json() == response_fields(response_id="resp_local")
    streamed = await proxy.client.get("/v1/responses/resp_local?stream=true")
    assert (streamed.status_code, envelope_of(streamed)["param"]) == (400, "stream")
    items = (await proxy.client.get("/v1/responses/resp_local/input_items")).json()
    (item,) = items["data"]
    assert (item["type"], item["role"]) == ("message", "user")
    assert item["content"] == [{"type": "input_text", "text": EASY}]
    cancelled = await proxy.client.post("/v1/responses/resp_local/cancel")
    assert cancelled.status_code == 404
    deleted = await proxy.client.delete("/v1/responses/resp_local")
    assert deleted.json() == {"id": "resp_local", "object": "response", "deleted": True}
    assert not cloud.calls
    await proxy.client.get("/v1/responses/resp_local")
    assert cloud.call.path == "/v1/responses/resp_local"  # nobody here knows it any more
    await proxy.stop()
    path = proxy.proxy.config.storage.url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("select id from responses").fetchall() == []
    finally:
        connection.close()


async def test_input_items_come_in_pages(proxy: LiveProxy) -> None:
    texts = ("one", "two", EASY)
    await ask(proxy, input=[{"role": "user", "content": text} for text in texts])

    async def page(**query: Any) -> dict[str, Any]:
        got = await proxy.client.get("/v1/responses/resp_local/input_items", params=query)
        assert got.status_code == 200, got.text
        shown: dict[str, Any] = got.json()
        return shown | {"texts": [item["content"][0]["text"] for item in shown["data"]]}

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
        wrong = await proxy.client.get("/v1/responses/resp_local/input_items", params=query)
        assert (wrong.status_code, envelope_of(wrong)["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_what_asks_about_a_request_names_the_clouds_model(
    proxy: LiveProxy, cloud: FakeUpstream, path: str
) -> None:
    cloud.answer = whole(b'{"input_tokens":3}')
    for model, sent in (("auto", CLOUD_MODEL), ("auto:cost=0.3", CLOUD_MODEL), ("gpt-5", "gpt-5")):
        response = await proxy.client.post(path, json={"model": model, "input": EASY, "new": 1})
        assert response.json() == {"input_tokens": 3}
        assert cloud.calls[-1].json == {"model": sent, "input": EASY, "new": 1}
    await ask(proxy)  # answered locally: of it the cloud knows nothing
    fields = {"model": "auto", "input": "And?", "previous_response_id": "resp_local"}
    await proxy.client.post(path, json=fields)
    assert "previous_response_id" not in cloud.calls[-1].json
    assert len(cloud.calls[-1].json["input"]) == 3


async def test_a_stored_prompt_may_choose_its_model(proxy: LiveProxy, cloud: FakeUpstream) -> None:
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
async def test_all_about_the_clouds_answers_goes_there(
    proxy: LiveProxy, cloud: FakeUpstream, method: str, path: str
) -> None:
    cloud.answer = whole(b'{"from":"the cloud"}')
    response = await proxy.client.request(method, path)
    assert response.json() == {"from": "the cloud"}
    assert (cloud.call.method, cloud.call.path) == (method, path)
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["target"], row["ending"]) == ("other", "cloud", "ok")


# The official client.


@pytest.fixture
def sdk(proxy: LiveProxy) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused", max_retries=0)


async def test_the_official_client(sdk: openai.AsyncOpenAI, local: FakeUpstream) -> None:
    async with sdk:
        response = await sdk.responses.create(model="auto", input=EASY)
        assert response.output_text == "Hello!"
        assert response.usage is not None
        assert response.usage.input_tokens == RESPONSES_USAGE["input_tokens"]
        local.answer = chunked(*response_events())
        said = ""
        stream = await sdk.responses.create(model="auto", input=EASY, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                said += event.delta
        assert said == "Hello wörld 🙂!"


async def test_the_official_client_raises_what_breaks_a_stream(
    sdk: openai.AsyncOpenAI, local: FakeUpstream
) -> None:
    local.answer = chunked(*response_events()[:6], End.RESET)
    async with sdk:
        stream = await sdk.responses.create(model="auto", input=EASY, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass
