"""Architecture rules: imports between packages, dependencies, docstrings and names."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A package imports from rows above its own: budget may use storage, storage not budget.
PACKAGES = [
    # The ground floor: modules, not packages.
    "errors record secret plain_text patterns addresses config config_file auth timeouts logs "
    "loop_delay metrics",
    "protocol",
    "upstream",
    "storage",
    "budget",
    "routing",
    "evaluation",
    "learning",
    "experiments",
    "gateway",
    "web",
    "server",
    "cli",
]
ROW = {name: row for row, names in enumerate(PACKAGES) for name in names.split()}

ROUTER_MODEL_NEEDS = {"numpy", "onnxruntime", "tokenizers", "msgspec", "py3langid"}
VAGUE_NAMES = {"utils", "util", "helpers", "common", "manager", "service", "base"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Every module of a package by its dotted name."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


OURS = dict(chain.from_iterable(modules(name) for name in ("proxy", "router_model", "training")))


def imports(path: Path) -> set[str]:
    """The dotted names of the modules that a file imports anywhere."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                imported.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0
                assert node.module is not None
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    imported.add(full if full in OURS else node.module)
    return {f"{name}.__init__" if f"{name}.__init__" in OURS else name for name in imported}


def top(name: str) -> str:
    return name.partition(".")[0]


def test_serving_imports_no_training_packages() -> None:
    program = """
import sys
import proxy.server.app, proxy.cli.main
heavy = {"torch", "transformers", "optimum", "datasets", "sklearn", "training"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def package_of(name: str) -> str:
    """The name of a module in the table: its package, or itself where it has none."""
    return name.split(".")[1]


def test_every_package_of_the_proxy_is_in_the_table() -> None:
    assert set(ROW) == {package_of(name) for name, _ in modules("proxy")} - {"__init__"}


@pytest.mark.parametrize("name", [name for name, _ in modules("proxy")])
def test_packages_import_only_from_rows_above(name: str) -> None:
    own = package_of(name)
    wrong = {
        imported
        for imported in imports(OURS[name]) - {"proxy.__init__"}
        if top(imported) == "proxy" and ROW[package_of(imported)] > ROW[own]
    }
    assert wrong == set()


def exports(package: str) -> set[str]:
    """The names in a package's `__all__`."""
    for node in ast.parse((ROOT / "proxy" / package / "__init__.py").read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return set(ast.literal_eval(value))
            case _:
                pass
    return set()


EXPORTS = {package: exports(package) for package in PACKAGES[1:]}


def imports_of_packages(name: str) -> Iterator[tuple[str, str]]:
    """Pairs of package and name that a module imports from other packages of the proxy.

    Where a package exports a whole module, importing from the module counts as importing it.
    """
    for node in ast.walk(ast.parse(OURS[name].read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module="proxy"):
                assert not EXPORTS.keys() & {alias.name for alias in node.names}, name
            case ast.ImportFrom(module=str(source)) if source.startswith("proxy."):
                _, package, *inner = source.split(".")
                if package in EXPORTS and package != package_of(name):
                    for alias in node.names:
                        yield package, ".".join(inner) or alias.name
            case ast.Import():
                assert "proxy" not in {top(alias.name) for alias in node.names}, name
            case _:
                pass


@pytest.mark.parametrize("name", [name for name, _ in modules("proxy")])
def test_a_package_is_imported_through_its_interface(name: str) -> None:
    assert {(p, item) for p, item in imports_of_packages(name) if item not in EXPORTS[p]} == set()


def test_a_package_exports_only_what_others_import() -> None:
    used = set(chain.from_iterable(imports_of_packages(name) for name, _ in modules("proxy")))
    assert {(p, item) for p, names in EXPORTS.items() for item in names} == used


def test_training_and_serving_share_only_the_router_model() -> None:
    allowed = {
        "proxy": {"proxy", "router_model"},
        "training": {"training", "router_model"},
        "router_model": {"router_model"},
    }
    for name, path in OURS.items():
        known = {top(imported) for imported in imports(path)} & set(allowed)
        assert known <= allowed[top(name)], name


def test_the_router_model_needs_five_packages() -> None:
    for name, path in modules("router_model"):
        others = {top(imported) for imported in imports(path)} - sys.stdlib_module_names
        assert others - {"router_model"} <= ROUTER_MODEL_NEEDS, name


def test_serving_imports_only_declared_dependencies() -> None:
    """A transitive dependency may disappear with the package that requires it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]}
    distributions = packages_distributions()
    for name, path in modules("proxy"):
        others = {top(imported) for imported in imports(path)} - sys.stdlib_module_names
        for other in others - {"proxy", "router_model"}:
            providers = {name.lower().replace("_", "-") for name in distributions[other]}
            assert declared & providers, (name, other)


@pytest.mark.parametrize("name", OURS)
def test_a_module_has_a_docstring_and_a_specific_name(name: str) -> None:
    assert ast.get_docstring(ast.parse(OURS[name].read_text(encoding="utf-8")))
    assert not VAGUE_NAMES & set(name.split("."))


def constants(path: Path) -> Iterator[tuple[str, str]]:
    """A module's public constants with the source text of their values."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        if name.isupper() and not name.startswith("_"):
            yield name, ast.unparse(value)


def test_a_public_constant_has_one_value_everywhere() -> None:
    """Private constants, with a leading underscore, may differ by module."""
    values: dict[str, dict[str, str]] = {}
    for module, path in modules("proxy"):
        for name, value in constants(path):
            values.setdefault(name, {})[module] = value
    assert len(values) > 100
    assert {name: where for name, where in values.items() if len(set(where.values())) > 1} == {}


# Code that depends on Ollama as a server is in one module. The others name it in questions,
# defaults and descriptions, and in the names of the endpoints that speak its API.
OLLAMA_MODULE = "proxy.protocol.ollama"
MAY_NAME_OLLAMA = {
    OLLAMA_MODULE,
    "proxy.protocol.__init__",
    "proxy.protocol.model_servers",
    "proxy.protocol.ollama_native",
    "proxy.cli.init",
    "proxy.cli.serve",
    "proxy.server.guidance",
    "proxy.web.openapi",
}


def words_of(path: Path) -> Iterator[str]:
    """The identifiers and strings of a file, without docstrings and without imported modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | bytes()) if id(node) not in docstrings:
                yield str(node.value)
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.arg() | ast.keyword():
                yield node.arg or ""
            case ast.alias():
                yield f"{node.name} {node.asname}"
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case _:
                pass


@pytest.mark.parametrize("name", [name for name, _ in modules("proxy")])
def test_code_that_depends_on_ollama_is_in_one_module(name: str) -> None:
    named = {word for word in words_of(OURS[name]) if "ollama" in word.lower()}
    assert not named or name in MAY_NAME_OLLAMA, named


def test_the_ollama_allow_list_has_no_stale_names() -> None:
    for name in MAY_NAME_OLLAMA:
        assert any("ollama" in word.lower() for word in words_of(OURS[name])), name
