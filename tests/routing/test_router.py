"""Which tier answers: the client's preference, the score and threshold, and a failing model."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

import msgspec
import pytest

from fakes import PATIENCE_SECONDS
from proxy.config import Config, RoutingConfig, UpstreamConfig, UpstreamsConfig
from proxy.errors import InvalidRequest, NotFound
from proxy.record import Reason, Target
from proxy.routing.router import Decision, Model, Router, RoutingPreference, Scorer
from router_model.model import Score

TURNS = [("user", "What is 2 + 2?")]
LOCAL, CLOUD = Target.LOCAL, Target.CLOUD


class Fixed:
    """Scores every text alike and keeps what it saw."""

    def __init__(self, score: float = 0.7) -> None:
        self.texts: list[str] = []
        self._score = Score(score, 0.8, 0.9)

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
    return Router(config or configure(), scorer, thresholds=Table())


class Table:
    """Thresholds from which one can tell what was asked for."""

    threshold = 0.6

    def threshold_for_cost(self, cost_share: float) -> float:
        return cost_share / 10

    def threshold_for_quality(self, quality_share: float) -> float:
        return quality_share / 100


# Wishes.


def test_left_out_the_routed_names_are_auto_and_the_cloud_models_own() -> None:
    by_default = router(configure(routed=None))
    assert by_default.read_preference("gpt-4o-mini", ()) == RoutingPreference()
    assert by_default.read_preference("gpt-4o", ()) == RoutingPreference(CLOUD, "gpt-4o")
    only_auto = router(configure(routed=("auto",)))
    assert only_auto.read_preference("gpt-4o-mini", ()) == RoutingPreference(CLOUD, "gpt-4o-mini")


@pytest.mark.parametrize(
    ("model", "headers", "preference"),
    [
        ("auto", {}, RoutingPreference()),
        ("gpt-4o-mini", {}, RoutingPreference()),  # routed: it is in routed_models
        ("local", {}, RoutingPreference(LOCAL)),
        ("cloud", {}, RoutingPreference(CLOUD)),
        ("phi3:latest", {}, RoutingPreference(LOCAL)),
        ("phi3", {}, RoutingPreference(LOCAL)),
        ("phi3:mini", {}, RoutingPreference(CLOUD, "phi3:mini")),
        ("qwen3:4b", {}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("qwen3:4b", {"target": "local"}, RoutingPreference(LOCAL, "qwen3:4b")),
        ("qwen3:4b", {"target": "cloud"}, RoutingPreference(CLOUD)),
        ("qwen3:4b", {"target": "auto"}, RoutingPreference()),
        ("gpt-4o", {}, RoutingPreference(CLOUD, "gpt-4o")),
        ("Auto", {}, RoutingPreference(CLOUD, "Auto")),
        ("auto:threshold=0.25", {}, RoutingPreference(threshold=0.25)),
        ("auto:cost=0.3", {}, RoutingPreference(threshold=0.03)),  # by the table
        ("auto:quality=0.5", {}, RoutingPreference(threshold=0.005)),
        ("auto:threshold=0", {}, RoutingPreference(threshold=0)),
        ("auto:threshold=1", {}, RoutingPreference(threshold=1)),
        # Headers win over names.
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
def test_a_wish_is_read_from_headers_and_name(
    model: str, headers: dict[str, str], preference: RoutingPreference
) -> None:
    sent = [(f"x-router-{name}".encode(), value.encode()) for name, value in headers.items()]
    found = router().read_preference(
        model, [(b"accept", b"*/*"), *sent], {"phi3:latest", "qwen3:4b"}
    )
    assert found == preference


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
def test_a_wish_that_cannot_be_understood_is_refused(
    model: str, headers: dict[str, str], param: str
) -> None:
    sent = [
        (f"x-router-{name}".encode(), value.encode("latin-1")) for name, value in headers.items()
    ]
    with pytest.raises(InvalidRequest) as caught:
        router().read_preference(model, sent)
    assert caught.value.param == param


def test_unknown_models_can_be_refused() -> None:
    strict = router(configure(unknown="reject", routed=()))
    for headers in ([], [(b"x-router-target", b"cloud")]):
        with pytest.raises(NotFound) as caught:
            strict.read_preference("gpt-5", headers)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert strict.read_preference("auto", []) == RoutingPreference()  # always understood
    assert strict.read_preference("gpt-4o-mini", []) == RoutingPreference(CLOUD, "gpt-4o-mini")
    assert strict.read_preference("phi3", []) == RoutingPreference(LOCAL)
    assert strict.read_preference("gpt-5", [(b"x-router-target", b"auto")]) == RoutingPreference()
    assert strict.read_preference("gpt-5", [(b"x-router-target", b"local")]) == RoutingPreference(
        LOCAL
    )


@pytest.mark.parametrize(
    ("own", "asked", "is_local"),
    [
        ("phi3", "phi3:latest", True),
        ("phi3:latest", "phi3", True),
        ("phi3:mini", "phi3", False),
        ("phi3", "phi3:mini", False),
    ],
)
def test_an_ollama_name_without_tag_means_latest(own: str, asked: str, is_local: bool) -> None:
    preference = router(configure(local=own)).read_preference(asked, [])
    assert (preference.target is LOCAL) == is_local


# Decisions.


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Router]]:
    """Makes routers over a model; closed at the end."""
    made: list[Router] = []

    def make(model: Model, config: Config | None = None, timeout_seconds: float = 30) -> Router:
        made.append(router(config, Scorer(model, timeout_seconds=timeout_seconds)))
        return made[-1]

    yield make
    for one in made:
        one.close()


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
async def test_local_when_the_score_reaches_the_threshold(
    serve: Callable[..., Router], score: float, threshold: float, target: Target
) -> None:
    decision = await serve(Fixed(score)).decide(RoutingPreference(threshold=threshold), TURNS)
    model = {LOCAL: "phi3:latest", CLOUD: "gpt-4o-mini"}[target]
    scored = Score(score, 0.8, 0.9)
    assert decision == Decision(
        target, Reason.SCORE, model, threshold, scored, 1.0, has_alternative=True
    )


async def test_the_threshold_is_the_requests_then_the_files_then_the_models(
    serve: Callable[..., Router],
) -> None:
    recommended = serve(Fixed())
    configured = serve(Fixed(), configure(threshold=0.75))
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
async def test_what_the_budget_allows_lowers_the_threshold(
    serve: Callable[..., Router],
    paced_threshold: float,
    threshold: float,
    target: Target,
    reason: Reason,
) -> None:
    router = serve(Fixed(0.7), configure(threshold=0.8))
    decision = await router.decide(RoutingPreference(), TURNS, paced_threshold=paced_threshold)
    assert decision[:2] == (target, reason)
    assert decision.threshold == threshold
    assert decision.has_alternative


async def test_what_the_budget_allows_changes_nothing_else(serve: Callable[..., Router]) -> None:
    router = serve(Fixed(0.7), configure(threshold=0.6))
    local = await router.decide(
        RoutingPreference(), TURNS, paced_threshold=0.1
    )  # as without a budget
    assert (local.target, local.reason) == (LOCAL, Reason.SCORE)
    own = await router.decide(RoutingPreference(threshold=0.8), TURNS, paced_threshold=0.1)
    assert (own.target, own.reason, own.threshold) == (CLOUD, Reason.SCORE, 0.8)
    unfit = await router.decide(
        RoutingPreference(), TURNS, not_local=Reason.CONTEXT, paced_threshold=0.1
    )
    assert (unfit.target, unfit.reason) == (CLOUD, Reason.CONTEXT)


async def test_a_forced_request_is_not_scored(serve: Callable[..., Router]) -> None:
    model = Fixed()
    forced = serve(model)
    assert await forced.decide(RoutingPreference(LOCAL), TURNS) == Decision(
        LOCAL, Reason.FORCED, "phi3:latest"
    )
    assert await forced.decide(RoutingPreference(CLOUD, "gpt-5"), TURNS) == Decision(
        CLOUD, Reason.FORCED, "gpt-5"
    )
    assert model.texts == []


async def test_what_is_scored_is_the_routing_text(serve: Callable[..., Router]) -> None:
    model = Fixed()
    await serve(model).decide(RoutingPreference(), [("system", "Be brief."), ("user", "Hello")])
    assert model.texts == ["Hello"]


UNAVAILABLE = Decision(CLOUD, Reason.ROUTER_UNAVAILABLE, "gpt-4o-mini", 0.6, has_alternative=True)


async def test_without_a_model_everything_goes_to_the_cloud() -> None:
    assert await router().decide(RoutingPreference(), TURNS) == UNAVAILABLE
    forced = await router().decide(RoutingPreference(LOCAL), TURNS)
    assert (forced.target, forced.reason) == (LOCAL, Reason.FORCED)


@pytest.mark.parametrize("error", [RuntimeError("broken"), TimeoutError(), MemoryError()])
async def test_a_model_that_raises_fails_no_request(
    serve: Callable[..., Router], error: Exception
) -> None:
    class Broken:
        def score(self, text: str) -> Score:
            raise error

    assert await serve(Broken()).decide(RoutingPreference(), TURNS) == UNAVAILABLE


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
async def test_a_score_that_is_no_probability_is_no_score(
    serve: Callable[..., Router], score: float
) -> None:
    assert await serve(Fixed(score)).decide(RoutingPreference(), TURNS) == UNAVAILABLE


async def test_a_late_model_fails_no_request_and_a_slow_one_is_awaited(
    serve: Callable[..., Router],
) -> None:
    class Gated:
        def __init__(self) -> None:
            self.gate = threading.Event()

        def score(self, text: str) -> Score:
            self.gate.wait()
            return Score(0.9, 0.9, 0.9)

    model = Gated()
    patient, hasty = serve(model), serve(model, timeout_seconds=0.01)
    try:
        assert await hasty.decide(RoutingPreference(), TURNS) == UNAVAILABLE
        assert (
            await hasty.decide(RoutingPreference(), TURNS) == UNAVAILABLE
        )  # also behind the one that hangs
        waiting = asyncio.ensure_future(patient.decide(RoutingPreference(), TURNS))
        await asyncio.sleep(0)
        assert not waiting.done()
    finally:
        model.gate.set()
    assert (await waiting).target is LOCAL


async def test_a_closed_router_fails_no_request(serve: Callable[..., Router]) -> None:
    closed = serve(Fixed())
    closed.close()
    assert await closed.decide(RoutingPreference(), TURNS) == UNAVAILABLE


# ── What is remembered ────────────────────────────────────────────────────────────────────────


def asking(*texts: str) -> list[list[tuple[str, str]]]:
    return [[("user", text)] for text in texts]


@pytest.fixture
def remembering() -> Iterator[Callable[..., Scorer]]:
    """Makes scorers that remember two texts; closed at the end."""
    made: list[Scorer] = []

    def make(model: Model) -> Scorer:
        made.append(Scorer(model, timeout_seconds=30, cache_size=2))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_a_text_is_scored_once(remembering: Callable[..., Scorer]) -> None:
    model = Fixed(0.7)
    scorer = remembering(model)
    for _ in range(3):
        for turns in asking("Hello", "hello"):
            found = await scorer.score(turns)
            assert found is not None
            assert found.score == 0.7
    # What is no part of the routing text makes no other text of it.
    assert await scorer.score([("system", "Be brief."), ("user", "Hello")]) is not None
    assert model.texts == ["Hello", "hello"]


async def test_another_model_is_asked_anew(remembering: Callable[..., Scorer]) -> None:
    for score in (0.2, 0.8):
        found = await remembering(Fixed(score)).score(TURNS)
        assert found is not None
        assert found.score == score


async def test_what_was_asked_for_longest_ago_is_forgotten(
    remembering: Callable[..., Scorer],
) -> None:
    model = Fixed()
    scorer = remembering(model)
    for turns in asking("one", "two", "one", "three", "one", "two"):
        await scorer.score(turns)
    assert model.texts == ["one", "two", "three", "two"]


class Waiting:
    """A model that gives its scores when it is let: first an error, then a score."""

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


async def test_who_asks_the_same_at_the_same_time_waits_for_one_answer(
    remembering: Callable[..., Scorer],
) -> None:
    """Also when the one that asked first has gone."""
    model = Waiting(Score(0.9, 0.9, 0.9))
    scorer = remembering(model)
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


async def test_what_nobody_waits_for_any_more_is_not_scored() -> None:
    """Or an hour's burst would be worked off while what comes then has no score, either."""
    model = Waiting(Score(0.9, 0.9, 0.9), Score(0.8, 0.8, 0.8))
    scorer = Scorer(model, timeout_seconds=0.02)
    try:
        at_work, *queued = [
            asyncio.ensure_future(scorer.score(turns)) for turns in asking("one", "two", "two")
        ]
        assert await asyncio.gather(*queued) == [None, None]
        assert await at_work is None
    finally:
        model.gate.set()
    found = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while found is None:  # until the first one is done with
            (turns,) = asking("three")
            found = await scorer.score(turns)
    scorer.close()
    assert "two" not in model.texts


async def test_a_failure_is_not_remembered(remembering: Callable[..., Scorer]) -> None:
    model = Waiting(RuntimeError("once"), Score(0.9, 0.9, 0.9))
    model.gate.set()
    scorer = remembering(model)
    assert await scorer.score(TURNS) is None
    assert await scorer.score(TURNS) == Score(0.9, 0.9, 0.9)


async def test_a_scorer_that_is_closed_lets_those_go_that_wait(
    remembering: Callable[..., Scorer],
) -> None:
    model = Waiting(Score(0.9, 0.9, 0.9))
    scorer = remembering(model)
    try:
        at_work, queued = (
            asyncio.ensure_future(scorer.score(turns)) for turns in asking("one", "two")
        )
        await asyncio.sleep(0)
        scorer.close()
        assert await queued is None
    finally:
        model.gate.set()
    assert await at_work == Score(0.9, 0.9, 0.9)


# ── What is left to chance ────────────────────────────────────────────────────────────────────


async def explore(score: float, *, threshold: float | None = None, number: int = 2_000) -> Counter:
    """How often what was decided, where half of the close decisions are drawn by lot."""
    config = configure(threshold=0.6)
    routing = msgspec.structs.replace(config.routing, explore_rate=0.5, explore_width=0.05)
    config = msgspec.structs.replace(config, routing=routing)
    scorer = Scorer(Fixed(score))
    router = Router(config, scorer, thresholds=Table(), dice=random.Random(1))
    found: Counter = Counter()
    for _ in range(number):
        decision = await router.decide(RoutingPreference(threshold=threshold), TURNS)
        found[decision.target, decision.reason, decision.propensity] += 1
    scorer.close()
    return found


@pytest.mark.parametrize(("score", "usual"), [(0.62, LOCAL), (0.58, CLOUD)])
async def test_a_close_decision_may_be_left_to_chance(score: float, usual: Target) -> None:
    """Its propensity is kept, and is how often it is made."""
    found = await explore(score)
    assert found.keys() == {(usual, Reason.SCORE, 0.75), (usual.other, Reason.EXPLORATION, 0.25)}
    assert found[usual.other, Reason.EXPLORATION, 0.25] / found.total() == pytest.approx(
        0.25, abs=0.03
    )


@pytest.mark.parametrize(("score", "threshold"), [(0.7, None), (0.5, None), (0.62, 0.6)])
async def test_no_other_decision_is(score: float, threshold: float | None) -> None:
    """Neither a clear one, nor one by a threshold that the client named."""
    found = await explore(score, threshold=threshold, number=100)
    target = LOCAL if score >= 0.6 else CLOUD
    assert found == {(target, Reason.SCORE, 1.0): 100}
