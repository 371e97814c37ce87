"""Write a first configuration for this machine: `hybrid-llm init`.

    run_init(InitOptions(), ask=False)    # writes ./hybrid-llm.yaml, and API keys to ./.env

The configuration is a copy of configs/default.yaml with other defaults. It documents every key and
cannot become outdated. It contains no API keys: it names variables, and `.env` holds their values,
readable by its owner only. `init` lists the models of Ollama and checks the cloud API key. It
starts no server.
"""

import asyncio
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Awaitable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import click
import httpx2
from dotenv import dotenv_values

from proxy.addresses import clean_base_url, join_url, without_version
from proxy.cli.options import CONFIG_FILE
from proxy.config import Config, ConfigError, UpstreamConfig, load_config, read_environment
from proxy.plain_text import printable
from proxy.protocol.ollama import (
    SHOW_PATH,
    TAGS_PATH,
    can_chat,
    find_model,
    is_proxy,
    read_model_names,
    server_url,
)
from proxy.upstream import check_network, open_transport
from router_model.bundled import bundled

DOTENV_FILE: Final = Path(".env")
CLOUD_KEY, CLIENT_KEYS = "OPENAI_API_KEY", "ROUTER_API_KEYS"

_OPTIONS: Final = {
    "OLLAMA_BASE_URL": "--ollama",
    "OLLAMA_MODEL": "--model",
    "CLOUD_MODEL": "--cloud-model",
}
# These would end a default, or its quoted text.
_NOT_PLAIN: Final = re.compile(r"""["'{}$\\\s\x00-\x1f]""")

_PREFERRED: Final = "phi3"  # the model that the router was trained on
_TIMEOUT_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3
_HEADER: Final = """\
# Written by `hybrid-llm init`: the default configuration, with defaults for this machine.
# ${VAR} and ${VAR:-default} are read from the environment, or from the .env file in the folder in
# which the proxy is started. Put API keys there. A running proxy reloads this file when it changes.
# Check it with:  hybrid-llm check-config hybrid-llm.yaml
# Settings marked * are accepted, but have no effect in this version.
"""


class InitFailed(Exception):
    """Nothing was written. The message is for the terminal."""


class InitOptions(NamedTuple):
    """The options of the command. A value of None is detected, asked for or left unchanged."""

    ollama_url: str | None = None
    model: str | None = None
    cloud_model: str | None = None
    cloud_key: str | None = None
    has_client_key: bool = False
    may_overwrite: bool = False


def run_init(options: InitOptions, *, ask: bool) -> None:
    """Detect the setup, write both files and print the next command.

    Args:
        ask: ask on the terminal for what cannot be detected.

    Raises:
        InitFailed: a configuration or a key already exists, the cloud rejected the key, or the
            options make no valid configuration. Nothing has been written.
        ConfigError: a variable of the environment cannot be used. Nothing has been written.
    """
    if options.cloud_key is not None and not options.cloud_key.strip():
        raise InitFailed("--key-file: the file has no key")
    if CONFIG_FILE.exists() and not options.may_overwrite:
        raise InitFailed(f"{CONFIG_FILE} already exists; use --force to overwrite it")
    environ = read_environment()
    if (
        options.cloud_key
        and not options.may_overwrite
        and dotenv_values(DOTENV_FILE).get(CLOUD_KEY)
    ):
        raise InitFailed(f"{DOTENV_FILE} already has {CLOUD_KEY}; use --force to replace it")
    defaults: dict[str, str] = {}
    url = options.ollama_url or server_url(environ)
    _check_address(url)
    url = without_version(clean_base_url(url))
    defaults["OLLAMA_BASE_URL"] = url
    defaults["OLLAMA_MODEL"], pull = _choose_local(url, options, environ, ask=ask)
    if options.cloud_model:
        defaults["CLOUD_MODEL"] = options.cloud_model
    text = _configuration(defaults)
    # Check the file alone too: a variable that is set today would hide an invalid default.
    _validate(text, {name: value for name, value in environ.items() if name not in defaults})
    config = _validate(text, environ)
    check_network(config)
    variables = {}
    if (key := _cloud_key(config, options, environ, ask=ask)) is not None:
        variables[CLOUD_KEY] = key
    if environ.get(CLIENT_KEYS):
        if options.has_client_key:
            click.echo(f"{CLIENT_KEYS} is already set: no new client key is created.")
    elif options.has_client_key or (
        ask and click.confirm("Create an API key that clients must send?", default=False)
    ):
        variables[CLIENT_KEYS] = f"sk-router-{secrets.token_urlsafe(24)}"
    try:
        if variables:
            save_to_dotenv(DOTENV_FILE, variables)
            click.echo(
                f"Wrote {' and '.join(variables)} into {DOTENV_FILE}, which only you can read."
            )
        CONFIG_FILE.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {CONFIG_FILE}.")
    except OSError as error:
        raise InitFailed(f"{error.filename}: cannot be written: {error.strerror}") from None
    if CLIENT_KEYS in variables:
        click.echo(f"Client API key: {variables[CLIENT_KEYS]}")
    _warn_if_overridden(config, options, url)
    _warn_if_readable(DOTENV_FILE)
    if pull:
        click.echo(f"First:  ollama pull {defaults['OLLAMA_MODEL'].removesuffix(':latest')}")
    click.echo("Next:  hybrid-llm serve")


def _check_address(url: str) -> None:
    """Reject an invalid address, or one with a password, before it is printed or stored."""
    why = None
    try:
        if "@" in urlsplit(url).netloc:
            why = "an address must not contain a password; use upstreams.local.basic_auth"
    except ValueError as error:
        why = str(error)
    if why is not None:
        raise InitFailed(f"--ollama, or the variable OLLAMA_BASE_URL: {why}")


def chat_models(url: str) -> list[str] | None:
    """The models of a server that can chat, the smallest first; None without an answer."""
    try:
        return asyncio.run(_chat_models(url))
    except (ConfigError, InitFailed):
        raise
    except Exception:  # any failure or other answer: it is not Ollama
        return None


async def _chat_models(url: str) -> list[str]:
    async with _open_client(url) as client:
        answer = await _ask(client.get(join_url(url, TAGS_PATH)))
        answer.raise_for_status()
        if is_proxy(answer.json()):
            raise InitFailed(
                f"{url} is a hybrid-llm proxy, not Ollama. Unset OLLAMA_HOST, or use --ollama URL"
            )
        chatting = []
        for name in read_model_names(answer.json()):
            details = await _ask(client.post(join_url(url, SHOW_PATH), json={"model": name}))
            if can_chat(name, details.json() if details.is_success else None):
                chatting.append(name)
        return chatting


async def _list_models(url: str, key: str) -> httpx2.Response:
    async with _open_client(url) as client:
        headers = {"Authorization": f"Bearer {key}"}
        return await _ask(client.get(join_url(url, "/models"), headers=headers))


def _open_client(url: str) -> httpx2.AsyncClient:
    """A client with the network settings of `serve`. Its transport has no time limits."""
    transport = open_transport(UpstreamConfig(base_url=url, model="any"))
    return httpx2.AsyncClient(transport=transport, trust_env=False)


async def _ask(request: Awaitable[httpx2.Response]) -> httpx2.Response:
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        return await request


def _choose_local(
    url: str, options: InitOptions, environ: Mapping[str, str], *, ask: bool
) -> tuple[str, bool]:
    """The local model, and whether it must still be downloaded."""
    available = chat_models(url)
    configured = options.model or environ.get("OLLAMA_MODEL")
    if available is None:
        click.echo(f"Ollama does not answer at {url}. Start it with `ollama serve`.")
    elif available:
        click.echo(f"Ollama at {url} has {', '.join(map(printable, available))}.")
    else:
        click.echo(f"Ollama at {url} has no model that can chat.")
    chosen = configured
    if chosen is None:
        preferred = [name for name in available or () if name.split(":")[0] == _PREFERRED]
        chosen = next(iter([*preferred, *(available or ())]), f"{_PREFERRED}:latest")
        if available and not preferred:
            click.echo(
                f"{_PREFERRED}, which the router was trained on, is missing: "
                "the smallest model is used."
            )
        if ask:
            chosen = click.prompt("Local model", default=chosen).strip()
    click.echo(f"Local model: {printable(chosen)}.")
    has_it = available is None or find_model(chosen, available) is not None
    return chosen, not has_it or (available is None and configured is None)


def _cloud_key(
    config: Config, options: InitOptions, environ: Mapping[str, str], *, ask: bool
) -> str | None:
    """The cloud API key to store, unless the cloud rejects it; None if there is none to store."""
    cloud = config.upstreams.cloud
    url, model = cloud.base_urls[0], cloud.model
    if options.cloud_key is None and (known := environ.get(CLOUD_KEY)):
        click.echo(f"{CLOUD_KEY} is already set.")
        if rejection := _rejection(url, known, model):
            raise InitFailed(f"{rejection}; correct or unset {CLOUD_KEY}")
        return None
    key = options.cloud_key
    for _ in range(_ATTEMPTS):
        if key is None and ask:
            key = click.prompt(
                f"API key for {urlsplit(url).hostname} (hidden; Enter to skip)",
                default="",
                show_default=False,
                hide_input=True,
            )
        key = (key or "").strip()
        if not key:
            click.echo(f"No cloud API key yet: put {CLOUD_KEY}=... into {DOTENV_FILE}.")
            return None
        rejection = _rejection(url, key, model)
        if rejection is None:
            return key
        if not ask:
            break
        click.echo(f"{rejection}.")
        key = None
    raise InitFailed(f"{rejection}; nothing was written")


def _rejection(url: str, key: str, model: str) -> str | None:
    """Why the cloud rejected the key. None if it accepted the key or could not be reached."""
    host = urlsplit(url).netloc
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "The key is invalid: it contains a space or a character outside ASCII"
    try:
        answer = asyncio.run(_list_models(url, key))
    except ConfigError:
        raise
    except Exception as error:  # of a network, a proxy or a server that is not there
        why = str(error) or type(error).__name__
        click.echo(f"{host} cannot be reached ({why}). The key was not checked.")
        return None
    if answer.status_code in (401, 403):
        return f"{host} rejected the key (status {answer.status_code})"
    if not answer.is_success:
        click.echo(f"{host} answered with status {answer.status_code}. The key was not checked.")
        return None
    click.echo(f"{host} accepted the key.")
    if (names := set(_names(answer))) and model not in names:
        click.echo(f"It does not list {model}: choose another model with --cloud-model.")
    return None


def _names(answer: httpx2.Response) -> Iterator[str]:
    try:
        payload: Any = answer.json()
        yield from (str(model["id"]) for model in payload["data"])
    except (ValueError, TypeError, LookupError):
        return


def _configuration(defaults: Mapping[str, str]) -> str:
    """The default configuration with a new header and new defaults of its variables."""
    text = bundled(Path("configs/default.yaml")).read_text(encoding="utf-8")
    text = _HEADER + text[text.index("\n\n") + 1 :]
    for name, value in defaults.items():
        if bad := _NOT_PLAIN.search(value):
            raise InitFailed(
                f"{_OPTIONS[name]}, or the variable {name}: {value!r} has {bad[0]!r}, "
                f"which {CONFIG_FILE} cannot contain there"
            )
        before, variable, rest = text.partition(f"${{{name}:-")
        assert variable, name
        text = f"{before}{variable}{value}{rest[rest.index('}') :]}"
    return text


def _validate(text: str, environ: Mapping[str, str]) -> Config:
    """Parse the text and validate it as `check-config` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CONFIG_FILE.name)
        path.write_text(text, encoding="utf-8")
        try:
            return load_config(path, environ=environ)
        except ConfigError as error:
            raise InitFailed(str(error).removeprefix(f"{folder}{os.sep}")) from None


def _warn_if_overridden(config: Config, options: InitOptions, url: str) -> None:
    """Warn of environment variables that override the values written for the options."""
    upstreams = config.upstreams
    for name, wanted, given, used in (
        ("OLLAMA_BASE_URL", options.ollama_url, f"{url}/v1", upstreams.local.base_urls[0]),
        ("OLLAMA_MODEL", options.model, options.model, upstreams.local.model),
        ("CLOUD_MODEL", options.cloud_model, options.cloud_model, upstreams.cloud.model),
    ):
        if wanted and given != used:
            click.echo(f"Warning: the variable {name} is set and overrides it: {used}.", err=True)
    if options.cloud_key and os.environ.get(CLOUD_KEY, "") not in ("", options.cloud_key.strip()):
        click.echo(f"Warning: the variable {CLOUD_KEY} is set and overrides the key.", err=True)


def _warn_if_readable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        click.echo(f"Warning: other users can read {path}. Run: chmod 600 {path}", err=True)


def save_to_dotenv(path: Path, values: Mapping[str, str]) -> None:
    """Set variables in a `.env` file that only its owner can read.

    Variables of the same name are replaced. The file is replaced atomically; a symbolic link stays
    a link.
    """
    path = path.resolve()
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    is_ours = re.compile(rf"\s*(?:export\s+)?(?:{'|'.join(map(re.escape, values))})\s*=")
    lines = [line for line in old if not is_ours.match(line)]
    quoted = {
        name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()
    }
    lines += [f"{name}='{value}'" for name, value in quoted.items()]
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".env-")  # with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
