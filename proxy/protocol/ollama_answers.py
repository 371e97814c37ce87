"""Answers of Ollama's native API: their view, and the translation of OpenAI's answers into them.

A stream has one JSON object in each line. Its last line has `done: true`, the reason and the token
counts. An error is `{"error": "text"}`, as a whole answer or as a line.

Sources: Ollama's docs/api.md and api/types.go as of v0.33, and what its Python client parses.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from proxy.errors import RouterError
from proxy.protocol.chat import ChatAnswer, Choice, Delta, read_call_ids, view_answer
from proxy.protocol.fields import read_text
from proxy.protocol.refusals import read_refusal
from proxy.protocol.views import MAX_VIEWED_BYTES, UNREADABLE, Usage, is_empty
from proxy.protocol.views import read_count as _read_count
from router_model.answer_checks import LocalAnswer

LINE_TYPE: Final = b"application/x-ndjson"
MAX_EVENT_CHARS: Final = 2**20  # of an event that is translated
MAX_CALL_CHARS: Final = 2**22  # of the tool calls of one answer

_DONE_REASONS: Final = {"stop": "stop", "tool_calls": "stop", "function_call": "stop"}
# A first `\r` stays, and is stripped: a pattern that begins with it takes twice the time.
_EVENT_END: Final = re.compile(rb"\n\r?\n")
_VECTORS: Final = re.compile(rb'"embeddings?"\s*:\s*\[')
_NO_DETAILS: Final = "The model's server has answered with an error without a message."


class _AnswerMessage(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class NativeAnswer(msgspec.Struct):
    """A complete answer, or one line of a stream; both have the fields that are read."""

    message: _AnswerMessage | None = None
    response: str | None = None
    thinking: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    model: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw()

    service_tier = hosted_calls = None
    is_bare_error = is_usage_only = False

    @property
    def usage(self) -> Usage | None:
        if self.prompt_eval_count is None and self.eval_count is None:
            return None
        return Usage(self.prompt_eval_count, self.eval_count)

    @property
    def is_answer(self) -> bool:
        return self.message is not None or self.response is not None or bool(self.done)

    @property
    def failed(self) -> bool:
        return not is_empty(self.error)

    @property
    def finished(self) -> bool:
        return bool(self.done)

    @property
    def finish_reason(self) -> str | None:
        return (self.done_reason or "stop") if self.done else None

    @property
    def text(self) -> str:
        return (self.message.content if self.message is not None else self.response) or ""

    @property
    def _calls(self) -> msgspec.Raw:
        return self.tool_calls if self.message is None else self.message.tool_calls

    @property
    def call_ids(self) -> list[str]:
        return read_call_ids(self._calls)

    @property
    def other_text(self) -> str:
        """Thinking and tool calls, which are output, too."""
        calls = self._calls
        thinking = self.thinking if self.message is None else self.message.thinking
        return (thinking or "") + ("" if is_empty(calls) else bytes(calls).decode(errors="replace"))

    @property
    def speaks(self) -> bool:
        return bool(self.text or self.other_text)


class _LooseAnswer(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()
    model: msgspec.Raw = msgspec.Raw()
    done: msgspec.Raw = msgspec.Raw()
    done_reason: msgspec.Raw = msgspec.Raw()
    prompt_eval_count: msgspec.Raw = msgspec.Raw()
    eval_count: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _LooseMessage(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()


class _CalledFunction(msgspec.Struct):
    name: str | None = None
    arguments: Any = None  # OpenAI sends a text, Ollama an object


class _ToolCall(msgspec.Struct):
    """A tool call, or in OpenAI's stream a part of it."""

    index: int | None = None
    id: str | None = None
    function: _CalledFunction | None = None


class _WholeAnswer(msgspec.Struct):
    """A complete chat answer of OpenAI's format."""

    choices: list[Choice] = []


class _Logprobs(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


class _LoggedChoice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _LoggedAnswer(msgspec.Struct):
    choices: list[_LoggedChoice] = []


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Vectors(msgspec.Struct):
    data: list[_Vector]


_answer = msgspec.json.Decoder(NativeAnswer)
_loose_answer = msgspec.json.Decoder(_LooseAnswer)
_loose_message = msgspec.json.Decoder(_LooseMessage)
_tool_calls = msgspec.json.Decoder(list[_ToolCall])
_whole_answer = msgspec.json.Decoder(_WholeAnswer)
_logged_answer = msgspec.json.Decoder(_LoggedAnswer)
_vectors = msgspec.json.Decoder(_Vectors)
_encode = msgspec.json.Encoder().encode


# ── The view ──────────────────────────────────────────────────────────────────────────────────


def view_native(data: bytes) -> NativeAnswer | None:
    """Read a complete answer or one line; None for an unknown form.

    Each field is read on its own where one has an unexpected type.
    """
    try:
        return _answer.decode(data)
    except msgspec.ValidationError:
        pass
    except UNREADABLE:
        return None
    try:
        return _view_loosely(_loose_answer.decode(data))
    except UNREADABLE:
        return None


def _view_loosely(answer: _LooseAnswer) -> NativeAnswer:
    message = None
    if bytes(answer.message).startswith(b"{"):
        loose = _loose_message.decode(answer.message)
        message = _AnswerMessage(_text(loose.content), _text(loose.thinking), loose.tool_calls)
    return NativeAnswer(
        message,
        _text(answer.response),
        _text(answer.thinking),
        answer.tool_calls,
        _text(answer.model),
        bytes(answer.done) == b"true",
        _text(answer.done_reason),
        _read_count(answer.prompt_eval_count),
        _read_count(answer.eval_count),
        answer.error,
    )


def _text(raw: msgspec.Raw) -> str | None:
    return read_text(raw) if raw else None


def read_native_parts(body: bytes) -> LocalAnswer | None:
    """The parts of a complete answer; None for one in an unknown form and for a very large one."""
    if len(body) > MAX_VIEWED_BYTES:
        return None
    answer = view_native(body)
    if answer is None or not answer.is_answer:
        return None
    calls = answer.message.tool_calls if answer.message is not None else answer.tool_calls
    usage = answer.usage
    return LocalAnswer(
        answer.text,
        answer.finish_reason,
        tool_calls=tuple(
            (call["function"]["name"], _encode(call["function"]["arguments"]).decode())
            for call in _native_calls(_read_calls(calls))
        ),
        completion_tokens=usage.bounded().completion_tokens if usage is not None else None,
    )


def has_native_vectors(body: bytes) -> bool:
    """Whether a body is an answer to a request for embeddings."""
    return _VECTORS.search(body) is not None


def error_body(error: RouterError) -> bytes:
    """The body of an answer that is an error, as Ollama's clients parse it."""
    return _encode({"error": error.message})


def error_line(error: RouterError) -> bytes:
    """The last line of a stream that cannot go on."""
    return error_body(error) + b"\n"


# ── Translation of OpenAI's answers ───────────────────────────────────────────────────────────


class Durations(NamedTuple):
    """How long an answer has taken so far, in nanoseconds.

    Attributes:
        total: since the request.
        prompt: until the first output; 0 if it is unknown.
    """

    total: int
    prompt: int


class Piece(NamedTuple):
    """A part of an answer, or all of it."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] | None = None


Form = Callable[[Piece], dict[str, Any]]


def chat_form(piece: Piece) -> dict[str, Any]:
    """A piece of an answer to /api/chat."""
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = piece.calls
    return {"message": message}


def generate_form(piece: Piece) -> dict[str, Any]:
    """A piece of an answer to /api/generate."""
    fields: dict[str, Any] = {"response": piece.text}
    if piece.thinking:
        fields["thinking"] = piece.thinking
    return fields


class Translation:
    """Translates one answer of OpenAI's chat format.

    Args:
        form: of a piece of the answer.
        model: the name that the client asked for, which Ollama repeats.
        durations: how long the answer has taken so far.
    """

    def __init__(self, form: Form, *, model: str, durations: Callable[[], Durations]) -> None:
        self._form = form
        self._model = model
        self._durations = durations
        self._rest = b""  # of an event that is incomplete
        self._calls: dict[int, _ToolCall] = {}
        self._calls_left = MAX_CALL_CHARS
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._has_ended = False

    def whole(self, body: bytes) -> bytes:
        """A complete answer, or an error."""
        view = view_answer(body)
        choice = _first_choice(body, view)
        if view is None or choice is None:
            return self.error(body)
        message = choice.message or Delta(content=choice.text)
        self._reason, self._usage = choice.finish_reason, view.usage
        calls = _native_calls(_read_calls(message.tool_calls))
        piece = Piece(message.text, _thinking(message), calls)
        return _encode(self._fields(piece) | _logprobs(body) | self._end_fields())

    def loaded(self, *, is_unload: bool) -> bytes:
        """The answer to a request that asks for no answer."""
        reason = "unload" if is_unload else "load"
        return _encode(self._fields(Piece()) | {"done": True, "done_reason": reason})

    def error(self, body: bytes) -> bytes:
        """An error of any server."""
        return _encode({"error": read_refusal(body).message or _NO_DETAILS})

    @staticmethod
    def is_error(translated: bytes) -> bool:
        """Whether a translated answer is an error."""
        return translated.startswith(b'{"error"')

    def feed(self, data: bytes) -> bytes:
        """The lines for the next bytes of a stream.

        A comment, which keeps a connection alive, becomes a line without text. Ollama sends such
        lines, too.
        """
        *events, self._rest = _EVENT_END.split(self._rest + data)
        if len(self._rest) > MAX_EVENT_CHARS:
            self._rest = b""  # its end will be read as an event in an unknown form
        return b"".join(map(self._translate, events))

    def end(self) -> bytes:
        """The lines at the end of a stream whose server did not send [DONE]."""
        rest, self._rest = self._rest, b""
        lines = self._translate(rest)
        if self._reason is None or self._has_ended:
            return lines
        return lines + self._last_line()

    def _translate(self, event: bytes) -> bytes:
        if event.startswith(b":"):
            return self._line(self._fields(Piece()))
        parts = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
        data = b"\n".join(parts)
        if not data:
            return b""
        if data == b"[DONE]":
            return b"" if self._has_ended else self._last_line()
        view = view_answer(data)
        if view is None:
            return b""
        if view.failed:
            return self.error(data) + b"\n"
        self._usage = view.usage or self._usage
        return self._translate_choice(view.choices[0], data) if view.choices else b""

    def _translate_choice(self, choice: Choice, data: bytes) -> bytes:
        delta = choice.delta or choice.message or Delta(content=choice.text)
        self._add_calls(_read_calls(delta.tool_calls))
        calls = None
        if choice.finish_reason:
            self._reason = choice.finish_reason
            calls = _native_calls(list(self._calls.values()))
            self._calls.clear()
        piece = Piece(delta.text, _thinking(delta), calls)
        if not any(piece):
            return b""
        return self._line(self._fields(piece) | _logprobs(data))

    def _add_calls(self, parts: list[_ToolCall]) -> None:
        """Join the parts of tool calls: Ollama's clients get each call whole."""
        for position, part in enumerate(parts):
            if part.function is None:
                continue
            index = position if part.index is None else part.index
            name, arguments = part.function.name, part.function.arguments
            call = self._calls.setdefault(index, _ToolCall(index, None, _CalledFunction("", "")))
            assert call.function is not None  # as it was made
            call.id = call.id or part.id
            call.function.name = call.function.name or name
            if isinstance(arguments, str):
                self._calls_left -= len(arguments)
                if self._calls_left >= 0:
                    call.function.arguments += arguments
            elif arguments is not None:
                call.function.arguments = _encode(arguments).decode()

    def _fields(self, piece: Piece) -> dict[str, Any]:
        head = {"model": self._model, "created_at": _now()}
        return head | self._form(piece) | {"done": False}

    def _last_line(self) -> bytes:
        self._has_ended = True
        return self._line(self._fields(Piece()) | self._end_fields())

    def _end_fields(self) -> dict[str, Any]:
        """The end of an answer: why, the token counts, and durations in nanoseconds."""
        total, prompt = self._durations()
        fields: dict[str, Any] = {
            "done": True,
            "done_reason": _DONE_REASONS.get(self._reason or "stop", self._reason),
            "total_duration": total,
            "load_duration": 0,
        }
        usage = self._usage or Usage()
        if usage.prompt_tokens is not None:
            fields |= {"prompt_eval_count": usage.prompt_tokens, "prompt_eval_duration": prompt}
        if usage.completion_tokens is not None:
            fields |= {"eval_count": usage.completion_tokens, "eval_duration": total - prompt}
        return fields

    @staticmethod
    def _line(fields: dict[str, Any]) -> bytes:
        return _encode(fields) + b"\n"


class VectorTranslation(Translation):
    """Translates an answer of /v1/embeddings. Args as for `Translation`, without the form.

    Args:
        is_single: whether the client used /api/embeddings, whose answers have one vector.
    """

    def __init__(self, *, is_single: bool, model: str, durations: Callable[[], Durations]) -> None:
        super().__init__(chat_form, model=model, durations=durations)
        self._is_single = is_single

    def loaded(self, *, is_unload: bool) -> bytes:
        if self._is_single:
            return _encode({"embedding": []})
        return _encode({"model": self._model, "embeddings": []})

    def whole(self, body: bytes) -> bytes:
        try:
            answer = _vectors.decode(body)
        except UNREADABLE:
            return self.error(body)
        vectors = [item.embedding for item in _in_order(answer.data)]
        if self._is_single:
            return _encode({"embedding": vectors[0] if vectors else []})
        fields: dict[str, Any] = {
            "model": self._model,
            "embeddings": vectors,
            "total_duration": self._durations().total,
            "load_duration": 0,
        }
        view = view_answer(body)
        if view is not None and view.usage is not None:
            fields["prompt_eval_count"] = view.usage.prompt_tokens or 0
        return _encode(fields)


def _in_order(vectors: list[_Vector]) -> list[_Vector]:
    """The vectors by their index, or as they came if not all have one."""
    if any(item.index is None for item in vectors):
        return vectors
    return sorted(vectors, key=lambda item: item.index or 0)


def _first_choice(body: bytes, view: ChatAnswer | None) -> Choice | None:
    """The first choice of a complete answer. The view of a very large one has none."""
    if view is not None and view.choices:
        return view.choices[0]
    try:
        choices = _whole_answer.decode(body).choices
    except UNREADABLE:
        return None
    return choices[0] if choices else None


def _thinking(delta: Delta) -> str:
    return delta.reasoning or delta.reasoning_content or ""


def _logprobs(data: bytes) -> dict[str, Any]:
    """The log-probabilities of an answer or a chunk, which have the same form in both APIs."""
    if b'"logprob"' not in data:
        return {}
    try:
        choices = _logged_answer.decode(data).choices
    except UNREADABLE:
        return {}
    logged = choices[0].logprobs if choices else None
    return {} if logged is None or is_empty(logged.content) else {"logprobs": logged.content}


def _read_calls(raw: msgspec.Raw) -> list[_ToolCall]:
    if is_empty(raw):
        return []
    try:
        return _tool_calls.decode(raw)
    except UNREADABLE:
        return []


def _native_calls(calls: list[_ToolCall]) -> list[dict[str, Any]]:
    """Complete tool calls in Ollama's form: the arguments are an object."""
    native = []
    for position, call in enumerate(calls):
        if call.function is None:
            continue
        index = position if call.index is None else call.index
        function = {
            "index": index,
            "name": call.function.name or "",
            "arguments": _as_object(call.function.arguments),
        }
        native.append(({"id": call.id} if call.id else {}) | {"function": function})
    return native


def _as_object(arguments: Any) -> dict[str, Any]:
    """The arguments as an object. What a model wrote otherwise is in the field `arguments`."""
    if isinstance(arguments, dict):
        return arguments
    try:
        value = msgspec.json.decode(arguments) if arguments else {}
    except (*UNREADABLE, TypeError):
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
