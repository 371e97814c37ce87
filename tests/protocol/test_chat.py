"""The chat wire format: fields that are read, replaced and left unchanged."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.protocol.chat import parse_chat, view_answer
from proxy.protocol.fields import rewrite
from proxy.protocol.responses import parse_responses

DEEP = b"[" * 200_000 + b"]" * 200_000


def body(**fields: object) -> bytes:
    request = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return json.dumps({key: value for key, value in request.items() if value != ...}).encode()


@pytest.mark.parametrize(
    ("text", "param", "message"),
    [
        (b"", None, "The request body is empty."),
        (b" \n", None, "The request body is empty."),
        (b"{", None, "not valid JSON"),
        (b'{"model": "a", "messages": []} x', None, "not valid JSON"),
        (b"\xff\xfe", None, "not valid JSON"),
        (b'{"model": "\xff", "messages": []}', None, "not valid JSON"),
        pytest.param(b'{"a": ' + DEEP + b"}", None, "not valid JSON", id="deep"),
        (b'{"a": NaN}', None, "not valid JSON"),
        (b"[]", None, "expected `object`, got `array`"),
        (body(model=...), "model", "Missing required parameter: 'model'."),
        (body(model=7), "model", "Invalid value for 'model'"),
        (body(model=None), "model", "Invalid value for 'model'"),
        (body(model=""), "model", "A model is required"),
        (body(messages=...), "messages", "Missing required parameter: 'messages'."),
        (body(messages="Hi"), "messages", "Invalid value for 'messages'"),
        (body(messages=[]), "messages", "at least one message"),
        (body(messages=["Hi"]), "messages[0]", "Invalid value for 'messages[0]'"),
        (
            body(messages=[{"role": "user"}, {"content": "Hi"}]),
            "messages[1].role",
            "Missing required parameter: 'messages[1].role'.",
        ),
        (body(messages=[{"role": "user", "content": 3}]), "messages[0].content", "got `int`"),
        (
            body(messages=[{"role": "user", "content": [{"type": "text", "text": 3}]}]),
            "messages[0].content[0].text",
            "Invalid value for 'messages[0].content[0].text'",
        ),
        (body(stream="yes"), "stream", "Invalid value for 'stream'"),
        (body(stream_options=[]), "stream_options", "Invalid value for 'stream_options'"),
        (
            body(stream_options={"include_usage": 1}),
            "stream_options.include_usage",
            "Invalid value for 'stream_options.include_usage'",
        ),
    ],
)
def test_invalid_request_is_rejected_with_the_path_of_its_field(
    text: bytes, param: str | None, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(text)
    error = caught.value
    assert error.param == param
    assert message in error.message
    assert error.message.endswith(".")
    assert error.status == 400


def test_only_the_text_of_a_conversation_is_read() -> None:
    request = parse_chat(
        body(
            messages=[
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                        {"type": "text", "text": "this?"},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "tool_call_id": "1", "content": "17"},
                {"role": "developer", "content": []},
            ]
        )
    )
    assert request.turns == [
        ("system", "Be brief."),
        ("user", "What is\nthis?"),
        ("assistant", ""),
        ("tool", "17"),
        ("developer", ""),
    ]


def test_null_option_counts_as_absent() -> None:
    request = parse_chat(body(stream=None, stream_options=None))
    assert not request.stream
    assert request.hides_usage
    assert parse_chat(body(stream_options={})).hides_usage
    assert not parse_chat(body(stream_options={"include_usage": True})).hides_usage


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abé"\\ '), inner),
    max_leaves=12,
)
unknown_fields = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
        lambda key: key not in {"model", "messages", "stream", "stream_options"}
    ),
    json_values,
    max_size=6,
)


@given(fields=unknown_fields, escape=st.booleans(), indent=st.sampled_from([None, 1]))
def test_rewriting_replaces_the_model_and_keeps_every_other_byte(
    fields: dict[str, object], escape: bool, indent: int | None
) -> None:
    names = [*fields, "model", "messages"]
    raw = {
        name: json.dumps(value, ensure_ascii=escape, indent=indent)
        for name, value in fields.items()
    }
    raw["model"] = '"auto"'
    raw["messages"] = '[ {"content" : "\\u0041\\/", "role":"user", "weight": 1.0E+2} ]'
    text = "{" + ",\n".join(f"{json.dumps(name)}: {raw[name]}" for name in names) + "}"
    rewritten = rewrite(text.encode(), model='phi3 "mini"', include_usage=False)
    raw["model"] = json.dumps('phi3 "mini"')
    assert json.loads(rewritten) == json.loads(text) | {"model": 'phi3 "mini"'}
    assert list(json.loads(rewritten)) == names
    for name in names:
        assert raw[name].encode() in rewritten


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        (..., {"include_usage": True}),
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": None}, {"include_usage": True}),
        ({"include_usage": False, "new": [1.0]}, {"include_usage": True, "new": [1.0]}),
    ],
)
def test_stream_always_requests_usage(sent: object, forwarded: object) -> None:
    text = body(stream=True, stream_options=sent)
    assert parse_chat(text).hides_usage is True
    rewritten = json.loads(rewrite(text, model="m", include_usage=True))
    assert rewritten["stream_options"] == forwarded
    assert rewritten["stream"] is True


def test_request_without_stream_gets_no_stream_options() -> None:
    rewritten = json.loads(rewrite(body(), model="m", include_usage=False))
    assert "stream_options" not in rewritten


def test_repeated_field_is_forwarded_once_with_its_parsed_value() -> None:
    text = body()[:-1] + b', "stream": true, "stream": false}'
    assert parse_chat(text).stream is False
    assert rewrite(text, model="m", include_usage=False).count(b'"stream"') == 1
    assert json.loads(rewrite(text, model="m", include_usage=False))["stream"] is False


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'"text"',
        pytest.param(DEEP, id="deep"),
    ],
)
def test_response_of_unknown_format_is_none(text: bytes) -> None:
    assert view_answer(text) is None


def test_usage_is_read_in_every_form() -> None:
    answer = view_answer(
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,'
        b'"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0},"cost":0.1}}'
    )
    assert answer is not None
    assert answer.usage is not None
    assert answer.is_usage_only
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (9, 8)
    for details in (b"null", b"{}", b'{"cached_tokens": null}'):
        answer = view_answer(b'{"usage":{"prompt_tokens_details":' + details + b"}}")
        assert answer is not None
        assert answer.usage is not None
        assert answer.usage.cached_tokens == 0
    answer = view_answer(b'{"choices":[{"delta":{}}],"usage":null,"error":null}')
    assert answer is not None
    assert not answer.is_usage_only
    assert not answer.failed


# ── What a request needs, however it is spelled ───────────────────────────────────────────────

SPELLINGS = {
    "audio": ('"modalities":["text","audio"]', "audio"),
    "file_id": (
        '"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]',
        "file_id",
    ),
    "https": (
        '"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https:x",'
        '"detail":"data:"}}]}]',
        "image_url",
    ),
    "json_schema": ('"response_format":{"type":"json_schema","json_schema":{}}', "json_schema"),
    "custom": ('"tools":[{"type":"function"},{"type":"custom","custom":{}}]', "custom_tools"),
}
RESPONSES_SPELLINGS = {
    "json_schema": ('"text":{"format":{"type":"json_schema"}}', "json_schema"),
    "json_object": ('"text":{"format":{"type":"json_object"}}', "json_object"),
    "logprobs": ('"include":["message.output_text.logprobs"]', "response_logprobs"),
    "custom": ('"tools":[{"type":"custom","name":"x"}]', "custom_tools"),
    "web_search": ('"tools":[{"type":"web_search"}]', "web_search"),
}


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


@pytest.mark.parametrize("spell", [str, escaped])
@pytest.mark.parametrize("word", SPELLINGS)
def test_an_escaped_value_is_the_value(word: str, spell: Callable[[str], str]) -> None:
    fields, need = SPELLINGS[word]
    fields = fields.replace(word, spell(word))
    text = f'{{"model":"auto","messages":[{{"role":"user","content":"Hi"}}],{fields}}}'
    assert need in parse_chat(text.encode()).needs


@pytest.mark.parametrize("spell", [str, escaped])
@pytest.mark.parametrize("word", RESPONSES_SPELLINGS)
def test_an_escaped_value_of_a_response_is_the_value(
    word: str, spell: Callable[[str], str]
) -> None:
    fields, need = RESPONSES_SPELLINGS[word]
    fields = fields.replace(word, spell(word))
    assert need in parse_responses(f'{{"model":"auto","input":"Hi",{fields}}}'.encode()).needs


def test_an_escaped_data_url_is_an_inline_image() -> None:
    for url in ("data:image/png;base64,AA==", "\\u0064ata:image/png;base64,AA=="):
        for image in (f'{{"url":"{url}"}}', f'"{url}"'):
            part = f'[{{"type":"image_url","image_url":{image}}}]'
            text = f'{{"model":"auto","messages":[{{"role":"user","content":{part}}}]}}'
            assert set(parse_chat(text.encode()).needs) == {"vision"}


def test_a_word_within_a_text_is_no_need() -> None:
    schema = {
        "type": "object",
        "properties": {"type": {"const": "custom"}, "x": {"type": "custom"}},
    }
    function = {"type": "function", "function": {"name": "f", "parameters": schema}}
    form = {"type": "text", "json_schema": {"name": "json_schema"}}
    request = parse_chat(body(tools=[function, 1, {"type": 7}], response_format=form))
    assert set(request.needs) == {"tools"}


def part_id(value: object) -> str:
    """The id of a parameter. Sets have no fixed order, which parallel runs need."""
    return "-".join(sorted(value)) if isinstance(value, set) else str(value)


@pytest.mark.parametrize(
    ("part", "needs", "images"),
    [
        ({"text": "Hi"}, set(), 0),
        ({"text": "Hi", "image_url": {"url": "https://e.org/a.png"}}, {"vision", "image_url"}, 1),
        ({"image_url": {"url": "data:image/png;base64,AA=="}}, {"vision"}, 1),
        ({"file": {"file_id": "file-1"}}, {"file", "file_id"}, 0),
        ({"file": {"file_data": "AA=="}}, {"file"}, 0),
        ({"input_audio": {"data": "AA==", "format": "mp3"}}, {"audio"}, 0),
        ({"image_url": None, "file": None, "input_audio": None}, set(), 0),
    ],
    ids=part_id,
)
def test_a_part_without_type_is_what_it_contains(
    part: object, needs: set[str], images: int
) -> None:
    request = parse_chat(body(messages=[{"role": "user", "content": [part]}]))
    assert (set(request.needs), request.images) == (needs, images)
    assert request.has_references == bool(needs & {"audio", "file"})


@pytest.mark.parametrize(
    ("part", "needs", "images"),
    [
        ({"text": "Hi"}, set(), 0),
        ({"text": "Hi", "image_url": "https://e.org/a.png"}, {"vision", "image_url"}, 1),
        ({"image_url": "data:image/png;base64,AA=="}, {"vision"}, 1),
        ({"file_id": "file-1"}, {"file", "file_id"}, 0),
        ({"type": "input_text", "text": "Hi", "file_id": "file-1"}, {"file_id"}, 0),
        ({"file_data": "AA=="}, {"file"}, 0),
        ({"file_url": "https://e.org/a.pdf"}, {"file"}, 0),
        ({"input_audio": {"data": "AA==", "format": "mp3"}}, {"audio"}, 0),
    ],
    ids=part_id,
)
def test_an_input_part_without_type_is_what_it_contains(
    part: object, needs: set[str], images: int
) -> None:
    items = [{"role": "user", "content": [part]}]
    request = parse_responses(json.dumps({"model": "auto", "input": items}).encode())
    assert (set(request.needs), request.images) == (needs, images)


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ({"max_completion_tokens": 1, "max_tokens": 16_000}, 16_000),
        ({"max_completion_tokens": 16_000, "max_tokens": 1}, 16_000),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": -1}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_larger_limit_of_an_answer_counts(
    limits: dict[str, object], tokens: int | None
) -> None:
    assert parse_chat(body(**limits)).answer_tokens == tokens
