"""The parts of a complete answer that `AnswerView` does not tell apart.

They are the text, the calls of tools with their arguments, and why the answer ended. Only answers
that are checked before they are returned are read so.
"""

from typing import Any, Final

import msgspec

from proxy.protocol.views import MAX_VIEWED_BYTES, UNREADABLE, Usage, read_usage
from router_model.answer_checks import LocalAnswer

# Types of a message's parts that are text, or thoughts that do not count as an answer.
_TEXT_PARTS: Final = ("", "text", "output_text", "refusal", "thinking", "reasoning")


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Any = ""  # a text; some servers send the object, or null for none


class _Call(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _Part(msgspec.Struct):
    type: Any = ""
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    audio: Any = None
    images: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None  # of /v1/completions
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]
    usage: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct):
    """An output item of a response: a message, or the call of a tool."""

    type: str = ""
    content: list[_Part] | None = None
    name: str = ""
    arguments: Any = ""


class _IncompleteDetails(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str
    output: list[_Item]
    incomplete_details: _IncompleteDetails | None = None
    usage: msgspec.Raw = msgspec.Raw()


_chat = msgspec.json.Decoder(_Chat)
_response = msgspec.json.Decoder(_Response)


def read_chat(body: bytes) -> LocalAnswer | None:
    """The parts of an answer in the format of chat or of completions.

    None for several choices, for an answer in an unknown form, and for a very large one.
    """
    if len(body) > MAX_VIEWED_BYTES:
        return None
    try:
        answer = _chat.decode(body)
    except UNREADABLE:
        return None
    if len(answer.choices) != 1:
        return None
    [choice] = answer.choices
    tokens = counted_tokens(read_usage(answer.usage))
    finish = choice.finish_reason or None
    if choice.message is None:
        return LocalAnswer(choice.text or "", finish, completion_tokens=tokens)
    message = choice.message
    functions = [call.function for call in message.tool_calls or ()]
    if message.function_call is not None:
        functions.append(message.function_call)
    refusal = message.refusal or ""
    if isinstance(message.content, list):
        refusal = refusal or "".join(part.refusal or "" for part in message.content)
    return LocalAnswer(
        _joined(message.content),
        finish,
        tool_calls=tuple((item.name, _as_text(item.arguments)) for item in functions),
        refusal=refusal,
        completion_tokens=tokens,
        has_other_output=bool(
            isinstance(message.audio, dict) or message.images or _has_other_part(message.content)
        ),
    )


def read_response(body: bytes) -> LocalAnswer | None:
    """The parts of a complete response of the Responses API; None as for `read_chat`."""
    if len(body) > MAX_VIEWED_BYTES:
        return None
    try:
        answer = _response.decode(body)
    except UNREADABLE:
        return None
    texts, refusals, calls = [], [], []
    has_other_output = False
    for item in answer.output:
        if item.type in ("function_call", "custom_tool_call"):
            calls.append((item.name, _as_text(item.arguments)))
        elif item.type == "message":
            texts.append(_joined(item.content))
            refusals += [part.refusal or "" for part in item.content or ()]
            has_other_output |= _has_other_part(item.content)
        elif item.type not in ("", "reasoning"):
            has_other_output = True
    details = answer.incomplete_details
    finish = "stop" if answer.status == "completed" else None
    if answer.status == "incomplete":
        is_filtered = details is not None and details.reason == "content_filter"
        finish = "content_filter" if is_filtered else "length"
    return LocalAnswer(
        "\n".join(texts),
        finish,
        tool_calls=tuple(calls),
        refusal="".join(refusals),
        completion_tokens=counted_tokens(read_usage(answer.usage, prompt="input", answer="output")),
        has_other_output=has_other_output,
    )


def counted_tokens(usage: Usage | None) -> int | None:
    """The tokens of an answer; None without a count. Some servers send -1 for unknown."""
    return usage.bounded().completion_tokens if usage is not None else None


def _joined(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _has_other_part(content: str | list[_Part] | None) -> bool:
    return isinstance(content, list) and any(part.type not in _TEXT_PARTS for part in content)


def _as_text(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
