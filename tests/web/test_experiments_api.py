"""The experiments' JSON API: listing steps, starting them, and their jobs."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from live import CLOUD_KEY, LOCAL_KEY, LiveProxy, StartProxy, config_fields, merge
from pipeline import COMMAND, DATA, PATIENCE_SECONDS, WAITING, Folders
from proxy.budget.pricing import Prices
from proxy.budget.token_counter import TokenCounter
from proxy.config import load_config
from proxy.errors import InvalidRequest
from proxy.experiments.planner import INSTALL_COMMAND, Planner
from proxy.experiments.results import key_figure, read_results
from proxy.experiments.steps import STEPS, STEPS_BY_NAME
from proxy.record import Target
from stored import until as until_met

Json = dict[str, Any]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
async def proxy(start: StartProxy, folders: Folders) -> LiveProxy:
    return await start(folders.config(), command=COMMAND)


async def start_step(proxy: LiveProxy, step: str, **body: Any) -> Json:
    answer = await proxy.client.post(f"/api/experiments/{step}", json=body)
    assert answer.status_code == 202, answer.text
    job: Json = answer.json()["job"]
    return job


async def read_job(proxy: LiveProxy, job: Json, **query: int) -> Json:
    answer = await proxy.client.get(f"/api/jobs/{job['id']}", params=query)
    assert answer.status_code == 200, answer.text
    page: Json = answer.json()
    return page


async def wait_for(
    proxy: LiveProxy, job: Json, *states: str, progress: float | None = None
) -> Json:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            page = await read_job(proxy, job)
            if page["job"]["state"] in states and (
                progress is None or page["job"]["progress"] == progress
            ):
                return page
            await asyncio.sleep(0.02)


async def rejection(proxy: LiveProxy, step: str, **body: Any) -> tuple[int, str | None, str | None]:
    answer = await proxy.client.post(f"/api/experiments/{step}", json=body)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def overview(proxy: LiveProxy) -> dict[str, Json]:
    answer = await proxy.client.get("/api/experiments")
    assert answer.status_code == 200, answer.text
    return {step["name"]: step for step in answer.json()["steps"]}


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between open and read
        return True


# ── Overview and results ──────────────────────────────────────────────────────────────────────


async def test_steps_are_listed_in_pipeline_order(proxy: LiveProxy) -> None:
    steps = await overview(proxy)
    assert list(steps) == [
        "benchmark", "validate-judge", "label", "train", "ablation", "baselines", "evaluate",
        "errors", "report",
    ]  # fmt: skip
    evaluate = steps["evaluate"]
    assert evaluate["commands"] == ["hybrid-llm-train evaluate"]
    assert evaluate["can_run"] is True
    assert evaluate["estimate"]["seconds"] > 0
    assert evaluate["last"] is None
    assert {item["name"]: item["default"] for item in evaluate["parameters"]} == {
        "split": "test", "model": "serving",
    }  # fmt: skip


async def test_shipped_results_are_returned(start: StartProxy) -> None:
    proxy = await start({"experiments": {"results": str(DATA / "results")}})
    steps = await overview(proxy)
    for name in ("ablation", "baselines", "evaluate", "errors"):
        answer = await proxy.client.get(f"/api/experiments/{name}/results")
        for file, content in answer.json()["results"].items():
            assert content == json.loads((DATA / "results" / f"{file}.json").read_text())
        assert steps[name]["headline"] is not None
    evaluation, errors = (
        json.loads((DATA / f"results/{name}.json").read_text()) for name in ("evaluation", "errors")
    )
    at = evaluation["in_distribution"]["at_threshold"]
    expected = f"{at['pgr']:.0%} of the quality gap for {at['cost_share']:.0%} of the cost"
    assert steps["evaluate"]["headline"] == expected
    local, cloud = (errors["sources"]["all"][f"false {tier}"][0] for tier in ("local", "cloud"))
    assert steps["errors"]["headline"] == f"{local:.1%} wrongly local, {cloud:.1%} wrongly cloud"
    assert steps["benchmark"]["headline"] is None


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"in_distribution": 3}'])
async def test_invalid_result_file_is_ignored(
    proxy: LiveProxy, folders: Folders, content: str
) -> None:
    folders.results.mkdir()
    for name in ("baseline", "judge", "ablation", "baselines", "evaluation", "errors"):
        (folders.results / f"{name}.json").write_text(content)
    for step in (await overview(proxy)).values():
        assert step["headline"] is None or step["name"] in ("train", "report")


async def test_label_counts_are_summed(proxy: LiveProxy, folders: Folders) -> None:
    rows = [
        {"local_score": 8, "cloud_score": 9, "preference": "cloud", "judge_usd": 0.1},
        {"local_score": 4, "cloud_score": 9, "preference": "tie", "cloud_usd": 0.2},
    ]
    path = folders.data / "mine.labelled.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\nno row\n")
    answer = await proxy.client.get("/api/experiments/label/results")
    (labels,) = answer.json()["results"]["labels"]
    assert labels.pop("at") == path.stat().st_mtime
    assert labels == {
        "name": path.name,
        "rows": 2,
        "preferences": {"local": 0, "cloud": 1, "tie": 1},
        "local_score": 6.0,
        "cloud_score": 9.0,
        "usd": pytest.approx(0.3),
    }
    assert (await overview(proxy))["label"]["headline"] == "2 prompts are labelled"


# ── Running steps ─────────────────────────────────────────────────────────────────────────────


async def test_step_reports_progress_and_log_until_it_is_done(
    proxy: LiveProxy, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    job = await start_step(proxy, "evaluate", parameters={"split": "validation"})
    assert (job["step"], job["state"]) == ("evaluate", "running")
    assert job["arguments"] == {"split": "validation", "model": "serving"}
    running_page = await wait_for(proxy, job, "running", progress=0.25)
    assert "prepare: done\n" in running_page["log"]
    assert (await overview(proxy))["evaluate"]["last"]["id"] == job["id"]
    running = (await proxy.client.get("/api/experiments")).json()["running"]
    assert running["id"] == job["id"]
    folders.go_on()
    done = await wait_for(proxy, job, "done")
    assert done["job"]["exit_status"] == 0
    assert done["log"].startswith(running_page["log"])
    rest = await read_job(proxy, job, after=running_page["log_end"])
    assert rest["log"] == "scoring: 4/4, about 0.0 min left\n"
    assert (rest["log_start"], rest["log_end"]) == (running_page["log_end"], done["log_end"])
    arguments, environment, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[arguments.index("--split") + 1] == "validation"
    assert arguments[arguments.index("--out") + 1] == str(folders.results / "evaluation.json")
    assert not [name for name in environment if name.endswith("_KEY")]
    listed = (await proxy.client.get("/api/jobs", params={"step": "evaluate"})).json()["jobs"]
    assert [item["id"] for item in listed] == [job["id"]]
    again = await proxy.client.post(
        "/api/experiments/evaluate", json={"dry_run": True, "parameters": {"split": "validation"}}
    )
    assert again.json()["estimate"]["basis"] == "last"


async def test_only_one_step_runs_and_the_error_names_it(
    proxy: LiveProxy, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    job = await start_step(proxy, "evaluate")
    answer = await proxy.client.post("/api/experiments/errors", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_running")
    assert f"Evaluate is running ({job['id']})" in answer.json()["error"]["message"]
    cancelled = await proxy.client.post(f"/api/jobs/{job['id']}/cancel")
    assert cancelled.status_code == 202
    await wait_for(proxy, job, "cancelled")
    errors = await start_step(proxy, "errors")
    assert (await wait_for(proxy, errors, "done"))["log"].count("$ ") == 3  # prepare and two others


async def test_failed_step_has_its_status_and_last_output(
    proxy: LiveProxy, folders: Folders
) -> None:
    folders.program("errors", "print('Error: no rows'); raise SystemExit(1)")
    job = await start_step(proxy, "errors")
    failed = await wait_for(proxy, job, "failed")
    assert failed["job"]["exit_status"] == 1
    assert failed["job"]["message"] == "Error: no rows"
    assert "robustness" not in failed["log"]


async def test_first_page_of_a_long_log_is_its_end(proxy: LiveProxy, folders: Folders) -> None:
    folders.program("evaluate", "for i in range(5000): print('line', i)")
    job = await start_step(proxy, "evaluate")
    done = await wait_for(proxy, job, "done")
    assert len(done["log"]) == 16_000
    assert done["log"].endswith("line 4999\n")
    whole = await read_job(proxy, job, after=0)
    assert whole["log"].endswith(done["log"])
    assert "line 0\n" in whole["log"]


async def test_paid_step_requires_an_accepted_cost(proxy: LiveProxy, folders: Folders) -> None:
    folders.program("baseline", WAITING)
    dry = await proxy.client.post("/api/experiments/benchmark", json={"dry_run": True})
    estimate = dry.json()["estimate"]
    assert 0 < estimate["usd"] < estimate["most_usd"]
    assert estimate["calls"] == 80 * 2 * 3 * 2
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []
    for accepted in (None, 0, estimate["usd"] * 0.99):
        refused = await rejection(proxy, "benchmark", accept_usd=accepted)
        assert refused == (400, "cost_not_accepted", "accept_usd")
    job = await start_step(proxy, "benchmark", accept_usd=1.5)
    await wait_for(proxy, job, "running", progress=0.25)
    arguments, environment, _ = json.loads((folders.work / "told.json").read_text())
    options = dict(itertools.pairwise(arguments))
    assert options["--max-usd"] == "1.500000"
    assert options["--cloud-price"] == "0.15,0.075,0.6"
    assert options["--local-price"] == "0,0,0"
    assert options["--judge-model"] == "gpt-4o-mini"
    assert (environment["LOCAL_API_KEY"], environment["CLOUD_API_KEY"]) == (LOCAL_KEY, CLOUD_KEY)
    assert CLOUD_KEY not in " ".join(arguments)
    assert CLOUD_KEY not in (await read_job(proxy, job))["log"]


async def test_prompts_to_label_must_be_a_file_of_the_folder(
    proxy: LiveProxy, folders: Folders
) -> None:
    assert [problem["code"] for problem in (await overview(proxy))["label"]["problems"]] == [
        "data_missing"
    ]
    (folders.data / "prompts" / "mine.txt").write_text("A question\nAnother one\n")
    (folders.data / "prompts" / "--out.jsonl").write_text("{}")
    (folders.data / "secret.txt").write_text("x")
    label = (await overview(proxy))["label"]
    (file,) = [item for item in label["parameters"] if item["name"] == "file"]
    assert (file["choices"], file["default"]) == (["mine.txt"], "mine.txt")
    assert label["estimate"]["calls"] == 2 * 2 + 2 * 4
    for name in ("../secret.txt", str(folders.data / "secret.txt"), "--out.jsonl", "", 3):
        refused = await rejection(proxy, "label", parameters={"file": name}, accept_usd=9)
        assert refused == (400, None, "file")
    folders.program("label", WAITING)
    job = await start_step(proxy, "label", accept_usd=2, parameters={"pairwise": False})
    await wait_for(proxy, job, "running", progress=0.25)
    arguments, _, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[:2] == ["label", str(folders.data / "prompts" / "mine.txt")]
    assert arguments[3] == str(folders.data / "mine.labelled.jsonl")
    assert "--no-pairwise" in arguments


@pytest.mark.parametrize(
    ("step", "parameters", "param"),
    [
        ("evaluate", {"split": "train"}, "split"),
        ("evaluate", {"split": None}, "split"),
        ("evaluate", {"split": ["test"]}, "split"),
        ("evaluate", {"model": "../../etc"}, "model"),
        ("evaluate", {"out": "/etc/passwd"}, "out"),
        ("train", {"epochs": 0}, "epochs"),
        ("train", {"epochs": 21}, "epochs"),
        ("train", {"epochs": 2.5}, "epochs"),
        ("train", {"epochs": True}, "epochs"),
        ("train", {"epochs": "3; rm -rf /"}, "epochs"),
        ("train", {"train_share": 0}, "train_share"),
        ("train", {"auxiliary": "yes"}, "auxiliary"),
        ("benchmark", {"series": "../other"}, "series"),
        ("benchmark", {"series": "-x"}, "series"),
        ("benchmark", {"series": "a\n"}, "series"),
        ("benchmark", {"max_tokens": 63}, "max_tokens"),
    ],
)
async def test_invalid_parameter_choice_is_rejected_by_name(
    shared: LiveProxy, step: str, parameters: Json, param: str
) -> None:
    assert await rejection(shared, step, parameters=parameters) == (400, None, param)


@pytest.mark.parametrize("body", [b"[]", b"no", b'{"parameters": 3}', b'{"accept_usd": -1}'])
async def test_invalid_body_is_rejected(shared: LiveProxy, body: bytes) -> None:
    answer = await shared.client.post("/api/experiments/evaluate", content=body)
    assert answer.status_code == 400


async def test_unknown_steps_and_jobs_are_not_found(shared: LiveProxy) -> None:
    assert (await rejection(shared, "rm"))[0] == 404
    for path in ("/api/experiments/rm/results", "/api/jobs/job_of_nobody"):
        assert (await shared.client.get(path)).status_code == 404, path
    answer = await shared.client.post("/api/jobs/job_of_nobody/cancel")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "job_id")


@pytest.fixture
async def shared(proxy: LiveProxy) -> LiveProxy:
    return proxy


# ── Authorization and requirements ────────────────────────────────────────────────────────────


async def test_experiments_require_an_admin_key(start: StartProxy, folders: Folders) -> None:
    keys = [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]
    proxy = await start(folders.config() | {"server": {"api_keys": keys}}, command=COMMAND)
    calls = [
        ("GET", "/api/experiments"), ("POST", "/api/experiments/evaluate"),
        ("GET", "/api/experiments/evaluate/results"), ("GET", "/api/jobs"),
        ("GET", "/api/jobs/x"), ("POST", "/api/jobs/x/cancel"),
    ]  # fmt: skip
    for method, path in calls:
        for key, status in ((None, 401), ("sk-team", 403)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            answer = await proxy.client.request(method, path, headers=headers)
            assert answer.status_code == status, path
    answer = await proxy.client.get("/api/jobs", headers={"authorization": "Bearer sk-boss"})
    assert answer.json()["jobs"] == []


async def test_other_origins_cannot_start_a_step(proxy: LiveProxy) -> None:
    answer = await proxy.client.post(
        "/api/experiments/evaluate",
        content=b"{}",
        headers={"origin": "https://evil.example", "content-type": "text/plain"},
    )
    assert answer.status_code == 403
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []


async def test_disabled_experiments_start_nothing(start: StartProxy, folders: Folders) -> None:
    proxy = await start(folders.config(enabled=False), command=COMMAND)
    assert await rejection(proxy, "evaluate") == (403, "experiments_disabled", None)
    step = (await overview(proxy))["evaluate"]
    assert step["can_run"] is False


def make_planner(tmp_path: Path, *installed: str, **changes: Any) -> Planner:
    fields = merge(config_fields(tmp_path, "http://127.0.0.1:9", "http://127.0.0.1:9"), changes)
    path = tmp_path / "pipeline.yaml"
    path.write_text(json.dumps(fields))
    config = load_config(path, environ={})
    tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
    has = installed.__contains__
    return Planner(config, Prices(tiers, {}), TokenCounter(), has_package=has)


ALL = ("torch", "sklearn", "optimum", "plotly", "matplotlib")


def codes(steps: Planner, name: str) -> list[str]:
    return [problem.code for problem in steps.problems(STEPS_BY_NAME[name])]


def test_without_the_train_extra_steps_name_the_install_command(tmp_path: Path) -> None:
    data = {"experiments": {"data": str(tmp_path), "results": str(tmp_path / "none")}}
    without_extra = make_planner(tmp_path, **data)
    assert without_extra.lacks_extra
    for name in ("train", "ablation", "baselines"):
        (problem,) = without_extra.problems(STEPS_BY_NAME[name])
        assert (problem.code, problem.command) == ("train_missing", INSTALL_COMMAND)
    assert codes(without_extra, "evaluate") == codes(without_extra, "errors") == []
    with_extra = make_planner(tmp_path, *ALL, **data)
    assert not with_extra.lacks_extra
    assert all(codes(with_extra, name) == [] for name in ("train", "ablation", "baselines"))
    assert codes(with_extra, "report") == ["results_missing"]


async def test_without_the_train_extra_training_is_rejected(proxy: LiveProxy) -> None:
    answer = await proxy.client.post("/api/experiments/baselines", json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "train_missing")
    assert error["message"].endswith(f"Run: {INSTALL_COMMAND}")
    extra = (await proxy.client.get("/api/experiments")).json()["train"]
    assert extra == {"is_installed": False, "command": INSTALL_COMMAND}


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    without_data = make_planner(tmp_path, *ALL, experiments={"work": str(tmp_path / "work")})
    assert (
        codes(without_data, "evaluate")
        == codes(without_data, "train")
        == codes(without_data, "label")
    )
    assert codes(without_data, "evaluate") == ["data_missing"]
    assert codes(without_data, "benchmark") == []
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "prepared.msgpack.gz").touch()
    assert codes(without_data, "evaluate") == []
    assert codes(without_data, "train") == ["data_missing"]
    blank = {"work": str(tmp_path / "work")}
    without_model = make_planner(
        tmp_path, experiments=blank, routing={"model_path": str(tmp_path / "no")}
    )
    assert codes(without_model, "errors") == ["model_missing"]
    (tmp_path / "file").touch()
    read_only = make_planner(tmp_path, experiments={"work": str(tmp_path / "file" / "work")})
    assert codes(read_only, "benchmark") == ["readonly"]
    unpriced = make_planner(tmp_path, judge={"model": "gpt-unknown"})
    assert codes(unpriced, "benchmark") == ["price_missing"]
    openai = {"base_url": "https://api.openai.com/v1", "api_key": ""}
    without_key = make_planner(tmp_path, upstreams={"cloud": openai})
    assert codes(without_key, "benchmark") == ["key_missing", "key_missing"]


def test_estimate_is_calls_times_tokens_times_price(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    steps = make_planner(tmp_path, **folders.config())
    (folders.data / "annotated" / "a.jsonl").write_text(
        '{"question": "Q", "answer": "A", "human_score": 3}\n'
        '{"question": "Q", "answer": "A", "human_score": 3, "judge_score": 4}\n'
    )
    estimate = steps.estimate(STEPS_BY_NAME["validate-judge"], {"file": "a.jsonl"})
    assert (estimate.calls, estimate.output_tokens) == (1, 80)
    assert estimate.usd == pytest.approx((estimate.input_tokens * 0.15 + 80 * 0.60) / 1e6)
    assert estimate.most_usd == pytest.approx((estimate.input_tokens * 0.15 + 512 * 0.60) / 1e6)
    free = steps.estimate(STEPS_BY_NAME["train"], {"epochs": 6, "train_share": 0.5})
    assert (free.usd, free.calls) == (0, 0)


def test_omitted_parameters_have_defaults(tmp_path: Path) -> None:
    steps = make_planner(tmp_path, *ALL)
    for step in STEPS:
        if not any(parameter.kind == "file" for parameter in step.parameters):
            assert steps.resolve(step, {}).keys() == {
                parameter.name for parameter in step.parameters
            }
    with pytest.raises(InvalidRequest, match="one of: none available"):
        steps.resolve(STEPS_BY_NAME["label"], {})


def test_training_and_evaluation_do_not_change_the_serving_model(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    steps = make_planner(
        tmp_path, *ALL, **folders.config(), routing={"model_path": "models/router"}
    )
    train = STEPS_BY_NAME["train"]
    prepare, fit, export = steps.plan(train, steps.resolve(train, {}), max_usd=0).commands
    assert prepare[:3] == ["prepare", "--data", str(folders.data)]
    assert fit[0] == "train"
    assert export[-1] == str(Path("models/candidate"))
    for model, folder in (("serving", "router"), ("candidate", "candidate")):
        chosen = steps.resolve(STEPS_BY_NAME["ablation"], {"model": model})
        command = steps.plan(STEPS_BY_NAME["ablation"], chosen, max_usd=0).commands[-1]
        assert command[command.index("--model") + 1] == str(Path("models") / folder)


def test_step_without_results_has_no_headline(tmp_path: Path) -> None:
    folders = make_planner(tmp_path, experiments={"results": str(tmp_path / "none")}).folders
    for step in STEPS:
        results = read_results(step, folders)
        if step.name != "train":
            assert key_figure(step, results) is None


# ── Shutdown ──────────────────────────────────────────────────────────────────────────────────

SERVER = """
import sys
from pathlib import Path
from proxy.server.app import Proxy
from proxy.config import load_config
from proxy.server.server import Server
path = Path(sys.argv[1])
Server(Proxy(load_config(path, environ={}), path=path, command=sys.argv[2:])).run()
"""


@contextmanager
def served(path: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    """The proxy in its own process, and a client."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(path), *COMMAND])

    def answers() -> bool:
        assert process.poll() is None
        with suppress(httpx2.TransportError):
            client.get("/health")
            return True
        return False

    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            until_met(answers)
            yield process, client
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_stopped_proxy_leaves_no_process_and_interrupts_its_job(
    tmp_path: Path, folders: Folders, number: signal.Signals, unused_tcp_port: int
) -> None:
    fields = config_fields(tmp_path, "http://127.0.0.1:9", "http://127.0.0.1:9")
    changes = folders.config() | {"server": {"port": unused_tcp_port}}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(merge(fields, changes)))
    folders.program("evaluate", WAITING)
    report = folders.work / "told.json"
    with served(config, unused_tcp_port) as (process, client):
        job = client.post("/api/experiments/evaluate", json={}).json()["job"]
        until_met(lambda: report.exists() and report.read_text().endswith("]"))
        pid = json.loads(report.read_text())[2]
        process.send_signal(number)
        status = process.wait(PATIENCE_SECONDS)
        assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        until_met(lambda: is_gone(pid))
    with served(config, unused_tcp_port) as (_, client):
        (stored_job,) = client.get("/api/jobs").json()["jobs"]
        assert (stored_job["id"], stored_job["state"]) == (job["id"], "interrupted")
        assert client.get("/api/experiments").json()["running"] is None
