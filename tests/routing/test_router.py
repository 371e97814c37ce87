"""Routing: the client's preference, the score, the threshold and a failing model."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import msgspec
import pytest

from fakes import PATIENCE_SECONDS
from gains import flat_gain
from proxy.config import Config, RoutingConfig, UpstreamConfig, UpstreamsConfig
from proxy.errors import InvalidRequest, LocalModelMissing, LocalModelsUnknown, NotFound
from proxy.record import Reason, Target
from proxy.routing.model_names import is_near_miss, suggest_name
from proxy.routing.router import Decision, Model, Router, RoutingPreference, Scorer
from router_model.domain import Unreadable
from router_model.model import Score
from router_model.value import MAX_MERIT, GainPerDollar, UsdPerToken

TURNS = [("user", "What is 2 + 2?")]
LOCAL, CLOUD = Target.LOCAL, Target.CLOUD


class FixedModel:
    """A model with one score for every text. It records the texts."""

    def __init__(self, score: float = 0.7, unreadable: Unreadable | None = None) -> None:
        self.texts: list[str] = []
        self._score = Score(score, 0.8, 0.9, unreadable)

    def score(self, text: str) -> Score:
        self.texts.append(text)
        return self._score


def configure(
    *,
    local: str = "phi3:latest",
    threshold: float | Literal["auto"] = "auto",
    routed: tuple[str, ...] | None = ("auto", "gpt-4o-mini"),
    unknown: Literal["cloud", "reject"] = "cloud",
) -> Config:
    return Config(
        upstreams=UpstreamsConfig(
            local=UpstreamConfig(base_url="http://local/v1", model=local),
            cloud=UpstreamConfig(base_url="http://cloud/v1", model="gpt-4o-mini"),
        ),
        routing=RoutingConfig(threshold=threshold, routed_models=routed, unknown_models=unknown),
    )


def router(config: Config | None = None, scorer: Scorer | None = None) -> Router:
    return Router(config or configure(), scorer, thresholds=FixedThresholds())


class FixedThresholds:
    """Thresholds that identify the requested share."""

    threshold = 0.6

    def threshold_for_cost(self, cost_share: float) -> float:
        return cost_share / 10

    def threshold_for_quality(self, quality_share: float) -> float:
        return quality_share / 100


# Preferences.


def test_default_routed_models_are_auto_and_the_cloud_model() -> None:
    by_default = router(configure(routed=None))
    assert by_default.read_preference("gpt-4o-mini", ()) == RoutingPreference()
    assert by_default.read_preference("gpt-4o", ()) == RoutingPreference(CLOUD, "gpt-4o")
    spelt = router(configure(routed=("Fast", "Phi3:latest")))
    for name in ("fast", "FAST", "phi3", "library/phi3:latest"):
        assert spelt.read_preference(name, ()) == RoutingPreference()
    only_auto = router(configure(routed=("auto",)))
    assert only_auto.read_preference("gpt-4o-mini", ()) == RoutingPreference(CLOUD, "gpt-4o-mini")


@pytest.mark.parametrize(
    ("model", "headers", "preference"),
    [
        ("auto", {}, RoutingPreference()),
        ("gpt-4o-mini", {}, RoutingPreference()),  # listed in routed_models
        ("local", {}, RoutingPreference(LOCAL)),
        ("cloud", {}, RoutingPreference(CLOUD)),
        ("phi3:latest", {}, RoutingPreference(LOCAL)),
        ("phi3", {}, RoutingPreference(LOCAL)),
        ("ollama/Phi3", {}, RoutingPreference(LOCAL)),
        ("ollama_chat/qwen3:4b", {}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("OpenAI/ollama/Qwen3:4B", {}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("openai/qwen3:4b", {}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("phi3:mini", {"target": "cloud"}, RoutingPreference(CLOUD, "phi3:mini")),
        ("registry.ollama.ai/library/Phi3", {}, RoutingPreference(LOCAL)),
        ("qwen3:4b", {}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("Library/Qwen3:4B", {}, RoutingPreference(LOCAL, "qwen3:4b")),  # as it is listed
        ("GPT-4o-mini", {}, RoutingPreference()),
        ("GPT-4o", {}, RoutingPreference(CLOUD, "GPT-4o")),  # as the client writes it
        ("qwen3:4b", {"target": "local"}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("qwen3:4b", {"target": "cloud"}, RoutingPreference(CLOUD)),
        ("qwen3:4b", {"target": "auto"}, RoutingPreference()),
        ("gpt-4o", {}, RoutingPreference(CLOUD, "gpt-4o")),
        ("Auto", {}, RoutingPreference()),
        ("LOCAL", {}, RoutingPreference(LOCAL)),
        (" Cloud ", {}, RoutingPreference(CLOUD)),
        ("local:latest", {}, RoutingPreference(LOCAL)),  # as clients of Ollama write it
        ("openai/auto", {}, RoutingPreference()),
        ("litellm_proxy/Local", {}, RoutingPreference(LOCAL)),
        ("ollama_chat/auto", {}, RoutingPreference()),
        ("hybrid/auto:Cost=0.3", {}, RoutingPreference(threshold=0.03)),
        ("Auto", {"target": "local"}, RoutingPreference(LOCAL)),
        ("auto:threshold=0.25", {}, RoutingPreference(threshold=0.25)),
        ("auto:cost=0.3", {}, RoutingPreference(threshold=0.03)),  # from the table
        ("auto:quality=0.5", {}, RoutingPreference(threshold=0.005)),
        ("auto:threshold=0", {}, RoutingPreference(threshold=0)),
        ("auto:threshold=1", {}, RoutingPreference(threshold=1)),
        # Headers override names.
        ("auto", {"target": "local"}, RoutingPreference(LOCAL)),
        ("local", {"target": "cloud"}, RoutingPreference(CLOUD)),
        ("local", {"target": "auto"}, RoutingPreference()),
        ("gpt-4o", {"target": "auto"}, RoutingPreference()),
        ("gpt-4o", {"target": "local"}, RoutingPreference(LOCAL)),
        ("gpt-4o", {"target": "cloud"}, RoutingPreference(CLOUD, "gpt-4o")),
        ("phi3", {"target": "cloud"}, RoutingPreference(CLOUD)),
        ("auto", {"target": " LOCAL "}, RoutingPreference(LOCAL)),
        ("auto", {"threshold": "0.9"}, RoutingPreference(threshold=0.9)),
        ("auto:threshold=0.1", {"threshold": "0.9"}, RoutingPreference(threshold=0.9)),
        ("auto:threshold=0.1", {"target": "auto"}, RoutingPreference(threshold=0.1)),
        ("auto", {"threshold": "0.9", "target": "auto"}, RoutingPreference(threshold=0.9)),
        ("gpt-4o", {"threshold": "0.9", "target": "auto"}, RoutingPreference(threshold=0.9)),
        ("gpt-4o", {"target": "auto", "threshold": "0.9"}, RoutingPreference(threshold=0.9)),
        ("auto", {"unknown": "1"}, RoutingPreference()),
    ],
)
def test_preference_is_read_from_headers_and_model(
    model: str, headers: dict[str, str], preference: RoutingPreference
) -> None:
    sent = [(f"x-router-{name}".encode(), value.encode()) for name, value in headers.items()]
    parsed = router().read_preference(
        model, [(b"accept", b"*/*"), *sent], {"phi3:latest", "qwen3:4b"}
    )
    assert parsed == preference


LOCAL_NAMES = "phi3:mini QWEN3:4b me/qwen3:4b hf.co/org/model library/phi4 Registry.Ollama.ai/x/y"


@pytest.mark.parametrize("model", LOCAL_NAMES.split())
@pytest.mark.parametrize("unknown", ["cloud", "reject"])
def test_a_local_name_is_none_of_the_cloud_before_the_local_models_are_known(
    model: str, unknown: Literal["cloud", "reject"]
) -> None:
    unaware = router(configure(unknown=unknown))
    with pytest.raises(LocalModelsUnknown) as caught:
        unaware.read_preference(model, (), None)
    error = caught.value
    assert (error.status, error.code, error.param) == (503, "local_models_unknown", "model")
    assert error.headers == [(b"retry-after", b"5")]


@pytest.mark.parametrize(
    ("model", "headers", "preference"),
    [
        ("gpt-4o", {}, RoutingPreference(CLOUD, "gpt-4o")),
        ("ft:gpt-4o-mini:org::id", {}, RoutingPreference(CLOUD, "ft:gpt-4o-mini:org::id")),
        ("z-ai/glm-5:free", {}, RoutingPreference(CLOUD, "z-ai/glm-5:free")),
        ("us.amazon.nova-v1:0", {}, RoutingPreference(CLOUD, "us.amazon.nova-v1:0")),
        ("phi3", {}, RoutingPreference(LOCAL)),
        ("auto:threshold=0.25", {}, RoutingPreference(threshold=0.25)),
        # The client names the tier.
        ("qwen3:4b", {"target": "cloud"}, RoutingPreference(CLOUD, "qwen3:4b")),
        ("qwen3:4b", {"target": "local"}, RoutingPreference(LOCAL)),
        ("qwen3:4b", {"target": "auto"}, RoutingPreference()),
    ],
)
def test_other_names_do_not_need_the_local_models(
    model: str, headers: dict[str, str], preference: RoutingPreference
) -> None:
    sent = [(f"x-router-{name}".encode(), value.encode()) for name, value in headers.items()]
    assert router().read_preference(model, sent, None) == preference


@pytest.mark.parametrize(
    ("model", "headers", "param"),
    [
        ("auto:", {}, "model"),
        ("auto:speed=1", {}, "model"),
        ("auto:threshold", {}, "model"),
        ("auto:threshold=", {}, "model"),
        ("auto:threshold=high", {}, "model"),
        ("auto:threshold=nan", {}, "model"),
        ("auto:threshold=inf", {}, "model"),
        ("auto:threshold=1.0001", {}, "model"),
        ("auto:threshold=-0.1", {}, "model"),
        ("auto:cost=1.5", {}, "model"),
        ("auto:quality=best", {}, "model"),
        ("auto", {"target": "edge"}, "x-router-target"),
        ("auto", {"target": ""}, "x-router-target"),
        ("auto", {"target": "\xff"}, "x-router-target"),
        ("auto", {"threshold": "NaN"}, "x-router-threshold"),
        ("auto", {"threshold": "2"}, "x-router-threshold"),
        ("auto", {"threshold": ""}, "x-router-threshold"),
        ("auto", {"threshold": "\xff"}, "x-router-threshold"),
    ],
)
def test_invalid_preference_is_rejected(model: str, headers: dict[str, str], param: str) -> None:
    sent = [
        (f"x-router-{name}".encode(), value.encode("latin-1")) for name, value in headers.items()
    ]
    with pytest.raises(InvalidRequest) as caught:
        router().read_preference(model, sent)
    assert caught.value.param == param


MISSING = {
    # The form of a local model's name.
    "qwen3:8b": "qwen3:4b",
    "Phi3:mini": "phi3:latest",
    "me/qwen3:4b": "qwen3:4b",
    "ollama/quen3": "qwen3:4b",
    "ollama/gpt-4o-mini": None,
    "hf.co/org/model": None,
    "library/phy3": "phi3:latest",
    "lm_studio/x": None,
    # Near misses.
    "Lokal": "local",
    "loca1": "local",
    "atuo": "auto",
    "clod": "cloud",
    "openai/Lokal": "local",
    "litellm_proxy/phi-3": "phi3:latest",
    "local-model": "local",
    "myproxy/auto": "auto",
    "phi-3": "phi3:latest",
    "phi4": "phi3:latest",
    "qwen3": "qwen3:4b",
    "Qwen3-4b": "qwen3:4b",
}


@pytest.mark.parametrize(("model", "nearest"), MISSING.items())
def test_a_name_that_means_or_resembles_a_local_one_is_refused(
    model: str, nearest: str | None
) -> None:
    with pytest.raises(LocalModelMissing) as caught:
        router().read_preference(model, (), {"phi3:latest", "qwen3:4b"})
    error = caught.value
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    hint = "" if nearest is None else f"Did you mean '{nearest}'? "
    what = f"The local server has no model '{model}'. {hint}"
    if error.installs is None:
        what = f"There is no model '{model}' here. {hint}"
    assert error.message == (
        f"{what}To send this name to the cloud, set the header x-router-target: cloud."
    )


@pytest.mark.parametrize(
    "model",
    "gpt-5 gpt-4 o3 o4-mini claude-sonnet-5 gemini-3-flash text-embedding-3-small grok-4 "
    "mistral-large-latest openrouter/auto-beta meta-llama/llama-3.3-70b-instruct "
    "accounts/fireworks/models/kimi-k2 z-ai/glm-5:free ft:gpt-4o-mini:org::id whisper-1 "
    "openai/deepseek-r1:free us.anthropic.claude-v2:1:18k "
    "arn:aws:bedrock:us-east-1:1:inference-profile/x".split(),
)
def test_other_names_go_to_the_cloud(model: str) -> None:
    listed = {"phi3:latest", "qwen3:4b", "gpt-oss:20b", "gemma3:4b", "deepseek-r1:7b"}
    assert router().read_preference(model, (), listed) == RoutingPreference(CLOUD, model)


def test_a_name_is_compared_with_bounded_work() -> None:
    compared = []

    def names() -> Iterator[str]:
        for number in range(10_000):
            compared.append(number)
            yield f"model-{number}:7b"

    assert not is_near_miss("something-else", names())
    assert len(compared) <= 200
    long_name = "x" * 101
    assert is_near_miss(long_name[2:], [long_name[1:]])
    assert not is_near_miss(long_name, [long_name[1:]])
    assert suggest_name(long_name * 10_000, [long_name])  # its beginning


def test_unknown_models_can_be_rejected() -> None:
    strict = router(configure(unknown="reject", routed=()))
    for headers in ([], [(b"x-router-target", b"cloud")]):
        with pytest.raises(NotFound) as caught:
            strict.read_preference("gpt-5", headers)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(NotFound, match=r"Did you mean 'gpt-4o-mini'\?"):
        strict.read_preference("gpt4o-mini", [])
    assert strict.read_preference("auto", []) == RoutingPreference()  # always accepted
    assert strict.read_preference("gpt-4o-mini", []) == RoutingPreference(CLOUD, "gpt-4o-mini")
    assert strict.read_preference("phi3", []) == RoutingPreference(LOCAL)
    assert strict.read_preference("gpt-5", [(b"x-router-target", b"auto")]) == RoutingPreference()
    assert strict.read_preference("gpt-5", [(b"x-router-target", b"local")]) == RoutingPreference(
        LOCAL
    )


@pytest.mark.parametrize(
    ("configured", "requested", "is_local"),
    [
        ("phi3", "phi3:latest", True),
        ("phi3:latest", "phi3", True),
        ("phi3:mini", "phi3", False),
        ("phi3", "phi3:mini", False),
    ],
)
def test_ollama_name_without_tag_means_latest(
    configured: str, requested: str, is_local: bool
) -> None:
    with contextlib.nullcontext() if is_local else pytest.raises(LocalModelMissing):
        preference = router(configure(local=configured)).read_preference(requested, [])
        assert preference.target is LOCAL


# Decisions.


@pytest.fixture
async def make_router() -> AsyncIterator[Callable[..., Router]]:
    """Make routers that use a model. They are closed after the test."""
    routers: list[Router] = []

    def make(model: Model, config: Config | None = None, timeout_seconds: float = 30) -> Router:
        routers.append(router(config, Scorer(model, timeout_seconds=timeout_seconds)))
        return routers[-1]

    yield make
    for each in routers:
        each.close()


@pytest.mark.parametrize(
    ("score", "threshold", "target"),
    [
        (0.7, 0.7, LOCAL),
        (0.6999, 0.7, CLOUD),
        (0.7, 0.7001, CLOUD),
        (0.0, 0.0, LOCAL),
        (1.0, 1.0, LOCAL),
        (0.9999, 1.0, CLOUD),
    ],
)
async def test_score_at_the_threshold_is_local(
    make_router: Callable[..., Router], score: float, threshold: float, target: Target
) -> None:
    decision = await make_router(FixedModel(score)).decide(
        RoutingPreference(threshold=threshold), TURNS
    )
    model = {LOCAL: "phi3:latest", CLOUD: "gpt-4o-mini"}[target]
    scored = Score(score, 0.8, 0.9)
    assert decision == Decision(
        target, Reason.SCORE, model, threshold, scored, 1.0, has_alternative=True, merit=score
    )


async def test_threshold_of_request_overrides_configuration_and_model(
    make_router: Callable[..., Router],
) -> None:
    recommended = make_router(FixedModel())
    configured = make_router(FixedModel(), configure(threshold=0.75))
    assert (await recommended.decide(RoutingPreference(), TURNS)).threshold == 0.6
    assert (await configured.decide(RoutingPreference(), TURNS)).threshold == 0.75
    assert (await configured.decide(RoutingPreference(threshold=0.0), TURNS)).threshold == 0.0


@pytest.mark.parametrize(
    ("paced_threshold", "threshold", "target", "reason"),
    [
        (1.0, 0.8, CLOUD, Reason.SCORE),
        (0.75, 0.75, CLOUD, Reason.SCORE),
        (0.7, 0.7, LOCAL, Reason.BUDGET),
        (0.0, 0.0, LOCAL, Reason.BUDGET),
    ],
)
async def test_budget_lowers_the_threshold(
    make_router: Callable[..., Router],
    paced_threshold: float,
    threshold: float,
    target: Target,
    reason: Reason,
) -> None:
    router = make_router(FixedModel(0.7), configure(threshold=0.8))
    decision = await router.decide(RoutingPreference(), TURNS, paced_threshold=paced_threshold)
    assert decision[:2] == (target, reason)
    assert decision.threshold == threshold
    assert decision.has_alternative


async def test_budget_changes_only_the_default_threshold(
    make_router: Callable[..., Router],
) -> None:
    router = make_router(FixedModel(0.7), configure(threshold=0.6))
    local = await router.decide(RoutingPreference(), TURNS, paced_threshold=0.1)
    assert (local.target, local.reason) == (LOCAL, Reason.SCORE)
    own = await router.decide(RoutingPreference(threshold=0.8), TURNS, paced_threshold=0.1)
    assert (own.target, own.reason, own.threshold) == (CLOUD, Reason.SCORE, 0.8)
    incapable = await router.decide(
        RoutingPreference(), TURNS, not_local=Reason.CONTEXT, paced_threshold=0.1
    )
    assert (incapable.target, incapable.reason) == (CLOUD, Reason.CONTEXT)


async def test_forced_request_is_not_scored(make_router: Callable[..., Router]) -> None:
    model = FixedModel()
    forced = make_router(model)
    assert await forced.decide(RoutingPreference(LOCAL), TURNS) == Decision(
        LOCAL, Reason.FORCED, "phi3:latest"
    )
    assert await forced.decide(RoutingPreference(CLOUD, "gpt-5"), TURNS) == Decision(
        CLOUD, Reason.FORCED, "gpt-5"
    )
    assert model.texts == []


async def test_routing_text_is_scored(make_router: Callable[..., Router]) -> None:
    model = FixedModel()
    await make_router(model).decide(
        RoutingPreference(), [("system", "Be brief."), ("user", "Hello")]
    )
    assert model.texts == ["Hello"]


UNAVAILABLE = Decision(CLOUD, Reason.ROUTER_UNAVAILABLE, "gpt-4o-mini", 0.6, has_alternative=True)


async def test_without_a_model_requests_go_to_the_cloud() -> None:
    assert await router().decide(RoutingPreference(), TURNS) == UNAVAILABLE
    forced = await router().decide(RoutingPreference(LOCAL), TURNS)
    assert (forced.target, forced.reason) == (LOCAL, Reason.FORCED)


@pytest.mark.parametrize("error", [RuntimeError("broken"), TimeoutError(), MemoryError()])
async def test_raising_model_fails_no_request(
    make_router: Callable[..., Router], error: Exception
) -> None:
    class Broken:
        def score(self, text: str) -> Score:
            raise error

    assert await make_router(Broken()).decide(RoutingPreference(), TURNS) == UNAVAILABLE


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
async def test_score_outside_0_to_1_is_ignored(
    make_router: Callable[..., Router], score: float
) -> None:
    assert await make_router(FixedModel(score)).decide(RoutingPreference(), TURNS) == UNAVAILABLE


async def test_model_is_awaited_up_to_the_timeout(
    make_router: Callable[..., Router],
) -> None:
    class Gated:
        def __init__(self) -> None:
            self.gate = threading.Event()

        def score(self, text: str) -> Score:
            self.gate.wait()
            return Score(0.9, 0.9, 0.9)

    model = Gated()
    patient, hasty = make_router(model), make_router(model, timeout_seconds=0.01)
    try:
        assert await hasty.decide(RoutingPreference(), TURNS) == UNAVAILABLE
        # The second call is queued behind the blocked one.
        assert await hasty.decide(RoutingPreference(), TURNS) == UNAVAILABLE
        waiting = asyncio.ensure_future(patient.decide(RoutingPreference(), TURNS))
        await asyncio.sleep(0)
        assert not waiting.done()
    finally:
        model.gate.set()
    assert (await waiting).target is LOCAL


async def test_closed_router_fails_no_request(make_router: Callable[..., Router]) -> None:
    closed = make_router(FixedModel())
    closed.close()
    assert await closed.decide(RoutingPreference(), TURNS) == UNAVAILABLE


# ── Score cache ───────────────────────────────────────────────────────────────────────────────


def as_turns(*texts: str) -> list[list[tuple[str, str]]]:
    return [[("user", text)] for text in texts]


@pytest.fixture
def make_scorer() -> Iterator[Callable[..., Scorer]]:
    """Make scorers that cache two texts. They are closed after the test."""
    scorers: list[Scorer] = []

    def make(model: Model) -> Scorer:
        scorers.append(Scorer(model, timeout_seconds=30, cache_size=2))
        return scorers[-1]

    yield make
    for scorer in scorers:
        scorer.close()


async def test_repeated_text_is_scored_once(make_scorer: Callable[..., Scorer]) -> None:
    model = FixedModel(0.7)
    scorer = make_scorer(model)
    for _ in range(3):
        for turns in as_turns("Hello", "hello"):
            score = await scorer.score(turns)
            assert score is not None
            assert score.score == 0.7
    # The cache key is the routing text only.
    assert await scorer.score([("system", "Be brief."), ("user", "Hello")]) is not None
    assert model.texts == ["Hello", "hello"]


async def test_cache_is_per_model(make_scorer: Callable[..., Scorer]) -> None:
    for score in (0.2, 0.8):
        scored = await make_scorer(FixedModel(score)).score(TURNS)
        assert scored is not None
        assert scored.score == score


async def test_least_recently_used_text_is_evicted(
    make_scorer: Callable[..., Scorer],
) -> None:
    model = FixedModel()
    scorer = make_scorer(model)
    for turns in as_turns("one", "two", "one", "three", "one", "two"):
        await scorer.score(turns)
    assert model.texts == ["one", "two", "three", "two"]


class GatedModel:
    """A model that returns or raises its outcomes in order, once its gate is open."""

    def __init__(self, *outcomes: Score | Exception) -> None:
        self.outcomes = list(outcomes)
        self.gate = threading.Event()
        self.texts: list[str] = []

    def score(self, text: str) -> Score:
        self.texts.append(text)
        self.gate.wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_concurrent_requests_for_a_text_share_one_score(
    make_scorer: Callable[..., Scorer],
) -> None:
    """The first request may be cancelled."""
    model = GatedModel(Score(0.9, 0.9, 0.9))
    scorer = make_scorer(model)
    try:
        first, *others = [asyncio.ensure_future(scorer.score(TURNS)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    finally:
        model.gate.set()
    assert await asyncio.gather(*others) == [Score(0.9, 0.9, 0.9)] * 2
    assert len(model.texts) == 1


async def test_abandoned_text_is_not_scored() -> None:
    """Otherwise a backlog would delay the scores of later requests."""
    model = GatedModel(Score(0.9, 0.9, 0.9), Score(0.8, 0.8, 0.8))
    scorer = Scorer(model, timeout_seconds=0.02)
    try:
        running, *queued = [
            asyncio.ensure_future(scorer.score(turns)) for turns in as_turns("one", "two", "two")
        ]
        assert await asyncio.gather(*queued) == [None, None]
        assert await running is None
    finally:
        model.gate.set()
    score = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while score is None:  # until the first text is scored
            (turns,) = as_turns("three")
            score = await scorer.score(turns)
    scorer.close()
    assert "two" not in model.texts


async def test_failure_is_not_cached(make_scorer: Callable[..., Scorer]) -> None:
    model = GatedModel(RuntimeError("once"), Score(0.9, 0.9, 0.9))
    model.gate.set()
    scorer = make_scorer(model)
    assert await scorer.score(TURNS) is None
    assert await scorer.score(TURNS) == Score(0.9, 0.9, 0.9)


async def test_closed_scorer_releases_queued_requests(
    make_scorer: Callable[..., Scorer],
) -> None:
    model = GatedModel(Score(0.9, 0.9, 0.9))
    scorer = make_scorer(model)
    try:
        running, queued = (
            asyncio.ensure_future(scorer.score(turns)) for turns in as_turns("one", "two")
        )
        await asyncio.sleep(0)
        scorer.close()
        assert await queued is None
    finally:
        model.gate.set()
    assert await running == Score(0.9, 0.9, 0.9)


# ── Exploration ───────────────────────────────────────────────────────────────────────────────


async def explore(score: float, *, threshold: float | None = None, number: int = 2_000) -> Counter:
    """Count the decisions if half of those near the threshold are random."""
    config = configure(threshold=0.6)
    routing = msgspec.structs.replace(config.routing, explore_rate=0.5, explore_width=0.05)
    config = msgspec.structs.replace(config, routing=routing)
    scorer = Scorer(FixedModel(score))
    router = Router(config, scorer, thresholds=FixedThresholds(), rng=random.Random(1))
    counts: Counter = Counter()
    for _ in range(number):
        decision = await router.decide(RoutingPreference(threshold=threshold), TURNS)
        counts[decision.target, decision.reason, decision.propensity] += 1
    scorer.close()
    return counts


@pytest.mark.parametrize(("score", "usual"), [(0.62, LOCAL), (0.58, CLOUD)])
async def test_decision_near_the_threshold_is_explored(score: float, usual: Target) -> None:
    """The recorded propensity is the frequency of the decision."""
    counts = await explore(score)
    assert counts.keys() == {(usual, Reason.SCORE, 0.75), (usual.other, Reason.EXPLORATION, 0.25)}
    assert counts[usual.other, Reason.EXPLORATION, 0.25] / counts.total() == pytest.approx(
        0.25, abs=0.03
    )


@pytest.mark.parametrize(("score", "threshold"), [(0.7, None), (0.5, None), (0.62, 0.6)])
async def test_other_decisions_are_not_explored(score: float, threshold: float | None) -> None:
    """Neither far from the threshold nor with a threshold of the client."""
    counts = await explore(score, threshold=threshold, number=100)
    target = LOCAL if score >= 0.6 else CLOUD
    assert counts == {(target, Reason.SCORE, 1.0): 100}


# Texts that the model cannot judge.

LONG = Unreadable("script", is_short=False)
SHORT = Unreadable("word", is_short=True)


def with_policy(policy: Literal["cloud", "score", "local"]) -> Config:
    config = configure(threshold=0.6)
    routing = msgspec.structs.replace(config.routing, out_of_domain=policy, explore_rate=1.0)
    return msgspec.structs.replace(config, routing=routing)


@pytest.mark.parametrize(
    ("policy", "unreadable", "target"),
    [
        ("cloud", LONG, CLOUD),
        ("cloud", SHORT, LOCAL),
        ("local", LONG, LOCAL),
        ("local", SHORT, LOCAL),
    ],
)
@pytest.mark.parametrize("score", [0.1, 0.59, 0.9])
@pytest.mark.parametrize("own", [None, 0.05, 0.7, 0.99])
async def test_score_of_an_unreadable_text_does_not_decide(
    make_router: Callable[..., Router],
    policy: Literal["cloud", "local"],
    unreadable: Unreadable,
    target: Target,
    score: float,
    own: float | None,
) -> None:
    router = make_router(FixedModel(score, unreadable), with_policy(policy))
    for _ in range(2):  # scored, and from the cache
        decision = await router.decide(RoutingPreference(threshold=own), TURNS)
        assert (decision.target, decision.reason) == (target, Reason.OUT_OF_DOMAIN)
        assert decision.score == Score(score, 0.8, 0.9, unreadable)
        assert decision.merit is None  # nothing was compared
        assert decision.propensity is None  # no exploration
        assert decision.has_alternative
    shown = decision.to_dict(latency_ms=1, router_model="m")
    assert (shown["unreadable"], shown["score"]) == (unreadable.signal, score)
    assert str(decision).endswith(f", not readable ({unreadable.signal})")


async def test_unreadable_text_can_be_left_to_the_score(
    make_router: Callable[..., Router],
) -> None:
    router = make_router(FixedModel(0.9, LONG), with_policy("score"))
    decision = await router.decide(RoutingPreference(), TURNS)
    assert (decision.target, decision.reason) == (LOCAL, Reason.SCORE)
    assert decision.to_dict(latency_ms=1, router_model="m")["unreadable"] == "script"


@pytest.mark.parametrize("preference", [RoutingPreference(LOCAL), RoutingPreference(threshold=0)])
async def test_no_cloud_call_where_the_client_wants_none(
    make_router: Callable[..., Router], preference: RoutingPreference
) -> None:
    router = make_router(FixedModel(0.1, LONG), with_policy("cloud"))
    assert (await router.decide(preference, TURNS)).target is LOCAL


@pytest.mark.parametrize("unreadable", [LONG, SHORT])
async def test_no_local_answer_where_the_client_wants_none(
    make_router: Callable[..., Router], unreadable: Unreadable
) -> None:
    router = make_router(FixedModel(0.9, unreadable), with_policy("local"))
    decision = await router.decide(RoutingPreference(threshold=1), TURNS)
    assert (decision.target, decision.reason) == (CLOUD, Reason.SCORE)


async def test_pacing_does_not_keep_an_unreadable_text_local(
    make_router: Callable[..., Router],
) -> None:
    router = make_router(FixedModel(0.9, LONG), with_policy("cloud"))
    paced = await router.decide(RoutingPreference(), TURNS, paced_threshold=0.0)
    assert (paced.target, paced.reason) == (CLOUD, Reason.OUT_OF_DOMAIN)
    limited = await router.decide(RoutingPreference(), TURNS, not_local=Reason.CONTEXT)
    assert limited.reason is Reason.CONTEXT


# Gain per dollar. The reference request costs 1 + 1 = 2 USD.

OBJECTIVE = GainPerDollar(
    flat_gain(scale=2.0),
    UsdPerToken(0.01, 0.02),
)


class GainModel:
    """A model that knows the gain of the cloud's answer and its length."""

    def __init__(self, gain: float, output_tokens: float = 50.0, score: float = 0.7) -> None:
        self._score = Score(score, 0.5 - gain / 2, 0.5 + gain / 2, None, output_tokens)

    def score(self, text: str) -> Score:
        return self._score


async def decide(
    model: Model,
    config: Config | None = None,
    *,
    preference: RoutingPreference | None = None,
    rng: random.Random | None = None,
    **options: Any,
) -> Decision:
    scorer = Scorer(model, timeout_seconds=30)
    router = Router(
        config or configure(threshold=0.5),
        scorer,
        thresholds=FixedThresholds(),
        objective=OBJECTIVE,
        rng=rng,
    )
    decision = await router.decide(preference or RoutingPreference(), TURNS, **options)
    scorer.close()
    return decision


async def test_at_equal_gain_only_the_cheap_request_goes_to_the_cloud() -> None:
    cheap = await decide(GainModel(0.5), input_tokens=80.0)  # r = 1.8 / 2
    dear = await decide(GainModel(0.5), input_tokens=10_000.0)  # r = 101 / 2
    assert (cheap.target, cheap.reason) == (CLOUD, Reason.SCORE)
    assert (dear.target, dear.reason) == (LOCAL, Reason.SCORE)
    assert cheap.merit == pytest.approx(1 / (1 + 2 * 0.5 / 0.9))
    assert dear.merit == pytest.approx(1 / (1 + 2 * 0.5 / 50.5))
    assert dear.expected_cloud_usd == pytest.approx(101.0)
    assert cheap.score == dear.score  # one inference serves both


async def test_a_low_score_stays_local_where_the_cloud_gains_nothing() -> None:
    decision = await decide(GainModel(-0.25, score=0.05))
    assert (decision.target, decision.merit) == (LOCAL, MAX_MERIT)
    shown = decision.to_dict(latency_ms=1, router_model="m")
    assert (shown["score"], shown["merit"], shown["gain"]) == (0.05, MAX_MERIT, -0.25)
    assert shown["expected_cloud_usd"] == pytest.approx(2.0)
    assert "score 0.0500" in str(decision)
    assert "merit 0.9999 (gain -0.2500 for $2.000000) and threshold 0.5000" in str(decision)


@pytest.mark.parametrize("gain", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize(("threshold", "target"), [(0.0, LOCAL), (1.0, CLOUD)])
async def test_thresholds_0_and_1_choose_a_tier_for_all(
    gain: float, threshold: float, target: Target
) -> None:
    preference = RoutingPreference(threshold=threshold)
    assert (await decide(GainModel(gain), preference=preference)).target is target


async def test_scores_without_a_gain_are_compared_themselves() -> None:
    decision = await decide(FixedModel(0.7))
    assert (decision.target, decision.merit, decision.expected_cloud_usd) == (LOCAL, 0.7, None)


@pytest.mark.parametrize(("threshold", "score", "target"), [(0.0, 0.01, LOCAL), (1.0, 0.98, CLOUD)])
async def test_thresholds_0_and_1_are_not_explored(
    threshold: float, score: float, target: Target
) -> None:
    config = configure(threshold=threshold)
    routing = msgspec.structs.replace(config.routing, explore_rate=1.0)
    config = msgspec.structs.replace(config, routing=routing)
    for seed in range(20):
        decision = await decide(FixedModel(score), config, rng=random.Random(seed))
        assert decision.target is target


async def test_pacing_and_exploration_follow_the_merit() -> None:
    """The score of 0.7 is above both thresholds; the merit is 0.5."""
    model, config = GainModel(0.5), configure(threshold=0.6)
    assert (await decide(model, config)).target is CLOUD
    paced = await decide(model, config, paced_threshold=0.4)
    assert (paced.target, paced.reason) == (LOCAL, Reason.BUDGET)
    routing = msgspec.structs.replace(config.routing, explore_rate=1.0, threshold=0.52)
    explored = msgspec.structs.replace(config, routing=routing)
    decisions = [await decide(model, explored, rng=random.Random(seed)) for seed in range(20)]
    assert {decision.propensity for decision in decisions} == {0.5}
    assert {decision.target for decision in decisions} == {LOCAL, CLOUD}
