"""The closed list of steps that the experiments page may start, and their parameters.

A step is one or more commands of `hybrid-llm-train`. Durations are for two cores and the data of
the published model.
"""

import re
from typing import Any, Final, Literal

import msgspec

from proxy.errors import InvalidRequest

PROMPTS, ANNOTATED = "prompts", "annotated"  # folders in experiments.data
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of a step. `choices` are the accepted words or files."""

    name: str
    title: str
    kind: Literal["integer", "number", "flag", "choice", "file", "name"]
    default: int | float | bool | str | None
    about: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step: its commands, requirements, parameters and results."""

    name: str
    title: str
    about: str
    commands: tuple[str, ...]
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    is_paid: bool = False
    results: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # of the train extra
    seconds: float | None = None


def _flag(name: str, title: str, about: str = "") -> Parameter:
    return Parameter(name=name, title=title, kind="flag", default=True, about=about)


def _integer(
    name: str, title: str, default: int, *, minimum: int, maximum: int, about: str = ""
) -> Parameter:
    return Parameter(
        name=name, title=title, kind="integer", default=default, minimum=minimum,
        maximum=maximum, about=about,
    )  # fmt: skip


def _file(title: str, about: str) -> Parameter:
    return Parameter(name="file", title=title, kind="file", default=None, about=about)


def _choice(name: str, title: str, about: str, choices: tuple[str, ...], default: str) -> Parameter:
    return Parameter(
        name=name, title=title, kind="choice", default=default, choices=choices, about=about
    )


def _split(default: str) -> Parameter:
    return _choice("split", "Rows", "Use test once per release.", ("validation", "test"), default)


_MODEL: Final = _choice(
    "model", "Router model", "Train writes the candidate.", ("serving", "candidate"), "serving"
)
_MAX_TOKENS: Final = _integer(
    "max_tokens", "Tokens per answer", 2048, minimum=64, maximum=16_384,
    about="Limit. Answers that reach it are dropped.",
)  # fmt: skip
_MODELS: Final = "The models of both tiers, and a judge."
_DATA: Final = "Outcome data in the folder experiments.data."

STEPS: Final = (
    Step(
        name="benchmark",
        title="Baseline benchmark",
        about="Sends 80 two-turn questions to both tiers and to this proxy. A judge grades each "
        "answer from 1 to 10. Shows how much of the quality gap routing recovers, live.",
        commands=("baseline",),
        needs=(_MODELS,),
        parameters=(
            _flag(
                "through_router", "Include the proxy", "If off, only the two tiers are compared."
            ),
            _MAX_TOKENS,
            Parameter(
                name="series",
                title="Series",
                kind="name",
                default="baseline",
                about="Answers already paid for in a series are reused.",
            ),
        ),
        is_paid=True,
        results=("baseline",),
    ),
    Step(
        name="validate-judge",
        title="Judge validation",
        about="Has the judge grade answers that people scored, and measures the agreement.",
        commands=("validate-judge",),
        needs=(
            "The judge's model.",
            f"A file of answers with human scores, in {ANNOTATED}/ of experiments.data.",
        ),
        parameters=(
            _file(
                "Annotated answers",
                "JSONL with question, answer and human_score. Free if judge_score is given.",
            ),
        ),
        is_paid=True,
        results=("judge",),
    ),
    Step(
        name="label",
        title="Label",
        about="Both tiers answer your own prompts; the judge grades and compares the answers. "
        "Train learns from the resulting rows.",
        commands=("label",),
        needs=(_MODELS, f"A file of prompts, in {PROMPTS}/ of experiments.data."),
        parameters=(
            _file(
                "Prompts",
                "JSONL with prompt or messages, or a text file with one prompt per line.",
            ),
            _flag("pairwise", "Compare the answers", "In both orders, in addition to the grades."),
            _MAX_TOKENS,
        ),
        is_paid=True,
    ),
    Step(
        name="train",
        title="Train",
        about="Reads the outcome data, trains the network and exports a candidate. The router "
        "model in use stays; hybrid-llm promote replaces it with the candidate.",
        commands=("prepare", "train", "export"),
        needs=(_DATA, "The train extra."),
        parameters=(
            _integer("epochs", "Epochs", 3, minimum=1, maximum=20),
            _integer("seed", "Seed", 0, minimum=0, maximum=10_000),
            Parameter(
                name="train_share",
                title="Share of training prompts",
                kind="number",
                default=1.0,
                minimum=0.01,
                maximum=1.0,
            ),
            _flag("auxiliary", "Also learn from other model pairs"),
            _integer(
                "threads", "Threads", 0, minimum=0, maximum=256, about="0: one thread per core."
            ),
        ),
        results=("learning_curve",),
        packages=("torch", "sklearn", "optimum"),
        seconds=3600.0,
    ),
    Step(
        name="ablation",
        title="Feature-only ablation",
        about="Measures the router without its network: hand-made features alone, and words alone, "
        "on the same rows.",
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
        about="Compares the router with simpler methods, from prompt length to nearest neighbours "
        "of a frozen encoder.",
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
        about="Measures the router on held-out prompts: ranking, calibration, and quality against "
        "cost.",
        commands=("evaluate",),
        needs=(_DATA,),
        parameters=(_split("test"), _MODEL),
        results=("evaluation",),
        seconds=60.0,
    ),
    Step(
        name="errors",
        title="Error analysis",
        about="Lists wrong decisions, the most confident ones first, and the harmless changes of a "
        "prompt that flip the decision.",
        commands=("errors", "robustness"),
        needs=(_DATA,),
        parameters=(_split("validation"), _MODEL),
        results=("errors", "robustness"),
        seconds=100.0,
    ),
    Step(
        name="report",
        title="Report",
        about="Writes all results as one offline HTML page and two images.",
        commands=("report",),
        needs=("The results of the other steps.", "The train extra."),
        packages=("plotly", "matplotlib"),
        seconds=10.0,
    ),
)
STEPS_BY_NAME: Final = {step.name: step for step in STEPS}


def validate(parameter: Parameter, value: Any) -> Any:
    """The value if the parameter accepts it. Raises InvalidRequest."""

    def invalid(expected: str) -> InvalidRequest:
        return InvalidRequest(f"{parameter.title}: {expected}", param=parameter.name)

    match parameter.kind:
        case "flag":
            if not isinstance(value, bool):
                raise invalid("must be true or false.")
        case "integer" | "number":
            kinds = int if parameter.kind == "integer" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise invalid(f"must be {'an integer' if kinds is int else 'a number'}.")
            low, high = parameter.minimum, parameter.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                raise invalid(f"must be from {low:g} to {high:g}.")
        case "name":
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise invalid("use lower-case letters, digits and hyphens, at most 40.")
        case "choice" | "file":
            if value not in (parameter.choices or ()):
                listed = ", ".join(parameter.choices or ()) or "none available"
                raise invalid(f"must be one of: {listed}.")
    return value
