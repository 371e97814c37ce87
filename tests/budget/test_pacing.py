"""The budget pacer, in simulated weeks of traffic and in difficult cases.

Traffic follows office hours and is low on weekends. On some days one hour has ten times its usual
requests. Costs have a heavy tail. The baseline is the same budget without pacing: first come, first
served.
"""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import pytest

from proxy.budget.pacing import (
    DAY_SECONDS,
    HOUR_SECONDS,
    LAG_SECONDS,
    PACING_BUCKETS,
    BudgetPacer,
)
from proxy.record import CallRecord, Reason, SecondLookResult, Target
from proxy.storage.queries import HourlySpend
from proxy.storage.rollups import SCORE_BUCKETS

FIRST: Final = 20_004 * DAY_SECONDS  # a midnight
DAYS: Final = 9
CONFIGURED: Final = 0.766
MAX_STEP: Final = -math.expm1(-60 / LAG_SECONDS) + 1e-9  # change of the threshold in a minute
LEARN_SECONDS: Final = 600
# Requests of each hour, relative to the mean hour.
OFFICE: Final = (
    0.2, 0.14, 0.1, 0.1, 0.14, 0.3, 0.6, 1.0, 1.5, 1.9, 2.1, 2.1, 1.8, 1.9, 2.0, 1.9, 1.7, 1.4,
    1.1, 0.9, 0.7, 0.55, 0.4, 0.27,
)  # fmt: skip
EVENLY: Final = (1.0,) * 24


class Prompt(NamedTuple):
    """A request: arrival time, score, cloud cost, and whether the client forces the cloud."""

    at: float
    score: float
    usd: float
    is_forced: bool = False

    @property
    def day(self) -> int:
        return int(self.at - FIRST) // DAY_SECONDS

    @property
    def wants_the_cloud(self) -> bool:
        return self.is_forced or self.score < CONFIGURED


def prompts_of(
    rng: random.Random,
    day: int,
    *,
    requests: float = 2_000,
    shape: Sequence[float] = OFFICE,
    burst: int | None = None,
    forced: float = 0.03,
) -> Iterator[Prompt]:
    """One day of requests, with a mean cost of 0.01 USD and ten times the rate in hour `burst`."""
    for hour, times in enumerate(shape):
        a_second = requests * times * (10 if hour == burst else 1) / DAY_SECONDS
        at = start = FIRST + day * DAY_SECONDS + hour * HOUR_SECONDS
        while a_second and (at := at + rng.expovariate(a_second)) < start + HOUR_SECONDS:
            usd = 0.01 * rng.lognormvariate(-(1.2**2) / 2, 1.2)
            yield Prompt(at, rng.betavariate(6, 2.5), usd, rng.random() < forced)


def office_days(seed: int, bursts: dict[int, int]) -> list[Prompt]:
    """`DAYS` days from a Monday on."""
    rng = random.Random(seed)
    prompts: list[Prompt] = []
    for day in range(DAYS):
        level = 0.35 if day in (5, 6) else rng.uniform(0.85, 1.15)
        prompts += prompts_of(rng, day, requests=2_000 * level, burst=bursts.get(day))
    return prompts


class Clock:
    def __init__(self, now: float = FIRST) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Proxy:
    """The routing of a proxy with one pacer per worker, without the proxy.

    Args:
        pacing: False: the budget is a cutoff only.
        configured: the threshold of the configuration.
    """

    def __init__(
        self,
        usd_per_day: float | None,
        *,
        pacing: bool = True,
        configured: float = CONFIGURED,
        workers: int = 1,
        started: float = FIRST,
    ) -> None:
        self.clock = Clock(started)
        self.usd_per_day = usd_per_day
        self.pacing = pacing
        self.configured = configured
        self.pacers = [BudgetPacer(clock=self.clock) for _ in range(workers)]
        self.thresholds: list[tuple[float, float]] = []  # one per minute
        self.seen: list[Prompt] = []
        self.cloud: list[Prompt] = []  # prompts that the cloud answered
        self.spared: list[Prompt] = []  # prompts that pacing kept local
        self.cut: list[Prompt] = []  # prompts that the cutoff refused or kept local
        self.spent: defaultdict[int, float] = defaultdict(float)
        self._hours: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._minute = started
        self._has_learned = False

    @property
    def spent_usd(self) -> float:
        return self.spent[int(self.clock.now - FIRST) // DAY_SECONDS]

    def threshold(self, worker: int = 0) -> float:
        return self.pacers[worker].threshold(
            self.configured,
            usd_per_day=self.usd_per_day if self.pacing else None,
            spent_usd=self.spent_usd,
        )

    def learn(self) -> None:
        recent = self.clock.now - 3 * HOUR_SECONDS if self._has_learned else 0.0
        hours = [HourlySpend(hour, *usd) for hour, usd in self._hours.items() if hour > recent]
        for pacer in self.pacers:
            pacer.update_profile(hours)
        self._has_learned = True

    def wait_until(self, at: float) -> None:
        """Advance the clock: read the threshold each minute and the database every ten."""
        while self._minute + 60 <= at:
            self._minute += 60
            self.clock.now = self._minute
            if (self._minute - FIRST) % LEARN_SECONDS == 0:
                self.learn()
            self.thresholds.append((self._minute, self.threshold()))
        self.clock.now = at

    def answer(self, prompts: Iterable[Prompt]) -> "Proxy":
        for number, prompt in enumerate(prompts):
            self.wait_until(prompt.at)
            self.seen.append(prompt)
            worker = number % len(self.pacers)
            threshold = self.threshold(worker)
            record = CallRecord("chat.completions")
            record.cloud_cost_usd = prompt.usd
            record.target, record.reason = Target.CLOUD, Reason.FORCED
            if not prompt.is_forced:
                record.is_paced, record.score, record.merit = True, prompt.score, prompt.score
                record.reason = Reason.SCORE
                if prompt.score >= threshold:
                    record.target = Target.LOCAL
                    if prompt.score < self.configured:
                        record.reason = Reason.BUDGET
                        self.spared.append(prompt)
            if (
                record.target is Target.CLOUD
                and self.usd_per_day is not None
                and self.spent_usd >= self.usd_per_day
            ):
                self.cut.append(prompt)
                if prompt.is_forced:
                    continue  # refused
                record.target, record.reason = Target.LOCAL, Reason.BUDGET
            if record.target is Target.CLOUD:
                record.cost_usd = prompt.usd
                self.spent[prompt.day] += prompt.usd
                self.cloud.append(prompt)
            hour = int(prompt.at) // HOUR_SECONDS * HOUR_SECONDS
            self._hours[hour][prompt.is_forced] += prompt.usd
            self.pacers[worker].observe(record)
        return self

    def gain(self) -> float:
        """The sum of 1 - score over all prompts that the score sent to the cloud."""
        return sum(1 - prompt.score for prompt in self.cloud if not prompt.is_forced)

    def largest_step(self) -> float:
        pairs = itertools.pairwise(threshold for _, threshold in self.thresholds)
        return max(abs(after - before) for before, after in pairs)


def wanted(prompts: Iterable[Prompt]) -> dict[int, float]:
    """The cost of each day without a budget."""
    dollars: defaultdict[int, float] = defaultdict(float)
    for prompt in prompts:
        if prompt.wants_the_cloud:
            dollars[prompt.day] += prompt.usd
    return dollars


def check_within_budget(proxy: Proxy, usd_per_day: float) -> None:
    """No day exceeds its budget by more than its last request."""
    for day, usd in proxy.spent.items():
        last = max((prompt.usd for prompt in proxy.cloud if prompt.day == day), default=0.0)
        assert usd < usd_per_day + last


# ── Weeks ─────────────────────────────────────────────────────────────────────────────────────

BUDGETS: Final = (4.0, 7.0)


class Week(NamedTuple):
    """The same traffic, with one budget."""

    budget: float
    wanted: dict[int, float]
    paced: Proxy
    plain: Proxy


@pytest.fixture(scope="module", params=BUDGETS)
def week(request: pytest.FixtureRequest) -> Week:
    prompts = office_days(3, bursts={1: 10, 3: 15})
    budget = request.param
    paced, plain = Proxy(budget).answer(prompts), Proxy(budget, pacing=False).answer(prompts)
    return Week(budget, wanted(prompts), paced, plain)


def test_each_day_stays_within_its_budget_and_uses_it(week: Week) -> None:
    check_within_budget(week.paced, week.budget)
    scarce = [day for day, usd in week.wanted.items() if day and usd > 1.25 * week.budget]
    assert len(scarce) >= 6
    for day in scarce:
        assert week.paced.spent[day] > 0.9 * week.budget


def test_the_threshold_moves_smoothly(week: Week) -> None:
    assert 0.01 < week.paced.largest_step() < MAX_STEP
    assert max(threshold for _, threshold in week.paced.thresholds) == CONFIGURED


def test_every_hour_has_cloud_requests(week: Week) -> None:
    """The hardest prompts of each hour reach the cloud; without pacing, none do late in the day."""

    def hours_without_cloud(proxy: Proxy) -> set[tuple[int, int]]:
        answered = {(prompt.day, int(prompt.at) // HOUR_SECONDS) for prompt in proxy.cloud}
        hard = {
            (prompt.day, int(prompt.at) // HOUR_SECONDS)
            for prompt in proxy.cut
            if prompt.score < 0.45
        }
        return {hour for hour in hard if hour not in answered and hour[0] > 0}

    assert len(hours_without_cloud(week.plain)) > 20
    # One expensive request may exhaust a small budget late in the evening.
    starved = hours_without_cloud(week.paced)
    assert len(starved) <= 4
    assert all(hour % 24 >= 21 for _, hour in starved)
    early = [
        prompt
        for prompt in week.paced.cut
        if prompt.day and prompt.at % DAY_SECONDS < 20 * HOUR_SECONDS
    ]
    assert len(early) < 0.001 * len(week.plain.cut)


def test_pacing_spends_the_budget_on_harder_prompts(week: Week) -> None:
    paced, plain = week.paced, week.plain
    assert sum(paced.spent.values()) < 1.02 * sum(plain.spent.values())
    assert paced.gain() > 1.05 * plain.gain()
    hardest = [sum(prompt.score < 0.4 for prompt in proxy.cloud) for proxy in (paced, plain)]
    assert hardest[0] > 1.5 * hardest[1]


@pytest.mark.parametrize(("bursts", "times"), [({}, 1.3), ({1: 10, 3: 15}, 2.0)])
def test_a_sufficient_budget_leaves_the_threshold_unchanged(
    bursts: dict[int, int], times: float
) -> None:
    """A burst of ten times the rate makes the forecast pessimistic for a while."""
    prompts = office_days(4, bursts)
    proxy = Proxy(times * max(wanted(prompts).values())).answer(prompts)
    assert {threshold for _, threshold in proxy.thresholds} == {CONFIGURED}
    assert not proxy.spared
    assert not proxy.cut


def test_workers_share_a_budget() -> None:
    prompts = office_days(5, bursts={2: 12})
    proxy = Proxy(6.0, workers=4).answer(prompts)
    check_within_budget(proxy, 6.0)
    cost = wanted(prompts)
    for day in (1, 2, 3, 4, 7, 8):
        assert cost[day] > 1.25 * 6.0
        assert proxy.spent[day] > 5.4


# ── Difficult days ────────────────────────────────────────────────────────────────────────────


def after_usual_days(usd_per_day: float, *, days: int = 3, **given: float) -> Proxy:
    """A proxy after some days that would each cost about 13 USD without a budget."""
    rng = random.Random(6)
    proxy = Proxy(usd_per_day)
    for day in range(days):
        proxy.answer(prompts_of(rng, day, **given))
    return proxy


def at(day: int, hour: float) -> float:
    return FIRST + day * DAY_SECONDS + hour * HOUR_SECONDS


def test_a_burst_in_the_last_hour_gets_the_remaining_budget_only() -> None:
    proxy = after_usual_days(15.0, requests=1_000)
    proxy.answer(prompts_of(random.Random(7), 3, requests=1_000, burst=23))
    proxy.answer(prompts_of(random.Random(8), 4, requests=1_000, shape=(0.0,) * 23 + (120.0,)))
    check_within_budget(proxy, 15.0)
    assert proxy.largest_step() < MAX_STEP
    assert proxy.spent[4] > 0.9 * 15.0
    low = min(threshold for when, threshold in proxy.thresholds if when >= at(4, 23))
    assert low < CONFIGURED - 0.1


def test_an_unusually_busy_day_is_paced_by_its_own_rate() -> None:
    """After days of almost no traffic, the forecast must not expect another one."""
    proxy = after_usual_days(6.0, requests=20)
    proxy.answer(prompts_of(random.Random(7), 3, shape=EVENLY))
    check_within_budget(proxy, 6.0)
    assert proxy.spent[3] > 0.8 * 6.0
    assert not [prompt for prompt in proxy.cut if prompt.at < at(3, 20)]


def test_forced_spending_does_not_predict_routed_spending() -> None:
    proxy = after_usual_days(6.0, requests=50, forced=1.0)
    proxy.answer(prompts_of(random.Random(7), 3, shape=EVENLY))
    check_within_budget(proxy, 6.0)
    assert not [prompt for prompt in proxy.cut if prompt.at < at(3, 18)]


def test_a_changed_budget_applies_immediately() -> None:
    proxy = after_usual_days(6.0)
    proxy.wait_until(at(3, 1))
    proxy.answer(
        prompt for prompt in prompts_of(random.Random(7), 3) if at(3, 1) < prompt.at < at(3, 12)
    )
    before, spent = proxy.threshold(), proxy.spent_usd
    assert before < 0.7
    proxy.usd_per_day = 100.0
    assert proxy.threshold() == CONFIGURED
    proxy.usd_per_day = spent + 0.5
    tight = proxy.threshold()
    assert tight < before - 0.05
    proxy.usd_per_day = spent / 2  # the budget is spent: `budget.when_spent` decides
    assert proxy.threshold() == tight
    proxy.pacing = False
    assert proxy.threshold() == CONFIGURED
    proxy.pacing, proxy.usd_per_day = True, 6.0
    assert proxy.threshold() == pytest.approx(before, abs=0.02)  # the pacer's state is unchanged


def test_a_changed_threshold_applies_immediately() -> None:
    proxy = after_usual_days(6.0)
    proxy.wait_until(at(3, 0.5))
    paced = proxy.threshold()
    assert paced < CONFIGURED
    for configured in (0.1, 1.0, 0.0, CONFIGURED):
        proxy.configured = configured
        assert proxy.threshold() == min(configured, paced)
    proxy.usd_per_day = 1_000.0
    for configured in (0.3, 0.9, 0.1, 1.0):
        proxy.configured = configured
        proxy.clock.now += 5
        assert proxy.threshold() == configured


def test_a_new_day_starts_smoothly_with_its_full_budget() -> None:
    proxy = after_usual_days(3.0)
    proxy.answer(prompt for prompt in prompts_of(random.Random(7), 3) if prompt.at < at(3, 23))
    proxy.spent[3] = 3.0
    proxy.wait_until(at(4, 0) - 1)
    before = proxy.threshold()
    proxy.wait_until(at(4, 0))
    assert abs(proxy.threshold() - before) < 0.01
    proxy.wait_until(at(4, 2))
    assert 0.3 < proxy.threshold() < CONFIGURED
    assert proxy.largest_step() < MAX_STEP


def test_a_clock_set_back_does_not_stop_the_pacer() -> None:
    proxy = after_usual_days(6.0)
    proxy.clock.now -= 2 * HOUR_SECONDS
    proxy.learn()
    proxy.spent[2] = 0.0  # a full day's budget for two hours
    before = proxy.threshold()
    for _ in range(60):
        proxy.clock.now += 60
        after = proxy.threshold()
    assert before < after == CONFIGURED
    for seconds in (-2 * DAY_SECONDS, 40 * DAY_SECONDS):
        proxy.clock.now += seconds
        proxy.learn()
        assert 0.0 <= proxy.threshold() <= CONFIGURED


def test_a_budget_of_zero_is_left_to_the_cutoff() -> None:
    proxy = Proxy(0.0).answer(prompts_of(random.Random(7), 0))
    assert not proxy.cloud
    assert not proxy.spared
    assert {threshold for _, threshold in proxy.thresholds} == {CONFIGURED}


def test_free_requests_are_not_paced() -> None:
    free = [prompt._replace(usd=0.0) for prompt in prompts_of(random.Random(7), 0)]
    proxy = Proxy(1.0).answer(free)
    assert {threshold for _, threshold in proxy.thresholds} == {CONFIGURED}


def test_without_data_the_threshold_is_the_configured_one() -> None:
    proxy = Proxy(1.0)
    assert proxy.threshold() == CONFIGURED
    proxy.wait_until(at(0, 5))
    assert {threshold for _, threshold in proxy.thresholds} == {CONFIGURED}


def test_an_expensive_first_request_lowers_the_threshold_gradually() -> None:
    proxy = Proxy(1.0).answer([Prompt(at(0, 1), 0.5, 0.9)])
    assert proxy.threshold() == CONFIGURED
    proxy.wait_until(at(0, 2))
    assert proxy.largest_step() < MAX_STEP
    assert proxy.threshold() < 0.55


def test_forced_requests_take_precedence() -> None:
    proxy = after_usual_days(6.0, forced=0.2)
    proxy.answer(prompts_of(random.Random(7), 3, forced=0.2))
    check_within_budget(proxy, 6.0)
    refused = sum(prompt.usd for prompt in proxy.cut if prompt.is_forced and prompt.day == 3)
    forced = sum(prompt.usd for prompt in proxy.cloud if prompt.is_forced and prompt.day == 3)
    assert refused < 0.05 * forced


def test_forced_requests_alone_leave_the_threshold_unchanged() -> None:
    proxy = after_usual_days(6.0, forced=1.0)
    check_within_budget(proxy, 6.0)
    assert {threshold for _, threshold in proxy.thresholds} == {CONFIGURED}
    proxy.usd_per_day = 3.0
    lone = Prompt(at(3, 1), 0.1, 0.01)
    proxy.answer(
        prompt for prompt in prompts_of(random.Random(7), 3, forced=1.0) if prompt.at < lone.at
    )
    proxy.answer([lone])
    proxy.wait_until(at(3, 2.5))
    assert proxy.threshold() < 0.1  # now pacing can keep a request local


def test_requests_with_their_own_threshold_reduce_the_paced_budget() -> None:
    """Half of the cost is of requests with `x-router-threshold: 1`, which are all spent."""
    half, none = BudgetPacer(clock=(clock := Clock(at(0, 12)))), BudgetPacer(clock=clock)
    rng = random.Random(7)
    for _ in range(2_000):
        record = CallRecord("chat.completions")
        record.target, record.reason = Target.CLOUD, Reason.SCORE
        record.score = record.merit = rng.random()
        record.cloud_cost_usd = 0.005
        record.is_paced = True
        none.observe(record)
        record.is_paced = rng.random() < 0.5
        half.observe(record)
    for pacer in (half, none):
        pacer.update_profile(
            [HourlySpend(int(at(0, 0)), 0.0, 0.0), HourlySpend(int(at(0, 11)), 2.0, 0.0)]
        )
    # The remaining budget is 60 % of the expected cost.
    expected = none._remaining_forecast(clock.now)[0]
    given = {"usd_per_day": 10.0, "spent_usd": 10.0 - 0.6 * expected}
    assert none.threshold(1.0, **given) == pytest.approx(0.6, abs=0.03)
    assert half.threshold(1.0, **given) == pytest.approx(0.2, abs=0.05)


def test_the_same_prompt_all_day_stays_within_the_budget() -> None:
    proxy = Proxy(6.0)
    for day in range(3):
        proxy.answer(prompt._replace(score=0.5) for prompt in prompts_of(random.Random(day), day))
    check_within_budget(proxy, 6.0)
    assert proxy.spent[2] > 0.9 * 6.0


def test_requests_are_paced_by_merit() -> None:
    """The budget pays for half of the dollars: those with the lower merits."""
    clock = Clock(FIRST)
    pacer = BudgetPacer(clock=clock)
    pacer.update_profile([HourlySpend(FIRST - 3600 * hour, 1.0, 0.0) for hour in range(1, 25)])
    for score, merit in ((0.9, 0.1), (0.1, 0.6)):
        record = CallRecord("chat.completions")
        record.reason, record.target, record.is_paced = Reason.SCORE, Target.CLOUD, True
        record.score, record.merit, record.cloud_cost_usd = score, merit, 0.01
        pacer.observe(record)
    assert 0.1 < pacer.threshold(0.99, usd_per_day=12.5, spent_usd=0.0) <= 0.6


def test_requests_with_a_second_look_are_paced_by_its_merit() -> None:
    """Those that the prompt alone puts below the budget's threshold, and the evidence above it."""
    clock = Clock(FIRST)
    pacer = BudgetPacer(clock=clock)
    pacer.update_profile([HourlySpend(FIRST - 3600 * hour, 1.0, 0.0) for hour in range(1, 25)])
    for reason, look, verified in (
        (Reason.ESCALATED, SecondLookResult.ESCALATED, 0.1),
        (Reason.SCORE, SecondLookResult.KEPT, 0.9),
    ):
        record = CallRecord("chat.completions")
        record.reason, record.target, record.is_paced = reason, Target.CLOUD, True
        record.score = record.merit = 0.4
        record.second_look, record.verified_merit, record.cloud_cost_usd = look, verified, 0.01
        pacer.observe(record)
    assert 0.1 < pacer.threshold(0.99, usd_per_day=12.5, spent_usd=0.0) <= 0.9
    assert pacer._by_merit[int(0.4 * PACING_BUCKETS)] == 0


@pytest.mark.parametrize("score", [0.0, 1.0, 0.999999, 1e-12])
def test_every_score_has_a_bucket(score: float) -> None:
    proxy = Proxy(1.0).answer([Prompt(at(0, 1), score, 0.01)])
    proxy.wait_until(at(0, 3))
    assert 0.0 <= proxy.threshold() <= CONFIGURED
    assert PACING_BUCKETS == SCORE_BUCKETS


# ── After a restart ───────────────────────────────────────────────────────────────────────────


def test_a_restart_resumes_the_threshold() -> None:
    before = after_usual_days(6.0)
    before.answer(prompt for prompt in prompts_of(random.Random(7), 3) if prompt.at < at(3, 14))
    before.wait_until(at(3, 14))
    after = Proxy(6.0, started=at(3, 14))
    after.spent, after._hours = before.spent, before._hours
    scored: defaultdict[tuple[int, int], float] = defaultdict(float)
    for prompt in before.seen:
        if not prompt.is_forced:
            hour = int(prompt.at) // HOUR_SECONDS * HOUR_SECONDS
            scored[hour, int(prompt.score * PACING_BUCKETS)] += prompt.usd
    after.learn()
    after.pacers[0].restore((*key, usd) for key, usd in scored.items())
    assert after.threshold() == pytest.approx(before.threshold(), abs=0.05)
    assert after.threshold() < CONFIGURED - 0.05
