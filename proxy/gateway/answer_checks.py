"""Hard checks of a local answer before the client gets it (`verify.mode`).

A complete answer that fails a check is not sent: the cloud answers instead. The answer is kept
until the cloud's is there, because it is better than an error. Of streams, which have begun by
then, the failed check is only recorded.
"""

import logging
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


def read_verify_preference(call: Call) -> None:
    """Note whether the answer is checked, and may get a second look. Raises InvalidRequest."""
    mode = call.snapshot.config.verify.mode
    for name, value in call.exchange.headers:
        if name == VERIFY_HEADER:
            text = value.decode("latin-1").strip().lower()
            if text not in ("on", "off"):
                raise InvalidRequest(
                    f"Invalid value for the header x-router-verify: '{text}' is not on or off.",
                    param="x-router-verify",
                )
            mode = "auto" if text == "on" else "off"
            break
    call.checks_answers, call.allows_second_look = mode != "off", mode == "auto"


async def check_attempt(call: Call, attempt: Attempt) -> Check | None:
    """The check that an attempt's complete local answer fails."""
    start = attempt.start
    if not call.checks_answers or call.record.target is not Target.LOCAL or start is None:
        return None
    if isinstance(start, StreamStart) and not start.is_whole:
        return None
    return await _check(call, start)


async def check_stream(call: Call, start: StreamStart) -> Check | None:
    """The check that a local answer fails whose client has it already."""
    if not call.checks_answers or call.record.target is not Target.LOCAL or start.is_whole:
        return None
    return await _check(call, start)


def read_answer(call: Call, start: CompleteResponse | StreamStart) -> LocalAnswer | None:
    """The parts of a complete answer.

    None for an error and for an answer that cannot be checked: one in an unknown form, one with
    several choices, or a stream with other output than text, whose parts were not kept.
    """
    if isinstance(start, CompleteResponse):
        wire = call.wire(Target.LOCAL) if call.sent is None else call.sent.wire
        return wire.read_parts(start.body) if start.succeeded else None
    observer = start.observer
    if not observer.complete or observer.blind or observer.failed or observer.outcome.other_text:
        return None
    if call.request.choices > 1:
        return None
    return LocalAnswer(
        observer.text,
        observer.last.finish_reason if observer.last is not None else None,
        completion_tokens=counted_tokens(observer.usage),
    )


async def _check(call: Call, start: CompleteResponse | StreamStart) -> Check | None:
    def work() -> Check | None:
        answer = read_answer(call, start)
        return None if answer is None else failed_check(answer, _asked(call, answer))

    try:
        return await run_large(start.size + len(call.body), work)
    except Exception:  # a bug of a check must not cost the answer
        logger.exception("request %s: the check of its answer failed", call.record.id)
        return None


def _asked(call: Call, answer: LocalAnswer) -> Asked:
    form = read_form(call.body)
    max_tokens = call.request.answer_tokens
    if max_tokens is None and call.endpoint is COMPLETIONS:
        max_tokens = _DEFAULT_COMPLETION_TOKENS
    return Asked(
        call.last_user_text,
        max_tokens=max_tokens,
        json=form.json,
        schema=form.schema,
        tools=form.tools if answer.tool_calls else None,
        has_stop=form.has_stop,
    )
