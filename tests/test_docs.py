"""Documented names exist in the code, and the code's names are documented."""

import ast
import json
import re
import shlex
import tomllib
from configparser import ConfigParser
from pathlib import Path

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from bench import as_sections, fill_in
from exposed import current_families
from proxy import __version__
from proxy.cli.main import main
from proxy.config import (
    REASONING_MODELS,
    ApiKeyConfig,
    BasicAuth,
    Config,
    LongPrices,
    PriceConfig,
    Secret,
    TimeoutsConfig,
    load_config,
)
from proxy.evaluation.estimates import Interval, Quality, Recovered
from proxy.gateway.answer_checks import VERIFY_HEADER
from proxy.gateway.history import SESSION_HEADER
from proxy.record import CallRecord, Ending, Reason, SecondLookResult, Target
from proxy.routing.router import NO_STORE_HEADER, TARGET_HEADER, THRESHOLD_HEADER
from proxy.server.app import Proxy
from proxy.web.openai_api import EXPOSED_HEADERS
from router_model.answer_checks import Check
from router_model.drift import Drift
from stored import fill, finished

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
SHIPPED = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDERS = ("proxy", "configs", "training", "data", "docs")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in SHIPPED),
        *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")),
    )
    if not {"work", "runs"} & set(path.relative_to(ROOT).parts)  # working files, not committed
}
each_page = pytest.mark.parametrize("name", PAGES)
# The log of experiments names files and commands of its day.
DOCS = "\n".join(text for name, text in PAGES.items() if name != "training/LOG.md")
CHANGELOG = PAGES["CHANGELOG.md"]
# Code spans and blocks, because prose may contain "make" without a target.
CODE = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", DOCS, re.DOTALL))
BLOCKS = "\n".join(re.findall(r"```.*?```", DOCS, re.DOTALL))


def config_keys(kind: msgspec.inspect.Type, prefix: str = "") -> set[str]:
    """The dotted keys of all configuration values, without sections."""
    if isinstance(kind, msgspec.inspect.UnionType):  # a mapping, or a keyword such as "auto"
        kind = next((t for t in kind.types if isinstance(t, msgspec.inspect.StructType)), kind)
    if not isinstance(kind, msgspec.inspect.StructType):
        return {prefix.removesuffix(".")}
    return {
        key
        for field in kind.fields
        for key in config_keys(field.type, f"{prefix}{field.encode_name}.")
    }


def keys_of(value: object, prefix: str = "") -> set[str]:
    if not isinstance(value, dict) or not value:
        return {prefix.removesuffix(".")}
    return {key for name, inner in value.items() for key in keys_of(inner, f"{prefix}{name}.")}


def sections(keys: set[str]) -> set[str]:
    """The keys and all their sections."""
    return {".".join(key.split(".")[: n + 1]) for key in keys for n in range(key.count(".") + 1)}


PRICE = sorted(config_keys(msgspec.inspect.type_info(PriceConfig)))
LOGIN = [field.name for field in msgspec.structs.fields(BasicAuth)]
LONG = [field.name for field in msgspec.structs.fields(LongPrices)]
# Old names of keys, which the documents no longer show.
OLD_KEYS = {f"routing.candidate{key}" for key in ("", ".path", ".share")}
KEYS = config_keys(msgspec.inspect.type_info(Config)) - OLD_KEYS


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    config = load_config(CONFIGS / "default.yaml", environ={})
    budget = msgspec.structs.replace(config.budget, cloud_usd_per_day=1.0)
    key = ApiKeyConfig(key=Secret("sk-batch"), name="batch", cloud_usd_per_day=1.0)
    server = msgspec.structs.replace(config.server, api_keys=(key,))
    return Proxy(msgspec.structs.replace(config, budget=budget, server=server))


@pytest.fixture(scope="module")
def metric_names(proxy: Proxy) -> set[str]:
    """All exposed names; a histogram's with and without suffixes."""
    record = CallRecord("chat.completions")
    record.target, record.reason, record.ttft_ms = Target.LOCAL, Reason.FALLBACK, 1.0
    record.fallback_from, record.fallback_why = Target.CLOUD, "upstream_error"
    record.rule, record.merit, record.adapted = "regulated advice", 0.0, ("top_k",)
    record.client_key_name = "batch"
    record.finish(Ending.TIMEOUT, error_code="idle_timeout")
    proxy.metrics.observe(record)
    answered = CallRecord("chat.completions")
    answered.target, answered.model = Target.CLOUD, "gpt-4o-mini"
    answered.finish(Ending.OK)
    proxy.metrics.observe(answered)
    proxy.metrics.count_feedback("local", "up")
    proxy.metrics.count_judging("judge", "ok", 0.001)
    proxy.metrics.count_shadow_decision(Target.LOCAL, Target.CLOUD, live_usd=0.0, shadow_usd=1.0)
    proxy.drift_monitor.drift = Drift(500, 0.3, 0.1, 0.3, 0.1, [])
    proxy.quality_monitor.quality = Quality(
        {"local": ([1] * 10, 55.0)},
        Recovered(0.5, 0.4, 0.6),
        good_local=Interval(0.5, 0.4, 0.6),
        saved=Interval(0.5, 0.4, 0.6),
    )
    names = set()
    for family in text_string_to_metric_families(proxy.metrics.expose().decode()):
        if family.type == "histogram":
            names.add(family.name)
        names.update(s.name for s in family.samples if not s.name.endswith("_created"))
    return names


def test_the_default_configuration_names_every_key() -> None:
    shown = yaml.safe_load((CONFIGS / "default.yaml").read_text(encoding="utf-8"))
    abbreviated = {  # keys with a keyword instead of a mapping
        "upstreams.cloud.price": PRICE,
        "judge.price": PRICE,
        "upstreams.local.price.long": LONG,
        "routing.shadow_router": ["path", "share"],
        "upstreams.local.basic_auth": LOGIN,
        "upstreams.cloud.basic_auth": LOGIN,
        "judge.basic_auth": LOGIN,
    }
    inner = {f"{key}.{name}" for key, names in abbreviated.items() for name in names}
    assert keys_of(shown) | inner == KEYS | abbreviated.keys()


def test_the_default_configuration_shows_the_defaults() -> None:
    """Except for the tiers, each value equals the default of its key."""
    shown = load_config(CONFIGS / "default.yaml", environ={})
    defaults = Config(upstreams=shown.upstreams)
    assert defaults == shown
    assert shown.upstreams.local.timeouts == shown.upstreams.cloud.timeouts == TimeoutsConfig()
    assert shown.upstreams.cloud.models == REASONING_MODELS


def test_keys_in_the_documents_exist() -> None:
    first = "|".join(sorted(field.name for field in msgspec.structs.fields(Config)))
    named = set(re.findall(rf"`((?:{first})\.(?!py\b|yaml\b)[a-z_.]+)", DOCS))
    assert named
    assert named <= sections(KEYS | OLD_KEYS)


def test_documented_metrics_exist_and_all_are_documented(
    proxy: Proxy, metric_names: set[str]
) -> None:
    # The package, a method of the record, and a reason that is spelt alike.
    others = {"router_model", "router_headers", *Reason}
    named = set(re.findall(r"\brouter_[a-z_]*[a-z](?![a-z_]*\.)", DOCS)) - others
    assert named <= metric_names
    assert current_families(proxy.metrics.expose().decode()) - named == set()


ASKED = {TARGET_HEADER, THRESHOLD_HEADER, NO_STORE_HEADER, SESSION_HEADER, VERIFY_HEADER}


@pytest.fixture(scope="module")
def sent_headers() -> set[str]:
    """The names of all response headers of a record."""
    record = CallRecord("chat.completions")
    record.target, record.model, record.reason = Target.LOCAL, "m", Reason.SCORE
    record.score = record.threshold = record.decision_ms = record.cost_usd = record.saved_usd = 0.0
    record.fallback_from, record.fallback_why = Target.CLOUD, "why"
    record.rule, record.merit, record.adapted = "regulated advice", 0.0, ("top_k",)
    record.second_look, record.verified_merit = SecondLookResult.KEPT, 0.0
    record.trace = []
    return {name.decode() for name, _ in record.router_headers() + record.cost_headers()}


def test_documented_headers_exist_and_all_are_documented(sent_headers: set[str]) -> None:
    known = sent_headers | {name.decode() for name in ASKED}
    named = set(re.findall(r"\bx-router-[a-z-]*[a-z]", DOCS))
    assert named == {name for name in known if name.startswith("x-router-")}


def test_scripts_of_other_origins_may_read_every_response_header(sent_headers: set[str]) -> None:
    """Except for the trace, which is for the operator."""
    assert sent_headers - {"x-router-trace"} <= set(EXPOSED_HEADERS)


def test_commands_in_the_documents_exist() -> None:
    # Only of `proxy`: commands of `training` are parsed, because torch may not be installed.
    served = set(main.list_commands(click.Context(main)))
    named = set(re.findall(r"(?<!-n )\bhybrid-llm ([a-z][a-z-]+)", CODE))
    assert named <= served
    options = re.findall(r"(?<!-n )\bhybrid-llm ([a-z-]+) [^\n`]*?(--[a-z-]+)", CODE)
    for name, option in options:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert option in {known for parameter in command.params for known in parameter.opts}


def shell_lines(name: str) -> list[str]:
    """The commands in a document's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGES[name], re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]


def test_documented_commands_run_with_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hybrid-llm.yaml").write_text(
        "upstreams:\n"
        "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
        "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
        "judge: {enabled: true, price: {input: 0, output: 0}}\n"
    )
    records = [finished(turns=[("user", f"Hello {number}")]) for number in range(3)]
    fill("sqlite:///data/router.db", records)
    listed = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6}
    Path("model_prices_and_context_window.json").write_text(json.dumps({"gpt-4o-mini": listed}))
    commands = [
        line.replace("REQUEST_ID", records[0].id)
        for name in ("README.md", "docs/configuration.md", "docs/operations.md")
        for line in shell_lines(name)
        if re.match(r"hybrid-llm (?!init|serve)", line)
    ]
    assert len(commands) >= 7
    for command in commands:
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}: {done.output}"


def test_the_documented_configuration_error_is_the_real_one(tmp_path: Path) -> None:
    shown = re.search(r"\$ hybrid-llm check-config my.yaml\n(my.yaml:(\d+): .*)\n", DOCS)
    assert shown
    default = (CONFIGS / "default.yaml").read_text(encoding="utf-8")
    line = "routing: {treshold: 0.5}"
    lines = [*("#" * (int(shown[2]) - 1)), line]
    path = tmp_path / "my.yaml"
    path.write_text("\n".join(lines) + "\n" + re.sub(r"(?ms)^routing:.*?(?=^\w)", "", default))
    done = CliRunner().invoke(main, ["check-config", str(path)])
    assert (done.exit_code, done.output) == (2, f"{tmp_path}/{shown[1]}\n")


def test_training_commands_in_the_documents_exist() -> None:
    known = {"all"}
    for path in (ROOT / "training").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for decorator in getattr(node, "decorator_list", ()):
                if command := re.search(r"command\((?:name='([a-z-]+)')?", ast.unparse(decorator)):
                    known.add(command[1] or node.name.replace("_", "-"))
    assert set(re.findall(r"\bhybrid-llm-train ([a-z][a-z-]+)", CODE)) <= known


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    spans = re.findall(r"`make ([a-z-]+)", DOCS)
    blocks = re.findall(r"^\$?\s*make ([a-z-]+)", BLOCKS, re.MULTILINE)
    assert spans
    assert blocks
    assert {*spans, *blocks} <= targets


def test_the_first_block_of_the_readme_names_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    commands = [line.strip() for line in shell_lines("README.md")[:2]]
    assert commands == ["make demo", "make test"]
    assert {command.split()[1] for command in commands} <= targets
    assert PAGES["README.md"].index("make demo") < 1_000  # on the first screen


def test_endpoints_in_the_documents_exist(proxy: Proxy) -> None:
    known = {re.sub(r":[a-z]+\}", "}", route.path) for route in proxy.app.routes}
    named = set(re.findall(r"`(?:GET|POST) (/[^` ]*)`", DOCS))
    assert "/v1/chat/completions" in named
    assert {re.sub(r"\{[a-z_]+\}", "{}", path) for path in named} <= {
        re.sub(r"\{[a-z_]+\}", "{}", path) for path in known
    }


def test_vendored_libraries_have_the_versions_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    vendor = ROOT / "proxy/web/ui/vendor"
    for variable, name, title in (
        ("MARKED", "marked", "marked v"), ("DOMPURIFY", "purify", "DOMPurify "),
        ("TEMML", "temml", "Temml "), ("HIGHLIGHT", "highlight", "Highlight.js v"),
        ("IDB", "idb", "idb "),
    ):  # fmt: skip
        version = re.search(rf"^{variable} := (\S+)", makefile, re.MULTILINE)
        assert version
        head = (vendor / f"{name}.js").read_text(encoding="utf-8")[:300]
        assert f"{title}{version[1]} " in head
        assert (vendor / f"{name}.LICENSE").exists()


def test_benchmark_tables_match_the_results() -> None:
    results = json.loads((ROOT / "data/results/bench.json").read_text(encoding="utf-8"))
    documents = {name: text for name, text in PAGES.items() if "<!-- bench: " in text}
    markers = set(re.findall(r"<!-- bench: (.+?) -->", "".join(documents.values())))
    assert markers == {*as_sections(results), "end"}
    for text in documents.values():
        assert fill_in(text, results) == text, "python tests/bench/bench.py --readme writes them"


def test_the_documented_wheel_has_the_current_version() -> None:
    assert set(re.findall(r"hybrid_llm_router-([\w.]+?)-py3", DOCS)) == {__version__}


def prose(name: str) -> str:
    """A document without its code blocks."""
    return re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)


def headings(name: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)


def anchor_of(heading: str) -> str:
    """The anchor that GitHub generates: links become their text, punctuation is dropped."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w -]", "", text).lower().replace(" ", "-")


@each_page
def test_linked_files_exist(name: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", PAGES[name])
    links += re.findall(r'(?:src|srcset)="([^"]+)"', PAGES[name])
    here = (ROOT / name).parent
    assert [link for link in links if not (here / link).exists()] == []


@each_page
def test_linked_headings_exist(name: str) -> None:
    here = (ROOT / name).parent
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", PAGES[name]):
        target = (here / path if path else ROOT / name).resolve().relative_to(ROOT).as_posix()
        known = {anchor_of(heading) for heading in headings(target)}
        assert anchor in known, f"{name} links to {target}#{anchor}"


@each_page
def test_headings_are_unique(name: str) -> None:
    """Headings repeat only in the changelog and the training log."""
    anchors = [anchor_of(heading) for heading in headings(name)]
    if name not in ("CHANGELOG.md", "training/LOG.md"):
        assert sorted(anchors) == sorted(set(anchors))


@pytest.mark.parametrize("head", ["| `model` |", "| response header |", "| request header |"])
def test_tables_of_the_api_appear_once(head: str) -> None:
    assert [name for name in PAGES for _ in range(PAGES[name].count(head))] == ["docs/api.md"]


def test_every_reason_is_explained_once() -> None:
    table = PAGES["docs/api.md"].partition("## Reasons")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(Reason)


def test_every_check_of_an_answer_is_explained_once() -> None:
    table = PAGES["docs/api.md"].partition("### Answer checks")[2].partition("\n#")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Check)


def test_files_named_in_the_architecture_exist() -> None:
    text = PAGES["docs/architecture.md"] + PAGES["CONTRIBUTING.md"]
    paths = re.findall(r"`((?:proxy|router_model|configs|tests)/[\w/.-]*)`", text)
    assert len(paths) > 40
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []


def test_every_decision_record_is_complete_and_in_the_index() -> None:
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    for path in records:
        text = path.read_text(encoding="utf-8")
        sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert sections == ["Context", "Decision", "Figures", "What would make us drop it"], (
            path.name
        )
        assert text.startswith(f"# {path.name[:3]} "), path.name
        assert f"]({path.name})" in PAGES["docs/decisions/README.md"], path.name


def test_every_claim_of_the_threat_model_has_a_test() -> None:
    rows = re.findall(
        r"^\| (?!claim|-)(.+?) \| (.*`tests/.*) \|$", PAGES["SECURITY.md"], re.MULTILINE
    )
    assert len(rows) > 20
    for claim, tests in rows:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests):
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), claim


def test_every_document_is_linked_from_the_readme() -> None:
    """Directly, or through the index of a folder."""
    indexes = ("README.md", "docs/decisions/README.md")
    links = {
        ((ROOT / index).parent / link).resolve()
        for index in indexes
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", PAGES[index])
    }
    links |= {link / "README.md" for link in links}
    assert {ROOT / name for name in PAGES.keys() - {"README.md"}} - links == set()


def test_the_newest_version_of_the_changelog_is_current() -> None:
    versions = re.findall(r"^## v?(\d+\.\d+\.\d+)", CHANGELOG, re.MULTILINE)
    assert versions[0] == __version__


def test_settings_of_clients_can_be_read() -> None:
    """People copy the blocks. The applications read them only before a release."""
    readers = {
        "ini": lambda text: ConfigParser().read_string(f"[top]\n{text}"),
        "json": json.loads,
        "python": ast.parse,
        "toml": tomllib.loads,
        "yaml": yaml.safe_load,
    }
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGES["docs/clients.md"], re.DOTALL)
    assert readers.keys() <= {kind for kind, _ in blocks}
    for kind, text in blocks:
        if kind in readers:
            assert readers[kind](text) is not None or kind == "ini", text
