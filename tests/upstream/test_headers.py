"""The headers that pass between a client and an upstream: a list in each direction."""

import pytest

from fakes import FakeUpstream, answer_json, whole
from live import StartProxy, envelope_of
from proxy.upstream.headers import headers_for_client, headers_for_upstream

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
OF_A_SERVER_IN_FRONT = (
    "cf-connecting-ip", "true-client-ip", "cf-access-jwt-assertion", "x-amzn-oidc-data",
    "x-amzn-oidc-accesstoken", "x-auth-request-email", "remote-user", "via", "forwarded",
    "x-forwarded-for", "x-real-ip", "ocp-apim-subscription-key", "x-goog-api-key", "x-api-key",
    "cookie", "origin", "referer", "openai-organization", "openai-project", "x-unknown",
)  # fmt: skip
OF_CLIENTS = (
    "accept", "user-agent", "openai-beta", "x-stainless-lang", "idempotency-key",
    "x-client-request-id", "traceparent", "tracestate", "baggage",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_an_upstream_gets_the_listed_headers_only(
    start: StartProxy, cloud: FakeUpstream, path: str
) -> None:
    proxy = await start({"upstreams": {"cloud": {"forward_headers": ["X-Title"]}}})
    names = (*OF_A_SERVER_IN_FRONT, *OF_CLIENTS, "x-title")
    body = b'{"model":"cloud","messages":[{"role":"user","content":"Hi"}]}'
    headers = dict.fromkeys(names, "1") | {"origin": proxy.origin}
    response = await proxy.client.post(path, content=body, headers=headers)
    assert response.status_code == 200
    got = {name.lower() for name, _ in cloud.call.headers}
    assert got - {"host", "content-length", "content-type", "accept-encoding", "authorization"} == {
        *OF_CLIENTS,
        "x-title",
    }


def test_no_key_of_a_client_passes_whatever_is_added() -> None:
    """The configuration refuses these names. This is the second check."""
    names = [b"authorization", b"x-api-key", b"cookie", b"openai-organization"]
    headers = [(name, b"1") for name in (*names, b"x-title")]
    added = frozenset({*names, b"x-title"})
    assert headers_for_upstream(headers, added) == [(b"x-title", b"1")]
    assert headers_for_client(headers, added) == [(b"x-title", b"1"), NO_SNIFFING]


async def test_a_client_gets_configured_headers_too(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start({"upstreams": {"cloud": {"return_headers": ["CF-Ray"]}}})
    cloud.answer = whole(answer_json(), headers=[("cf-ray", "8d1f"), ("x-unknown", "1")])
    for response in (await proxy.chat(model="cloud"), await proxy.client.get("/v1/files")):
        assert response.headers["cf-ray"] == "8d1f"
        assert "x-unknown" not in response.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_case_of_an_answers_header_names_does_not_matter(
    start: StartProxy, cloud: FakeUpstream, method: str
) -> None:
    """HEAD is sent by another HTTP client than GET."""
    proxy = await start()
    cloud.answer = whole(b"{}", headers=[("X-RateLimit-Limit-Tokens", "7"), ("SET-Cookie", "a=1")])
    response = await proxy.client.request(method, "/v1/files")
    assert response.headers["x-ratelimit-limit-tokens"] == "7"
    assert "set-cookie" not in response.headers


def test_fields_that_a_connection_names_end_there() -> None:
    headers = [(b"connection", b"close, Traceparent"), (b"traceparent", b"1"), (b"etag", b"2")]
    assert headers_for_upstream(headers) == []
    assert headers_for_client(headers) == [(b"etag", b"2"), NO_SNIFFING]


def test_an_answers_header_without_a_valid_name_or_value_does_not_pass() -> None:
    headers = [(b"etag ", b"1"), (b"x-ratelimit-a", b"a\x01"), (b"etag", b"2")]
    assert headers_for_client(headers) == [(b"etag", b"2"), NO_SNIFFING]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_a_redirect_is_never_relayed(
    start: StartProxy, cloud: FakeUpstream, status: int, path: str
) -> None:
    """Clients follow one with the prompt, to wherever it points."""
    proxy = await start({"routing": {"fallback": False}})
    cloud.answer = whole(
        b"" if status == 304 else b"{}",
        status=status,
        headers=[("location", "https://evil.example/v1")],
    )
    body = b'{"model":"cloud","messages":[{"role":"user","content":"Hi"}]}'
    response = await proxy.client.post(path, content=body, follow_redirects=False)
    assert response.status_code == 502
    error = envelope_of(response)
    assert error["code"] == "bad_answer"
    assert error["message"] == (
        f"The cloud upstream answered with a redirect ({status}), which this proxy does not "
        "follow. Check its base_url (https, host name, path)."
    )
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("location", "logged"),
    [
        ("https://evil.example/v1?token=hunter2", "evil.example"),
        ("/v2/chat?token=hunter2", "the same host"),
        ("https://[", "an invalid address"),
    ],
)
async def test_the_other_tier_answers_for_one_that_redirects(
    start: StartProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture, location: str,
    logged: str,
) -> None:  # fmt: skip
    proxy = await start()
    local.answer = whole(b"{}", status=307, headers=[("location", location)])
    response = await proxy.chat()
    assert response.headers["x-router-fallback"] == "local->cloud:bad_answer"
    assert f"a redirect (307) to {logged}\n" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_web_page_is_no_answer(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, kind: str, stream: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A network's login page comes with status 200."""
    proxy = await start()
    local.answer = whole(b"<html>Log in</html>", content_type=kind)
    response = await proxy.chat(stream=stream)
    assert response.status_code == 200
    assert response.headers["x-router-fallback"] == "local->cloud:bad_answer"
    cloud.answer = local.answer
    response = await proxy.chat(stream=stream)
    assert response.status_code == 502
    assert envelope_of(response)["code"] == "bad_answer"
    assert b"Log in" not in response.content
    assert "cloud upstream: a web page in the place of an answer, status 200" in caplog.text


@pytest.mark.parametrize("fold", [b"\t", b" ", b"\t \t"])
async def test_a_folded_header_has_no_tab(
    start: StartProxy, cloud: FakeUpstream, fold: bytes
) -> None:
    proxy = await start()
    body = answer_json()
    lines = b"HTTP/1.1 200 OK\r\ncontent-type: application/json;\r\n" + fold + b"charset=utf-8\r\n"
    cloud.answer = [lines + b"content-length: %d\r\n\r\n" % len(body) + body]
    response = await proxy.chat(model="cloud")
    assert response.content == body
    assert response.headers["content-type"].split() == ["application/json;", "charset=utf-8"]
    assert "\t" not in response.headers["content-type"]


async def test_a_compressed_upload_keeps_its_encoding(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start()
    headers = {"content-encoding": "gzip", "content-type": "application/jsonl"}
    await proxy.client.post("/v1/files", content=b"packed", headers=headers)
    assert cloud.call.header("content-encoding") == "gzip"
    assert cloud.call.header("content-type") == "application/jsonl"
