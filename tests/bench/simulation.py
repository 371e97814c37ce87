"""Are the estimates of live quality right? Traffic whose true quality is known, run many times.

    make simulate         # or: python tests/bench/simulation.py --runs 200

Each run is a proxy's life in small: requests with the shipped router model's own scores, the real
sampler and the real database, and rows of a judge's as the proxy's judge writes them. Only the
tiers and the judge are made up, so that the truth is known: for every prompt the expected score of
either tier's answer, and so the share of the gap that routing recovers, the share of good local
answers and what is saved at equal quality in all traffic, not in what was judged. Counted is in
how many runs the 95 % interval holds the truth. The figures go to data/results/simulation.json.

Naive are the same rows without their weights. They are biased because the sample is not like the
traffic, on purpose: people ask simple things most, and a judge's calls are better spent on what is
rare. The sampler draws a rare kind up to 16 times as often as a common one, and rare kinds are the
hard ones: those that went to the cloud, and local ones near the threshold. In an average without
weights they count several times: local answers look worse than they are, and routing better, since
most of the gap that it leaves lies in the many requests that it keeps.

The prompts are those in data/everyday.jsonl, questions.jsonl and sample.jsonl. Not simulated: a
judge that is biased, which no sample can mend, and samples that are never judged.
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
SKEW: Final = 11.0  # by e to this times the score a prompt is asked more often
AGAIN: Final = 0.15  # how often a conversation goes on, with the same question
NOISE: Final = 1.2  # a judge's, in points
TIE: Final = 1.0  # differences that a judge calls a tie, in points
FACES: Final = np.arange(1, 11)
# By name: in words, and what of `Quality.counted` it rests on.
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
    """A prompt with what it is worth to each tier, in expected points before the judge's noise."""

    text: str
    score: float
    goes_to: Target
    popularity: float
    local: float
    cloud: float
    cloud_usd: float  # expected


class Outcome(NamedTuple):
    """Of one estimand in one run: an estimate with its interval; None where there is none."""

    judged: int
    weighted: Interval | None
    naive: Interval | None


def make_pool(seed: int = 0) -> list[Prompt]:
    """The prompts, scored once by the shipped router model."""
    model = RouterModel.load(DATA / "models" / "router")
    dice = random.Random(seed)
    pool = []
    for text in _texts():
        score = model.score(text).score
        ease = (score - 0.55) / 0.35  # its scores are from 0.55 to 0.9
        pool.append(
            Prompt(
                text,
                score,
                Target.LOCAL if score >= model.manifest.threshold else Target.CLOUD,
                math.exp(SKEW * score + dice.gauss(0, 0.5)),
                local=3.5 + 4.7 * ease + dice.gauss(0, 0.8),
                cloud=8.6 + dice.gauss(0, 0.4),
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


def chances(worth: float) -> Floats:
    """With what probability the judge gives 1, 2 … 10: rounded, and noise cut off at both ends."""
    noise = NormalDist(worth, NOISE)
    below = [noise.cdf(face + 0.5) for face in FACES[:-1]]
    return np.diff([0.0, *below, 1.0])


def truth(pool: Sequence[Prompt]) -> dict[str, float]:
    """Every estimand over all traffic, with what the judge is expected to say."""
    asked = np.array([prompt.popularity for prompt in pool])
    asked /= asked.sum()
    is_cloud = np.array([prompt.goes_to is Target.CLOUD for prompt in pool])
    faces = {tier: [chances(getattr(prompt, tier)) for prompt in pool] for tier in Target}
    expected = {tier: np.array([one @ FACES for one in found]) for tier, found in faces.items()}
    good = np.array([one[FACES >= OK_SCORE].sum() for one in faces[Target.LOCAL]])
    bill = asked * np.array([prompt.cloud_usd for prompt in pool])
    gap = asked * (expected[Target.CLOUD] - expected[Target.LOCAL])
    recovered = gap[is_cloud].sum() / gap.sum()
    difference = NormalDist(0, NOISE * math.sqrt(2))
    as_good = np.array([difference.cdf(TIE - (one.cloud - one.local)) for one in pool])

    def mean(values: Floats, which: NDArray[np.bool_]) -> float:
        return float(np.average(values[which], weights=asked[which]))

    return {
        "recovered": float(recovered),
        "good_local": mean(good, ~is_cloud),
        "saved": float(recovered - bill[is_cloud].sum() / bill.sum()),
        "local_score": mean(expected[Target.LOCAL], ~is_cloud),
        "cloud_score": mean(expected[Target.CLOUD], is_cloud),
        "local_as_good": mean(as_good, asked > 0),
    }


# ── A run ─────────────────────────────────────────────────────────────────────────────────────


def run(pool: Sequence[Prompt], seed: int, requests: int = REQUESTS) -> dict[str, Outcome]:
    """Requests, rows and judgements, and what is said of them."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        config = StorageConfig(url=f"sqlite:///{folder}/rows.db", retention_days=None)
        store = Store(config, max_pending=requests)
        store.open()
        sampler = Sampler(JUDGE, dice=dice)
        drawn = []
        for prompt, record in traffic(pool, requests, dice):
            store.add(record)
            if (sample := sampler.draw(record)) is not None:
                drawn.append((prompt, record, sample))
        store.close()
        with store.database.connection_context(), store.database.atomic():
            write_judgements(store.database, drawn, dice)
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
    pool: Sequence[Prompt], requests: int, dice: random.Random
) -> Iterator[tuple[Prompt, CallRecord]]:
    """Requests, each drawn by popularity; some ask again, in the same conversation."""
    drawn = dice.choices(pool, [prompt.popularity for prompt in pool], k=requests)
    session = 0
    for number, prompt in enumerate(drawn):
        if number and dice.random() < AGAIN:
            prompt = drawn[number] = drawn[number - 1]
        else:
            session += 1
        record = CallRecord("chat.completions")
        record.created_at = BEGIN + number
        record.requested_model, record.target, record.reason = "auto", prompt.goes_to, Reason.SCORE
        record.model = f"{prompt.goes_to}-model"
        record.score, record.session_id = prompt.score, f"s{session}"
        record.turns, record.response = [("user", prompt.text)], "An answer."
        record.finish_reason = "stop"
        record.cloud_cost_usd = prompt.cloud_usd * dice.gammavariate(4, 1 / 4)
        record.cost_usd = record.cloud_cost_usd if prompt.goes_to is Target.CLOUD else 0.0
        record.finish(Ending.OK)
        yield prompt, record


def write_judgements(
    database: peewee.Database,
    drawn: Sequence[tuple[Prompt, CallRecord, Draw]],
    dice: random.Random,
) -> None:
    """A judge's rows, one for each judged side, and one for a comparison of both."""
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
            points = round(getattr(prompt, tier) + dice.gauss(0, NOISE))
            score = min(max(points, 1), 10)
            judgements.append(
                common
                | {"target": tier, "model": f"{tier}-model", "score": score, "judge_model": "j"}
            )
        if sample.kind == "pair":
            lead = prompt.cloud - prompt.local + dice.gauss(0, NOISE * math.sqrt(2))
            verdict = "tie" if abs(lead) <= TIE else "cloud" if lead > 0 else "local"
            said = {"judge_model": "j", "verdict": verdict, "first": verdict, "swapped": verdict}
            preferences.append(common | said)
    for table, rows in ((Sample, samples), (Judgement, judgements), (Preference, preferences)):
        for batch in peewee.chunked(rows, 500):
            table.insert_many(batch).execute(database)


def estimates(quality: Quality) -> dict[str, Interval | None]:
    """By the names of the estimands."""
    found = {
        "recovered": quality.recovered,
        "good_local": quality.good_local,
        "saved": quality.saved,
        "local_score": quality.mean_scores.get("local"),
        "cloud_score": quality.mean_scores.get("cloud"),
        "local_as_good": quality.local_as_good,
    }
    return {name: None if one is None else Interval(*one) for name, one in found.items()}


# ── Many runs ─────────────────────────────────────────────────────────────────────────────────


def coverage(outcomes: Sequence[Interval | None], true: float) -> float:
    """Share of all runs whose interval holds the truth; none does not hold it."""
    held = sum(one is not None and one.low <= true <= one.high for one in outcomes)
    return held / len(outcomes)


def summary(runs: Sequence[dict[str, Outcome]], true: dict[str, float]) -> dict[str, Any]:
    """Of each estimand: the truth, and how the estimates with and without weights did."""
    found: dict[str, Any] = {}
    for name in ESTIMANDS:
        judged = np.mean([one[name].judged for one in runs])
        found[name] = {"true": round(true[name], 4), "mean_requests_judged": round(judged)}
        for kind in KINDS:
            outcomes = [getattr(one[name], kind) for one in runs]
            known = np.array([one for one in outcomes if one is not None]).reshape(-1, 3)
            found[name][kind] = {
                "coverage": round(coverage(outcomes, true[name]), 4),
                "runs_with_an_estimate": len(known),
                "mean_estimate": round(float(known[:, 0].mean()), 4) if len(known) else None,
                "mean_width": round(float((known[:, 2] - known[:, 1]).mean()), 4)
                if len(known)
                else None,
            }
    return found


def simulate(runs: int, requests: int) -> dict[str, Any]:
    """All runs, on all cores."""
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
    for name, one in result["estimands"].items():
        cells = [f"{one['true']:.3f}", f"{one['mean_requests_judged']}"]
        for kind in KINDS:
            of = one[kind]
            if of["mean_estimate"] is None:
                cells += ["", "", ""]
            else:
                cells += [
                    f"{of['mean_estimate']:.3f}", f"{of['mean_width']:.3f}", f"{of['coverage']:.1%}"
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
