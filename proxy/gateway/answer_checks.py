"""Hard checks of a local answer before the client gets it (`verify.mode`).

A complete answer that fails a check is not sent: the cloud answers instead. The answer is kept
until the cloud's is there, because it is better than an error. Of streams, which have begun by
then, the failed check is only recorded.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from proxy.errors import InvalidRequest
from proxy.gateway.attempt import Attempt
from proxy.gateway.call import Call
from proxy.gateway.large_bodies import run_large
from proxy.gateway.relay import CompleteResponse, StreamStart
from proxy.protocol import AnswerParts, ToolCall, counted_tokens, read_form
from proxy.protocol.endpoints import COMPLETIONS
from proxy.record import Target
from router_model.answer_checks import Asked, Check, LocalAnswer, failed_check

logger = logging.getLogger(__name__)

VERIFY_HEADER: Final = b"x-router-verify"
# Of /v1/completions without `max_tokens`. Source: OpenAI's API reference. vLLM has the same.
_DEFAULT_COMPLETION_TOKENS: Final = 16


def wants_checks(headers: Sequence[tuple[bytes, bytes]], *, default: bool) -> bool:
    """Whether answers to a request are checked. Raises InvalidRequest."""
    for name, value in headers:
        if name == VERIFY_HEADER:
            text = value.decode("latin-1").strip().lower()
            if text not in ("on", "off"):
                raise InvalidRequest(
                    f"Invalid value for the header x-router-verify: '{text}' is not on or off.",
                    param="x-router-verify",
                )
            return text == "on"
    return default


async def check_attempt(call: Call, attempt: Attempt) -> Check | None:
    """The check that an attempt's complete local answer fails."""
    start = attempt.start
    if not call.checks_answers or call.record.target is not Target.LOCAL:
        return None
    if not isinstance(start, CompleteResponse) or not start.succeeded:
        return None
    size = len(start.body) + len(call.body)
    return await _check(call, size, lambda: call.endpoint.read_parts(start.body))


async def check_stream(call: Call, start: StreamStart) -> Check | None:
    """The check that a local answer fails whose client has it already.

    An answer with other output than text, or with several choices, is not checked: its parts were
    not kept.
    """
    observer = start.observer
    if not call.checks_answers or call.record.target is not Target.LOCAL:
        return None
    if not observer.complete or observer.blind or observer.outcome.other_text:
        return None
    if call.request.choices > 1:
        return None
    parts = AnswerParts(
        observer.text,
        observer.last.finish_reason if observer.last is not None else None,
        completion_tokens=counted_tokens(observer.usage),
    )
    return await _check(call, len(parts.text) + len(call.body), lambda: parts)


async def _check(call: Call, size: int, read: Callable[[], AnswerParts | None]) -> Check | None:
    """
    Args:
        size: of what is read, in bytes.
        read: the parts of the answer; None in an unknown form, which passes.
    """

    def work() -> Check | None:
        parts = read()
        if parts is None:
            return None
        return failed_check(_as_answer(parts), _asked(call, parts.tool_calls))

    try:
        return await run_large(size, work)
    except Exception:  # a bug of a check must not cost the answer
        logger.exception("request %s: the check of its answer failed", call.record.id)
        return None


def _as_answer(parts: AnswerParts) -> LocalAnswer:
    return LocalAnswer(
        parts.text,
        parts.finish_reason,
        tool_calls=parts.tool_calls,
        refusal=parts.refusal,
        completion_tokens=parts.completion_tokens,
        has_other_output=parts.has_other_output,
    )


def _asked(call: Call, tool_calls: Sequence[ToolCall]) -> Asked:
    request = call.request
    prompt = next((text for role, text in reversed(request.turns) if role == "user"), "")
    form = read_form(call.body)
    max_tokens = request.answer_tokens
    if max_tokens is None and call.endpoint is COMPLETIONS:
        max_tokens = _DEFAULT_COMPLETION_TOKENS
    return Asked(
        prompt,
        max_tokens=max_tokens,
        json=form.json,
        schema=form.schema,
        tools=form.tools if tool_calls else None,
        has_stop=form.has_stop,
    )
