"""The closed list of what the page of experiments may start, and what may be chosen for it.

A step is one or more commands of `hybrid-llm-train`. How long it takes is said for two cores and
the data that the published model is from.
"""

import re
from typing import Any, Final, Literal

import msgspec

from proxy.errors import InvalidRequest

PROMPTS, ANNOTATED = "prompts", "annotated"  # folders in that of the data
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen for a step. `choices` are the words or files that there are."""

    name: str
    title: str
    kind: Literal["integer", "number", "flag", "choice", "file", "name"]
    default: int | float | bool | str | None
    about: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step: what it does, what it needs, what may be chosen, what it writes."""

    name: str
    title: str
    about: str
    commands: tuple[str, ...]
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    is_paid: bool = False
    results: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # of the extra
    seconds: float | None = None


def _split(default: str) -> Parameter:
    return Parameter(
        name="split",
        title="Rows",
        kind="choice",
        default=default,
        choices=("validation", "test"),
        about="Look at test once per release.",
    )


_MODEL: Final = Parameter(
    name="model",
    title="Router model",
    kind="choice",
    default="serving",
    choices=("serving", "candidate"),
    about="The candidate is what Train made.",
)
_MAX_TOKENS: Final = Parameter(
    name="max_tokens",
    title="Tokens per answer",
    kind="integer",
    default=2048,
    minimum=64,
    maximum=16_384,
    about="At most; answers that reach it are left out.",
)
_MODELS: Final = "Both tiers' models, and a judge."
_DATA: Final = "Outcome data in the folder that experiments.data names."

STEPS: Final = (
    Step(
        name="benchmark",
        title="Baseline benchmark",
        about="Asks 80 two-turn questions of both tiers and of this proxy, and has every answer "
        "graded 1 to 10: how much of the quality gap routing recovers, live.",
        commands=("baseline",),
        needs=(_MODELS,),
        parameters=(
            Parameter(
                name="through_router",
                title="Ask the proxy, too",
                kind="flag",
                default=True,
                about="Without it only the two tiers are compared.",
            ),
            _MAX_TOKENS,
            Parameter(
                name="series",
                title="Series",
                kind="name",
                default="baseline",
                about="Answers paid for in a series are not asked for again in it.",
            ),
        ),
        is_paid=True,
        results=("baseline",),
    ),
    Step(
        name="validate-judge",
        title="Judge validation",
        about="Has answers that people scored graded by the judge, and tells how well they agree.",
        commands=("validate-judge",),
        needs=(
            "The judge's model.",
            f"A file of answers with people's scores, in {ANNOTATED}/ of experiments.data.",
        ),
        parameters=(
            Parameter(
                name="file",
                title="Annotated answers",
                kind="file",
                default=None,
                about="JSONL with question, answer and human_score; with judge_score it is free.",
            ),
        ),
        is_paid=True,
        results=("judge",),
    ),
    Step(
        name="label",
        title="Label",
        about="Has your own prompts answered by both tiers and the answers graded and compared: "
        "rows that Train learns from.",
        commands=("label",),
        needs=(_MODELS, f"A file of prompts, in {PROMPTS}/ of experiments.data."),
        parameters=(
            Parameter(
                name="file",
                title="Prompts",
                kind="file",
                default=None,
                about="JSONL with prompt or messages, or text with a prompt a line.",
            ),
            Parameter(
                name="pairwise",
                title="Compare the answers",
                kind="flag",
                default=True,
                about="In both orders, beside grading each.",
            ),
            _MAX_TOKENS,
        ),
        is_paid=True,
    ),
    Step(
        name="train",
        title="Train",
        about="Reads the outcome data, trains the network on it and exports a candidate. The "
        "router that serves stays; hybrid-llm promote takes the candidate up.",
        commands=("prepare", "train", "export"),
        needs=(_DATA, "The train extra."),
        parameters=(
            Parameter(
                name="epochs", title="Epochs", kind="integer", default=3, minimum=1, maximum=20
            ),
            Parameter(
                name="seed", title="Seed", kind="integer", default=0, minimum=0, maximum=10_000
            ),
            Parameter(
                name="train_share",
                title="Share of the training prompts",
                kind="number",
                default=1.0,
                minimum=0.01,
                maximum=1.0,
            ),
            Parameter(
                name="auxiliary",
                title="Learn from other pairs of models, too",
                kind="flag",
                default=True,
            ),
            Parameter(
                name="threads",
                title="Threads",
                kind="integer",
                default=0,
                minimum=0,
                maximum=256,
                about="0: one per core.",
            ),
        ),
        results=("learning_curve",),
        packages=("torch", "sklearn", "optimum"),
        seconds=3600.0,
    ),
    Step(
        name="ablation",
        title="Feature-only ablation",
        about="What is left of the router without its network: hand-made features alone, and "
        "words alone, on the same rows.",
        commands=("ablation",),
        needs=(_DATA, "The train extra."),
        parameters=(_split("validation"), _MODEL),
        results=("ablation",),
        packages=("sklearn",),
        seconds=65.0,
    ),
    Step(
        name="baselines",
        title="Baselines",
        about="Holds the router against everything simpler, from prompt length to the nearest "
        "neighbours of a frozen encoder.",
        commands=("baselines",),
        needs=(_DATA, "The train extra."),
        parameters=(_split("validation"), _MODEL),
        results=("baselines",),
        packages=("torch", "sklearn"),
        seconds=900.0,
    ),
    Step(
        name="evaluate",
        title="Evaluate",
        about="Measures the router on prompts that it was not trained on: ranking, calibration, "
        "and quality against cost.",
        commands=("evaluate",),
        needs=(_DATA,),
        parameters=(_split("test"), _MODEL),
        results=("evaluation",),
        seconds=60.0,
    ),
    Step(
        name="errors",
        title="Error analysis",
        about="Where the router decides wrongly, the most confident mistakes first, and which "
        "harmless changes of a prompt turn its decision.",
        commands=("errors", "robustness"),
        needs=(_DATA,),
        parameters=(_split("validation"), _MODEL),
        results=("errors", "robustness"),
        seconds=100.0,
    ),
    Step(
        name="report",
        title="Report",
        about="Writes all results as one offline page and two pictures.",
        commands=("report",),
        needs=("The results of the steps before.", "The train extra."),
        packages=("plotly", "matplotlib"),
        seconds=10.0,
    ),
)
STEPS_BY_NAME: Final = {step.name: step for step in STEPS}


def validate(parameter: Parameter, value: Any) -> Any:
    """A value that may be chosen. Raises InvalidRequest."""

    def refuse(what: str) -> InvalidRequest:
        return InvalidRequest(f"{parameter.title}: {what}", param=parameter.name)

    match parameter.kind:
        case "flag":
            if not isinstance(value, bool):
                raise refuse("true or false.")
        case "integer" | "number":
            kinds = int if parameter.kind == "integer" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise refuse("a whole number." if parameter.kind == "integer" else "a number.")
            low, high = parameter.minimum, parameter.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                raise refuse(f"from {low:g} to {high:g}.")
        case "name":
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise refuse("small letters, digits and hyphens, 40 at most.")
        case "choice" | "file":
            if value not in (parameter.choices or ()):
                listed = ", ".join(parameter.choices or ()) or "there is none"
                raise refuse(f"one of: {listed}.")
    return value
