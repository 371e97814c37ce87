"""Commands on machines whose environment names proxies and certificates."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from fakes import FakeUpstream, refused_address, whole
from live import chat_body, config_fields
from outbound import NETWORK_VARIABLES, PASSWORD, USER, HttpProxy, SocksProxy, TlsUpstream, port_of
from proxy import storage
from proxy.cli.main import main
from proxy.cli.options import load_to_serve
from served import Served, ask

OTHERS = ("OLLAMA_", "OPENAI_", "ROUTER_", "CLOUD_", "STORAGE_", "PORT")
KEY = "sk-proj-Of_Ours-0123456789"
UNSUPPORTED = "socks4 proxies are not supported; use http://, https://, socks5:// or socks5h://"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def ollama(local: FakeUpstream) -> FakeUpstream:
    local.native["/api/tags"] = whole(b'{"models":[{"name":"phi3:latest","size":1}]}')
    local.native["/api/show"] = whole(b'{"capabilities":["completion"]}')
    return local


async def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with no network settings but these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in NETWORK_VARIABLES and not name.startswith(OTHERS)
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxy.cli",
        *arguments,
        cwd=folder,
        env=inherited | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())


def address_of(upstream: FakeUpstream) -> str:
    return upstream.base_url.removesuffix("/v1")


# init


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
async def test_init_asks_ollama_directly_and_the_cloud_through_the_proxy(
    tmp_path: Path,
    stack: AsyncExitStack,
    ollama: FakeUpstream,
    certificate: Path,
    kind: type[HttpProxy] | type[SocksProxy],
) -> None:
    cloud = await stack.enter_async_context(TlsUpstream(certificate))
    forward = await stack.enter_async_context(kind({"gpu.test:443": port_of(cloud)}))
    scheme = "socks5h" if kind is SocksProxy else "http"
    done = await run(
        tmp_path,
        "init",
        OLLAMA_HOST=address_of(ollama),
        OPENAI_BASE_URL="https://gpu.test/v1",
        OPENAI_API_KEY=KEY,
        ALL_PROXY=f"{scheme}://{forward.address}",
        REQUESTS_CA_BUNDLE=str(certificate),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Ollama at {address_of(ollama)} has phi3:latest.\n" in done.stdout
    assert "gpu.test accepted the key.\n" in done.stdout
    assert forward.targets == ["gpu.test:443"]


async def test_init_reaches_ollama_at_every_address_of_this_machine(
    tmp_path: Path, ollama: FakeUpstream
) -> None:
    with refused_address() as proxy:
        for host in ("127.0.0.1", "0.0.0.0", "localhost"):
            done = await run(
                tmp_path,
                "init",
                "--force",
                OLLAMA_BASE_URL=f"http://{host}:{port_of(ollama)}/v1/",
                HTTP_PROXY=proxy.removesuffix("/v1"),
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert f"Ollama at http://{host}:{port_of(ollama)} has phi3:latest.\n" in done.stdout


async def test_init_reports_a_proxy_that_is_down(tmp_path: Path, ollama: FakeUpstream) -> None:
    with refused_address() as url:
        done = await run(
            tmp_path,
            "init",
            OLLAMA_HOST=address_of(ollama),
            OPENAI_API_KEY=KEY,
            HTTPS_PROXY=url.removesuffix("/v1").replace("http:", "socks5:"),
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "api.openai.com cannot be reached (" in done.stdout
    assert "Ollama at " in done.stdout


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"HTTPS_PROXY": "socks4://proxy:1080"}, f"HTTPS_PROXY: {UNSUPPORTED}"),
        ({"all_proxy": "socks4://proxy:1080"}, f"all_proxy: {UNSUPPORTED}"),
        (
            {"SSL_CERT_FILE": "/nothing.pem"},
            "SSL_CERT_FILE: /nothing.pem cannot be read: No such file or directory",
        ),
    ],
)
async def test_an_unusable_variable_is_one_line_of_every_command(
    tmp_path: Path, variables: dict[str, str], problem: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "upstreams:\n"
        "  local: {base_url: 'http://localhost:1/v1', model: phi3}\n"
        "  cloud: {base_url: 'https://cloud.test/v1', model: gpt-4o-mini}\n"
        "server: {port: 0}\n"
    )
    done = await run(tmp_path, "init", **variables)
    assert (done.returncode, done.stderr) == (1, f"Error: {problem}\n")
    assert not (tmp_path / "hybrid-llm.yaml").exists()
    for command in (
        ["check-config", "config.yaml"],
        ["serve", "--config", "config.yaml"],
        ["serve", "--config", "config.yaml", "--workers", "2"],
    ):
        done = await run(tmp_path, *command, **variables)
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if " WARNING " not in line]
        assert lines == [problem]


# serve


async def test_the_proxy_of_the_environment_is_used_by_serve(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    local: FakeUpstream,
    cloud: FakeUpstream,
) -> None:
    forward = await stack.enter_async_context(
        SocksProxy({"cloud.test:80": port_of(cloud)}, has_password=True)
    )
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    login = f"{USER}:{quote(PASSWORD, safe='')}"
    monkeypatch.setenv("all_proxy", f"socks5://{login}@{forward.address}")
    changes = {"upstreams": {"cloud": {"base_url": "http://cloud.test/v1"}}}
    async with Served(tmp_path, local, cloud, changes=changes) as proxy:
        assert (await ask(proxy.port, chat_body(model="cloud"))).head.status == 200
        assert (await ask(proxy.port, chat_body(model="local"))).head.status == 200
        said = f"http://cloud.test/v1 is reached through the proxy socks5://{forward.address}\n"
        assert proxy.log.decode().count(said) == 1
        assert USER not in proxy.log.decode()
    assert set(forward.targets) == {"cloud.test:80"}
    assert (len(local.calls), len(cloud.calls)) == (1, 1)


async def test_a_corrected_base_url_is_said_once_at_the_start(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    written = f"{address_of(local).replace('http', 'HTTP')}//v1/v1/"
    changes = {"upstreams": {"local": {"base_url": written}}}
    async with Served(tmp_path, local, cloud, changes=changes) as proxy:
        assert (await ask(proxy.port, chat_body(model="local"))).head.status == 200
        said = f"upstreams.local.base_url: {local.base_url} is used"
        assert proxy.log.decode().count(said) == 1
    config = tmp_path / "config.yaml"
    checked = await run(tmp_path, "check-config", config.name)
    assert checked.returncode == 0
    assert f"config.yaml: warning: {said}\n" in checked.stderr
    assert json.loads(config.read_text())["upstreams"]["local"]["base_url"] == written


async def test_a_database_on_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "storage.url: it is elsewhere"
    monkeypatch.setattr(storage, "network_storage_warning", lambda config: warning)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(config_fields(tmp_path, "http://localhost/v1", "https://x/v1")))
    checked = CliRunner().invoke(main, ["check-config", str(config)])
    assert (checked.exit_code, checked.output.splitlines()[0]) == (
        0,
        f"{config}: warning: {warning}",
    )
    load_to_serve(config)
    assert f"WARNING {config}: {warning}\n" in capsys.readouterr().err
