"""Ollama's own wire formats, and those of Anthropic's that it speaks: bodies, lines and events."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fakes import event

Json = dict[str, Any]

THOUGHTS: Final = ("I add ", "both.")
VECTOR: Final = (0.25, -0.5, 0.125)
# Durations are in nanoseconds.
COUNTS: Final = {
    "total_duration": 174_560_334,
    "load_duration": 101_397_084,
    "prompt_eval_count": 19,
    "prompt_eval_duration": 13_074_791,
    "eval_count": 10,
    "eval_duration": 52_479_709,
}
CRASHED_LINE: Final = b'{"error": "The model has crashed."}\n'
_ids: Final = itertools.count(1)


def line(data: Json) -> bytes:
    """A line of a stream."""
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def schema_of(body: Json) -> Json | None:
    """The schema of the output; `format` is one, or the word `json`."""
    if body.get("format") == "json":
        return {"type": "object", "properties": {"city": {"type": "string"}}}
    return body.get("format") or None


def chat(body: Json, words: Sequence[str], calls: Sequence[tuple[str, str]]) -> list[Json]:
    """The lines of /api/chat. A tool call comes whole, with its arguments as an object."""

    def said(**message: Any) -> Json:
        return {"message": {"role": "assistant", "content": "", **message}}

    parts = [said(thinking=thought) for thought in THOUGHTS if body.get("think")]
    parts += [said(content=word) for word in words]
    for index, (name, arguments) in enumerate(calls):
        function = {"index": index, "name": name, "arguments": json.loads(arguments)}
        parts.append(said(tool_calls=[{"id": f"call_{next(_ids)}", "function": function}]))
    return _lines(body, parts, said(), is_load=not body.get("messages"))


def generate(body: Json, words: Sequence[str]) -> list[Json]:
    """The lines of /api/generate."""
    parts = [{"response": "", "thinking": thought} for thought in THOUGHTS if body.get("think")]
    parts += [{"response": word} for word in words]
    return _lines(body, parts, {"response": "", "context": [1, 2, 3]}, is_load=not body["prompt"])


def _lines(body: Json, parts: list[Json], last: Json, *, is_load: bool) -> list[Json]:
    named = {"model": body["model"], "created_at": "2026-01-02T03:04:05.678901Z"}
    if is_load:  # a request without a prompt loads the model
        return [named | last | {"done": True, "done_reason": "load"}]
    ended = named | last | {"done": True, "done_reason": "stop"} | COUNTS
    return [*(named | part | {"done": False} for part in parts), ended]


def joined(lines: Sequence[Json]) -> Json:
    """The answer that is not streamed: the last line with the output of all."""
    answer = dict(lines[-1])
    if "response" in answer:
        return answer | _joined(lines)
    messages = [part["message"] for part in lines]
    answer["message"] = {"role": "assistant"} | _joined(messages)
    return answer


def _joined(parts: Sequence[Json]) -> Json:
    whole: Json = {}
    for part in parts:
        for name in ("content", "response", "thinking", "tool_calls"):
            if name in part:
                whole[name] = whole[name] + part[name] if name in whole else part[name]
    return whole


def embed(body: Json) -> Json:
    """The answer of /api/embed."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    counts = {name: COUNTS[name] for name in ("total_duration", "load_duration")}
    vectors = [VECTOR for _ in texts]
    return {"model": body["model"], "embeddings": vectors, "prompt_eval_count": 5} | counts


# ── Anthropic's /v1/messages ──────────────────────────────────────────────────────────────────


def message(body: Json, words: Sequence[str], calls: Sequence[tuple[str, str]]) -> Json:
    """The answer of /v1/messages."""
    content: list[Json] = []
    if (body.get("thinking") or {}).get("type") == "enabled":
        content.append({"type": "thinking", "thinking": "".join(THOUGHTS)})
    if words:
        content.append({"type": "text", "text": "".join(words)})
    for name, arguments in calls:
        block = {"type": "tool_use", "id": f"call_{next(_ids)}", "name": name}
        content.append(block | {"input": json.loads(arguments)})
    return {
        "id": f"msg_{next(_ids)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "usage": {"input_tokens": 19, "output_tokens": 10},
    }


def message_events(answer: Json, words: Sequence[str]) -> list[bytes]:
    """The events of the same answer as a stream, with its text in these words."""
    events = _message_events(answer, words)
    return [f"event: {data['type']}\n".encode() + event(data) for data in events]


def message_error(message: str, *, kind: str = "api_error") -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _message_events(answer: Json, words: Sequence[str]) -> Iterator[Json]:
    begun = {name: value for name, value in answer.items() if name != "stop_reason"}
    begun |= {"content": [], "usage": {"input_tokens": 19, "output_tokens": 0}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(answer["content"]):
        at = {"index": index}
        match block["type"]:
            case "thinking":
                empty = {"thinking": ""}
                deltas = [{"type": "thinking_delta", "thinking": text} for text in THOUGHTS]
            case "text":
                empty = {"text": ""}
                deltas = [{"type": "text_delta", "text": text} for text in words]
            case _:
                empty = {"input": {}}
                arguments = json.dumps(block["input"], ensure_ascii=False)
                deltas = [{"type": "input_json_delta", "partial_json": arguments}]
        yield {"type": "content_block_start", "content_block": block | empty, **at}
        for delta in deltas:
            yield {"type": "content_block_delta", "delta": delta, **at}
        yield {"type": "content_block_stop", **at}
    delta = {"stop_reason": answer["stop_reason"]}
    usage = {"input_tokens": 19, "output_tokens": 10}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}
