"""`x-should-retry: false` on errors that a repeated request would get again, and on no others."""

from typing import Any

import openai
import pytest

from fakes import EASY, FakeUpstream, error_json, refused_address, whole
from live import LiveProxy, StartProxy

HINT = "x-should-retry"
CHAT = {"model": "auto", "messages": [{"role": "user", "content": EASY}]}
TOO_LONG = [{"role": "user", "content": "word " * 10_000}]
SMALL = {"upstreams": {"local": {"context_tokens": 4096, "capabilities": []}}}
BUDGET = {"budget": {"cloud_usd_per_day": 1}}
SPENT = {"budget": {"cloud_usd_per_day": 0, "when_spent": "reject"}}
REJECTING = {"routing": {"unknown_models": "reject"}}
KEYS = {"server": {"api_keys": ["mine"]}}

PERMANENT: dict[str, tuple[dict[str, Any], str, dict[str, Any], int, str | None]] = {
    "field": ({}, "/v1/chat/completions", {"model": "auto", "messages": 7}, 400, None),
    "capability": (
        SMALL,
        "/v1/chat/completions",
        {**CHAT, "model": "local", "logprobs": True},
        400,
        "unsupported_by_local_model",
    ),
    "context": (
        SMALL,
        "/v1/chat/completions",
        {"model": "local", "messages": TOO_LONG},
        400,
        "context_length_exceeded",
    ),
    "model": ({}, "/v1/chat/completions", {**CHAT, "model": "phi4:14b"}, 404, "model_not_found"),
    "rejected-model": (
        REJECTING,
        "/v1/chat/completions",
        {**CHAT, "model": "gpt-9"},
        404,
        "model_not_found",
    ),
    "route": (REJECTING, "/v1/nothing", {}, 404, "unknown_url"),
    "route-without-v1": ({}, "/chat/completions", CHAT, 404, "unknown_url"),
    "method": ({}, "/health", {}, 405, "method_not_allowed"),
    "api-key": (KEYS, "/v1/chat/completions", CHAT, 401, "invalid_api_key"),
    "uncounted": (BUDGET, "/v1/images/generations", {"prompt": "x"}, 400, "uncounted_cost"),
    "budget": (
        SPENT,
        "/v1/chat/completions",
        {**CHAT, "model": "cloud"},
        429,
        "insufficient_quota",
    ),
}


@pytest.mark.parametrize(
    ("changes", "path", "body", "status", "code"), PERMANENT.values(), ids=PERMANENT
)
async def test_permanent_errors_say_that_a_retry_is_useless(
    start: StartProxy,
    changes: dict[str, Any],
    path: str,
    body: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    proxy = await start(changes)
    response = await proxy.client.post(path, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers[HINT] == "false"


async def test_invalid_http_is_not_worth_a_retry(proxy: LiveProxy) -> None:
    client = await proxy.connect_raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"
    )
    answer = await client.read_until(b"unsupported_transfer_encoding")
    assert answer.startswith(b"HTTP/1.1 501")
    assert b"x-should-retry: false\r\n" in answer
    await client.leave()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/files"])
async def test_a_refused_key_of_the_configuration_is_not_retried(
    proxy: LiveProxy, cloud: FakeUpstream, path: str
) -> None:
    cloud.answer = whole(error_json("Incorrect API key provided"), status=401)
    body = {"model": "cloud", "input": "Hi", "messages": CHAT["messages"]}
    response = await proxy.client.post(path, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_auth")
    assert response.headers[HINT] == "false"
    assert len(cloud.calls) == 1


async def test_the_official_client_obeys(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(error_json("Incorrect API key provided"), status=401)
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused") as sdk:
        with pytest.raises(openai.InternalServerError, match="rejected"):
            await sdk.chat.completions.create(
                model="cloud", messages=[{"role": "user", "content": EASY}]
            )
    assert len(cloud.calls) == 1


async def test_a_spent_quota_of_the_upstream_is_not_retried(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    body = error_json("You exceeded your current quota", code="insufficient_quota")
    for headers in ([], [(HINT, "true")]):
        cloud.answer = whole(body, status=429, headers=headers)
        response = await proxy.chat(model="cloud")
        assert (response.status_code, response.content) == (429, body)
        assert response.headers.get_list(HINT) == ["false"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_transient_errors_of_the_cloud_may_be_retried(
    proxy: LiveProxy, cloud: FakeUpstream, status: int
) -> None:
    cloud.answer = whole(error_json("busy"), status=status, headers=[("retry-after", "60")])
    response = await proxy.chat(model="cloud")
    assert response.status_code == status
    assert HINT not in response.headers


async def test_an_unreachable_tier_may_be_retried(start: StartProxy) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere, cloud=nowhere)
        for model, status in (("local", 502), ("cloud", 502), ("qwen3:8b", 503)):
            response = await proxy.chat(model=model)
            assert response.status_code == status
            assert HINT not in response.headers


async def test_a_refused_key_after_a_transient_failure_may_be_retried(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json("Incorrect API key provided"), status=401)
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        response = await proxy.chat(model="auto", text=EASY)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_auth")
    assert HINT not in response.headers
