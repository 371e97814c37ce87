"""The text of an upstream's error, as far as a row may keep it.

An error may repeat the prompt. So its words are kept where prompts are (`storage.prompts: full`,
and no `x-router-no-store`), and otherwise only its status, codes and parameters. Credentials are
never kept.
"""

import re
from typing import Any, Final

import msgspec

from proxy.errors import RouterError, UpstreamError
from proxy.gateway.attempt import Attempt
from proxy.gateway.call import Call
from proxy.gateway.relay import StreamStart
from proxy.plain_text import one_line
from proxy.protocol.refusals import MAX_ERROR_BYTES, Refusal, read_refusal
from proxy.record import MAX_ERROR_CHARS

_MAX_CODES: Final = 4  # of an error; the outermost ones come first
# What a code or a parameter looks like. Servers may put anything there, also texts of the client.
_CODE: Final = re.compile(r"[A-Za-z][\w.\[\]-]{0,63}", re.ASCII)
_TITLE: Final = re.compile(r"<title>([^<]*)", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")

_any = msgspec.json.Decoder()


def keeps_text(call: Call) -> bool:
    """Whether texts of the request and of its answers may be stored."""
    return call.snapshot.config.storage.prompts == "full" and not call.record.no_store


def describe_answer(call: Call, status: int, body: bytes, *, hides_words: bool = False) -> str:
    """An upstream's error answer in a line.

    Args:
        hides_words: whether its words may contain a part of a key.
    """
    refusal = read_refusal(_error_in(body))
    details = ", ".join([f"status {status}", *_codes(refusal)])
    if hides_words or not keeps_text(call):
        return details
    text = refusal.message or body[:MAX_ERROR_BYTES].decode(errors="replace")
    words = call.snapshot.redact(one_line(_without_markup(text)))
    if not words:
        return details
    room = MAX_ERROR_CHARS - len(details) - len(" ()")
    return f"{words if len(words) <= room else words[: room - 1] + '…'} ({details})"


def describe_error(call: Call, error: RouterError) -> str:
    """An error that the client gets, with what the upstream has answered, if it has."""
    if not isinstance(error, UpstreamError) or error.answer is None:
        return error.message
    answer = describe_answer(call, *error.answer, hides_words=error.hides_words)
    return f"{error.summary} Answer of the {error.upstream} tier: {answer}"


def describe_attempt(call: Call, attempt: Attempt) -> str | None:
    """Why an attempt failed; None if its answer was rejected by a check or a second look."""
    if attempt.error is not None:
        return describe_error(call, attempt.error)
    response, start = attempt.response, attempt.start
    if response is None or start is None or (attempt.failure and attempt.failure.is_rejected):
        return None
    body = start.observer.error if isinstance(start, StreamStart) else start.error or b""
    return describe_answer(call, response.status, body) if body or start.error else None


def _codes(refusal: Refusal) -> list[str]:
    """The codes and parameters of an error that look like such."""
    codes = list(dict.fromkeys(code for code, _ in refusal.codes if _CODE.fullmatch(code)))
    params = list(dict.fromkeys(param for _, param in refusal.codes if _CODE.fullmatch(param)))
    return [*codes[:_MAX_CODES], *(f"param {param}" for param in params[:1])]


def _error_in(body: bytes) -> bytes:
    """The error of a failed response of the Responses API; other bodies as they are."""
    if b'"response"' not in body[:MAX_ERROR_BYTES] or len(body) > MAX_ERROR_BYTES:
        return body
    try:
        event: Any = _any.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    match event:
        case {"response": {"error": dict() as error}}:
            return msgspec.json.encode({"error": error})
        case _:
            return body


def _without_markup(text: str) -> str:
    """The title of a web page, or its text; other texts as they are."""
    if not text.lstrip().startswith("<"):
        return text
    title = _TITLE.search(text)
    return title[1] if title is not None else _TAG.sub(" ", text)
