"""The configuration file: accepted values, rejected values and their errors."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from proxy.config import (
    REASONING_MODELS,
    Config,
    ConfigError,
    ModelSettings,
    RuleThreshold,
    TimeoutsConfig,
    TokenRange,
    load_config,
    load_prices,
)

CONFIGS = Path(__file__).parents[2] / "configs"

TIERS = """\
upstreams:
  local:
    base_url: http://localhost:11434/v1
    model: phi3
  cloud:
    base_url: https://api.openai.com/v1
    model: gpt-4o-mini
"""
TIERS_LINES = TIERS.count("\n")

# The published example, with every key.
FULL = """\
server:   {host: 127.0.0.1, port: 8080, workers: 1, api_keys: [], max_body_mb: 32,
           request_timeout_seconds: 600}
upstreams:
  local:
    base_url: ${OLLAMA_BASE_URL:-http://localhost:11434}/v1
    model: ${OLLAMA_MODEL:-phi3:latest}
    api_key: ollama
    context_tokens: auto
    capabilities: auto
    price: {input: 0, cached_input: 0, output: 0}
    max_concurrency: 4
    timeouts: {connect: 5, first_token: 60, idle: 60}
  cloud:
    base_url: https://api.openai.com/v1
    model: ${CLOUD_MODEL:-gpt-4o-mini}
    api_key: ${OPENAI_API_KEY:-}
    context_tokens: 128000
    capabilities: [tools, vision, json_schema, logprobs]
    price: {input: 0.15, cached_input: 0.075, output: 0.60}
routing:  {model_path: data/models/router, threshold: auto, routed_models: [auto, gpt-4o-mini],
           unknown_models: cloud, sticky: escalate_only, fallback: true, spill_when_busy: true}
budget:   {cloud_usd_per_day: null, when_spent: local}
judge:    {enabled: false, model: gpt-4o-mini, sample_rate: 0.02, usd_per_day: 1.0}
storage:  {url: sqlite:///data/router.db, prompts: full, retention_days: 30}
"""

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def load(folder: Path, text: str, environ: Mapping[str, str] = NO_VARIABLES) -> Config:
    path = folder / "router.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ=environ)


def rejection(folder: Path, text: str, environ: Mapping[str, str] = NO_VARIABLES) -> str:
    """The error message without the file name: `LINE: key: problem`."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'router.yaml'}:")


def local(**keys: str) -> str:
    """Both tiers, with keys of the local tier replaced or added."""
    values = {"base_url": "http://localhost:11434/v1", "model": "phi3"} | keys
    lines = [f"    {key}: {value}\n" for key, value in values.items()]
    cloud = "  cloud: {base_url: https://api.openai.com/v1, model: gpt-4o-mini}\n"
    return "upstreams:\n" + cloud + "  local:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # An unknown key, at each level.
        (TIERS + "srver: {}", "8: srver: unknown key"),
        (TIERS + "server:\n  prt: 1", "9: server.prt: unknown key"),
        (local(modell="x"), "6: upstreams.local.modell: unknown key"),
        (local(price="{in: 1}"), "6: upstreams.local.price.in: unknown key"),
        (local(timeouts="{read: 1}"), "6: upstreams.local.timeouts.read: unknown key"),
        (TIERS + "  edge: {}", "8: upstreams.edge: unknown key"),
        (TIERS + "<<: {server: {}}", "8: <<: unknown key"),
        # A value of the wrong type.
        (TIERS + "server: []", "8: server: expected a mapping, got a list"),
        (TIERS + "server:\n  host: h\n  port: web", "10: server.port: expected `int`, got `str`"),
        (TIERS + "server: {port: 80.5}", "8: server.port: expected `int`, got `float`"),
        (TIERS + "server: {api_keys: 7}", "8: server.api_keys: expected a list, got `int`"),
        (
            TIERS + "server: {api_keys: [7]}",
            "8: server.api_keys[0]: expected text, got `int`; put it in quotes",
        ),
        (
            TIERS + "server:\n  api_keys:\n    - a\n    - {key: 7}",
            "11: server.api_keys[1].key: expected text, got `int`; put it in quotes",
        ),
        (
            TIERS + "server: {api_keys: [{requests_per_minute: 1}]}",
            "8: server.api_keys[0].key: is missing",
        ),
        (
            TIERS + "server: {api_keys: [{key: a, rpm: 1}]}",
            "8: server.api_keys[0].rpm: unknown key",
        ),
        (TIERS + "server: {api_keys: [{kay: a}]}", "8: server.api_keys[0].kay: unknown key"),
        (TIERS + "server: {api_keys: [{token: a}]}", "8: server.api_keys[0].token: unknown key"),
        (TIERS + "server: {api_keys: [{hunter: a}]}", "8: server.api_keys[0]: unknown key"),
        (
            TIERS + 'server: {hold_seconds: "10s"}',
            "8: server.hold_seconds: expected a number of seconds",
        ),
        (
            local(timeouts="{idle: 1m}"),
            "6: upstreams.local.timeouts.idle: expected a number of seconds",
        ),
        (
            TIERS + "server: {api_keys: [{key: a, requests_per_minute: 0}]}",
            "8: server.api_keys[0].requests_per_minute: expected `int` >= 1",
        ),
        (TIERS + "routing: {fallback: yes}", "8: routing.fallback: expected `bool`, got `str`"),
        (
            TIERS + "routing:\n  routed_models:\n    - auto\n    - 4",
            "11: routing.routed_models[1]: expected `str`, got `int`",
        ),
        (local(base_url="7"), "4: upstreams.local.base_url: expected `str | list`, got `int`"),
        (local(model="7"), "5: upstreams.local.model: expected `str`, got `int`"),
        (local(price="3"), "6: upstreams.local.price: expected auto or a mapping, got `int`"),
        # Out of range.
        (TIERS + "server: {port: 65536}", "8: server.port: expected `int` <= 65535"),
        (TIERS + "server: {workers: 0}", "8: server.workers: expected `int` >= 1"),
        (TIERS + "server: {max_body_mb: 0}", "8: server.max_body_mb: expected `float` > 0.0"),
        (TIERS + "server: {max_body_mb: .inf}", "8: server.max_body_mb: must be a finite number"),
        (TIERS + "routing: {threshold: 1.01}", "8: routing.threshold: expected `float` <= 1.0"),
        (TIERS + "routing: {threshold: .nan}", "8: routing.threshold: must be a finite number"),
        (local(price="{input: -1}"), "6: upstreams.local.price.input: expected `float` >= 0.0"),
        (local(timeouts="{idle: 0}"), "6: upstreams.local.timeouts.idle: expected `float` > 0.0"),
        (local(max_concurrency="0"), "6: upstreams.local.max_concurrency: expected `int` >= 1"),
        # Settings of some models.
        (
            local(models="[{names: [o3], idel: 5}]"),
            "6: upstreams.local.models[0].idel: unknown key",
        ),
        (local(models="[{idle: 5}]"), "6: upstreams.local.models[0].names: is missing"),
        (
            local(models="[{names: []}]"),
            "6: upstreams.local.models[0].names: expected a list of length >= 1",
        ),
        (
            local(models="[{names: o3}]"),
            "6: upstreams.local.models[0].names: expected a list, got `str`",
        ),
        (
            local(models="[{names: [o3], first_token: soon}]"),
            "6: upstreams.local.models[0].first_token: expected a number of seconds",
        ),
        (
            local(models="[{names: [o3], idle: 0}]"),
            "6: upstreams.local.models[0].idle: expected `float` > 0.0",
        ),
        (local(models="auto"), "6: upstreams.local.models: expected a list, got `str`"),
        (local(base_url="[]"), "4: upstreams.local.base_url: expected a list of length >= 1"),
        (
            TIERS + "storage: {retention_days: 0}",
            "8: storage.retention_days: expected `float` > 0.0",
        ),
        # An unknown word.
        (
            TIERS + "routing: {sticky: maybe}",
            "8: routing.sticky: 'maybe' is not one of: escalate_only, off, session",
        ),
        (TIERS + "verify: {mode: on}", "8: verify.mode: 'on' is not one of: auto, checks, off"),
        (
            TIERS + "routing: {out_of_domain: maybe}",
            "8: routing.out_of_domain: 'maybe' is not one of: cloud, local, score",
        ),
        (
            TIERS + "routing: {objective: cheap}",
            "8: routing.objective: 'cheap' is not one of: gain_per_usd, score",
        ),
        (
            TIERS + "routing: {threshold: high}",
            "8: routing.threshold: 'high' is not one of: auto, a number",
        ),
        (
            local(capabilities="[tools, flight]"),
            "6: upstreams.local.capabilities[1]: 'flight' is not one of: "
            "json_schema, logprobs, tools, vision",
        ),
        (
            local(capabilities="all"),
            "6: upstreams.local.capabilities: 'all' is not one of: auto, a list",
        ),
        # Missing.
        ("", "1: upstreams: is missing"),
        ("server: {port: 1}", "1: upstreams: is missing"),
        ("\nupstreams:\n  local: {base_url: http://l/v1}", "3: upstreams.local.model: is missing"),
        # Duplicates.
        (TIERS + "server:\n  port: 1\n  port: 2", "10: server.port: appears twice"),
        (TIERS + TIERS, "8: upstreams: appears twice"),
        # Not YAML, or not a mapping.
        ("[]", "1: expected a mapping of sections such as 'upstreams:'"),
        (
            TIERS + "server:\n\tport: 1",
            "9: not valid YAML: found character '\\t' that cannot start any token",
        ),
        (TIERS + 'server: {host: "\x00"}', "8: not valid YAML: special characters are not allowed"),
        (TIERS + "---\nserver: {}", "8: not valid YAML: but found another document"),
        # Values of the right type that are invalid.
        (TIERS + 'server: {api_keys: [a, ""]}', "8: server.api_keys: an API key is empty"),
        (TIERS + 'server: {api_keys: "a,,b"}', "8: server.api_keys: an API key is empty"),
        (
            TIERS + "server: {api_keys: [a, {key: a, requests_per_minute: 1}]}",
            "8: server.api_keys: the same API key appears twice",
        ),
        (
            TIERS + "storage: {url: postgresql://db/}",
            "8: storage.url: a PostgreSQL URL has the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        ),
    ],
)
def test_error_names_line_key_and_problem(tmp_path: Path, text: str, expected: str) -> None:
    assert rejection(tmp_path, text) == expected


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434",
        "ftp://localhost/v1",
        "http:///v1",
        "http://[::1/v1",
        "http://localhost:port/v1",
        "http://localhost:99999/v1",
        "http://localhost:0/v1",
        "http://localhost/v1#part",
        '"http://local host/v1"',
    ],
)
def test_invalid_base_url_is_rejected(tmp_path: Path, url: str) -> None:
    expected = f"'{url.strip(chr(34))}' is not a URL such as http://localhost:11434/v1"
    assert rejection(tmp_path, local(base_url=url)) == f"4: upstreams.local.base_url: {expected}"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/v1",
        "http://127.0.0.1:8080",
        "http://[::1]:8080/v1",
        "http://0.0.0.0:8080/v1",
    ],
)
def test_a_tier_is_not_the_proxy_itself(tmp_path: Path, url: str) -> None:
    problem = rejection(tmp_path, local(base_url=url))
    assert problem.startswith("4: upstreams.local.base_url: ")
    assert "is this proxy's own address" in problem
    path = tmp_path / "config.yaml"
    path.write_text(local(base_url=url))
    assert load_config(path, environ={}, port=8081).server.port == 8081


def test_a_tier_at_the_same_port_elsewhere_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(local(base_url="http://gpu:8080/v1"))
    assert load_config(path, environ={}).upstreams.local.base_url == "http://gpu:8080/v1"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@host/v1",
        "http://hunter2@host/v1",
        "http://host/v1?api-key=hunter2",
        "http://host/v1?api-version=1&sig=hunter2",
        "http://host/v1?access%5Ftoken=hunter2",
    ],
)
def test_credentials_in_a_url_are_rejected_and_not_repeated(tmp_path: Path, url: str) -> None:
    assert rejection(tmp_path, local(base_url=url)) == (
        "4: upstreams.local.base_url: credentials belong in api_key, basic_auth or headers, "
        "not in the URL"
    )


@pytest.mark.parametrize(
    "url", ["sqlite://router.db", '"sqlite:///"', '"sqlite:///:memory:"', "router.db"]
)
def test_sqlite_url_must_name_a_file(tmp_path: Path, url: str) -> None:
    message = rejection(tmp_path, TIERS + f"storage:\n  url: {url}")
    assert (
        message
        == "9: storage.url: a SQLite URL has the form sqlite:///FILE (three slashes, "
        + ("then a path)")
    )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+psycopg", "mysql", "https"])
def test_an_unknown_scheme_of_the_database_is_named(tmp_path: Path, scheme: str) -> None:
    message = rejection(tmp_path, TIERS + f"storage:\n  url: {scheme}://u:hunter2@host/db")
    expected = f"unknown scheme '{scheme}': use postgresql:// or sqlite:///"
    assert message == f"9: storage.url: {expected}"


KEY = "may hold a client's key and is never passed on"
CONNECTION = "belongs to one connection or body and is never passed on"
BROWSER = "acts on browsers or on a server in front and is never passed on"
ACCOUNT = "names the account of the tier's key and is never passed on"
PROXY = "belongs to this proxy and is never passed on"


@pytest.mark.parametrize(
    ("key", "header", "problem"),
    [
        ("forward_headers", "X-Api-Key", f"'x-api-key' {KEY}"),
        ("forward_headers", "authorization", f"'authorization' {KEY}"),
        ("forward_headers", "cookie", f"'cookie' {KEY}"),
        ("forward_headers", "openai-organization", f"'openai-organization' {ACCOUNT}"),
        ("forward_headers", "OpenAI-Project", f"'openai-project' {ACCOUNT}"),
        ("forward_headers", "content-length", f"'content-length' {CONNECTION}"),
        ("forward_headers", "proxy-authorization", f"'proxy-authorization' {CONNECTION}"),
        ("forward_headers", "x-router-target", f"'x-router-target' {PROXY}"),
        ("forward_headers", "x-*", "write each name in full; patterns are not supported"),
        ("return_headers", "'*'", "write each name in full; patterns are not supported"),
        ("return_headers", "WWW-Authenticate", f"'www-authenticate' {BROWSER}"),
        ("return_headers", "location", f"'location' {BROWSER}"),
        ("return_headers", "set-cookie", f"'set-cookie' {BROWSER}"),
        ("return_headers", "strict-transport-security", f"'strict-transport-security' {BROWSER}"),
        ("return_headers", "access-control-max-age", f"'access-control-max-age' {BROWSER}"),
        ("return_headers", "x-accel-redirect", f"'x-accel-redirect' {BROWSER}"),
        ("return_headers", "openai-organization", f"'openai-organization' {ACCOUNT}"),
        ("return_headers", "x-request-id", f"'x-request-id' {PROXY}"),
    ],
)
def test_headers_that_must_not_pass_are_refused(
    tmp_path: Path, key: str, header: str, problem: str
) -> None:
    message = rejection(tmp_path, local(**{key: f"[{header}]"}))
    assert message == f"6: upstreams.local.{key}[0]: {problem}"


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("{Content-Type: KEY}", "'content-type' belongs to one connection or body"),
        ("{transfer-encoding: KEY}", "'transfer-encoding' belongs to one connection or body"),
        ("{Proxy-Authorization: KEY}", "'proxy-authorization' belongs to one connection or body"),
        ("{x-a: KEY, X-A: KEY}", "'x-a' appears twice"),
        ("{'x a': KEY}", "has a name that no header can have"),
        ("{'': KEY}", "has a name that no header can have"),
        ("{'KEY:x': y}", "has a name that no header can have"),
        ('{x-a: "KEY\\r\\nb: c"}', "contains a character that is not allowed in HTTP headers"),
        ("{x-a: 7}", "expected text, got `int`; put it in quotes"),
        ("{x-a: [KEY]}", "expected text, got `list`"),
        ("[KEY]", "expected a mapping, got a list"),
        ("KEY", "expected a mapping, got `str`"),
    ],
)
@pytest.mark.parametrize("section", ["upstreams.local", "judge"])
def test_headers_that_cannot_be_set_are_refused_without_their_values(
    tmp_path: Path, section: str, headers: str, problem: str
) -> None:
    headers = headers.replace("KEY", "hunter2")
    text = (
        local(headers=headers) if section != "judge" else TIERS + f"judge: {{headers: {headers}}}"
    )
    message = rejection(tmp_path, text)
    assert message.partition(": ")[2].startswith(f"{section}.headers: {problem}")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("settings", "logins"),
    [
        ({"api_key": "sk-hunter2-x", "basic_auth": "{username: bob, password: hunter2}"},
         "api_key and basic_auth"),
        ({"api_key": "sk-hunter2-x", "headers": "{Authorization: hunter2}"},
         "api_key and headers.authorization"),
        ({"headers": "{Authorization: hunter2}",
          "basic_auth": "{username: bob, password: hunter2}"},
         "basic_auth and headers.authorization"),
    ],
)  # fmt: skip
def test_one_login_at_most(tmp_path: Path, settings: dict[str, str], logins: str) -> None:
    message = rejection(tmp_path, local(**settings))
    assert message.endswith(f": set only one of {logins}: each is the header 'authorization'")
    assert "hunter2" not in message


def test_a_placeholder_key_gives_way_to_a_login(tmp_path: Path) -> None:
    login = "{username: bob, password: ' '}"
    tier = load(tmp_path, local(api_key="ollama", basic_auth=login)).upstreams.local
    assert tier.sent_headers == [("authorization", "Basic Ym9iOg==")]
    headers = load(tmp_path, local(api_key="ollama", headers="{Authorization: a}")).upstreams.local
    assert headers.sent_headers == [("authorization", "a")]
    assert load(tmp_path, local(api_key="ollama")).upstreams.local.sent_headers == [
        ("authorization", "Bearer ollama")
    ]


@pytest.mark.parametrize(
    ("login", "problem"),
    [
        ("{username: 'b:hunter2', password: p}", "user name must not contain a colon"),
        ("{username: bob, passwort: hunter2}", "basic_auth: unknown key"),
        ("{username: bob, password: 7}", "password: expected text, got `int`; put it in quotes"),
        ("{username: bob}", "password: is missing"),
        ("hunter2", "basic_auth: expected a mapping"),
    ],
)
def test_a_broken_login_is_refused_without_its_values(
    tmp_path: Path, login: str, problem: str
) -> None:
    message = rejection(tmp_path, local(basic_auth=login))
    assert problem in message
    assert "hunter2" not in message


def test_credentials_are_masked(tmp_path: Path) -> None:
    login = "{username: bob, password: hunter2}"
    shown = repr(load(tmp_path, local(basic_auth=login, headers="{x-key: hunter2}")))
    assert "hunter2" not in shown
    assert "Secret('***')" in shown


def test_other_headers_may_be_added(tmp_path: Path) -> None:
    added = {"forward_headers": "[x-title, HTTP-Referer]", "return_headers": "[CF-Ray]"}
    tier = load(tmp_path, local(**added)).upstreams.local
    assert (tier.forward_headers, tier.return_headers) == (("x-title", "HTTP-Referer"), ("CF-Ray",))


def test_several_base_urls_are_replicas(tmp_path: Path) -> None:
    config = load(tmp_path, local(base_url="[http://a:1/v1/, http://b:1/v1]"))
    assert config.upstreams.local.base_urls == ("http://a:1/v1", "http://b:1/v1")
    message = rejection(tmp_path, local(base_url="[http://a:1/v1, b]"))
    assert message.startswith("4: upstreams.local.base_url: 'b' is not a URL")


def test_unreadable_file_is_a_one_line_error(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory") as caught:
        load_config(missing)
    assert str(caught.value).startswith(f"{missing}: ")
    (tmp_path / "latin.yaml").write_bytes(b"server: {host: \xe4}")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["a: &a [*a]", "judge: {model: 2020-13-45}"])
def test_invalid_yaml_is_rejected_without_a_traceback(tmp_path: Path, text: str) -> None:
    assert "not valid YAML" in rejection(tmp_path, text)


# Variables.


def test_variables_and_defaults_are_expanded(tmp_path: Path) -> None:
    text = local(base_url="${HOST:-http://localhost:1}/v1", model="${MODEL}")
    config = load(tmp_path, text, {"MODEL": "phi3:mini"})
    assert config.upstreams.local.base_urls == ("http://localhost:1/v1",)
    assert config.upstreams.local.model == "phi3:mini"
    config = load(tmp_path, text, {"MODEL": "m", "HOST": "http://gpu:2"})
    assert config.upstreams.local.base_urls == ("http://gpu:2/v1",)


def test_unset_variable_is_named_with_its_line(tmp_path: Path) -> None:
    expected = "the environment variable MODEL is not set and has no default"
    for environ in ({}, {"MODEL": ""}):
        message = rejection(tmp_path, local(model="${MODEL}"), environ)
        assert message == f"5: upstreams.local.model: {expected}"


def test_empty_variable_takes_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, local(model="${MODEL:-phi3}"), {"MODEL": ""})
    assert config.upstreams.local.model == "phi3"


@pytest.mark.parametrize("text", ["${PORT-80}", "${PORT:-${OTHER}}", "${8080}", "${PORT"])
def test_malformed_variable_is_rejected(tmp_path: Path, text: str) -> None:
    message = rejection(tmp_path, TIERS + f"server:\n  host: {text}\n", {"PORT": "1", "OTHER": "2"})
    assert message == f"9: server.host: '{text}' is neither ${{VAR}} nor ${{VAR:-default}}"


def test_value_of_a_variable_is_not_expanded_again(tmp_path: Path) -> None:
    config = load(tmp_path, local(model="${MODEL}"), {"MODEL": "${HOME}"})
    assert config.upstreams.local.model == "${HOME}"


def test_unquoted_variable_takes_the_type_of_its_value(tmp_path: Path) -> None:
    text = TIERS + "server:\n  port: ${PORT:-8080}\nrouting:\n  fallback: ${FALL:-true}\n"
    assert load(tmp_path, text).server.port == 8080
    assert load(tmp_path, text).routing.fallback is True
    config = load(tmp_path, text, {"PORT": "9", "FALL": "false"})
    assert (config.server.port, config.routing.fallback) == (9, False)
    message = rejection(tmp_path, text, {"PORT": "web"})
    assert message == "9: server.port: expected `int`, got `str`"
    message = rejection(tmp_path, TIERS + 'server:\n  port: "${PORT:-8080}"')
    assert message == "9: server.port: expected `int`, got `str`"


def test_environment_overrides_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROM_BOTH", "environment")
    monkeypatch.delenv("FROM_FILE", raising=False)
    path = tmp_path / "router.yaml"
    path.write_text(local(model="${FROM_FILE}-${FROM_BOTH}", api_key="${KEY:-none}"))
    (tmp_path / ".env").write_text("# keys\nFROM_FILE=file\nexport FROM_BOTH='file'\nKEY=\n")
    config = load_config(path)
    assert config.upstreams.local.model == "file-environment"
    assert config.upstreams.local.api_key is not None
    assert config.upstreams.local.api_key.reveal() == "none"
    (tmp_path / ".env").write_bytes(b"KEY=\xff\n")
    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: "):
        load_config(path)


# API keys and addresses.


def keys_of(config: Config) -> list[str]:
    return [key.key.reveal() for key in config.server.api_keys]


def test_api_keys_are_a_list_or_comma_separated_text(tmp_path: Path) -> None:
    text = TIERS + 'server: {api_keys: "${KEYS:-}"}'
    assert keys_of(load(tmp_path, text)) == []
    assert keys_of(load(tmp_path, text, {"KEYS": "one"})) == ["one"]
    assert keys_of(load(tmp_path, text, {"KEYS": " one, 2 "})) == ["one", "2"]
    assert keys_of(load(tmp_path, TIERS + "server:\n  api_keys: ${KEYS:-}")) == []
    config = load(tmp_path, TIERS + "server: {api_keys: [a, {key: b, cloud_usd_per_day: 2}]}")
    assert keys_of(config) == ["a", "b"]
    assert [key.cloud_usd_per_day for key in config.server.api_keys] == [None, 2]


@pytest.mark.parametrize("host", ["0.0.0.0", '"::"', "192.168.1.7", "router.lan", "my-laptop"])
def test_reachable_address_requires_api_keys(tmp_path: Path, host: str) -> None:
    text = TIERS + f"server:\n  host: {host}\n"
    message = rejection(tmp_path, text)
    bare = host.strip('"')
    assert message.startswith(
        f"8: server.api_keys: without API keys anyone who can reach '{bare}' could"
    )
    assert "server.allow_anonymous: true" in message
    load(tmp_path, text + "  api_keys: [secret]\n")
    load(tmp_path, text + "  allow_anonymous: true\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", '"::1"', "localhost"])
def test_loopback_address_requires_no_api_keys(tmp_path: Path, host: str) -> None:
    load(tmp_path, TIERS + f"server: {{host: {host}}}")


def test_command_line_host_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(TIERS + "server: {host: 0.0.0.0}")
    assert load_config(path, host="127.0.0.1", port=9).server.port == 9
    path.write_text(TIERS)
    with pytest.raises(ConfigError, match=r":1: server\.api_keys: without API keys"):
        load_config(path, host="0.0.0.0")


# Booleans of YAML 1.1.


def test_off_is_text_and_true_is_a_boolean(tmp_path: Path) -> None:
    config = load(tmp_path, TIERS + "routing: {sticky: off, fallback: false}")
    assert config.routing.sticky == "off"
    assert config.routing.fallback is False
    assert load(tmp_path, TIERS + "verify: {mode: off}").verify.mode == "off"
    text = TIERS + "routing: {routed_models: [auto, on, yes, no]}"
    assert load(tmp_path, text).routing.routed_models == ("auto", "on", "yes", "no")


# Secrets.


def test_secrets_are_hidden(tmp_path: Path) -> None:
    secret = "sk-very-secret"
    text = TIERS + f"    api_key: {secret}\nserver:\n  api_keys: [{secret}-2]\n"
    config = load(tmp_path, text)
    assert config.upstreams.cloud.api_key is not None
    assert config.upstreams.cloud.api_key.reveal() == secret
    assert config.server.api_keys[0].key.reveal() == f"{secret}-2"
    for shown in (repr(config), str(config), f"{config.server}", f"{config.upstreams.cloud}"):
        assert secret not in shown
    for broken in (
        text + "  port: web",
        TIERS + f"server: {{api_keys: {secret}, port: web}}",
        TIERS + f"server: {{api_keys: [{{key: {secret}, rpm: 1}}]}}",
        TIERS + f'server: {{api_keys: ["{secret}\\u0007"]}}',
        TIERS + f"server: {{api_keys: [[{secret}]]}}",
    ):
        assert secret not in rejection(tmp_path, broken)


SECRETS = ["sk-very-secret", "Hunter2Long99", "geheim"]
# Where a configuration can have a key in a form that is refused; KEY stands for the key.
IN_API_KEY = [
    "'KEY ${'",
    "'${KEY'",
    "'${KEY:-${'",
    "'KEY${}'",
    "*KEY",
    "!!int KEY",
    "!!float KEY",
    "!!bool KEY",
    "!!timestamp KEY",
    "!!binary KEY=",
    "!!binary KEYä",
    "!KEY",
    "!KEY x",
    "!<KEY> x",
    "!!KEY x",
    "&KEY",
    "{KEY: 5}",
    "{KEY: {KEY: 1}}",
    "{KEY: 1, KEY: 2}",
    "[KEY]",
    "[[KEY]]",
    "[KEY: 5]",
    "{a: *KEY}",
    "{KEY: .inf}",
    "'KEY",
    '"KEY',
    '"KEY\\q"',
    '"KEY\\UFFFFFFFF"',
    "|KEY",
    ">KEY",
    "|\n  KEY\n x",
    "@KEY",
    "`KEY`",
    "%KEY",
    "KEY: KEY",
    "? KEY",
    '"KEY" KEY',
    '"KEY\\u0007"',
    "!!set {KEY}",
    "!!omap [KEY: 1]",
    "[KEY",
    "{KEY",
    "KEY: [",
]
IN_API_KEYS = [
    *IN_API_KEY,
    "[KEY, *KEY]",
    "[{key: [KEY]}]",
    "[{key: KEY, KEY-2: 1}]",
    "[{key: KEY, requests_per_minute: KEY-2}]",
    "[KEY, KEY]",
    "[KEY, [KEY]]",
    "[{kye: KEY}]",
    "[{key: {KEY: 1, KEY: 2}}]",
    "[{KEY: KEY}]",
    "[{key: KEY, admin: !!bool KEY}]",
    "[!!int KEY]",
    "[{key: 'KEY ${'}]",
    "['${KEY']",
    "[{key: KEY, key: KEY}]",
    "[KEY: {KEY: .nan}]",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        *(f"{TIERS}    api_key: {form}\n" for form in IN_API_KEY),
        *(f"{TIERS}server:\n  api_keys: {form}\n" for form in IN_API_KEYS),
        *(f"{TIERS}judge: {{api_key: {form}}}\n" for form in IN_API_KEY),
        *(f"{TIERS}storage:\n  url: {form}\n" for form in IN_API_KEY),
        TIERS + "storage: {url: KEY}",
        TIERS + "storage: {url: [KEY]}",
    ],
)
def test_no_error_repeats_a_key_in_the_wrong_form(tmp_path: Path, text: str, secret: str) -> None:
    try:
        load(tmp_path, text.replace("KEY", secret))
    except ConfigError as error:
        message = str(error).removeprefix(str(tmp_path))
        assert secret not in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "secret", ["sk-very-secret", "Hunter2Long99", "abcdefghijklmnopqrstuvwxyz"]
)
@pytest.mark.parametrize(
    "text",
    [
        TIERS + "    api_key:KEY\n",
        TIERS + "    api_key=KEY\n",
        TIERS + "    {api_key:KEY}\n",
        TIERS + "    KEY:\n",
        TIERS + "    ? [KEY]\n",
        TIERS + "KEY: 1\n",
        TIERS + "  KEY: {api_key: 7}\n",
        TIERS + "server: {KEY: 1}\n",
        TIERS + "server: {api_key:KEY}\n",
        TIERS + "server: {api_key KEY: 1}\n",
        TIERS + "server: {'KEY`x': 1}\n",
        TIERS + "server: {port: KEY}\n",
        TIERS + "server: {port: !!int KEY}\n",
        TIERS + "server: {host: '${KEY'}\n",
        TIERS + "server: {host: '${KEY}'}\n",
        TIERS + "server: {cors_origins: [KEY]}\n",
        TIERS + "server: KEY\n",
        TIERS + "routing: {threshold: KEY}\n",
        TIERS + "routing: {sticky: KEY}\n",
        TIERS + "judge: {base_url: KEY}\n",
        TIERS + "judge: {base_url: 'https://me:KEY@host/v1'}\n",
        local(base_url="KEY"),
        local(base_url="http://host/v1?api_key=KEY"),
        local(base_url="http://me:KEY@host/v1"),
        local(capabilities="[KEY]"),
        local(price="KEY"),
        "KEY",
        "- KEY",
        "api_key:KEY",
        "{KEY: KEY}",
    ],
)
def test_no_error_repeats_a_key_in_the_wrong_place(tmp_path: Path, text: str, secret: str) -> None:
    name = secret.replace("-", "_") if "${KEY}" in text else secret
    assert secret not in rejection(tmp_path, text.replace("KEY", name))
    assert name not in rejection(tmp_path, text.replace("KEY", name))


def test_a_misspelt_name_is_named(tmp_path: Path) -> None:
    assert rejection(tmp_path, TIERS + "server: {max-body-mb: 1}").startswith(
        "8: server.max-body-mb:"
    )
    assert rejection(tmp_path, local(api_key="${CLOUD_KEY_2}")) == (
        "6: upstreams.local.api_key: the environment variable CLOUD_KEY_2 is not set and has no "
        "default"
    )


@pytest.mark.parametrize("key", ["0123", "12345", "true", "1.5", "1_000", "12:30"])
def test_api_key_of_another_yaml_type_must_be_quoted(tmp_path: Path, key: str) -> None:
    message = rejection(tmp_path, local(api_key=key))
    assert re.fullmatch(
        r"6: upstreams\.local\.api_key: expected text, got `\w+`; put it in quotes", message
    )
    api_key = load(tmp_path, local(api_key=f'"{key}"')).upstreams.local.api_key
    assert api_key is not None
    assert api_key.reveal() == key


def test_api_key_must_be_valid_in_a_header(tmp_path: Path) -> None:
    text = local(api_key="${KEY}")
    api_key = load(tmp_path, text, {"KEY": "sk-mounted\n"}).upstreams.local.api_key
    assert api_key is not None
    assert api_key.reveal() == "sk-mounted"
    message = rejection(tmp_path, text, {"KEY": "sk-\r\nx: y"})
    assert message.endswith("api_key: contains a character that is not allowed in HTTP headers")


def test_empty_api_key_counts_as_absent(tmp_path: Path) -> None:
    config = load(tmp_path, local(api_key="${KEY:-}"))
    assert config.upstreams.local.api_key is None
    assert not load(tmp_path, local(api_key='""')).upstreams.local.api_key


# Complete files.


def test_every_key_of_the_published_example_is_accepted(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert config.server.max_body_bytes == 32 * 1024 * 1024
    assert config.upstreams.local.model == "phi3:latest"
    assert config.upstreams.cloud.context_tokens == 128_000
    assert config.upstreams.cloud.price.cached_input == 0.075
    assert config.routing.routed_models == ("auto", "gpt-4o-mini")
    assert config.budget.cloud_usd_per_day is None


REASONING = (
    "o1 o1-pro o3-mini o3-2025-04-16 o4-mini gpt-5 gpt-5-mini gpt-5.2-pro gpt-6-astra "
    "openai/o3 azure/gpt-5 openrouter/openai/gpt-5 ft:o4-mini:org::id"
)
OTHERS = "gpt-4o-mini gpt-4.1 gpt-5-chat-latest openai/gpt-5-chat phi3:latest omni o gpt-oss:20b"


@pytest.mark.parametrize("model", REASONING.split())
def test_reasoning_models_have_more_time(tmp_path: Path, model: str) -> None:
    cloud = load(tmp_path, TIERS).upstreams.cloud
    thinks = TimeoutsConfig(connect=5, first_token=600, idle=300)
    assert cloud.settings_of(model) == ModelSettings(thinks, reasoning=True)


@pytest.mark.parametrize("model", OTHERS.split())
def test_other_models_have_the_timeouts_of_the_tier(tmp_path: Path, model: str) -> None:
    cloud = load(tmp_path, TIERS).upstreams.cloud
    assert cloud.settings_of(model) == ModelSettings(TimeoutsConfig(), reasoning=False)


def test_the_first_entry_that_has_a_model_counts(tmp_path: Path) -> None:
    text = local(
        timeouts="{first_token: 7}",
        models='[{names: [A*], idle: 1}, {names: [ab, "*"], first_token: 2, reasoning: true}]',
    )
    tier = load(tmp_path, text).upstreams.local
    for model in ("ab", "AB"):
        assert tier.settings_of(model) == ModelSettings(TimeoutsConfig(first_token=7, idle=1))
    assert tier.settings_of("b") == ModelSettings(TimeoutsConfig(first_token=2), reasoning=True)


def test_settings_without_effect_give_a_warning(tmp_path: Path) -> None:
    assert list(load(tmp_path, TIERS).warnings()) == []
    assert [warning.partition(":")[0] for warning in load(tmp_path, FULL).warnings()] == [
        "upstreams.cloud.context_tokens",
        "upstreams.cloud.capabilities",
    ]
    text = "judge: {enabled: true}\nstorage: {prompts: hash}\n"
    warnings = load(tmp_path, TIERS + text).warnings()
    assert [warning.partition(":")[0] for warning in warnings] == ["judge.enabled"]


def test_a_timeout_beyond_that_of_the_request_gives_a_warning(tmp_path: Path) -> None:
    models = "[{names: [a], first_token: 600}, {names: [b], first_token: 601}, {names: [c]}]"
    warnings = load(tmp_path, local(models=models, timeouts="{first_token: 700}")).warnings()
    assert [warning.partition(":")[0] for warning in warnings] == [
        "upstreams.local.timeouts.first_token",
        "upstreams.local.models[1].first_token",
    ]
    assert not [*load(tmp_path, TIERS + "server: {request_timeout_seconds: 60}").warnings()]


@pytest.mark.parametrize(
    ("url", "key", "warns"),
    [
        ("http://192.168.1.7/v1", "sk-1", True),
        ("http://gpu.lan:8000/v1", "sk-1", True),
        ("[http://localhost/v1, http://10.0.0.1/v1]", "sk-1", True),
        ("http://gpu.lan/v1", "ollama", False),
        ("https://gpu.lan/v1", "sk-1", False),
        ("http://localhost:1/v1", "sk-1", False),
        ("http://127.0.0.1/v1", "sk-1", False),
        ('"http://[::1]:1/v1"', "sk-1", False),
    ],
)
def test_a_key_that_is_sent_unencrypted_gives_a_warning(
    tmp_path: Path, url: str, key: str, warns: bool
) -> None:
    warning = "api_key: is sent unencrypted to another machine; use an https URL"
    config = load(tmp_path, local(base_url=url, api_key=key))
    assert list(config.warnings()) == [f"upstreams.local.{warning}"] * warns
    if not url.startswith("["):
        judge = f"judge: {{base_url: {url}, api_key: {key}}}"
        assert list(load(tmp_path, TIERS + judge).warnings()) == [f"judge.{warning}"] * warns


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"basic_auth": "{username: bob, password: x}"}, "basic_auth"),
        ({"headers": "{api-key: x}"}, "headers"),
        ({"headers": "{x-title: x}"}, None),
    ],
)
def test_other_credentials_that_are_sent_unencrypted_give_a_warning(
    tmp_path: Path, settings: dict[str, str], key: str | None
) -> None:
    text = local(base_url="http://gpu.lan/v1", **settings)
    problem = "is sent unencrypted to another machine; use an https URL"
    expected = [] if key is None else [f"upstreams.local.{key}: {problem}"]
    assert list(load(tmp_path, text).warnings()) == expected
    here = local(base_url="http://0.0.0.0:1/v1", **settings)
    assert list(load(tmp_path, here).warnings()) == []


def test_a_base_url_that_is_corrected_gives_a_warning(tmp_path: Path) -> None:
    url = "[http://gpu:1/v1/, HTTP://GPU:2, 'http://gpu:3//v1?api-version=1']"
    config = load(tmp_path, local(base_url=url) + "judge: {base_url: 'https://x/v1/v1'}\n")
    assert list(config.warnings()) == [
        "upstreams.local.base_url: http://gpu:2/v1 is used",
        "upstreams.local.base_url: http://gpu:3/v1?api-version=1 is used",
        "judge.base_url: https://x/v1 is used",
    ]
    assert config.upstreams.local.written_urls[1] == "HTTP://GPU:2"
    assert config.upstreams.local.base_urls[:2] == ("http://gpu:1/v1", "http://gpu:2/v1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("verify: {second: llama3}\n", None),
        ("verify: {second: llama3, mode: off}\nrouting: {fallback: false}\n", None),
        ("verify: {second: llama3}\nrouting: {fallback: false}\n", "without routing.fallback"),
    ],
)
def test_a_second_model_that_is_never_asked_is_reported(
    tmp_path: Path, text: str, problem: str | None
) -> None:
    warnings = [item for item in load(tmp_path, TIERS + text).warnings() if "second" in item]
    assert len(warnings) == (problem is not None)
    assert problem is None or problem in warnings[0]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("de*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_load(path: Path) -> None:
    assert list(load_config(path, environ={}).warnings()) == []


SHADOW = "{path: data/models/other, share: 0.25}"
RENAMED = (
    "routing.candidate: renamed to routing.shadow_router; the old name works in this release only"
)


def test_old_name_of_the_shadow_router_is_accepted(tmp_path: Path) -> None:
    new = load(tmp_path, TIERS + f"routing: {{shadow_router: {SHADOW}}}\n")
    assert list(new.warnings()) == []
    old = load(tmp_path, TIERS + f"routing: {{candidate: {SHADOW}}}\n")
    assert old.routing.shadow_router == new.routing.shadow_router
    assert old.routing.shadow_router is not None
    assert (old.routing.shadow_router.path, old.routing.shadow_router.share) == (
        "data/models/other",
        0.25,
    )
    assert list(old.warnings()) == [RENAMED]


def test_old_name_of_the_shadow_router_warns_even_if_null(tmp_path: Path) -> None:
    """A copy of the default configuration may contain it. The next release rejects the key."""
    config = load(tmp_path, TIERS + "routing: {candidate: null}\n")
    assert config.routing.shadow_router is None
    assert list(config.warnings()) == [RENAMED]


def test_both_names_of_the_shadow_router_are_rejected(tmp_path: Path) -> None:
    text = TIERS + f"routing:\n  shadow_router: {SHADOW}\n  candidate: null\n"
    line = text.count("\n")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert re.fullmatch(
        rf".*\.yaml:{line}: routing\.candidate: renamed to routing\.shadow_router; "
        "set only the new name",
        str(refused.value),
    )


# Rules.

KEYS = "server: {api_keys: [{key: sk-batch, name: batch}, {key: sk-team}]}\n"


# Each is a valid pattern; all together are too large for RE2.
HUGE = ", ".join(f"{number}{'ab' * 10_000}" for number in range(40))


def rule(when: str, *, name: str = "r", use: str = "cloud") -> str:
    """A configuration with a rule, whose condition is on line 12."""
    head = f"{TIERS}{KEYS}routing:\n  rules:\n"
    return f"{head}    - {{name: {name}, use: {use}, when: {when}}}\n"


def test_rules_are_read(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        rule("{words: [tax return, VAT], key: batch, header: {x-team: red}, needs: tools}")
        + "    - {name: s, use: {threshold: 0.6}, when: {prompt_tokens: {max: 500}}}\n",
    )
    first, second = config.routing.rules
    assert first.when.words == ("tax return", "VAT")
    assert first.when.header == {"x-team": "red"}
    assert (first.use, second.use) == ("cloud", RuleThreshold(threshold=0.6))
    assert second.when.prompt_tokens == TokenRange(max=500)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rule("{}"), "when: needs a condition, such as words or key"),
        (rule("{word: x}"), "when.word: unknown key"),
        (rule("{words: []}"), "when.words: expected a list of length >= 1"),
        (rule("{words: ' '}"), "when.words: is empty"),
        (rule(f"{{words: [{HUGE}]}}"), "when.words: has too many or too long values"),
        (rule(f"{{regex: [{HUGE}]}}"), "when.regex: has too many or too long values"),
        (rule("{words: [a, 5]}"), "when.words[1]: expected `str`, got `int`"),
        (rule("{regex: [a, '(b']}"), "when.regex[1]: is not a pattern of RE2: missing ): (b"),
        (
            rule("{regex: '(?=a)'}"),
            "when.regex: is not a pattern of RE2: invalid perl operator: (?=",
        ),
        (rule("{key: bach}"), "when.key: 'bach' is not the name of a key in server.api_keys"),
        (
            rule("{key: [batch, sk-team]}"),
            "when.key[1]: the value is not the name of a key in server.api_keys",
        ),
        (rule("{category: cooking}"), "when.category: 'cooking' is not one of: code, "),
        (rule("{language: english}"), "when.language: 'english' is not one of: af, "),
        (rule("{needs: [tools, eyes]}"), "when.needs[1]: 'eyes' is not one of: audio, "),
        (rule("{header: 'a b'}"), "when.header: is not the name of a header"),
        (rule("{header: Authorization}"), "when.header: 'Authorization' is a credential; use key"),
        (rule("{header: {x-a: 5}}"), "when.header: expected `str | list`, got `int`"),
        (rule("{prompt_tokens: {}}"), "when.prompt_tokens: needs min or max"),
        (rule("{prompt_tokens: {min: 5, max: 4}}"), "when.prompt_tokens.max: is less than min"),
        (rule("{prompt_tokens: {min: -1}}"), "when.prompt_tokens.min: expected `int` >= 0"),
        (rule("{words: a}", use="edge"), "use: 'edge' is not one of: cloud, local"),
        (rule("{words: a}", use="{threshold: 1.5}"), "use.threshold: expected `float` <= 1.0"),
        (rule("{words: a}", use="{tier: local}"), "use.tier: unknown key"),
        (rule("{words: a}", name="ä"), "name: must be 1 to 60 printable ASCII characters"),
        (rule("{words: a}", name="' a'"), "name: must be 1 to 60 printable ASCII characters"),
    ],
)
def test_wrong_rules_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    line = TIERS_LINES + 4
    assert rejection(tmp_path, text).startswith(f"{line}: routing.rules[0].{expected}")


def test_names_of_rules_and_keys_are_unique(tmp_path: Path) -> None:
    again = "    - {name: r, use: local, when: {words: b}}\n"
    message = rejection(tmp_path, rule("{words: a}") + again)
    assert message == "12: routing.rules[1].name: 'r' is the name of an earlier rule"
    keys = "server: {api_keys: [{key: sk-a, name: a}, {key: sk-b, name: %s}]}\n"
    message = rejection(tmp_path, TIERS + keys % "a")
    assert message == "8: server.api_keys[1].name: another API key has the same name"
    message = rejection(tmp_path, TIERS + keys % "sk-a")
    assert message == "8: server.api_keys[1].name: is an API key; rules and logs show names"


def test_documented_rules_are_valid(tmp_path: Path) -> None:
    document = (CONFIGS.parent / "docs/configuration.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(server:\n[^`]*\nrouting:\n[^`]*)```", document)
    keys = {"TEAM_KEY": "sk-a", "BATCH_KEY": "sk-b"}
    assert len(load(tmp_path, TIERS + block, keys).routing.rules) == 2
    default = (CONFIGS / "default.yaml").read_text(encoding="utf-8")
    example = re.search(r"  rules: \[\]\n((?:  # .*\n)+)", default)
    assert example
    lines = example[1].replace("  # ", "  ").partition("    use: cloud\n")
    (only,) = load(tmp_path, f"{TIERS}routing:\n{''.join(lines[:2])}").routing.rules
    assert (only.name, only.use) == ("regulated advice", "cloud")


def test_documented_models_are_the_default(tmp_path: Path) -> None:
    document = (CONFIGS.parent / "docs/configuration.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\nupstreams:\n  cloud:\n(    models:\n[^`]*)```", document)
    assert load(tmp_path, TIERS + block).upstreams.cloud.models == REASONING_MODELS


def test_a_wrong_value_below_a_name_of_its_own_has_a_line(tmp_path: Path) -> None:
    """msgspec does not say the name of a value in a mapping. The search for its line ends."""
    path = tmp_path / "pricing.yaml"
    path.write_text("models:\n  m:\n    tiers:\n      batch: {input: x}\n")
    with pytest.raises(ConfigError) as error:
        load_prices(path)
    assert str(error.value) == f"{path}:3: models.m.tiers: expected `float`, got `str`"


def webhook(url: str) -> str:
    return f"{TIERS}\nnotifications: {{webhook_url: '{url}'}}\n"


@pytest.mark.parametrize(
    "url",
    ["hooks.example.org", "ftp://hooks.example.org/hunter2", "https://", "https://u:hunter2@hooks.example.org",
     "https://hooks.example.org:x/hunter2", "https://höoks.example.org/hunter2"],
)  # fmt: skip
def test_a_webhook_is_a_url_and_a_secret(tmp_path: Path, url: str) -> None:
    refused = rejection(tmp_path, webhook(url))
    assert "notifications.webhook_url" in refused
    assert "hunter2" not in refused


def test_a_webhook_is_masked_and_may_be_empty(tmp_path: Path) -> None:
    config = load(tmp_path, webhook("https://hooks.example.org/hunter2?token=B0"))
    assert "hunter2" not in repr(config)
    assert not load(tmp_path, webhook("")).notifications.webhook_url
    plain = load(tmp_path, webhook("http://hooks.example.org/hunter2"))
    assert any(
        "unencrypted" in warning and "hunter2" not in warning for warning in plain.warnings()
    )
