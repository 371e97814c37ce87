"""Releases: reproducible builds, complete files, known licences, signatures."""

import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import needs
from proxy import __version__
from release import (
    NotReleased,
    build,
    build_from,
    check_licences,
    is_allowed,
    licence_of,
    licences,
    list_parts,
    sign,
    write_checksums,
)
from router_model.bundled import BUNDLED_FILES
from router_model.manifest import Manifest

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"


def tracked() -> list[str]:
    """The files that git tracks, or would track after `git add --all`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive and the wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        wheel, archive = build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel")
    assert (wheel.suffix, archive.suffix) == (".whl", ".gz")
    return archive, wheel


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return list_parts()


def test_builds_are_reproducible(
    built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, wheel = built
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    assert build_from(archive, tmp_path / "from-archive").read_bytes() == wheel.read_bytes()
    checkout = tmp_path / "checkout"  # with other times and modes
    for name in tracked():
        path = checkout / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes())
        path.chmod((ROOT / name).stat().st_mode & 0o700)
        os.utime(path, (1, 1))
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    again = build(checkout, tmp_path / "dist", "sdist", "wheel")
    assert [path.read_bytes() for path in again] == [wheel.read_bytes(), archive.read_bytes()]


def test_the_source_archive_has_all_tracked_files(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked()) - names == set()
    assert names - set(tracked()) == {"PKG-INFO"}


def test_the_wheel_has_the_files_for_serving(built: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path)
    folder = tmp_path / "router_model/bundled"
    assert Manifest.load(folder / "data/models/router") == Manifest.load(
        ROOT / "data/models/router"
    )
    for name in BUNDLED_FILES:
        here = ROOT / name
        for path in here.iterdir() if here.is_dir() else [here]:
            assert (folder / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert {path.split("/")[0] for path in names} == {
        "proxy", "router_model", "training", f"hybrid_llm_router-{__version__}.dist-info",
    }  # fmt: skip
    assert not [name for name in names if name.endswith((".pyc", ".env", ".db"))]
    licensed = {name.partition("licenses/")[2] for name in names if "dist-info/licenses/" in name}
    vendor = {
        str(path.relative_to(ROOT)) for path in (ROOT / "proxy/web/ui/vendor").glob("*.LICENSE")
    }
    assert licensed == {"LICENSE", *vendor}


def test_all_files_have_the_same_version(built: tuple[Path, Path], parts: dict[str, Any]) -> None:
    """tests/test_docs.py checks the version in the changelog."""
    with zipfile.ZipFile(built[1]) as wheel:
        name = f"hybrid_llm_router-{__version__}.dist-info/METADATA"
        metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == __version__
    assert parts["metadata"]["component"]["version"] == __version__
    for file in ("Dockerfile", "compose.yaml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        versions = re.findall(r"(?:image\.version\W+|hybrid-llm-router:)(\d[\w.]*)", text)
        assert set(versions) <= {__version__}, file
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"hybrid_llm_router-(\d+\.\d+\.\d+)", readme)) <= {__version__}


# ── Bill of materials and licences ────────────────────────────────────────────────────────────


def test_the_bill_of_materials_matches_the_lock_file(parts: dict[str, Any]) -> None:
    names = {re.sub(r"[-_.]+", "-", part["name"]).lower() for part in parts["components"]}
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    elsewhere = {  # locked for other systems only
        name for name, marker in re.findall(r"^([\w.-]+)==\S+ ; (.+?) \\$", locked, re.M)
        if re.search(r"platform|sys_|emscripten|win32", marker)
    }  # fmt: skip
    locked_names = set(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE))
    assert locked_names - elsewhere <= names
    assert names - locked_names == {
        "marked", "dompurify", "temml", "highlight-js", "idb", "router",
    }  # fmt: skip
    root = next(node for node in parts["dependencies"] if node["ref"] == "root")
    assert {"onnxruntime", "model:router"} <= {ref.split("==")[0] for ref in root["dependsOn"]}
    known = {part["bom-ref"] for part in parts["components"]}
    assert {ref for node in parts["dependencies"] for ref in node.get("dependsOn", ())} <= known


def test_the_router_model_is_a_component_with_its_base_model(parts: dict[str, Any]) -> None:
    (model,) = [part for part in parts["components"] if part["type"] == "machine-learning-model"]
    manifest = Manifest.load(ROOT / "data/models/router")
    assert model["version"] == manifest.version
    assert {file["name"]: file["hashes"][0]["content"] for file in model["components"]} == (
        manifest.files
    )
    (base,) = model["pedigree"]["ancestors"]
    assert base["name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert licence_of(model) == licence_of(base) == "Apache-2.0"


def test_the_bill_of_materials_has_no_local_paths(parts: dict[str, Any]) -> None:
    assert str(ROOT) not in str(parts)
    assert "file:///" not in str(parts)


def test_every_licence_is_allowed(parts: dict[str, Any]) -> None:
    check_licences(parts["components"])
    text = licences(parts["components"])
    for part in parts["components"]:
        assert f"| {part['name']} | {part['version']} | " in text


@pytest.mark.parametrize(
    ("licensed", "message"),
    [
        ([{"license": {"id": "AGPL-3.0-only"}}], "AGPL-3.0-only"),
        ([{"expression": "MIT AND GPL-2.0-only"}], "(MIT AND GPL-2.0-only)"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "SSPL-1.0"}}], "MIT AND SSPL-1.0"),
        ([{"license": {"name": "Commercial"}}], "no licence"),
        ([], "no licence"),
    ],
)
def test_a_disallowed_licence_stops_the_release(licensed: list[Any], message: str) -> None:
    good = {"name": "good", "version": "1", "licenses": [{"license": {"id": "MIT"}}]}
    bad = {"name": "bad", "version": "2", "licenses": licensed}
    with pytest.raises(NotReleased, match=rf"not allowed: bad 2: {re.escape(message)}$"):
        check_licences([good, bad])


def test_one_allowed_licence_of_a_choice_is_enough() -> None:
    assert is_allowed("GPL-2.0-only OR (MIT AND Apache-2.0)")
    assert not is_allowed("GPL-2.0-only OR (MIT AND AGPL-3.0-only)")
    assert not is_allowed("")


# ── Signatures ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new key of gpg in a temporary home."""
    needs.find("gpg")
    # Not below pytest's folder: the path of the agent's socket is limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        monkeypatch.setenv("GNUPGHOME", home)
        name = "release@example.org"
        options = ["--batch", "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", "1d"]
        subprocess.run(["gpg", *options], check=True, capture_output=True)
        yield name
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=True, capture_output=True)


def verify(folder: Path) -> tuple[int, int]:
    """The exit statuses of the two documented commands."""
    commands = (
        ["gpg", "--verify", "SHA256SUMS.asc", "SHA256SUMS"],
        ["sha256sum", "--check", "SHA256SUMS"],
    )
    signature, checksums = (
        subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
        for command in commands
    )
    return signature, checksums


def test_a_user_can_verify_a_signed_release(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "b.tar.gz").write_bytes(b"archive")
    sums = write_checksums(tmp_path)
    sign(sums, key)
    assert verify(tmp_path) == (0, 0)
    (tmp_path / "a.whl").write_bytes(b"altered")
    assert verify(tmp_path) == (0, 1)
    write_checksums(tmp_path)  # an attacker can do this, but not sign it
    assert verify(tmp_path) == (1, 0)


def test_nothing_is_signed_without_the_key(tmp_path: Path, key: str) -> None:
    sums = write_checksums(tmp_path)
    with pytest.raises(NotReleased, match="gpg does not sign"):
        sign(sums, "somebody@example.org")
    assert not sums.with_name("SHA256SUMS.asc").exists()
