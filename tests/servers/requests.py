"""Chat requests that need something which a server may lack."""

from collections.abc import Mapping
from typing import Any

from fakes import EASY

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
NAMED_TOOL = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "sum",
        "schema": {"type": "object", "properties": {"sum": {"type": "integer"}}},
    },
}
PNG = "data:image/png;base64,iVBORw0KGgo="

Fields = dict[str, Any]


def user(content: Any) -> Fields:
    return {"role": "user", "content": content}


def asking_about(part: Mapping[str, Any]) -> Fields:
    """Messages with a text and another content part."""
    return {"messages": [user([{"type": "text", "text": EASY}, part])]}


_SYSTEM = {"role": "system", "content": "Be brief."}
_NEEDS: dict[str, Fields] = {
    "tools": {"tools": [TOOL]},
    "tool_choice": {"tools": [TOOL], "tool_choice": NAMED_TOOL},
    "functions": {"functions": [TOOL["function"]]},
    "vision": asking_about({"type": "image_url", "image_url": {"url": PNG}}),
    "audio": asking_about({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
    "file": asking_about({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}}),
    "role": {"messages": [user("Hello."), user(EASY)]},
    "system": {"messages": [_SYSTEM, user(EASY)]},
    "system, order": {"messages": [_SYSTEM, user("Hello."), user(EASY)]},
    "prefill": {
        "messages": [
            user(EASY),
            {"role": "assistant", "content": "The sum"},
            {"role": "assistant", "content": "is"},
        ]
    },
    "length": {"messages": [user(f"{EASY} {'And then? ' * 1000}")]},
    "json_schema": {"response_format": SCHEMA},
    "json_object": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stop": {"stop": ["a", "b", "c", "d", "e"]},
    "model": {},
    "stream_options": {},
}
_VALUES = {"temperature": 0.2, "top_p": 0.5, "frequency_penalty": 0.5, "chat_template": "{{ 1 }}"}


def request_with(need: str) -> Fields:
    """The fields of an easy chat request to `auto` that has a need (those of refusals.json)."""
    kind, _, name = need.partition(":")
    extra = {name: _VALUES[name]} if kind == "field" else _NEEDS[need]
    return {"model": "auto", "messages": [user(EASY)]} | extra
