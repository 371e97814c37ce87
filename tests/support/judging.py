"""Traffic with known quality: prompts, the quality of both tiers' answers, and judgements.

The quality follows the shipped router: the higher its score, the more often the local answer is
good. So it is a good router here, and one with a scrambled vocabulary is a bad one.

    judge(url, TEXTS[:500])
"""

import functools
import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from proxy.record import CallRecord, Target
from proxy.storage.tables import Choice, Feedback, Judgement, Sample
from router_model.manifest import MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, Manifest
from router_model.metrics import Floats
from router_model.model import RouterModel
from stored import connected, fill, finished

ROOT: Final = Path(__file__).parents[2]
SHIPPED: Final = ROOT / "data/models/router"
CLOUD_OK: Final = 0.95
_TOPICS: Final = (
    "tides glass bees taxes sleep rust violins maps bread rivers chess ink snow trains coral tea"
).split()


def _texts() -> list[str]:
    lines = (
        line
        for name in ("everyday.jsonl", "sample.jsonl")
        for line in (ROOT / "data" / name).read_text(encoding="utf-8").splitlines()
    )
    short = [query for line in lines if len(query := json.loads(line)["query"]) < 120]
    texts = [f"{query} ({topic})" for topic in _TOPICS for query in short]
    random.Random(0).shuffle(texts)
    return texts


TEXTS: Final = _texts()


@functools.cache
def shipped() -> RouterModel:
    return RouterModel.load(SHIPPED)


@functools.cache
def local_ok(text: str) -> float:
    """The probability of a good local answer. The cloud's is CLOUD_OK."""
    return 1 / (1 + math.exp((0.82 - shipped().score(text).score) / 0.02))


def true_shares(score: Floats, texts: Sequence[str], threshold: float) -> tuple[float, float]:
    """The shares of the gap recovered and of the all-cloud cost at a threshold, on all texts."""
    gain = np.array([CLOUD_OK - local_ok(text) for text in texts])
    cost = np.array([cost_of(text) for text in texts])
    cloud = score < threshold
    return float(gain[cloud].sum() / gain.sum()), float(cost[cloud].sum() / cost.sum())


def cost_of(text: str) -> float:
    return len(text) * 1e-6


def judge(
    url: str,
    texts: Sequence[str],
    *,
    propensity: Callable[[str], float] | None = None,
    seed: int = 0,
    cloud_ok: float = CLOUD_OK,
    sessions: Sequence[str | None] | None = None,
    truth: Callable[[str], float] = local_ok,
) -> None:
    """Record requests with judgements of both tiers; with `propensity`, judge a sample only."""
    rng = random.Random(seed)
    records, judgements, samples = [], [], []
    for index, text in enumerate(texts):
        drawn = rng.random()
        chances = {"local": truth(text), "cloud": cloud_ok}
        scores = {tier: 9.0 if rng.random() < ok else 3.0 for tier, ok in chances.items()}
        record = _answered(text, "local")
        record.session_id = sessions[index] if sessions is not None else None
        records.append(record)
        if propensity is not None and drawn >= propensity(text):
            continue
        for tier, model in (("local", "phi3"), ("cloud", "gpt-4o-mini")):
            judgements.append(
                {
                    "request_id": record.id,
                    "created_at": record.created_at,
                    "target": tier,
                    "model": model,
                    "score": scores[tier],
                    "judge_model": "judge",
                }
            )
        if propensity is not None:
            samples.append(
                {
                    "request_id": record.id,
                    "created_at": record.created_at,
                    "kind": "pair",
                    "propensity": propensity(text),
                    "turn": drawn,
                    "state": "done",
                    "attempts": 1,
                    "next_at": 0.0,
                }
            )
    fill(url, records)
    with connected(url) as database, database.atomic():
        for start in range(0, len(judgements), 100):
            Judgement.insert_many(judgements[start : start + 100]).execute(database)
        for start in range(0, len(samples), 50):
            Sample.insert_many(samples[start : start + 50]).execute(database)


def rate(url: str, texts: Sequence[str], rating: float, *, tier: str = "local") -> list[str]:
    """Record requests with ratings of their answers; return the ids."""
    records = [_answered(text, tier) for text in texts]
    fill(url, records)
    rows = [
        {"request_id": record.id, "created_at": record.created_at, "rating": rating}
        for record in records
    ]
    with connected(url) as database, database.atomic():
        for start in range(0, len(rows), 100):
            Feedback.insert_many(rows[start : start + 100]).execute(database)
    return [record.id for record in records]


def choose(url: str, texts: Sequence[str], choice: str, **values: object) -> list[str]:
    """Record answers of both tiers and a user's choice between them; return the ids."""
    pairs = [(_answered(text, "local"), _answered(text, "cloud")) for text in texts]
    fill(url, [record for pair in pairs for record in pair])
    rows = [
        {
            "created_at": first.created_at,
            "request_id": first.id,
            "other_id": other.id,
            "source": "chat",
            "choice": choice,
            "is_blind": False,
            "may_learn": True,
            "local_model": "phi3",
            "cloud_model": "gpt-4o-mini",
        }
        | values
        for first, other in pairs
    ]
    with connected(url) as database, database.atomic():
        for start in range(0, len(rows), 50):
            Choice.insert_many(rows[start : start + 50]).execute(database)
    return [first.id for first, _ in pairs]


def _answered(text: str, tier: str) -> CallRecord:
    return finished(
        target=Target(tier),
        model={"local": "phi3", "cloud": "gpt-4o-mini"}[tier],
        turns=[("user", text)],
        cloud_cost_usd=cost_of(text),
    )


def scramble(source: Path, target: Path, *, share: float = 1.0) -> Path:
    """Write a router with this share of its vocabulary shuffled; return its folder."""
    target.mkdir()
    tokenizer = json.loads((source / TOKENIZER_FILE).read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    rng = random.Random(0)
    chosen = [word for word in vocabulary if word[0] != "[" and rng.random() < share]
    numbers = [vocabulary[word] for word in chosen]
    rng.shuffle(numbers)
    vocabulary.update(zip(chosen, numbers, strict=True))
    content = {
        TOKENIZER_FILE: json.dumps(tokenizer).encode(),
        MODEL_FILE: (source / MODEL_FILE).read_bytes(),
    }
    for name, data in content.items():
        (target / name).write_bytes(data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    manifest = Manifest.load(source)
    msgspec.structs.replace(manifest, version="mixed up", files=files).save(target)
    return target


def change(folder: Path, **values: object) -> None:
    """Change values in the manifest of a router model."""
    msgspec.structs.replace(Manifest.load(folder), **values).save(folder)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def configuration(
    folder: Path,
    url: str,
    model: Path,
    *,
    threshold: float | str = "auto",
    objective: str = "gain_per_usd",
) -> Path:
    """A configuration file for the judged pair of models."""
    path = folder / "router.yaml"
    path.write_text(
        f"""\
upstreams:
  local: {{base_url: http://127.0.0.1:9/v1, model: phi3:latest}}
  cloud: {{base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}}
routing: {{model_path: {model}, threshold: {threshold}, objective: {objective}}}
storage: {{url: "{url}"}}
""",
        encoding="utf-8",
    )
    assert (model / MANIFEST_FILE).exists()
    return path
