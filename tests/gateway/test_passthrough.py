"""Bodies pass byte for byte, headers by policy.

Comparisons are of raw JSON text, never of parsed values: `1.0e5` and `100000` parse alike.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator

import msgspec
import pytest

from fakes import (
    DONE,
    USAGE,
    WIRE_FORMS,
    answer_json,
    chunk,
    chunked,
    compress,
    error_json,
    event,
    openai_events,
    whole,
)
from live import CLOUD_KEY, CLOUD_MODEL, LOCAL_KEY, LOCAL_MODEL, World, chat_body

pytestmark = pytest.mark.asyncio(loop_scope="module")


Form = Callable[[], list[bytes]]
Split = Callable[[bytes], Iterator[bytes]]


def raw_fields(body: bytes) -> dict[str, bytes]:
    """The object's fields in order, each with the raw bytes of its value."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in fields.items()}


# ── Requests ──────────────────────────────────────────────────────────────────────────────────

REQUEST_VALUES = {
    "exponent": b"1.0e5",
    "negative-zero": b"-0.0",
    "many-digits": b"0.10000000000000000555111512312578",
    "big-integer": b"123456789012345678901234567890",
    "escapes": rb'"\u00e9 \ud83d\ude00 \/ \n"',
    "unicode": '"é 😀"'.encode(),
    "null": b"null",
    "spaces": b'{ "a" :\t[ 1 ,\n 2 ] }',
    "repeated-key": b'{"a":1,"a":2}',
    "deep": b"[" * 100 + b"]" * 100,
}


@pytest.mark.parametrize("value", REQUEST_VALUES.values(), ids=REQUEST_VALUES.keys())
@pytest.mark.parametrize("name", ["temperature", "field_of_the_year_2030"])
async def test_request_field_keeps_its_bytes(world: World, name: str, value: bytes) -> None:
    sent = b'{"model": "local", "%b": %b, "messages": [{"role": "user", "content": "Hi"}]}' % (
        name.encode(),
        value,
    )
    response = await world.proxy.post(sent)
    assert response.status_code == 200
    assert raw_fields(world.local.call.body) == raw_fields(sent) | {
        "model": json.dumps(LOCAL_MODEL).encode()
    }


MESSAGES = {
    "odd-escapes": rb'[{"role":"user","content":"\u0041\u00e9\ud83d\ude00"}]',
    "unknown-fields": b'[{"role":"user","content":"Hi","name":"n","x":{"y":1.50}}]',
    "image": b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,x"}}]}]',
    "tool-turn": b'[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":'
    b'[{"id":"c","type":"function","function":{"name":"f","arguments":"{\\"a\\": 1}"}}]},'
    b'{"role":"tool","tool_call_id":"c","content":"1"}]',
}


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES.keys())
async def test_messages_keep_their_bytes(world: World, messages: bytes) -> None:
    await world.proxy.post(b'{"model":"local","messages":%b}' % messages)
    assert raw_fields(world.local.call.body)["messages"] == messages


async def test_fields_keep_their_order(world: World) -> None:
    sent = b'{"z":1,"messages":[{"role":"user","content":"Hi"}],"model":"local","a":2}'
    await world.proxy.post(sent)
    assert list(raw_fields(world.local.call.body)) == ["z", "messages", "model", "a"]


STREAM_OPTIONS = {
    "absent": (b"", {}),
    "null": (b'"stream_options":null,', {}),
    "usage-wanted": (b'"stream_options":{"include_usage":true},', {}),
    "usage-refused": (b'"stream_options":{"include_usage":false},', {}),
    "unknown-option": (b'"stream_options":{"chunk_size":1.0e1},', {"chunk_size": b"1.0e1"}),
}


@pytest.mark.parametrize(
    ("options", "expected"), STREAM_OPTIONS.values(), ids=list(STREAM_OPTIONS.keys())
)
async def test_stream_requests_usage_and_keeps_other_options(
    world: World, options: bytes, expected: dict[str, bytes]
) -> None:
    world.local.answer = chunked(*openai_events())
    sent = b'{"model":"local",%b"stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    await world.proxy.post(sent % options)
    fields = raw_fields(world.local.call.body)
    assert raw_fields(fields["stream_options"]) == expected | {"include_usage": b"true"}
    assert fields["stream"] == b"true"


async def test_request_without_stream_gets_no_stream_options(world: World) -> None:
    """OpenAI rejects `stream_options` without `stream`."""
    await world.proxy.chat(model="local", stream=False)
    assert "stream_options" not in world.local.call.json


@pytest.mark.parametrize(
    ("requested", "tier", "sent"),
    [
        ("local", "local", LOCAL_MODEL),
        ("cloud", "cloud", CLOUD_MODEL),
        ("auto", "local", LOCAL_MODEL),
        ("auto:threshold=1", "cloud", CLOUD_MODEL),
        ("phi3", "local", LOCAL_MODEL),
        (LOCAL_MODEL, "local", LOCAL_MODEL),
        ("gpt-9", "cloud", "gpt-9"),
        ('weird "name"\\ 😀', "cloud", 'weird "name"\\ 😀'),
    ],
)
async def test_upstream_receives_its_model_name(
    world: World, requested: str, tier: str, sent: str
) -> None:
    await world.proxy.chat(model=requested)
    assert getattr(world, tier).call.json["model"] == sent


async def test_large_request_passes_unchanged(world: World) -> None:
    picture = "A" * 5_000_000
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}]
    sent = chat_body(model="local", messages=[{"role": "user", "content": content}])
    await world.proxy.post(sent)
    assert raw_fields(world.local.call.body)["messages"] == raw_fields(sent)["messages"]


# ── Request headers ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tier", "key"), [("local", LOCAL_KEY), ("cloud", CLOUD_KEY)])
async def test_upstream_receives_its_own_key_instead_of_the_clients(
    world: World, tier: str, key: str
) -> None:
    secrets = {
        "authorization": "Bearer the-clients",
        "x-api-key": "the-clients",
        "api-key": "the-clients",
        "cookie": "session=the-clients",
        "proxy-authorization": "Basic the-clients",
    }
    await world.proxy.chat(model=tier, headers=secrets)
    call = getattr(world, tier).call
    assert call.header("authorization") == f"Bearer {key}"
    assert not [header for header in call.headers if "the-clients" in header[1]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-router-target", "local"),
        ("x-router-threshold", "0.3"),
        ("x-router-anything", "1"),
        ("openai-organization", "org-the-clients"),
        ("openai-project", "proj-the-clients"),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-access-token", "the-clients"),
        ("forwarded", "for=10.1.2.3"),
        ("te", "trailers"),
        ("x-request-id", "the-clients"),
    ],
)
async def test_private_request_header_is_not_forwarded(world: World, name: str, value: str) -> None:
    await world.proxy.chat(headers={name: value})
    assert world.local.call.header(name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user-agent", "OpenAI/Python 3.54.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "0"),
        ("openai-beta", "assistants=v2"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("baggage", 'a, b;c="d"'),
        ("accept", "application/json"),
        ("accept-language", "de"),
    ],
)
async def test_other_request_header_passes(world: World, name: str, value: str) -> None:
    await world.proxy.chat(headers={name: value})
    assert world.local.call.header(name) == value


async def test_upstream_request_is_uncompressed_json(world: World) -> None:
    """The proxy reads responses, so it requests them uncompressed."""
    headers = {"accept-encoding": "gzip, br", "content-type": "application/json; charset=utf-8"}
    await world.proxy.chat(headers=headers)
    call = world.local.call
    assert call.header("accept-encoding") == "identity"
    assert call.header("content-type") == "application/json"
    assert call.header("content-length") == str(len(call.body))
    assert call.header("host") == world.local.base_url.split("/")[2]


# ── Responses ─────────────────────────────────────────────────────────────────────────────────

UNUSUAL_RESPONSES = {
    "numbers-and-spaces": b'{ "choices":[ {}],\n "x": 1.0e5, "y": 12345678901234567890 }\n',
    "escapes": rb'{"choices":[{"message":{"content":"\u00e9\ud83d\ude00"}}],"q":"\/"}',
    "unknown-fields": b'{"choices":[{"message":{"content":"x","audio":{}},"z":1}],"new":{"a":[]}}',
    "usage-of-another-type": b'{"choices":[{}],"usage":"lots"}',
}


@pytest.mark.parametrize("body", UNUSUAL_RESPONSES.values(), ids=UNUSUAL_RESPONSES.keys())
async def test_response_keeps_its_bytes(world: World, body: bytes) -> None:
    world.local.answer = whole(body)
    response = await world.proxy.chat(model="local")
    assert (response.status_code, response.content) == (200, body)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 429, 500, 503, 529])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_upstream_error_keeps_its_status_and_bytes(
    world: World, status: int, stream: bool
) -> None:
    body = b" " + error_json("No.", kind="insufficient_quota", code="insufficient_quota")
    world.cloud.answer = whole(body, status=status, headers=[("retry-after", "7")])
    response = await world.proxy.chat(model="cloud", stream=stream)
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["retry-after"] == "7"


async def test_large_response_passes_unchanged(world: World) -> None:
    body = json.dumps({"choices": [], "filler": "é" * 2_500_000}, ensure_ascii=False).encode()
    world.local.answer = chunked(
        *(body[start : start + 100_001] for start in range(0, len(body), 100_001)),
        content_type="application/json",
    )
    response = await world.proxy.chat(model="local")
    assert response.content == body


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_response_is_decompressed(world: World, encoding: str) -> None:
    """The proxy does not request compression but accepts it."""
    body = b'{"choices":[{"message":{"content":"Hi"}}],"usage":%b}' % json.dumps(USAGE).encode()
    headers = [("content-encoding", encoding)]
    world.local.answer = whole(compress(body, encoding), headers=headers)
    response = await world.proxy.chat(model="local")
    assert response.content == body
    assert "content-encoding" not in response.headers
    row = await world.proxy.row_of(response)
    assert (row["input_tokens"], row["output_tokens"]) == (19, 10)


async def test_compressed_stream_is_decompressed(world: World) -> None:
    events = openai_events()
    packed = compress(b"".join(events), "gzip")
    world.local.answer = chunked(packed[:20], packed[20:], headers=[("content-encoding", "gzip")])
    response = await world.proxy.chat(
        model="local", stream=True, stream_options={"include_usage": True}
    )
    assert response.content == b"".join(events)


# ── Response headers ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("openai-processing-ms", "12"),
        ("x-ratelimit-remaining-tokens", "149999"),
        ("openai-version", "2020-10-01"),
        ("openai-model", "gpt-4o-mini-2024-07-18"),
        ("retry-after-ms", "12"),
        ("x-should-retry", "false"),
        ("etag", '"a; b=2"'),
    ],
)
async def test_response_header_passes(world: World, name: str, value: str, stream: bool) -> None:
    body = chunked(*openai_events(), headers=[(name, value)])
    world.cloud.answer = body if stream else whole(answer_json(), headers=[(name, value)])
    response = await world.proxy.chat(model="cloud", stream=stream)
    assert response.headers.get_list(name) == [value]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_connection_headers_of_the_upstream_are_dropped(world: World, stream: bool) -> None:
    headers = [
        ("set-cookie", "__cf_bm=ours; path=/"),
        ("keep-alive", "timeout=5"),
        ("server", "cloudflare"),
        ("alt-svc", 'h3=":443"'),
        ("clear-site-data", '"*"'),
        ("x-accel-redirect", "/internal"),
        ("x-sendfile", "/etc/passwd"),
        ("refresh", "0; url=https://evil.example"),
        ("link", "<https://evil.example>; rel=preload"),
        ("location", "https://evil.example"),
        ("nel", "{}"),
        ("report-to", "{}"),
        ("service-worker-allowed", "/"),
        ("set-cookie2", "a=b"),
        ("te", "trailers"),
        ("proxy-authenticate", "Basic"),
        ("www-authenticate", "Basic"),
        ("access-control-allow-origin", "*"),
        ("content-security-policy", "default-src *"),
        ("x-unknown", "1"),
        ("connection", "x-ratelimit-remaining-tokens"),
        ("x-ratelimit-remaining-tokens", "of the connection"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("openai-organization", "whose-key-it-is"),
        ("x-router-target", "moon"),
        ("x-router-cost-usd", "1000"),
        ("date", "Mon, 01 Jan 1990 00:00:00 GMT"),
    ]
    body = chunked(*openai_events(), headers=headers)
    world.cloud.answer = body if stream else whole(answer_json(), headers=headers)
    response = await world.proxy.chat(model="cloud", stream=stream)
    got = response.headers
    ours = {"date", "connection"}
    sent = {name for name, _ in headers if not name.startswith("x-router-")}
    assert got.keys() & sent <= ours
    assert got.get_list("x-router-target") == ["cloud"]
    assert "1000" not in got.get_list("x-router-cost-usd")
    assert len(got.get_list("date")) == 1
    assert "1990" not in got["date"]


async def test_request_id_is_the_proxys_and_the_upstreams_is_kept(world: World) -> None:
    world.cloud.answer = whole(answer_json(), headers=[("x-request-id", "req_theirs")])
    response = await world.proxy.chat(model="cloud", headers={"x-request-id": "req_clients"})
    assert response.headers["x-upstream-request-id"] == "req_theirs"
    (ours,) = response.headers.get_list("x-request-id")
    assert ours not in ("req_theirs", "req_clients")


async def test_stream_headers_disable_buffering(world: World) -> None:
    world.local.answer = chunked(*openai_events())
    response = await world.proxy.chat(model="local", stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers


# ── Streams ───────────────────────────────────────────────────────────────────────────────────


def split_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def split_at_random(data: bytes) -> Iterator[bytes]:
    """Pieces of any size that split events, lines and characters."""
    rng = random.Random(7)
    cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(40))})
    return (data[start:end] for start, end in itertools.pairwise(cuts))


def split_by_line(data: bytes) -> Iterator[bytes]:
    return iter(data.splitlines(keepends=True))


SPLITS = {
    "one-piece": lambda data: iter([data]),
    "by-line": split_by_line,
    "at-random": split_at_random,
    "byte-by-byte": split_by_byte,
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(
    "include_usage", [True, False], ids=["usage-requested", "usage-not-requested"]
)
@pytest.mark.parametrize("form", WIRE_FORMS.values(), ids=WIRE_FORMS.keys())
async def test_stream_passes_unchanged_except_unrequested_usage(
    world: World, form: Form, split: Split, line_end: bytes, include_usage: bool
) -> None:
    events = [data.replace(b"\n", line_end) for data in form()]
    world.local.answer = chunked(*split(b"".join(events)))
    response = await world.proxy.chat(
        model="local", stream=True, stream_options={"include_usage": include_usage}
    )
    usage_only = [
        data for data in events if b'"choices": []' in data and b'"prompt_tokens"' in data
    ]
    assert len(usage_only) == (form is not WIRE_FORMS["usage-with-finish"])
    expected = events if include_usage else [data for data in events if data not in usage_only]
    assert response.content == b"".join(expected)


@pytest.mark.parametrize("form", WIRE_FORMS.values(), ids=WIRE_FORMS.keys())
async def test_usage_and_text_are_read_in_every_wire_format(world: World, form: Form) -> None:
    world.local.answer = chunked(*split_at_random(b"".join(form())))
    response = await world.proxy.chat(model="local", stream=True)
    row = await world.proxy.row_of(response)
    assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
    assert row["usage_source"] == "upstream"
    assert row["response"] == "Hello wörld 🙂!"


UNUSUAL_EVENTS = {
    "comment": b": keep-alive\n\n",
    "event-and-id": b'event: message\nid: 7\nretry: 10\ndata: {"choices": []}\n\n',
    "data-in-two-lines": b'data: {"choices":\ndata: []}\n\n',
    "no-space": b'data:{"choices":[]}\n\n',
    "no-json": b"data: hello\n\n",
    "no-utf8": b"data: \xff\xfe\n\n",
    "blank-lines": b"\n\n\n",
    "first-azure-chunk": b'data: {"choices":[],"prompt_filter_results":[{}],"usage":null}\n\n',
    "tool-call": event(
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": '{"a'}}]})
    ),
    "second-choice": event(chunk({"content": "x"}) | {"choices": [{"index": 1, "delta": {}}]}),
    "logprobs": b'data: {"choices":[{"delta":{"content":"x"},"logprobs":{"content":[1.0e0]}}]}\n\n',
    "content-in-parts": b'data: {"choices":[{"delta":{"content":[{"type":"thinking"}]}}]}\n\n',
    "longer-than-a-megabyte": event(chunk({"content": "x" * 1_200_000})),
}


@pytest.mark.parametrize("odd", UNUSUAL_EVENTS.values(), ids=UNUSUAL_EVENTS.keys())
async def test_unusual_event_passes(world: World, odd: bytes) -> None:
    sent = [event(chunk({"content": "a"})), odd, event(chunk({}, "stop")), DONE]
    world.cloud.answer = chunked(*sent)
    response = await world.proxy.chat(model="cloud", stream=True)
    assert response.content == b"".join(sent)


async def test_last_event_without_blank_line_passes(world: World) -> None:
    sent = b"".join(openai_events()).removesuffix(b"\n\n")
    world.cloud.answer = chunked(sent)
    response = await world.proxy.chat(
        model="cloud", stream=True, stream_options={"include_usage": True}
    )
    assert response.content == sent


async def test_complete_response_to_a_stream_request_passes(world: World) -> None:
    """Some servers never stream."""
    body = b'{"choices":[{"message":{"content":"Hi"}}]}'
    world.local.answer = whole(body)
    response = await world.proxy.chat(model="local", stream=True)
    assert response.content == body
    assert response.headers["content-type"] == "application/json"


PAGE = b"<html><script>alert(1)</script></html>"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "image/svg+xml", "text/xml"])
async def test_a_page_in_the_place_of_an_answer_is_refused(world: World, kind: str) -> None:
    world.cloud.answer = whole(PAGE, content_type=kind)
    response = await world.proxy.client.get("/v1/files")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "bad_answer")
    world.cloud.answer = whole(PAGE, status=404, content_type=kind)
    response = await world.proxy.client.get("/v1/files")
    assert (response.status_code, response.headers["content-type"]) == (404, "text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        ([], "attachment"),
        ([("content-disposition", "inline")], "attachment"),
        (
            [("content-disposition", 'attachment; filename="a.html"')],
            'attachment; filename="a.html"',
        ),
    ],
)
async def test_a_page_is_downloaded_as_a_file(
    world: World, placed: list[tuple[str, str]], expected: str
) -> None:
    world.cloud.answer = whole(PAGE, content_type="text/html", headers=placed)
    response = await world.proxy.client.get("/v1/files/file-1/content")
    assert (response.status_code, response.content) == (200, PAGE)
    assert response.headers["content-type"] == "text/html"
    assert response.headers["content-disposition"] == expected
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "kind",
    [
        *("application/json", "audio/mpeg", "text/plain", "text/csv", "application/pdf"),
        *("application/octet-stream", "image/png", "application/jsonl"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ],
)
async def test_other_types_pass_unchanged(world: World, kind: str) -> None:
    world.cloud.answer = whole(b"\x00\xff<", content_type=kind)
    for path in ("/v1/files", "/v1/files/file-1/content"):
        response = await world.proxy.client.get(path)
        assert (response.status_code, response.content) == (200, b"\x00\xff<")
        assert response.headers["content-type"] == kind
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "content-disposition" not in response.headers
