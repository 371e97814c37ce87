"""The command line as a person meets it: help, exit codes, and one clear line when it fails."""

import json
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from fakes import FakeUpstream, refused_address
from proxy import __version__
from proxy.cli.database import db
from proxy.cli.main import COMMANDS as LISTED
from proxy.cli.main import main
from proxy.config import RoutingConfig, load_config, load_prices, pricing_path
from proxy.record import CallRecord, Ending, Reason, Target
from proxy.storage.migrations import MIGRATIONS, NEWEST
from router_model.bundled import BUNDLED_FILES
from router_model.manifest import Manifest
from served import Served
from stored import DAY, any_records, execute, fill, finished, spoil

pytest_plugins = ["databases"]

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """For commands that serve; they must end by themselves here."""
    return subprocess.run(
        [sys.executable, "-c", "from proxy.cli.main import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


COMMANDS = dict(commands(main))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a router model, and tiers that nobody answers at."""
    path = tmp_path / "router.yaml"
    path.write_text(
        f"""\
upstreams:
  local: {{base_url: http://127.0.0.1:9/v1, model: phi3}}
  cloud: {{base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}}
routing: {{model_path: {tmp_path}/nowhere, threshold: 0.4}}
storage: {{url: "sqlite:///{tmp_path}/rows.db"}}
"""
    )
    return path


@pytest.fixture
def bad_config(config: Path) -> Path:
    config.write_text(config.read_text() + "server:\n  prt: 80\n")
    return config


BAD_LINE = 7


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example_that_names_it(name: str) -> None:
    for flag in ("--help", "-h"):
        result = run(name, flag)
        assert result.exit_code == 0
        text = " ".join(result.output.split())
        assert f"Example: hybrid-llm {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_options_exist(name: str) -> None:
    command = COMMANDS[name]
    assert command.help is not None
    example = command.help.split("Example:")[1].split()
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in example if word.startswith("--")} <= known


def test_what_a_new_user_needs_comes_first() -> None:
    listed = re.findall(r"(?m)^  ([a-z][a-z-]+)  ", run("--help").output)
    assert listed[:2] == ["init", "serve"]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("name", LISTED)
def test_the_listed_short_help_is_the_commands_own(name: str) -> None:
    """`hybrid-llm --help` prints the table; it imports no command."""
    assert COMMANDS[name].get_short_help_str(limit=200) == LISTED[name][-1]


@pytest.mark.parametrize("arguments", [[], *([name] for name in LISTED), ["db", "size"]], ids=str)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = """
import sys
from proxy.cli.main import main
main([*sys.argv[1:], "--help"], standalone_mode=False)
heavy = {"numpy", "onnxruntime", "litestar", "uvicorn", "peewee", "rich", "httpx2", "msgspec"}
print("heavy:", sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage:")
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("srve")
    assert result.exit_code == 2
    assert "No such command 'srve'" in result.output


def test_version() -> None:
    assert run("--version").output == f"hybrid-llm, version {__version__}\n"


def test_check_config_accepts(config: Path) -> None:
    result = run("check-config", config)
    assert (result.exit_code, result.output) == (0, f"{config}: ok\n")


def test_check_config_warns_of_what_changes_nothing(config: Path) -> None:
    text = config.read_text().replace("storage: {", "storage: {prompts: none, ")
    config.write_text(text + "judge: {enabled: true}\n")
    result = run("check-config", config)
    assert result.exit_code == 0
    assert result.stdout == f"{config}: ok\n"
    assert result.stderr.startswith(f"{config}: warning: judge.enabled: ")


def test_check_config_refuses(bad_config: Path) -> None:
    result = run("check-config", bad_config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{bad_config}:{BAD_LINE}: server.prt: unknown key\n"


@pytest.mark.parametrize(
    "arguments", [["check-config"], ["route", "Hi", "--config"], ["serve", "--config"]]
)
def test_a_missing_file_is_said_to_be_missing(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    result = run(*arguments, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{path}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("name", ["serve", "demo", "route"])
def test_a_bad_configuration_is_refused_before_anything_starts(name: str, bad_config: Path) -> None:
    text = ["Hi"] if name == "route" else []
    result = run(name, *text, "--config", bad_config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{bad_config}:{BAD_LINE}: server.prt: unknown key\n"


@pytest.mark.parametrize("name", ["serve", "demo"])
def test_an_impossible_port_is_refused(name: str, config: Path) -> None:
    result = run(name, "--config", config, "--port", "65536")
    assert result.exit_code == 2
    assert "65536 is not in the range" in result.stderr


def test_serve_on_a_port_that_is_taken(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_process("serve", "--config", config, "--port", str(port))
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert f"('127.0.0.1', {port}): address already in use" in done.stderr


def test_serve_with_a_database_that_cannot_be_used(config: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.db").mkdir()
    done = run_process("serve", "--config", config, "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"storage.url: sqlite:///{tmp_path}/rows.db cannot be used: unable to open database file"
    )
    assert "Traceback" not in done.stderr


# Where a prompt would go.


def test_route_without_a_model_says_so(config: Path) -> None:
    result = run("route", "What is 2+2?", "--config", config, "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown.pop("latency_ms") >= 0
    assert shown == {
        "target": "cloud",
        "model": "gpt-4o-mini",
        "score": None,
        "p_local": None,
        "p_cloud": None,
        "threshold": 0.4,
        "reason": "router_unavailable",
        "router_model": None,
    }


def test_route_as_a_table(config: Path) -> None:
    result = run("route", "What is 2+2?", "--config", config)
    assert result.exit_code == 0
    rows = dict(line.split() for line in result.stdout.splitlines())
    assert rows["target"] == "cloud"
    assert rows["reason"] == "router_unavailable"
    assert rows["threshold"] == "0.4000"


def test_route_leaves_nothing_behind(config: Path, tmp_path: Path) -> None:
    run("route", "Hi", "--config", config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router.yaml"]


def route_with_the_shipped_model(folder: Path, text: str, threshold: str) -> dict[str, object]:
    path = folder / "router.yaml"
    path.write_text(
        "upstreams:\n"
        "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
        "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
        f"routing: {{model_path: {ROOT}/data/models/router, threshold: {threshold}}}\n"
    )
    result = run("route", text, "--config", path, "--json")
    assert result.exit_code == 0
    shown: dict[str, object] = json.loads(result.stdout)
    return shown


def test_route_with_the_shipped_model(tmp_path: Path) -> None:
    easy = route_with_the_shipped_model(tmp_path, "What is the capital of France?", "auto")
    assert easy["reason"] == "score"
    assert easy["router_model"]
    numbers = [easy[name] for name in ("score", "p_local", "p_cloud", "threshold")]
    for number in numbers:
        assert isinstance(number, float)
        assert 0 <= number <= 1
    score = easy["score"]
    reached = route_with_the_shipped_model(tmp_path, "What is the capital of France?", f"{score}")
    assert (reached["target"], reached["model"]) == ("local", "phi3")
    missed = route_with_the_shipped_model(tmp_path, "What is the capital of France?", "1")
    assert (missed["target"], missed["model"]) == ("cloud", "gpt-4o-mini")


def test_the_shipped_default_configuration_names_the_shipped_model() -> None:
    config = load_config(ROOT / "configs" / "default.yaml", environ={})
    assert (ROOT / config.routing.model_path / "manifest.json").exists()


# ── Without a clone ──────────────────────────────────────────────────────────────────────────


def test_the_wheel_has_what_the_code_looks_for() -> None:
    """The names of `bundled`, and no other; tests/deployment/test_release.py looks into a wheel."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = wheel["targets"]["wheel"]["force-include"]
    assert included == {name: f"router_model/bundled/{name}" for name in BUNDLED_FILES}
    assert all((ROOT / name).exists() for name in BUNDLED_FILES)


def test_in_an_empty_folder_the_packages_own_files_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(run("route", "Hi", "--json").stdout)
    assert told["reason"] == "score"
    assert told["router_model"] == Manifest.load(ROOT / "data/models/router").version
    config = tmp_path / "own.yaml"
    config.write_text((ROOT / "configs/default.yaml").read_text())
    loaded = load_config(config, environ={})
    assert load_prices(pricing_path(loaded, config))["gpt-4o-mini"].output == 0.6
    assert run("route", "Hi", "--json", "--config", config).exit_code == 0
    assert list(tmp_path.iterdir()) == [config]


def test_files_of_ones_own_come_before_the_packages(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config.rename("hybrid-llm.yaml")
    Path("pricing.yaml").write_text("models: {mine: {input: 1, output: 2}}\n")
    told = json.loads(run("route", "Hi", "--json").stdout)
    assert (told["threshold"], told["model"]) == (0.4, "gpt-4o-mini")
    loaded = load_config(Path("hybrid-llm.yaml"), environ={})
    assert set(load_prices(pricing_path(loaded, Path("hybrid-llm.yaml")))) == {"mine"}
    Path("data/models/router").mkdir(parents=True)
    assert RoutingConfig().model_folder == Path("data/models/router")


@pytest.mark.parametrize("name", ["configs/default.yaml", "configs/none.yaml"])
def test_a_wrong_path_that_was_given_is_no_wish_for_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("route", "Hi", "--config", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{name}: cannot be read: No such file or directory\n"
    assert RoutingConfig(model_path="data/models/other").model_folder == Path("data/models/other")


def test_the_packages_model_is_replaced_by_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = ROOT / "data/models/router"
    before = (shipped / "manifest.json").read_bytes()
    result = run("promote", shipped, "--force")
    assert result.exit_code == 0, result.output
    assert "In use: data/models/router." in result.output
    for folder in ("data/models/router", "data/models/router.previous"):
        assert Manifest.load(Path(folder)) == Manifest.load(shipped)
    assert (shipped / "manifest.json").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc takes no file from anyone")
def test_serve_in_a_folder_that_cannot_be_written() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", "serve", "--port", "0"],
        cwd="/proc", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = "storage.url: sqlite:///data/router.db cannot be used: [Errno "
    assert done.stderr.splitlines()[-1].startswith(said)


# ── What the rows say ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(config: Path, url: str) -> Path:
    """A configuration of a database that is not there yet, or empty."""
    store_in(config, url)
    return config


def store_in(config: Path, url: str) -> None:
    fields = config.read_text().partition("storage:")[0]
    config.write_text(f'{fields}storage: {{url: "{url}"}}\n')


@pytest.fixture
def records(url: str) -> list[CallRecord]:
    """Of three requests of now, and one of four days ago."""
    now = time.time()
    common = {"target": Target.CLOUD, "model": "gpt-4o-mini", "reason": Reason.FORCED}
    made = [
        finished(created_at=now - age, turns=[("user", "Hello")], cost_usd=0.25, **common)
        for age in (4 * DAY, 2.0, 1.0)
    ]
    made.append(finished(created_at=now, ending=Ending.REJECTED, error="No key."))
    fill(url, made)
    return made


def check_failed(result: Result, said: str) -> None:
    """One line that says why, and exit code 1."""
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert result.output.startswith("Error: ")
    assert said in result.output


READING = [["stats"], ["explain", "req_1"], ["export", "--out", "-"]]


CARING = [["db", "size"], ["db", "migrate"], ["db", "vacuum"], ["db", "check"]]


@pytest.mark.parametrize("arguments", [*READING, *CARING])
def test_without_a_database_there_is_nothing_to_say(
    config: Path, tmp_path: Path, arguments: list[str]
) -> None:
    check_failed(
        run(*arguments, "--config", config),
        f"{tmp_path}/rows.db does not exist: the proxy has recorded",
    )
    assert not (tmp_path / "rows.db").exists()


@pytest.mark.parametrize("arguments", READING)
def test_an_older_or_newer_database_is_not_asked(
    asked: Path, url: str, records: list[CallRecord], arguments: list[str]
) -> None:
    execute(url, "INSERT INTO migrations VALUES (99, 'tomorrow', 1.0)")
    check_failed(run(*arguments, "--config", asked), "has schema 99, not ")


def test_a_server_that_is_not_there(config: Path) -> None:
    with refused_address() as address:
        url = f"postgresql://somebody:geheim@{urlsplit(address).netloc}/rows"
        store_in(config, url)
        for arguments in (*READING, *CARING):
            result = run(*arguments, "--config", config)
            assert result.exit_code == 1
            assert result.output.startswith("Error: storage.url: postgresql://somebody:***@127")
            assert "geheim" not in result.output
            assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "password", ["Hun%ter2Long", "Hun ter2Long", "Hun/ter2", "Hun@ter2", "Hun[2"]
)
def test_no_command_shows_an_unescaped_database_password(config: Path, password: str) -> None:
    store_in(config, f"postgresql://u:{password}@127.0.0.1:1/db?password=Hun2")
    for arguments in (*READING, *CARING, ["judge", "--once"], ["serve"]):
        result = run(*arguments, "--config", config)
        assert result.exit_code == 2
        assert "storage.url: the password must be escaped: write " in result.output
        assert "Hun" not in result.output
        assert "ter2" not in result.output
    assert run("check-config", config).output == run("serve", "--config", config).output


def test_no_command_shows_the_drivers_words_on_an_address(config: Path) -> None:
    store_in(config, "postgresql://u:Hun2@127.0.0.1:1/db?password=Hun2&nosuch=1")
    for arguments in (*READING, *CARING, ["judge", "--once"], ["serve"]):
        result = run(*arguments, "--config", config)
        assert result.exit_code == 1
        assert "storage.url: postgresql://u:***@127.0.0.1:1/db?" in result.output
        assert "Hun2" not in result.output
        assert "Traceback" not in result.output


async def test_the_start_shows_the_database_without_its_password(
    tmp_path: Path, postgres_url: str
) -> None:
    address = urlsplit(postgres_url)
    url = f"postgresql://{address.username}:geheim@{address.hostname}:{address.port}{address.path}"
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        changes = {"storage": {"url": f"{url}?password=geheim2"}}
        async with Served(tmp_path, local, cloud, changes=changes) as proxy:
            assert await proxy.stop() == 0
    log = (tmp_path / "proxy.log").read_text()
    assert f"postgresql://{address.username}:***@" in log.replace("\n", "")
    assert "geheim" not in log


def test_stats(asked: Path, records: list[CallRecord]) -> None:
    text = " ".join(run("stats", "--config", asked).output.split())
    for words in (
        "requests 4",
        "failed 1 (25.0%)",
        "spent $0.7500",
        "forced 3 75.0% $0.7500 $0.00",
    ):
        assert words in text
    newest = " ".join(run("stats", "--config", asked, "--since", "1d").output.split())
    assert "spent $0.50" in newest
    assert "requests 3 since 20" in newest


def test_stats_of_nothing(asked: Path, url: str) -> None:
    fill(url, [])
    result = run("stats", "--config", asked)
    assert (result.exit_code, result.output) == (0, "No requests are recorded yet.\n")


def test_stats_as_json(asked: Path, records: list[CallRecord]) -> None:
    result = run("stats", "--config", asked, "--json", "--by", "tier", "--by", "ending")
    told = json.loads(result.output)
    assert told.keys() == {
        "since",
        "total",
        "by",
        "latency",
        "drift",
        "candidate",
        "quality",
        "shadow_router",
    }
    assert (told["since"], told["total"]["requests"], told["total"]["cost_usd"]) == (0, 4, 0.75)
    counts = {
        name: {one["value"]: one["requests"] for one in groups}
        for name, groups in told["by"].items()
    }
    assert counts == {"tier": {"cloud": 3, "none": 1}, "ending": {"ok": 3, "rejected": 1}}
    assert {one["target"] for one in told["latency"]} == {"cloud", "none"}
    assert told["quality"]["recovered"] == {
        "value": None, "low": None, "high": None, "requests": 0,
        "missing": "not enough data (0 of 100)",
    }  # fmt: skip


def test_stats_of_a_candidate(asked: Path, url: str) -> None:
    """By the threshold that it would have in the place of the router model."""
    scored = {"target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE, "score": 0.9}
    fill(url, [finished(**scored, threshold=0.4, candidate_score=0.6)])
    no_candidate = asked.read_text()
    for threshold, agreed in (("0.4", 1), ("0.61", 0), ("auto", 0)):
        candidate = f"threshold: {threshold}, shadow_router: {{path: {ROOT}/data/models/router}}"
        asked.write_text(no_candidate.replace("threshold: 0.4", candidate))
        report = json.loads(run("stats", "--config", asked, "--json").output)
        told = report["shadow_router"]
        assert report["candidate"] == told  # the old name
        assert (told["requests"], told["agreed"]) == (1, agreed)
    asked.write_text(no_candidate.replace("threshold: 0.4", "shadow_router: {path: nowhere}"))
    result = run("stats", "--config", asked, "--json")
    assert json.loads(result.stdout)["candidate"] is None
    assert "Warning: routing.shadow_router: no router model in nowhere" in result.stderr


@pytest.mark.parametrize("since", ["yesterday", "1y", "", "-1h", "1.5h"])
def test_an_age_that_is_none(config: Path, since: str) -> None:
    result = run("stats", "--config", config, "--since", since)
    assert result.exit_code == 2
    assert f"'{since}' is not a duration such as 90m, 24h, 7d or 4w" in result.output


def test_explain(asked: Path, records: list[CallRecord]) -> None:
    request_id = records[1].id
    result = run("explain", request_id, "--config", asked)
    assert result.exit_code == 0
    assert result.output.startswith(f"{request_id}: chat.completions, 20")
    assert "It went to gpt-4o-mini (cloud): the client named it." in result.output
    row = json.loads(run("explain", request_id, "--config", asked, "--json").output)
    assert (row["id"], row["prompt"]) == (request_id, [{"role": "user", "content": "Hello"}])
    assert (row["judgements"], row["feedback"]) == ([], None)


HOSTILE = "gpt\n[red]\x1b[2J\x9b1m\u202e\u2066[/link][link=http://x]\r"


def test_text_of_clients_cannot_drive_the_terminal(asked: Path, url: str) -> None:
    names = {
        "requested_model": HOSTILE,
        "model": HOSTILE,
        "error": HOSTILE,
        "fallback_why": HOSTILE,
    }
    record = finished(target=Target.CLOUD, fallback_from=Target.LOCAL, **names)
    fill(url, [record])
    for arguments in (["stats", "--by", "model"], ["explain", record.id]):
        for more in ([], ["--json"]):
            result = run(*arguments, *more, "--config", asked)
            assert result.exit_code == 0
            assert all(line.isprintable() for line in result.output.split("\n"))
            if more:
                assert json.dumps(HOSTILE) in json.dumps(json.loads(result.output))
            else:
                assert "gpt\\n[red]\\x1b[2J\\x9b1m" in "".join(result.output.split("\n"))


def test_explain_an_unknown_request(asked: Path, records: list[CallRecord]) -> None:
    check_failed(run("explain", "req_1", "--config", asked), "request req_1 was not found")


def test_export(asked: Path, records: list[CallRecord], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("what was there before")
    result = run("export", "--config", asked, "--since", "3d", "--out", out)
    assert (result.exit_code, result.output) == (0, f"Wrote 3 requests to {out}.\n")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [record.id for record in records[1:]]
    whole = run("export", "--config", asked, "--out", "-")
    assert [json.loads(line)["id"] for line in whole.stdout.splitlines()] == [
        record.id for record in records
    ]


def test_export_to_where_nothing_can_be_written(
    asked: Path, records: list[CallRecord], tmp_path: Path
) -> None:
    out = tmp_path / "no" / "such" / "folder"
    check_failed(run("export", "--config", asked, "--out", out), str(out.parent))


def test_db_size(asked: Path, records: list[CallRecord]) -> None:
    result = run("db", "size", "--config", asked)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert {"requests 4", "feedback 0"} <= set(lines)
    assert lines[-1].endswith(" MB")


def test_db_migrate(asked: Path, url: str) -> None:
    execute(url, "CREATE TABLE unrelated (a INTEGER)")  # which makes the file
    for expected in ([f"schema {step.number}: {step.name}" for step in MIGRATIONS], []):
        result = run("db", "migrate", "--config", asked)
        assert result.exit_code == 0
        assert result.output.splitlines() == [*expected, f"schema {NEWEST}: up to date"]


def test_db_vacuum(asked: Path, records: list[CallRecord]) -> None:
    result = run("db", "vacuum", "--config", asked)
    assert result.exit_code == 0
    assert re.fullmatch(r"[\d.]+ MB before, [\d.]+ MB now\n", result.output)


def test_db_check_finds_what_is_wrong_and_mends_it(
    asked: Path, url: str, records: list[CallRecord]
) -> None:
    check = ("db", "check", "--config", asked)
    assert (run(*check).exit_code, run(*check).output) == (0, "ok\n")
    execute(url, "UPDATE hours SET cost_pico = cost_pico + 1 WHERE target = 'cloud'")
    found = run(*check)
    assert found.exit_code == 1
    hour = int(records[1].created_at) // 3600 * 3600
    assert f"hours: hour {hour} is not what its rows add up to\n" in found.output
    mended = run(*check, "--repair")
    assert (mended.exit_code, mended.output) == (0, f"{found.output}repaired\n")
    assert (run(*check).exit_code, run(*check).output) == (0, "ok\n")


def test_db_check_of_a_broken_file(config: Path, sqlite_url: str) -> None:
    fill(sqlite_url, any_records(2_000))
    spoil(sqlite_url)
    found = run("db", "check", "--config", config)
    assert found.exit_code == 1
    assert "malformed" in found.output or "page" in found.output
    check_failed(run("db", "check", "--repair", "--config", config), "which no sums can mend")


def test_the_groups_commands_have_help_with_an_example() -> None:
    for name, command in commands(db):
        result = run("db", name, "--help")
        assert result.exit_code == 0
        assert f"Example: hybrid-llm db {name}" in result.output
        assert command.help is not None
