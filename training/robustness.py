"""Robustness of decisions to harmless changes of a prompt: `hybrid-llm-train robustness`.

Each prompt of a sample is scored unchanged and changed. A decision survives if both scores are on
the same side of the model's threshold. The changes are made by rules with a seed, and are milder
than real variation. Instructions in other languages are hand-written phrases; the question keeps
its language, so robustness to prompts in other languages is not measured.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from router_model import metrics
from router_model.model import RouterModel
from router_model.task import routing_text
from router_model.value import CHARS_PER_TOKEN
from training.baselines import data_of, span
from training.dataset import Prepared, Row, Split
from training.outcomes import served_merits
from training.progress import track
from training.results import heading

TYPO_RATE = 0.03
SAMPLE_ROWS = 400
INSTRUCTION = "Answer the following question."
TRANSLATED = {
    "German": "Beantworte die folgende Frage.",
    "French": "Réponds à la question suivante.",
    "Spanish": "Responde a la siguiente pregunta.",
    "Portuguese": "Responda à seguinte pergunta.",
    "Russian": "Ответь на следующий вопрос.",
    "Chinese": "请回答以下问题。",
    "Japanese": "次の質問に答えてください。",
}
POLITE = "Hello! I hope you are doing well. Could you please help me with this? Thank you so much!"
_SYSTEM = (
    "You are the assistant of a company that sells tools. Be brief and friendly, never mention "
    "competitors, answer in plain text, and say so when you do not know something. "
)
LONG_SYSTEM = _SYSTEM * 20

Change = Callable[[str, random.Random], str]


def typos(text: str, rng: random.Random) -> str:
    """Swap, drop or double a share TYPO_RATE of the letters."""
    letters = list(text)
    for i, letter in enumerate(letters):
        if not letter.isalpha() or rng.random() >= TYPO_RATE:
            continue
        match rng.randrange(3):
            case 0 if i + 1 < len(letters) and letters[i + 1].isalpha():
                letters[i], letters[i + 1] = letters[i + 1], letter
            case 1:
                letters[i] = ""
            case _:
                letters[i] = letter * 2
    return "".join(letters)


def whitespace(text: str, rng: random.Random) -> str:
    """Double one in five spaces, and add blank lines around the text."""
    spaced = "".join("  " if c == " " and rng.random() < 0.2 else c for c in text)
    return f"\n\n{spaced}  \n"


# name -> (change of the baseline text, change of the compared text)
CHANGES: dict[str, tuple[Change, Change]] = {}


def _same(text: str, rng: random.Random) -> str:
    return text


CHANGES["typos, 3 % of letters"] = (_same, typos)
CHANGES["lower case"] = (_same, lambda text, rng: text.lower())
CHANGES["upper case"] = (_same, lambda text, rng: text.upper())
CHANGES["white space"] = (_same, whitespace)
CHANGES["polite preamble"] = (_same, lambda text, rng: f"{POLITE}\n\n{text}")
CHANGES["instruction before it"] = (_same, lambda text, rng: f"{INSTRUCTION}\n\n{text}")
CHANGES["instruction in another language"] = (
    lambda text, rng: f"{INSTRUCTION}\n\n{text}",
    lambda text, rng: f"{rng.choice(list(TRANSLATED.values()))}\n\n{text}",
)
LONG_SYSTEM_NAME = "long system prompt"


def examine(
    prepared: Prepared,
    model: RouterModel,
    *,
    split: Split,
    command: str,
    sample: int = SAMPLE_ROWS,
    rounds: int = 1000,
) -> dict[str, Any]:
    """Share of decisions that survive each change, on at most `sample` prompts of the split.

    Raises DataError if the split is empty.
    """
    rows = _sample(data_of(prepared, split).measured, sample)
    threshold = model.manifest.threshold
    groups = [row.group for row in rows]
    merits: dict[str, float] = {}

    def merit(text: str) -> float:
        if text not in merits:
            tokens = [len(text) / CHARS_PER_TOKEN]
            [merits[text]] = served_merits(model.manifest, [model.score(text)], tokens)
        return merits[text]

    def compare(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        before = np.array([merit(a) for a, _ in pairs])
        after = np.array([merit(b) for _, b in pairs])
        unchanged = ((before >= threshold) == (after >= threshold)).astype(float)
        low, high = metrics.bootstrap(lambda i: float(unchanged[i].mean()), groups, rounds=rounds)
        return {
            "survive": [round(v, 4) for v in (float(unchanged.mean()), low, high)],
            "to_cloud": round(float(((before >= threshold) & (after < threshold)).mean()), 4),
            "to_local": round(float(((before < threshold) & (after >= threshold)).mean()), 4),
            "mean_change": round(float((after - before).mean()), 4),
            "mean_absolute_change": round(float(np.abs(after - before).mean()), 4),
        }

    results: dict[str, Any] = {}
    for name, (base, change) in track(CHANGES.items(), "changed prompts", total=len(CHANGES)):
        # Seeded by the row, so that a change does not depend on the sample.
        results[name] = compare(
            [
                (base(row.text, random.Random(row.id)), change(row.text, random.Random(row.id)))
                for row in rows
            ]
        )
    results[LONG_SYSTEM_NAME] = compare(
        [
            (
                routing_text([("user", row.text)]),
                routing_text([("system", LONG_SYSTEM), ("user", row.text)]),
            )
            for row in rows
        ]
    )
    about = heading(prepared, model, split=split, command=command, rounds=rounds)
    return about | {
        "rows": len(rows),
        "notes": {
            "instruction in another language": "compared with the English instruction; phrases: "
            + " · ".join(TRANSLATED.values()),
            LONG_SYSTEM_NAME: "system prompts are not part of the scored text, so this must be 1",
        },
        "changes": results,
    }


def _sample(rows: list[Row], size: int) -> list[Row]:
    """A fixed sample of at most `size` rows."""
    if len(rows) <= size:
        return rows
    return random.Random(0).sample(rows, size)


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the shares."""
    console = console or Console(width=None if Console().is_terminal else 110)
    table = Table(title=f"decisions that survive · {report['split']} · n = {report['rows']}")
    table.add_column("")
    for name in ("survive", "to cloud", "to local", "mean change of merit"):
        table.add_column(name, justify="right")
    for name, result in report["changes"].items():
        table.add_row(
            name,
            span(result["survive"]),
            f"{result['to_cloud']:.3f}",
            f"{result['to_local']:.3f}",
            f"{result['mean_change']:+.3f}",
        )
    console.print(table)
