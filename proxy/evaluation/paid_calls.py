"""Paid model calls for judging: each call reserves its maximum cost first.

    reply = await PaidCalls(queue, count).ask(upstream, fields, request_id, max_tokens=512)

The reservation is settled with the actual cost, so the daily caps hold across restarts and workers.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from proxy.budget import BilledTokens, Price
from proxy.errors import UpstreamError, UpstreamUnreachable
from proxy.evaluation.judge_queue import ClaimedSample, JudgeQueue, Purpose
from proxy.protocol import view_answer
from proxy.protocol.ollama import adapt_chat
from proxy.record import PICODOLLARS
from proxy.upstream import Upstream
from router_model.rubric import OPTIONAL_FIELDS, supported_request

CALL_SECONDS: Final = 180.0
MAX_OTHER_ANSWER_TOKENS: Final = 2048

# Reports a call: purpose, outcome and dollars.
OnPaidCall = Callable[[Purpose, str, float], None]


class JudgeBudgetSpent(Exception):
    """The daily budget of this purpose does not cover another call."""


class CallFailed(Exception):
    """The server did not answer, or sent an unusable response. A retry may succeed."""


class RequestRefused(Exception):
    """The sample cannot be judged, and a retry would not help."""


class CallInterrupted(Exception):
    """A client request took over the hardware that the call was using."""


class ModelReply(NamedTuple):
    """The text that a model returned, its cost, and the body of the answer."""

    text: str
    finish_reason: str | None
    usd: float
    body: bytes


class PaidUpstream:
    """The upstream for one purpose, with its price and daily cap.

    Args:
        owner: the tier that shares its hardware with this upstream. Its client requests have
            priority: they interrupt a call.
    """

    def __init__(
        self,
        purpose: Purpose,
        connection: Upstream,
        price: Price,
        *,
        cap_usd: float,
        owner: Upstream | None = None,
    ) -> None:
        self.purpose: Purpose = purpose
        self.connection = connection
        self.price = price
        self.cap_usd = cap_usd
        self.owner = owner
        self.unsupported: set[str] = set()


class PaidCalls:
    """Makes calls and settles their costs.

    Args:
        count: receives the outcome of each call.
    """

    def __init__(
        self, queue: JudgeQueue, count: OnPaidCall, *, call_seconds: float = CALL_SECONDS
    ) -> None:
        self._queue = queue
        self._count = count
        self._call_seconds = call_seconds

    async def ask(
        self, upstream: PaidUpstream, fields: dict[str, Any], request_id: str, *, max_tokens: int
    ) -> ModelReply:
        """Make one call, with its maximum cost reserved. The caller counts a usable reply.

        Raises:
            JudgeBudgetSpent, CallFailed, RequestRefused, CallInterrupted: no reply.
            StoreUnavailable: the cost could not be reserved.
        """
        body = msgspec.json.encode(supported_request(fields, upstream.unsupported))
        # A token has at least one byte, so this is an upper bound of the cost.
        worst = upstream.price.cost(BilledTokens(len(body), max_tokens))
        expense = await asyncio.to_thread(
            self._queue.reserve,
            upstream.purpose,
            request_id,
            fields["model"],
            worst / PICODOLLARS,
            cap_usd=upstream.cap_usd,
        )
        if expense is None:
            raise JudgeBudgetSpent
        status, data = await self._send(upstream, body, expense)
        if status != 200:
            await self._settle(upstream, expense, 0.0, "refused" if status < 500 else "failed")
            if (
                status == 400
                and (param := _param_of(data)) in OPTIONAL_FIELDS - upstream.unsupported
            ):
                upstream.unsupported.add(param)
                return await self.ask(upstream, fields, request_id, max_tokens=max_tokens)
            text = data[:200].decode(errors="replace")
            message = f"{upstream.connection.name} answered {status}: {text}"
            if status in (400, 413, 422):
                raise RequestRefused(message)
            raise CallFailed(message)
        answer = view_answer(data)
        if answer is None or answer.failed or not answer.is_answer:
            self._count(upstream.purpose, "failed", 0.0)
            raise CallFailed(f"{upstream.connection.name} did not send a chat completion")
        usd = worst / PICODOLLARS
        if (usage := answer.usage) is not None and usage.is_credible:
            tokens = BilledTokens(
                usage.prompt_tokens or 0, usage.completion_tokens or 0, usage.cached_tokens
            )
            usd = upstream.price.cost(tokens) / PICODOLLARS
        await asyncio.to_thread(self._queue.settle, expense, usd)
        text = answer.text.encode(errors="replace").decode()
        return ModelReply(text, answer.finish_reason, usd, data)

    async def _send(self, upstream: PaidUpstream, body: bytes, expense: int) -> tuple[int, bytes]:
        """Status and body of the response. A broken call stays reserved: its cost is unknown."""

        async def exchange() -> tuple[int, bytes]:
            response = await upstream.connection.open("/chat/completions", body, (), stream=False)
            try:
                return response.status, await response.read()
            finally:
                await response.close()

        try:
            async with asyncio.timeout(self._call_seconds):
                if upstream.owner is not None:
                    answer = await upstream.owner.run_while_idle(exchange())
                else:
                    answer = await exchange()
        except TimeoutError:
            self._count(upstream.purpose, "failed", 0.0)
            raise CallFailed(
                f"{upstream.connection.name} did not answer within {self._call_seconds:g} s"
            ) from None
        except UpstreamError as error:
            if isinstance(error, UpstreamUnreachable):
                await self._settle(upstream, expense, 0.0, "failed")
            else:
                self._count(upstream.purpose, "failed", 0.0)
            raise CallFailed(error.message) from None
        if answer is None:
            await self._settle(upstream, expense, 0.0, "disturbed")
            raise CallInterrupted
        return answer

    async def _settle(self, upstream: PaidUpstream, expense: int, usd: float, outcome: str) -> None:
        await asyncio.to_thread(self._queue.settle, expense, usd)
        self._count(upstream.purpose, outcome, usd)


def other_tier_fields(claim: ClaimedSample, upstream: PaidUpstream) -> tuple[dict[str, Any], int]:
    """The client's request for the other tier, and the limit of output tokens."""
    fields: dict[str, Any] = {}
    if claim.body is not None:
        raw = msgspec.json.decode(claim.body, type=dict[str, msgspec.Raw])
        if upstream.owner is not None and upstream.owner.catalog.capabilities.needs_adapting:
            adapt_chat(raw)
        fields = dict(raw)
    else:
        assert claim.turns is not None  # checked by the caller
        fields["messages"] = [{"role": role, "content": text} for role, text in claim.turns]
    for name in ("stream_options", "store", "service_tier"):
        fields.pop(name, None)
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    limit = _whole_number(fields.get(name)) or MAX_OTHER_ANSWER_TOKENS
    fields |= {"model": upstream.connection.model, "stream": False, name: limit}
    return fields, limit


def _whole_number(raw: Any) -> int | None:
    try:
        number = msgspec.json.decode(raw) if raw is not None else None
    except msgspec.DecodeError:
        return None
    return number if isinstance(number, int) and number > 0 else None


def _param_of(data: bytes) -> str | None:
    try:
        error = msgspec.json.decode(data)["error"]
        return error["param"] if isinstance(error["param"], str) else None
    except (msgspec.DecodeError, LookupError, TypeError):
        return None
