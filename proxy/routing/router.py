"""The router: the client's preference and the router model's score give one decision.

The score says how likely the local answer is good enough. What is compared with the threshold is
the merit, which falls with the expected gain of the cloud's answer per dollar, or is the score
(`routing.objective`).

The model runs in its own thread (onnxruntime releases the GIL), never on the event loop. The router
never fails a request. If the model is missing, fails or times out, the request goes to the cloud
with the reason `router_unavailable`: the cloud costs cents, and a bad answer costs trust.
"""

import asyncio
import logging
import random
import re
from collections import OrderedDict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from proxy.config import Config
from proxy.errors import InvalidRequest, LocalModelMissing, LocalModelsUnknown, NotFound
from proxy.protocol.ollama import shortest_name
from proxy.record import Reason, Target
from proxy.routing.model_names import (
    find_local,
    has_local_form,
    is_near_miss,
    own_name,
    suggest_name,
    without_connection,
)
from proxy.routing.rules import Rule, Rules
from proxy.routing.verifier import Verifier
from proxy.timeouts import Deadlines
from router_model.housekeeping import is_housekeeping
from router_model.model import Score
from router_model.task import ScoreSystem, routing_text
from router_model.value import GainPerDollar

logger = logging.getLogger(__name__)

# A score takes milliseconds.
DECISION_TIMEOUT_SECONDS: Final = 1.0
# About 250 bytes each. Agents and retries repeat a text within minutes.
MAX_CACHED_SCORES: Final = 10_000

TARGET_HEADER: Final = b"x-router-target"
THRESHOLD_HEADER: Final = b"x-router-threshold"
NO_STORE_HEADER: Final = b"x-router-no-store"

# Reported without a router model. No merit is compared with it.
_NO_MODEL_THRESHOLD: Final = 0.5

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_TARGETS: Final = {target.value: target for target in Target}


class Model(Protocol):
    """A model that scores texts, such as `router_model.model.RouterModel`."""

    def score(self, text: str) -> Score:
        """Calibrated P(the local answer is at least as good as the cloud's), and both heads."""


class Thresholds(Protocol):
    """Thresholds by their effect, as in `router_model.manifest.Manifest`.

    The effects are measured on the router model's validation data.
    """

    @property
    def threshold(self) -> float:
        """The recommended threshold."""

    def threshold_for_cost(self, cost_share: float) -> float:
        """A threshold that costs at most this share of sending all requests to the cloud."""

    def threshold_for_quality(self, quality_share: float) -> float:
        """A threshold that recovers at least this share of the quality gap between the models."""


class RoutingPreference(NamedTuple):
    """The client's preference, from the headers and the model name.

    Attributes:
        target: the forced tier.
        model: another model of that tier than the configured one.
        threshold: the request's own threshold.
    """

    target: Target | None = None
    model: str | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        threshold = "" if self.threshold is None else f", threshold {self.threshold:.4f}"
        return f"{self.target or 'either'} tier, {self.model or 'configured model'}{threshold}"


class Decision(NamedTuple):
    """The tier and the model for a request, and the reason.

    Attributes:
        score: None when the request was not scored.
        propensity: the probability of this tier given the score; 1 without exploration.
        has_alternative: whether the other tier may be able to answer as well.
        rule: the name of the rule that matched.
        merit: what is compared with the threshold; the score without an objective. None where
            nothing is: without a score, or if the router model cannot judge the text.
        expected_cloud_usd: the expected cost of the cloud's answer; None if it is unknown.
        has_second_look: whether the local model answers first, and its answer gets a second look.
    """

    target: Target
    reason: Reason
    model: str
    threshold: float | None = None
    score: Score | None = None
    propensity: float | None = None
    has_alternative: bool = False
    rule: str | None = None
    merit: float | None = None
    expected_cloud_usd: float | None = None
    has_second_look: bool = False

    def __str__(self) -> str:
        text = f"{self.target} ({self.model}), reason {self.reason}"
        if self.score is not None and self.threshold is not None:
            score, p_local, p_cloud, unreadable, _ = self.score
            text += f", score {score:.4f} (p_local {p_local:.4f}, p_cloud {p_cloud:.4f})"
            if self.merit is not None and self.expected_cloud_usd is not None:
                text += (
                    f", merit {self.merit:.4f} (gain {self.score.gain:+.4f} for "
                    f"${self.expected_cloud_usd:.6f})"
                )
            text += f" and threshold {self.threshold:.4f}"
            if unreadable is not None:
                text += f", not readable ({unreadable.signal})"
        if self.has_second_look:
            text += ", after a second look at the local answer"
        return text

    def to_dict(self, *, latency_ms: float, router_model: str | None) -> dict[str, object]:
        """The decision as JSON fields, for previews and `hybrid-llm route --json`.

        `unreadable` is the signal of `router_model.domain`, whether or not it decided. With
        `second_look` the target is that of the prompt alone.
        """
        score, p_local, p_cloud, unreadable, _ = self.score or (None,) * 5
        return {
            "target": self.target.value,
            "model": self.model,
            "score": score,
            "p_local": p_local,
            "p_cloud": p_cloud,
            "merit": self.merit,
            "gain": None if self.score is None else self.score.gain,
            "expected_cloud_usd": self.expected_cloud_usd,
            "threshold": self.threshold,
            "reason": self.reason.value,
            "second_look": self.has_second_look,
            "unreadable": None if unreadable is None else unreadable.signal,
            "rule": self.rule,
            "latency_ms": round(latency_ms, 3),
            "router_model": router_model,
        }


class Scorer:
    """The router model with one inference thread and a cache of its latest scores.

    A text is scored once: concurrent requests for the same text share one inference. A new model
    gets a new scorer. The cache stores digests of the texts, and evicts the least recently used.

    Args:
        name: its name in the log.
        cache_size: the number of cached scores.
    """

    def __init__(
        self,
        model: Model,
        *,
        timeout_seconds: float = DECISION_TIMEOUT_SECONDS,
        name: str = "router model",
        cache_size: int = MAX_CACHED_SCORES,
    ) -> None:
        self._model = model
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Score] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Score]] = {}
        self._deadlines = Deadlines()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name.replace(" ", "-"))

    async def score(
        self,
        turns: Sequence[tuple[str, str]],
        *,
        score_system: ScoreSystem = "auto",
        is_fresh: bool = False,
    ) -> Score | None:
        """Score a conversation; None if the model failed or timed out.

        Args:
            is_fresh: run the model also if the score is cached, to measure its duration.
        """
        text = routing_text(turns, score_system=score_system)
        key = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        cached = None if is_fresh else self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
            return cached
        pending = self._pending.get(key)
        try:
            pending = pending or self._submit(key, text)
            with self._deadlines.within(self._timeout_seconds):
                return await asyncio.shield(pending)  # other requests may wait for it as well
        except TimeoutError:
            logger.warning("the %s gave no score within %g s", self._name, self._timeout_seconds)
            if pending is not None:
                pending.cancel()  # else later texts would queue behind it
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or pending is None or not pending.cancelled():
                raise
            # The scorer was closed, or an earlier request for the same text timed out.
        except Exception:
            logger.exception("the %s failed", self._name)
        return None

    def _submit(self, key: bytes, text: str) -> "asyncio.Future[Score]":
        loop = asyncio.get_running_loop()
        pending = self._pending[key] = loop.run_in_executor(self._thread, self._score, text)

        def store(done: "asyncio.Future[Score]") -> None:
            del self._pending[key]
            # Errors are not cached: the next request scores the text again.
            if not done.cancelled() and done.exception() is None:
                self._cache[key] = done.result()
                if len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)

        pending.add_done_callback(store)
        return pending

    def _score(self, text: str) -> Score:
        score = self._model.score(text)
        if not 0.0 <= score.score <= 1.0:
            raise ValueError(f"{score} is not a probability")  # NaN from a broken file
        return score

    def close(self) -> None:
        """Stop the thread. Waiting requests get no score."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Router:
    """Decides for one configuration and one router model."""

    def __init__(
        self,
        config: Config,
        scorer: Scorer | None,
        *,
        thresholds: Thresholds | None,
        objective: GainPerDollar | None = None,
        verifier: Verifier | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            objective: rates the requests; None ranks them by score.
            verifier: of the second look; None without one.
            rng: the random numbers for `routing.explore_rate`.
        """
        routing = config.routing
        self._explore_rate = routing.explore_rate
        self._explore_width = routing.explore_width
        self._score_system = routing.score_system
        self._keeps_housekeeping = routing.housekeeping == "local"
        self._rng = rng or random.Random()
        self._out_of_domain = routing.out_of_domain
        self._scorer = scorer
        self._objective = objective
        self._thresholds = thresholds
        self.verifier = verifier
        if routing.threshold != "auto":
            self.threshold = routing.threshold
        else:
            self.threshold = _NO_MODEL_THRESHOLD if thresholds is None else thresholds.threshold
        routed = routing.routed_models
        if routed is None:
            routed = (config.upstreams.cloud.model,)
        self._routed = frozenset(map(shortest_name, routed))
        self.rules = Rules(config) if routing.rules else None
        self._rejects_unknown = routing.unknown_models == "reject"
        self._models = {
            Target.LOCAL: config.upstreams.local.model,
            Target.CLOUD: config.upstreams.cloud.model,
        }

    def read_preference(
        self,
        model: str,
        headers: Sequence[tuple[bytes, bytes]],
        local_models: Collection[str] | None = (),
    ) -> RoutingPreference:
        """The client's preference. Headers take precedence over the model name.

        Args:
            local_models: the models of the local tier; None if they are not known.

        Raises:
            InvalidRequest: an unknown target, threshold or `auto:` parameter.
            NotFound: an unknown model name, where `routing.unknown_models` rejects it.
            LocalModelMissing: the name means a local model that does not exist, or resembles one.
            LocalModelsUnknown: the name may be that of a local model.
        """
        preference = read_headers(self._read_model_name(model, local_models or ()), headers)
        if preference.model is not None and preference.target is not Target.LOCAL:
            if preference.target is None:
                self._check_not_local(preference.model, local_models)
            preference = self._as_cloud_model(
                preference.model, preference.threshold, local_models or ()
            )
        return preference

    def _read_model_name(self, model: str, local_models: Collection[str]) -> RoutingPreference:
        """The preference in a model name. An unknown name stays in `model`, undecided."""
        if shortest_name(model.strip()) in self._routed:
            return RoutingPreference()
        own = own_name(model)
        if own is not None:
            name, _, parameters = own.partition(":")
            if name == "auto":
                return RoutingPreference(
                    threshold=self._read_auto(parameters) if ":" in own else None
                )
            return RoutingPreference(target=Target(name))
        if find_local(model, (self._models[Target.LOCAL],)):
            return RoutingPreference(target=Target.LOCAL)
        if model != self._models[Target.CLOUD]:
            listed = find_local(model, local_models)
            if listed is not None:
                return RoutingPreference(Target.LOCAL, listed)
        return RoutingPreference(model=model)

    def _check_not_local(self, model: str, local_models: Collection[str] | None) -> None:
        """Keep what is meant for a local model from the cloud.

        Raises:
            LocalModelsUnknown: the name has the form of a local one.
            LocalModelMissing: it is none of the local models, and means or resembles one.
        """
        if model == self._models[Target.CLOUD]:
            return
        has_form = has_local_form(model)
        if has_form and local_models is None:
            raise LocalModelsUnknown(
                f"'{model}' may be a model of the local server, which has not listed its models "
                "yet. Retry when it runs. To send the request to the cloud, set the header "
                "x-router-target: cloud.",
                param="model",
            )
        known = (self._models[Target.LOCAL], *(local_models or ()))
        if not self._rejects_unknown and (has_form or is_near_miss(model, known)):
            what = "The local server has no" if has_form else "There is no"
            where = "" if has_form else " here"
            raise LocalModelMissing(
                f"{what} model '{model}'{where}.{suggest_name(model, known)} "
                "To send this name to the cloud, set the header x-router-target: cloud.",
                installs=without_connection(model) if has_form else None,
            )

    def _read_auto(self, parameters: str) -> float:
        """The threshold of `auto:threshold=0.6`, `auto:cost=0.3` or `auto:quality=0.9`."""
        name, _, value = parameters.partition("=")
        if name not in ("threshold", "cost", "quality"):
            raise InvalidRequest(
                f"Invalid value for 'model': 'auto' has no parameter '{name}'. "
                "Use threshold, cost or quality, as in 'auto:cost=0.3'.",
                param="model",
            )
        share = read_share(value, name=name, param="model")
        if name == "threshold" or self._thresholds is None:
            return share
        if name == "cost":
            return self._thresholds.threshold_for_cost(share)
        return self._thresholds.threshold_for_quality(share)

    def _as_cloud_model(
        self, model: str, threshold: float | None, local_models: Collection[str]
    ) -> RoutingPreference:
        """An unknown name is a model of the cloud, unless unknown models are rejected."""
        if self._rejects_unknown and model != self._models[Target.CLOUD]:
            known = (*self._models.values(), *local_models)
            raise NotFound(
                f"The model '{model}' does not exist here.{suggest_name(model, known)} Use 'auto', "
                "'local' or 'cloud', or see GET /v1/models.",
                param="model",
                code="model_not_found",
            )
        return RoutingPreference(Target.CLOUD, model, threshold)

    async def decide(
        self,
        preference: RoutingPreference,
        turns: Sequence[tuple[str, str]],
        *,
        input_tokens: float | None = None,
        not_local: Reason | None = None,
        paced_threshold: float = 1.0,
        rule: Rule | None = None,
        housekeeping: bool | None = None,
        is_fresh: bool = False,
    ) -> Decision:
        """Choose the tier for a conversation of (role, text) pairs. Never fails.

        Args:
            input_tokens: of the request, for the cost of the cloud's answer.
            not_local: why the local tier cannot answer; overrides the score.
            paced_threshold: the budget pacer's threshold, for requests without their own.
            rule: the rule that matched. It does not apply to a forced tier.
            housekeeping: whether the request is a front end's own; by default read from the turns.
            is_fresh: use no cached score, to measure how long a first decision takes.
        """
        if preference.target is not None:
            model = preference.model or self._models[preference.target]
            return Decision(preference.target, Reason.FORCED, model)
        own, name = preference.threshold, None
        if rule is not None:
            name = rule.name
            if rule.target is Target.CLOUD or (rule.target is not None and not_local is None):
                model = self._models[rule.target]
                return Decision(
                    rule.target, Reason.RULE, model, has_alternative=not_local is None, rule=name
                )
            if rule.threshold is not None:
                own = rule.threshold
        asked = self.threshold if own is None else own  # before pacing
        threshold = min(self.threshold, paced_threshold) if own is None else own
        decision = Decision(
            Target.CLOUD,
            Reason.ROUTER_UNAVAILABLE,
            self._models[Target.CLOUD],
            threshold,
            has_alternative=True,
            rule=name,
        )
        if not_local is not None:
            return decision._replace(reason=not_local, has_alternative=False)
        if housekeeping is None:
            housekeeping = is_housekeeping(turns)
        if housekeeping and self._keeps_housekeeping and asked < 1:
            model = self._models[Target.LOCAL]
            return decision._replace(target=Target.LOCAL, reason=Reason.HOUSEKEEPING, model=model)
        score = None
        if self._scorer is not None:
            score = await self._scorer.score(
                turns, score_system=self._score_system, is_fresh=is_fresh
            )
        if score is None:
            return decision
        decision = self._rate(decision, score, input_tokens)
        unknown = self._tier_out_of_domain(score, asked)
        if unknown is not None:
            model = self._models[unknown]
            return decision._replace(
                target=unknown, reason=Reason.OUT_OF_DOMAIN, model=model, merit=None
            )
        return self._compare(decision, threshold, is_own=own is not None)

    def _rate(self, decision: Decision, score: Score, input_tokens: float | None) -> Decision:
        """The decision with a score and its merit."""
        if self._objective is None:
            return decision._replace(score=score, merit=score.score)
        merit, usd = self._objective.rate(score, input_tokens=input_tokens)
        return decision._replace(score=score, merit=merit, expected_cloud_usd=usd)

    def _compare(self, decision: Decision, threshold: float, *, is_own: bool) -> Decision:
        """The decision by its merit and a threshold, the request's own or the default one."""
        merit = decision.merit
        assert merit is not None  # it has a score
        target = Target.LOCAL if merit >= threshold else Target.CLOUD
        is_paced = not is_own and threshold <= merit < self.threshold
        reason, propensity = Reason.BUDGET if is_paced else Reason.SCORE, 1.0
        is_near = 0 < threshold < 1 and abs(merit - threshold) <= self._explore_width
        if is_near and not is_own and not is_paced:
            propensity -= self._explore_rate / 2
            if self._rng.random() >= propensity:
                target, reason, propensity = target.other, Reason.EXPLORATION, 1.0 - propensity
        return decision._replace(
            target=target, reason=reason, model=self._models[target], propensity=propensity
        )

    def is_uncertain(self, decision: Decision) -> bool:
        """Whether a decision by score is one that a second look at the local answer may change."""
        if self.verifier is None or decision.reason is not Reason.SCORE:
            return False
        assert decision.merit is not None  # as the score has decided
        assert decision.threshold is not None
        return decision.has_alternative and self.verifier.is_in_band(
            decision.merit, decision.threshold
        )

    def _tier_out_of_domain(self, score: Score, threshold: float) -> Target | None:
        """The tier for a text that the model cannot judge; None if its score decides.

        A threshold of 0 (`auto:cost=0`) means no cloud calls, one of 1 no local answers.
        """
        if score.unreadable is None or self._out_of_domain == "score" or not 0 < threshold < 1:
            return None
        if score.unreadable.is_short:
            return Target.LOCAL
        return Target(self._out_of_domain)

    def close(self) -> None:
        if self._scorer is not None:
            self._scorer.close()


def read_headers(
    preference: RoutingPreference, headers: Sequence[tuple[bytes, bytes]]
) -> RoutingPreference:
    """The preference, overridden by the headers. Raises InvalidRequest."""
    for name, value in headers:
        if name == TARGET_HEADER:
            preference = _read_target(preference, value)
        elif name == THRESHOLD_HEADER:
            text = value.decode("latin-1")
            threshold = read_share(text, name="threshold", param="x-router-threshold")
            preference = preference._replace(threshold=threshold)
    return preference


def wants_no_store(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the client forbids storing the request's texts. Raises InvalidRequest."""
    for name, value in headers:
        if name == NO_STORE_HEADER:
            text = value.decode("latin-1").strip().lower()
            if text not in ("true", "false"):
                raise InvalidRequest(
                    f"Invalid value for the header x-router-no-store: '{text}' is not true or "
                    "false.",
                    param="x-router-no-store",
                )
            return text == "true"
    return False


def _read_target(preference: RoutingPreference, value: bytes) -> RoutingPreference:
    text = value.decode("latin-1").strip().lower()
    if text == "auto":
        return RoutingPreference(threshold=preference.threshold)
    target = _TARGETS.get(text)
    if target is None:
        raise InvalidRequest(
            f"Invalid value for the header x-router-target: '{text}' is not local, cloud or auto.",
            param="x-router-target",
        )
    # A model of the other tier is replaced by the configured model of this tier.
    is_same_tier = target is (preference.target or Target.CLOUD)
    return RoutingPreference(
        target, preference.model if is_same_tier else None, preference.threshold
    )


def read_share(text: str, *, name: str, param: str) -> float:
    """A number from 0 to 1.

    Args:
        name: what the number is.
        param: the field, header or parameter that has it.

    Raises:
        InvalidRequest: it is none.
    """
    # float() also takes digits of other scripts, underscores, nan and infinity.
    share = float(text) if _NUMBER.fullmatch(text.strip()) else -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidRequest(
            f"Invalid value for '{param}': the {name} '{text}' is not a number from 0 to 1.",
            param=param,
        )
    return abs(share)  # -0.0 is 0, too
