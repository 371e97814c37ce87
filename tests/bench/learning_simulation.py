"""Self-calibration in many simulated runs of 60 days, with a known truth.

    make simulate-learning    # or: python tests/bench/learning_simulation.py --runs 200

Each day brings judged pairs. The policy of `proxy.learning` decides when a fit is due; the fit, the
test and the threshold are the real code, on the real logits of the shipped router model for the
prompts of data/. On day 30 the local model is replaced by another one. Only the answers are
simulated: the expected score of each tier's answer depends on the logits by an unknown slope and
bias, and on a part that no router can see. So the true PGR of every policy is known. Writes
data/results/learning_simulation.json.

Scenarios:

- new: both local models differ from the one that the shipped router was trained for.
- calibrated: the router in use is the best calibration already, before and after the change. Every
  activation is luck, so this is the hardest test of the error.
- quiet: as `new`, with a quarter of the traffic.

Figures: `never_worse`, runs without an activation that has a lower true PGR than the policy before,
at the user's dollars; `attained`, the share of the attainable gain at the end of each period, and
of both together. Attainable is the gain of a calibration on 20,000 pairs over the policy without
learning. Regret is the mean PGR per day below the best policy that never changes, and below the
best of each period. Not simulated: a biased judge, evidence for a second look, drift within a
period.
"""

import argparse
import datetime as dt
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import describe_machine
from proxy import __version__
from proxy.config import Config, UpstreamConfig, UpstreamsConfig
from proxy.evaluation.calibration import CalibrationTarget, calibrate_router
from proxy.evaluation.queries import JudgedRequest
from proxy.evaluation.sampling import BANDS, factors
from proxy.learning.fit import fit_and_test
from proxy.learning.steps import LearningStep, Models, history_of, progress_of
from router_model.calibrate import merits, scores
from router_model.manifest import Manifest
from router_model.metrics import Floats, curve, pgr_at_cost
from router_model.model import RouterModel
from router_model.task import routing_text
from router_model.value import DEFAULT_PRICES, cost_usd, expected_output_tokens, text_tokens

DATA: Final = Path(__file__).parents[2] / "data"
RESULTS: Final = DATA / "results" / "learning_simulation.json"
RUNS: Final = 200
DAYS: Final = 60
CHANGE_DAY: Final = 30
RETENTION_DAYS: Final = 30  # the default of storage.retention_days
DAY_SECONDS: Final = 86_400.0
BEGIN: Final = 1_800_000_000.0
PROMPTS: Final = 20_000
REFERENCE_PAIRS: Final = 20_000  # of the best calibration
SAMPLE_RATE: Final = 0.02  # of pairs, mean over all requests
AGAIN: Final = 0.15  # probability that a conversation goes on with another prompt
JITTER: Final = 0.3  # standard deviation added to the logits, so that no two prompts are equal
UNSEEN: Final = 0.8  # standard deviation of the part of the log-odds that no logit shows
LOWEST: Final = 2.0  # expected score of the worst answers, and the range above it
RANGE: Final = 7.5
NOISE: Final = 1.2  # standard deviation of the judge, in points
_FAST: Final = 2  # rounds for intervals that decide nothing
_Ints = NDArray[np.int64]


class Tier(NamedTuple):
    """Expected score = LOWEST + RANGE * sigmoid(slope * logit + bias + unseen part)."""

    slope: float
    bias: float


class Scenario(NamedTuple):
    """The local models before and after the change, the pairs per day, and the router in use."""

    locals: tuple[Tier, Tier]
    pairs_per_day: float = 80.0
    is_calibrated: bool = False


CLOUD: Final = Tier(0.3, 1.3)
SCENARIOS: Final = {
    "new": Scenario((Tier(0.5, -0.5), Tier(0.1, 0.2))),
    "calibrated": Scenario((Tier(0.5, -0.5), Tier(0.5, -0.5)), is_calibrated=True),
    "quiet": Scenario((Tier(0.5, -0.5), Tier(0.1, 0.2)), pairs_per_day=20.0),
}


class Pool(NamedTuple):
    """The prompts as arrays [n]: logits [n, 3], tokens, answer length, unseen parts [n, 2]."""

    texts: list[str]
    turns: list[list[tuple[str, str]]]
    logits: Floats
    text_tokens: Floats
    cost: Floats
    output_tokens: Floats
    unseen: Floats


class Run(NamedTuple):
    """The result of one run. PGR by day [DAYS] is at the user's dollars."""

    pgr: list[float]
    steps: int
    worse: list[float]  # the losses of PGR of activations of a worse policy
    activations: list[int]  # their days
    dollars: list[float]  # true share of the all-cloud dollars of each activated policy


class StubRouter:
    """The shipped router on the pool's prompts."""

    def __init__(self, manifest: Manifest, logits: dict[str, tuple[float, ...]]) -> None:
        self.manifest = manifest
        self._logits = logits

    def logits(self, text: str) -> tuple[float, ...]:
        return self._logits[text]


def make_pool(manifest: Manifest, seed: int = 0) -> Pool:
    """The prompts of data/, varied, with the logits of the shipped router."""
    model, rng = RouterModel.load(DATA / "models" / "router"), np.random.default_rng(seed)
    assert manifest.gain is not None
    prompts = []
    for name in ("everyday", "questions", "sample"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            prompts.append(row["turns"][0] if "turns" in row else row["query"])
    read = np.array([model.logits(routing_text([("user", text)])) for text in prompts])
    chosen = rng.integers(0, len(prompts), PROMPTS)
    turns = [[("user", f"{prompts[k]} ({n})")] for n, k in enumerate(chosen)]
    texts = [routing_text(turn) for turn in turns]
    logits = read[chosen] + rng.normal(0, JITTER, (PROMPTS, read.shape[1]))
    tokens = np.array([text_tokens(text) for text in texts])
    lengths = expected_output_tokens(manifest.gain, logits, tokens)
    lengths *= np.exp(rng.normal(0, 0.5, PROMPTS))
    return Pool(
        texts,
        turns,
        logits,
        tokens,
        cost_usd(tokens, lengths, DEFAULT_PRICES),
        lengths,
        rng.normal(0, UNSEEN, (PROMPTS, 2)),
    )


# ── The truth ─────────────────────────────────────────────────────────────────────────────────


def expected_scores(pool: Pool, local: Tier) -> Floats:
    """The expected scores [n, 2] of the local and the cloud answers."""
    tiers = np.array([local, CLOUD])
    log_odds = pool.logits[:, :2] * tiers[:, 0] + tiers[:, 1] + pool.unseen
    scores: Floats = LOWEST + RANGE / (1 + np.exp(-log_odds))
    return scores


def merits_of(pool: Pool, manifest: Manifest) -> Floats:
    return merits(pool.logits, manifest.calibration, manifest.gain, pool.text_tokens)


def true_pgr(pool: Pool, manifest: Manifest, local: Tier, cost_share: float) -> float:
    """PGR at this share of the dollars, on all prompts, from the expected scores."""
    expected = expected_scores(pool, local)
    points = curve(merits_of(pool, manifest), expected[:, 0], expected[:, 1], pool.cost)
    return pgr_at_cost(points, cost_share)


def true_dollars(pool: Pool, manifest: Manifest) -> float:
    """The share of the all-cloud dollars that the threshold spends."""
    is_cloud = merits_of(pool, manifest) < manifest.threshold
    return float(pool.cost[is_cloud].sum() / pool.cost.sum())


# ── Judged pairs ──────────────────────────────────────────────────────────────────────────────


def configuration(local: int) -> Config:
    """The configuration with local model number 0 or 1."""
    tiers = [UpstreamConfig(base_url="http://127.0.0.1:9/v1", model=f"local-{local}")]
    tiers.append(UpstreamConfig(base_url="http://127.0.0.1:9/v1", model="cloud"))
    return Config(upstreams=UpstreamsConfig(local=tiers[0], cloud=tiers[1]))


def propensities(pool: Pool, manifest: Manifest, rate: float) -> Floats:
    """The probabilities [n] with which the sampler of the proxy draws each prompt."""
    score, _, _ = scores(pool.logits, manifest.calibration)
    is_cloud = merits_of(pool, manifest) < manifest.threshold
    strata = np.minimum((score * BANDS).astype(int), BANDS - 1) * 2 + is_cloud
    names, counts = np.unique(strata, return_counts=True)
    factor = factors(dict(zip(names.tolist(), counts.astype(float).tolist(), strict=True)))
    return np.array([rate * factor[stratum] for stratum in strata.tolist()])


def draw_pairs(
    pool: Pool,
    rng: np.random.Generator,
    *,
    number: int,
    local: int,
    truth: Floats,
    propensity: Floats,
    at: float,
    prefix: str,
) -> list[JudgedRequest]:
    """Judged requests at `at` (UNIX seconds); some continue the conversation before."""
    chosen = rng.choice(len(pool.texts), number, p=propensity / propensity.sum())
    points = np.clip(np.round(truth[chosen] + rng.normal(0, NOISE, (number, 2))), 1, 10)
    session = np.cumsum(rng.random(number) >= AGAIN)
    return [
        JudgedRequest(
            id=f"{prefix}-{n}",
            turns=pool.turns[k],
            session_id=f"{prefix}-{session[n]}",
            local_model=f"local-{local}",
            cloud_model="cloud",
            local_score=float(points[n, 0]),
            cloud_score=float(points[n, 1]),
            cloud_cost_usd=float(pool.cost[k]),
            created_at=at,
            weight=float(1 / propensity[k]),
            cloud_output_tokens=float(pool.output_tokens[k]),
        )
        for n, k in enumerate(chosen.tolist())
    ]


def best_manifest(pool: Pool, manifest: Manifest, local: int, tier: Tier) -> Manifest:
    """The calibration on very many pairs, for the dollars that the manifest spends."""
    judged = draw_pairs(
        pool,
        np.random.default_rng(99),
        number=REFERENCE_PAIRS,
        local=local,
        truth=expected_scores(pool, tier),
        propensity=np.full(len(pool.texts), 1.0),
        at=BEGIN,
        prefix="best",
    )
    fitted, _ = calibrate_router(
        router(pool, manifest),
        judged,
        config=configuration(local),
        now=dt.datetime.fromtimestamp(BEGIN, dt.UTC),
        aim=CalibrationTarget("spend", true_dollars(pool, manifest)),
        rounds=_FAST,
    )
    return fitted


def router(pool: Pool, manifest: Manifest) -> RouterModel:
    rows = map(tuple, pool.logits.tolist())
    return cast(RouterModel, StubRouter(manifest, dict(zip(pool.texts, rows, strict=True))))


# ── A run ─────────────────────────────────────────────────────────────────────────────────────


def run(pool: Pool, begin: Manifest, scenario: Scenario, share: float, seed: int) -> Run:
    """Simulate 60 days of self-calibration.

    Args:
        share: the user's share of the all-cloud dollars, where policies are compared.
    """
    rng = np.random.default_rng(seed)
    model = router(pool, begin)
    judged: list[JudgedRequest] = []
    steps: list[LearningStep] = []
    result = Run([], 0, [], [], [])
    propensity = propensities(pool, begin, SAMPLE_RATE)
    for day in range(DAYS):
        local = int(day >= CHANGE_DAY)
        tier, config, at = scenario.locals[local], configuration(local), BEGIN + day * DAY_SECONDS
        models = Models.of(config)
        if day in (0, CHANGE_DAY):
            steps.append(_step(steps, models, "models", at, seen=len(judged)))
            truth, pgr = expected_scores(pool, tier), true_pgr(pool, model.manifest, tier, share)
        judged += draw_pairs(
            pool,
            rng,
            number=int(rng.poisson(scenario.pairs_per_day)),
            local=local,
            truth=truth,
            propensity=propensity,
            at=at,
            prefix=f"{seed}-{day}",
        )
        after, needed = progress_of(steps, models)
        new = sum(pair.local_model == models.local for pair in judged[after:])
        if new >= needed:
            stored = [r for r in judged if r.created_at > at - RETENTION_DAYS * DAY_SECONDS]
            before = model.manifest
            fit = fit_and_test(
                model,
                stored,
                config=config,
                prices=DEFAULT_PRICES,
                history=history_of(steps, models, version=before.version),
                now=dt.datetime.fromtimestamp(at, dt.UTC),
                rounds=_FAST,
            )
            step = _step(steps, models, "fit", at, seen=len(judged))
            step = msgspec.structs.replace(step, pairs=fit.pairs, test=fit.test)
            if fit.is_better:
                assert fit.manifest is not None
                assert fit.cost_share is not None
                old, new_pgr = (
                    true_pgr(pool, manifest, tier, fit.cost_share)
                    for manifest in (before, fit.manifest)
                )
                if new_pgr < old:
                    result.worse.append(old - new_pgr)
                result.activations.append(day)
                result.dollars.append(true_dollars(pool, fit.manifest))
                model = router(pool, fit.manifest)
                propensity = propensities(pool, fit.manifest, SAMPLE_RATE)
                pgr = true_pgr(pool, fit.manifest, tier, share)
                step = msgspec.structs.replace(
                    step,
                    version=fit.manifest.version,
                    decision="activated",
                    cost_share=fit.cost_share,
                )
            steps.append(step)
        result.pgr.append(pgr)
    return result._replace(steps=sum(step.kind == "fit" for step in steps))


def _step(
    steps: Sequence[LearningStep], models: Models, kind: Any, at: float, *, seen: int
) -> LearningStep:
    return LearningStep(
        id=len(steps) + 1, created_at=at, ended_at=at, kind=kind, state="done",
        local_model=models.local, cloud_model=models.cloud, second_model=models.second,
        judgement_id=seen,
    )  # fmt: skip


# ── Many runs ─────────────────────────────────────────────────────────────────────────────────


def simulate(pool: Pool, shipped: Manifest, name: str, runs: int) -> dict[str, Any]:
    """The figures of one scenario."""
    scenario = SCENARIOS[name]
    best = [best_manifest(pool, shipped, k, tier) for k, tier in enumerate(scenario.locals)]
    begin = best[0] if scenario.is_calibrated else shipped
    share = true_dollars(pool, begin)
    with ProcessPoolExecutor() as workers:
        done = list(workers.map(partial(run, pool, begin, scenario, share), range(runs)))
    phases = (range(CHANGE_DAY), range(CHANGE_DAY, DAYS))

    def by_day(manifests: Sequence[Manifest]) -> Floats:
        return np.array(
            [
                true_pgr(pool, manifest, tier, share)
                for manifest, tier, phase in zip(manifests, scenario.locals, phases, strict=True)
                for _ in phase
            ]
        )

    fixed = [by_day((manifest, manifest)) for manifest in (begin, *best)]
    best_fixed = max(fixed, key=lambda days: float(days.mean()))
    best_each, idle = by_day(best), by_day((begin, begin))
    pgr = np.array([each.pgr for each in done])
    activated = [each.activations for each in done]
    first = [days[0] for days in activated if days and days[0] < CHANGE_DAY]
    again = [next((d for d in days if d >= CHANGE_DAY), None) for days in activated]
    after = [day - CHANGE_DAY for day in again if day is not None]
    losses = [loss for each in done for loss in each.worse]
    dollars = [value for each in done for value in each.dollars]
    figures: dict[str, Any] = {
        "pairs_per_day": scenario.pairs_per_day,
        "cost_share": _r(share),
        "runs": runs,
        "never_worse": _r(np.mean([not each.worse for each in done])),
        "never_worse_interval": [_r(v) for v in _wilson(sum(not e.worse for e in done), runs)],
        "largest_loss": _r(max(losses, default=0.0)),
        "fits_per_run": _r(np.mean([each.steps for each in done])),
        "activations_per_run": _r(np.mean([len(days) for days in activated])),
        "first_activation_day": _r(np.median(first)) if first else None,
        "days_to_activation_after_the_change": _r(np.median(after)) if after else None,
        "runs_activated": [_r(len(first) / runs), _r(len(after) / runs)],
        "mean_deviation_of_dollars": _r(np.mean(np.abs(np.array(dollars) - share)))
        if dollars
        else None,
        "regret_per_day_against_best_fixed": _r((best_fixed - pgr).mean()),
        "regret_per_day_against_best_of_each_period": _r((best_each - pgr).mean()),
        "regret_per_day_without_learning": _r((best_each - idle).mean()),
        "periods": [],
    }
    for phase in phases:
        start, end = (float(days[phase[-1]]) for days in (idle, best_each))
        last = pgr[:, phase[-1]]
        gain = end - start
        figures["periods"].append(
            {
                "pgr_without_learning": _r(start),
                "pgr_attainable": _r(end),
                "pgr_at_the_end": _r(last.mean()),
                "attained": _r((last.mean() - start) / gain) if gain > 0.01 else None,
                "attained_over_all_days": _r((pgr[:, list(phase)].mean() - start) / gain)
                if gain > 0.01
                else None,
            }
        )
    gained = [
        (period["pgr_at_the_end"] - period["pgr_without_learning"], period["pgr_attainable"])
        for period in figures["periods"]
    ]
    attainable = sum(
        best - period["pgr_without_learning"]
        for (_, best), period in zip(gained, figures["periods"], strict=True)
    )
    figures["attained"] = (
        _r(sum(gain for gain, _ in gained) / attainable) if attainable > 0.01 else None
    )
    return figures


def _wilson(hits: int, runs: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, hits / runs
    centre, half = p + z * z / (2 * runs), z * math.sqrt(p * (1 - p) / runs + (z / (2 * runs)) ** 2)
    return (centre - half) / (1 + z * z / runs), (centre + half) / (1 + z * z / runs)


def _r(value: Any) -> float:
    return round(float(value), 4)


def show(result: dict[str, Any]) -> Table:
    table = Table(
        "scenario", "pairs a day", "never worse", "attained, day 30", "day 60", "both",
        "regret a day", "of best each", "without learning", box=None,
        title=f"{result['runs']} runs of 60 days",
    )  # fmt: skip
    for name, figures in result["scenarios"].items():
        attained = [*(period["attained"] for period in figures["periods"]), figures["attained"]]
        regrets = [
            figures[f"regret_per_day_{key}"]
            for key in ("against_best_fixed", "against_best_of_each_period", "without_learning")
        ]
        table.add_row(
            name,
            f"{figures['pairs_per_day']:g}",
            f"{figures['never_worse']:.1%}",
            *("" if share is None else f"{share:.0%}" for share in attained),
            *(f"{regret:.4f}" for regret in regrets),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate self-calibration.")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    machine, started = describe_machine(), time.perf_counter()
    shipped = Manifest.load(DATA / "models" / "router")
    pool = make_pool(shipped)
    result: dict[str, Any] = {
        "command": "make simulate-learning",
        "version": __version__,
        "cpu": machine["cpu"],
        "cores": machine["cores"],
        "seconds": 0,
        "runs": arguments.runs,
        "days": DAYS,
        "change_day": CHANGE_DAY,
        "prompts": PROMPTS,
        "scenarios": {},
    }
    for name in arguments.scenario or SCENARIOS:
        result["scenarios"][name] = simulate(pool, shipped, name, arguments.runs)
        result["seconds"] = round(time.perf_counter() - started)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    Console(width=120).print(show(result))


if __name__ == "__main__":
    main()
