"""Editing one setting of a configuration file: every other byte stays."""

import os
import stat
from pathlib import Path

import pytest

from proxy.config import ConfigError, load_config
from proxy.config_file import (
    Edit,
    FileChanged,
    NotEditable,
    format_threshold,
    plan_edit,
    read_setting,
    why_not_writable,
    write_edit,
)

DEFAULT = Path(__file__).parents[2] / "configs/default.yaml"
UPSTREAMS = """\
upstreams:
  local: {base_url: http://localhost:11434/v1, model: phi3}   # at home
  cloud: {base_url: https://api.test/v1, model: gpt, api_key: sk-a-secret-of-the-cloud-1}
"""
JSON_UPSTREAMS = (
    '"upstreams": {"local": {"base_url": "http://localhost:11434/v1", "model": "phi3"}, '
    '"cloud": {"base_url": "https://api.test/v1", "model": "gpt", "api_key": "sk-a-secret-1"}}'
)


def plan(folder: Path, text: str, value: str = "0.62") -> Edit:
    path = folder / "config.yaml"
    path.write_bytes(text.encode())
    return plan_edit(path, value, running=load_config(path, environ={}))


# The text before, what is replaced, and by what.
EDITS = {
    "plain": ("routing:\n  threshold: 0.5  # half\n  fallback: true\n", "0.5", "0.62"),
    "auto": ("routing: {fallback: true, threshold: auto}\n", "auto", "0.62"),
    "quoted": ("routing:\n  threshold: 'auto'\n", "'auto'", "0.62"),
    "indented by four": ("routing:\n    sticky: off\n    threshold:   .5\n", ".5", "0.62"),
    "a property": ("routing:\n  threshold: !!float 0.5\n", "0.5", "0.62"),
    "an unused anchor": ("routing:\n  threshold: &t 0.5 # t\n", "0.5", "0.62"),
    "an alias": (
        "routing:\n  explore_rate: &t 0.5\n  threshold: *t\n",
        "threshold: *t",
        "threshold: 0.62",
    ),
    "a list of rules": (
        "routing:\n  rules:\n  - {name: a, when: {words: b}, use: {threshold: 0.5}}\n"
        "  threshold: 0.5\n",
        "  threshold: 0.5\n",
        "  threshold: 0.62\n",
    ),
    "missing": (
        "routing: # how\n  # of conversations\n  sticky: off\n",
        "# how\n",
        "# how\n  threshold: 0.62\n",
    ),
    "missing in braces": ("routing: {sticky: off}\n", "{sticky", "{threshold: 0.62, sticky"),
    "an empty section": ("routing: {}\n", "{}", "{threshold: 0.62}"),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("section", "old", "new"), EDITS.values(), ids=EDITS)
def test_only_the_threshold_changes(
    tmp_path: Path, section: str, old: str, new: str, newline: str
) -> None:
    text = f"# Größe 🙂\n{UPSTREAMS}\n{section}# the end\nserver:\n  port: 1"
    text, old, new = (part.replace("\n", newline) for part in (text, old, new))
    assert text.count(old) == 1 or old in ("0.5", "{}")
    edit = plan(tmp_path, text)
    begin = text.index("routing")
    assert edit.after.decode() == text[:begin] + text[begin:].replace(old, new, 1)
    write_edit(edit)
    assert load_config(edit.path, environ={}).routing.threshold == 0.62
    write_edit(edit.reversed())
    assert edit.path.read_bytes() == text.encode()


@pytest.mark.parametrize("ending", ["", "\n", "\n# the end\n", "\nserver: {port: 1}"])
def test_missing_section_is_appended(tmp_path: Path, ending: str) -> None:
    text = UPSTREAMS.rstrip("\n") + ending
    edit = plan(tmp_path, text)
    assert edit.old is None
    added = "routing:\n  threshold: 0.62\n"
    assert edit.after.decode() == text + ("" if text.endswith("\n") else "\n") + added


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{%s}", '{"routing": {"threshold": 0.62}, %s}'),
        ("{\n%s\n}\n", '{"routing": {"threshold": 0.62},\n%s\n}\n'),
        ('{"routing": {}, %s}', '{"routing": {"threshold": 0.62}, %s}'),
        (
            '{"routing": {"sticky": "off"}, %s}',
            '{"routing": {"threshold": 0.62, "sticky": "off"}, %s}',
        ),
        ('{%s, "routing": {"threshold": 0.5}}', '{%s, "routing": {"threshold": 0.62}}'),
        ("\ufeff{%s}", '\ufeff{"routing": {"threshold": 0.62}, %s}'),
    ],
)
def test_json_stays_json(tmp_path: Path, text: str, expected: str) -> None:
    edit = plan(tmp_path, text % JSON_UPSTREAMS)
    assert edit.after.decode() == expected % JSON_UPSTREAMS
    assert "sk-" not in edit.diff


def test_default_configuration_can_be_edited(tmp_path: Path) -> None:
    text = DEFAULT.read_text()
    edit = plan(tmp_path, text)
    assert edit.after.decode() == text.replace("threshold: auto  ", "threshold: 0.62  ", 1)
    number = text[: text.index("  threshold: auto")].count("\n") + 1
    assert f"@@ -{number - 2}," in edit.diff
    changed = [line for line in edit.diff.splitlines()[2:] if line[0] in "+-"]
    assert [line[:18].strip() for line in changed] == ["-  threshold: auto", "+  threshold: 0.62"]


REFUSED = {
    "variable": ("routing:\n  threshold: ${LIMIT:-0.5}\n", r"\$\{LIMIT\}. Change the variable"),
    "two variables": ("routing: {threshold: '${A:-}${B:-auto}'}\n", r"\$\{A\} and \$\{B\}"),
    "shared anchor": (
        "routing:\n  threshold: &t 0.5\n  explore_rate: *t\n",
        "share the value of routing.threshold by an anchor",
    ),
    "an explicit key": ("? routing\n: sticky: off\n", "cannot be set to 0.62: .*not valid YAML"),
    "the end of a document": ("...\n", "cannot be set to 0.62: .*not valid YAML"),
    "open block": ("pricing: |\n  x", "without changing other settings|not valid"),
}


@pytest.mark.parametrize(("section", "problem"), REFUSED.values(), ids=REFUSED)
def test_value_that_is_not_written_there_is_refused(
    tmp_path: Path, section: str, problem: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(UPSTREAMS + section)
    with pytest.raises((NotEditable, ConfigError), match=problem):
        plan_edit(path, "0.62", running=load_config(path, environ={}))
    assert path.read_text() == UPSTREAMS + section


def test_invalid_value_or_file_is_refused_by_the_loader(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(UPSTREAMS)
    running = load_config(path, environ={})
    with pytest.raises(NotEditable, match=r"cannot be set to 1.5: .*routing.threshold"):
        plan_edit(path, "1.5", running=running)
    path.write_text(UPSTREAMS + "routing: {treshold: 1}")
    with pytest.raises(ConfigError, match="treshold"):
        plan_edit(path, "0.5", running=running)


def test_diff_shows_no_line_of_another_section(tmp_path: Path) -> None:
    secret = "# api_keys: [sk-an-old-secret-of-ours]\n"
    for text in (
        f"{UPSTREAMS}routing:\n  threshold: 0.5\n{secret}server: {{port: 1}}\n",
        f"{UPSTREAMS}{secret}routing:\n  threshold: 0.5\n",
        f"{UPSTREAMS}{secret}",
        f"{{{JSON_UPSTREAMS}, routing: {{threshold: 0.5}}}} {secret}",
    ):
        edit = plan(tmp_path, text)
        assert "sk-" not in edit.diff
        assert "+" in edit.diff
        assert "0.62" in edit.diff


def test_mode_owner_and_link_stay(tmp_path: Path) -> None:
    real = tmp_path / "real" / "config.yaml"
    real.parent.mkdir()
    edit = plan(real.parent, UPSTREAMS)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 2345)
    before = real.stat()
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    write_edit(edit._replace(path=link))
    after = real.stat()
    assert link.is_symlink()
    assert real.read_bytes() == edit.after
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # replaced, not written in place
    assert after.st_mtime_ns > before.st_mtime_ns
    assert [path.name for path in real.parent.iterdir()] == ["config.yaml"]


def test_changed_file_is_not_overwritten(tmp_path: Path) -> None:
    edit = plan(tmp_path, UPSTREAMS)
    edit.path.write_text(UPSTREAMS + "# by hand\n")
    with pytest.raises(FileChanged):
        write_edit(edit)
    assert edit.path.read_text() == UPSTREAMS + "# by hand\n"


def test_read_only_file_or_no_file_is_named(tmp_path: Path) -> None:
    edit = plan(tmp_path, UPSTREAMS)
    assert why_not_writable(edit.path) is None
    edit.path.chmod(0o444)
    assert why_not_writable(edit.path) == f"{edit.path} is read-only."
    with pytest.raises(NotEditable, match="read-only"):
        plan_edit(edit.path, "0.7", running=load_config(edit.path, environ={}))
    missing = tmp_path / "missing.yaml"
    assert "No such file" in (why_not_writable(missing) or "")
    assert "without a configuration file" in (why_not_writable(None) or "")


def test_setting_is_read_as_it_is_written(tmp_path: Path) -> None:
    edit = plan(tmp_path, UPSTREAMS + "routing: {threshold: 0.50}\n")
    assert read_setting(edit.path) == ("0.50", edit.sha256)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0"), (1, "1.0"), (0.6, "0.6"), (0.539, "0.539"), (1 / 3, "0.3333"), (-0.0, "0.0")],
)
def test_thresholds_are_written_with_four_digits(value: float, text: str) -> None:
    assert format_threshold(value) == text
