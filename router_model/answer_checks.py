"""Hard checks of a finished local answer, before it is returned.

A check names a defect that the client would see, and that another model would not have. A false
alarm costs a cloud call, so a check that is unsure passes: it reads few patterns, and what the
client has set itself (its token limit, its stop sequences) is no defect.

The work is bounded: only the edges of a text are read, except to parse JSON.
"""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from router_model.choice import lacks_option
from router_model.final_answer import without_thinking
from router_model.refusal import is_refusal
from router_model.repetition import repeats_itself
from router_model.schema import fits

Schema = Mapping[str, Any]


class Check(StrEnum):
    """What an answer fails, in the order of the checks."""

    EMPTY = "empty"
    UNFINISHED = "unfinished"
    CUT_OFF = "cut_off"
    REPETITION = "repetition"
    JSON = "json"
    TOOL_ARGUMENTS = "tool_arguments"
    NO_OPTION = "no_option"
    REFUSAL = "refusal"


class LocalAnswer(NamedTuple):
    """A finished answer.

    Attributes:
        tool_calls: pairs of a tool's name and its arguments as they were sent.
        refusal: the text of the answer's refusal field.
        completion_tokens: None if the server has not said.
        has_other_output: whether there is output of another kind than text and tool calls.
    """

    text: str
    finish_reason: str | None
    tool_calls: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    completion_tokens: int | None = None
    has_other_output: bool = False


class Asked(NamedTuple):
    """What the client asked for.

    Attributes:
        prompt: the text of the newest user turn.
        json: whether the answer must be JSON: a JSON object, if there is no schema.
        tools: the schema of the parameters by the tool's name; None does not check tool calls.
        has_stop: whether the client gave stop sequences.
    """

    prompt: str
    max_tokens: int | None = None
    json: bool = False
    schema: Schema | None = None
    tools: Mapping[str, Schema] | None = None
    has_stop: bool = False


def failed_check(answer: LocalAnswer, asked: Asked) -> Check | None:
    """The first check that an answer fails; None if it passes all."""
    text = without_thinking(answer.text).strip()
    prompt = _edges(asked.prompt)
    is_cut = answer.finish_reason == "length"
    at_own_limit = is_cut and _is_own_limit(answer, asked)
    may_be_empty = at_own_limit or asked.has_stop or answer.finish_reason == "content_filter"
    has_more = bool(answer.tool_calls or answer.refusal or answer.has_other_output)
    if not (has_more or may_be_empty) and _is_blank(answer.text, text, prompt):
        return Check.EMPTY
    if not answer.finish_reason:
        return Check.UNFINISHED
    if is_cut and not at_own_limit:
        return Check.CUT_OFF
    if repeats_itself(text, asked.prompt, is_cut=is_cut):
        return Check.REPETITION
    if answer.finish_reason == "content_filter" or answer.refusal:
        return None
    is_whole = not at_own_limit
    if answer.tool_calls:
        is_broken = is_whole and asked.tools is not None and not _fit_tools(answer, asked.tools)
        return Check.TOOL_ARGUMENTS if is_broken else None
    if answer.has_other_output:
        return None
    if is_whole and not asked.has_stop and not _is_json_as_asked(text, asked):
        return Check.JSON
    if is_whole and lacks_option(text, asked.prompt):
        return Check.NO_OPTION
    return Check.REFUSAL if is_refusal(text, prompt) else None


def _is_own_limit(answer: LocalAnswer, asked: Asked) -> bool:
    """Whether an answer ends at the client's limit, which a server may count one token apart."""
    if asked.max_tokens is None:
        return False
    return answer.completion_tokens is None or answer.completion_tokens >= asked.max_tokens - 1


_EDGE_CHARS: Final = 2_000


def _edges(prompt: str) -> str:
    if len(prompt) <= 2 * _EDGE_CHARS:
        return prompt
    return f"{prompt[:_EDGE_CHARS]}\n{prompt[-_EDGE_CHARS:]}"


# ── Empty answers ─────────────────────────────────────────────────────────────────────────────

# Invisible and replacement characters, special tokens of models, and fences without content.
_BLANK = re.compile(
    r"(?:[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]"
    r"|<(?:\|[\w./ -]{1,40}\||unk|pad|eos|bos|(?:start|end)_of_turn)>"
    r"|(?:`{3,9}|~{3,9})[\w+#-]{0,20}(?=\s|$))*+"
)
_ASKS_FOR_BLANK = re.compile(
    r"\b(?:empty|blank|invisible|zero[- ]width|unicode|code ?points?|tokens?|tags?)\b|<think|<\|",
    re.IGNORECASE,
)


def _is_blank(raw: str, text: str, prompt: str) -> bool:
    """Whether a client sees nothing. Special tokens and the like may be what a prompt asks for."""
    if not _BLANK.fullmatch(text):
        return False
    return not raw.strip() or _ASKS_FOR_BLANK.search(prompt) is None


# ── JSON and tools ────────────────────────────────────────────────────────────────────────────


def _is_json_as_asked(text: str, asked: Asked) -> bool:
    if not asked.json and asked.schema is None:
        return True
    try:
        value = _loads(text)
    except _INVALID:
        return False
    if value is _UNREAD:
        return True
    return isinstance(value, dict) if asked.schema is None else fits(value, asked.schema)


_MAX_PARAMETERS: Final = 10_000  # that are looked up; models write calls with a few
_UNREAD: Final = object()
_INVALID: Final = (json.JSONDecodeError, RecursionError)


def _loads(text: str) -> object:
    """The value of JSON, or _UNREAD with a number that Python does not read. Raises _INVALID."""
    try:
        return json.loads(text, parse_constant=_reject)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _UNREAD  # more digits than `sys.set_int_max_str_digits` allows


def _reject(constant: str) -> object:
    """NaN and Infinity, which Python reads, are no JSON."""
    raise json.JSONDecodeError("not a value of JSON", constant, 0)


def _fit_tools(answer: LocalAnswer, tools: Mapping[str, Schema]) -> bool:
    """Whether all calls are of offered tools, with their required parameters.

    Calls beyond a number of parameters pass.
    """
    left = _MAX_PARAMETERS
    for name, arguments in answer.tool_calls:
        if name not in tools:
            return False
        required = tools[name].get("required")
        names = required if isinstance(required, list) else []
        left -= len(names) + 1
        if left < 0:
            return True
        if arguments.strip() in ("", "null") and not names:
            continue  # some servers send no {}
        try:
            given = _loads(arguments)
        except _INVALID:
            return False
        if given is _UNREAD:
            continue
        if not isinstance(given, dict) or any(
            name not in given for name in names if isinstance(name, str)
        ):
            return False
    return True
