"""The judge's work: grade answers that clients got, and now and then ask the other tier, too.

    claim → the other tier's answer (of a pair) → grades → which is better, in both orders → done

All of it is off a client's way. What a call may cost is set aside before it is made, so the caps of
a day hold across restarts and workers; a call to a tier on this hardware gives way to the first
request that comes for it. A judge that is down or talks nonsense is asked again later, less and
less often; what it should judge waits.

What is judged is text: a request with tools, images or several choices is not drawn.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from proxy.budget.pricing import Price, Prices
from proxy.config import Config
from proxy.errors import InvalidRequest, Unavailable, UpstreamError, UpstreamUnreachable
from proxy.evaluation.judge_queue import Claim, JudgeQueue, Purpose, Verdict
from proxy.protocol.chat import mend_for_ollama, view_answer
from proxy.record import PICODOLLARS, Target
from proxy.storage.database import StoreUnavailable
from proxy.upstream.upstream import Upstream
from router_model.label import unusable
from router_model.rubric import (
    OPTIONAL_FIELDS,
    RESPONSE_FORMAT,
    TEMPERATURES,
    Grade,
    NotAVerdict,
    Side,
    as_supported,
    grade_messages,
    merge_swapped,
    parse_grade,
    parse_preference,
    preference_messages,
    read_verdict,
)

logger = logging.getLogger(__name__)

V = TypeVar("V")

CALL_SECONDS: Final = 180.0
MAX_VERDICT_TOKENS: Final = 512
MAX_SHADOW_TOKENS: Final = 2048
MAX_CHARS: Final = 200_000  # of a question with its answers; longer ones are not judged
MAX_ATTEMPTS: Final = 5
IDLE_SECONDS: Final = 2.0
BUSY_SECONDS: Final = 10.0
SPENT_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 5.0
MAX_PAUSE_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 300.0  # before a sample's second attempt; doubles

# Says what a call came to: purpose, outcome and dollars.
Count = Callable[[Purpose, str, float], None]


class JudgePriceUnknown(Exception):
    """Nothing says what the judge costs, so no cap could hold."""


class _Spent(Exception):
    """The day's dollars for a purpose do not last for another call."""


class _Trouble(Exception):
    """A server does not answer, or not as it should; the same may work later."""


class _Refused(Exception):
    """This one sample cannot be judged, now or later."""


class _Nonsense(Exception):
    """The judge was asked several times and never gave a verdict."""


class _Disturbed(Exception):
    """A client wants the tier that was being used."""


class Summary(NamedTuple):
    """What was done: samples judged, refused, and put off to another time."""

    judged: int = 0
    refused: int = 0
    put_off: int = 0


class Opinion(NamedTuple):
    """What a judge thinks of two answers, and why: each alone, and which is better.

    `first` was asked with the local answer first, `swapped` with the cloud's; where they disagree
    it is a tie.
    """

    local: Grade
    cloud: Grade
    verdict: Verdict
    first: Verdict
    first_reasoning: str
    swapped: Verdict
    swapped_reasoning: str


class Answer(NamedTuple):
    """What a model said, and what it cost."""

    text: str
    finish_reason: str | None
    usd: float


class Caller:
    """Where one kind of call goes, and what it costs.

    Args:
        background_tier: the tier whose hardware answers it, where that is a client's first.
    """

    def __init__(
        self,
        purpose: Purpose,
        upstream: Upstream,
        price: Price,
        *,
        cap_usd: float,
        background_tier: Upstream | None = None,
    ) -> None:
        self.purpose: Purpose = purpose
        self.upstream = upstream
        self.price = price
        self.cap_usd = cap_usd
        self.background_tier = background_tier
        self.unsupported: set[str] = set()


class Judge:
    """One judge at work on one database.

    Args:
        model: the judge model's name.
        judge: how it is asked.
        shadows: how the tiers are asked for a second answer.
        count: told of every call.
    """

    def __init__(
        self,
        queue: JudgeQueue,
        *,
        model: str,
        judge: Caller,
        shadows: Mapping[Target, Caller],
        count: Count = lambda purpose, outcome, usd: None,
    ) -> None:
        self._queue = queue
        self._model = model
        self._judge = judge
        self._shadows = shadows
        self._count = count
        self._pause = 0.0
        self._shadows_spent = False

    async def run(self) -> None:
        """Judge for ever."""
        while True:
            try:
                seconds, _ = await self.step()
            except Exception:  # a bug in here must end no proxy's judging
                logger.exception("judging failed")
                seconds = MAX_PAUSE_SECONDS
            await asyncio.sleep(seconds)

    async def work_off(self, *, hands: int = 4) -> Summary:
        """Judge what can be judged now, several at a time, and say what came of it."""
        done: list[Summary] = []

        async def hand() -> None:
            while True:
                seconds, summary = await self.step()
                done.append(summary)
                if seconds and not summary.put_off:
                    return
                if seconds >= SPENT_SECONDS or self._pause:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(hands):
                group.create_task(hand())
        return Summary(*map(sum, zip(*done, strict=True)))

    async def close(self) -> None:
        for caller in (self._judge, *self._shadows.values()):
            await caller.upstream.close()

    async def step(self) -> tuple[float, Summary]:
        """Judge one sample, if there is one.

        Returns the seconds to wait before the next, and what came of it.
        """
        try:
            claim = await asyncio.to_thread(
                self._queue.claim, self._model, shadows=not self._shadows_spent
            )
        except StoreUnavailable as error:
            return self._trouble(str(error)), Summary()
        if claim is None:
            self._shadows_spent = False
            return IDLE_SECONDS, Summary()
        try:
            return await self._work(claim)
        except StoreUnavailable as error:
            return self._trouble(str(error)), Summary(put_off=1)
        except asyncio.CancelledError:
            # It is being stopped; the sample need not wait until the claim is over.
            await asyncio.shield(asyncio.to_thread(self._let_go, claim))
            raise

    def _let_go(self, claim: Claim) -> None:
        try:
            self._queue.put_back(claim.request_id, seconds=0.0)
        except StoreUnavailable as error:
            logger.debug("the claim stays until it is over: %s", error)

    async def _work(self, claim: Claim) -> tuple[float, Summary]:
        seconds, failed = 0.0, False
        try:
            await self._judge_one(claim)
        except _Refused as error:
            logger.info("request %s is not judged: %s", claim.request_id, error)
            await asyncio.to_thread(self._queue.finish, claim.request_id, why=str(error))
            return 0.0, Summary(refused=1)
        except _Nonsense as error:
            if claim.attempts + 1 >= MAX_ATTEMPTS:
                why = f"no verdict in {MAX_ATTEMPTS} attempts: {error}"
                await asyncio.to_thread(self._queue.finish, claim.request_id, why=why)
                return 0.0, Summary(refused=1)
            failed, later = True, _RETRY_SECONDS * 2**claim.attempts
        except _Disturbed:
            seconds = later = BUSY_SECONDS
        except _Spent:
            self._shadows_spent = claim.needs_shadow
            seconds, later = (0.0 if self._shadows_spent else SPENT_SECONDS), SPENT_SECONDS
        except _Trouble as error:
            seconds = later = self._trouble(str(error))
        else:
            self._pause = 0.0
            await asyncio.to_thread(self._queue.finish, claim.request_id)
            return 0.0, Summary(judged=1)
        await asyncio.to_thread(
            self._queue.put_back, claim.request_id, seconds=later, failed=failed
        )
        return seconds, Summary(put_off=1)

    def _trouble(self, what: str) -> float:
        """Seconds to wait: longer each time, until something works."""
        if not self._pause:
            logger.warning("judging pauses: %s", what)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        return self._pause * random.uniform(0.8, 1.0)

    async def assess(
        self, turns: Sequence[tuple[str, str]], local: str, cloud: str, *, request_id: str
    ) -> Opinion:
        """Judge two answers now, for someone who waits for it. Nothing of it is kept but its cost.

        Args:
            turns: (role, text) pairs, what both are answers to.
            request_id: what the dollars are booked on.

        Raises:
            InvalidRequest: there is too much of it.
            Unavailable: the judge does not answer, or its dollars of the day are spent.
        """
        if sum(len(text) for _, text in turns) + len(local) + len(cloud) > MAX_CHARS:
            raise InvalidRequest(f"More than {MAX_CHARS} characters are not judged.")
        try:
            graded = {
                target: await self._verdict(grade_messages(turns, text), parse_grade, request_id)
                for target, text in ((Target.LOCAL, local), (Target.CLOUD, cloud))
            }
            first, swapped = [
                await self._verdict(preference_messages(turns, *pair), parse_preference, request_id)
                for pair in ((local, cloud), (cloud, local))
            ]
        except _Spent:
            raise Unavailable(
                "The judge's dollars of today are spent (judge.usd_per_day)."
            ) from None
        except _Disturbed:
            raise Unavailable("The judge's hardware is busy with a client; try again.") from None
        except (_Trouble, _Refused, _Nonsense) as error:
            raise Unavailable(f"The judge gave no verdict: {error}") from None
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from None
        return Opinion(
            local=graded[Target.LOCAL],
            cloud=graded[Target.CLOUD],
            verdict=_named(merge_swapped(first.verdict, swapped.verdict), "local", "cloud"),
            first=_named(first.verdict, "local", "cloud"),
            first_reasoning=first.reasoning,
            swapped=_named(swapped.verdict, "cloud", "local"),
            swapped_reasoning=swapped.reasoning,
        )

    async def _judge_one(self, claim: Claim) -> None:
        """Whatever of it was done before is not done again."""
        if claim.turns is None or not claim.response:
            raise _Refused("its prompt or answer was not kept")
        size = sum(len(text) for _, text in claim.turns) + len(claim.response)
        if size > MAX_CHARS:
            raise _Refused(f"it has {size} characters")
        if claim.needs_shadow:
            claim = await self._ask_other(claim)
        answers = {claim.target: (claim.model, claim.response)}
        if claim.other_response is not None:
            other = claim.other_model or ""
            answers[claim.target.other] = other, claim.other_response
        for target, (model, text) in answers.items():
            if target not in claim.graded:
                await self._grade(claim, target, model, text)
        if claim.kind == "pair" and not claim.is_compared:
            local, cloud = (answers[target][1] for target in (Target.LOCAL, Target.CLOUD))
            await self._compare(claim, local, cloud)

    async def _ask_other(self, claim: Claim) -> Claim:
        """Have the other tier answer the same request."""
        target = claim.target.other
        caller = self._shadows[target]
        fields, limit = _shadow_fields(claim, target, caller)
        answer = await self._ask(caller, fields, claim.request_id, max_tokens=limit)
        why = unusable(answer.text, answer.finish_reason)
        self._count(caller.purpose, "unusable" if why else "ok", answer.usd)
        if why:
            raise _Refused(f"the {target} tier's answer is {why}")
        model = caller.upstream.model
        await asyncio.to_thread(self._queue.keep_other, claim.request_id, model, answer.text)
        return claim._replace(other_model=model, other_response=answer.text)

    async def _grade(self, claim: Claim, target: Target, model: str, text: str) -> None:
        assert claim.turns is not None  # it was looked at
        messages = grade_messages(claim.turns, text)
        grade = await self._verdict(messages, parse_grade, claim.request_id)
        await asyncio.to_thread(
            self._queue.keep_grade,
            claim.request_id,
            target,
            model=model,
            score=grade.score,
            judge_model=self._model,
            reason=grade.reasoning,
        )

    async def _compare(self, claim: Claim, local: str, cloud: str) -> None:
        """Which is better, asked in both orders: judges favour a position."""
        assert claim.turns is not None  # it was looked at
        first: Side = "tie"
        swapped: Side = "tie"
        if local != cloud:
            straight = preference_messages(claim.turns, local, cloud)
            turned = preference_messages(claim.turns, cloud, local)
            asked = (parse_preference, claim.request_id)
            first = (await self._verdict(straight, *asked)).verdict
            swapped = (await self._verdict(turned, *asked)).verdict
        await asyncio.to_thread(
            self._queue.keep_preference,
            claim.request_id,
            judge_model=self._model,
            verdict=_named(merge_swapped(first, swapped), "local", "cloud"),
            first=_named(first, "local", "cloud"),
            swapped=_named(swapped, "cloud", "local"),
        )

    async def _verdict(
        self, messages: list[dict[str, str]], parse: Callable[[str], V], request_id: str
    ) -> V:
        problem = ""
        for temperature in TEMPERATURES:
            fields = {
                "model": self._model,
                "messages": messages,
                "temperature": temperature,
                "max_tokens": MAX_VERDICT_TOKENS,
                "response_format": RESPONSE_FORMAT,
            }
            answer = await self._ask(self._judge, fields, request_id, max_tokens=MAX_VERDICT_TOKENS)
            try:
                verdict = read_verdict(answer.text, answer.finish_reason, parse)
            except NotAVerdict as error:
                problem = str(error)
                self._count(self._judge.purpose, "unusable", answer.usd)
            else:
                self._count(self._judge.purpose, "ok", answer.usd)
                return verdict
        raise _Nonsense(problem)

    async def _ask(
        self, caller: Caller, fields: dict[str, Any], request_id: str, *, max_tokens: int
    ) -> Answer:
        """One paid call, for which dollars are set aside. What is answered is the caller's to
        count, who sees what it is worth."""
        body = msgspec.json.encode(as_supported(fields, caller.unsupported))
        # A token is a byte at least: more than this no call of the kind can cost.
        worst = caller.price.cost(
            input_tokens=len(body), cached_input_tokens=0, output_tokens=max_tokens
        )
        expense = await asyncio.to_thread(
            self._queue.reserve,
            caller.purpose,
            request_id,
            fields["model"],
            worst / PICODOLLARS,
            cap_usd=caller.cap_usd,
        )
        if expense is None:
            raise _Spent
        status, data = await self._send(caller, body, expense)
        if status != 200:
            await self._settle(caller, expense, 0.0, "refused" if status < 500 else "failed")
            if status == 400 and (param := _param_of(data)) in OPTIONAL_FIELDS - caller.unsupported:
                caller.unsupported.add(param)
                return await self._ask(caller, fields, request_id, max_tokens=max_tokens)
            text = data[:200].decode(errors="replace")
            said = f"{caller.upstream.name} answered {status}: {text}"
            if status in (400, 413, 422):
                raise _Refused(said)
            raise _Trouble(said)
        seen = view_answer(data)
        if seen is None or seen.failed:
            self._count(caller.purpose, "failed", 0.0)
            raise _Trouble(f"{caller.upstream.name} sent no chat completion")
        usd = worst / PICODOLLARS
        if seen.usage is not None and seen.usage.is_credible:
            usd = (
                caller.price.cost(
                    input_tokens=seen.usage.prompt_tokens or 0,
                    cached_input_tokens=seen.usage.cached_tokens or 0,
                    output_tokens=seen.usage.completion_tokens or 0,
                )
                / PICODOLLARS
            )
        await asyncio.to_thread(self._queue.settle, expense, usd)
        return Answer(seen.text.encode(errors="replace").decode(), seen.finish_reason, usd)

    async def _send(self, caller: Caller, body: bytes, expense: int) -> tuple[int, bytes]:
        """Status and body of the answer. What a broken call was billed is not known: all of it."""

        async def exchange() -> tuple[int, bytes]:
            response = await caller.upstream.open("/chat/completions", body, (), stream=False)
            try:
                return response.status, await response.read()
            finally:
                await response.close()

        try:
            async with asyncio.timeout(CALL_SECONDS):
                if caller.background_tier is not None:
                    answer = await caller.background_tier.run_while_idle(exchange())
                else:
                    answer = await exchange()
        except TimeoutError:
            self._count(caller.purpose, "failed", 0.0)
            raise _Trouble(f"{caller.upstream.name} gave no answer in {CALL_SECONDS:g} s") from None
        except UpstreamError as error:
            if isinstance(error, UpstreamUnreachable):
                await self._settle(caller, expense, 0.0, "failed")
            else:
                self._count(caller.purpose, "failed", 0.0)
            raise _Trouble(error.message) from None
        if answer is None:
            await self._settle(caller, expense, 0.0, "disturbed")
            raise _Disturbed
        return answer

    async def _settle(self, caller: Caller, expense: int, usd: float, outcome: str) -> None:
        await asyncio.to_thread(self._queue.settle, expense, usd)
        self._count(caller.purpose, outcome, usd)


def judge_price(config: Config, prices: Prices) -> Price:
    """What the judge model costs. Raises JudgePriceUnknown."""
    judge = config.judge
    if judge.price != "auto":
        return Price.of(judge.price)
    price = prices.of(Target.CLOUD, judge.model)
    if price is None or not any(price):
        raise JudgePriceUnknown(
            f"judge.price: no price is listed for {judge.model}, so judge.usd_per_day could not "
            "hold; set one ({input: 0, output: 0} for a free judge)"
        )
    return price


def _named(side: Side, a: Verdict, b: Verdict) -> Verdict:
    """A verdict by the tiers that stood for A and B."""
    return a if side == "A" else b if side == "B" else "tie"


def _shadow_fields(claim: Claim, target: Target, caller: Caller) -> tuple[dict[str, Any], int]:
    """The client's own request for the other tier, and how many tokens its answer may have."""
    fields: dict[str, Any] = {}
    if claim.body is not None:
        raw = msgspec.json.decode(claim.body, type=dict[str, msgspec.Raw])
        if caller.background_tier is not None and caller.background_tier.capabilities.is_ollama:
            mend_for_ollama(raw)
        fields = dict(raw)
    else:
        assert claim.turns is not None  # it was looked at
        fields["messages"] = [{"role": role, "content": text} for role, text in claim.turns]
    for name in ("stream_options", "store", "service_tier"):
        fields.pop(name, None)
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    limit = _whole_number(fields.get(name)) or MAX_SHADOW_TOKENS
    fields |= {"model": caller.upstream.model, "stream": False, name: limit}
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
