"""What the choices of users do to a calibration, with a known truth.

    make simulate-choices      # or: python tests/bench/choices_simulation.py --runs 40

Each run draws judged pairs and choices for the prompts of `learning_simulation`, whose truth it
shares: both tiers' expected scores of every prompt. The router is calibrated with and without the
choices, by the product's own code, at the product's weight and limit. The measure is the true
recovered quality gap (PGR) at the user's dollars; the figure is its mean change by the choices.

Users:

- fair: compare random prompts, and prefer what they find better. Below 1 point it is a tie.
- selected: mostly compare where the local answer looks bad, as in a chat.
- biased: the same, and give the cloud's answer 2 points for its name.
- random: click without reading.
- hostile: always prefer the worse answer.

Writes data/results/choices_simulation.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

import learning_simulation as traffic
from bench import describe_machine
from proxy import __version__
from proxy.evaluation import ChosenRequest, calibration, dataset
from router_model.calibrate import CHOICE_WEIGHT, MAX_CHOICE_SHARE
from router_model.manifest import Manifest
from router_model.metrics import Floats
from router_model.value import DEFAULT_PRICES

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "choices_simulation.json"
RUNS: Final = 40
LOCAL: Final = traffic.Tier(0.5, -0.5)
JUDGED: Final = (150, 600)
CHOICES: Final = (100, 1_000)
USERS: Final = ("fair", "selected", "biased", "random", "hostile")
NOISE: Final = 1.5  # standard deviation of a user's impression, in points
TIE: Final = 1.0
FANCY: Final = 2.0  # points for the cloud's name
BAD: Final = 5.5  # a local answer that looks worse is compared mostly
OFTEN, SELDOM = 0.6, 0.1


def draw_choices(
    pool: traffic.Pool, truth: Floats, rng: np.random.Generator, *, users: str, number: int
) -> list[ChosenRequest]:
    """The choices of users of one kind."""
    prompts = rng.choice(len(pool.texts), 10 * number)
    seen = truth[prompts] + rng.normal(0, NOISE, (prompts.size, 2))
    if users in ("selected", "biased"):
        asks = rng.random(prompts.size) < np.where(seen[:, 0] < BAD, OFTEN, SELDOM)
        prompts, seen = prompts[asks], seen[asks]
    prompts, seen = prompts[:number], seen[:number]
    lead = seen[:, 1] - seen[:, 0]
    if users == "biased":
        lead += FANCY
    elif users == "random":
        lead = rng.normal(0, 2 * TIE, number)
    elif users == "hostile":
        lead = -lead
    return [
        ChosenRequest(
            f"choice-{index}", pool.turns[prompt], None, "local-0", "cloud",
            "tie" if abs(value) < TIE else "cloud" if value > 0 else "local", is_blind=False,
        )
        for index, (prompt, value) in enumerate(zip(prompts.tolist(), lead.tolist(), strict=True))
    ]  # fmt: skip


def simulate(runs: int) -> list[dict[str, Any]]:
    manifest = Manifest.load(traffic.DATA / "models" / "router")
    pool = traffic.make_pool(manifest)
    model, config = traffic.router(pool, manifest), traffic.configuration(0)
    truth = traffic.expected_scores(pool, LOCAL)
    propensity = traffic.propensities(pool, manifest, traffic.SAMPLE_RATE)
    share = traffic.true_dollars(pool, manifest)
    rows = []
    for judged in JUDGED:
        changes: dict[tuple[str, int], list[float]] = {}
        without = []
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            pairs = traffic.draw_pairs(
                pool, rng, number=judged, local=0, truth=truth, propensity=propensity,
                at=traffic.BEGIN, prefix="pair",
            )  # fmt: skip
            data = dataset.dataset_of_pair(pairs, config)
            logits = data.logits(model)

            def pgr(
                chosen: list[ChosenRequest], data: Any = data, logits: Floats = logits
            ) -> float:
                fitted = calibration.fit_parts(
                    manifest, logits, data, config=config, prices=DEFAULT_PRICES,
                    ratings=dataset.labels_of_choices(chosen, data, config, model),
                )  # fmt: skip
                return traffic.true_pgr(pool, fitted, LOCAL, share)

            without.append(pgr([]))
            for users in USERS:
                for number in CHOICES:
                    chosen = draw_choices(pool, truth, rng, users=users, number=number)
                    change = pgr(chosen) - without[-1]
                    changes.setdefault((users, number), []).append(change)
        for (users, number), values in changes.items():
            rows.append(
                {
                    "judged": judged,
                    "users": users,
                    "choices": number,
                    "uncalibrated": round(traffic.true_pgr(pool, manifest, LOCAL, share), 4),
                    "without": round(float(np.mean(without)), 4),
                    "change": round(float(np.mean(values)), 4),
                    "error": round(float(np.std(values)) / runs**0.5, 4),
                    "worst": round(min(values), 4),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    started = time.monotonic()
    rows = simulate(options.runs)
    table = Table("judged pairs", "users", "choices", "PGR without", "change", "worst run")
    for row in rows:
        table.add_row(
            str(row["judged"]), row["users"], str(row["choices"]), f"{row['without']:.4f}",
            f"{row['change']:+.4f} ± {row['error']:.4f}", f"{row['worst']:+.4f}",
        )  # fmt: skip
    Console().print(table)
    results = {
        "version": __version__,
        "machine": describe_machine(),
        "runs": options.runs,
        "seconds": round(time.monotonic() - started, 1),
        "weight": CHOICE_WEIGHT,
        "most": MAX_CHOICE_SHARE,
        "rows": rows,
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
