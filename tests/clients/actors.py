"""Simulated OpenAI and Ollama: what each would put on the wire for a request.

Ollama answers on OpenAI's endpoints, on its own, and on Anthropic's (`ollama_wire`).

The request determines the answer. Offered tools are called until there are results, two at a time
unless one is required; then the last one is called again, by which agents end. An actor that does
not call unasked calls only the tool that the last prompt names, as in `CALL shell {"command":
"ls"}`. A schema gets a valid value. All else is answered with `TEXT`, in the form that an agent's
prompt demands. A word in the last prompt causes a fault:

    BUSY     OpenAI's 503, for the first two requests with this prompt; with VERY, three
    FULL     Ollama's 503: its queue is full
    BREAK    the stream ends in an error after its first words
    VANISH   the connection is lost there
    HANG     a stream stops after its first words; other requests get no answer
"""

import base64
import itertools
import json
import re
import struct
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import ollama_wire

from fakes import DONE, Answer, Call, End, Gate, Step, chunked, error_json, event, whole

Json = dict[str, Any]

WORDS: Final = ("2 + 2", " is 4,", " naïvely", " 🙂.")
TEXT: Final = "".join(WORDS)
CREATED: Final = 1_760_000_000
CITIES: Final = ("Zürich", "Paris")
# smolagents reports the results of tools in a user's message that begins with this.
OBSERVATION: Final = "Observation:"
# What agents demand of a text in their prompts, and the text in that form.
FORMS: Final = {
    "[[ ## completed ## ]]": ("[[ ## answer ## ]]\n", *WORDS, "\n\n[[ ## completed ## ]]"),  # DSPy
    "<code>": ("<code>\nfinal_answer('", *WORDS, "')\n</code>"),  # smolagents
}
CRASHED: Final = event(error_json("The model has crashed."))
# Headers of OpenAI's answers.
OPENAI_HEADERS: Final = (
    ("x-request-id", "req_of_the_upstream"),
    ("openai-organization", "org-of-the-proxy"),
    ("openai-processing-ms", "420"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-remaining-requests", "9999"),
)


@dataclass
class Output:
    """The model's output: a text, or tool calls as (name, arguments)."""

    words: tuple[str, ...] = ()
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words)


class Actor:
    """The behaviour of one upstream; `answer` is the script of a `FakeUpstream`."""

    def __init__(self, *, needs_adapting: bool, calls_unasked: bool = True) -> None:
        self._is_ollama = needs_adapting
        self._calls_unasked = calls_unasked
        self._ids = itertools.count(1)
        self._prompts: Counter[str] = Counter()
        self._responses: dict[str, tuple[Json, Any]] = {}
        self.calls: list[Call] = []

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        try:
            return self._answer(call)
        except Exception:  # makes a bug of this script visible to the client
            return whole(error_json(traceback.format_exc()), status=500)

    def _answer(self, call: Call) -> Answer:
        path = call.path.partition("?")[0].removeprefix("/v1")
        if call.method != "POST":
            return self._about(call.method, path.removeprefix("/responses/"))
        if path == "/audio/transcriptions" and not self._is_ollama:  # a form with a file
            return self._whole({"text": TEXT} if b"RIFF" in call.body else {"text": ""})
        body = call.json
        match path:
            case "/chat/completions":
                return self._trouble(prompt_of(body["messages"])) or self._chat(body)
            case "/responses":
                return self._trouble(prompt_of(body.get("input") or "")) or self._respond(body)
            case "/completions":
                return self._trouble(body["prompt"]) or self._complete(body)
            case "/embeddings":
                return self._embed(body)
            case "/messages" if self._is_ollama:
                return self._messages(body)
            case "/api/chat" | "/api/generate" if self._is_ollama:
                return self._native(body)
            case "/api/embed" if self._is_ollama:
                return self._whole(ollama_wire.embed(body))
            case "/moderations" if not self._is_ollama:
                result = {"flagged": False, "categories": {}, "category_scores": {}}
                return self._whole({"id": "modr-1", "model": "x", "results": [result]})
        return self._refuse(404, f"Invalid URL (POST {call.path})")

    def _say(self, body: Json, offered: list[Json], schema: Json | None, *, prompt: str) -> Output:
        if self._calls_unasked:
            return say(body, offered, schema)
        call = named_call(prompt)
        if call is not None and any(tool["name"] == call[0] for tool in offered):
            return Output(calls=[call])
        return say(body, [], schema)

    def _refuse(self, status: int, message: str, code: str | None = None) -> Answer:
        error = error_json(message, kind="invalid_request_error", code=code)
        return whole(error, status=status, headers=self._headers())

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return () if self._is_ollama else OPENAI_HEADERS

    def _whole(self, body: Json) -> Answer:
        return whole(json.dumps(body).encode(), headers=self._headers())

    def _trouble(self, prompt: str) -> Answer | None:
        self._prompts[prompt] += 1
        if self._is_ollama and "FULL" in prompt:
            return self._refuse(503, "server busy, please try again. maximum pending requests")
        times = 3 if "VERY" in prompt else 2
        if not self._is_ollama and "BUSY" in prompt and self._prompts[prompt] <= times:
            busy = error_json("The engine is currently overloaded.", kind="server_error")
            return whole(busy, status=503, headers=[("retry-after-ms", "1")])
        return None

    def _events(
        self,
        prompt: str,
        events: list[bytes],
        error: bytes,
        *,
        first: int,
        content_type: str = "text/event-stream",
    ) -> Answer:
        """A stream of these events; only of the `first` ones when the prompt causes a fault."""
        steps: list[Step] = list(events)
        if "HANG" in prompt:
            steps = [*events[:first], Gate()]
        elif "BREAK" in prompt:
            steps = [*events[:first], error]
        elif "VANISH" in prompt:
            steps = [*events[:first], End.RESET]
        return chunked(*steps, headers=self._headers(), content_type=content_type)

    # ── /v1/chat/completions ──────────────────────────────────────────────────────────────────

    def _chat(self, body: Json) -> Answer:
        messages = body["messages"]
        prompt = prompt_of(messages)
        if self._is_ollama and any(has_image(message) for message in messages):
            return self._refuse(400, "this model is missing data required for image input")
        offered = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
        if messages[-1]["role"] == "tool" or prompt.startswith(OBSERVATION):
            offered = offered[-1:] if body.get("tool_choice") == "required" else []
        schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        if (body.get("response_format") or {}).get("type") == "json_object":
            schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        output = self._say(body, offered, schema, prompt=prompt)
        if body.get("stream"):
            events = [event(chunk) for chunk in self._chunks(body, output)]
            return self._events(prompt, [*events, DONE], CRASHED, first=3)
        if "HANG" in prompt:
            return [Gate()]
        choices = [self._choice(body, output, index) for index in range(self._number(body))]
        return self._whole(
            self._named("chatcmpl", body)
            | {"object": "chat.completion", "choices": choices, "usage": self._usage()}
        )

    def _number(self, body: Json) -> int:
        return 1 if self._is_ollama else body.get("n") or 1

    def _named(self, prefix: str, body: Json) -> Json:
        named = {"id": f"{prefix}-{next(self._ids)}", "created": CREATED}
        if self._is_ollama:
            return named | {"model": body["model"], "system_fingerprint": "fp_ollama"}
        model = f"{body['model']}-2024-07-18"
        return named | {
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_560af6e559",
        }

    def _usage(self) -> Json:
        usage: Json = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
        if not self._is_ollama:
            usage["prompt_tokens_details"] = {"cached_tokens": 8, "audio_tokens": 0}
            usage["completion_tokens_details"] = {"reasoning_tokens": 0, "audio_tokens": 0}
        return usage

    def _choice(self, body: Json, output: Output, index: int) -> Json:
        message: Json = {"role": "assistant", "content": output.text}
        if output.calls:
            message["content"] = "" if self._is_ollama else None
            message["tool_calls"] = [self._tool_call(*call) for call in output.calls]
        if not self._is_ollama:
            message |= {"refusal": None, "annotations": []}
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs_of(body, output.words),
            "finish_reason": "tool_calls" if output.calls else "stop",
        }

    def _tool_call(self, name: str, arguments: str) -> Json:
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{next(self._ids)}", "type": "function", "function": function}

    def _chunks(self, body: Json, output: Output) -> Iterator[Json]:
        """Chunks of a stream. Ollama sends a tool call whole, OpenAI its arguments in pieces."""
        named = self._named("chatcmpl", body) | {"object": "chat.completion.chunk"}
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        if not self._is_ollama:
            named["obfuscation"] = "x7Jq"
            if wants_usage:
                named["usage"] = None

        def chunk(delta: Json, index: int, finish: str | None = None, logprobs: Any = None) -> Json:
            choice = {
                "index": index,
                "delta": delta,
                "logprobs": logprobs,
                "finish_reason": finish,
            }
            return named | {"choices": [choice]}

        for index in range(self._number(body)):
            yield chunk({"role": "assistant", "content": None if output.calls else ""}, index)
            for word in output.words:
                yield chunk({"content": word}, index, logprobs=logprobs_of(body, (word,)))
            for place, call in enumerate(output.calls):
                whole_call = self._tool_call(*call) | {"index": place}
                if self._is_ollama:
                    yield chunk({"content": "", "tool_calls": [whole_call]}, index)
                    continue
                begun = whole_call | {"function": {"name": call[0], "arguments": ""}}
                yield chunk({"tool_calls": [begun]}, index)
                for piece in pieces(call[1]):
                    more = {"index": place, "function": {"arguments": piece}}
                    yield chunk({"tool_calls": [more]}, index)
            yield chunk({}, index, finish="tool_calls" if output.calls else "stop")
        if wants_usage:
            yield named | {"choices": [], "usage": self._usage()}

    # ── /v1/completions and /v1/embeddings ────────────────────────────────────────────────────

    def _complete(self, body: Json) -> Answer:
        named = self._named("cmpl", body) | {"object": "text_completion"}

        def choice(text: str, finish: str | None) -> list[Json]:
            return [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]

        if not body.get("stream"):
            done = {"choices": choice(TEXT, "stop"), "usage": self._usage()}
            return self._whole(named | done)
        events = [event(named | {"choices": choice(word, None)}) for word in WORDS]
        events.append(event(named | {"choices": choice("", "stop")}))
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(event(named | {"choices": [], "usage": self._usage()}))
        return self._events(body["prompt"], [*events, DONE], CRASHED, first=2)

    def _embed(self, body: Json) -> Answer:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector: list[float] | str = [0.25, -0.5, 0.125]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index in range(len(texts))
        ]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return self._whole({"object": "list", "data": data, "model": body["model"], "usage": usage})

    # ── /v1/responses ─────────────────────────────────────────────────────────────────────────

    def _respond(self, body: Json) -> Answer:
        given = body.get("input") or ""
        if previous := body.get("previous_response_id"):
            if self._is_ollama:
                return self._refuse(400, "previous_response_id is not supported")
            if previous not in self._responses:
                message = f"Previous response with id '{previous}' not found."
                return self._refuse(400, message, "previous_response_not_found")
        offered = [tool for tool in body.get("tools") or () if tool["type"] == "function"]
        answered = isinstance(given, list) and given[-1].get("type") == "function_call_output"
        form = (body.get("text") or {}).get("format") or {"type": "text"}
        prompt = prompt_of(given)
        output = self._say(body, [] if answered else offered, form.get("schema"), prompt=prompt)
        response = self._response(body, form)
        items = [self._message(output.text)] if output.words else []
        items += [self._function_call(*call) for call in output.calls]
        done = response | {"status": "completed", "output": items, "usage": self._tokens()}
        self._responses[response["id"]] = done, given
        if body.get("stream"):
            events = [
                typed_event(item | {"sequence_number": number})
                for number, item in enumerate(self._typed_events(response, done, output))
            ]
            error = {
                "type": "error",
                "code": "server_error",
                "message": "The model has crashed.",
                "param": None,
                "sequence_number": len(events),
            }
            return self._events(prompt, events, typed_event(error), first=6)
        return [Gate()] if "HANG" in prompt else self._whole(done)

    def _response(self, body: Json, form: Json) -> Json:
        """A response in progress, without output."""
        echoed = ("instructions", "max_output_tokens", "previous_response_id", "temperature")
        return {
            "id": f"resp_{'local' if self._is_ollama else 'cloud'}_{next(self._ids)}",
            "object": "response",
            "created_at": CREATED,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            **{name: body.get(name) for name in echoed},
            "max_tool_calls": None,
            "model": body["model"] if self._is_ollama else f"{body['model']}-2024-07-18",
            "output": [],
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": body.get("store", True),
            "text": {"format": form, "verbosity": "medium"},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            "user": None,
            "metadata": body.get("metadata") or {},
        }

    def _tokens(self) -> Json:
        return {
            "input_tokens": 19,
            "input_tokens_details": {"cached_tokens": 0 if self._is_ollama else 8},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 29,
        }

    def _message(self, text: str) -> Json:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {
            "id": f"msg_{next(self._ids)}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }

    def _function_call(self, name: str, arguments: str) -> Json:
        number = next(self._ids)
        return {
            "id": f"fc_{number}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{number}",
            "name": name,
            "arguments": arguments,
        }

    def _typed_events(self, response: Json, done: Json, output: Output) -> Iterator[Json]:
        yield {"type": "response.created", "response": response}
        yield {"type": "response.in_progress", "response": response}
        for index, item in enumerate(done["output"]):
            at = {"output_index": index}
            on = {"item_id": item["id"], **at}
            if item["type"] == "function_call":
                begun, arguments = item | {"arguments": ""}, item["arguments"]
                begun["status"] = "in_progress"
                yield {"type": "response.output_item.added", "item": begun, **at}
                for piece in pieces(arguments):
                    yield {"type": "response.function_call_arguments.delta", "delta": piece, **on}
                yield {
                    "type": "response.function_call_arguments.done",
                    "arguments": arguments,
                    "name": item["name"],
                    **on,
                }
            else:
                begun, (part,) = item | {"content": [], "status": "in_progress"}, item["content"]
                yield {"type": "response.output_item.added", "item": begun, **at}
                on["content_index"] = 0
                empty = part | {"text": ""}
                yield {"type": "response.content_part.added", "part": empty, **on}
                for word in output.words:
                    delta = {"delta": word, "logprobs": [], **on}
                    yield {"type": "response.output_text.delta", **delta}
                text = {"text": part["text"], "logprobs": [], **on}
                yield {"type": "response.output_text.done", **text}
                yield {"type": "response.content_part.done", "part": part, **on}
            yield {"type": "response.output_item.done", "item": item, **at}
        yield {"type": "response.completed", "response": done}

    # ── Ollama's own endpoints, and Anthropic's ───────────────────────────────────────────────

    def _native(self, body: Json) -> Answer:
        """Answer /api/chat and /api/generate, which stream unless told otherwise."""
        messages = body.get("messages")
        if messages is None and not body.get("prompt"):  # the proxy loads a model
            return self._whole({"model": body["model"], "done": True, "done_reason": "load"})
        prompt = prompt_of(body["prompt"] if messages is None else messages)
        if "FULL" in prompt:
            return whole(b'{"error": "server busy, please try again."}', status=503)
        offered = [tool["function"] for tool in body.get("tools") or ()]
        if messages and messages[-1]["role"] == "tool":
            offered = []
        output = self._say({}, offered, ollama_wire.schema_of(body), prompt=prompt)
        if messages is None:
            lines = ollama_wire.generate(body, output.words)
        else:
            lines = ollama_wire.chat(body, output.words, output.calls)
        if body.get("stream", True):
            return self._events(
                prompt,
                [ollama_wire.line(data) for data in lines],
                ollama_wire.CRASHED_LINE,
                first=2,
                content_type="application/x-ndjson",
            )
        return [Gate()] if "HANG" in prompt else self._whole(ollama_wire.joined(lines))

    def _messages(self, body: Json) -> Answer:
        """Answer Anthropic's /v1/messages."""
        messages = body["messages"]
        prompt = prompt_of(messages)
        if "FULL" in prompt:
            busy = ollama_wire.message_error("server busy", kind="overloaded_error")
            return whole(json.dumps(busy).encode(), status=503)
        offered = [
            {"name": tool["name"], "parameters": tool["input_schema"]}
            for tool in body.get("tools") or ()
        ]
        content = messages[-1]["content"]
        if isinstance(content, list) and any(part["type"] == "tool_result" for part in content):
            offered = []
        output = self._say({}, offered, None, prompt=prompt)
        answer = ollama_wire.message(body, output.words, output.calls)
        if body.get("stream"):
            crashed = typed_event(ollama_wire.message_error("The model has crashed."))
            events = ollama_wire.message_events(answer, output.words)
            return self._events(prompt, events, crashed, first=3)
        return [Gate()] if "HANG" in prompt else self._whole(answer)

    def _about(self, method: str, what: str) -> Answer:
        """Answer requests about earlier responses, which only OpenAI stores."""
        response_id, _, part = what.partition("/")
        stored = None if self._is_ollama else self._responses.get(response_id)
        if stored is None:
            return self._refuse(404, f"Response with id '{response_id}' not found.")
        response, previous_input = stored
        if part == "input_items":
            content = [{"type": "input_text", "text": prompt_of(previous_input)}]
            item = {"id": "msg_0", "type": "message", "role": "user", "content": content}
            page = {"object": "list", "data": [item], "has_more": False}
            return self._whole(page | {"first_id": "msg_0", "last_id": "msg_0"})
        if method == "GET":
            return self._whole(response)
        del self._responses[response_id]
        return self._whole({"id": response_id, "object": "response", "deleted": True})


def say(body: Json, offered: list[Json], schema: Json | None) -> Output:
    """The output for a request, given the tools to call."""
    choice = body.get("tool_choice") or "auto"
    if offered and choice != "none":
        allows_parallel = choice == "auto" and body.get("parallel_tool_calls") is not False
        named = [tool for tool in offered if tool["name"] in json.dumps(choice)]
        tool = (named or offered)[0]
        parameters = tool.get("parameters") or {}
        return Output(
            calls=[
                (tool["name"], json.dumps(example(parameters, city), ensure_ascii=False))
                for city in (CITIES if allows_parallel else CITIES[:1])
            ]
        )
    if schema is not None:
        return Output(tuple(pieces(json.dumps(example(schema), ensure_ascii=False))))
    text = str(body.get("messages"))
    return Output(next((words for demand, words in FORMS.items() if demand in text), WORDS))


def named_call(prompt: str) -> tuple[str, str] | None:
    """The tool call that a prompt names, as (name, arguments)."""
    prompt = prompt.replace('\\"', '"')  # opencode sends its command line's prompt quoted
    match = re.search(r"\bCALL (\w+) (?={)", prompt)
    if match is None:
        return None
    _, end = json.JSONDecoder().raw_decode(prompt, match.end())
    return match[1], prompt[match.end() : end]


def example(schema: Json, text: str = CITIES[0], defs: Json | None = None) -> Any:
    """A valid value of a JSON schema."""
    defs = schema.get("$defs", defs or {})
    if "$ref" in schema:
        return example(defs[schema["$ref"].rpartition("/")[2]], text, defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return example(schema[name][0], text, defs)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties") or {}
            return {name: example(inner, text, defs) for name, inner in properties.items()}
        case "array":
            return [example(schema["items"], text, defs)]
        case "integer":
            return schema.get("minimum", 21)
        case "number":
            return 21.5
        case "boolean":
            return True
        case "null":
            return None
    return text


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of five characters, as arguments are streamed."""
    return (text[at : at + 5] for at in range(0, len(text), 5))


def prompt_of(messages: list[Json] | str) -> str:
    """The text of the last user message."""
    if isinstance(messages, str):
        return messages
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message["content"]
            if isinstance(content, str):
                return content
            return "\n".join(part.get("text", "") for part in content)
    return ""


def has_image(message: Json) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] == "image_url" for part in content)


def logprobs_of(body: Json, words: tuple[str, ...]) -> Json | None:
    if not body.get("logprobs"):
        return None
    content = []
    for word in words:
        token = {"token": word, "logprob": -0.25, "bytes": list(word.encode())}
        content.append(token | {"top_logprobs": [token] * (body.get("top_logprobs") or 0)})
    return {"content": content, "refusal": None}


def typed_event(data: Json) -> bytes:
    return f"event: {data['type']}\n".encode() + event(data)
