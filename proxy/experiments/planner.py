"""Plan the steps of training and evaluation: parameters, problems, cost estimate and commands.

Each step runs one or more commands of `hybrid-llm-train`. Parameters are typed and bounded. Files
come from folders that the configuration names. A command is an argument list, without a shell.
This module does not import `training`. Its cost estimates use the same rubric and prices.

All methods block on file access: call them in a thread.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from proxy.addresses import clean_base_url
from proxy.budget import BilledTokens, Price, Prices, TokenCounter
from proxy.config import Config, Secret
from proxy.errors import InvalidRequest
from proxy.experiments.results import LABELLED, ResultFolders, read_records
from proxy.experiments.steps import ANNOTATED, PROMPTS, STEPS, Parameter, Step, validate
from proxy.record import PICODOLLARS, Target
from router_model.bundled import bundled
from router_model.manifest import MANIFEST_FILE
from router_model.rubric import grade_messages, preference_messages

INSTALL_COMMAND: Final = "pip install 'hybrid-llm-router[train]'"
# The same values as the estimate of `hybrid-llm-train`.
TYPICAL_ANSWER_TOKENS: Final = 350
TYPICAL_VERDICT_TOKENS: Final = 80
_VERDICT_MAX_TOKENS: Final = 512
_MAX_CONCURRENCY: Final = 8
# Seconds per call without measurements: a small local model, and the API of a large one.
_TYPICAL_SECONDS: Final = {"local": 15.0, "cloud": 4.0, "router": 8.0, "judge": 3.0}
_OPENAI: Final = "https://api.openai.com/"
_MAX_CACHED: Final = 100
_MAX_FILE_BYTES: Final = 64 * 2**20
# Variables that commands inherit. API keys are added for steps that call models.
_PASSED_ON: Final = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HOME",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_PREPARED: Final = "prepared.msgpack.gz"
_REPORTED: Final = ("data_card", "evaluation", "baselines", "errors", "robustness")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A reason why a step cannot run. `command` fixes it."""

    code: str
    message: str
    command: str | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The estimated time and cost of a step, and the maximum cost.

    `seconds` is from the last run or from typical values, according to `basis`.
    """

    seconds: float | None
    basis: Literal["last", "typical"] = "typical"
    usd: float = 0.0
    most_usd: float = 0.0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Plan(NamedTuple):
    """The commands to run, and their complete environment."""

    commands: list[list[str]]
    environment: dict[str, str]


class _Calls(NamedTuple):
    """The calls to one role.

    Attributes:
        number: of calls.
        fixed: the known input tokens of all calls.
        answers: the model answers that are part of the input.
    """

    role: str
    number: int
    fixed: int
    answers: int


class _Endpoint(NamedTuple):
    """The endpoint of a role: local, cloud, router or judge. `price` is None if unknown."""

    model: str
    url: str
    key: str
    price: Price | None
    concurrency: int


class Planner:
    """Plans steps for one configuration.

    Args:
        has_package: whether a package is installed, found without importing it.
    """

    def __init__(
        self,
        config: Config,
        prices: Prices,
        tokens: TokenCounter,
        *,
        has_package: Callable[[str], bool] = lambda name: find_spec(name) is not None,
    ) -> None:
        self._config = config
        self._prices = prices
        self._tokens = tokens
        self._has_package = has_package
        self._cached_calls: dict[tuple[Any, ...], list[_Calls]] = {}
        folders, model = config.experiments, Path(config.routing.model_path)
        self._work = Path(folders.work)
        self._data = Path(folders.data) if folders.data is not None else None
        # Training writes to a folder of its own: the proxy reloads the serving folder on change.
        self.folders = ResultFolders(
            Path(folders.results),
            self._data,
            config.routing.model_folder,
            model.with_name("candidate"),
        )

    @property
    def lacks_extra(self) -> bool:
        """Whether some step needs a package that is not installed."""
        return any(not self._has_package(name) for step in STEPS for name in step.packages)

    # ── Parameters and problems ───────────────────────────────────────────────────────────────

    def parameters(self, step: Step) -> list[Parameter]:
        """The parameters, with the available files as choices."""
        return [
            msgspec.structs.replace(
                parameter,
                choices=(files := tuple(self._files(step))),
                default=files[0] if files else "",
            )
            if parameter.kind == "file"
            else parameter
            for parameter in step.parameters
        ]

    def _folder(self, step: Step) -> Path | None:
        if self._data is None:
            return None
        return self._data / (ANNOTATED if step.name == "validate-judge" else PROMPTS)

    def _files(self, step: Step) -> Iterator[str]:
        suffixes = (".jsonl", ".txt") if step.name == "label" else (".jsonl",)
        folder = self._folder(step)
        if folder is not None and folder.is_dir():
            for path in sorted(folder.iterdir()):
                # A command would read a name such as `-x` as an option.
                if path.suffix in suffixes and path.is_file() and path.name[0].isalnum():
                    yield path.name

    def resolve(self, step: Step, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given values, and the defaults of the others. Raises InvalidRequest."""
        known = {parameter.name: parameter for parameter in self.parameters(step)}
        for name in given:
            if name not in known:
                raise InvalidRequest(f"{step.title} has no parameter '{name}'.", param=name)
        return {
            name: validate(parameter, given.get(name, parameter.default))
            for name, parameter in known.items()
        }

    def problems(self, step: Step) -> list[Problem]:
        """Why the step cannot run now; empty if it can."""
        return list(self._problems(step))

    def _problems(self, step: Step) -> Iterator[Problem]:
        if not self._config.experiments.enabled:
            yield Problem(
                code="experiments_disabled",
                message="Experiments are disabled. Set experiments.enabled: true.",
            )
        missing = [name for name in step.packages if not self._has_package(name)]
        if missing:
            yield Problem(
                code="train_missing",
                message=f"The train extra is not installed ({', '.join(missing)}).",
                command=INSTALL_COMMAND,
            )
        if step.is_paid:
            yield from self._paid_problems(step)
        for name, folder in (("work", self._work), ("results", self.folders.results)):
            if not _is_writable(folder):
                yield Problem(
                    code="readonly", message=f"experiments.{name}: {folder} is not writable."
                )
        models = (self.folders.serving, self.folders.candidate)
        needs_model = any(parameter.name == "model" for parameter in step.parameters)
        if needs_model and not any((folder / MANIFEST_FILE).is_file() for folder in models):
            yield Problem(code="model_missing", message=f"{models[0]} has no router model.")
        if any(parameter.kind == "file" for parameter in step.parameters):
            yield from self._file_problems(step)
        elif step.name == "report":
            absent = [name for name in _REPORTED if not self.folders.result(name).is_file()]
            if absent:
                yield Problem(
                    code="results_missing",
                    message=f"Missing results: {', '.join(absent)}.",
                )
        elif not step.is_paid and not self._has_rows(step):
            yield Problem(
                code="data_missing",
                message="experiments.data is not set: there is no outcome data."
                if self._data is None
                else f"experiments.data: {self._data} is not a folder.",
            )

    def _paid_problems(self, step: Step) -> Iterator[Problem]:
        for role in self._roles(step):
            endpoint = self._endpoint(role)
            if endpoint.price is None:
                yield Problem(
                    code="price_missing",
                    message=f"The price of {endpoint.model}, the {role} model, is unknown.",
                )
            if endpoint.url.startswith(_OPENAI) and not endpoint.key:
                yield Problem(
                    code="key_missing",
                    message=f"{endpoint.model} needs an OpenAI key. Set OPENAI_API_KEY.",
                )

    def _file_problems(self, step: Step) -> Iterator[Problem]:
        folder = self._folder(step)
        if folder is None:
            yield Problem(
                code="data_missing",
                message="experiments.data is not set: there are no files to read.",
            )
        elif not any(self._files(step)):
            yield Problem(code="data_missing", message=f"{folder} has no file to read.")
        elif step.name == "label" and not _is_writable(folder.parent):
            yield Problem(
                code="readonly",
                message=f"Labels are written to {folder.parent}, which is not writable.",
            )

    def _has_rows(self, step: Step) -> bool:
        has_data = self._data is not None and self._data.is_dir()
        return has_data or (step.name != "train" and (self._work / _PREPARED).is_file())

    # ── Cost estimate ─────────────────────────────────────────────────────────────────────────

    def estimate(self, step: Step, chosen: Mapping[str, Any]) -> Estimate:
        """Estimate the time and cost of the step with these parameters."""
        if not step.is_paid:
            seconds = step.seconds
            if step.name == "train" and seconds is not None:
                seconds *= 0.1 + 0.9 * chosen["epochs"] / 3 * chosen["train_share"]
            return Estimate(seconds=seconds)
        max_tokens = chosen.get("max_tokens", 0)
        pico, most_pico, calls, read, written, seconds = 0, 0, 0, 0, 0, 0.0
        for role, number, fixed, answers in self._counted(step, chosen):
            typical, maximum = TYPICAL_ANSWER_TOKENS, max_tokens
            if role == "judge":
                typical, maximum = TYPICAL_VERDICT_TOKENS, _VERDICT_MAX_TOKENS
            endpoint = self._endpoint(role)
            price = endpoint.price or Price()
            inputs, outputs = fixed + answers * TYPICAL_ANSWER_TOKENS, number * typical
            pico += price.cost(BilledTokens(inputs, outputs))
            most_pico += price.cost(BilledTokens(fixed + answers * max_tokens, number * maximum))
            calls, read, written = calls + number, read + inputs, written + outputs
            seconds += number * _TYPICAL_SECONDS[role] / endpoint.concurrency
        return Estimate(
            seconds=seconds if calls else None,
            usd=pico / PICODOLLARS,
            most_usd=most_pico / PICODOLLARS,
            calls=calls,
            input_tokens=read,
            output_tokens=written,
        )

    def _counted(self, step: Step, chosen: Mapping[str, Any]) -> list[_Calls]:
        """The calls per role. The count is cached until the file changes."""
        path = self._chosen_file(step, chosen) if "file" in chosen else _questions()
        stat = path.stat() if path.is_file() else None
        key = (step.name, msgspec.json.encode(chosen), stat and (stat.st_mtime_ns, stat.st_size))
        if key not in self._cached_calls:
            self._tokens.load()
            if len(self._cached_calls) >= _MAX_CACHED:
                self._cached_calls.clear()
            self._cached_calls[key] = list(self._calls(step, chosen))
        return self._cached_calls[key]

    def _calls(self, step: Step, chosen: Mapping[str, Any]) -> Iterator[_Calls]:
        match step.name:
            case "benchmark":
                yield from self._calls_of_benchmark(chosen)
            case "validate-judge":
                yield from self._calls_of_validation(self._chosen_file(step, chosen))
            case "label":
                prompts = list(_prompts(self._chosen_file(step, chosen)))
                prompt_tokens = sum(map(self._tokens.count_messages, prompts))
                for role in ("local", "cloud"):
                    yield _Calls(role, len(prompts), prompt_tokens, 0)
                fixed = sum(2 * self._count(grade_messages(turns, "")) for turns in prompts)
                number, answers = 2 * len(prompts), 2 * len(prompts)
                if chosen["pairwise"]:
                    fixed += sum(
                        2 * self._count(preference_messages(turns, "", "")) for turns in prompts
                    )
                    number, answers = 2 * number, 3 * answers
                yield _Calls("judge", number, fixed, answers)

    def _calls_of_benchmark(self, chosen: Mapping[str, Any]) -> Iterator[_Calls]:
        """Two calls per question and tier. The second call includes the first answer."""
        tiers = ("local", "cloud", *(("router",) if chosen["through_router"] else ()))
        prompt_tokens, judge_tokens, number = 0, 0, 0
        for record in read_records(_questions()):
            turns = record.get("turns")
            if not (isinstance(turns, list) and len(turns) == 2 and all(map(_is_text, turns))):
                continue
            references = record.get("references") or (None, None)
            number += 1
            first = [("user", turns[0])]
            both = [*first, ("assistant", ""), ("user", turns[1])]
            for conversation, reference in zip((first, both), references, strict=False):
                prompt_tokens += self._tokens.count_messages(conversation)
                judge_tokens += self._count(grade_messages(conversation, "", reference=reference))
        for role in tiers:
            yield _Calls(role, 2 * number, prompt_tokens, number)
        answers = number * len(tiers)
        yield _Calls("judge", 2 * answers, judge_tokens * len(tiers), 3 * answers)

    def _calls_of_validation(self, path: Path) -> Iterator[_Calls]:
        fixed, number = 0, 0
        for record in read_records(path):
            question, answer = record.get("question"), record.get("answer")
            if not isinstance(question, str) or not isinstance(answer, str):
                continue
            if record.get("judge_score") is None:
                reference = record.get("reference")
                reference = reference if isinstance(reference, str) else None
                fixed += self._count(grade_messages(question, answer, reference=reference))
                number += 1
        yield _Calls("judge", number, fixed, 0)

    def _chosen_file(self, step: Step, chosen: Mapping[str, Any]) -> Path:
        folder = self._folder(step)
        return (
            folder / chosen["file"] if folder is not None and chosen["file"] else Path(os.devnull)
        )

    def _count(self, messages: Iterable[Mapping[str, str]]) -> int:
        return self._tokens.count_messages([(item["role"], item["content"]) for item in messages])

    # ── Endpoints ─────────────────────────────────────────────────────────────────────────────

    def _roles(self, step: Step) -> tuple[str, ...]:
        return ("judge",) if step.name == "validate-judge" else ("local", "cloud", "judge")

    def _endpoint(self, role: str) -> _Endpoint:
        upstreams, judge = self._config.upstreams, self._config.judge
        if role == "local":
            local = upstreams.local
            return _Endpoint(
                local.model, local.base_urls[0], _reveal(local.api_key),
                self._prices.find(Target.LOCAL, local.model) or Price(),
                min(local.max_concurrency or _MAX_CONCURRENCY, _MAX_CONCURRENCY),
            )  # fmt: skip
        cloud = upstreams.cloud
        model, url, key = cloud.model, cloud.base_urls[0], cloud.api_key
        price = self._prices.find(Target.CLOUD, model)  # for the router an upper bound
        if role == "judge":
            model = judge.model
            if judge.has_own_credentials:
                key = judge.api_key
            if judge.base_url is not None:
                url = clean_base_url(judge.base_url)
            price = self._prices.find(Target.CLOUD, model)
            if judge.price != "auto":
                price = Price.of(judge.price)
        return _Endpoint(model, url, _reveal(key), price, _MAX_CONCURRENCY)

    # ── Commands ──────────────────────────────────────────────────────────────────────────────

    def plan(self, step: Step, chosen: Mapping[str, Any], *, max_usd: float) -> Plan:
        """The commands for these parameters, and their environment.

        Args:
            max_usd: the spending limit of a paid step.
        """
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_COLOR": "1", "TERM": "dumb",
            "COLUMNS": "120", "PROGRESS_SECONDS": "2",
        }  # fmt: skip
        if step.is_paid:
            for role in self._roles(step):
                environment[f"{role.upper()}_API_KEY"] = self._endpoint(role).key
            if chosen.get("through_router"):
                environment["ROUTER_API_KEY"] = self._own_key()
        return Plan(list(self._commands(step, chosen, max_usd)), environment)

    def _commands(
        self, step: Step, chosen: Mapping[str, Any], max_usd: float
    ) -> Iterator[list[str]]:
        prepared = ["--prepared", str(self._work / _PREPARED)]
        results = ["--results", str(self.folders.results)]
        candidate = str(self.folders.candidate)
        model = candidate if chosen.get("model") == "candidate" else str(self.folders.serving)
        measured = [*prepared, "--model", model, "--split", chosen.get("split", "")]
        paid = ["--max-usd", f"{max_usd:.6f}", *self._endpoints(step)]
        if not step.is_paid and step.name != "report":
            yield from self._prepare(prepared, results)
        match step.name:
            case "benchmark":
                if chosen["through_router"]:
                    paid += ["--router-url", self._own_url()]
                journal = self._work / f"benchmark-{chosen['series']}.journal"
                yield [
                    "baseline", "--questions", str(_questions()),
                    "--out", str(self.folders.result("baseline")), "--journal", str(journal),
                    "--max-tokens", str(chosen["max_tokens"]), *paid,
                ]  # fmt: skip
            case "validate-judge":
                path = self._chosen_file(step, chosen)
                yield [
                    "validate-judge", "--file", str(path), "--out",
                    str(self.folders.result("judge")), "--journal",
                    str(self._work / f"judge-{path.name}.journal"), *paid,
                ]  # fmt: skip
            case "label":
                path = self._chosen_file(step, chosen)
                yield [
                    "label", str(path), "--out", str(path.parent.parent / (path.stem + LABELLED)),
                    "--journal", str(self._work / f"label-{path.name}.journal"),
                    "--pairwise" if chosen["pairwise"] else "--no-pairwise",
                    "--max-tokens", str(chosen["max_tokens"]), *paid,
                ]  # fmt: skip
            case "train":
                run = ["--run", str((self._work / "runs" / "candidate").absolute())]
                yield [
                    "train", *prepared, *run, "--epochs", str(chosen["epochs"]),
                    "--seed", str(chosen["seed"]), "--train-share", str(chosen["train_share"]),
                    "--auxiliary" if chosen["auxiliary"] else "--no-auxiliary",
                    "--threads", str(chosen["threads"]),
                ]  # fmt: skip
                yield ["export", *prepared, *run, "--model", candidate]
            case "evaluate":
                yield ["evaluate", *measured, "--out", str(self.folders.result("evaluation"))]
            case "report":
                yield ["report", *results]
            case _:
                for command in step.commands:
                    yield [command, *measured, *results]

    def _prepare(self, prepared: Sequence[str], results: Sequence[str]) -> Iterator[list[str]]:
        """The command that prepares the data, if there is data. Unchanged data takes no time."""
        if self._data is not None and self._data.is_dir():
            yield ["prepare", "--data", str(self._data), *prepared, *results]

    def _endpoints(self, step: Step) -> list[str]:
        words: list[str] = []
        for role in self._roles(step) if step.is_paid else ():
            endpoint = self._endpoint(role)
            prices = [
                f"{part / (PICODOLLARS / 10**6):g}" for part in (endpoint.price or Price())[:3]
            ]
            words += [
                f"--{role}-url", endpoint.url, f"--{role}-model", endpoint.model,
                f"--{role}-price", ",".join(prices),
            ]  # fmt: skip
        return words

    def _own_url(self) -> str:
        server = self._config.server
        host = "127.0.0.1" if server.host in ("0.0.0.0", "::", "") else server.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1"

    def _own_key(self) -> str:
        """An API key of this proxy, preferably an admin key."""
        keys = sorted(self._config.server.api_keys, key=lambda item: item.admin is not True)
        return keys[0].key.reveal() if keys else ""


def _reveal(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


def _is_writable(folder: Path) -> bool:
    """Whether files can be written there, after creating the folder if necessary."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _questions() -> Path:
    """The benchmark's questions: a file in the working folder, or the bundled one."""
    return bundled(Path("data/questions.jsonl"))


def _prompts(path: Path) -> Iterator[list[tuple[str, str]]]:
    """The conversations of a file of prompts."""
    if path.suffix == ".txt":
        if path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield from ([("user", line)] for line in lines if line.strip())
        return
    for record in read_records(path):
        messages = record.get("messages")
        if isinstance(messages, list):
            turns = [
                (str(item.get("role")), item["content"])
                for item in messages
                if isinstance(item, dict) and _is_text(item.get("content"))
            ]
            if turns:
                yield turns
            continue
        text = record.get("prompt") or record.get("query")
        if isinstance(text, str):
            yield [("user", text)]


def _is_text(value: object) -> bool:
    return isinstance(value, str)
