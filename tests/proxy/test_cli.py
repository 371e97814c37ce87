"""The command line as a person meets it: help, exit codes, and one clear line when it fails."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from proxy import __version__
from proxy.cli import main
from proxy.config import load_config

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """For commands that serve; they must end by themselves here."""
    return subprocess.run(
        [sys.executable, "-c", "from proxy.cli import main; main()", *map(str, arguments)],
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


def test_version() -> None:
    assert run("--version").output == f"hybrid-llm, version {__version__}\n"


def test_check_config_accepts(config: Path) -> None:
    result = run("check-config", config)
    assert (result.exit_code, result.output) == (0, f"{config}: ok\n")


def test_check_config_warns_of_what_changes_nothing(config: Path) -> None:
    config.write_text(config.read_text() + "judge: {enabled: true}\n")
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
