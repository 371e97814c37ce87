"""Applications that are one command for one prompt: coding agents, aider, CrewAI, promptfoo."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from driver import Application, Saved, executable, interrupt, settings_of, wait_for_calls
from scene import TEXT, Stage

NOTE = "the note says 7351"


@dataclass(frozen=True, kw_only=True)
class Command:
    """An application.

    Attributes:
        heading: of its section in the document, which has its settings.
        program: below the folder of `make test-apps`.
        unattended: further arguments, without which it asks a person.
        environment: further variables, without which it asks other servers.
        reads: a tool of it, with the arguments that read the file at `{path}`.
        saving: parts of the lines of its settings that are not needed to connect it.
        streams: whether it asks for streams.
    """

    heading: str
    program: str
    unattended: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    reads: str = ""
    saving: tuple[str, ...] = ()
    streams: bool = True


COMMANDS = {
    "codex": Command(
        heading="Codex",
        program="npm/node_modules/.bin/codex",
        unattended=("--skip-git-repo-check",),
        reads='exec_command {{"cmd": "cat {path}"}}',
        saving=("web_search", "[agents]", "enabled = false"),
    ),
    "opencode": Command(
        heading="opencode",
        program="npm/node_modules/.bin/opencode",
        environment={
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        },
        reads='read {{"filePath": "{path}"}}',
        saving=("small_model",),
    ),
    "qwen_code": Command(
        heading="Qwen Code",
        program="npm/node_modules/.bin/qwen",
        reads='read_file {{"file_path": "{path}"}}',
        saving=("enableManagedAutoMemory",),
    ),
    "continue": Command(
        heading="Continue",
        program="npm/node_modules/.bin/cn",
        environment={"CONTINUE_TELEMETRY_ENABLED": "0"},
        reads='Read {{"filepath": "{path}"}}',
    ),
    "aider": Command(
        heading="aider",
        program="aider/bin/aider",
        unattended=("--yes-always", "--no-git", "--no-check-update", "--analytics-disable"),
    ),
    "promptfoo": Command(
        heading="promptfoo",
        program="promptfoo/node_modules/.bin/promptfoo",
        unattended=("--no-cache",),
        environment={
            "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
            "PROMPTFOO_DISABLE_TELEMETRY": "1",
            "PROMPTFOO_DISABLE_UPDATE": "1",
        },
        streams=False,
    ),
    "crewai": Command(
        heading="CrewAI",
        program="crewai/bin/python",
        environment={"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"},
        streams=False,
    ),
}


def made(command: Command, folder: Path, base_url: str, *, plain: bool = False) -> Application:
    """The application with the document's settings, or only with those that connect it."""
    settings = settings_of(command.heading)
    if plain:
        settings = settings.without(*command.saving)
    settings = replace(settings, environment=command.environment | settings.environment)
    program = executable(command.program)
    return Application(settings, folder=folder, base_url=base_url, program=program)


def each_of(commands: Callable[[Command], object]) -> pytest.MarkDecorator:
    """A test for each application that has something."""
    chosen = {name: command for name, command in COMMANDS.items() if commands(command)}
    return pytest.mark.parametrize("command", chosen.values(), ids=chosen)


each = each_of(lambda command: command)
each_stream = each_of(lambda command: command.streams)
each_with_tools = each_of(lambda command: command.reads)


@each
def test_chat(command: Command, tmp_path: Path, base_url: str, stage: Stage) -> None:
    application = made(command, tmp_path, base_url)

    status, output = application.ask("Where is Zürich?", *command.unattended)

    assert status == 0, output
    assert TEXT in output
    assert any("Where is Zürich?" in str(call.body) for call in stage.calls)


@each_stream
def test_stream(command: Command, tmp_path: Path, base_url: str, stage: Stage) -> None:
    application = made(command, tmp_path, base_url)

    _, output = application.ask("Where is Zürich?", *command.unattended)

    assert TEXT in output  # all of its events, with characters of two and four bytes
    assert all(call.body["stream"] for call in stage.calls)


@each_with_tools
def test_tools(command: Command, tmp_path: Path, base_url: str, stage: Stage) -> None:
    application = made(command, tmp_path, base_url)
    note = application.work / "note.txt"
    note.write_text(NOTE)

    _, output = application.ask(f"CALL {command.reads.format(path=note)}", *command.unattended)

    assert TEXT in output
    assert NOTE in str(stage.calls[-1].body)


@each
def test_cancel(command: Command, tmp_path: Path, base_url: str, stage: Stage) -> None:
    application = made(command, tmp_path, base_url)

    with application.running("HANG please", *command.unattended) as process:
        wait_for_calls(stage)
        interrupt(process)

    stage.wait_until_released()


@each
def test_saved(
    command: Command,
    tmp_path: Path,
    model_url: str,
    variant: str,
    saves: Callable[[Callable[[str], object]], Saved],
) -> None:
    """Each task reaches a tier. `table.py` compares what was saved with the document."""
    if variant == "plain" and not command.saving:
        pytest.skip("The document shows no more than is needed to connect it.")
    application = made(command, tmp_path, model_url, plain=variant == "plain")

    saves(lambda task: application.ask(task, *command.unattended))
