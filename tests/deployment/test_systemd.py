"""configs/hybrid-llm.service: as systemd reads it, and what it promises beside the code."""

import re
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest

from proxy.cli.main import main
from proxy.config import ServerConfig
from proxy.experiments.supervisor import NICENESS

UNIT = Path(__file__).parents[2] / "configs/hybrid-llm.service"
EXPOSURE = 15  # of 100, in tenths of what systemd calls 0 to 10

needs_systemd = pytest.mark.needs("systemd")


class _Unit(RawConfigParser):
    """The last of several lines of one key counts here; systemd adds some of them up."""

    def optionxform(self, name: str) -> str:
        return name


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    parser = _Unit(strict=False, interpolation=None)
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text())
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@needs_systemd
def test_systemd_understands_it(unit: Path) -> None:
    done = analyze("verify", unit)
    # Nothing is said of it; of the machine's own units something may be.
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


@needs_systemd
def test_little_is_exposed(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout


def test_it_starts_a_command_that_there_is(service: dict[str, str]) -> None:
    program, name, *arguments = service["ExecStart"].split()
    assert Path(program).name == "hybrid-llm"
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = {word for word in arguments if word.startswith("--")}
    assert options <= {option for one in command.params for option in one.opts}


def test_a_stop_leaves_time_for_the_last_requests(service: dict[str, str]) -> None:
    assert int(service["TimeoutStopSec"]) >= ServerConfig().shutdown_grace_seconds + 10
    assert service["KillMode"] == "mixed"


def test_it_is_reloaded_by_the_signal_that_the_proxy_takes(service: dict[str, str]) -> None:
    assert service["ExecReload"].split()[-2:] == ["-HUP", "$MAINPID"]
    assert service["RestartPreventExitStatus"] == "2"  # what a wrong configuration ends with


def test_what_the_proxy_does_is_not_forbidden(service: dict[str, str]) -> None:
    assert NICENESS > 0
    assert "@resources" not in UNIT.read_text()  # long work is niced, which is one of these
    assert "AF_UNIX" in service["RestrictAddressFamilies"]  # PostgreSQL's socket
    assert service["WorkingDirectory"] == f"%S/{service['StateDirectory']}"
