"""What the router model cannot judge, by signal, source and language: `hybrid-llm-train domain`.

The prompts of a folder of outcome data are English: what is detected there is a false alarm. The
texts of data/domain.jsonl are hand-written: three hard and three easy ones in each language, mixed
texts and noise. Those marked `held_out` took no part in the choice of the limits.
"""

import datetime as dt
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from router_model import domain
from router_model.domain import Domain, Signal, Unreadable
from router_model.features import HEAD_CHARS, TAIL_CHARS, clip
from router_model.model import RouterModel
from router_model.task import routing_text
from router_model.value import CHARS_PER_TOKEN
from training.dataset import DataError
from training.outcomes import served_merits
from training.progress import track
from training.sources import pairs

TIMED_CHARS = HEAD_CHARS + TAIL_CHARS + 3  # the longest clipped text
ROUNDS = 200


def examine(model: RouterModel, data: Path, texts: Path, *, command: str) -> dict[str, Any]:
    """False alarms by source, detected texts by signal, and decisions by language.

    Raises DataError if the folder has no prompts.
    """
    paths = sorted(data.glob("*pairs.jsonl.gz")) or sorted(data.glob("*.jsonl"))
    if not paths:
        raise DataError(f"{data} has no *pairs.jsonl.gz or *.jsonl")
    alarms: dict[str, Counter[str]] = {}
    highest: dict[str, float] = {}
    for path in paths:
        rows = list(pairs.rows(path))
        for row in track(rows, path.name, total=len(rows)):
            found, measures = _detect(model, clip(row.text))
            alarms.setdefault(row.source, Counter()).update(["prompts", *found])
            alarms[row.source]["any"] += bool(found)
            for name in ("outside_latin", "accented", "unknown", "single"):
                highest[name] = max(highest.get(name, 0.0), getattr(measures, name))
    items = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    return {
        "what": "Texts that the router model cannot judge. The texts by language are hand-written.",
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "model_version": model.manifest.version,
        "threshold": model.manifest.threshold,
        "highest_in_english": {name: round(value, 4) for name, value in highest.items()},
        "false_alarms": {source: dict(counts) for source, counts in sorted(alarms.items())},
        "signals": _by_signal(model, items),
        "languages": _by_language(model, items),
        "microseconds": _cost(model, items),
    }


def _detect(model: RouterModel, text: str) -> tuple[list[Signal], domain.Measures]:
    measures = model.domain.measure(text, model.token_ids(text))
    return domain.signals(text, measures), measures


def _by_signal(model: RouterModel, items: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Texts by kind: all, detected by each signal, by it alone, and by any."""
    counted: dict[str, Counter[str]] = {}
    for item in items:
        found, _ = _detect(model, routing_text([("user", item["text"])]))
        kind = "English, easy or hard" if item["language"] == "en" else item["kind"]
        counts = counted.setdefault(kind, Counter())
        counts.update(["texts", *found])
        counts["any"] += bool(found)
        if len(found) == 1:
            counts[f"{found[0]} alone"] += 1
    return {kind: dict(counts) for kind, counts in counted.items()}


def _by_language(model: RouterModel, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Texts of each kind that go to the cloud: by the score, and by `out_of_domain: cloud`."""
    threshold = model.manifest.threshold
    languages: dict[str, dict[str, Any]] = {}
    for item in items:
        if item["kind"] not in ("hard", "easy", "fact"):
            continue
        text = routing_text([("user", item["text"])])
        score = model.score(text)
        [merit] = served_merits(model.manifest, [score], [len(text) / CHARS_PER_TOKEN])
        row = languages.setdefault(item["language"], {"held_out": item.get("held_out", False)})
        counts = row.setdefault(item["kind"], {"texts": 0, "by_score": 0, "to_cloud": 0})
        is_hard = bool(merit < threshold)
        counts["texts"] += 1
        counts["by_score"] += is_hard
        counts["to_cloud"] += goes_to_cloud(score.unreadable, is_hard=is_hard)
        if item["id"].endswith("/thanks"):
            row["thanks_local"] = not goes_to_cloud(score.unreadable, is_hard=is_hard)
    return languages


def goes_to_cloud(unreadable: Unreadable | None, *, is_hard: bool) -> bool:
    """The decision with `routing.out_of_domain: cloud`."""
    return is_hard if unreadable is None else not unreadable.is_short


def _cost(model: RouterModel, items: list[dict[str, Any]]) -> dict[str, float]:
    """CPU microseconds of the detection for the longest texts."""
    costs = {}
    texts = {item["id"]: item["text"] for item in items}
    for name in ("en/hard-1", "ja/hard-1", "ru/hard-1", "fi/hard-1", "noise/mash-random"):
        text = clip((texts[name] + " ") * TIMED_CHARS)
        ids = model.token_ids(text)
        costs[name] = _microseconds(model.domain, text, ids)
    return costs


def _microseconds(checked: Domain, text: str, ids: Any) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.thread_time()
        for _ in range(ROUNDS):
            checked.reason_unreadable(text, ids)
        best = min(best, (time.thread_time() - started) / ROUNDS)
    return round(best * 1e6, 1)


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the tables."""
    console = console or Console(width=None if Console().is_terminal else 110)
    table = Table(title="detected in English prompts")
    for name in ("source", "prompts", "detected", "share"):
        table.add_column(name)
    for source, counts in report["false_alarms"].items():
        share = counts["any"] / counts["prompts"]
        table.add_row(source, f"{counts['prompts']:,}", str(counts["any"]), f"{share:.2%}")
    console.print(table)
    signals = get_args(Signal)
    table = Table(title="texts by signal (by it alone)")
    for name in ("kind", "texts", "any", *signals):
        table.add_column(name)
    for kind, counts in report["signals"].items():
        values = [f"{counts.get(s, 0)} ({counts.get(f'{s} alone', 0)})" for s in signals]
        table.add_row(kind, str(counts["texts"]), str(counts["any"]), *values)
    console.print(table)
    table = Table(title="to the cloud: by the score → with out_of_domain: cloud")
    for name in ("language", "hard", "easy", "a fact"):
        table.add_column(name)
    for language, row in report["languages"].items():
        cells = [
            f"{row[kind]['by_score']} → {row[kind]['to_cloud']} of {row[kind]['texts']}"
            if kind in row
            else ""
            for kind in ("hard", "easy", "fact")
        ]
        table.add_row(language + (" (held out)" if row["held_out"] else ""), *cells)
    console.print(table)
    console.print(f"CPU microseconds for the longest texts: {report['microseconds']}")
