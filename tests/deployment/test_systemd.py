"""configs/hybrid-llm.service, checked by systemd and against the code."""

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
EXPOSURE = 15  # of 100; systemd's exposure level of 0 to 10, in tenths

needs_systemd = pytest.mark.needs("systemd")


class _Unit(RawConfigParser):
    """The last of repeated keys wins here; systemd accumulates some of them."""

    def optionxform(self, name: str) -> str:
        return name


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    parser = _Unit(strict=False, interpolation=None)
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with an existing program."""
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text())
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@needs_systemd
def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = analyze("verify", unit)
    # Only messages about this unit count.
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


@needs_systemd
def test_the_unit_has_a_low_exposure_level(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout


def test_the_unit_starts_an_existing_command(service: dict[str, str]) -> None:
    program, name, *arguments = service["ExecStart"].split()
    assert Path(program).name == "hybrid-llm"
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = {word for word in arguments if word.startswith("--")}
    assert options <= {option for parameter in command.params for option in parameter.opts}


def test_the_stop_timeout_exceeds_the_shutdown_grace(service: dict[str, str]) -> None:
    assert int(service["TimeoutStopSec"]) >= ServerConfig().shutdown_grace_seconds + 10
    assert service["KillMode"] == "mixed"


def test_the_unit_reloads_with_sighup(service: dict[str, str]) -> None:
    assert service["ExecReload"].split()[-2:] == ["-HUP", "$MAINPID"]
    assert service["RestartPreventExitStatus"] == "2"  # exit status of an invalid configuration


def test_the_sandbox_allows_what_the_proxy_needs(service: dict[str, str]) -> None:
    assert NICENESS > 0
    assert "@resources" not in UNIT.read_text()  # setting the niceness is one of these
    assert "AF_UNIX" in service["RestrictAddressFamilies"]  # PostgreSQL's socket
    assert service["WorkingDirectory"] == f"%S/{service['StateDirectory']}"
