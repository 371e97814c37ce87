"""The judge: grades sampled answers and compares the answers of both tiers.

    claim → answer of the other tier (pairs only) → grades → comparison in both orders → done

Judging never delays a client. `paid_calls` reserves the cost of each call, so the daily budgets
hold across restarts and workers. A client request interrupts a call on the same hardware. If the
judge is down or gives no verdict, samples wait and are retried with exponential backoff.

Only text is judged: requests with tools, images or several choices are not sampled.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from proxy.budget import Price, Prices
from proxy.config import Config, VerifyConfig
from proxy.errors import InvalidRequest, Unavailable
from proxy.evaluation.judge_queue import ClaimedSample, JudgeQueue, Verdict
from proxy.evaluation.local_evidence import EvidenceCollector
from proxy.evaluation.paid_calls import (
    CallFailed,
    CallInterrupted,
    JudgeBudgetSpent,
    OnPaidCall,
    PaidCalls,
    PaidUpstream,
    RequestRefused,
    other_tier_fields,
)
from proxy.record import Target
from proxy.storage import StoreUnavailable
from router_model.label import unusable_reason
from router_model.rubric import (
    RESPONSE_FORMAT,
    TEMPERATURES,
    Grade,
    InvalidVerdict,
    Side,
    grade_messages,
    merge_swapped,
    parse_grade,
    parse_preference,
    preference_messages,
    read_verdict,
)

logger = logging.getLogger(__name__)

V = TypeVar("V")

MAX_VERDICT_TOKENS: Final = 512
MAX_CHARS: Final = 200_000  # of a conversation with its answers; longer ones are not judged
MAX_ATTEMPTS: Final = 5
IDLE_SECONDS: Final = 2.0
RETRY_BUSY_SECONDS: Final = 10.0
RETRY_SPENT_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 5.0
MAX_JUDGE_PAUSE_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 300.0  # before a sample's second attempt; doubles
_NO_LOOK: Final = VerifyConfig(mode="off")


class JudgePriceUnknown(Exception):
    """The price of the judge model is unknown, so a daily cap cannot be enforced."""


class NoVerdict(Exception):
    """The judge gave no valid verdict in several attempts."""


class JudgingSummary(NamedTuple):
    """Counts of samples that were judged, refused and postponed, and why the latter two were."""

    judged: int = 0
    refused: int = 0
    put_off: int = 0
    problems: tuple[str, ...] = ()


class Assessment(NamedTuple):
    """A judge's assessment of two answers: a grade of each, and a comparison.

    `first` compares with the local answer first, `swapped` with the cloud's first. If the two
    disagree, `verdict` is a tie.
    """

    local: Grade
    cloud: Grade
    verdict: Verdict
    first: Verdict
    first_reasoning: str
    swapped: Verdict
    swapped_reasoning: str


class Judge:
    """One judge of one database.

    Args:
        model: the judge model.
        judge: the judge's upstream.
        tiers: the upstreams that give the second answer of a pair.
        verify: the evidence about local answers that pairs get.
        count: receives every call.
    """

    def __init__(
        self,
        queue: JudgeQueue,
        *,
        model: str,
        judge: PaidUpstream,
        tiers: Mapping[Target, PaidUpstream],
        verify: VerifyConfig = _NO_LOOK,
        count: OnPaidCall = lambda purpose, outcome, usd: None,
    ) -> None:
        self._queue = queue
        self._model = model
        self._judge = judge
        self._tiers = tiers
        self._count = count
        self._calls = PaidCalls(queue, count)
        self._evidence: EvidenceCollector | None = None
        if verify.mode == "auto" and Target.LOCAL in tiers:
            self._evidence = EvidenceCollector(self._calls, tiers[Target.LOCAL], verify)
        self._pause = 0.0
        self._tiers_spent = False

    async def run(
        self, *, on_step: Callable[[JudgingSummary], None] = lambda summary: None
    ) -> None:
        """Judge samples until cancelled."""
        while True:
            try:
                seconds, summary = await self.step()
                on_step(summary)
            except Exception:  # a bug must not end judging
                logger.exception("judging failed")
                seconds = MAX_JUDGE_PAUSE_SECONDS
            await asyncio.sleep(seconds)

    async def judge_pending(self, *, concurrency: int = 4) -> JudgingSummary:
        """Judge all samples that are due, and return the counts."""
        summaries: list[JudgingSummary] = []

        async def work() -> None:
            while True:
                seconds, summary = await self.step()
                summaries.append(summary)
                if seconds and not summary.put_off:
                    return
                if seconds >= RETRY_SPENT_SECONDS or self._pause:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
        return JudgingSummary(
            sum(summary.judged for summary in summaries),
            sum(summary.refused for summary in summaries),
            sum(summary.put_off for summary in summaries),
            tuple(problem for summary in summaries for problem in summary.problems),
        )

    async def close(self) -> None:
        for upstream in (self._judge, *self._tiers.values()):
            await upstream.connection.close()

    async def step(self) -> tuple[float, JudgingSummary]:
        """Judge one sample, if one is due.

        Returns the seconds to wait before the next step, and the counts.
        """
        try:
            claim = await asyncio.to_thread(
                self._queue.claim, self._model, ask_tiers=not self._tiers_spent
            )
        except StoreUnavailable as error:
            return self._back_off(str(error)), JudgingSummary(problems=(str(error),))
        if claim is None:
            self._tiers_spent = False
            return IDLE_SECONDS, JudgingSummary()
        try:
            return await self._process(claim)
        except StoreUnavailable as error:
            return self._back_off(str(error)), JudgingSummary(put_off=1, problems=(str(error),))
        except asyncio.CancelledError:
            # Shutdown: release the sample instead of letting the claim expire.
            await asyncio.shield(asyncio.to_thread(self._release_now, claim))
            raise

    def _release_now(self, claim: ClaimedSample) -> None:
        try:
            self._queue.release(claim.request_id, seconds=0.0)
        except StoreUnavailable as error:
            logger.debug("could not release a sample, its claim expires: %s", error)

    async def _process(self, claim: ClaimedSample) -> tuple[float, JudgingSummary]:
        seconds, failed = 0.0, False
        problem: str
        try:
            await self._judge_claim(claim)
        except RequestRefused as error:
            logger.info("request %s is not judged: %s", claim.request_id, error)
            await asyncio.to_thread(self._queue.finish, claim.request_id, why=str(error))
            return 0.0, JudgingSummary(refused=1, problems=(str(error),))
        except NoVerdict as error:
            problem = f"the judge gave no verdict: {error}"
            if claim.attempts + 1 >= MAX_ATTEMPTS:
                why = f"no verdict in {MAX_ATTEMPTS} attempts: {error}"
                await asyncio.to_thread(self._queue.finish, claim.request_id, why=why)
                return 0.0, JudgingSummary(refused=1, problems=(problem,))
            failed, later = True, _RETRY_SECONDS * 2**claim.attempts
        except CallInterrupted:
            problem = "client requests needed the judge's hardware"
            seconds = later = RETRY_BUSY_SECONDS
        except JudgeBudgetSpent as error:
            problem = str(error) or "today's budget of the judge is spent"
            self._tiers_spent = claim.needs_other_answer
            later = RETRY_SPENT_SECONDS
            seconds = 0.0 if self._tiers_spent else later
        except CallFailed as error:
            problem = str(error)
            seconds = later = self._back_off(problem)
        else:
            self._pause = 0.0
            await asyncio.to_thread(self._queue.finish, claim.request_id)
            return 0.0, JudgingSummary(judged=1)
        await asyncio.to_thread(self._queue.release, claim.request_id, seconds=later, failed=failed)
        return seconds, JudgingSummary(put_off=1, problems=(problem,))

    def _back_off(self, error: str) -> float:
        """Seconds to wait: exponential backoff until a call succeeds."""
        if not self._pause:
            logger.warning("judging is paused: %s", error)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), MAX_JUDGE_PAUSE_SECONDS)
        return self._pause * random.uniform(0.8, 1.0)

    async def assess(
        self, turns: Sequence[tuple[str, str]], local: str, cloud: str, *, request_id: str
    ) -> Assessment:
        """Judge two answers immediately. Only the cost is stored.

        Args:
            turns: the conversation as (role, text) pairs.
            request_id: the request that the cost is recorded for.

        Raises:
            InvalidRequest: the texts have more than MAX_CHARS characters.
            Unavailable: the judge gave no verdict, or its daily budget is spent.
        """
        if sum(len(text) for _, text in turns) + len(local) + len(cloud) > MAX_CHARS:
            raise InvalidRequest(f"The conversation and the answers exceed {MAX_CHARS} characters.")
        try:
            graded = {
                target: await self._verdict(grade_messages(turns, text), parse_grade, request_id)
                for target, text in ((Target.LOCAL, local), (Target.CLOUD, cloud))
            }
            first, swapped = [
                await self._verdict(preference_messages(turns, *pair), parse_preference, request_id)
                for pair in ((local, cloud), (cloud, local))
            ]
        except JudgeBudgetSpent:
            raise Unavailable("Today's judge budget is spent (judge.usd_per_day).") from None
        except CallInterrupted:
            raise Unavailable("The judge's hardware is busy with client requests. Retry.") from None
        except (CallFailed, RequestRefused, NoVerdict) as error:
            raise Unavailable(f"The judge gave no verdict: {error}") from None
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from None
        return Assessment(
            local=graded[Target.LOCAL],
            cloud=graded[Target.CLOUD],
            verdict=_named(merge_swapped(first.verdict, swapped.verdict), "local", "cloud"),
            first=_named(first.verdict, "local", "cloud"),
            first_reasoning=first.reasoning,
            swapped=_named(swapped.verdict, "cloud", "local"),
            swapped_reasoning=swapped.reasoning,
        )

    async def _judge_claim(self, claim: ClaimedSample) -> None:
        """Do the steps that a previous attempt has not stored."""
        if claim.turns is None or not claim.response:
            raise RequestRefused("its prompt or answer is not stored")
        size = sum(len(text) for _, text in claim.turns) + len(claim.response)
        if size > MAX_CHARS:
            raise RequestRefused(f"it has {size} characters, the limit is {MAX_CHARS}")
        if claim.needs_other_answer:
            claim = await self._ask_other(claim)
        if self._evidence is not None and claim.kind == "pair" and claim.evidence is None:
            local = claim.response if claim.target is Target.LOCAL else claim.other_response
            evidence = await self._evidence.gather(claim, local or "")
            await asyncio.to_thread(self._queue.save_evidence, claim.request_id, evidence)
        answers = {claim.target: (claim.model, claim.response)}
        if claim.other_response is not None:
            answers[claim.target.other] = claim.other_model or "", claim.other_response
        for target, (model, text) in answers.items():
            if target not in claim.graded:
                await self._grade(claim, target, model, text)
        if claim.kind == "pair" and not claim.is_compared:
            local, cloud = (answers[target][1] for target in (Target.LOCAL, Target.CLOUD))
            await self._compare(claim, local, cloud)

    async def _ask_other(self, claim: ClaimedSample) -> ClaimedSample:
        """Get the other tier's answer to the same request."""
        target = claim.target.other
        upstream = self._tiers[target]
        fields, limit = other_tier_fields(claim, upstream)
        collector = self._evidence if target is Target.LOCAL else None
        if collector is not None:
            collector.ask_for_logprobs(fields)
        answer = await self._calls.ask(upstream, fields, claim.request_id, max_tokens=limit)
        why = unusable_reason(answer.text, answer.finish_reason)
        if len(answer.text) > MAX_CHARS:
            why = f"longer than {MAX_CHARS} characters"
        self._count(upstream.purpose, "unusable" if why else "ok", answer.usd)
        if why:
            raise RequestRefused(f"the {target} tier's answer is {why}")
        model, evidence = upstream.connection.model, None
        if collector is not None:
            evidence = await collector.gather(claim, answer.text, reply=answer)
        await asyncio.to_thread(
            self._queue.save_other_answer, claim.request_id, model, answer.text, evidence=evidence
        )
        return claim._replace(
            other_model=model, other_response=answer.text, evidence=evidence or claim.evidence
        )

    async def _grade(self, claim: ClaimedSample, target: Target, model: str, text: str) -> None:
        assert claim.turns is not None  # checked by the caller
        messages = grade_messages(claim.turns, text)
        grade = await self._verdict(messages, parse_grade, claim.request_id)
        await asyncio.to_thread(
            self._queue.save_grade,
            claim.request_id,
            target,
            model=model,
            score=grade.score,
            judge_model=self._model,
            reason=grade.reasoning,
        )

    async def _compare(self, claim: ClaimedSample, local: str, cloud: str) -> None:
        """Compare the answers in both orders, because judges have a position bias."""
        assert claim.turns is not None  # checked by the caller
        first: Side = "tie"
        swapped: Side = "tie"
        if local != cloud:
            first, swapped = [
                (await self._verdict(messages, parse_preference, claim.request_id)).verdict
                for messages in (
                    preference_messages(claim.turns, local, cloud),
                    preference_messages(claim.turns, cloud, local),
                )
            ]
        await asyncio.to_thread(
            self._queue.save_preference,
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
            answer = await self._calls.ask(
                self._judge, fields, request_id, max_tokens=MAX_VERDICT_TOKENS
            )
            try:
                verdict = read_verdict(answer.text, answer.finish_reason, parse)
            except InvalidVerdict as error:
                problem = str(error)
                self._count(self._judge.purpose, "unusable", answer.usd)
            else:
                self._count(self._judge.purpose, "ok", answer.usd)
                return verdict
        raise NoVerdict(problem)


def judge_price(config: Config, prices: Prices) -> Price:
    """The price of the judge model. Raises JudgePriceUnknown."""
    judge = config.judge
    if judge.price != "auto":
        return Price.of(judge.price)
    price = prices.find(Target.CLOUD, judge.model)
    if price is None or price.is_free:
        raise JudgePriceUnknown(
            f"judge.price: no price is listed for {judge.model}, and judge.usd_per_day needs one. "
            "Set it ({input: 0, output: 0} for a free judge)."
        )
    return price


def _named(side: Side, a: Verdict, b: Verdict) -> Verdict:
    """The verdict with A and B replaced by their tiers."""
    return a if side == "A" else b if side == "B" else "tie"
