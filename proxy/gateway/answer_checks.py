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
from proxy.protocol import counted_tokens, read_form
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
    answer = LocalAnswer(
        observer.text,
        observer.last.finish_reason if observer.last is not None else None,
        completion_tokens=counted_tokens(observer.usage),
    )
    return await _check(call, len(answer.text) + len(call.body), lambda: answer)


async def _check(call: Call, size: int, read: Callable[[], LocalAnswer | None]) -> Check | None:
    """The check that an answer fails.

    Args:
        size: of what is read, in bytes.
        read: the answer; None in an unknown form, which passes.
    """

    def work() -> Check | None:
        answer = read()
        if answer is None:
            return None
        return failed_check(answer, _asked(call, answer))

    try:
        return await run_large(size, work)
    except Exception:  # a bug of a check must not cost the answer
        logger.exception("request %s: the check of its answer failed", call.record.id)
        return None


def _asked(call: Call, answer: LocalAnswer) -> Asked:
    turns = call.record.turns or ()
    prompt = next((text for role, text in reversed(turns) if role == "user"), "")
    form = read_form(call.body)
    max_tokens = call.request.answer_tokens
    if max_tokens is None and call.endpoint is COMPLETIONS:
        max_tokens = _DEFAULT_COMPLETION_TOKENS
    return Asked(
        prompt,
        max_tokens=max_tokens,
        json=form.json,
        schema=form.schema,
        tools=form.tools if answer.tool_calls else None,
        has_stop=form.has_stop,
    )
