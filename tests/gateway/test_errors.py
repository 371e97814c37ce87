"""Each error returns one envelope with the right status and no internal details.

Each error of /v1/chat/completions also writes one row.
"""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fakes import (
    HARD,
    Answer,
    BrokenModel,
    Call,
    End,
    FakeUpstream,
    StubModel,
    answer_json,
    chunk,
    error_json,
    event,
    whole,
)
from live import (
    CLOUD_KEY,
    CLOUD_MODEL,
    LOCAL_KEY,
    LOCAL_MODEL,
    LiveProxy,
    RawClient,
    Row,
    StartProxy,
    chat_body,
    check_headers,
    envelope_of,
)
from router_model.model import Score

SECRET = "the-key-of-the-clients"
WITH_KEY = {"server": {"api_keys": [SECRET]}}
SMALL_BODIES = {"server": {"max_body_mb": 0.0078125}}  # 8 KiB
REJECTING = {"routing": {"unknown_models": "reject"}}


def check_error(
    response: httpx2.Response, status: int, *, param: str | None = None, code: str | None = None
) -> str:
    """Check the envelope and that it has no internal details. Return the message."""
    error = envelope_of(response)
    assert response.status_code == status, error
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert response.headers["x-request-id"].startswith("req_")
    for secret in (SECRET, CLOUD_KEY, LOCAL_KEY, "127.0.0.1", "Traceback", '.py"', "0xdeadbeef"):
        assert secret not in response.text
    message: str = error["message"]
    return message


async def check_rejected(proxy: LiveProxy, response: httpx2.Response) -> Row:
    """Check that one row records the rejection."""
    outcome = await proxy.finish()
    row = outcome.row
    check_headers(response.headers, row)
    assert (row["ending"], row["status"]) == ("rejected", response.status_code)
    assert (row["target"], row["error"]) == (None, envelope_of(response)["message"])
    return row


# ── Invalid bodies ────────────────────────────────────────────────────────────────────────────

HI = '"messages":[{"role":"user","content":"Hi"}]'
INVALID_JSON = {
    "empty": b"",
    "words": b"hello",
    "half": b'{"model":"auto",',
    "two-values": b'{"model":"auto",%b} {}' % HI.encode(),
    "not-a-number": b'{"model":"auto",%b,"temperature":NaN}' % HI.encode(),
    "latin-1": '{"model":"auto","messages":[{"role":"user","content":"é"}]}'.encode("latin-1"),
    "no-utf-8-in-an-unknown-field": b'{"model":"auto",%b,"\xff":1}' % HI.encode(),
    "utf-16": ("{" + f'"model":"auto",{HI}' + "}").encode("utf-16"),
    "deeply-nested": b'{"model":"auto",%b,"x":%b}' % (HI.encode(), b"[" * 100_000 + b"]" * 100_000),
    "deeply-nested-part": b'{"model":"auto","messages":[{"role":"user","content":[{"x":'
    + b"[" * 100_000,
}


@pytest.mark.parametrize("body", INVALID_JSON.values(), ids=INVALID_JSON.keys())
async def test_body_without_valid_json_is_rejected(proxy: LiveProxy, body: bytes) -> None:
    response = await proxy.post(body)
    message = check_error(response, 400)
    assert ("JSON" if body else "The request body is empty.") in message
    await check_rejected(proxy, response)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("[]", None),
        ("null", None),
        ('"hello"', None),
        ("7", None),
        ("{}", "model"),
        ("{" + HI + "}", "model"),
        ('{"model":null,' + HI + "}", "model"),
        ('{"model":7,' + HI + "}", "model"),
        ('{"model":"",' + HI + "}", "model"),
        ('{"model":"auto"}', "messages"),
        ('{"model":"auto","messages":null}', "messages"),
        ('{"model":"auto","messages":"Hi"}', "messages"),
        ('{"model":"auto","messages":{}}', "messages"),
        ('{"model":"auto","messages":[]}', "messages"),
        ('{"model":"auto","messages":["Hi"]}', "messages[0]"),
        ('{"model":"auto","messages":[{"content":"Hi"}]}', "messages[0].role"),
        ('{"model":"auto","messages":[{"role":7}]}', "messages[0].role"),
        ('{"model":"auto","messages":[{"role":"user","content":7}]}', "messages[0].content"),
        (
            '{"model":"auto","messages":[{"role":"user","content":"a"},{"role":"user","content":7}]}',
            "messages[1].content",
        ),
        (
            '{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":7}]}]}',
            "messages[0].content[0].text",
        ),
        ('{"model":"auto","stream":"yes",' + HI + "}", "stream"),
        ('{"model":"auto","stream_options":7,' + HI + "}", "stream_options"),
        (
            '{"model":"auto","stream_options":{"include_usage":"yes"},' + HI + "}",
            "stream_options.include_usage",
        ),
    ],
)
async def test_missing_or_invalid_field_is_named(
    proxy: LiveProxy, body: str, param: str | None
) -> None:
    response = await proxy.post(body.encode())
    check_error(response, 400, param=param)
    await check_rejected(proxy, response)


@pytest.mark.parametrize("content", ["\u0000", "\u2028", "\ufeff", "\U0010ffff", "'; drop table--"])
async def test_unusual_characters_are_accepted(
    proxy: LiveProxy, local: FakeUpstream, content: str
) -> None:
    response = await proxy.chat(text=content)
    assert response.status_code == 200
    outcome = await proxy.finish()
    assert local.call.json["messages"][0]["content"] == content
    assert json.loads(outcome.row["prompt"])[0]["content"] == content


async def test_lone_surrogate_is_rejected(proxy: LiveProxy) -> None:
    """It is not valid Unicode: tokenizers and databases reject it."""
    body = rb'{"model":"auto","messages":[{"role":"user","content":"\ud83d"}]}'
    response = await proxy.post(body)
    check_error(response, 400)
    await check_rejected(proxy, response)


# ── Authentication ────────────────────────────────────────────────────────────────────────────

WRONG_KEYS = {
    "none": None,
    "empty": "",
    "wrong": "Bearer sk-wrong",
    "longer": f"Bearer {SECRET}x",
    "shorter": f"Bearer {SECRET[:-1]}",
    "no-scheme": SECRET,
    "other-scheme": f"Basic {SECRET}",
    "not-ascii": "Bearer é",
}


@pytest.mark.parametrize("value", WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
async def test_missing_or_wrong_key_is_rejected(start: StartProxy, value: str | None) -> None:
    proxy = await start(WITH_KEY)
    response = await proxy.chat(headers={} if value is None else {"authorization": value.encode()})
    message = check_error(response, 401, code="invalid_api_key")
    assert "sk-wrong" not in message
    assert response.headers["www-authenticate"] == "Bearer"
    await check_rejected(proxy, response)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_valid_key_is_accepted_and_stored_as_a_hash(start: StartProxy, scheme: str) -> None:
    proxy = await start(WITH_KEY)
    response = await proxy.chat(headers={"authorization": f"{scheme} {SECRET}"})
    assert response.status_code == 200
    outcome = await proxy.finish()
    assert len(outcome.row["client_key_hash"]) == 16
    assert SECRET not in str(outcome.row)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/auto"])
async def test_model_list_requires_a_key(start: StartProxy, path: str) -> None:
    proxy = await start(WITH_KEY)
    check_error(await proxy.client.get(path), 401, code="invalid_api_key")
    allowed = await proxy.client.get(path, headers={"authorization": f"Bearer {SECRET}"})
    assert allowed.status_code == 200


async def test_model_list_counts_toward_the_rate_limit(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": [{"key": SECRET, "requests_per_minute": 2}]}})
    headers = {"authorization": f"Bearer {SECRET}"}
    for path in ("/v1/models", "/v1/models/auto"):
        assert (await proxy.client.get(path, headers=headers)).status_code == 200
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/feedback")):
        refused = await proxy.client.request(method, path, headers=headers)
        assert refused.status_code == 429
        assert envelope_of(refused)["code"] == "rate_limit_exceeded"


async def test_readiness_checks_share_upstream_calls(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    calls: list[Call] = []

    def models(call: Call) -> Answer:
        calls.append(call)
        return whole(b'{"object":"list","data":[]}')

    cloud.models = models
    answers = await asyncio.gather(*(proxy.client.get("/ready") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(calls) < 5


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_require_no_key(start: StartProxy, path: str) -> None:
    proxy = await start(WITH_KEY)
    assert (await proxy.client.get(path)).status_code == 200


# ── Large bodies ──────────────────────────────────────────────────────────────────────────────


async def send_chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b"x" * 1024


@pytest.mark.parametrize(
    "size", [11 * 1024, 30 * 1024, 3 * 1024 * 1024], ids=lambda size: str(size)
)
@pytest.mark.parametrize("upload", ["with-length", "chunked"])
async def test_too_large_body_is_rejected(start: StartProxy, size: int, upload: str) -> None:
    """The client receives the response while it is still sending."""
    proxy = await start(SMALL_BODIES)
    content = b"x" * size if upload == "with-length" else send_chunks(size)
    response = await proxy.client.post("/v1/chat/completions", content=content)
    message = check_error(response, 413, code="body_too_large")
    assert "0.0078125 MB" in message
    await check_rejected(proxy, response)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses"])
async def test_compressed_body_is_rejected(proxy: LiveProxy, path: str) -> None:
    headers = {"content-encoding": "gzip"}
    packed = gzip.compress(chat_body())
    response = await proxy.client.post(f"/v1/{path}", content=packed, headers=headers)
    assert "'gzip'" in check_error(response, 415, code="unsupported_content_encoding")
    await check_rejected(proxy, response)


async def test_body_limit_is_inclusive(start: StartProxy) -> None:
    proxy = await start(SMALL_BODIES)
    body = chat_body()
    body += b" " * (8 * 1024 - len(body))
    assert (await proxy.post(body)).status_code == 200
    assert (await proxy.post(body + b" ")).status_code == 413


@pytest.mark.parametrize("status", [401, 413])
async def test_connection_stays_usable_after_a_rejected_upload(
    start: StartProxy, status: int
) -> None:
    changes = SMALL_BODIES if status == 413 else WITH_KEY
    proxy = await start(changes)
    body = b"x" * 300_000
    post = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    client = await RawClient.open(proxy.port, body, head=post % len(body))
    assert b" %d " % status in await client.read_until(b"\r\n")
    await client.read_until(b"}}")
    await client.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b" 200 " in await client.read_until(b"\r\n")
    await client.leave()


async def test_stalled_upload_times_out(start: StartProxy) -> None:
    proxy = await start({"server": {"request_timeout_seconds": 0.25}})
    post = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"
    client = await RawClient.open(proxy.port, b"half", head=post)
    assert b" 408 " in await client.read_until(b"\r\n")
    assert b'"request_timeout"' in await client.read_until(b"}}")
    await client.leave()
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["status"]) == ("timeout", 408)


# ── Routes and methods ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("raw", ["/v1/v1/chat/completions", "/v1/v1/models", "/v1/V1"])
async def test_a_base_url_with_v1_twice_is_explained(start: StartProxy, raw: str) -> None:
    proxy = await start({"budget": {"cloud_usd_per_day": 1}})
    response = await proxy.client.post(raw, json={})
    check_error(response, 404, code="unknown_url")
    message = response.json()["error"]["message"]
    assert message == f"Unknown route: POST {raw}. Is /v1 in the base URL twice?"


async def test_a_base_url_without_v1_is_explained(proxy: LiveProxy) -> None:
    response = await proxy.client.post("/chat/completions", json={})
    check_error(response, 404, code="unknown_url")
    assert response.json()["error"]["message"] == (
        "Unknown route: POST /chat/completions. The API is below /v1: POST /v1/chat/completions"
    )
    other = await proxy.client.post("/nothing", json={})
    assert other.json()["error"]["message"] == "Unknown route: POST /nothing"


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/models", "/v1/models"),
        ("GET", "/models/auto", "/v1/models/auto"),
        ("POST", "/messages", "/v1/messages"),
        ("POST", "/responses", "/v1/responses"),
        ("POST", "/embeddings", "/v1/embeddings"),
        ("POST", "/completions", "/v1/completions"),
        ("PUT", "/chat/completions", "/v1/chat/completions"),
        ("DELETE", "/responses/resp_1", "/v1/responses/resp_1"),
        ("POST", "/openai/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/api/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/V1/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1beta/openai/chat/completions", None),
        ("POST", "/v2/embeddings", "/v1/embeddings"),
        ("POST", "/api/chat/completions", "/v1/chat/completions"),
        ("POST", "/api/nothing", None),
        ("GET", "/nothing/models", None),
    ],
)
async def test_a_path_without_v1_names_the_one_that_is_meant(
    proxy: LiveProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    method: str,
    path: str,
    meant: str | None,
) -> None:
    body = b'{"model":"auto"}' if method != "GET" else None
    response = await proxy.client.request(method, path, content=body)
    check_error(response, 404, code="unknown_url")
    hint = "" if meant is None else f". The API is below /v1: {method} {meant}"
    assert response.json()["error"]["message"] == f"Unknown route: {method} {path}{hint}"
    assert not local.calls
    assert not cloud.calls


OLLAMA_HINT = "Ollama's API is below /api: its clients need the address without /v1"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/chat/completions",
        "/v1/responses/responses",
        "/v1/embeddings/embeddings",
        "/v1/completions/chat/completions",
        "/v1/chat",
        "/v1/completion",
        "/v1/Chat/Completion",
    ],
)
async def test_a_prompt_for_a_misspelled_endpoint_goes_nowhere(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    response = await proxy.client.post(path, content=b'{"model":"auto"}')
    check_error(response, 404, code="unknown_url")
    assert "The base URL ends with /v1" in response.json()["error"]["message"]
    assert not local.calls
    assert not cloud.calls


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fim/completions",  # Mistral
        "/v1/chat/completions/chatcmpl-1",
        "/v1/rerank",
    ],
)
async def test_other_paths_pass(proxy: LiveProxy, cloud: FakeUpstream, path: str) -> None:
    response = await proxy.client.post(path, content=b'{"model":"x"}')
    assert response.status_code == 200
    assert cloud.call.path == path


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/v1/messages", "Is /v1 in the base URL twice?"),
        ("/v1/V1/embeddings", "Is /v1 in the base URL twice?"),
        ("/v1/api/chat", OLLAMA_HINT),
        ("/v1/api/v1/responses", OLLAMA_HINT),
        ("/v1/ollama/api/chat", OLLAMA_HINT),
        ("/v1/openai/v1/chat/completions", "Does the base URL need /v1?"),
        ("/v1/v1beta/models/x:generateContent", "Does the base URL need /v1?"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
async def test_a_second_base_is_explained_and_its_body_goes_nowhere(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, method: str, path: str, hint: str
) -> None:
    body = b'{"model":"auto"}' if method != "GET" else None
    response = await proxy.client.request(method, path, content=body)
    check_error(response, 404, code="unknown_url")
    assert response.json()["error"]["message"] == f"Unknown route: {method} {path}. {hint}"
    assert not local.calls
    assert not cloud.calls


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("POST", "/v1/nothing"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat/completions/more"),
        ("POST", "/chat/completions"),
        ("GET", "/v1/%0d%0ax-evil:%201"),
    ],
)
async def test_unknown_route_is_404(start: StartProxy, method: str, path: str) -> None:
    """With `unknown_models: reject`; otherwise paths below /v1 pass through to the cloud."""
    proxy = await start(REJECTING)
    response = await proxy.client.request(method, path)
    check_error(response, 404, code="unknown_url")
    assert "x-evil" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/auto", "GET"),
        ("POST", "/metrics", "GET"),
    ],
)
async def test_wrong_method_is_405(proxy: LiveProxy, method: str, path: str, allowed: str) -> None:
    response = await proxy.client.request(method, path)
    check_error(response, 405, code="method_not_allowed")
    assert allowed in response.headers["allow"]


async def test_unknown_model_lookup_is_404(proxy: LiveProxy) -> None:
    response = await proxy.client.get("/v1/models/gpt-9")
    check_error(response, 404, param="model", code="model_not_found")


# ── Client options ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "fast",
        "speed=1",
        "threshold",
        "threshold=",
        "threshold=high",
        "threshold=2",
        "threshold=-0.1",
        "threshold=nan",
        "threshold=inf",
        "threshold=0.5,speed=1",
    ],
)
async def test_invalid_parameter_of_auto_is_rejected(proxy: LiveProxy, parameters: str) -> None:
    response = await proxy.chat(model=f"auto:{parameters}")
    check_error(response, 400, param="model")
    row = await check_rejected(proxy, response)
    assert row["requested_model"] == f"auto:{parameters}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-router-target", "moon"),
        ("x-router-target", ""),
        ("x-router-target", "local,cloud"),
        ("x-router-target", "é"),
        ("x-router-threshold", "high"),
        ("x-router-threshold", ""),
        ("x-router-threshold", "1.01"),
        ("x-router-threshold", "-1"),
        ("x-router-threshold", "nan"),
    ],
)
async def test_invalid_router_header_is_rejected(proxy: LiveProxy, name: str, value: str) -> None:
    response = await proxy.chat(headers={name: value.encode()})
    message = check_error(response, 400, param=name)
    assert name in message
    await check_rejected(proxy, response)


async def test_unknown_model_is_rejected_if_so_configured(start: StartProxy) -> None:
    proxy = await start(REJECTING)
    response = await proxy.chat(model="gpt-9")
    message = check_error(response, 404, param="model", code="model_not_found")
    assert "'gpt-9'" in message
    await check_rejected(proxy, response)


UNUSUAL_NAMES = {
    "new-header": "gpt\r\nx-evil: 1",
    "newline": "gpt\nx-evil: 1",
    "nul": "gpt\x00",
    "escape": "\x1b[31mgpt",
    "accents": "modèle",
    "emoji": "🤖",
    "line-separator": "gpt\u2028x",
    "long": "g" * 200,
    "markup": "<script>alert(1)</script>",
    "label": 'gpt",target="local',
}


@pytest.mark.parametrize("name", UNUSUAL_NAMES.values(), ids=UNUSUAL_NAMES.keys())
@pytest.mark.parametrize("unknown", ["cloud", "reject"])
async def test_model_name_is_escaped_everywhere(
    start: StartProxy, cloud: FakeUpstream, name: str, unknown: str
) -> None:
    """In headers, metrics and the row. The upstream receives it unchanged."""
    proxy = await start({"routing": {"unknown_models": unknown}})
    response = await proxy.chat(model=name)
    assert "x-evil" not in response.headers
    outcome = await proxy.finish()
    assert outcome.row["requested_model"] == name
    if unknown == "reject":
        check_error(response, 404, param="model", code="model_not_found")
        return
    assert response.status_code == 200
    assert cloud.call.json["model"] == name
    shown = response.headers["x-router-model"]
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 200


# ── Upstreams ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole(answer_json(), headers=[("x-odd", "a\x01b")]), id="control-character"),
        pytest.param(whole(answer_json(), headers=[("x-odd", "é😀")]), id="not-ascii"),
        pytest.param(whole(answer_json(), headers=[("x odd", "1")]), id="space-in-name"),
        pytest.param([b"HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\n{}"], id="status-799"),
        pytest.param([b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\n{}"], id="status-99"),
        pytest.param([b"HTTP/1.1 204 No\r\n\r\n"], id="no-content"),
        pytest.param([b"HTTP/1.1 304 No\r\n\r\n"], id="not-modified"),
        pytest.param([b"HTTP/1.1 302 No\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"], id="moved"),
        pytest.param(
            whole(b"no gzip", headers=[("content-encoding", "gzip")]), id="not-compressed-after-all"
        ),
    ],
)
async def test_unusual_response_passes_or_is_one_error(
    proxy: LiveProxy, local: FakeUpstream, answer: Any
) -> None:
    local.answer = answer
    response = await proxy.chat(model="local")
    if response.status_code == 200:
        assert response.content == answer_json()
    elif response.status_code >= 400:
        check_error(response, 502, code=envelope_of(response)["code"])
    outcome = await proxy.finish()
    check_headers(response.headers, outcome.row)
    assert outcome.row["status"] == response.status_code
    assert (outcome.row["ending"] == "ok") == (200 <= response.status_code < 300)


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"data":[{"id":"\xff"}]}', b'{"data":' + b"[" * 100_000, b"{}"]
)
async def test_invalid_model_list_affects_its_own_tier_only(
    proxy: LiveProxy, local: FakeUpstream, body: bytes
) -> None:
    local.models = whole(body)
    response = await proxy.client.get("/v1/models")
    assert {"auto", LOCAL_MODEL, CLOUD_MODEL} <= {model["id"] for model in response.json()["data"]}


async def test_log_of_an_invalid_http_response_omits_the_key(
    proxy: LiveProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    local.answer = [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End.FIN]
    check_error(await proxy.chat(model="local"), 502, code="upstream_unreachable")
    assert "local upstream" in caplog.text
    assert LOCAL_KEY not in caplog.text


# ── Internal errors ───────────────────────────────────────────────────────────────────────────


class NanModel:
    """A model whose network overflows."""

    def score(self, text: str) -> Score:
        return Score(float("nan"), float("nan"), float("nan"))


class BlockedModel:
    """A model that blocks until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def score(self, text: str) -> Score:
        self.release.wait(30)
        return Score(0.9, 0.9, 0.9)


@pytest.mark.parametrize("make", [BrokenModel, NanModel, BlockedModel])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_failing_router_model_fails_no_request(
    start: StartProxy, cloud: FakeUpstream, make: type, stream: bool
) -> None:
    model = make()
    proxy = await start(model=model)
    response = await proxy.chat(stream=stream)
    if isinstance(model, BlockedModel):
        model.release.set()
    assert response.content == answer_json()
    outcome = await proxy.finish()
    check_headers(response.headers, outcome.row)
    assert response.headers["x-router-reason"] == "router_unavailable"
    assert response.headers["x-router-target"] == "cloud"
    assert "x-router-score" not in response.headers
    assert (outcome.row["ending"], outcome.row["score"]) == ("ok", None)
    assert cloud.call.json["model"] == CLOUD_MODEL


class BrokenStream(httpx2.AsyncByteStream):
    """A stream that raises after one event."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield event(chunk({"content": "Hi"}))
        raise RuntimeError(f"index 7 out of range; the key is {CLOUD_KEY}")


class BrokenTransport(httpx2.AsyncBaseTransport):
    """A transport that raises immediately or during the response."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._at_once:
            raise RuntimeError(f"index 7 out of range; the key is {CLOUD_KEY}")
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=BrokenStream())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_internal_error_is_a_500_without_details(start: StartProxy, stream: bool) -> None:
    proxy = await start(transport=lambda _: BrokenTransport(at_once=True))
    response = await proxy.chat(text=HARD, stream=stream)
    message = check_error(response, 500, code="internal_error")
    assert "index 7" not in message
    outcome = await proxy.finish()
    check_headers(response.headers, outcome.row)
    assert (outcome.row["ending"], outcome.row["status"]) == ("internal_error", 500)
    assert outcome.row["error"] == message


async def test_internal_error_in_a_stream_is_an_error_event_without_details(
    start: StartProxy,
) -> None:
    proxy = await start(transport=lambda _: BrokenTransport(at_once=False))
    response = await proxy.chat(stream=True)
    first, last, rest = response.content.split(b"\n\n")
    assert (first + b"\n\n", rest) == (event(chunk({"content": "Hi"})), b"")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["code"] == "internal_error"
    assert "index 7" not in error["message"]
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["status"]) == ("internal_error", 200)


async def test_internal_error_of_another_route_is_a_500_without_details(start: StartProxy) -> None:
    proxy = await start(transport=lambda _: BrokenTransport(at_once=True))
    message = check_error(await proxy.client.get("/v1/models"), 500, code="internal_error")
    assert "index 7" not in message


async def test_client_input_adds_no_metric_labels(start: StartProxy) -> None:
    """Values from clients must not increase the cardinality of the metrics."""
    proxy = await start()
    for number in range(5):
        await proxy.chat(model=f"auto:{number}")
        await proxy.chat(model=f"gpt-{number}")
        await proxy.client.get(f"/v1/nothing/{number}")
    outcome = await proxy.finish(15)
    assert len(outcome.metrics.by_labels("router_requests_total")) == 3


async def test_moderation_error_of_the_upstream_passes(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    """Only a 403 about the upstream's key is hidden from the client."""
    body = error_json("Your input was flagged by the moderation.", code="flagged")
    cloud.answer = whole(body, status=403)
    response = await proxy.chat(model="cloud")
    assert (response.status_code, response.content) == (403, body)


async def test_router_model_scores_only_routed_requests(start: StartProxy) -> None:
    class CountingModel(StubModel):
        scored = 0

        def score(self, text: str) -> Score:
            self.scored += 1
            return super().score(text)

    model = CountingModel()
    proxy = await start(model=model)
    for name in ("auto", "local", "cloud", "gpt-9"):
        await proxy.chat(model=name)
    assert model.scored == 1
