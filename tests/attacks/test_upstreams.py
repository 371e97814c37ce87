"""Hostile and broken upstreams: headers, redirects, sizes, odd JSON and endings."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from attack import (
    Attack,
    AttackRunner,
    Bystander,
    Check,
    Seen,
    StartRunner,
    exchange,
    peak_memory,
    read_replies,
    request,
)
from fakes import (
    DONE,
    Answer,
    Call,
    End,
    FakeUpstream,
    answer_json,
    chunk,
    chunked,
    event,
    head,
    openai_events,
    response_fields,
    whole,
)
from live import chat_body

FAMILY = "upstream answers"


class Script(NamedTuple):
    """What the upstream answers, and the request that it answers."""

    answer: Answer | Callable[[Call], Answer]
    stream: bool = False
    path: str = "/v1/chat/completions"


def error_or_answer(seen: Seen) -> str | None:
    """One complete answer, or one clear error."""
    if seen.reply is None:
        return "no answer"
    status = seen.reply.status
    if status == 200 or (status in (502, 503, 504) and seen.reply.is_envelope):
        return None
    return f"answered {status}: {seen.reply.body[:60]!r}"


def bad_gateway(seen: Seen) -> str | None:
    if seen.reply is None:
        return "no answer"
    return None if seen.reply.status in (502, 503, 504) else f"answered {seen.reply.status}"


def without(*names: str) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.reply is None:
            return "no answer"
        passed = [name for name, _ in seen.reply.headers if name.strip() in names]
        return f"the client got {passed}" if passed else error_or_answer(seen)

    return check


HOSTILE = {
    "set-cookie": "session=1",
    "set-cookie2": "session=1",
    "clear-site-data": '"*"',
    "x-accel-redirect": "/internal",
    "x-accel-buffering": "yes",
    "x-sendfile": "/etc/passwd",
    "x-lighttpd-send-file": "/etc/passwd",
    "x-reproxy-url": "http://internal",
    "refresh": "0;url=http://evil.example",
    "link": "<http://evil.example>; rel=preload",
    "location": "http://evil.example",
    "content-location": "http://evil.example",
    "nel": "{}",
    "report-to": "{}",
    "reporting-endpoints": "a=b",
    "service-worker-allowed": "/",
    "sourcemap": "http://evil.example",
    "x-sourcemap": "http://evil.example",
    "content-security-policy": "default-src *",
    "content-security-policy-report-only": "report-uri http://evil.example",
    "cross-origin-opener-policy": "unsafe-none",
    "cross-origin-resource-policy": "cross-origin",
    "cross-origin-embedder-policy": "unsafe-none",
    "permissions-policy": "geolocation=*",
    "referrer-policy": "unsafe-url",
    "strict-transport-security": "max-age=0",
    "public-key-pins": "x",
    "expect-ct": "x",
    "alt-svc": 'h2="evil.example:443"',
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "*",
    "timing-allow-origin": "*",
    "origin-agent-cluster": "?1",
    "x-frame-options": "ALLOWALL",
    "x-xss-protection": "0",
    "proxy-authenticate": "Basic",
    "proxy-authorization": "Basic x",
    "proxy-connection": "close",
    "www-authenticate": "Basic",
    "authorization": "Bearer x",
    "te": "gzip",
    "trailer": "x-late",
    "upgrade": "h2c",
    "keep-alive": "timeout=1",
    "via": "1.1 evil",
    "x-router-target": "evil",
    "x-router-cost-usd": "-1",
    "server": "evil",
    "x-powered-by": "evil",
    "sec-websocket-accept": "x",
    "critical-ch": "sec-ch-ua",
    "accept-ch": "sec-ch-ua",
    "speculation-rules": '"/x"',
    "supports-loading-mode": "fenced-frame",
    "x-dns-prefetch-control": "on",
    "p3p": "x",
    "x-unheard-of": "evil",
}
OWN = ("x-accel-buffering", "x-router-target", "x-router-cost-usd", "keep-alive", "server")


def headers() -> Iterator[Attack]:
    for name, value in HOSTILE.items():
        given = [(name, value)]
        check: Check = without(name)
        if name in OWN:  # the proxy has such a header itself

            def check(seen: Seen, value: str = value) -> str | None:
                found = seen.reply is not None and any(
                    theirs == value for _, theirs in seen.reply.headers
                )
                return "the client got it" if found else error_or_answer(seen)

        yield attack(f"header {name}", Script(whole(answer_json(), headers=given)), check)
        events = chunked(*openai_events(), headers=given)
        yield attack(f"header {name}, stream", Script(events, stream=True), check)
        passed = Script(whole(b"{}", headers=given), path="/v1/files")
        yield attack(f"header {name}, passed through", passed, check)
        failed = Script(whole(b'{"error":{"message":"no"}}', status=400, headers=given))
        yield attack(f"header {name}, error", failed, without_on_error(name, value))
    named = [("connection", "x-hop"), ("x-hop", "1")]
    for path in ("/v1/chat/completions", "/v1/files"):
        script = Script(whole(answer_json(), headers=named), path=path)
        yield attack(f"a header that connection names, {path}", script, without("x-hop"))
    for line in (
        *(b"content-length : 12", b"x-a : b", b" x-a: b", b"x-a\t: b", b"\tx-a: b", b": b"),
        *(b"x\x00a: b", b"x-a: b\x00c", b"x-a: b\rc: d", b"x-a", b"x(a): b", b"x-a: \x01\x02"),
        *(b"transfer-encoding : chunked", b"transfer-encoding: gzip, chunked", b"x-a: \xff\xfe"),
        *(b"content-length: -1", b"content-length: 1e3", b"content-length: 5, 6", b"\xe9: b"),
        *(b"content-encoding: gzip", b"content-encoding: br", b"content-encoding: x, gzip"),
        *(
            b"content-length: 99999999999999999999",
            b"set-cookie : a=b",
            b"content-type : text/html",
        ),
    ):
        for stream in (False, True):
            body = b"".join(openai_events()) if stream else answer_json()
            kind = b"text/event-stream" if stream else b"application/json"
            lines = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + line + b"\r\n"
            if not line.startswith((b"content-length", b"transfer")):
                lines += b"content-length: %d\r\n" % len(body)
            script = Script([lines + b"\r\n" + body, End.FIN], stream=stream)
            yield attack(f"header line {line!r}, stream {stream}", script, well_formed)


def without_on_error(name: str, value: str) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.reply is None:
            return "no answer"
        passed = [theirs for key, theirs in seen.reply.headers if key == name and theirs == value]
        return f"the client got {name}" if passed else None

    return check


def well_formed(seen: Seen) -> str | None:
    """The head that the client gets has no odd names, and one length."""
    if seen.reply is None:
        return "no answer"
    lengths = sum(name == "content-length" for name, _ in seen.reply.headers)
    if lengths > 1:
        return f"{lengths} lengths"
    for name, value in seen.reply.headers:
        if name != name.strip() or any(character < " " for character in name + value):
            return f"the client got {name!r}: {value!r}"
        if name == "set-cookie":
            return "the client got a cookie"
    return error_or_answer(seen)


def attack(name: str, script: Script, check: Check) -> Attack:
    return Attack(FAMILY, name, script, check)


def statuses() -> Iterator[Attack]:
    for status in (300, 301, 302, 303, 304, 305, 307, 308, 399):
        for path in ("/v1/chat/completions", "/v1/files", "/v1/responses"):
            headers = [("location", "http://evil.example/v1/chat/completions")]
            script = Script(whole(b"{}", status=status, headers=headers), path=path)
            yield attack(f"status {status}, {path}", script, bad_gateway)
        script = Script(whole(b"{}", status=status), stream=True)
        yield attack(f"status {status}, stream", script, bad_gateway)
    for line in (
        *(
            b"HTTP/1.1 99 X",
            b"HTTP/1.1 1000 X",
            b"HTTP/1.1 -1 X",
            b"HTTP/1.1  200",
            b"HTTP/1.1 2x0",
        ),
        *(
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200 OK",
            b"ICY 200 OK",
            b"SSH-2.0-x",
            b"",
            b"\x16\x03\x01",
        ),
        *(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 000 X", b"HTTP/1.1 600 X", b"<html>"),
    ):
        script = Script([line + b"\r\ncontent-length: 2\r\n\r\n{}", End.FIN])
        yield attack(f"status line {line!r}", script, error_or_answer)


ODD: Sequence[Any] = (
    *(None, True, False, 0, -1, 1.5, 1e3, "5", "", [], {}, [1], {"a": 1}, 10**12, 10**30, -(10**9)),
    *(float("1e300"), "\u0000", "x" * 1000, [[[]]], {"total": None}),
)


def sane_row(seen: Seen) -> str | None:
    """The answer passes, and its costs are possible."""
    if seen.reply is None:
        return "no answer"
    if seen.reply.status != 200:
        return f"answered {seen.reply.status}"
    cost = seen.reply.header("x-router-cost-usd")
    if cost is not None and not 0 <= float(cost) < 1:
        return f"cost {cost}"
    return None


def complete_stream(seen: Seen) -> str | None:
    """A good stream reaches the client without an error, whatever its counts are."""
    if seen.reply is None or seen.reply.status != 200:
        return f"answered {seen.reply.status if seen.reply else None}"
    if b'"error":{' in seen.reply.body.replace(b" ", b"") or b"event: error" in seen.reply.body:
        return "an error event in a good stream"
    return None


def odd_values() -> Iterator[Attack]:
    for value in ODD:
        shown = repr(value)[:20]
        for key in ("prompt_tokens", "completion_tokens", "prompt_tokens_details", None):
            usage = value if key is None else {"prompt_tokens": 19, "completion_tokens": 10}
            if key is not None:
                usage[key] = value
            name = f"usage {key or ''} {shown}"
            yield attack(name, Script(whole(answer_json(usage=usage))), sane_row)
            events = chunked(
                event(chunk({"content": "Hello"})),
                event(chunk({}, "stop")),
                event(chunk(usage=usage)),
                DONE,
            )
            yield attack(f"{name}, stream", Script(events, stream=True), complete_stream)
        for key in ("input_tokens", "output_tokens", "input_tokens_details"):
            fields = response_fields(usage={"input_tokens": 9, "output_tokens": 1, key: value})
            script = Script(whole(json.dumps(fields).encode()), path="/v1/responses")
            yield attack(f"responses usage {key} {shown}", script, sane_row)
        for key in ("choices", "model", "id", "created", "system_fingerprint", "service_tier"):
            answer = json.loads(answer_json()) | {key: value}
            script = Script(whole(json.dumps(answer).encode()))
            yield attack(f"{key} {shown}", script, error_or_answer)
        for key in ("content", "refusal", "tool_calls", "reasoning", "role", "function_call"):
            answer = json.loads(answer_json())
            answer["choices"][0]["message"][key] = value
            script = Script(whole(json.dumps(answer).encode()))
            yield attack(f"message {key} {shown}", script, error_or_answer)
            events = chunked(
                event(chunk({"content": "Hello"})),
                event(chunk({key: value})),
                event(chunk({}, "stop")),
                DONE,
            )
            yield attack(f"delta {key} {shown}", Script(events, stream=True), complete_stream)
        for key in ("finish_reason", "index", "logprobs", "message"):
            answer = json.loads(answer_json())
            answer["choices"][0][key] = value
            script = Script(whole(json.dumps(answer).encode()))
            yield attack(f"choice {key} {shown}", script, error_or_answer)


def endings() -> Iterator[Attack]:
    bodies = {
        "only [DONE]": [DONE],
        "two [DONE]": [*openai_events(), DONE],
        "[DONE] without a blank": [*openai_events()[:-1], b"data:[DONE]\n\n"],
        "no events": [],
        "comments only": [b": ping\n\n"] * 5,
        "an HTML page": [b"<html><body>502 Bad Gateway</body></html>"],
        "JSON": [answer_json()],
        "broken JSON": [b'data: {"choices":[{"delta":{"content":"a"}\n\n'],
        "NUL": [b"\x00" * 100],
        "not UTF-8": [b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n'],
        "an event without end": [b"data: " + b"x" * 200_000],
        "other fields": [b"id: 1\nretry: 1\nevent: x\n\n"],
        "a BOM": [b"\xef\xbb\xbf", *openai_events()],
        "an error event": [event({"error": {"message": "no", "type": "x"}})],
        "null events": [b"data: null\n\n", b"data: 5\n\n", b"data: []\n\n", b'data: "x"\n\n'],
        "deep nesting": [b"data: " + b"[" * 100_000 + b"\n\n"],
    }
    for name, pieces in bodies.items():
        for path in ("/v1/chat/completions", "/v1/responses"):
            for end in (None, End.FIN, End.RESET):
                steps = chunked(*pieces, *([end] if end else []))
                script = Script(steps, stream=True, path=path)
                yield attack(f"{name}, {end}, {path}", script, ends)
    good = [piece.replace(b"\n", b"\r") for piece in openai_events()]
    yield attack("bare CR", Script(chunked(*good), stream=True), complete_stream)
    good = [piece.replace(b"\n", b"\r\n") for piece in openai_events()]
    yield attack("CRLF", Script(chunked(*good), stream=True), complete_stream)
    for name, body in {
        "an HTML page": b"<html></html>",
        "empty": b"",
        "null": b"null",
        "a number": b"5",
        "a list": b"[]",
        "a text": b'"x"',
        "broken": b'{"choices":',
        "two documents": answer_json() * 2,
        "NUL": b"\x00" * 100,
        "deep": b"[" * 100_000,
    }.items():
        for kind in ("application/json", "text/html", "text/event-stream", "x", ""):
            script = Script(whole(body, content_type=kind))
            yield attack(f"body {name} as {kind!r}", script, no_page)


def no_page(seen: Seen) -> str | None:
    """The client of a JSON API gets no HTML page as a success."""
    if seen.reply is None:
        return "no answer"
    if "html" in (seen.reply.header("content-type") or "") and seen.reply.status == 200:
        return "a page"
    return error_or_answer(seen)


def ends(seen: Seen) -> str | None:
    """The client's answer ends, whatever the upstream sent."""
    if seen.reply is None:
        return None if seen.closed and seen.raw else "no answer"
    return None if seen.closed else "the answer does not end"


def sizes() -> Iterator[Attack]:
    """Answers that would fill the memory."""
    huge = 200_000_000
    packed = {
        "gzip": gzip.compress(b" " * huge, 9),
        "deflate": zlib.compress(b" " * huge, 9),
    }
    for encoding, body in packed.items():
        for stream in (False, True):
            kind = "text/event-stream" if stream else "application/json"
            script = Script(
                whole(body, content_type=kind, headers=[("content-encoding", encoding)]),
                stream=stream,
            )
            yield attack(f"{encoding} of {huge} bytes, stream {stream}", script, bounded(200))
    block = b" " * 1_000_000
    endless = [head(200), *[block] * 300, End.FIN]
    yield attack("an endless body", Script(endless), bounded(250))
    text = event(chunk({"content": "x" * 1_000_000}))
    yield attack("an endless stream", Script(chunked(*[text] * 150), stream=True), bounded(250))
    one = chunked(b'data: {"choices":[{"delta":{"content":"', *[b"x" * 1_000_000] * 150)
    yield attack("an endless event", Script(one, stream=True), bounded(250))
    names = [head(200)[:-2] + b"x: " + b"y" * 1_000_000, *[b"y" * 1_000_000] * 50]
    yield attack("an endless header", Script(names), bounded(100))


PAGES = (
    *("text/html", "TEXT/HTML", "text/html; charset=utf-8", " text/html", "text/html;", "text/xml"),
    *("application/xhtml+xml", "application/xml", "image/svg+xml", "text/xsl", "application/xslt"),
    *("application/atom+xml", "application/mathml+xml", "a/b+xml", "multipart/x-mixed-replace"),
    *("application/json, text/html", "text/html, application/json", "text/plain; a=b, text/html"),
    *("text/html\tcharset=utf-8", "text/html ;x", "x/y; boundary=a, image/svg+xml"),
)
SCRIPT = b"<html><script>alert(1)</script></html>"


def inert(seen: Seen) -> str | None:
    """What the client gets is not rendered as a page of the proxy's origin."""
    if seen.reply is None:
        return "no answer"
    kind = (seen.reply.header("content-type") or "").lower()
    placed, policy = (
        seen.reply.header(name) or "" for name in ("content-disposition", "content-security-policy")
    )
    is_file = placed.startswith("attachment") and policy == "sandbox"
    if any(mark in kind for mark in ("html", "xml", "xsl", "svg", "mixed")) and not is_file:
        return f"a page: {kind}"
    if SCRIPT in seen.reply.body and seen.reply.header("x-content-type-options") != "nosniff":
        return "a browser may guess the type"
    return None


def pages() -> Iterator[Attack]:
    paths = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/files")
    for kind in PAGES:
        for status in (200, 201, 404, 503):
            for path in (*paths, "/v1/files/f/content"):
                script = Script(whole(SCRIPT, status=status, content_type=kind), path=path)
                yield attack(f"{kind}, status {status}, {path}", script, inert)
        inline = [("content-disposition", "inline"), ("content-security-policy", "default-src *")]
        script = Script(
            whole(SCRIPT, content_type=kind, headers=inline), path="/v1/files/f/content"
        )
        yield attack(f"{kind}, inline", script, inert)
        named = [("connection", "content-type, x-content-type-options, content-security-policy")]
        for status in (200, 404):
            hop = whole(SCRIPT, status=status, content_type=kind, headers=named)
            for path in (*paths, "/v1/files/f/content"):
                text = f"{kind}, status {status}, {path}, named by Connection"
                yield attack(text, Script(hop, path=path), inert)
    for kind in ("", "text/plain", "application/octet-stream", "text", "*/*", "unknown/unknown"):
        for path in paths:
            yield attack(
                f"{kind}, {path}", Script(whole(SCRIPT, content_type=kind), path=path), inert
            )


def bounded(growth_mb: float) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.facts["growth"] > growth_mb:
            return f"memory grew by {seen.facts['growth']:.0f} MB"
        if seen.facts["late"] > 1.0:
            return f"another client waited for {seen.facts['late']:.1f} s"
        return None

    return check


def sender(runner: AttackRunner, cloud: FakeUpstream, *, measure: bool = False) -> Any:
    async def send(attack: Attack, seen: Seen) -> None:
        script: Script = attack.sent
        cloud.answer = script.answer
        field = "input" if script.path == "/v1/responses" else "messages"
        body = chat_body(model="cloud", stream=script.stream)
        if field == "input":
            body = json.dumps({"model": "cloud", "input": "Hi", "stream": script.stream}).encode()
        is_download = script.path.endswith("/content")
        sent = request(body, path=script.path)
        if is_download:
            sent = request(b"", method="GET", path=script.path, length=False)
        if measure:
            with peak_memory() as peak, Bystander(runner.proxy.port) as bystander:
                raw, seen.closed = await exchange(
                    runner.proxy.port, [sent], seconds=20, max_bytes=1000
                )
            seen.facts = {"growth": peak.growth, "late": bystander.worst}
            seen.raw = raw
            return
        seen.raw, seen.closed = await exchange(runner.proxy.port, [sent], seconds=8)
        if not seen.raw.startswith(b"HTTP/1.1 200"):
            cloud.answer = whole(answer_json())
            await runner.proxy.chat(model="cloud")  # closes the circuit breaker
        seen.replies = read_replies(seen.raw)

    return send


async def test_upstream_headers(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    runner = await start_runner(NO_RETRIES)
    await runner.hold([*headers(), *statuses()], sender(runner, cloud))


async def test_upstream_bodies(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    runner = await start_runner(NO_RETRIES)
    await runner.hold([*odd_values(), *endings()], sender(runner, cloud))


async def test_upstream_pages(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    runner = await start_runner(NO_RETRIES)
    await runner.hold(pages(), sender(runner, cloud))


async def test_upstream_sizes(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    runner = await start_runner(NO_RETRIES)
    await runner.hold(sizes(), sender(runner, cloud, measure=True))


NO_RETRIES = {"routing": {"fallback": False}, "logging": {"level": "error"}}
