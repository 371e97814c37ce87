"""The second look at a local answer in the uncertain band (`verify.band`).

The local model answers first. If a second local model is configured, it answers at the same time.
The evidence about the answer is combined with the router's score. The answer is then kept, or the
request is escalated to the cloud. No part of the answer is sent before that.

    look = SecondLook(call, decision, bookkeeping)
    attempt = await look.ask_local(model, hold)
    failure = await look.decide(attempt, hold)   # None keeps the answer
    await look.close()

If this takes longer than `verify.max_wait_seconds`, the cloud answers.
"""

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from proxy.errors import UpstreamError, UpstreamTimeout
from proxy.gateway.answer_checks import read_answer
from proxy.gateway.attempt import Attempt, hold_to_end, open_upstream
from proxy.gateway.bookkeeping import Bookkeeping
from proxy.gateway.call import Call, upstream_body
from proxy.gateway.failover import Failure
from proxy.gateway.large_bodies import parse_large, run_large
from proxy.gateway.relay import CompleteResponse, StreamHold, StreamStart
from proxy.gateway.stream_observer import Outcome
from proxy.protocol import Fields
from proxy.protocol.endpoints import CHAT, Endpoint
from proxy.protocol.logprobs import LogprobReader, first_alternatives
from proxy.protocol.ollama import is_same_model
from proxy.record import SecondLookResult, Target
from proxy.routing import Decision
from proxy.upstream import Delivery
from router_model.evidence import Evidence
from router_model.final_answer import without_thinking
from router_model.second_look import (
    RESAMPLE_TEMPERATURE,
    evidence_of,
    resample,
    self_check_fields,
    yes_probability,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NOT_FOR_EVIDENCE: Final = ("stream_options", "background")
_LONGEST_SHARE: Final = 0.5  # of the request's time
_encode: Final = msgspec.json.Encoder().encode


class SecondLook:
    """The second look at the local answer to one request."""

    def __init__(self, call: Call, decision: Decision, bookkeeping: Bookkeeping) -> None:
        verify = call.snapshot.config.verify
        self._call = call
        self._decision = decision
        self._bookkeeping = bookkeeping
        self._verify = verify
        self._upstream = call.snapshot.upstreams[Target.LOCAL]
        self._started = call.record.elapsed_ms()
        # The cloud needs time, too.
        longest = call.snapshot.config.server.request_timeout_seconds * _LONGEST_SHARE
        self._wait_seconds = min(verify.max_wait_seconds, longest)
        self._deadline = asyncio.get_running_loop().time() + self._wait_seconds
        self._logprobs = _logprob_reader(call)
        self._second: asyncio.Task[str | None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def ask_local(self, model: str, hold: StreamHold | None) -> Attempt:
        """The local answer, complete. A stream is read to its end, and not sent yet."""
        call = self._call
        call.record.step("a second look at the local answer decides")
        if self._verify.second is not None:
            self._second = self._start(self._ask_second(self._verify.second, model))
        attempt = Attempt(None, None, None)
        try:
            async with asyncio.timeout_at(self._deadline):
                attempt = await open_upstream(
                    call, Target.LOCAL, model, hold=hold, logprobs=self._logprobs
                )
                if attempt.failure is None and hold is not None:
                    attempt = await hold_to_end(call, attempt, hold)
        except TimeoutError:
            error = UpstreamTimeout(
                f"The local upstream gave no answer within {self._wait_seconds:g} s.",
                upstream=self._upstream.name,
                phase="second_look",
            )
            return Attempt(attempt.response, None, self._time_out(has_answer=False), error)
        except BaseException:  # the client has disconnected, or the time is over
            if attempt.response is not None:
                await attempt.response.close()
            raise
        failure = attempt.failure or self._unusable(attempt)
        if failure is not None:
            self._finish(SecondLookResult.FAILED)
        return attempt._replace(failure=failure)

    def _unusable(self, attempt: Attempt) -> Failure | None:
        """The failure of an answer that the client must not get, or None."""
        start, logprobs = attempt.start, self._logprobs
        if isinstance(start, CompleteResponse) and not start.succeeded:
            # An error of the client's, or one of what the second look has asked for.
            return Failure("client_error", may_retry=False)
        is_blind = isinstance(start, StreamStart) and start.observer.blind
        if logprobs is not None and logprobs.removes and (logprobs.has_unread or is_blind):
            return Failure("logprobs", may_retry=False)
        return None

    def fail(self) -> None:
        """The local answer failed a hard check: nothing else needs to be known."""
        self._finish(SecondLookResult.FAILED)

    async def decide(self, attempt: Attempt, hold: StreamHold | None) -> Failure | None:
        """Gather the evidence about the local answer. Returns why it is not kept, or None."""
        record, decision = self._call.record, self._decision
        evidence = None
        try:
            async with asyncio.timeout_at(self._deadline):
                evidence = await self._keep_alive(self._gather(attempt), attempt, hold)
        except TimeoutError:
            return self._time_out(has_answer=True)
        except Exception:  # a bug here must not cost the answer: the prompt alone decides
            logger.exception("request %s: its second look failed", record.id)
        verifier = self._call.snapshot.router.verifier
        assert verifier is not None  # else there is no band
        assert decision.score is not None  # as it is in the band
        assert decision.threshold is not None
        verdict = verifier.verify(decision.score, evidence, input_tokens=self._call.new_tokens)
        record.evidence = evidence
        record.verified_score, record.verified_merit = verdict
        is_kept = verdict.merit >= decision.threshold
        self._finish(SecondLookResult.KEPT if is_kept else SecondLookResult.ESCALATED)
        record.step(
            "the evidence: %s; verified score %.4f, merit %.4f: %s",
            "none" if evidence is None else evidence.to_json(),
            verdict.score,
            verdict.merit,
            record.second_look,
        )
        if is_kept:
            return None
        return Failure("evidence", may_retry=False, is_rejected=True)

    async def close(self) -> None:
        """Cancel the generations that are not over. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start work beside the local answer, until `close` at the latest."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def _finish(self, result: SecondLookResult) -> None:
        record = self._call.record
        record.second_look = result
        record.second_look_ms = record.elapsed_ms() - self._started

    def _time_out(self, *, has_answer: bool) -> Failure:
        """Finish the look without a verdict. Returns the failure."""
        self._finish(SecondLookResult.TIMED_OUT)
        return Failure("verify_timeout", may_retry=False, is_rejected=has_answer)

    async def _keep_alive(
        self, work: Coroutine[Any, Any, T], attempt: Attempt, hold: StreamHold | None
    ) -> T:
        """Wait for work, and meanwhile keep the connection of a held stream alive."""
        if hold is None or not isinstance(attempt.start, StreamStart):
            return await work
        assert attempt.response is not None  # it has answered
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait((task,), timeout=hold.seconds_left))[0]:
                await hold.send(attempt.response, b"")
            return task.result()
        finally:
            task.cancel()

    async def _gather(self, attempt: Attempt) -> Evidence | None:
        """The evidence about an answer; None if it cannot be looked at."""
        call, start = self._call, attempt.start
        if start is None or (isinstance(start, StreamStart) and not start.is_whole):
            return None
        answer = await run_large(start.size, partial(read_answer, call, start))
        if answer is None:
            return None
        text = without_thinking(answer.text).strip()
        check = None
        if self._verify.self_check and text:
            check = self._start(self._ask_itself(text))
        return evidence_of(
            call.last_user_text,
            text,
            second=None if self._second is None else await self._second,
            second_model=self._verify.second,
            tokens=() if self._logprobs is None else self._logprobs.tokens,
            self_check=None if check is None else await check,
        )

    async def _ask_second(self, second: str, model: str) -> str | None:
        """The text of the second model's answer; None if it gives none."""
        call, endpoint = self._call, self._call.endpoint.openai
        is_again = is_same_model(second, model)

        def change(fields: Fields) -> None:
            fields["stream"] = msgspec.Raw(b"false")
            for name in _NOT_FOR_EVIDENCE:
                fields.pop(name, None)
            if is_again:
                resample(fields, msgspec.Raw(_encode(RESAMPLE_TEMPERATURE)))

        body = await parse_large(
            call.body,
            lambda _: upstream_body(call, Target.LOCAL, second, wire=endpoint, change=change),
        )
        answer = await self._ask(endpoint, second, body)
        if answer is None:
            return None
        parts = await run_large(len(answer), partial(endpoint.read_parts, answer))
        return None if parts is None else parts.text

    async def _ask_itself(self, text: str) -> float | None:
        """P(yes) of the local model, asked whether its answer is right; None if it says neither."""
        model = self._upstream.model
        body = _encode(self_check_fields(model, self._call.record.turns or (), text))
        answer = await self._ask(CHAT, model, body)
        return None if answer is None else yes_probability(first_alternatives(answer))

    async def _ask(self, endpoint: Endpoint, model: str, body: bytes) -> bytes | None:
        """Ask a local model for evidence, and book it. None without a usable answer."""
        call, delivery, outcome = self._call, Delivery(), Outcome()
        is_billed = True
        try:
            response = await self._upstream.open(
                endpoint.path,
                body,
                call.exchange.headers,
                stream=False,
                client=call.record.client_key_hash,
                delivery=delivery,
            )
            try:
                is_billed = 200 <= response.status < 300
                answer = await response.read()
            finally:
                await response.close()
            view = await run_large(len(answer), partial(endpoint.view, answer))
            outcome = Outcome.of(view)
            return answer if is_billed and view is not None and not view.failed else None
        except UpstreamError as error:
            logger.info("request %s: no evidence of %s: %s", call.record.id, model, error.message)
            return None
        finally:
            if delivery.was_sent and is_billed:
                self._bookkeeping.add_evidence(call, model, outcome)


def _logprob_reader(call: Call) -> LogprobReader | None:
    """Reads log-probabilities where the server has them; only chat answers have the fields."""
    if call.snapshot.config.verify.logprobs == "off" or call.endpoint is not CHAT:
        return None
    if not call.capabilities.has_logprobs:
        return None
    local = call.snapshot.upstreams[Target.LOCAL]
    if "logprobs" in local.learned.features(local.model):
        return None
    return LogprobReader(removes="logprobs" not in call.request.needs)
