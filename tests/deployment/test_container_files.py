"""The container files agree with each other, with the configuration and with the proxy.

No engine is needed here; `make image-check` has one. Needs HAProxy: apt-get install haproxy.
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
PROFILES = {one for service in SERVICES.values() for one in service.get("profiles", [])}

# ${NAME}, ${NAME:-default}; $$ is a dollar for the container's shell.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")

# What the configuration takes from its environment.
READ = {
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


def healthcheck_of(name: str) -> bool:
    """Whether it has one, of its own or of our image."""
    service = SERVICES[name]
    return "test" in service.get("healthcheck", {}) or "build" in service


# Each file by itself, by others' tools.


@pytest.mark.needs("hadolint")
def test_the_dockerfile_has_nothing_a_linter_finds() -> None:
    run(Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", "Dockerfile")


def test_the_compose_file_is_as_the_specification_has_it() -> None:
    check = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    run(sys.executable, "-m", *check)


def test_haproxy_takes_its_configuration() -> None:
    program = needs.find("haproxy")
    addresses = {"PROXY_1": "127.0.0.1:18081", "PROXY_2": "127.0.0.1:18082"}
    run(program, "-c", "-dW", "-f", HAPROXY_FILE, **addresses)  # -dW: a warning is an error


# Variables: what compose.yaml takes, .env.example explains and the configuration reads.


def test_every_variable_is_in_the_example_with_its_default() -> None:
    taken: dict[str, str] = {}
    for name, default in VARIABLE.findall(re.sub(r"^\s*#.*", "", COMPOSE_TEXT, flags=re.MULTILINE)):
        taken[name] = taken.get(name) or default
    shown: dict[str, str] = {}
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"#?([A-Z_]+)=(.*)", line):
            shown.setdefault(match[1], match[2])
    assert shown.pop("COMPOSE_PROFILES") in PROFILES
    assert shown.keys() == taken.keys()
    for name, default in taken.items():
        assert shown[name] == (default or READ.get(name, "")), name


def test_the_configuration_reads_what_the_proxies_are_given() -> None:
    given = set(SERVICES["proxy"]["environment"])
    assert given <= READ.keys()
    in_image = set(re.findall(r"^\s+([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    # Within a container the port is always the same, and no outcome data is there.
    assert READ.keys() - given - in_image == {"PORT", "EXPERIMENTS_DATA"}


# Each service by itself.


@each_service
def test_a_service_may_write_only_where_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    # Beside limits of `deploy` Compose refuses these, whatever they say.
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
def test_an_image_has_a_version_and_a_port_only_this_machine(name: str) -> None:
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
def test_what_is_waited_for_is_there_and_can_tell_its_health(name: str) -> None:
    profiles = set(SERVICES[name].get("profiles", []))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        theirs = set(SERVICES[other].get("profiles", []))
        is_always_there = not theirs or (bool(profiles) and profiles <= theirs)
        assert is_always_there or how.get("required") is False, other
        if how["condition"] == "service_healthy":
            assert healthcheck_of(other), other
        else:
            assert not healthcheck_of(other), other  # it ends


def test_no_volume_is_left_over() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("./")} == COMPOSE["volumes"].keys()


# Between the files.


def test_the_images_are_built_on_one_exact_python() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert set(stages) == {"${PYTHON_IMAGE}"}


def test_ports_and_paths_are_the_proxys(config: Config) -> None:
    paths = json.loads(document())["paths"].keys()
    port = config.server.port
    assert re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE) == [str(port)]
    asked = re.findall(r"'GET', '([^']+)'", DOCKERFILE) + re.findall(r"meth GET uri (\S+)", HAPROXY)
    assert set(asked) == {"/health", "/ready"}
    assert set(asked) <= paths
    assert SERVICES["proxy"]["ports"][0].endswith(f":{port}")
    balancer = SERVICES["balancer"]
    assert balancer["environment"] == {
        f"PROXY_{n}": f"{name}:{port}" for n, name in enumerate(PROXIES, 1)
    }
    assert set(re.findall(r'"\$\{(PROXY_\d)\}"', HAPROXY)) == balancer["environment"].keys()
    (scrape,) = yaml.safe_load((ROOT / "configs/prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"{PROXIES[0]}:{port}"]}]
    assert scrape["dns_sd_configs"] == [{"names": [PROXIES[1]], "type": "A", "port": port}]


def test_whoever_stops_waits_for_the_answers_that_run(config: Config) -> None:
    drain = 6.0  # that .env.example recommends
    grace = config.server.shutdown_grace_seconds
    hard = re.search(r"hard-stop-after (\w+)", HAPROXY)
    assert hard is not None
    for name in PROXIES:
        assert seconds(SERVICES[name]["stop_grace_period"]) > drain + grace
    assert grace < seconds(hard[1]) < seconds(SERVICES["balancer"]["stop_grace_period"])


def test_the_balancer_outwaits_the_proxies(config: Config) -> None:
    """A request that takes too long is to end with the proxy's own error."""
    waits = dict(re.findall(r"^\s+timeout (\S+)\s+(\w+)", HAPROXY, re.MULTILINE))
    for side in ("client", "server"):
        assert seconds(waits[side]) > config.server.request_timeout_seconds
    assert "retry-on conn-failure\n" in HAPROXY


def test_the_database_is_the_proxies_alone() -> None:
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
