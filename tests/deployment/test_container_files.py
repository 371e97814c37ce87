"""The container files agree with each other, with the configuration and with the proxy.

These tests need no container engine; `make image-check` does. Needs HAProxy: apt-get install
haproxy.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import needs
from proxy.config import Config, load_config
from proxy.web.openapi import document

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HAPROXY_FILE = ROOT / "configs/haproxy.cfg"
HAPROXY = HAPROXY_FILE.read_text(encoding="utf-8")
PROXIES = ("proxy", "proxy-2")
PROFILES = {name for service in SERVICES.values() for name in service.get("profiles", [])}

# ${NAME}, ${NAME:-default}; $$ is a dollar for the container's shell.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")

# Variables that the configuration reads, with defaults.
CONFIG_VARIABLES = {
    name: default
    for line in (ROOT / "configs/default.yaml").read_text(encoding="utf-8").splitlines()
    for name, default in VARIABLE.findall(re.sub(r"^#.*", "", line))
}

each_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(ROOT / "configs/default.yaml", environ={})


def run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment or None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert match is not None, text
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]


def has_healthcheck(name: str) -> bool:
    """Whether a service has a health check, of its own or of our image."""
    service = SERVICES[name]
    return "test" in service.get("healthcheck", {}) or "build" in service


# Each file, checked by its own tool.


@pytest.mark.needs("hadolint")
def test_hadolint_accepts_the_dockerfile() -> None:
    run(Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", "Dockerfile")


def test_the_compose_file_matches_the_specification() -> None:
    check = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    run(sys.executable, "-m", *check)


def test_haproxy_accepts_its_configuration() -> None:
    program = needs.find("haproxy")
    addresses = {"PROXY_1": "127.0.0.1:18081", "PROXY_2": "127.0.0.1:18082"}
    run(program, "-c", "-dW", "-f", HAPROXY_FILE, **addresses)  # -dW: a warning is an error


# Variables of compose.yaml, .env.example and the configuration.


def test_every_variable_is_in_the_example_with_its_default() -> None:
    used: dict[str, str] = {}
    for name, default in VARIABLE.findall(re.sub(r"^\s*#.*", "", COMPOSE_TEXT, flags=re.MULTILINE)):
        used[name] = used.get(name) or default
    shown: dict[str, str] = {}
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"#?([A-Z_]+)=(.*)", line):
            shown.setdefault(match[1], match[2])
    assert shown.pop("COMPOSE_PROFILES") in PROFILES
    assert shown.keys() == used.keys()
    for name, default in used.items():
        assert shown[name] == (default or CONFIG_VARIABLES.get(name, "")), name


def test_the_configuration_reads_the_variables_of_the_proxies() -> None:
    given = set(SERVICES["proxy"]["environment"])
    assert given <= CONFIG_VARIABLES.keys()
    in_image = set(re.findall(r"^\s+([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    # In a container the port is fixed, and there is no outcome data.
    assert CONFIG_VARIABLES.keys() - given - in_image == {"PORT", "EXPERIMENTS_DATA"}


# Each service.


@each_service
def test_services_are_read_only_and_unprivileged(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    # Compose rejects these beside limits of `deploy`.
    assert not {"pids_limit", "mem_limit", "cpus"} & service.keys()
    for volume in service.get("volumes", []):
        source, target, *options = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert options == ["ro"], volume
        else:
            assert source in COMPOSE["volumes"], source
        assert target.startswith("/")


@each_service
def test_images_are_pinned_and_ports_are_local(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", service["image"]), service["image"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:${"), port
    if ports := service.get("ports"):
        inside = ports[0].rpartition(":")[2]
        tested = " ".join(service.get("healthcheck", {}).get("test", ()))
        assert "build" in service or f"127.0.0.1:{inside}/" in tested


@each_service
def test_dependencies_exist_and_have_health_checks(name: str) -> None:
    profiles = set(SERVICES[name].get("profiles", []))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        other_profiles = set(SERVICES[other].get("profiles", []))
        is_always_running = not other_profiles or (bool(profiles) and profiles <= other_profiles)
        assert is_always_running or how.get("required") is False, other
        if how["condition"] == "service_healthy":
            assert has_healthcheck(other), other
        else:
            assert not has_healthcheck(other), other  # a service that exits


def test_every_volume_is_used() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("./")} == COMPOSE["volumes"].keys()


# Across the files.


def test_the_images_are_built_on_one_pinned_python() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert set(stages) == {"${PYTHON_IMAGE}"}


def test_ports_and_paths_match_the_proxy(config: Config) -> None:
    paths = json.loads(document())["paths"].keys()
    port = config.server.port
    assert re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE) == [str(port)]
    probed = re.findall(r"'GET', '([^']+)'", DOCKERFILE) + re.findall(
        r"meth GET uri (\S+)", HAPROXY
    )
    assert set(probed) == {"/health", "/ready"}
    assert set(probed) <= paths
    assert SERVICES["proxy"]["ports"][0].endswith(f":{port}")
    balancer = SERVICES["balancer"]
    assert balancer["environment"] == {
        f"PROXY_{n}": f"{name}:{port}" for n, name in enumerate(PROXIES, 1)
    }
    assert set(re.findall(r'"\$\{(PROXY_\d)\}"', HAPROXY)) == balancer["environment"].keys()
    (scrape,) = yaml.safe_load((ROOT / "configs/prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"{PROXIES[0]}:{port}"]}]
    assert scrape["dns_sd_configs"] == [{"names": [PROXIES[1]], "type": "A", "port": port}]


def test_stop_grace_periods_exceed_the_drain_time(config: Config) -> None:
    drain = 6.0  # recommended by .env.example
    grace = config.server.shutdown_grace_seconds
    hard = re.search(r"hard-stop-after (\w+)", HAPROXY)
    assert hard is not None
    for name in PROXIES:
        assert seconds(SERVICES[name]["stop_grace_period"]) > drain + grace
    assert grace < seconds(hard[1]) < seconds(SERVICES["balancer"]["stop_grace_period"])


def test_the_balancers_timeouts_exceed_the_proxys(config: Config) -> None:
    """A request that times out gets the proxy's error, not the balancer's."""
    waits = dict(re.findall(r"^\s+timeout (\S+)\s+(\w+)", HAPROXY, re.MULTILINE))
    for side in ("client", "server"):
        assert seconds(waits[side]) > config.server.request_timeout_seconds
    assert "retry-on conn-failure\n" in HAPROXY


def test_only_the_proxies_reach_the_database() -> None:
    assert COMPOSE["networks"]["rows"]["internal"] is True
    assert {n for n, s in SERVICES.items() if "rows" in s.get("networks", ())} == {
        *PROXIES,
        "postgres",
    }
    assert SERVICES["postgres"]["networks"] == ["rows"]
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    (url,) = re.findall(r"^#STORAGE_URL=postgresql://(.*)$", example, re.MULTILINE)
    (password,) = re.findall(r"^#POSTGRES_PASSWORD=(.*)$", example, re.MULTILINE)
    user = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert url == f"{user}:{password}@postgres/{user}"
