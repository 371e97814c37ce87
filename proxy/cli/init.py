"""A first configuration for this machine: `hybrid-llm init`.

    run_init(InitOptions(), ask=False)    # ./hybrid-llm.yaml, and keys into ./.env

The file is configs/default.yaml with other defaults in it, so that it explains every key and cannot
lag behind. Keys never enter it: it names variables, which `.env` holds for its owner alone. This
file asks Ollama what it has and the cloud whether it takes the key; it starts nothing.
"""

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import click
import httpx2
from dotenv import dotenv_values

from proxy.cli.options import CONFIG_FILE
from proxy.config import Config, ConfigError, load_config, read_environment
from proxy.protocol.ollama import SHOW_PATH, TAGS_PATH, can_chat, read_model_names, server_url
from router_model.bundled import bundled

DOTENV_FILE: Final = Path(".env")
CLOUD_KEY, CLIENT_KEYS = "OPENAI_API_KEY", "ROUTER_API_KEYS"

_OPTIONS: Final = {
    "OLLAMA_BASE_URL": "--ollama",
    "OLLAMA_MODEL": "--model",
    "CLOUD_MODEL": "--cloud-model",
}
_NOT_PLAIN: Final = re.compile(r"""["'{}$\\\s\x00-\x1f]""")  # would end a default, or its text

_PREFERRED: Final = "phi3"  # what the router model was fitted to
_TIMEOUT_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3
_HEADER: Final = """\
# Written by `hybrid-llm init`: the default configuration with what was found on this machine.
# ${VAR} and ${VAR:-default} are filled from the environment or from the .env file of the folder in
# which the proxy is started; keys belong there. A proxy that runs takes up what is saved here.
# Check it with:  hybrid-llm check-config hybrid-llm.yaml
# Marked * are settings that are understood but change nothing in this version yet.
"""


class InitFailed(Exception):
    """Why nothing was written, for the terminal."""


class InitOptions(NamedTuple):
    """What was said on the command line; the rest is looked for, asked or left as it is."""

    ollama_url: str | None = None
    model: str | None = None
    cloud_model: str | None = None
    cloud_key: str | None = None
    has_client_key: bool = False
    may_overwrite: bool = False


def run_init(wishes: InitOptions, *, ask: bool) -> None:
    """Look around, ask what cannot be found, write both files and say what to type next.

    Raises:
        InitFailed: a configuration or a key is there already, the cloud refuses the key, or what
            was wished for makes no valid configuration. Then nothing has been written.
    """
    if wishes.cloud_key is not None and not wishes.cloud_key.strip():
        raise InitFailed("--key-file: there is no key in it")
    if CONFIG_FILE.exists() and not wishes.may_overwrite:
        raise InitFailed(f"{CONFIG_FILE} is there already; --force writes it anew")
    environ = read_environment()
    if wishes.cloud_key and not wishes.may_overwrite and dotenv_values(DOTENV_FILE).get(CLOUD_KEY):
        raise InitFailed(f"{DOTENV_FILE} has {CLOUD_KEY} already; --force replaces it")
    defaults: dict[str, str] = {}
    url = (wishes.ollama_url or server_url(environ)).rstrip("/").removesuffix("/v1")
    _need_address(url)
    defaults["OLLAMA_BASE_URL"] = url
    defaults["OLLAMA_MODEL"], pull = _choose_local(url, wishes, environ, ask=ask)
    if wishes.cloud_model:
        defaults["CLOUD_MODEL"] = wishes.cloud_model
    text = _configuration(defaults)
    # By itself, too: a variable that is set today hides what is written.
    _checked(text, {name: value for name, value in environ.items() if name not in defaults})
    config = _checked(text, environ)
    kept = {}
    if (key := _cloud_key(config, wishes, environ, ask=ask)) is not None:
        kept[CLOUD_KEY] = key
    if environ.get(CLIENT_KEYS):
        if wishes.has_client_key:
            click.echo(f"{CLIENT_KEYS} is set already: no other key is made.")
    elif wishes.has_client_key or (
        ask and click.confirm("Make a key that clients must send?", default=False)
    ):
        kept[CLIENT_KEYS] = f"sk-router-{secrets.token_urlsafe(24)}"
    try:
        if kept:
            save_to_dotenv(DOTENV_FILE, kept)
            click.echo(f"Wrote {' and '.join(kept)} into {DOTENV_FILE}, which only you can read.")
        CONFIG_FILE.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {CONFIG_FILE}.")
    except OSError as error:
        raise InitFailed(f"{error.filename}: cannot be written: {error.strerror}") from None
    if CLIENT_KEYS in kept:
        click.echo(f"The key for clients: {kept[CLIENT_KEYS]}")
    _warn_if_overruled(config, wishes, url)
    _warn_if_readable(DOTENV_FILE)
    if pull:
        click.echo(f"First:  ollama pull {defaults['OLLAMA_MODEL'].removesuffix(':latest')}")
    click.echo("Next:  hybrid-llm serve")


def _need_address(url: str) -> None:
    """Refuse what is none, or has a password in it, before it is shown or kept."""
    why = None
    try:
        if "@" in urlsplit(url).netloc:
            why = (
                "an address here has no password in it; upstreams.local.api_key is for what the "
                "server asks for"
            )
    except ValueError as error:
        why = str(error)
    if why is not None:
        raise InitFailed(f"--ollama, or the variable OLLAMA_BASE_URL: {why}")


def chat_models(url: str) -> list[str] | None:
    """The models of a server that can chat, the smallest first; None without an answer."""
    try:
        with httpx2.Client(base_url=url, timeout=_TIMEOUT_SECONDS) as client:
            answer = client.get(TAGS_PATH)
            answer.raise_for_status()
            names = read_model_names(answer.json())
            return [name for name in names if _can_chat(client, name)]
    except (
        httpx2.HTTPError,
        httpx2.InvalidURL,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ):
        return None


def _can_chat(client: httpx2.Client, name: str) -> bool:
    answer = client.post(SHOW_PATH, json={"model": name})
    return can_chat(name, answer.json() if answer.is_success else None)


def _choose_local(
    url: str, wishes: InitOptions, environ: Mapping[str, str], *, ask: bool
) -> tuple[str, bool]:
    """The local model, and whether it has still to be downloaded."""
    found = chat_models(url)
    wanted = wishes.model or environ.get("OLLAMA_MODEL")
    if found is None:
        click.echo(f"No Ollama answers at {url}: start it with `ollama serve`.")
    elif found:
        click.echo(f"Ollama at {url} has {', '.join(found)}.")
    else:
        click.echo(f"Ollama at {url} has no model that can chat.")
    chosen = wanted
    if chosen is None:
        preferred = [one for one in found or () if one.split(":")[0] == _PREFERRED]
        chosen = next(iter([*preferred, *(found or ())]), f"{_PREFERRED}:latest")
        if found and not preferred:
            click.echo(f"No {_PREFERRED}, which the router was fitted to: the smallest is taken.")
        if ask:
            chosen = click.prompt("Local model", default=chosen).strip()
    click.echo(f"The local model: {chosen}.")
    has_it = found is None or {chosen, f"{chosen}:latest"} & set(found)
    return chosen, not has_it or (found is None and wanted is None)


def _cloud_key(
    config: Config, wishes: InitOptions, environ: Mapping[str, str], *, ask: bool
) -> str | None:
    """A key to be kept, once the cloud takes it or cannot be asked; None when none is to be."""
    cloud = config.upstreams.cloud
    url, model = cloud.base_urls[0], cloud.model
    if wishes.cloud_key is None and (known := environ.get(CLOUD_KEY)):
        click.echo(f"{CLOUD_KEY} is set already.")
        if refusal := _refusal(url, known, model):
            raise InitFailed(f"{refusal}; correct {CLOUD_KEY} or unset it")
        return None
    key = wishes.cloud_key
    for _ in range(_ATTEMPTS):
        if key is None and ask:
            key = click.prompt(
                f"Key for {urlsplit(url).hostname}, not shown (Enter: none yet)",
                default="",
                show_default=False,
                hide_input=True,
            )
        key = (key or "").strip()
        if not key:
            click.echo(f"No key for the cloud yet: put {CLOUD_KEY}=… into {DOTENV_FILE}.")
            return None
        refusal = _refusal(url, key, model)
        if refusal is None:
            return key
        if not ask:
            break
        click.echo(f"{refusal}.")
        key = None
    raise InitFailed(f"{refusal}; nothing was written")


def _refusal(url: str, key: str, model: str) -> str | None:
    """Why the cloud does not take the key, as it says; None when it does or cannot be asked."""
    host = urlsplit(url).netloc
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "That is no key: it has a character that none has"
    try:
        answer = httpx2.get(
            f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_SECONDS
        )
    except httpx2.HTTPError as error:
        why = str(error) or type(error).__name__
        click.echo(f"{host} cannot be reached ({why}): the key is not checked.")
        return None
    if answer.status_code in (401, 403):
        return f"{host} refuses the key (status {answer.status_code})"
    if not answer.is_success:
        click.echo(f"{host} answers with status {answer.status_code}: the key is not checked.")
        return None
    click.echo(f"{host} takes the key.")
    if (names := set(_names(answer))) and model not in names:
        click.echo(f"It lists no {model}: name another with --cloud-model.")
    return None


def _names(answer: httpx2.Response) -> Iterator[str]:
    try:
        found: Any = answer.json()
        yield from (str(one["id"]) for one in found["data"])
    except (ValueError, TypeError, LookupError):
        return


def _configuration(defaults: Mapping[str, str]) -> str:
    """The default configuration with other defaults of its variables, and a header of its own."""
    text = bundled(Path("configs/default.yaml")).read_text(encoding="utf-8")
    text = _HEADER + text[text.index("\n\n") + 1 :]
    for name, value in defaults.items():
        if bad := _NOT_PLAIN.search(value):
            raise InitFailed(
                f"{_OPTIONS[name]}, or the variable {name}: {value!r} has {bad[0]!r}, "
                f"which {CONFIG_FILE} cannot hold there"
            )
        before, found, rest = text.partition(f"${{{name}:-")
        assert found, name
        text = f"{before}{found}{value}{rest[rest.index('}') :]}"
    return text


def _checked(text: str, environ: Mapping[str, str]) -> Config:
    """What the text says, once it is known that `check-config` would take it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CONFIG_FILE.name)
        path.write_text(text, encoding="utf-8")
        try:
            return load_config(path, environ=environ)
        except ConfigError as error:
            raise InitFailed(str(error).removeprefix(f"{folder}{os.sep}")) from None


def _warn_if_overruled(config: Config, wishes: InitOptions, url: str) -> None:
    """Variables win over the defaults that are written, also over those that were wished for."""
    upstreams = config.upstreams
    for name, wanted, given, used in (
        ("OLLAMA_BASE_URL", wishes.ollama_url, f"{url}/v1", upstreams.local.base_urls[0]),
        ("OLLAMA_MODEL", wishes.model, wishes.model, upstreams.local.model),
        ("CLOUD_MODEL", wishes.cloud_model, wishes.cloud_model, upstreams.cloud.model),
    ):
        if wanted and given != used:
            click.echo(f"Warning: the variable {name} is set and overrules it: {used}.", err=True)
    if wishes.cloud_key and os.environ.get(CLOUD_KEY, "") not in ("", wishes.cloud_key.strip()):
        click.echo(f"Warning: the variable {CLOUD_KEY} is set and overrules the key.", err=True)


def _warn_if_readable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        click.echo(f"Warning: others can read {path}; chmod 600 {path} keeps it yours.", err=True)


def save_to_dotenv(path: Path, values: Mapping[str, str]) -> None:
    """Put variables into a `.env`, in place of those of the same name; only its owner may read it.

    The old file stays whole until the new one, which nobody else could ever read, takes its place;
    where a link leads to it, there.
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
