"""Run applications with the settings that docs/clients.md shows.

A section of the document has the settings of an application as code blocks. A shell block has
exports and, in its last line, a command. Another block is a file when the line before it says
where: "In `~/.codex/config.toml`:". Both contain `SHOWN_URL` and `QUESTION`, which a test replaces.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from scene import Stage
from tasks import EASY, HARD

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs/clients.md"
# Where `make test-apps` installs, one environment for each Python application.
FOLDER: Final = Path(os.environ.get("APPS") or ROOT / ".venv-apps")
SHOWN_URL: Final = "http://127.0.0.1:8080/v1"
QUESTION: Final = "What is the capital of France?"
# For a start of an application, and a whole answer, on a busy machine.
PATIENCE_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.05
INTERRUPTS: Final = 8

# Nothing is asked of other servers than the proxy: updates, lists of models, telemetry.
QUIET: Final = {
    "LANG": "C.UTF-8",
    "NO_PROXY": "127.0.0.1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
}

_BLOCK: Final = re.compile(
    r"(?:^In `(?P<path>[^`]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)
_EXPORT: Final = re.compile(r"export (\w+)=(.*)")


@dataclass(frozen=True)
class Settings:
    """The settings of one section.

    `files` are texts by path, below the home folder (`~/`) or the working folder.
    """

    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def without(self, *texts: str) -> "Settings":
        """The same without the lines of files and the variables that contain one of the texts.

        Raises AssertionError if a text does not occur: the document has changed.
        """
        everything = "\n".join([*self.files.values(), *self.environment, self.command])
        for text in texts:
            assert text in everything, text

        def is_left(line: str) -> bool:
            return not any(text in line for text in texts)

        files = {
            path: "".join(filter(is_left, content.splitlines(keepends=True)))
            for path, content in self.files.items()
        }
        environment = {name: value for name, value in self.environment.items() if is_left(name)}
        return Settings(files, environment, self.command)


def settings_of(heading: str) -> Settings:
    """The settings below a heading of the document.

    Raises AssertionError if there is no such heading, or it has no code block.
    """
    text = GUIDE.read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n### {heading}\n")
    assert found, f"{GUIDE.name} has no section {heading!r}"
    files, environment, command = {}, {}, ""
    for block in _BLOCK.finditer(re.split(r"\n###? ", after)[0]):
        if block["path"]:
            files[block["path"]] = block["text"]
        elif block["kind"] == "sh":
            for line in block["text"].splitlines():
                if match := _EXPORT.fullmatch(line):
                    (environment[match[1]],) = shlex.split(match[2])
                else:
                    command = line
    assert files or environment, f"the section {heading!r} has no settings"
    return Settings(files, environment, command)


def executable(name: str) -> Path:
    """A program of `make test-apps`, as a path below its folder; skips the test without it."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not installed; `make test-apps` installs it")
    return path


class Finished(NamedTuple):
    """The end of a run."""

    status: int
    output: str


class Application:
    """One installation of an application: its settings, and folders that only it uses.

    Args:
        folder: for its home and its working folder.
        base_url: the proxy's.
        program: the executable that the command's first word stands for.
    """

    def __init__(self, settings: Settings, *, folder: Path, base_url: str, program: Path) -> None:
        self._settings = settings
        self._base_url = base_url
        self._program = program
        self.home = folder / "home"
        self.work = folder / "work"
        self.home.mkdir(parents=True)
        self.work.mkdir()

    def ask(self, prompt: str, *arguments: str) -> Finished:
        """Run the command with this prompt and more arguments; return its end."""
        with self.running(prompt, *arguments) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return Finished(process.returncode, output)

    @contextmanager
    def running(self, prompt: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The running command, in a process group of its own, which ends with the block."""
        for path, text in self._settings.files.items():
            assert QUESTION not in text or '"' not in prompt, "it would need other quotes"
            is_home = path.startswith("~/")
            file = (self.home if is_home else self.work) / path.removeprefix("~/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._filled(text, prompt), encoding="utf-8")
        # By words, before the prompt is filled in: it may have quotes.
        words = shlex.split(self._settings.command)[1:]
        command = [str(self._program), *(self._filled(word, prompt) for word in words), *arguments]
        with subprocess.Popen(
            command,
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """The variables of its process: those of the document, and nothing of the caller's."""
        shown = {
            name: self._filled(value, QUESTION)
            for name, value in self._settings.environment.items()
        }
        path = f"{FOLDER / 'node/bin'}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, **QUIET, **shown}

    def _filled(self, text: str, prompt: str) -> str:
        return text.replace(SHOWN_URL, self._base_url).replace(QUESTION, prompt)


class Saved(NamedTuple):
    """The tiers of the requests for the easy tasks, and for the hard ones.

    They include the requests that an application adds, such as one for a title.
    """

    easy: list[str]
    hard: list[str]

    def __str__(self) -> str:
        """local+cloud of the easy tasks / local+cloud of the hard ones, as `5+0 / 0+5`."""
        return " / ".join(f"{tiers.count('local')}+{tiers.count('cloud')}" for tiers in self)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, which a terminal sends to the whole process group, until the command ends.

    CrewAI needs it twice. Raises AssertionError if it does not end.
    """
    for _ in range(INTERRUPTS):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS / INTERRUPTS)
            return
    raise AssertionError("it does not end")


def measure(ask: Callable[[str], object], stage: Stage) -> Saved:
    """Do the ten tasks, easy and hard ones in turn, and list the tiers of the requests.

    In turn, because a conversation that went to the cloud stays there: tasks of separate runs must
    not be taken for one conversation.
    """
    saved = Saved([], [])
    for pair in zip(EASY, HARD, strict=True):
        for tiers, task in zip(saved, pair, strict=True):
            stage.forget()
            ask(task)
            assert stage.calls, f"no tier received {task!r}"
            tiers += stage.tiers
    return saved


def wait_for_calls(stage: Stage, number: int = 1) -> None:
    """Wait until the tiers have received this many requests.

    Raises AssertionError if they have not after `PATIENCE_SECONDS`.
    """
    wait_until(lambda: len(stage.calls) >= number, f"{number} requests arrive")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises AssertionError after `PATIENCE_SECONDS`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(POLL_SECONDS)
