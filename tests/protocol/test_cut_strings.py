"""Large bodies are decoded without the bulk of their strings, and nothing of them is lost.

The guards count what a decoder gets in one call, during which no other thread runs.
"""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from proxy.errors import InvalidRequest
from proxy.protocol import fields, rewrite
from proxy.protocol.bounds import STEP_BYTES
from proxy.protocol.chat import parse_chat
from proxy.protocol.cut_strings import CUT_FROM_BYTES, CutBody
from proxy.protocol.messages import parse_messages
from proxy.protocol.ollama_native import read_chat_request
from proxy.protocol.responses import parse_responses

SIZE = 4_000_000
DECODED_BYTES = 300_000  # of such a body in one call of a decoder
RNG = random.Random(7)
IMAGE = base64.b64encode(RNG.randbytes(SIZE * 3 // 4)).decode()
LINES = "".join(f'Line {n}: "quoted", C:\\path\\file\tend\n' for n in range(SIZE // 40))
ACCENTS = "Größe é 漢字 🙂 " * (SIZE // 24)
TEXTS = {"plain": "word " * (SIZE // 5), "lines": LINES, "accents": ACCENTS}


def encode(content: Any, *, ascii_only: bool = False, **more: Any) -> bytes:
    message = {"role": "user", "content": content}
    return json.dumps(
        {"model": "auto", "messages": [message]} | more, ensure_ascii=ascii_only
    ).encode()


def image_parts(url: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]


BODIES = {name: encode(text) for name, text in TEXTS.items()} | {
    "image": encode(image_parts("data:image/png;base64," + IMAGE)),
    "image with escaped slashes": encode(image_parts("data:image/png;base64," + IMAGE)).replace(
        b"/", rb"\/"
    ),
    "several": encode([{"type": "text", "text": text} for text in TEXTS.values()]),
    "a metadata value": encode("x", metadata={"k": IMAGE}),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_the_bulk_is_cut_and_put_back(body: bytes) -> None:
    cut = CutBody.of(body)
    assert len(cut.short) < DECODED_BYTES
    assert msgspec.json.decode(cut.short).keys() == msgspec.json.decode(body).keys()
    assert cut.restore(cut.short) == body


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_strings_contain_nothing_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    alphabet = ["a", "é", "漢", "🙂", '"', "\\", "\n", "\t", "/", ",", "{", "]"]
    weights = [rng.choice([0, 1, 50]) for _ in alphabet]
    weights[0] += 1
    text = "".join(rng.choices(alphabet, weights, k=300_000 + rng.randrange(100)))
    values = [text, {"a": text[::-1]}, list(range(rng.randrange(60_000))), text * 3]
    body = json.dumps(values, ensure_ascii=rng.random() < 0.3).encode()
    cut = CutBody.of(body)
    assert cut.restore(cut.short) == body
    assert cut.restore_view(msgspec.json.decode(cut.short)) == values


def test_numbers_are_not_cut() -> None:
    """They are in no string, however many there are without one."""
    body = json.dumps({"k": "x" * 200_000, "n": list(range(100_000)), "l": "y" * 200_000}).encode()
    cut = CutBody.of(body)
    assert len(cut.short) > 500_000
    assert cut.restore(cut.short) == body


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_large_text_is_read_whole(text: str, *, ascii_only: bool) -> None:
    assert parse_chat(encode(text, ascii_only=ascii_only)).turns == [("user", text)]
    body = json.dumps({"model": "auto", "input": text}, ensure_ascii=ascii_only).encode()
    assert parse_responses(body).turns == [("user", text)]
    limited = encode(text, ascii_only=ascii_only, max_tokens=9)
    assert parse_messages(limited).turns == [("user", text)]


def test_a_large_image_is_an_inline_image() -> None:
    request = parse_chat(BODIES["image"])
    assert (request.images, request.turns) == (1, [("user", "What is this?")])
    assert "image_url" not in request.needs
    address = parse_chat(encode(image_parts("https://x.example/" + IMAGE)))
    assert "image_url" in address.needs


def test_the_size_of_large_tools_is_that_of_the_whole() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": IMAGE}}
    assert parse_chat(encode("x", tools=[tool])).tool_chars > SIZE


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_rewriting_replaces_the_model_alone(body: bytes) -> None:
    sent = rewrite(body, model="other", include_usage=False)
    assert msgspec.json.decode(sent) == msgspec.json.decode(body) | {"model": "other"}
    assert len(sent) < len(body) + 100


def test_a_large_request_of_the_native_api_is_translated_whole() -> None:
    body = encode("What is this?").replace(
        b'"content"', b'"images": ["%b"], "content"' % IMAGE.encode()
    )
    native = read_chat_request(body)
    assert native.body == body
    (message,) = msgspec.json.decode(native.translated)["messages"]
    assert message["content"][1]["image_url"]["url"].endswith(IMAGE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.replace(b"word word", b"word \x00ord", 1),
        lambda body: body[: SIZE // 2] + b"\x01" + body[SIZE // 2 :],
        lambda body: body[: SIZE // 2] + b"\\x" + body[SIZE // 2 :],
        lambda body: body[: SIZE // 2] + b"\xff" + body[SIZE // 2 :],
        lambda body: body[:-3],
    ],
)
def test_invalid_json_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(spoil(BODIES["plain"]))
    assert "not valid JSON" in caught.value.message


def test_a_client_cannot_forge_a_mark() -> None:
    """A text that looks like the mark of another body is a text."""
    mark = CutBody.of(BODIES["plain"]).short[60:120].decode(errors="replace")
    text = TEXTS["plain"] + "cut-00000000000000000000000000000000-0;" + mark
    assert parse_chat(encode(text)).turns == [("user", text)]


def test_what_the_decoders_get_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Counting:
        """A decoder that notes the size of what it decodes."""

        def __init__(self, decoder: Any) -> None:
            self._decoder = decoder

        def decode(self, data: bytes) -> Any:
            sizes.append(len(data))
            return self._decoder.decode(data)

    monkeypatch.setattr(fields, "_raw_fields", Counting(fields._raw_fields))
    monkeypatch.setattr("proxy.protocol.chat._known_chat_request", Counting(_known()))
    body = BODIES["image"]
    assert len(body) > CUT_FROM_BYTES
    parse_chat(body)
    rewrite(body, model="other", include_usage=False)
    assert len(sizes) == 2
    assert max(sizes) < DECODED_BYTES


def _known() -> Any:
    from proxy.protocol import chat

    return chat._known_chat_request


TOOL_TEXTS = {
    "source code": "x = 1  # a line\n    print('the next')\n" * 40_000,
    "quotes": 'he said "this", and a long text follows that has some more words. ' * 30_000,
    "arguments": "A" * 200_000 + '","command":"rm","z":"' + "A" * 1_200_000,
}


@pytest.mark.parametrize("text", TOOL_TEXTS.values(), ids=TOOL_TEXTS.keys())
@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_arguments_of_a_tool_call_stay_what_they_are(text: str, as_text: bool) -> None:
    """Ollama's API has them as an object, OpenAI's as a text, in which all is escaped once more."""
    arguments = {"path": "a.py", "text": text}
    function = {"name": "write", "arguments": json.dumps(arguments) if as_text else arguments}
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    messages = [{"role": "user", "content": "Hi"}, call]
    body = json.dumps({"model": "auto", "messages": messages}, ensure_ascii=False).encode()
    translated = json.loads(read_chat_request(body).translated)
    sent = translated["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == arguments


@pytest.mark.parametrize("offset", [-60, -12, -11, -5, -4, -2, -1, 0, 1, 2, 60])
def test_the_beginning_of_an_image_tells_its_type_wherever_it_is(offset: int) -> None:
    """What is cut begins at a step of the search, in which the image may just have begun."""
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(1_200_000)).decode()
    for sent in (image, "data:image/png;base64," + image):

        def native(padding: int, image: str = sent) -> bytes:
            message = {"role": "user", "content": "x" * padding, "images": [image]}
            return json.dumps({"model": "auto", "messages": [message]}).encode()

        padding = STEP_BYTES - native(0).index(sent[:8].encode()) + offset
        translated = json.loads(read_chat_request(native(padding)).translated)
        (part,) = [
            part for part in translated["messages"][0]["content"] if part["type"] == "image_url"
        ]
        assert part["image_url"]["url"] == "data:image/png;base64," + image
    chat = encode(image_parts("data:image/png;base64," + image))
    at = chat.index(b"data:image")
    parts = image_parts("data:image/png;base64," + image)
    parts[0]["text"] += "x" * (STEP_BYTES - at + offset)
    assert "image_url" not in parse_chat(encode(parts)).needs
