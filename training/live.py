"""The commands that call live models: `label`, `validate-judge`, `baseline`.

API keys come only from the environment. OPENAI_API_KEY is sent only to OpenAI's address, or to that
of OPENAI_BASE_URL. Other endpoints use LOCAL_API_KEY, CLOUD_API_KEY, JUDGE_API_KEY or
ROUTER_API_KEY.
"""

import asyncio
import datetime as dt
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from router_model.rubric import RUBRIC_VERSION
from training import benchmark, judge, label
from training.dataset import DataError
from training.journal import Journal
from training.options import QUESTIONS, RESULTS, ROOT, this_command
from training.paid import Endpoint, PaidClient, Price, RequestDeclined, Tokens
from training.progress import say
from training.results import write

WORK = ROOT / "data/work"

OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_URL = "http://localhost:11434"
# USD per million tokens: input, cached input, output. Source: OpenAI's price list. Other prices
# must be given as options.
KNOWN_PRICES = {"gpt-4o-mini": Price(0.15, 0.075, 0.60)}
FREE = Price(0.0, 0.0, 0.0)
RESERVE_BYTES_PER_CALL = 1 << 16

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class _PriceType(click.ParamType[Price]):
    name = "IN,OUT"

    def convert(self, value: Any, param: Any, ctx: Any) -> Price:
        if isinstance(value, Price):
            return value
        try:
            return Price.parse(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a price: USD per million tokens as IN,OUT or IN,CACHED,OUT",
                param,
                ctx,
            )


def _endpoint_options(role: str, url: str, model: str) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in (
            click.option(f"--{role}-price", type=_PriceType(), help="USD per million tokens."),
            click.option(
                f"--{role}-model", default=lambda: _default_model(role), show_default=model
            ),
            click.option(f"--{role}-url", default=lambda: _default_url(role), show_default=url),
        ):
            command = option(command)
        return command

    return add


def _default_url(role: str) -> str:
    if role == "local":
        return os.environ.get("OLLAMA_BASE_URL", OLLAMA_URL).rstrip("/") + "/v1"
    return os.environ.get("OPENAI_BASE_URL", OPENAI_URL)


def _default_model(role: str) -> str:
    if role == "local":
        return os.environ.get("OLLAMA_MODEL", "phi3:latest")
    return os.environ.get("CLOUD_MODEL", "gpt-4o-mini") if role == "cloud" else "gpt-4o-mini"


_local = _endpoint_options("local", "$OLLAMA_BASE_URL, or Ollama on this machine", "phi3:latest")
_cloud = _endpoint_options("cloud", "OpenAI's", "gpt-4o-mini")
_judge = _endpoint_options("judge", "OpenAI's", "gpt-4o-mini")


def _paid_options(command: F) -> F:
    number = click.IntRange(min=1)
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=600.0,
            show_default=True,
            help="Timeout of a call in seconds without data.",
        ),
        click.option(
            "--backoff",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            help="Seconds before the first retry, then exponential backoff.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=5,
            show_default=True,
            help="Maximum retries of a call.",
        ),
        click.option(
            "--concurrency", type=number, default=8, show_default=True, help="Concurrent calls."
        ),
        click.option(
            "--judge-max-tokens",
            type=number,
            default=512,
            show_default=True,
            help="Maximum tokens per verdict.",
        ),
        click.option(
            "--max-usd",
            type=click.FloatRange(min=0),
            default=5.0,
            show_default=True,
            help="Spending limit in USD for all runs with the same journal.",
        ),
        click.option(
            "--journal",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Journal of paid answers, which the next run reuses. Default: beside --out.",
        ),
    ):
        command = option(command)
    return command


_max_tokens = click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Maximum tokens per answer. Answers that reach it are rejected.",
)


@click.command(name="label")
@click.argument("prompts", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output file. Default: data/work/labels/NAME.jsonl.",
)
@click.option("--source", default="own", show_default=True, help="Source name of the rows.")
@click.option("--pairwise/--no-pairwise", default=True, help="Also compare the answers (default).")
@click.option("--dry-run", is_flag=True, help="Print the estimated cost; call no model.")
@_max_tokens
@_local
@_cloud
@_judge
@_paid_options
def label_command(
    prompts: Path,
    out: Path | None,
    source: str,
    pairwise: bool,
    dry_run: bool,
    max_tokens: int,
    **options: Any,
) -> None:
    """Label your own prompts: both tiers answer, and a judge scores the answers.

    PROMPTS is JSONL with `prompt` or `messages` in each row, or a .txt file with one prompt per
    line. A stopped run resumes when started again.

    Example: hybrid-llm-train label prompts.jsonl --max-usd 2
    """
    rows = label.read_prompts(prompts, source=source)
    out = out or WORK / "labels" / f"{prompts.stem}.jsonl"
    local, cloud, judge_endpoint = (
        _endpoint(r, options, dry_run) for r in ("local", "cloud", "judge")
    )
    if dry_run:
        _show_estimate(
            label.estimate(
                rows,
                Tokens(),
                local=local,
                cloud=cloud,
                judge=judge_endpoint,
                max_tokens=max_tokens,
                judge_max_tokens=options["judge_max_tokens"],
                pairwise=pairwise,
            ),
            max_usd=options["max_usd"],
        )
        return
    path = options["journal"] or out.with_name(f"{out.name}.journal")

    async def work(client: PaidClient) -> list[label.Row | label.Rejection | None]:
        labeller = label.Labeller(
            client,
            judge.Judge(client, judge_endpoint, max_tokens=options["judge_max_tokens"]),
            local=local,
            cloud=cloud,
            source=source,
            max_tokens=max_tokens,
            pairwise=pairwise,
        )
        return await client.each(rows, labeller.label, title="label")

    results, stopped = _run_paid(work, path, options)
    labelled = [row for row in results if isinstance(row, label.Row)]
    label.write_rows(labelled, out)
    for line in label.summary(labelled, [r for r in results if isinstance(r, label.Rejection)]):
        say(f"label: {line}")
    say(f"label: {len(labelled)} of {len(rows)} prompts are in {out}")
    _raise_if_stopped(stopped, path)
    if not labelled:
        raise click.ClickException("no prompt gave a label; see the reasons above")
    say(f"next: hybrid-llm-train prepare --data {shlex.quote(str(out.parent))}")


@click.command(name="validate-judge")
@click.option(
    "--file",
    "annotated",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="JSONL: question, answer, human_score 1-10; optional judge_score, reference.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS / "judge.json",
    show_default="data/results/judge.json",
    help="Output file.",
)
@_judge
@_paid_options
def validate_judge_command(annotated: Path, out: Path, **options: Any) -> None:
    """Measure how well the judge agrees with human scores of the same answers.

    Rows without judge_score are judged now. Intervals are 95 % intervals.

    Example: hybrid-llm-train validate-judge --file annotated.jsonl
    """
    rows = judge.read_annotated(annotated)
    scores: list[float | None] = [row.judge_score for row in rows]
    missing = [index for index, score in enumerate(scores) if score is None]
    if missing:
        judge_endpoint = _endpoint("judge", options)
        path = options["journal"] or WORK / f"{annotated.name}.journal"

        async def work(client: PaidClient) -> list[float | str | None]:
            grader = judge.Judge(client, judge_endpoint, max_tokens=options["judge_max_tokens"])

            async def grade(index: int) -> float | str:
                row = rows[index]
                try:
                    graded = await grader.grade(
                        row.question, row.answer, what=f"row {row.row}", reference=row.reference
                    )
                except (judge.NoVerdict, RequestDeclined) as error:
                    return str(error)
                return float(graded.score)

            return await client.each(missing, grade, title="validate-judge")

        results, stopped = _run_paid(work, path, options)
        _raise_if_stopped(stopped, path)
        for index, verdict in zip(missing, results, strict=True):
            if isinstance(verdict, str):
                say(f"{annotated}:{rows[index].row}: excluded, no verdict: {verdict}")
            else:
                scores[index] = verdict
    pairs = [(row, score) for row, score in zip(rows, scores, strict=True) if score is not None]
    if len(pairs) < 2:
        raise click.ClickException("fewer than 2 rows have a judge score")
    figures = judge.agreement(
        [row.human_score for row, _ in pairs],
        [score for _, score in pairs],
        [row.question for row, _ in pairs],
    )
    for name, value in msgspec.structs.asdict(figures).items():
        shown = value if isinstance(value, int) else "{:.3f} [{:.3f}, {:.3f}]".format(*value)
        say(f"{name.replace('_', ' ')}: {shown}")
    result = {
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": this_command(),
        "judge_model": options["judge_model"] if missing else None,
        "rubric_version": RUBRIC_VERSION if missing else None,
        **msgspec.structs.asdict(figures),
    }
    _write(result, out)


@click.command(name="baseline")
@click.option(
    "--questions",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=QUESTIONS,
    show_default="data/questions.jsonl",
    help="File of two-turn questions.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS / "baseline.json",
    show_default="data/results/baseline.json",
    help="Output file.",
)
@click.option("--router-url", help="Address of the proxy, such as http://127.0.0.1:8080/v1.")
@click.option("--router-model", default="auto", show_default=True)
@_max_tokens
@_local
@_cloud
@_judge
@_paid_options
def baseline_command(
    questions: Path,
    out: Path,
    router_url: str | None,
    router_model: str,
    max_tokens: int,
    **options: Any,
) -> None:
    """Benchmark both tiers, and optionally the proxy, on 80 two-turn questions.

    Example: hybrid-llm-train baseline --router-url http://127.0.0.1:8080/v1
    """
    items = benchmark.read_questions(questions)
    judge_endpoint = _endpoint("judge", options)
    tiers = [_endpoint(role, options) for role in ("local", "cloud")]
    if router_url is not None:
        tiers.append(_router(router_url, router_model, *tiers))
    path = options["journal"] or WORK / "baseline.journal"

    async def work(client: PaidClient) -> list[benchmark.Outcome | label.Rejection | None]:
        grader = judge.Judge(client, judge_endpoint, max_tokens=options["judge_max_tokens"])
        run = benchmark.Benchmark(client, grader, tiers, max_tokens=max_tokens)
        return await client.each(items, run.examine, title="baseline")

    results, stopped = _run_paid(work, path, options)
    _raise_if_stopped(stopped, path)  # an incomplete benchmark is not comparable
    outcomes = [outcome for outcome in results if isinstance(outcome, benchmark.Outcome)]
    rejections = [rejection for rejection in results if isinstance(rejection, label.Rejection)]
    if not outcomes:
        reasons = judge.listed([f"{rejection.id}: {rejection.why}" for rejection in rejections])
        raise click.ClickException(f"no question could be benchmarked\n{reasons}")
    models = {endpoint.role: endpoint.model for endpoint in (*tiers, judge_endpoint)}
    result = benchmark.report(outcomes, rejections, models=models, command=this_command())
    benchmark.show(result)
    _write(result, out)


COMMANDS = (label_command, validate_judge_command, baseline_command)


def _endpoint(role: str, options: dict[str, Any], dry_run: bool = False) -> Endpoint:
    """The endpoint of the options. Raises ClickException without a price or key."""
    url, model = _address(options[f"{role}_url"], role), options[f"{role}_model"]
    price = options[f"{role}_price"]
    if price is None:
        # With a wrong price, --max-usd would be meaningless.
        price = FREE if role == "local" else KNOWN_PRICES.get(model)
        if price is None or (role != "local" and url != _address(_default_url(role), role)):
            raise click.ClickException(
                f"the price of {model} at {url} is unknown; set --{role}-price IN,OUT in USD per "
                "million tokens (0,0 if it is free)"
            )
    variable = f"{role.upper()}_API_KEY"
    if role != "local" and variable not in os.environ and url == _address(_default_url(role), role):
        variable = "OPENAI_API_KEY"
    key = os.environ.get(variable, "")
    if not key and url == OPENAI_URL and not dry_run:
        raise click.ClickException(f"{role}: OpenAI needs an API key; set {variable}")
    return Endpoint(
        role=role, url=url, model=model, price=price, api_key=key, key_variable=variable
    )


def _router(url: str, model: str, local: Endpoint, cloud: Endpoint) -> Endpoint:
    highest = Price(
        *(
            max(getattr(local.price, name), getattr(cloud.price, name))
            for name in Price.__struct_fields__
        )
    )
    return Endpoint(
        role="router",
        url=_address(url, "router"),
        model=model,
        price=highest,
        api_key=os.environ.get("ROUTER_API_KEY", ""),
        key_variable="ROUTER_API_KEY",
        target_prices={"local": local.price, "cloud": cloud.price},
    )


def _address(url: str, role: str) -> str:
    url = url.rstrip("/").removesuffix("/chat/completions")
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"--{role}-url {url!r} does not start with http:// or https://")
    return url


def _run_paid(
    work: Callable[[PaidClient], Awaitable[T]], path: Path, options: dict[str, Any]
) -> tuple[T, str | None]:
    """Run `work` with a client. Returns its result, and the reason if the run was stopped."""
    concurrency = options["concurrency"]

    async def run() -> tuple[T, str | None]:
        with Journal(path, reserve_bytes=concurrency * RESERVE_BYTES_PER_CALL) as journal:
            if journal.answers:
                say(f"{path}: {len(journal.answers)} answers are reused from the journal")
            async with PaidClient(
                journal,
                max_usd=options["max_usd"],
                concurrency=concurrency,
                retries=options["retries"],
                backoff_seconds=options["backoff"],
                timeout_seconds=options["timeout"],
            ) as client:
                before = client.budget.spent_usd
                result = await work(client)
            say(f"spent in this run: ${client.budget.spent_usd - before:.6f}")
            spent = ", ".join(f"{r} ${usd:.6f}" for r, usd in sorted(journal.spent_usd.items()))
            if journal.uncertain_usd:
                spent += f", interrupted calls ${journal.uncertain_usd:.6f} at most"
            say(f"spent, all runs together: {spent or 'nothing'}")
            return result, client.stopped

    return asyncio.run(run())


def _raise_if_stopped(stopped: str | None, path: Path) -> None:
    if stopped is not None:
        raise click.ClickException(
            f"stopped: {stopped}\nAll answers so far are in {path}; run the same command again to "
            "resume."
        )


def _show_estimate(estimates: list[label.Estimate], *, max_usd: float) -> None:
    for e in estimates:
        say(
            f"{e.role}: {e.calls} calls, {e.input_tokens} tokens in, about {e.output_tokens} out: "
            f"about ${e.usd:.4f}, ${e.most_usd:.4f} if all reach their limit"
        )
    usd, most = sum(e.usd for e in estimates), sum(e.most_usd for e in estimates)
    say(f"total: about ${usd:.4f}, ${most:.4f} at most; --max-usd is {max_usd:g}")


def _write(result: dict[str, Any], out: Path) -> None:
    try:
        write(out, result)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from error
