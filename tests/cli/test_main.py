"""The command line: help, exit codes, and one-line error messages."""

import asyncio
import csv
import io
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

from fakes import FakeUpstream, StubModel, refused_address
from proxy import __version__
from proxy.cli.database import db
from proxy.cli.main import COMMANDS as LISTED
from proxy.cli.main import main
from proxy.cli.routing import _time_decision
from proxy.config import RoutingConfig, load_config, load_prices, pricing_path
from proxy.record import CallRecord, Ending, Reason, Target, key_hash
from proxy.routing import Router, Scorer
from proxy.server.listening import check_address, host_to_open
from proxy.storage.migrations import MIGRATIONS, NEWEST
from proxy.storage.stored_keys import KeyRow, StoredKeys
from router_model.bundled import BUNDLED_FILES
from router_model.manifest import Manifest
from router_model.score import Score
from served import Served
from stored import DAY, connected, corrupt, execute, fill, finished, random_records, read

pytest_plugins = ["databases"]

ROOT = Path(__file__).parents[2]


def run(
    *arguments: str | Path,
    env: dict[str, str] | None = None,
    input: str | None = None,  # noqa: A002
) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, words, env=env, input=input)


def run_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process, for commands that serve; they must exit by themselves."""
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
    """A configuration without a router model, with unreachable tiers."""
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
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    for flag in ("--help", "-h"):
        result = run(name, flag)
        assert result.exit_code == 0
        text = " ".join(result.output.split())
        assert f"Example: hybrid-llm {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_options_in_examples_exist(name: str) -> None:
    command = COMMANDS[name]
    assert command.help is not None
    example = command.help.split("Example:")[1].split()
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in example if word.startswith("--")} <= known


def test_help_lists_init_and_serve_first() -> None:
    listed = re.findall(r"(?m)^  ([a-z][a-z-]+)  ", run("--help").output)
    assert listed[:2] == ["init", "serve"]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("name", LISTED)
def test_listed_help_equals_the_commands_short_help(name: str) -> None:
    """`hybrid-llm --help` prints this list without importing the commands."""
    assert COMMANDS[name].get_short_help_str(limit=200) == LISTED[name][-1]


@pytest.mark.parametrize("arguments", [[], ["db"], ["prices"], ["learn"]], ids=str)
def test_lists_of_commands_fit_80_columns(arguments: list[str]) -> None:
    """One line for each command, and none is cut off."""
    output = run(*arguments, "--help", env={"COLUMNS": "80"}).output
    listed = output.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert listed
    for line in listed:
        assert re.fullmatch(r"  [a-z-]+ +\S.*\.", line), line
        assert len(line) <= 80
        assert not line.endswith("...")


@pytest.mark.parametrize("arguments", [[], *([name] for name in LISTED), ["db", "size"]], ids=str)
def test_help_imports_no_heavy_package(arguments: list[str]) -> None:
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


def test_check_config_accepts_a_valid_configuration(config: Path) -> None:
    result = run("check-config", config)
    assert (result.exit_code, result.output) == (0, f"{config}: ok\n")


def test_check_config_warns_of_settings_without_effect(config: Path) -> None:
    text = config.read_text().replace("storage: {", "storage: {prompts: none, ")
    config.write_text(text + "judge: {enabled: true}\n")
    result = run("check-config", config)
    assert result.exit_code == 0
    assert result.stdout == f"{config}: ok\n"
    assert result.stderr.startswith(f"{config}: warning: judge.enabled: ")


def test_check_config_rejects_an_unknown_key(bad_config: Path) -> None:
    result = run("check-config", bad_config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{bad_config}:{BAD_LINE}: server.prt: unknown key\n"


@pytest.mark.parametrize(
    "arguments", [["check-config"], ["route", "Hi", "--config"], ["serve", "--config"]]
)
def test_a_missing_configuration_is_reported(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    result = run(*arguments, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{path}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("name", ["serve", "demo", "route"])
def test_an_invalid_configuration_is_rejected_before_startup(name: str, bad_config: Path) -> None:
    text = ["Hi"] if name == "route" else []
    result = run(name, *text, "--config", bad_config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{bad_config}:{BAD_LINE}: server.prt: unknown key\n"


@pytest.mark.parametrize("name", ["serve", "demo"])
def test_an_invalid_port_is_rejected(name: str, config: Path) -> None:
    result = run(name, "--config", config, "--port", "65536")
    assert result.exit_code == 2
    assert "65536 is not in the range" in result.stderr


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--workers", "2"], ["demo"]], ids=str)
def test_a_port_in_use_is_reported_before_anything_starts(
    arguments: list[str], config: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_process(*arguments, "--config", config, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"Error: Port {port} is in use on 127.0.0.1. Choose another port with --port N or "
        "server.port."
    )
    assert "ERROR" not in done.stderr
    assert "router model" not in done.stderr


def test_a_port_that_was_just_released_is_not_in_use(config: Path) -> None:
    """A closed connection keeps its address in TIME_WAIT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    check_address("127.0.0.1", port)


def test_an_address_of_another_machine_is_reported(config: Path) -> None:
    config.write_text(config.read_text() + "server: {allow_anonymous: true}\n")
    done = run_process("serve", "--config", config, "--host", "192.0.2.1", "--port", "8080")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: 192.0.2.1 is not an address of this machine. Check --host and server.host."
    )


def test_serve_reports_an_unusable_database(config: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.db").mkdir()
    done = run_process("serve", "--config", config, "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"storage.url: sqlite:///{tmp_path}/rows.db cannot be used: unable to open database file"
    )
    assert "Traceback" not in done.stderr


# Routing a prompt.


def test_route_without_a_router_model_reports_router_unavailable(config: Path) -> None:
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
        "merit": None,
        "gain": None,
        "expected_cloud_usd": None,
        "threshold": 0.4,
        "reason": "router_unavailable",
        "unreadable": None,
        "second_look": False,
        "rule": None,
        "router_model": None,
    }


def test_route_prints_a_table(config: Path) -> None:
    result = run("route", "What is 2+2?", "--config", config)
    assert result.exit_code == 0
    rows = dict(line.split() for line in result.stdout.splitlines())
    assert rows["target"] == "cloud"
    assert rows["reason"] == "router_unavailable"
    assert rows["threshold"] == "0.4000"


def test_route_names_the_rule(config: Path) -> None:
    rule = "{name: regulated advice, when: {words: dosage}, use: local}"
    text = config.read_text()
    assert "routing: {" in text
    config.write_text(text.replace("routing: {", f"routing: {{rules: [{rule}], ", 1))
    shown = json.loads(run("route", "Which dosage?", "--config", config, "--json").stdout)
    assert (shown["target"], shown["reason"]) == ("local", "rule")
    assert shown["rule"] == "regulated advice"


def test_route_reads_a_long_prompt_from_standard_input(config: Path) -> None:
    rule = "{name: regulated advice, when: {words: dosage}, use: local}"
    text = config.read_text()
    config.write_text(text.replace("routing: {", f"routing: {{rules: [{rule}], ", 1))
    prompt = "Which dosage?\n" + "It is for a child.\n" * 20_000
    shown = json.loads(run("route", "-", "--config", config, "--json", input=prompt).stdout)
    assert shown["rule"] == "regulated advice"


@pytest.mark.parametrize(("text", "piped"), [("", ""), ("  \n", ""), ("-", ""), ("-", " \n")])
def test_route_refuses_an_empty_prompt(text: str, piped: str, config: Path) -> None:
    result = run("route", text, "--config", config, input=piped)
    assert result.exit_code == 2
    assert "the prompt is empty" in result.stderr


@pytest.mark.parametrize("repeats", [1, 60, 4_000])
def test_route_times_a_decision_that_is_not_cached(repeats: int, config: Path) -> None:
    """Whatever part of the prompt the model reads. A cached score takes 30 microseconds."""
    scored: list[str] = []

    class CountingModel(StubModel):
        def score(self, text: str) -> Score:
            scored.append(text)
            return super().score(text)

    loaded = load_config(config)
    router = Router(loaded, Scorer(CountingModel()), thresholds=None)
    text = "Explain the difference between a list and a tuple. " * repeats
    asyncio.run(_time_decision(router, text, loaded))
    assert len(scored) == 2


def test_route_writes_no_files(config: Path, tmp_path: Path) -> None:
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
    numbers = [easy[name] for name in ("score", "merit", "p_local", "p_cloud", "threshold")]
    for number in numbers:
        assert isinstance(number, float)
        assert 0 <= number <= 1
    merit = easy["merit"]
    reached = route_with_the_shipped_model(tmp_path, "What is the capital of France?", f"{merit}")
    assert (reached["target"], reached["model"]) == ("local", "phi3")
    missed = route_with_the_shipped_model(tmp_path, "What is the capital of France?", "1")
    assert (missed["target"], missed["model"]) == ("cloud", "gpt-4o-mini")


def test_the_shipped_default_configuration_names_the_shipped_model() -> None:
    config = load_config(ROOT / "configs" / "default.yaml", environ={})
    assert (ROOT / config.routing.model_path / "manifest.json").exists()


# ── Without a clone ───────────────────────────────────────────────────────────────────────────


def test_the_wheel_includes_the_bundled_files() -> None:
    """Exactly the names of `bundled`; tests/deployment/test_release.py checks a built wheel."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = wheel["targets"]["wheel"]["force-include"]
    assert included == {name: f"router_model/bundled/{name}" for name in BUNDLED_FILES}
    assert all((ROOT / name).exists() for name in BUNDLED_FILES)


def test_in_an_empty_folder_the_bundled_files_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    decision = json.loads(run("route", "What is the capital of France?", "--json").stdout)
    assert decision["reason"] == "score"
    assert decision["router_model"] == Manifest.load(ROOT / "data/models/router").version
    config = tmp_path / "own.yaml"
    config.write_text((ROOT / "configs/default.yaml").read_text())
    loaded = load_config(config, environ={})
    assert load_prices(pricing_path(loaded, config))["gpt-4o-mini"].output == 0.6
    assert run("route", "Hi", "--json", "--config", config).exit_code == 0
    assert list(tmp_path.iterdir()) == [config]


LITELLM = {
    "gpt-x": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6},
    "gpt-y": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-6},
}


def test_prices_update_writes_the_list_that_the_configuration_reads(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "litellm.json"
    source.write_text(json.dumps(LITELLM))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = run("prices", "update", source, "--config", config)
    assert result.exit_code == 0, result.output
    own = config.parent / "pricing.yaml"
    assert re.fullmatch(
        re.escape(f"{own}: ") + r"\d+ -> 2 models; 2 added, \d+ removed\n", result.stdout
    )
    assert set(load_prices(own)) == set(LITELLM)
    assert not list(elsewhere.iterdir())
    source.write_text(json.dumps({"gpt-y": LITELLM["gpt-y"]}))
    result = run("prices", "update", source, "--config", config)
    assert result.stdout == f"{own}: 2 -> 1 models; 0 added, 1 removed\n"


def test_an_unwritable_price_list_is_a_one_line_error(tmp_path: Path) -> None:
    source = tmp_path / "litellm.json"
    source.write_text(json.dumps(LITELLM))
    out = tmp_path / "none" / "pricing.yaml"
    result = run("prices", "update", source, "--out", out)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {out}: cannot be written: No such file or directory\n"


def test_a_reader_that_stops_is_no_error_of_export(config: Path) -> None:
    fill(load_config(config).storage.url.reveal(), random_records(3_000))
    command = [sys.executable, "-c", "from proxy.cli.main import main; main()", "export"]
    process = subprocess.Popen(
        [*command, "--config", str(config), "--out", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert errors == b""


def test_keys_without_an_admin_are_warned_about(config: Path) -> None:
    fields = config.read_text() + "server: {api_keys: [a-key, b-key]}\n"
    config.write_text(fields)
    result = run("check-config", config)
    expected = "warning: server.api_keys: the dashboard needs a key with `admin: true`"
    assert expected in result.stderr


def test_files_in_the_folder_override_the_bundled_ones(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config.rename("hybrid-llm.yaml")
    Path("pricing.yaml").write_text("models: {mine: {input: 1, output: 2}}\n")
    decision = json.loads(run("route", "What is the capital of France?", "--json").stdout)
    assert (decision["threshold"], decision["model"]) == (0.4, "gpt-4o-mini")
    loaded = load_config(Path("hybrid-llm.yaml"), environ={})
    assert set(load_prices(pricing_path(loaded, Path("hybrid-llm.yaml")))) == {"mine"}
    Path("data/models/router").mkdir(parents=True)
    assert RoutingConfig().model_folder == Path("data/models/router")


@pytest.mark.parametrize("name", ["configs/default.yaml", "configs/none.yaml"])
def test_an_explicit_path_has_no_bundled_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("route", "Hi", "--config", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{name}: cannot be read: No such file or directory\n"
    assert RoutingConfig(model_path="data/models/other").model_folder == Path("data/models/other")


def test_promote_copies_the_model_instead_of_changing_the_bundled_one(
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


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs /proc, where no file can be created"
)
def test_serve_reports_an_unwritable_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", "serve", "--port", "0"],
        cwd="/proc", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = "storage.url: sqlite:///data/router.db cannot be used: [Errno "
    assert done.stderr.splitlines()[-1].startswith(message)


# ── Commands that read the database ───────────────────────────────────────────────────────────


@pytest.fixture
def db_config(config: Path, url: str) -> Path:
    """A configuration with a missing or empty database."""
    store_in(config, url)
    return config


def store_in(config: Path, url: str) -> None:
    fields = config.read_text().partition("storage:")[0]
    config.write_text(f'{fields}storage: {{url: "{url}"}}\n')


@pytest.fixture
def records(url: str) -> list[CallRecord]:
    """Four requests: three recent ones, of which one was rejected, and one from four days ago."""
    now = time.time()
    common = {"target": Target.CLOUD, "model": "gpt-4o-mini", "reason": Reason.FORCED}
    written = [
        finished(created_at=now - age, turns=[("user", "Hello")], cost_usd=0.25, **common)
        for age in (4 * DAY, 2.0, 1.0)
    ]
    written.append(finished(created_at=now, ending=Ending.REJECTED, error="No key."))
    fill(url, written)
    return written


def check_failed(result: Result, message: str) -> None:
    """Exit code 1, and one line with the reason."""
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert result.output.startswith("Error: ")
    assert message in result.output


READ_COMMANDS = [["stats"], ["explain", "req_1"], ["export", "--out", "-"]]


MAINTENANCE_COMMANDS = [["db", "size"], ["db", "migrate"], ["db", "vacuum"], ["db", "check"]]


@pytest.mark.parametrize("arguments", [*READ_COMMANDS, *MAINTENANCE_COMMANDS])
def test_a_missing_database_is_reported_and_not_created(
    config: Path, tmp_path: Path, arguments: list[str]
) -> None:
    check_failed(
        run(*arguments, "--config", config),
        f"{tmp_path}/rows.db does not exist: the proxy has recorded",
    )
    assert not (tmp_path / "rows.db").exists()


@pytest.mark.parametrize("arguments", READ_COMMANDS)
def test_a_database_with_another_schema_is_rejected(
    db_config: Path, url: str, records: list[CallRecord], arguments: list[str]
) -> None:
    execute(url, "INSERT INTO migrations VALUES (99, 'tomorrow', 1.0)")
    check_failed(run(*arguments, "--config", db_config), "has schema 99, not ")


def test_an_unreachable_database_server_is_reported_without_its_password(config: Path) -> None:
    with refused_address() as address:
        url = f"postgresql://somebody:geheim@{urlsplit(address).netloc}/rows"
        store_in(config, url)
        for arguments in (*READ_COMMANDS, *MAINTENANCE_COMMANDS):
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
    for arguments in (*READ_COMMANDS, *MAINTENANCE_COMMANDS, ["judge", "--once"], ["serve"]):
        result = run(*arguments, "--config", config)
        assert result.exit_code == 2
        assert "storage.url: the password must be escaped: write " in result.output
        assert "Hun" not in result.output
        assert "ter2" not in result.output
    assert run("check-config", config).output == run("serve", "--config", config).output


def test_no_command_shows_the_drivers_words_on_an_address(config: Path) -> None:
    store_in(config, "postgresql://u:Hun2@127.0.0.1:1/db?password=Hun2&nosuch=1")
    for arguments in (*READ_COMMANDS, *MAINTENANCE_COMMANDS, ["judge", "--once"], ["serve"]):
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


async def test_the_start_shows_the_addresses_of_the_pages(tmp_path: Path) -> None:
    async with FakeUpstream() as tier, Served(tmp_path, tier, tier) as proxy:
        origin = f"http://127.0.0.1:{proxy.port}"
        assert await proxy.stop() == 0
    shown = [line.split() for line in (tmp_path / "proxy.log").read_text().splitlines()]
    cells = {tuple(word for word in line if word.isascii()) for line in shown}
    assert cells >= {
        ("base_url", f"{origin}/v1"),
        ("chat", f"{origin}/"),
        ("dashboard", f"{origin}/dashboard"),
    }


@pytest.mark.parametrize(
    ("host", "opened"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.0.0.5", "10.0.0.5")],
)
def test_the_shown_address_can_be_opened(host: str, opened: str) -> None:
    assert host_to_open(host) == opened


def test_stats(db_config: Path, records: list[CallRecord]) -> None:
    text = " ".join(run("stats", "--config", db_config).output.split())
    for words in (
        "requests 4",
        "answered 3, 0.0% by the local tier",
        "failed 0, 0.0% of those answered or failed",
        "refused 1",
        "spent $0.7500",
        "forced 3 75.0% 0.0% $0.7500 $0.00",
    ):
        assert words in text
    newest = " ".join(run("stats", "--config", db_config, "--since", "1d").output.split())
    assert "spent $0.50" in newest
    assert "requests 3 since 20" in newest


def test_stats_by_key_name_the_keys(db_config: Path, url: str) -> None:
    keys = '{api_keys: [{key: sk-team, name: "[red]team"}, sk-other]}'
    db_config.write_text(f"{db_config.read_text()}server: {keys}\n")
    common = {"created_at": time.time(), "target": Target.CLOUD, "model": "gpt"}
    made = KeyRow("0123456789abcdef", "00" * 32, "nightly", "hlr-abc", 0.0, None, False)
    hashes = {name: key_hash(f"sk-{name}") for name in ("team", "other")}
    costs = {hashes["team"]: 0.5, hashes["other"]: 0.25, made.key_hash: 0.75, "f" * 16: 0.1}
    fill(url, [finished(client_key_hash=key, cost_usd=usd, **common) for key, usd in costs.items()])
    fill(url, [finished(**common)])  # without a key
    with connected(url) as database:
        StoredKeys(database).create(made, actor=None)
    report = json.loads(run("stats", "--by", "key", "--config", db_config, "--json").output)
    assert [(group["value"], group["cost_usd"]) for group in report["by"]["key"]] == [
        ("nightly", 0.75),
        ("[red]team", 0.5),
        (f"key {hashes['other'][:8]}", 0.25),
        ("key ffffffff", 0.1),
    ]
    assert report["by"]["key"][0]["answered"] == 1
    text = " ".join(run("stats", "--by", "key", "--config", db_config).output.split())
    assert "nightly 1 20.0% 0.0% $0.7500" in text
    assert "[red]team 1 20.0%" in text
    (row,) = [row for row in read(url) if row["client_key_hash"] == made.key_hash]
    assert "with the API key 'nightly'" in run("explain", row["id"], "--config", db_config).output


def test_stats_by_key_without_keys(db_config: Path, records: list[CallRecord]) -> None:
    text = run("stats", "--by", "key", "--config", db_config).output
    assert "by key: no request has a key" in text


def test_stats_of_an_empty_database(db_config: Path, url: str) -> None:
    fill(url, [])
    result = run("stats", "--config", db_config)
    assert (result.exit_code, result.output) == (0, "No requests are recorded yet.\n")


def test_stats_as_json(db_config: Path, records: list[CallRecord]) -> None:
    result = run("stats", "--config", db_config, "--json", "--by", "tier", "--by", "ending")
    report = json.loads(result.output)
    assert report.keys() == {
        "since",
        "total",
        "by",
        "latency",
        "drift",
        "candidate",
        "choices",
        "quality",
        "shadow_router",
    }
    assert (report["since"], report["total"]["requests"], report["total"]["cost_usd"]) == (
        0,
        4,
        0.75,
    )
    counts = {
        name: {row["value"]: row["requests"] for row in groups}
        for name, groups in report["by"].items()
    }
    assert counts == {"tier": {"cloud": 3, "none": 1}, "ending": {"ok": 3, "rejected": 1}}
    assert {row["target"] for row in report["latency"]} == {"cloud", "none"}
    assert report["quality"]["recovered"] == {
        "value": None, "low": None, "high": None, "requests": 0,
        "missing": "not enough data (0 of 100)",
    }  # fmt: skip


def test_stats_of_a_shadow_router(db_config: Path, url: str) -> None:
    """It is compared at the threshold that it would use as the router model."""
    scored = {"target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE, "score": 0.9}
    fill(url, [finished(**scored, threshold=0.4, candidate_score=0.6)])
    without_shadow = db_config.read_text()
    recommended = Manifest.load(ROOT / "data/models/router").threshold
    for threshold, agreed in (("0.4", 1), ("0.61", 0), ("auto", int(recommended <= 0.6))):
        routing = f"threshold: {threshold}, shadow_router: {{path: {ROOT}/data/models/router}}"
        db_config.write_text(without_shadow.replace("threshold: 0.4", routing))
        report = json.loads(run("stats", "--config", db_config, "--json").output)
        shadow = report["shadow_router"]
        assert report["candidate"] == shadow  # the old name
        assert (shadow["requests"], shadow["agreed"]) == (1, agreed)
    db_config.write_text(without_shadow.replace("threshold: 0.4", "shadow_router: {path: nowhere}"))
    result = run("stats", "--config", db_config, "--json")
    assert json.loads(result.stdout)["candidate"] is None
    assert "Warning: routing.shadow_router: no router model in nowhere" in result.stderr


@pytest.mark.parametrize("since", ["yesterday", "1y", "", "-1h", "1.5h"])
def test_an_invalid_duration_is_rejected(config: Path, since: str) -> None:
    result = run("stats", "--config", config, "--since", since)
    assert result.exit_code == 2
    assert f"'{since}' is not a duration such as 90m, 24h, 7d or 4w" in result.output


def test_explain(db_config: Path, records: list[CallRecord]) -> None:
    request_id = records[1].id
    result = run("explain", request_id, "--config", db_config)
    assert result.exit_code == 0
    assert result.output.startswith("A request to chat.completions, 20")
    assert "\n\nTimeline (ms since the request arrived):\n" in result.output
    assert "It went to gpt-4o-mini (cloud): the client selected it." in result.output
    row = json.loads(run("explain", request_id, "--config", db_config, "--json").output)
    assert (row["id"], row["prompt"]) == (request_id, [{"role": "user", "content": "Hello"}])
    assert (row["judgements"], row["feedback"]) == ([], None)


HOSTILE = "gpt\n[red]\x1b[2J\x9b1m\u202e\u2066[/link][link=http://x]\r"


def test_text_of_clients_cannot_drive_the_terminal(db_config: Path, url: str) -> None:
    names = {
        "requested_model": HOSTILE,
        "model": HOSTILE,
        "error": HOSTILE,
        "fallback_why": HOSTILE,
        "fallback_error": HOSTILE,
    }
    record = finished(target=Target.CLOUD, fallback_from=Target.LOCAL, **names)
    fill(url, [record])
    for arguments in (["stats", "--by", "model"], ["explain", record.id]):
        for more in ([], ["--json"]):
            result = run(*arguments, *more, "--config", db_config)
            assert result.exit_code == 0
            assert all(line.isprintable() for line in result.output.split("\n"))
            if more:
                assert json.dumps(HOSTILE) in json.dumps(json.loads(result.output))
            else:
                assert "gpt\\n[red]\\x1b[2J\\x9b1m" in "".join(result.output.split("\n"))


def test_explain_reports_an_unknown_request(db_config: Path, records: list[CallRecord]) -> None:
    check_failed(run("explain", "req_1", "--config", db_config), "request req_1 was not found")


def test_export(db_config: Path, records: list[CallRecord], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("earlier content")
    result = run("export", "--config", db_config, "--since", "3d", "--out", out)
    assert (result.exit_code, result.output) == (0, f"Wrote 3 requests to {out}.\n")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [record.id for record in records[1:]]
    whole = run("export", "--config", db_config, "--out", "-")
    assert [json.loads(line)["id"] for line in whole.stdout.splitlines()] == [
        record.id for record in records
    ]


def test_export_reports_an_unwritable_path(
    db_config: Path, records: list[CallRecord], tmp_path: Path
) -> None:
    out = tmp_path / "no" / "such" / "folder"
    check_failed(run("export", "--config", db_config, "--out", out), str(out.parent))


def test_export_names_the_folder_that_does_not_exist(db_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "none" / "rows.jsonl"
    result = run("export", "--config", db_config, "--out", out)
    assert result.stderr == f"Error: {out}: the folder {out.parent} does not exist\n"


@pytest.mark.parametrize("arguments", [["--out", "rows.csv"], ["--out", "-", "--format", "csv"]])
def test_export_as_csv(
    arguments: list[str], db_config: Path, records: list[CallRecord], url: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No spreadsheet computes what a client wrote."""
    monkeypatch.chdir(tmp_path)
    fill(url, [finished(turns=[("user", 'a "b", c\nd')], response="=HYPERLINK(1)")])
    result = run("export", "--config", db_config, *arguments)
    out = tmp_path / "rows.csv"
    text = out.read_text() if out.exists() else result.stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(records) + 1
    assert rows[0].keys() >= {"id", "created_at", "cost_usd", "judgements", "feedback"}
    assert rows[0]["id"] == records[0].id
    assert rows[-1]["response"] == "'=HYPERLINK(1)"
    assert json.loads(rows[-1]["prompt"])[0]["content"] == 'a "b", c\nd'
    assert json.loads(rows[0]["judgements"]) == []


def test_training_data_is_not_csv(db_config: Path) -> None:
    result = run("export", "--config", db_config, "--out", "rows.csv", "--judged")
    assert result.exit_code == 2
    assert "--judged writes JSONL only" in result.stderr


def test_db_size(db_config: Path, records: list[CallRecord]) -> None:
    result = run("db", "size", "--config", db_config)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert {"requests 4", "feedback 0"} <= set(lines)
    assert lines[-1].endswith(" MB")


def test_db_migrate(db_config: Path, url: str) -> None:
    execute(url, "CREATE TABLE unrelated (a INTEGER)")  # creates the file
    for expected in ([f"schema {step.number}: {step.name}" for step in MIGRATIONS], []):
        result = run("db", "migrate", "--config", db_config)
        assert result.exit_code == 0
        assert result.output.splitlines() == [*expected, f"schema {NEWEST}: up to date"]


def test_db_vacuum(db_config: Path, records: list[CallRecord]) -> None:
    result = run("db", "vacuum", "--config", db_config)
    assert result.exit_code == 0
    assert re.fullmatch(r"[\d.]+ MB before, [\d.]+ MB now\n", result.output)


def test_db_check_finds_and_repairs_wrong_rollups(
    db_config: Path, url: str, records: list[CallRecord]
) -> None:
    check = ("db", "check", "--config", db_config)
    assert (run(*check).exit_code, run(*check).output) == (0, "ok\n")
    execute(url, "UPDATE hours SET cost_pico = cost_pico + 1 WHERE target = 'cloud'")
    checked = run(*check)
    assert checked.exit_code == 1
    hour = int(records[1].created_at) // 3600 * 3600
    assert f"hours: hour {hour} does not match its rows\n" in checked.output
    repaired = run(*check, "--repair")
    assert (repaired.exit_code, repaired.output) == (0, f"{checked.output}repaired\n")
    assert (run(*check).exit_code, run(*check).output) == (0, "ok\n")


def test_db_check_reports_a_corrupt_file(config: Path, sqlite_url: str) -> None:
    fill(sqlite_url, random_records(2_000))
    corrupt(sqlite_url)
    checked = run("db", "check", "--config", config)
    assert checked.exit_code == 1
    assert "malformed" in checked.output or "page" in checked.output
    check_failed(run("db", "check", "--repair", "--config", config), "cannot be repaired")


def test_the_help_of_every_db_command_has_an_example() -> None:
    for name, command in commands(db):
        result = run("db", name, "--help")
        assert result.exit_code == 0
        assert f"Example: hybrid-llm db {name}" in result.output
        assert command.help is not None
