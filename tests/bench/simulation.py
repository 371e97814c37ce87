"""Coverage of the quality estimates, in many simulated runs of traffic with known quality.

    make simulate         # or: python tests/bench/simulation.py --runs 200

Each run has requests with scores of the shipped router model, the real sampler, the real database,
and judgements written like the proxy's. Only the tiers and the judge are simulated, so the truth is
known: the expected score of both tiers' answers to every prompt. From these follow the share of the
gap that routing recovers, the share of good local answers and the savings at equal quality, in all
traffic instead of the judged sample. Coverage is the share of runs whose 95 % interval contains the
truth. Writes data/results/simulation.json.

Naive estimates are of the same rows without weights. They are biased, because the sampler draws
rare kinds of requests up to 16 times as often as common ones, to use the judge's calls well. Rare
kinds are hard: cloud requests, and local ones near the threshold. Without weights they count
several times. Local answers then look worse than they are, and routing better: most of the
remaining gap lies in the many local requests.

The prompts are those of data/everyday.jsonl, questions.jsonl and sample.jsonl. Not simulated: a
biased judge, which no sampling corrects, and samples that are never judged.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import peewee
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import describe_machine
from proxy import __version__
from proxy.config import JudgeConfig, StorageConfig
from proxy.evaluation.estimates import Floats, Interval, Quality
from proxy.evaluation.queries import QualityQueries
from proxy.evaluation.sampling import Draw, Sampler
from proxy.record import CallRecord, Ending, Reason, Target
from proxy.storage.tables import Judgement, Preference, Sample
from proxy.storage.writer import Store
from router_model.label import OK_SCORE
from router_model.model import RouterModel

DATA: Final = Path(__file__).parents[2] / "data"
RESULTS: Final = DATA / "results" / "simulation.json"
RUNS: Final = 200
REQUESTS: Final = 4_000
JUDGE: Final = JudgeConfig(enabled=True, sample_rate=0.06, shadow_rate=0.06)
BEGIN: Final = 1_800_000_000.0
SKEW: Final = 11.0  # a prompt's popularity grows with exp(SKEW * score)
AGAIN: Final = 0.15  # probability that a conversation repeats its prompt
NOISE: Final = 1.2  # standard deviation of the judge, in points
TIE: Final = 1.0  # smaller differences are a tie, in points
FACES: Final = np.arange(1, 11)
# By name: the label, and its key in `Quality.counted`.
ESTIMANDS: Final = {
    "recovered": ("share of the quality gap recovered", "pairs"),
    "good_local": ("share of local answers that are good", "local"),
    "saved": ("saved at equal quality", "priced"),
    "local_as_good": ("share of pairs with the local answer as good", "compared"),
    "local_score": ("mean score of local answers", "local"),
    "cloud_score": ("mean score of cloud answers", "cloud"),
}
KINDS: Final = ("weighted", "naive")


class Prompt(NamedTuple):
    """A prompt with the expected score of each tier, before the judge's noise."""

    text: str
    score: float
    goes_to: Target
    popularity: float
    local: float
    cloud: float
    cloud_usd: float  # expected


class Outcome(NamedTuple):
    """The estimates of one estimand in one run, with intervals; None without enough data."""

    judged: int
    weighted: Interval | None
    naive: Interval | None


def make_pool(seed: int = 0) -> list[Prompt]:
    """The prompts, scored by the shipped router model."""
    model = RouterModel.load(DATA / "models" / "router")
    threshold = model.manifest.for_objective("score").threshold
    rng = random.Random(seed)
    pool = []
    for text in _texts():
        score = model.score(text).score
        ease = (score - 0.55) / 0.35  # its scores are from 0.55 to 0.9
        pool.append(
            Prompt(
                text,
                score,
                Target.LOCAL if score >= threshold else Target.CLOUD,
                math.exp(SKEW * score + rng.gauss(0, 0.5)),
                local=3.5 + 4.7 * ease + rng.gauss(0, 0.8),
                cloud=8.6 + rng.gauss(0, 0.4),
                cloud_usd=(len(text) / 4 * 0.15 + (450 - 300 * ease) * 0.6) / 1e6,
            )
        )
    return pool


def _texts() -> Iterator[str]:
    for name in ("everyday", "questions", "sample"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row["turns"][0] if "turns" in row else row["query"]


# ── The truth ─────────────────────────────────────────────────────────────────────────────────


def chances(expected: float) -> Floats:
    """The judge's probabilities of the scores 1 to 10: rounded, with noise clipped at both ends."""
    noise = NormalDist(expected, NOISE)
    below = [noise.cdf(face + 0.5) for face in FACES[:-1]]
    return np.diff([0.0, *below, 1.0])


def truth(pool: Sequence[Prompt]) -> dict[str, float]:
    """Every estimand over all traffic, from the judge's expected scores."""
    popularity = np.array([prompt.popularity for prompt in pool])
    popularity /= popularity.sum()
    is_cloud = np.array([prompt.goes_to is Target.CLOUD for prompt in pool])
    faces = {tier: [chances(getattr(prompt, tier)) for prompt in pool] for tier in Target}
    expected = {tier: np.array([chance @ FACES for chance in each]) for tier, each in faces.items()}
    good = np.array([chance[FACES >= OK_SCORE].sum() for chance in faces[Target.LOCAL]])
    bill = popularity * np.array([prompt.cloud_usd for prompt in pool])
    gap = popularity * (expected[Target.CLOUD] - expected[Target.LOCAL])
    recovered = gap[is_cloud].sum() / gap.sum()
    difference = NormalDist(0, NOISE * math.sqrt(2))
    as_good = np.array([difference.cdf(TIE - (prompt.cloud - prompt.local)) for prompt in pool])

    def mean(values: Floats, which: NDArray[np.bool_]) -> float:
        return float(np.average(values[which], weights=popularity[which]))

    return {
        "recovered": float(recovered),
        "good_local": mean(good, ~is_cloud),
        "saved": float(recovered - bill[is_cloud].sum() / bill.sum()),
        "local_score": mean(expected[Target.LOCAL], ~is_cloud),
        "cloud_score": mean(expected[Target.CLOUD], is_cloud),
        "local_as_good": mean(as_good, popularity > 0),
    }


# ── A run ─────────────────────────────────────────────────────────────────────────────────────


def run(pool: Sequence[Prompt], seed: int, requests: int = REQUESTS) -> dict[str, Outcome]:
    """Simulate requests, rows and judgements; return the estimates."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        config = StorageConfig(url=f"sqlite:///{folder}/rows.db", retention_days=None)
        store = Store(config, max_pending=requests)
        store.open()
        sampler = Sampler(JUDGE, rng=rng)
        drawn = []
        for prompt, record in traffic(pool, requests, rng):
            store.add(record)
            if (sample := sampler.draw(record)) is not None:
                drawn.append((prompt, record, sample))
        store.close()
        with store.database.connection_context(), store.database.atomic():
            write_judgements(store.database, drawn, rng)
        stats = QualityQueries(store.database)
        quality = stats.quality()
        with store.database.connection_context():
            Sample.update(propensity=1.0).execute(store.database)
        naive = estimates(stats.quality())
    weighted = estimates(quality)
    return {
        name: Outcome(quality.counted[basis].requests, weighted[name], naive[name])
        for name, (_, basis) in ESTIMANDS.items()
    }


def traffic(
    pool: Sequence[Prompt], requests: int, rng: random.Random
) -> Iterator[tuple[Prompt, CallRecord]]:
    """Requests drawn by popularity; some repeat in the same conversation."""
    drawn = rng.choices(pool, [prompt.popularity for prompt in pool], k=requests)
    session = 0
    for number, prompt in enumerate(drawn):
        if number and rng.random() < AGAIN:
            prompt = drawn[number] = drawn[number - 1]
        else:
            session += 1
        record = CallRecord("chat.completions")
        record.created_at = BEGIN + number
        record.requested_model, record.target, record.reason = "auto", prompt.goes_to, Reason.SCORE
        record.model = f"{prompt.goes_to}-model"
        record.score = record.merit = prompt.score
        record.session_id = f"s{session}"
        record.turns, record.response = [("user", prompt.text)], "An answer."
        record.finish_reason = "stop"
        record.cloud_cost_usd = prompt.cloud_usd * rng.gammavariate(4, 1 / 4)
        record.cost_usd = record.cloud_cost_usd if prompt.goes_to is Target.CLOUD else 0.0
        record.finish(Ending.OK)
        yield prompt, record


def write_judgements(
    database: peewee.Database,
    drawn: Sequence[tuple[Prompt, CallRecord, Draw]],
    rng: random.Random,
) -> None:
    """Write a judge's rows: one grade for each judged answer, and one comparison per pair."""
    samples, judgements, preferences = [], [], []
    for prompt, record, sample in drawn:
        common = {"request_id": record.id, "created_at": record.created_at}
        samples.append(
            common
            | sample._asdict()
            | {"state": "done", "attempts": 1, "next_at": record.created_at}
        )
        assert record.target is not None
        for tier in [record.target] if sample.kind == "grade" else list(Target):
            points = round(getattr(prompt, tier) + rng.gauss(0, NOISE))
            score = min(max(points, 1), 10)
            judgements.append(
                common
                | {"target": tier, "model": f"{tier}-model", "score": score, "judge_model": "j"}
            )
        if sample.kind == "pair":
            lead = prompt.cloud - prompt.local + rng.gauss(0, NOISE * math.sqrt(2))
            verdict = "tie" if abs(lead) <= TIE else "cloud" if lead > 0 else "local"
            verdicts = {
                "judge_model": "j",
                "verdict": verdict,
                "first": verdict,
                "swapped": verdict,
            }
            preferences.append(common | verdicts)
    for table, rows in ((Sample, samples), (Judgement, judgements), (Preference, preferences)):
        for batch in peewee.chunked(rows, 500):
            table.insert_many(batch).execute(database)


def estimates(quality: Quality) -> dict[str, Interval | None]:
    """The estimates by estimand."""
    values = {
        "recovered": quality.recovered,
        "good_local": quality.good_local,
        "saved": quality.saved,
        "local_score": quality.mean_scores.get("local"),
        "cloud_score": quality.mean_scores.get("cloud"),
        "local_as_good": quality.local_as_good,
    }
    return {name: None if value is None else Interval(*value) for name, value in values.items()}


# ── Many runs ─────────────────────────────────────────────────────────────────────────────────


def coverage(outcomes: Sequence[Interval | None], true: float) -> float:
    """The share of runs whose interval contains the truth; a missing interval does not."""
    covered = sum(o is not None and o.low <= true <= o.high for o in outcomes)
    return covered / len(outcomes)


def summary(runs: Sequence[dict[str, Outcome]], true: dict[str, float]) -> dict[str, Any]:
    """For each estimand: the truth, and the figures of the weighted and the naive estimates."""
    figures: dict[str, Any] = {}
    for name in ESTIMANDS:
        judged = np.mean([outcome[name].judged for outcome in runs])
        figures[name] = {"true": round(true[name], 4), "mean_requests_judged": round(judged)}
        for kind in KINDS:
            outcomes = [getattr(outcome[name], kind) for outcome in runs]
            known = np.array([o for o in outcomes if o is not None]).reshape(-1, 3)
            figures[name][kind] = {
                "coverage": round(coverage(outcomes, true[name]), 4),
                "runs_with_an_estimate": len(known),
                "mean_estimate": round(float(known[:, 0].mean()), 4) if len(known) else None,
                "mean_width": round(float((known[:, 2] - known[:, 1]).mean()), 4)
                if len(known)
                else None,
            }
    return figures


def simulate(runs: int, requests: int) -> dict[str, Any]:
    """Run all simulations on all cores."""
    machine, started = describe_machine(), time.perf_counter()
    pool = make_pool()
    seeds = range(runs)
    with ProcessPoolExecutor() as workers:
        done = list(workers.map(run, [pool] * runs, seeds, [requests] * runs))
    return {
        "command": "make simulate",
        "version": __version__,
        "cpu": machine["cpu"],
        "cores": machine["cores"],
        "seconds": round(time.perf_counter() - started),
        "runs": runs,
        "requests_per_run": requests,
        "prompts": len(pool),
        "sample_rate": JUDGE.sample_rate,
        "shadow_rate": JUDGE.shadow_rate,
        "estimands": summary(done, truth(pool)),
    }


def show(result: dict[str, Any]) -> Table:
    table = Table(
        "", "true", "n", "weighted", "width", "coverage", "naive", "width", "coverage", box=None,
        title=f"{result['runs']} runs of {result['requests_per_run']:,} requests",
    )  # fmt: skip
    for name, estimand in result["estimands"].items():
        cells = [f"{estimand['true']:.3f}", f"{estimand['mean_requests_judged']}"]
        for kind in KINDS:
            figures = estimand[kind]
            if figures["mean_estimate"] is None:
                cells += ["", "", ""]
            else:
                cells += [
                    f"{figures['mean_estimate']:.3f}",
                    f"{figures['mean_width']:.3f}",
                    f"{figures['coverage']:.1%}",
                ]  # fmt: skip
        table.add_row(ESTIMANDS[name][0], *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate estimates of live quality.")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result = simulate(arguments.runs, arguments.requests)
    Console(width=110).print(show(result))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
