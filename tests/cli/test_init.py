"""`hybrid-llm init` in an empty folder, with scripted upstreams: questions and files."""

import asyncio
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fakes import FakeUpstream, refused_address, whole
from proxy.cli.init import save_to_dotenv
from proxy.cli.main import main
from proxy.config import Config, load_config
from proxy.protocol.ollama import OWN_FAMILY, server_url

ROOT = Path(__file__).parents[2]
KEY = "sk-proj-Of_Ours-0123456789"
COMMAND = (sys.executable, "-m", "proxy.cli", "init")
SIZES = {"nomic-embed-text:latest": 1, "qwen3:0.6b": 2, "phi3:latest": 4, "llama3:8b": 8}
UNSET = ("OLLAMA_", "OPENAI_", "ROUTER_", "CLOUD_", "STORAGE_", "PORT")

Init = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    return inherited | variables


def serve_models(ollama: FakeUpstream, *names: str, reports_capabilities: bool = True) -> None:
    tags = {"models": [{"name": name, "size": SIZES[name]} for name in names]}
    ollama.native["/api/tags"] = whole(json.dumps(tags).encode())

    def show(call: Any) -> Any:
        kind = "embedding" if "embed" in call.json["model"] else "completion"
        capabilities = {"capabilities": [kind]} if reports_capabilities else {}
        return whole(json.dumps({"details": {}, **capabilities}).encode())

    ollama.native["/api/show"] = show


def accept_key(cloud: FakeUpstream, key: str) -> None:
    """Make the cloud list its models for this key and reject all others, as OpenAI does."""

    def models(call: Any) -> Any:
        if call.header("authorization") == f"Bearer {key}":
            return whole(b'{"object":"list","data":[{"id":"gpt-4o-mini"}]}')
        body = b'{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}'
        return whole(body, status=401)

    cloud.models = models


@pytest.fixture
def init(tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream) -> Init:
    """The command in an empty folder, without a terminal."""

    async def run(
        *arguments: str, stdin: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        base = {
            "OLLAMA_HOST": local.base_url.removesuffix("/v1"),
            "OPENAI_BASE_URL": cloud.base_url,
        }
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            cwd=tmp_path,
            env=environment(**(base | variables)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return subprocess.CompletedProcess(COMMAND, process.returncode, out.decode(), err.decode())

    return run


def load_written(folder: Path, **environ: str) -> Config:
    return load_config(folder / "hybrid-llm.yaml", environ=environ)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_init_does_not_take_a_proxy_for_ollama(
    init: Init, tmp_path: Path, local: FakeUpstream
) -> None:
    details = {"family": OWN_FAMILY, "format": "gguf"}
    tags = {"models": [{"name": "auto:latest", "size": 0, "details": details}]}
    local.native["/api/tags"] = whole(json.dumps(tags).encode())
    done = await init("--yes")
    assert done.returncode != 0
    assert "is a hybrid-llm proxy, not Ollama. Unset OLLAMA_HOST" in done.stderr
    assert files(tmp_path) == []


async def test_init_detects_models_and_keeps_the_key_out_of_the_configuration(
    init: Init, tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    serve_models(local, "llama3:8b", "phi3:latest", "nomic-embed-text:latest")
    accept_key(cloud, KEY)
    done = await init("--key-file", "-", stdin=f"{KEY}\n".encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert "has phi3:latest, llama3:8b.\nLocal model: phi3:latest.\n" in done.stdout
    assert "accepted the key." in done.stdout
    assert done.stdout.endswith("\nNext:  hybrid-llm serve\n")
    assert KEY not in done.stdout
    text = (tmp_path / "hybrid-llm.yaml").read_text()
    assert KEY not in text
    assert (tmp_path / ".env").read_text() == f"OPENAI_API_KEY='{KEY}'\n"
    assert mode_of(tmp_path / ".env") == 0o600
    config = load_written(tmp_path, OPENAI_BASE_URL=cloud.base_url)
    assert config.upstreams.local.base_urls == (local.base_url,)
    assert config.upstreams.local.model == "phi3:latest"
    assert files(tmp_path) == [".env", "hybrid-llm.yaml"]


async def test_the_file_is_the_default_configuration_with_other_defaults(
    init: Init, tmp_path: Path, local: FakeUpstream
) -> None:
    serve_models(local, "qwen3:0.6b")
    await init("--cloud-model", "gpt-4.1-mini")
    own = (tmp_path / "hybrid-llm.yaml").read_text()
    default = (ROOT / "configs/default.yaml").read_text()
    changed = {
        "http://localhost:11434}": f"{local.base_url.removesuffix('/v1')}}}",
        "phi3:latest}": "qwen3:0.6b}",
        "gpt-4o-mini}": "gpt-4.1-mini}",
    }
    for old, new in changed.items():
        default = default.replace(old, new)
    assert own.partition("\n\n")[2] == default.partition("\n\n")[2]
    assert all(line.startswith("#") for line in own.partition("\n\n")[0].splitlines())
    assert yaml.safe_load(own) == yaml.safe_load(default)
    checked = CliRunner().invoke(main, ["check-config", str(tmp_path / "hybrid-llm.yaml")])
    assert (checked.exit_code, checked.output) == (0, f"{tmp_path}/hybrid-llm.yaml: ok\n")


@pytest.mark.parametrize("reports_capabilities", [True, False], ids=["newer", "older"])
async def test_without_phi3_the_smallest_chat_model_is_used(
    init: Init, tmp_path: Path, local: FakeUpstream, reports_capabilities: bool
) -> None:
    names = ("llama3:8b", "nomic-embed-text:latest", "qwen3:0.6b")
    serve_models(local, *names, reports_capabilities=reports_capabilities)
    done = await init()
    assert (
        "phi3, which the router was trained on, is missing: the smallest model is used.\n"
        in done.stdout
    )
    assert load_written(tmp_path).upstreams.local.model == "qwen3:0.6b"
    assert "ollama pull" not in done.stdout


async def test_a_missing_model_is_to_be_pulled(
    init: Init, tmp_path: Path, local: FakeUpstream
) -> None:
    serve_models(local, "nomic-embed-text:latest")
    done = await init("--yes")
    assert "has no model that can chat" in done.stdout
    assert done.stdout.endswith("First:  ollama pull phi3\nNext:  hybrid-llm serve\n")
    done = await init("--yes", "--force", "--model", "gemma3")
    assert "First:  ollama pull gemma3\n" in done.stdout
    assert load_written(tmp_path).upstreams.local.model == "gemma3"


async def test_init_works_without_reachable_servers(init: Init, tmp_path: Path) -> None:
    with refused_address() as url:
        done = await init(
            "--key-file", "-", stdin=KEY.encode(), OLLAMA_HOST=url, OPENAI_BASE_URL=url
        )
    assert done.returncode == 0
    assert (
        f"Ollama does not answer at {url.removesuffix('/v1')}. Start it with `ollama serve`.\n"
        in done.stdout
    )
    assert re.search(r"cannot be reached \(.+\)\. The key was not checked\.\n", done.stdout)
    assert "First:  ollama pull phi3\n" in done.stdout
    assert KEY in (tmp_path / ".env").read_text()
    assert load_written(tmp_path).upstreams.local.model == "phi3:latest"


async def test_another_server_than_ollama_is_reported(init: Init, local: FakeUpstream) -> None:
    for body in (
        b"<html>",
        b"{}",
        b"[]",
        b'{"models":[{}]}',
        b'{"models":[{"name":"a","size":"b"}]}',
    ):
        local.native["/api/tags"] = whole(body)
        done = await init("--force")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Ollama does not answer at " in done.stdout


@pytest.mark.parametrize("key", ["sk-wrong", "sk wrong", "sk-größer"])
async def test_a_rejected_key_is_reported_and_nothing_is_written(
    init: Init, tmp_path: Path, cloud: FakeUpstream, key: str
) -> None:
    accept_key(cloud, KEY)
    done = await init("--key-file", "-", stdin=key.encode())
    assert done.returncode == 1
    assert re.search(
        r"^Error: .*(rejected the key \(status 401\)|The key is invalid: .*); nothing was written$",
        done.stderr, re.M,
    )  # fmt: skip
    assert key not in done.stdout + done.stderr
    assert files(tmp_path) == []


async def test_a_key_from_the_environment_is_checked_and_not_written(
    init: Init, tmp_path: Path, cloud: FakeUpstream
) -> None:
    accept_key(cloud, KEY)
    done = await init(OPENAI_API_KEY="sk-old")
    assert done.returncode == 1
    assert "rejected the key (status 401); correct or unset OPENAI_API_KEY" in done.stderr
    assert files(tmp_path) == []
    done = await init(OPENAI_API_KEY=KEY)
    assert done.returncode == 0
    assert not (tmp_path / ".env").exists()


async def test_init_creates_a_client_key_once(init: Init, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nPORT=8081\n")
    (tmp_path / ".env").chmod(0o644)
    done = await init("--client-key")
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[:2] == ["# mine", "PORT=8081"]
    (key,) = re.findall(r"sk-router-[\w-]{32}", lines[2])
    assert f"Client API key: {key}\n" in done.stdout
    assert mode_of(tmp_path / ".env") == 0o600
    assert load_written(tmp_path, ROUTER_API_KEYS=key).server.api_keys[0].key.reveal() == key
    again = await init("--client-key", "--force")  # the existing key stays
    assert "Client API key" not in again.stdout
    assert (tmp_path / ".env").read_text().splitlines() == lines


async def test_an_existing_configuration_is_not_overwritten(init: Init, tmp_path: Path) -> None:
    (tmp_path / "hybrid-llm.yaml").write_text("mine")
    done = await init("--key-file", "-", stdin=KEY.encode())
    assert done.returncode == 1
    assert done.stderr == "Error: hybrid-llm.yaml already exists; use --force to overwrite it\n"
    assert (tmp_path / "hybrid-llm.yaml").read_text() == "mine"
    assert not (tmp_path / ".env").exists()
    assert (await init("--force")).returncode == 0
    assert load_written(tmp_path).server.port == 8080


async def test_an_existing_key_is_not_overwritten(init: Init, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-mine\nPORT=8081\n")
    done = await init("--key-file", "-", stdin=KEY.encode())
    assert done.returncode == 1
    assert done.stderr == "Error: .env already has OPENAI_API_KEY; use --force to replace it\n"
    assert (tmp_path / ".env").read_text() == "OPENAI_API_KEY=sk-mine\nPORT=8081\n"
    assert (await init("--force", "--key-file", "-", stdin=KEY.encode())).returncode == 0
    assert (tmp_path / ".env").read_text() == f"PORT=8081\nOPENAI_API_KEY='{KEY}'\n"


async def test_an_option_that_makes_the_configuration_invalid_is_rejected(
    init: Init, tmp_path: Path
) -> None:
    done = await init("--ollama", "localhost:11434", "--model", "phi3")
    assert done.returncode == 1
    assert re.search(
        r"^Error: hybrid-llm\.yaml:\d+: upstreams\.local\.base_url: ", done.stderr, re.M
    )
    assert files(tmp_path) == []


async def test_a_variable_that_overrides_an_option_is_reported(init: Init, tmp_path: Path) -> None:
    done = await init("--model", "gemma3", OLLAMA_MODEL="phi4")
    assert "Warning: the variable OLLAMA_MODEL is set and overrides it: phi4.\n" in done.stderr
    assert load_written(tmp_path).upstreams.local.model == "gemma3"


async def test_a_variable_does_not_hide_an_invalid_option(
    init: Init, tmp_path: Path, local: FakeUpstream
) -> None:
    done = await init("--ollama", "notaurl", OLLAMA_BASE_URL=local.base_url.removesuffix("/v1"))
    assert done.returncode == 1
    assert "upstreams.local.base_url: " in done.stderr
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model", "phi3}"),
        ("--cloud-model", 'gpt"'),
        ("--ollama", "http://gpu\n"),
        ("--ollama", "http://[::1"),
        ("--model", " "),
    ],
)
async def test_option_values_that_would_break_the_yaml_are_rejected(
    init: Init, tmp_path: Path, option: str, value: str
) -> None:
    done = await init(option, value)
    assert done.returncode == 1
    assert f"Error: {option}, or the variable " in done.stderr
    assert files(tmp_path) == []


async def test_a_password_in_an_address_is_rejected(
    init: Init, tmp_path: Path, local: FakeUpstream
) -> None:
    address = local.base_url.removesuffix("/v1").replace("//", "//me:hunter2@")
    for done in (await init("--ollama", address), await init(OLLAMA_BASE_URL=address)):
        assert done.returncode == 1
        assert "an address must not contain a password" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert files(tmp_path) == []


async def test_an_empty_key_and_an_unneeded_client_key_are_reported(
    init: Init, tmp_path: Path
) -> None:
    done = await init("--key-file", "-", stdin=b" \n")
    assert done.returncode == 1
    assert done.stderr == "Error: --key-file: the file has no key\n"
    assert files(tmp_path) == []
    dotenv = tmp_path / ".env"
    dotenv.write_text("ROUTER_API_KEYS=sk-mine\n")
    dotenv.chmod(0o644)
    done = await init("--client-key")
    assert "ROUTER_API_KEYS is already set: no new client key is created.\n" in done.stdout
    assert "Warning: other users can read .env. Run: chmod 600 .env\n" in done.stderr
    assert dotenv.read_text() == "ROUTER_API_KEYS=sk-mine\n"


async def test_an_unwritable_configuration_file_is_reported(init: Init, tmp_path: Path) -> None:
    (tmp_path / "hybrid-llm.yaml").mkdir()
    done = await init("--force")
    assert done.returncode == 1
    assert done.stderr == "Error: hybrid-llm.yaml: cannot be written: Is a directory\n"


class Terminal:
    """A user at a terminal: reads questions and types answers."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._shown = ""
        self._process = subprocess.Popen(
            COMMAND, cwd=folder, env=environment(**variables), start_new_session=True,
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    async def answer(self, question: str, text: str) -> str:
        """Wait for a question and answer it; return the text before it."""
        await self._read(lambda: question in self._shown)
        before, _, self._shown = self._shown.partition(question)
        os.write(self._ours, f"{text}\n".encode())
        return before

    async def finish(self) -> str:
        """Wait for a successful exit; return the text after the last question."""
        await self._read(lambda: False)
        assert await asyncio.to_thread(self._process.wait, 60) == 0
        return self._shown

    async def _read(self, is_enough: Callable[[], bool]) -> None:
        """Read until the condition holds or the process closes the terminal."""
        while not is_enough():
            readable, _, _ = await asyncio.to_thread(select.select, [self._ours], [], [], 60)
            assert readable, self._shown
            try:
                self._shown += os.read(self._ours, 4096).decode()
            except OSError:  # the process has closed the terminal
                assert is_enough() or self._process.wait(60) == 0, self._shown
                return


async def test_init_asks_questions_on_a_terminal(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    serve_models(local, "llama3:8b", "qwen3:0.6b")
    accept_key(cloud, KEY)
    variables = {"OLLAMA_BASE_URL": local.base_url[:-3], "OPENAI_BASE_URL": cloud.base_url}
    terminal = Terminal(tmp_path, variables)
    try:
        shown = await terminal.answer("Local model [qwen3:0.6b]: ", "llama3:8b")
        for key in ("sk-wrong", KEY):
            shown += await terminal.answer("API key for 127.0.0.1 (hidden; Enter to skip): ", key)
        shown += await terminal.answer("Create an API key that clients must send? [y/N]: ", "y")
        shown += await terminal.finish()
    finally:
        terminal.close()
    assert "rejected the key (status 401)." in shown
    assert KEY not in shown  # the key is not echoed
    assert "sk-wrong" not in shown
    assert shown.endswith("Next:  hybrid-llm serve\r\n")
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[0] == f"OPENAI_API_KEY='{KEY}'"
    assert lines[1].startswith("ROUTER_API_KEYS='sk-router-")
    assert load_written(tmp_path).upstreams.local.model == "llama3:8b"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://localhost:11434"),
        ("0.0.0.0", "http://localhost:11434"),
        ("[::]:11500", "http://localhost:11500"),
        (":11500", "http://localhost:11500"),
        ("gpu", "http://gpu:11434"),
        ("10.0.0.7:80", "http://10.0.0.7:80"),
        ("[fd00::7]", "http://[fd00::7]:11434"),
        ("https://ollama.example.org", "https://ollama.example.org"),
        ("gpu:eleven", "http://localhost:11434"),
    ],
)
def test_the_ollama_address_is_read_from_variables(host: str, url: str) -> None:
    assert server_url({"OLLAMA_HOST": host}) == url
    assert server_url({"OLLAMA_HOST": host, "OLLAMA_BASE_URL": "http://b:1"}) == "http://b:1"


def test_a_symlinked_dotenv_stays_a_symlink(tmp_path: Path) -> None:
    target, link = tmp_path / "secrets" / "env", tmp_path / ".env"
    target.parent.mkdir()
    target.write_text("A=1\n")
    link.symlink_to(target)
    save_to_dotenv(link, {"OPENAI_API_KEY": "sk-x"})
    assert link.is_symlink()
    assert target.read_text() == "A=1\nOPENAI_API_KEY='sk-x'\n"


def test_a_dotenv_keeps_its_other_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".env"
    path.write_text("A='1'\nexport KEY=old\n KEY = older\nKEYS=2")
    value = "it's a \\ key # with $signs"
    save_to_dotenv(path, {"KEY": value})
    assert path.read_text().splitlines()[:2] == ["A='1'", "KEYS=2"]
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text(
        "upstreams:\n  local: {base_url: http://l/v1, model: m}\n"
        "  cloud: {base_url: http://c/v1, model: m, api_key: '${KEY}'}\n"
    )
    assert load_config(config).upstreams.cloud.api_key is not None
    key = load_config(config).upstreams.cloud.api_key
    assert key is not None
    assert key.reveal() == value
