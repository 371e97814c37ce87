"""Answers of servers with Anthropic's Messages API, in the forms of Ollama and of Anthropic."""

import json
from collections.abc import Sequence
from typing import Any

from fakes import WORDS, message_json

TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}}


def named(kind: str, **fields: Any) -> bytes:
    """One event of a stream."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start_of(**usage: int) -> bytes:
    message = json.loads(message_json()) | {"content": [], "stop_reason": None, "usage": usage}
    return named("message_start", message=message)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """The events of one block."""
    return [
        named("content_block_start", index=index, content_block=start),
        *(named("content_block_delta", index=index, delta=delta) for delta in deltas),
        named("content_block_stop", index=index),
    ]


def text_block(words: Sequence[str], index: int = 0) -> list[bytes]:
    deltas = ({"type": "text_delta", "text": word} for word in words)
    return block(index, {"type": "text", "text": ""}, *deltas)


def end_of(stop_reason: str | None = "end_turn", **usage: int) -> list[bytes]:
    return [
        named("message_delta", delta={"stop_reason": stop_reason}, usage=usage),
        named("message_stop"),
    ]


def ollama_events(words: Sequence[str] = WORDS) -> list[bytes]:
    """Ollama's stream: an estimate of the input at the start, the counts at the end."""
    return [
        start_of(input_tokens=4, output_tokens=0),
        *text_block(words),
        *end_of(input_tokens=19, output_tokens=10),
    ]


def anthropic_events(words: Sequence[str] = WORDS) -> list[bytes]:
    """Anthropic's own stream: the input is counted at the start only; pings."""
    return [
        start_of(input_tokens=7, cache_read_input_tokens=8, cache_creation_input_tokens=4),
        named("ping"),
        *text_block(words),
        *end_of(output_tokens=10),
    ]


def tool_events() -> list[bytes]:
    """A stream with thinking and the call of a tool, whose input comes in pieces."""
    call = TOOL_USE | {"input": {}}
    pieces = (
        {"type": "input_json_delta", "partial_json": part} for part in ('{"city":', '"Bonn"}')
    )
    thought = {"type": "thinking_delta", "thinking": "The weather."}
    return [
        start_of(input_tokens=19, output_tokens=0),
        *block(0, {"type": "thinking", "thinking": ""}, thought),
        *block(1, call, *pieces),
        *end_of("tool_use", input_tokens=19, output_tokens=10),
    ]
