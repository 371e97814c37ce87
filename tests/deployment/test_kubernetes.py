"""configs/kubernetes/, built by kustomize and checked against the schemas and the code.

There is no cluster. The tests simulate it with a real proxy: the kubelet's swap of mounted files,
its probes, and the order in which Pods are replaced.

Needs PostgreSQL, promtool, and kubectl or kustomize, which `make test-tools` installs.
"""

import asyncio
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml

import needs
from fakes import (
    PATIENCE_SECONDS,
    Answer,
    Call,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    openai_events,
    refused_address,
    whole,
)
from live import chat_body, merge
from monitoring.prometheus import promtool
from proxy import __version__
from proxy.config import Config, load_config
from proxy.experiments.jobs import GRACE_SECONDS
from proxy.server.app import Proxy
from served import COMMAND, Connection, Served, ask, until

pytest_plugins = ["databases"]

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "configs/kubernetes"
README = (KUBERNETES / "README.md").read_text(encoding="utf-8")
# The last stage is the image for serving.
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
CONFIG = KUBERNETES / "base/config.yaml"
SECRET = (KUBERNETES / ".env.example").read_text(encoding="utf-8")
NAME = "hybrid-llm-router"
OLDEST = "1.30"  # of Kubernetes, as in the README
MONITORING_KINDS = {"ServiceMonitor", "PrometheusRule"}  # their schemas are in no package
VARIANTS = {
    "base": (),
    "monitoring": ("monitoring",),
    "sqlite": ("sqlite",),
    "sqlite, monitoring": ("sqlite", "monitoring"),
}

Object = dict[str, Any]
Objects = dict[str, Object]


@cache
def kustomize() -> tuple[str, ...]:
    """The command that builds a kustomization."""
    program = needs.find("kubectl")
    return program, "build" if Path(program).name == "kustomize" else "kustomize"


def build(folder: Path, text: str) -> Objects:
    """Build a kustomization; return its objects by kind. There is one of each kind."""
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(text)
    done = subprocess.run(
        [*kustomize(), folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Objects]:
    folder = tmp_path_factory.mktemp("kustomizations")
    built = {}
    for number, (name, components) in enumerate(VARIANTS.items()):
        root = os.path.relpath(KUBERNETES, folder / str(number))
        text = yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [f"{root}/base"],
                "components": [f"{root}/components/{component}" for component in components],
            }
        )
        built[name] = build(folder / str(number), text)
    return built


@pytest.fixture(scope="module")
def base(variants: dict[str, Objects]) -> Objects:
    return variants["base"]


@pytest.fixture(scope="module")
def monitored(variants: dict[str, Objects]) -> Objects:
    return variants["monitoring"]


def pod_of(objects: Objects) -> Object:
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def container_of(objects: Objects) -> Object:
    container: Object
    (container,) = pod_of(objects)["containers"]
    return container


class Mounted:
    """A folder of files as the kubelet mounts it: links through `..data`, swapped atomically.

    Source: pkg/volume/util/atomic_writer.go of Kubernetes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._files: dict[str, str] = {}

    def write(self, files: Mapping[str, str]) -> None:
        """Replace or add these files; others stay unchanged."""
        self._number += 1
        self._files |= files
        new, data = self._folder / f"..2026_01_01_00_00_00.{self._number}", self._folder / "..data"
        new.mkdir()
        for name, text in self._files.items():
            (new / name).write_text(text)
        old = data.resolve() if data.exists() else None
        prepared = self._folder / "..data_tmp"
        prepared.symlink_to(new.name)
        prepared.rename(data)
        for name in files:
            link = self._folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        if old is not None:
            shutil.rmtree(old)


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """/etc/hybrid-llm of a Pod."""
    volume = Mounted(tmp_path)
    volume.write({"config.yaml": CONFIG.read_text(encoding="utf-8"), ".env": SECRET})
    return volume


def check_config(folder: Path) -> subprocess.CompletedProcess[str]:
    """`hybrid-llm check-config` as in a Pod, with the variables of .env only."""
    return subprocess.run(
        [COMMAND, "check-config", "config.yaml"],
        cwd=folder,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def image_variables() -> dict[str, str]:
    """The variables that the image sets."""
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)", IMAGE, re.MULTILINE)
    return dict(re.findall(r"\b([A-Z_]+)=(\S+)", " ".join(lines)))


def image_paths() -> Iterator[Path]:
    """The paths of the image that are copied from this repository."""
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*)", IMAGE, re.MULTILINE):
        *sources, to = line.split()
        for source in sources:
            yield Path("/app", to, Path(source).name if len(sources) > 1 else "")


@pytest.fixture(scope="module")
def config() -> Config:
    """The configuration in the ConfigMap with the example's Secret, in the image."""
    variables = re.findall(r"^(\w+)='(.*)'$", SECRET, re.MULTILINE)
    return load_config(CONFIG, environ=dict(variables) | image_variables())


# The objects, against the schemas of Kubernetes.


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_matches_the_kubernetes_schemas(
    variants: dict[str, Objects], variant: str, version: str
) -> None:
    for kind, document in variants[variant].items():
        if kind not in MONITORING_KINDS:
            kubernetes_validate.validate(document, version, strict=True)
    assert f"Kubernetes {OLDEST}" in README


def test_the_schemas_reject_invalid_objects(base: Objects) -> None:
    """This fails if the schemas are missing or not strict."""
    wrong = merge(base["Deployment"], {"spec": {"replica": 2}})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_several_pods_are_stateless_and_sqlite_has_one_pod(
    variants: dict[str, Objects],
) -> None:
    base, alone = variants["base"], variants["sqlite"]
    assert base["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert "replicas" not in base["Deployment"]["spec"]
    assert "PersistentVolumeClaim" not in base
    rolling = base["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
    assert alone["Deployment"]["spec"]["replicas"] == 1
    assert alone["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert not {"HorizontalPodAutoscaler", "PodDisruptionBudget"} & alone.keys()
    (claim,) = (v for v in pod_of(alone)["volumes"] if "persistentVolumeClaim" in v)
    name = alone["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim["persistentVolumeClaim"] == {"claimName": name}


def selectors(objects: Objects) -> Iterator[tuple[Object, Object]]:
    """Each label selector with the labels that it must match."""
    pod = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    yield objects["Deployment"]["spec"]["selector"]["matchLabels"], pod
    yield objects["Service"]["spec"]["selector"], pod
    yield objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], pod
    yield objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"], pod
    for spread in pod_of(objects)["topologySpreadConstraints"]:
        yield spread["labelSelector"]["matchLabels"], pod
    service = objects["Service"]["metadata"]["labels"]
    yield objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"], service


def test_selectors_match_their_labels(monitored: Objects) -> None:
    for selector, labels in selectors(monitored):
        assert selector
        assert selector.items() <= labels.items()
    scaled = monitored["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert scaled["name"] == monitored["Deployment"]["metadata"]["name"]


def test_port_names_resolve_to_the_proxys_port(monitored: Objects, config: Config) -> None:
    container = container_of(monitored)
    assert container["ports"] == [{"name": "http", "containerPort": config.server.port}]
    assert config.server.host == "0.0.0.0"
    assert config.server.api_keys
    (port,) = monitored["Service"]["spec"]["ports"]
    (scraped,) = monitored["ServiceMonitor"]["spec"]["endpoints"]
    (let_in,) = monitored["NetworkPolicy"]["spec"]["ingress"]
    assert [port["targetPort"], scraped["port"], let_in["ports"]] == [
        "http", port["name"], [{"port": "http", "protocol": "TCP"}],
    ]  # fmt: skip
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["port"] for probe in probes} == {"http"}


def test_probed_and_scraped_paths_exist(monitored: Objects, config: Config) -> None:
    routes = {route.path for route in Proxy(config).app.routes}
    container = container_of(monitored)
    (scraped,) = monitored["ServiceMonitor"]["spec"]["endpoints"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {scraped["path"], *(probe["path"] for probe in probes)} <= routes


def test_egress_allows_the_database_ollama_and_the_cloud(base: Objects, config: Config) -> None:
    ports = {
        item["port"] for rule in base["NetworkPolicy"]["spec"]["egress"] for item in rule["ports"]
    }
    addresses = (config.upstreams.local.base_urls[0], config.storage.url.reveal())
    named = {int(match[1]) for url in addresses if (match := re.search(r":(\d+)/", url))}
    assert ports == {53, 443} | named
    assert config.upstreams.cloud.base_urls[0].startswith("https://api.openai.com/")


def test_the_pod_is_restricted(variants: dict[str, Objects]) -> None:
    """Kubernetes' level "restricted", and more."""
    for objects in variants.values():
        pod, container = pod_of(objects), container_of(objects)
        user = pod["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        numbers = set(re.findall(r"^USER (\d+)", IMAGE, re.MULTILINE))
        assert numbers <= {str(user["runAsUser"])}  # of the image, where it is numeric
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/etc/hybrid-llm"]["readOnly"] is True
        assert all("subPath" not in mount for mount in mounts.values())


def test_the_image_has_the_current_version(base: Objects) -> None:
    assert container_of(base)["image"] == f"{NAME}:{__version__}"


def test_memory_limits_exceed_the_measured_memory(base: Objects) -> None:
    soak = yaml.safe_load((ROOT / "data/results/soak.json").read_text(encoding="utf-8"))
    bench = yaml.safe_load((ROOT / "data/results/bench.json").read_text(encoding="utf-8"))
    measured = max(soak["rss_mb"]["max"], bench["servers"]["the proxy"]["memory_mb"])
    resources = container_of(base)["resources"]
    request, limit = (
        int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits")
    )
    assert measured <= request
    assert 2 * measured <= limit


def test_the_termination_grace_period_covers_running_requests(
    base: Objects, config: Config
) -> None:
    server, pod = config.server, pod_of(base)
    before = container_of(base)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert server.shutdown_grace_seconds >= server.request_timeout_seconds
    rows = GRACE_SECONDS + 5
    assert pod["terminationGracePeriodSeconds"] >= before + server.shutdown_grace_seconds + rows
    assert before > PRE_STOP_SECONDS  # the rolling restart below uses less


# The configuration and its variables.


def test_the_mounted_configuration_is_valid(
    mounted: Mounted, tmp_path: Path, base: Objects
) -> None:
    container = container_of(base)
    assert container["args"] == ["serve", "--config", "config.yaml"]
    assert container["workingDir"] == "/etc/hybrid-llm"
    assert base["ConfigMap"]["data"] == {"config.yaml": CONFIG.read_text(encoding="utf-8")}
    done = check_config(tmp_path)
    assert (done.returncode, done.stdout) == (0, "config.yaml: ok\n")
    no_admin, no_price = sorted(done.stderr.splitlines())
    assert "the dashboard needs a key" in no_admin  # the variable has two keys
    assert "no price is listed for gpt-4o-mini" in no_price  # the list is at /app, in the image


@pytest.mark.parametrize("name", re.findall(r"^(\w+)=", SECRET, re.MULTILINE))
def test_the_proxy_does_not_start_without_a_variable(
    mounted: Mounted, tmp_path: Path, name: str
) -> None:
    mounted.write({".env": re.sub(rf"^{name}=.*\n", "", SECRET, flags=re.MULTILINE)})
    done = check_config(tmp_path)
    assert done.returncode == 2
    assert f"the environment variable {name} is not set" in done.stderr


def test_all_variables_are_from_the_secret(base: Objects) -> None:
    """Variables of the image would override those of the Secret."""
    needed = set(re.findall(r"\$\{(\w+)\}", CONFIG.read_text(encoding="utf-8")))
    assert needed == set(re.findall(r"^(\w+)=", SECRET, re.MULTILINE))
    assert "PATH" in image_variables()
    assert not needed & image_variables().keys()
    assert "env" not in container_of(base)
    sources = next(v for v in pod_of(base)["volumes"] if v["name"] == "configuration")
    config_map, secret = sources["projected"]["sources"]
    assert config_map["configMap"]["name"] == base["ConfigMap"]["metadata"]["name"]
    assert f"create secret generic {secret['secret']['name']} --from-file=.env" in README
    assert secret["secret"]["items"] == [{"key": ".env", "path": ".env"}]


def test_the_secret_is_ignored_by_docker_and_git() -> None:
    """It is beside the example, in a folder that the image contains."""
    for name in (".dockerignore", ".gitignore"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        (at,) = (number for number, line in enumerate(lines) if line in (".env", "**/.env"))
        assert (
            lines[at] == "**/.env" or name == ".gitignore"
        )  # in .gitignore, .env means every folder
        assert not any(line.startswith("!") and "configs" in line for line in lines[at:])


def test_configured_paths_exist_in_the_image(config: Config) -> None:
    assert "WORKDIR /app\n" in IMAGE
    for path in (config.routing.model_path, config.experiments.results, config.pricing):
        assert path is not None
        assert any(Path(path).is_relative_to(parent) for parent in image_paths()), path
    assert config.routing.model_path == "/app/data/models/router"
    assert config.pricing == "/app/configs/pricing.yaml"


# Monitoring.


def test_the_rules_equal_those_of_prometheus(monitored: Objects, tmp_path: Path) -> None:
    """The comment in prometheusrule.yaml says how to regenerate it."""
    alerts = (ROOT / "configs/alerts.yml").read_text(encoding="utf-8")
    rules = (KUBERNETES / "components/monitoring/prometheusrule.yaml").read_text(encoding="utf-8")
    groups = alerts[alerts.index("\ngroups:") :]
    indented = re.sub(r"^(?=.)", "  ", groups, flags=re.MULTILINE)
    assert rules.partition("\nspec:")[2] == indented
    assert monitored["PrometheusRule"]["spec"] == yaml.safe_load(alerts)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(monitored["PrometheusRule"]["spec"]))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_the_job_has_the_name_used_in_the_alerts(monitored: Objects) -> None:
    label = monitored["ServiceMonitor"]["spec"]["jobLabel"]
    job = monitored["Service"]["metadata"]["labels"][label]
    text = (KUBERNETES / "components/monitoring/prometheusrule.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'job="([^"]+)"', text)) == {job}
    # The operator rejects unknown keys.
    assert monitored["ServiceMonitor"]["spec"].keys() == {"jobLabel", "selector", "endpoints"}
    (endpoint,) = monitored["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint.keys() == {"port", "path", "interval", "relabelings"}


def blocks() -> list[Object]:
    """The YAML blocks of the README."""
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]


def test_the_autoscaler_uses_existing_metrics(
    monitored: Objects, config: Config, tmp_path: Path
) -> None:
    resource, in_flight = monitored["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert resource["resource"]["name"] in container_of(monitored)["resources"]["requests"]
    (rule,) = next(block for block in blocks() if "rules" in block)["rules"]["custom"]
    name = in_flight["pods"]["metric"]["name"]
    assert rule["name"]["as"] == name
    series, _ = rule["seriesQuery"].split("{", 1)
    assert f"\n{series}{{" in Proxy(config).metrics.expose().decode()
    filled = rule["metricsQuery"]
    for old, new in (("Series", series), ("LabelMatchers", 'pod="a"'), ("GroupBy", "pod")):
        filled = filled.replace(f"<<.{old}>>", new)
    group = {"name": "adapter", "rules": [{"record": "pod:in_flight", "expr": filled}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_the_kustomization_of_the_readme_builds(tmp_path: Path) -> None:
    text = next(
        block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "kind:" in block
    )
    (tmp_path / NAME).symlink_to(ROOT)
    own = tmp_path / "own"
    own.mkdir()
    edited = CONFIG.read_text(encoding="utf-8").replace("phi3:latest", "phi4")
    (own / "config.yaml").write_text(edited)
    objects = build(own, text)
    assert objects["ConfigMap"]["metadata"]["name"] == NAME
    assert objects["ConfigMap"]["data"] == {"config.yaml": edited}
    assert container_of(objects)["image"] == f"registry.example.org/{NAME}:{__version__}"
    assert {item["metadata"]["namespace"] for item in objects.values()} == {
        NAME.removesuffix("-router")
    }
    assert objects.keys() >= MONITORING_KINDS


# A proxy in a Pod.


def answers(call: Call) -> Answer:
    return chunked(*openai_events()) if call.json.get("stream") else whole(answer_json())


def local_config(local_url: str, cloud_url: str, changes: Mapping[str, Any] | None = None) -> str:
    """The configuration of the ConfigMap, with the addresses and paths of this machine."""
    moved = {
        "server": {"host": "127.0.0.1", "port": 0},
        "upstreams": {"local": {"base_url": local_url}, "cloud": {"base_url": cloud_url}},
        "routing": {"model_path": str(ROOT / "data/models/router")},
        "experiments": {"results": str(ROOT / "data/results")},
        "pricing": str(ROOT / "configs/pricing.yaml"),
    }
    fields = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return yaml.safe_dump(merge(merge(fields, moved), changes or {}))


def secret(database: str, *, keys: str) -> str:
    return f"OPENAI_API_KEY='sk-x'\nROUTER_API_KEYS='{keys}'\nDATABASE_URL='{database}'\n"


async def test_edits_of_config_map_and_secret_are_reloaded(
    tmp_path: Path,
    local: FakeUpstream,
    cloud: FakeUpstream,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in re.findall(r"^(\w+)=", SECRET, re.MULTILINE):
        monkeypatch.delenv(name, raising=False)  # variables of this machine would override it
    proxy = Served(tmp_path, local, cloud)
    proxy.config_file.unlink()
    volume = Mounted(tmp_path)
    volume.write(
        {
            "config.yaml": local_config(local.base_url, cloud.base_url),
            ".env": secret(postgres_url, keys="first"),
        }
    )

    async def answered_by(key: str) -> str | int:
        bearer = {"authorization": f"Bearer {key}"}
        answer = await ask(proxy.port, chat_body(model="local"), headers=bearer)
        return answer.head.headers.get("x-router-model", answer.head.status)

    async with proxy:
        assert await answered_by("first") == "phi3:latest"

        async def uses_the_new_model() -> bool:
            return await answered_by("first") == "phi4"

        other = {"upstreams": {"local": {"model": "phi4"}}}
        volume.write({"config.yaml": local_config(local.base_url, cloud.base_url, other)})
        await until(uses_the_new_model, what="the ConfigMap's edit is in use")

        async def knows_the_new_key() -> bool:
            return await answered_by("second") == "phi4"

        volume.write({".env": secret(postgres_url, keys="second")})
        await until(knows_the_new_key, what="the Secret's edit is in use")
        assert await answered_by("first") == 401
        # The log says so after the change is used, and reaches the test later than an answer does.
        await until(lambda: proxy.log.count(b"is in use") >= 2, what="both edits are logged")
        assert b"cannot be read" not in proxy.log  # the file is never missing
        assert await proxy.stop() == 0


async def test_only_the_startup_probe_fails_when_all_tiers_are_down(
    tmp_path: Path, local: FakeUpstream, base: Objects
) -> None:
    container = container_of(base)
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "readiness", "liveness")
    }

    async def statuses(proxy: Served) -> dict[str, int]:
        return {name: (await ask(proxy.port, path=paths[name])).head.status for name in paths}

    with refused_address() as down:
        changes: dict[str, Any] = {"upstreams": {"cloud": {"base_url": down}}}
        async with Served(tmp_path, local, local, changes=changes) as proxy:
            assert await statuses(proxy) == {"startup": 200, "readiness": 200, "liveness": 200}
            proxy.configure({"upstreams": {"local": {"base_url": down}}})
            await until(lambda: b"is in use" in proxy.log, what="both tiers are down")
            assert await statuses(proxy) == {"startup": 503, "readiness": 200, "liveness": 200}


LATE_SECONDS = 0.3  # delay until load balancers remove a stopping Pod
PRE_STOP_SECONDS = 1.0
STREAM_SECONDS = 2.0  # longer than that, so that streams still run at the SIGTERM


def slow_streams(call: Call) -> Answer:
    """Streams that pause in the middle, so that some always run when a Pod stops."""
    if not call.json.get("stream"):
        return whole(answer_json())
    gate = Gate()
    asyncio.get_running_loop().call_later(STREAM_SECONDS, gate.open)
    first = event(chunk({"role": "assistant", "content": "Hel"}))
    return chunked(first, gate, *openai_events(["lo"]))


class Service:
    """Clients, and the Pods that they connect to."""

    def __init__(self) -> None:
        self.pods: list[Served] = []
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.is_over = False

    async def run_clients(self, number: int) -> None:
        async with asyncio.TaskGroup() as clients:
            for seed in range(number):
                clients.create_task(self._send_requests(random.Random(seed)))

    async def _send_requests(self, rng: random.Random) -> None:
        while not self.is_over:
            body = chat_body(model=rng.choice(("local", "cloud")), stream=rng.random() < 0.5)
            pod = rng.choice(self.pods)
            try:
                connection = await Connection.open(pod.port)
                try:
                    answer = await connection.ask(body)
                finally:
                    connection.leave()
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
                continue
            whole_answer = not answer.head.is_stream or answer.body.endswith(b"[DONE]\n\n")
            if answer.head.status != 200 or not whole_answer:
                self.failures.append(f"{answer.head.status}: {answer.body[-200:]!r}")
            self.answered.append(answer.request_id)


async def test_a_rolling_restart_under_load_loses_no_request(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, postgres_url: str, base: Objects
) -> None:
    """Pods are replaced one after the other in Kubernetes' order, with shorter times."""
    local.answer = cloud.answer = slow_streams
    startup = container_of(base)["startupProbe"]["httpGet"]["path"]
    all_pods: list[Served] = []

    async def begin() -> Served:
        folder = tmp_path / f"pod-{len(all_pods)}"
        folder.mkdir()
        pod = Served(folder, local, cloud, changes={"storage": {"url": postgres_url}})
        all_pods.append(pod)
        await pod.start()

        async def has_started() -> bool:
            return (await ask(pod.port, path=startup)).head.status == 200

        await until(has_started, what="the startup probe succeeds")
        return pod

    async def replace(service: Service, old: Served) -> None:
        service.pods.append(await begin())
        stopping_at = asyncio.get_running_loop().time()
        await asyncio.sleep(LATE_SECONDS)
        service.pods.remove(old)
        await asyncio.sleep(stopping_at + PRE_STOP_SECONDS - asyncio.get_running_loop().time())
        assert await old.stop() == 0

    service = Service()
    try:
        service.pods = [await begin(), await begin()]
        load = asyncio.create_task(service.run_clients(6))
        for old in list(service.pods):
            before = len(service.answered)
            await replace(service, old)
            assert len(service.answered) > before
        service.is_over = True
        await asyncio.wait_for(load, PATIENCE_SECONDS)
        for pod in service.pods:
            assert await pod.stop() == 0
    finally:
        service.is_over = True
        for pod in all_pods:
            pod.kill()
    assert service.failures == []
    with psycopg.connect(postgres_url) as connection:
        rows = dict(connection.execute("SELECT id, ending FROM requests").fetchall())
    assert rows == dict.fromkeys(service.answered, "ok")
