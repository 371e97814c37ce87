"""The other endpoints: completions, embeddings, pass-through, feedback."""

import json
import re
import sqlite3
from typing import Any

import httpx2
import openai
import pytest

from fakes import (
    DONE,
    EASY,
    HARD,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunked,
    error_json,
    event,
    head,
    whole,
)
from live import (
    CLOUD_KEY,
    CLOUD_MODEL,
    LOCAL_MODEL,
    LiveProxy,
    StartProxy,
    chat_body,
    envelope_of,
    released,
)

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def completion(text: str = " world", finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    kind = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return {**kind, "choices": [choice], **fields}


# Completions.


async def complete(proxy: LiveProxy, headers: Any = None, **fields: Any) -> httpx2.Response:
    body = {"model": "auto", "prompt": EASY} | fields
    response: httpx2.Response = await proxy.client.post(
        "/v1/completions", json=body, headers=headers
    )
    return response


async def test_completion_is_routed_and_passes_unchanged(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    answer = json.dumps(completion(usage=USAGE)).encode()
    local.answer = cloud.answer = whole(answer)
    response = await complete(proxy, suffix="!", unknown=1)
    assert response.content == answer
    assert local.call.path == "/v1/completions"
    assert local.call.json == {"model": LOCAL_MODEL, "prompt": EASY, "suffix": "!", "unknown": 1}
    hard = await complete(proxy, prompt=HARD)
    assert hard.headers["x-router-target"] == "cloud"
    first, _ = (await proxy.finish(2)).rows
    assert (first["endpoint"], first["response"]) == ("completions", " world")
    assert (first["input_tokens"], first["output_tokens"]) == (5, 7)


async def test_chat_fields_of_a_completion_pass_unchanged(
    start: StartProxy, local: FakeUpstream
) -> None:
    """Chat fields have no meaning in a completion, not even for Ollama."""
    local.native = {"/api/version": whole(b'{"version":"0.32.6"}')}
    response = await complete(await start(), messages=None, max_completion_tokens=3)
    assert response.status_code == 200
    assert local.call.json["messages"] is None
    assert local.call.json["max_completion_tokens"] == 3


@pytest.mark.parametrize("include_usage", [True, False])
async def test_streamed_completion_returns_usage_if_requested(
    proxy: LiveProxy, local: FakeUpstream, include_usage: bool
) -> None:
    words = [event(completion(word, None)) for word in (" wor", "ld")]
    usage = event(completion(usage=USAGE) | {"choices": []})
    local.answer = chunked(*words, event(completion("", "stop")), usage, DONE)
    response = await complete(proxy, stream=True, stream_options={"include_usage": include_usage})
    assert (b'"total_tokens"' in response.content) == include_usage
    assert response.content.endswith(DONE)
    row = (await proxy.finish()).row
    assert (row["response"], row["output_tokens"], row["ending"]) == (" world", 7, "ok")
    assert row["ttft_ms"] is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"best_of": 3},
        {"echo": True},
        {"logit_bias": {"50256": -100}},
        {"prompt": [EASY, EASY]},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
    ],
    ids=str,
)
async def test_completion_fields_unsupported_by_ollama_go_to_the_cloud(
    start: StartProxy, local: FakeUpstream, fields: Any
) -> None:
    local.native = {"/api/version": whole(b'{"version":"0.32.6"}')}
    response = await complete(await start(), **fields)
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "capability"


async def test_cloud_without_completions_falls_back_to_the_local_tier(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    refused = error_json("This is a chat model and not supported in the v1/completions endpoint.")
    local.answer, cloud.answer = (
        whole(json.dumps(completion()).encode()),
        whole(refused, status=404),
    )
    answer = await complete(proxy, prompt=HARD)
    assert (answer.status_code, answer.json()["choices"][0]["text"]) == (200, " world")
    assert answer.headers["x-router-fallback"] == "cloud->local:refused"
    forced = await complete(proxy, model="cloud")
    assert (forced.status_code, forced.content) == (404, refused)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"prompt": {}}, "prompt"), ({"prompt": [{}]}, "prompt[0]"), ({"model": ""}, "model")],
)
async def test_invalid_completion_field_is_named(proxy: LiveProxy, fields: Any, param: str) -> None:
    response = await complete(proxy, **fields)
    assert (response.status_code, envelope_of(response)["param"]) == (400, param)


# Embeddings.

VECTORS = json.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
        "model": "m",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
).encode()
MODELS = whole(b'{"object":"list","data":[{"id":"phi3:latest"},{"id":"nomic-embed-text:latest"}]}')


@pytest.fixture
def embedders(local: FakeUpstream, cloud: FakeUpstream) -> None:
    local.models = MODELS
    local.answer = cloud.answer = whole(VECTORS)


async def embed(proxy: LiveProxy, headers: Any = None, **fields: Any) -> httpx2.Response:
    body = {"model": "text-embedding-3-small", "input": "x"} | fields
    response: httpx2.Response = await proxy.client.post(
        "/v1/embeddings", json=body, headers=headers
    )
    return response


@pytest.mark.usefixtures("embedders")
@pytest.mark.parametrize(
    ("model", "target", "sent"),
    [
        ("text-embedding-3-small", "cloud", "text-embedding-3-small"),
        ("nomic-embed-text", "local", "nomic-embed-text:latest"),  # as the server lists it
        ("library/Nomic-Embed-Text", "local", "nomic-embed-text:latest"),
        ("nomic-embed-text:latest", "local", "nomic-embed-text:latest"),
        ("local", "local", LOCAL_MODEL),
        ("cloud", "cloud", CLOUD_MODEL),
        (CLOUD_MODEL, "cloud", CLOUD_MODEL),
    ],
)
async def test_embeddings_go_to_the_tier_that_serves_the_model(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, model: str, target: str, sent: str
) -> None:
    proxy = await start({"pricing": None})
    response = await embed(proxy, model=model, dimensions=2)
    assert response.content == VECTORS
    call = {"local": local, "cloud": cloud}[target].call
    assert call.path == "/v1/embeddings"
    assert call.json == {"model": sent, "input": "x", "dimensions": 2}
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["target"], row["reason"]) == ("embeddings", target, "forced")
    assert (row["input_tokens"], row["output_tokens"]) == (8, 0)
    assert row["score"] is None
    # Without a price list the embedding model has no price; that of a chat model does not apply.
    usd = {"text-embedding-3-small": None, CLOUD_MODEL: 1.2e-6}.get(sent, 0)
    assert (row["cost_usd"], row["cloud_cost_usd"]) == (usd, usd or None)
    assert row["saved_usd"] == (0 if usd else None)


@pytest.mark.usefixtures("embedders")
async def test_embeddings_require_a_model_name(start: StartProxy) -> None:
    proxy = await start()
    response = await embed(proxy, model="auto")
    assert (response.status_code, envelope_of(response)["param"]) == (400, "model")
    assert "needs the name of a model" in envelope_of(response)["message"]


@pytest.mark.usefixtures("embedders")
async def test_rejecting_unknown_models_still_accepts_local_models(
    start: StartProxy,
) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    assert (await embed(proxy, model="nomic-embed-text")).status_code == 200
    for headers in ({}, {"x-router-target": "cloud"}):
        refused = await embed(proxy, headers=headers)
        assert (refused.status_code, envelope_of(refused)["code"]) == (404, "model_not_found")


@pytest.mark.usefixtures("embedders")
@pytest.mark.parametrize(
    ("target", "model", "sent"),
    [
        ("local", "bge-m3", "bge-m3"),
        ("local", "local", LOCAL_MODEL),
        ("cloud", "cloud", CLOUD_MODEL),
        ("cloud", "text-embedding-3-small", "text-embedding-3-small"),
    ],
)
async def test_forced_tier_embeds_with_the_requested_model(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, target: str, model: str, sent: str
) -> None:
    await embed(await start(), model=model, headers={"x-router-target": target})
    assert {"local": local, "cloud": cloud}[target].call.json["model"] == sent


@pytest.mark.usefixtures("embedders")
async def test_other_local_models_are_called_by_name(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Models that GET /v1/models lists as local are local, with their own capabilities."""
    capabilities = {"completion": ["completion"], "eyes": ["completion", "vision"]}
    local.native["/api/version"] = whole(b'{"version":"0.33.0"}')
    local.native["/api/show"] = lambda call: whole(
        json.dumps(
            {
                "capabilities": capabilities[
                    "eyes" if call.json["model"] == "llava:latest" else "completion"
                ]
            }
        ).encode()
    )
    local.models = whole(b'{"object":"list","data":[{"id":"phi3:latest"},{"id":"llava:latest"}]}')
    local.answer = whole(answer_json())
    proxy = await start({"routing": {"unknown_models": "reject"}})
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": EASY}, image]}]
    response_with_image = await proxy.chat(model="llava", messages=messages)
    assert (response_with_image.status_code, response_with_image.headers["x-router-reason"]) == (
        200,
        "forced",
    )
    assert local.calls[-1].json["model"] == "llava:latest"
    assert (await proxy.chat(model="phi3", messages=messages)).status_code == 400
    named = {"model": "llava:latest", "text": EASY}
    for forced, model in (("cloud", CLOUD_MODEL), ("local", "llava:latest"), ("auto", LOCAL_MODEL)):
        response = await proxy.chat(headers={"x-router-target": forced}, **named)
        assert response.headers["x-router-model"] == model


@pytest.mark.usefixtures("embedders")
async def test_official_client_creates_embeddings(start: StartProxy) -> None:
    proxy = await start()
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused") as sdk:
        answer = await sdk.embeddings.create(
            model="nomic-embed-text", input="x", encoding_format="float"
        )
        assert answer.data[0].embedding == [0.1, 0.2]


# Pass-through.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_other_paths_pass_through_to_the_cloud(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, method: str
) -> None:
    cloud.answer = whole(b"\x00\xffbytes", status=201, content_type="application/octet-stream")
    headers = {"authorization": "Bearer mine", "openai-mine": "1", "content-type": "audio/wav"}
    content = b"\x01\xfe" if method != "GET" else None
    response = await proxy.client.request(
        method, "/v1/files/a%2Fb?limit=2&after=x", content=content, headers=headers
    )
    assert (response.status_code, response.content) == (201, b"\x00\xffbytes")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == "7"
    assert response.headers["x-router-target"] == "cloud"
    call = cloud.call
    assert (call.method, call.path) == (method, "/v1/files/a%2Fb?limit=2&after=x")
    assert call.body == (content or b"")
    assert call.header("authorization") == f"Bearer {CLOUD_KEY}"
    assert call.header("openai-mine") == "1"
    assert call.header("content-type") == "audio/wav"
    assert not local.calls
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["target"], row["status"]) == ("other", "cloud", 201)
    assert (row["ending"], row["prompt"], row["cost_usd"]) == ("ok", None, None)


async def test_fine_tuned_model_is_deleted_in_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    assert (await proxy.client.delete("/v1/models/ft:gpt-4o-mini:mine::1")).status_code == 200
    assert (cloud.call.method, cloud.call.path) == ("DELETE", "/v1/models/ft:gpt-4o-mini:mine::1")


async def test_upload_of_any_size_is_streamed_through(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    """The upload is not buffered, so `server.max_body_mb` does not apply."""
    proxy = await start({"server": {"max_body_mb": 0.01}})
    content = bytes(range(256)) * 4096
    response = await proxy.client.post("/v1/files", content=content)
    assert response.status_code == 200
    assert cloud.call.body == content


async def test_multipart_upload_of_the_official_client_passes(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(b'{"id":"file-1","object":"file","bytes":5,"filename":"a.jsonl"}')
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused") as sdk:
        file = await sdk.files.create(file=("a.jsonl", b"12345"), purpose="batch")
    assert file.id == "file-1"
    assert b'filename="a.jsonl"' in cloud.call.body
    assert "multipart/form-data; boundary=" in str(cloud.call.header("content-type"))


async def test_download_is_streamed(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    gate = Gate()
    cloud.answer = chunked(b"first", gate, b"second", content_type="audio/mpeg")
    async with proxy.client.stream("POST", "/v1/audio/speech", content=b"{}") as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"first"
        gate.open()
        assert b"".join([piece async for piece in pieces]) == b"second"


async def test_interrupted_download_is_cut_off(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    """The client would take an error in the body for a part of the file."""
    cloud.answer = [head(headers=[("content-length", "100")]) + b"half", End.RESET]
    with pytest.raises(httpx2.RemoteProtocolError):
        await proxy.client.get("/v1/files/f/content")
    row = (await proxy.finish()).row
    assert (row["ending"], row["endpoint"]) == ("upstream_error", "other")


async def test_pass_through_times_out(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = [Gate()]
    proxy = await start({"server": {"request_timeout_seconds": 0.1}})
    response = await proxy.client.get("/v1/files")
    assert (response.status_code, envelope_of(response)["code"]) == (504, "total_timeout")
    assert (await proxy.finish()).row["ending"] == "timeout"


async def test_pass_through_error_passes_unchanged(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(b'{"error":{"message":"No such file"}}', status=404)
    response = await proxy.client.get("/v1/files/none")
    assert (response.status_code, response.json()["error"]["message"]) == (404, "No such file")
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_pass_through_hides_a_rejected_upstream_key(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json(f"Incorrect API key provided: {CLOUD_KEY}."), status=401)
    response = await proxy.client.get("/v1/files")
    assert (response.status_code, envelope_of(response)["code"]) == (502, "upstream_auth")
    assert CLOUD_KEY not in response.text


async def test_disconnect_during_a_download_releases_the_upstream(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = chunked(b"first", Gate(), content_type="audio/mpeg")
    client = await proxy.connect_raw(b"GET /v1/files/f/content HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await client.read_until(b"first")
    client.vanish()
    await released(await cloud.called())
    assert (await proxy.finish()).row["ending"] == "client_gone"


async def test_disconnect_during_an_upload_releases_the_upstream(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    upload = (
        b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n"
        b"content-type: multipart/form-data; boundary=x\r\n\r\n" + b"x" * 1000
    )
    client = await proxy.connect_raw(upload)
    await proxy.settled(0, in_flight=1)
    client.vanish()
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "client_gone"


@pytest.mark.parametrize(
    "path", ["/v1/../secret", "/v1/files/../../secret", "/v1/%2e%2e/secret", "/v1/a%5c..%5cb"]
)
async def test_path_traversal_out_of_v1_is_rejected(
    proxy: LiveProxy, cloud: FakeUpstream, path: str
) -> None:
    client = await proxy.connect_raw(
        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    )
    assert b" 404 " in (await client.read_to_end()).split(b"\r\n")[0]
    await client.leave()
    assert not cloud.calls


async def raw(proxy: LiveProxy, line: str, body: bytes = b"", key: str = "mine") -> bytes:
    """The raw response to a request line that no client library sends unchanged."""
    head = (
        f"{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    client = await proxy.connect_raw(head.encode() + body)
    answer = await client.read_to_end()
    await client.leave()
    return answer


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/%76%31/files/", "/v1/files"),
        ("/v1/files/%66ile_1?after=a%2Bb/", "/v1/files/file_1?after=a%2Bb/"),
        ("/v1/files/a%2fb-c_d~e", "/v1/files/a%2Fb-c_d~e"),
        ("/v1/files/(1):a=b,c@d", "/v1/files/(1):a=b,c@d"),
        ("/v1/chat/completions;x", None),
        ("/v1/chat/completions%3Bx", None),
        ("/v1/chat/completions.", None),
        ("/v1/chat/completions..", None),
        ("/v1/chat/completions%2E", None),
        ("/v1/chat/completions%20", None),
        ("/v1/chat/completions%00", None),
        ("/v1/chat/completions%0d%0a", None),
        ("/v1/chat/completions%09", None),
        ("/v1/chat/completions%7f", None),
        ("/v1/chat/completions%3F", None),
        ("/v1/chat/completions%23", None),
        ("/v1/chat/completions%2520", None),
        ("/v1/chat/%e2%80%8bcompletions", None),
        ("/v1/chat;x/completions", None),
        ("/v1/chat%20/completions", None),
        ("/v1/files/%c3%a9", None),
        ("/v1/files/%ff", None),
        ("/v1/responses/resp_1;x", None),
        ("/v1/responses/resp_1%20/cancel", None),
        ("//v1/files", None),
        ("/v1/files//x", None),
        ("/v1/./files", None),
        ("/v1/files/.", None),
        ("/v1/files/%2e%2E/x", None),
        ("/v1/files%2f.%2fx", None),
        ("/v1%2Ffiles", None),
        ("/v1/Chat/Completions", None),
        ("/v1/chat/./completions", None),
        ("/v1/responses/.", None),
        ("/v1/x%2f..%2fresponses", None),
    ],
)
async def test_path_is_normalized_or_rejected(
    proxy: LiveProxy, cloud: FakeUpstream, path: str, sent: str | None
) -> None:
    answer = await raw(proxy, f"POST {path}", chat_body(model="cloud"))
    assert [call.path for call in cloud.calls] == ([sent] if sent else [])
    if sent is None:
        assert b" 404 " in answer.split(b"\r\n")[0]
        assert b'"unknown_url"' in answer


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1//chat/completions"])
async def test_routed_path_matches_after_normalization(
    proxy: LiveProxy, local: FakeUpstream, path: str
) -> None:
    await raw(proxy, f"POST {path}", chat_body())
    assert local.call.path == "/v1/chat/completions"
    assert (await proxy.finish()).row["endpoint"] == "chat.completions"


async def test_rejecting_unknown_models_rejects_unknown_paths(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    response = await proxy.client.get("/v1/files")
    assert (response.status_code, envelope_of(response)["code"]) == (404, "unknown_url")
    assert not cloud.calls


async def test_pass_through_requires_a_key(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start({"server": {"api_keys": ["mine"]}})
    assert (await proxy.client.get("/v1/files")).status_code == 401
    assert not cloud.calls


# Feedback.


async def rate(proxy: LiveProxy, headers: Any = None, **fields: Any) -> httpx2.Response:
    response: httpx2.Response = await proxy.client.post(
        "/v1/feedback", json=fields, headers=headers
    )
    return response


def feedback_of(proxy: LiveProxy) -> list[tuple[Any, ...]]:
    path = proxy.proxy.config.storage.url.path
    connection = sqlite3.connect(path)
    try:
        return connection.execute("select request_id, rating, comment from feedback").fetchall()
    finally:
        connection.close()


async def test_feedback_is_stored_with_its_request_and_counted_once(proxy: LiveProxy) -> None:
    request_id = (await proxy.chat()).headers["x-request-id"]
    response = await rate(proxy, request_id=request_id, thumb="up", comment="Good.")
    assert response.json() == {"object": "feedback", "request_id": request_id, "rating": 1.0}
    await rate(proxy, request_id=request_id, thumb="up", comment="Good.")
    assert feedback_of(proxy) == [(request_id, 1.0, "Good.")]
    await rate(proxy, request_id=request_id, rating=-0.5)
    assert feedback_of(proxy) == [(request_id, -0.5, None)]
    samples = await proxy.scrape()
    assert samples("router_feedback_total") == 1
    assert samples("router_feedback_total", target="local", thumb="up") == 1


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"thumb": "up"}, "request_id", 400),
        ({"request_id": "req_1"}, "rating", 400),
        ({"request_id": "req_1", "rating": 2}, "rating", 400),
        ({"request_id": "req_1", "thumb": "sideways"}, "thumb", 400),
        ({"request_id": "req_none", "thumb": "up"}, "request_id", 404),
    ],
)
async def test_invalid_feedback_is_rejected(
    proxy: LiveProxy, fields: Any, param: str, status: int
) -> None:
    response = await rate(proxy, **fields)
    assert (response.status_code, envelope_of(response)["param"]) == (status, param)


async def test_feedback_on_a_request_of_another_key_is_rejected(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    request_id = (await proxy.chat(headers=mine)).headers["x-request-id"]
    assert (await rate(proxy, headers=theirs, request_id=request_id, thumb="up")).status_code == 404
    assert (await rate(proxy, request_id=request_id, thumb="up")).status_code == 401
    assert (await rate(proxy, headers=mine, request_id=request_id, thumb="up")).status_code == 200


# What clients store with the provider.

SHARED = [
    ("GET", "/v1/chat/completions"),
    ("GET", "/v1/chat/completions/chatcmpl-1"),
    ("GET", "/v1/chat/completions/chatcmpl-1/messages"),
    ("POST", "/v1/chat/completions/chatcmpl-1"),
    ("DELETE", "/v1/chat/completions/chatcmpl-1"),
    ("GET", "/v1/Chat/Completions"),
    ("GET", "/v1/chat%2Fcompletions"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1/content"),
    ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/batches/batch_1/cancel"),
    ("GET", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/fine_tuning/jobs/ft-1/cancel"),
    ("DELETE", "/v1/models/ft:gpt-4o-mini:acme::1"),
    ("GET", "/v1/vector_stores"),
    ("GET", "/v1/conversations/conv_1/items"),
    ("GET", "/v1/responses/resp_of_nobody"),
    ("DELETE", "/v1/responses/resp_of_nobody"),
    ("GET", "/v1/containers"),
    ("GET", "/v1/videos"),
    ("GET", "/v1/organization/admin_api_keys"),
    ("POST", "/v1/realtime/client_secrets"),
    ("GET", "/v1/a_path_of_the_year_2030"),
    ("PUT", "/v1/images/generations"),
]


@pytest.mark.parametrize(("method", "path"), SHARED)
async def test_a_plain_key_does_not_reach_what_others_stored(
    start: StartProxy, cloud: FakeUpstream, method: str, path: str
) -> None:
    cloud.answer = whole(b"{}")
    proxy = await start({"server": {"api_keys": ["plain", {"key": "boss", "admin": True}]}})
    refused = await proxy.client.request(method, path, headers={"authorization": "Bearer plain"})
    assert (refused.status_code, envelope_of(refused)["code"]) == (403, "admin_only")
    assert not cloud.calls
    allowed = await proxy.client.request(method, path, headers={"authorization": "Bearer boss"})
    assert allowed.status_code == 200
    assert len(cloud.calls) == 1


@pytest.mark.parametrize("keys", [[], ["only"], ["plain", "other"]])
async def test_shared_objects_can_be_opened(
    start: StartProxy, cloud: FakeUpstream, keys: list[str]
) -> None:
    """Without keys, to a single key, or by configuration."""
    cloud.answer = whole(b"{}")
    shared = {"shared_objects": "all"} if len(keys) > 1 else {}
    proxy = await start({"server": {"api_keys": keys} | shared})
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else None
    assert (await proxy.client.get("/v1/files", headers=headers)).status_code == 200


async def test_a_plain_key_may_send_what_stores_nothing(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(b"{}")
    proxy = await start({"server": {"api_keys": ["plain", "other"]}})
    plain = {"authorization": "Bearer plain"}
    for path in ("audio/speech", "audio/transcriptions", "images/edits", "moderations"):
        response = await proxy.client.post(f"/v1/{path}", content=b"{}", headers=plain)
        assert response.status_code == 200


# Conversations.


def conversation(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]


async def targets(proxy: LiveProxy, *requests: Any, headers: Any = None) -> list[str]:
    results = []
    for messages in requests:
        response = await proxy.chat(messages=messages, headers=headers)
        results.append(
            f"{response.headers['x-router-target']} {response.headers['x-router-reason']}"
        )
    return results


HARD_TURN = conversation(EASY, "Hello!", HARD)
EASY_TURN = conversation(EASY, "Hello!", HARD, "Hello!", "Thank you. " * 40)


@pytest.mark.parametrize(
    ("sticky", "third"),
    [("off", "local score"), ("escalate_only", "cloud sticky"), ("session", "local score")],
)
async def test_sticky_setting_decides_where_a_conversation_continues(
    start: StartProxy, sticky: str, third: str
) -> None:
    proxy = await start({"routing": {"sticky": sticky}})
    first, second, last = await targets(proxy, conversation(EASY), HARD_TURN, EASY_TURN)
    assert first == "local score"
    assert second == ("local sticky" if sticky == "session" else "cloud score")
    assert last == third
    rows = (await proxy.finish(3)).rows
    assert len({row["session_id"] for row in rows}) == 1


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "fields", [{"tools": [TOOL]}, {"model": "cloud"}], ids=["capability", "forced"]
)
async def test_conversation_stays_in_the_cloud_for_any_first_reason(
    start: StartProxy, fields: dict[str, Any]
) -> None:
    limited = {"upstreams": {"local": {"capabilities": []}}}
    proxy = await start(limited)
    first = await proxy.chat(messages=conversation(EASY), **fields)
    assert first.headers["x-router-target"] == "cloud"
    assert await targets(proxy, conversation(EASY, "Hello!", "And 3+3?")) == ["cloud sticky"]


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {"authorization": "Bearer theirs"}},
        {"user": "u1"},
        {"prompt_cache_key": "k1"},
        {"metadata": {"session_id": "s1"}},
        {"headers": {"authorization": "Bearer mine", "x-router-session": "s1"}},
    ],
    ids=["key", "user", "prompt_cache_key", "metadata", "header"],
)
async def test_conversations_of_others_are_others(
    start: StartProxy, changes: dict[str, Any]
) -> None:
    """They have the same words, and one of them went to the cloud."""
    proxy = await start({"server": {"api_keys": ["mine", "theirs"]}})
    mine = {"headers": {"authorization": "Bearer mine"}}
    later = conversation(HARD, "Hello!", EASY * 20)
    await proxy.chat(messages=conversation(HARD), **mine)
    other = await proxy.chat(messages=later, **(mine | changes))
    own = await proxy.chat(messages=later, **mine)
    assert (other.headers["x-router-reason"], own.headers["x-router-reason"]) == ("score", "sticky")
    first, second, third = [row["session_id"] for row in (await proxy.finish(3)).rows]
    assert first == third != second


async def test_session_header_links_requests_with_different_openings(proxy: LiveProxy) -> None:
    headers = {"x-router-session": "mine"}
    results = await targets(proxy, conversation(HARD), conversation(EASY), headers=headers)
    assert results == ["cloud score", "cloud sticky"]
    assert await targets(proxy, conversation(EASY)) == ["local score"]


async def test_sticky_conversation_still_falls_back(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    await targets(proxy, HARD_TURN)
    cloud.answer = [End.RESET]
    assert await targets(proxy, EASY_TURN) == ["local fallback"]


async def test_openapi_document_lists_existing_paths(proxy: LiveProxy) -> None:
    document = (await proxy.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method in operations:
            if method == "parameters":
                continue
            response = await proxy.client.request(method, re.sub(r"\{[a-z_]+\}", "auto", path))
            assert response.status_code != 405, (method, path)
            if response.status_code == 404:  # no such request, job or step, but a known path
                assert "unknown_url" not in response.text, (method, path)


# Browsers.

PAGE = "https://chat.example.org"


async def test_without_keys_other_origins_are_rejected(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    for path in ("/v1/chat/completions", "/v1/files", "/v1/feedback"):
        response = await proxy.client.post(
            path, content=chat_body(), headers={"origin": PAGE, "content-type": "text/plain"}
        )
        assert response.status_code == 403
        assert "server.cors_origins" in envelope_of(response)["message"]
    assert not local.calls
    assert not cloud.calls


async def test_configured_origin_may_call_and_read_router_headers(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start({"server": {"cors_origins": [PAGE]}})
    ask = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    preflight = await proxy.client.options("/v1/chat/completions", headers={"origin": PAGE} | ask)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    local.answer = whole(answer_json(), headers=[("access-control-allow-origin", "*")])
    response = await proxy.client.post(
        "/v1/chat/completions", content=chat_body(), headers={"origin": PAGE, "referer": PAGE}
    )
    assert response.status_code == 200
    assert response.headers.get_list("access-control-allow-origin") == [PAGE]
    assert "x-router-target" in response.headers["access-control-expose-headers"]
    assert not {"origin", "referer"} & {name for name, _ in local.call.headers}
    stranger = {"origin": "https://evil.example"}
    preflight = await proxy.client.options("/v1/chat/completions", headers=stranger | ask)
    assert "access-control-allow-origin" not in preflight.headers


async def test_cors_headers_of_an_upstream_are_dropped(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    local.answer = whole(answer_json(), headers=[("access-control-allow-origin", "*")])
    response = await proxy.client.post("/v1/chat/completions", content=chat_body())
    assert "access-control-allow-origin" not in response.headers


async def test_stored_chats_are_listed_from_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(b'{"object":"list","data":[]}')
    response = await proxy.client.get("/v1/chat/completions?limit=2")
    assert response.json() == {"object": "list", "data": []}
    assert (cloud.call.method, cloud.call.path) == ("GET", "/v1/chat/completions?limit=2")


async def test_headers_of_one_connection_stay_on_it(proxy: LiveProxy, local: FakeUpstream) -> None:
    headers = {"connection": "keep-alive, Baggage", "baggage": "1", "tracestate": "2"}
    await proxy.client.post("/v1/chat/completions", content=chat_body(), headers=headers)
    sent = dict(local.call.headers)
    assert "baggage" not in sent
    assert sent["tracestate"] == "2"


# What needs no key.


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
async def test_public_endpoints_look_at_the_host_where_there_are_no_keys(
    start: StartProxy, path: str
) -> None:
    proxy = await start()
    for headers in ({"host": "rebound.example"}, {"origin": "https://other.example"}):
        refused = await proxy.client.get(path, headers=headers)
        assert (refused.status_code, envelope_of(refused)["code"]) == (403, "origin_not_allowed")
    assert (await proxy.client.get(path)).status_code == 200
    assert (await proxy.client.get("/health", headers={"host": "x.example"})).status_code == 200
    for server in ({"api_keys": ["one"]}, {"allow_anonymous": True}):
        other = await start({"server": server})
        assert (await other.client.get(path, headers={"host": "x.example"})).status_code == 200


async def test_ready_names_no_models_to_an_unknown_host(proxy: LiveProxy) -> None:
    """A load balancer's health check sends a name of its own and needs the status."""
    for headers in ({"host": "balancer"}, {"origin": "https://other.example"}):
        answer = await proxy.client.get("/ready", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert "parts" in (await proxy.client.get("/ready")).json()


async def test_guessing_at_the_login_is_slowed_down(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["right"]}})
    statuses = [
        (await proxy.client.post("/login", data={"key": f"wrong-{n}"})).status_code
        for n in range(12)
    ]
    assert statuses == [401] * 10 + [429] * 2
    refused = await proxy.client.post("/login", data={"key": "right"})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert "set-cookie" not in refused.headers
    assert "Too many wrong keys" in refused.text
    assert (await proxy.chat(headers={"authorization": "Bearer right"})).status_code == 200


@pytest.mark.parametrize("text", ["١", "0.٥", "０.5", "1_0", "nan", "inf", "0x1", "", "1e", "--1"])
async def test_a_threshold_is_a_number_in_ascii(proxy: LiveProxy, text: str) -> None:
    for name in ("threshold", "cost", "quality"):
        answer = await proxy.chat(model=f"auto:{name}={text}")
        assert answer.status_code == 400
    for good in ("0.5", "1", ".5", "1.", "5e-1"):
        assert (await proxy.chat(model=f"auto:threshold={good}")).status_code == 200
