"""The evidence about local answers of judged pairs, as the second look reads it (`verify`).

`hybrid-llm calibrate` fits the combiner to it, so every pair should have what a request in the band
has. What is missing costs more local generations, on hardware that no client request needs.
"""

from typing import Any

from proxy.config import VerifyConfig
from proxy.evaluation.judge_queue import ClaimedSample
from proxy.evaluation.paid_calls import (
    CallFailed,
    ModelReply,
    PaidCalls,
    PaidUpstream,
    RequestRefused,
    other_tier_fields,
)
from proxy.protocol.logprobs import TOP_LOGPROBS, LogprobReader, first_alternatives
from proxy.protocol.ollama import is_same_model
from router_model.evidence import Evidence
from router_model.final_answer import without_thinking
from router_model.second_look import (
    RESAMPLE_TEMPERATURE,
    Token,
    evidence_of,
    resample,
    self_check_fields,
    yes_probability,
)


class EvidenceCollector:
    """Collects the evidence about local answers.

    Args:
        calls: books the generations.
        local: the local tier.
        verify: what evidence a second look has.
    """

    def __init__(self, calls: PaidCalls, local: PaidUpstream, verify: VerifyConfig) -> None:
        self._calls = calls
        self._local = local
        self._verify = verify

    def ask_for_logprobs(self, fields: dict[str, Any]) -> None:
        """Ask for the log-probabilities of a local answer, where the server has them."""
        tier = self._local.owner or self._local.connection
        if self._verify.logprobs == "auto" and tier.catalog.capabilities.has_logprobs:
            fields |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}

    async def gather(
        self, claim: ClaimedSample, text: str, *, reply: ModelReply | None = None
    ) -> Evidence:
        """The evidence about a local answer. What a model does not give is missing.

        Args:
            reply: with the answer, if the judge has asked for it. The tokens of an answer that a
                client got are not known.

        Raises:
            JudgeBudgetSpent, CallInterrupted, StoreUnavailable: try again later.
        """
        turns = claim.turns or ()
        answer = without_thinking(text).strip()
        tokens: list[Token] = []
        if reply is not None:
            reader = LogprobReader(removes=False)
            reader.take(reply.body, reply.body)
            tokens = reader.tokens
        second = checked = None
        if self._verify.second is not None:
            second = await self._ask_second(claim, self._verify.second)
        if self._verify.self_check and answer:
            model = self._local.connection.model
            fields = self_check_fields(model, turns, answer)
            if (found := await self._ask(claim, fields, fields["max_tokens"])) is not None:
                checked = yes_probability(first_alternatives(found.body))
        return evidence_of(
            next((text for role, text in reversed(turns) if role == "user"), ""),
            answer,
            second=None if second is None else second.text,
            second_model=self._verify.second,
            tokens=tokens,
            self_check=checked,
        )

    async def _ask_second(self, claim: ClaimedSample, second: str) -> ModelReply | None:
        fields, limit = other_tier_fields(claim, self._local)
        if is_same_model(second, self._local.connection.model):
            resample(fields, RESAMPLE_TEMPERATURE)
        return await self._ask(claim, fields | {"model": second}, limit)

    async def _ask(
        self, claim: ClaimedSample, fields: dict[str, Any], max_tokens: int
    ) -> ModelReply | None:
        try:
            return await self._calls.ask(
                self._local, fields, claim.request_id, max_tokens=max_tokens
            )
        except (CallFailed, RequestRefused):
            return None
