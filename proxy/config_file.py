"""Changes `routing.threshold` in a configuration file, and no other byte of it.

    edit = plan_edit(path, "0.6", running=config)
    print(edit.diff)
    write_edit(edit)

The place of the value comes from the marks of the YAML parser, so comments, order, anchors, quotes
and line ends stay as they are. The edited text is loaded like any configuration, and must differ
from the old configuration in the threshold alone: else the edit is refused. The file is replaced
atomically, with the mode and the owner of the old one.
"""

import difflib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from proxy.config import Config, ConfigError, load_config
from router_model.bundled import is_bundled_copy

KEY: Final = "routing.threshold"
_CONTEXT_LINES: Final = 2
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*\s+)*")  # the anchor and the tag of a value
_NUMBER: Final = re.compile(r"\d+\.?\d*|\.\d+")
_HUNK: Final = re.compile(r"@@ -(\d+)(\S*) \+(\d+)(\S*) @@")
_LINE_END: Final = re.compile(r"\r\n?|\n")
_CLIPPED: Final = "…"


class NotEditable(Exception):
    """The file cannot be changed here. The message says why, as a sentence."""


class FileChanged(Exception):
    """The file is not the one that the edit was planned for."""


class Edit(NamedTuple):
    """A planned change of a file.

    Attributes:
        old: the value before; None if the key is missing.
        diff: unified, of the section `routing` alone: other lines may have secrets.
    """

    path: Path
    before: bytes
    after: bytes
    old: str | None
    new: str
    diff: str

    @property
    def sha256(self) -> str:
        """The hash of the file before the change."""
        return digest(self.before)

    def to_dict(self) -> dict[str, str | None]:
        """The change for people, without the content of the file."""
        return {
            "key": KEY,
            "file": self.path.name,
            "old": self.old,
            "new": self.new,
            "diff": self.diff,
            "sha256": self.sha256,
        }

    def reversed(self) -> "Edit":
        """The edit that restores the old content."""
        return self._replace(before=self.after, after=self.before, old=self.new, new=self.old or "")


class _Place(NamedTuple):
    """Where a text is replaced.

    Attributes:
        section: the first and the last offset of the section `routing` in the old text.
    """

    start: int
    end: int
    text: str
    old: str | None
    section: tuple[int, int]


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def why_not_writable(path: Path | None) -> str | None:
    """Why the configuration cannot be changed here; None if it can, as far as is known."""
    if path is None:
        return "The demo cannot change its threshold, nor can a proxy without a configuration file."
    if is_bundled_copy(path):
        return (
            f"{path.name} is part of the installed package. `hybrid-llm init` writes a "
            "configuration of your own."
        )
    file = path.resolve()
    try:
        mode = file.stat().st_mode
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    # The superuser may write a file of any mode, but a mode without it is meant as a protection.
    if not mode & 0o222 or not os.access(file, os.W_OK):
        return f"{path} is read-only."
    if not os.access(file.parent, os.W_OK):
        return f"The folder of {path} is read-only."
    return None


def read_setting(path: Path) -> tuple[str | None, str]:
    """The value of the key as it is written in the file, and the hash of the file.

    Raises:
        NotEditable: the file cannot be read, or has no such place.
    """
    content = _read(path)
    return _find(_decode(content, path), "0").old, digest(content)


def plan_edit(path: Path, value: str, *, running: Config) -> Edit:
    """The change of `routing.threshold` to a value, a number or `auto`.

    Args:
        running: the configuration in use, for what an option such as --port replaces.

    Raises:
        ConfigError: the file, or the file with this value, is not a valid configuration.
        NotEditable: the value is not written in the file, or is shared with other settings.
    """
    if (problem := why_not_writable(path)) is not None:
        raise NotEditable(problem)
    before = _read(path)
    text = _decode(before, path)
    old_config = _load(path, text, running)
    place = _find(text, value)
    edited = text[: place.start] + place.text + text[place.end :]
    routing = msgspec.structs.replace(
        old_config.routing, threshold=value if value == "auto" else float(value)
    )
    try:
        new_config = _load(path, edited, running)
    except ConfigError as error:
        raise NotEditable(f"{KEY} cannot be set to {value}: {error}.") from None
    if new_config != msgspec.structs.replace(old_config, routing=routing):
        raise NotEditable(f"{KEY} cannot be changed in {path} without changing other settings.")
    old = place.old
    if old is not None and not _NUMBER.fullmatch(old):  # an alias, or in quotation marks
        old = str(old_config.routing.threshold)
    return Edit(path, before, edited.encode(), old, value, _diff(path.name, text, edited, place))


def format_threshold(threshold: float) -> str:
    """A threshold as it is written into a file."""
    text = f"{abs(threshold):.4f}".rstrip("0")  # of -0.0 without its sign
    return f"{text}0" if text.endswith(".") else text


def write_edit(edit: Edit) -> None:
    """Replace the file atomically.

    Raises:
        FileChanged: the file has another content than when the edit was planned.
        NotEditable: the file cannot be replaced.
    """
    file = edit.path.resolve()  # a link stays a link
    try:
        # Processes that plan the same edit wait for each other here, and the second finds a change.
        with file.open("rb") as locked:
            fcntl.flock(locked, fcntl.LOCK_EX)
            if file.read_bytes() != edit.before:
                raise FileChanged
            _replace(file, edit.after)
    except OSError as error:
        reason = error.strerror or "unknown error"
        if error.errno == errno.EBUSY:
            reason = "it is mounted as a single file; mount its folder"
        raise NotEditable(f"{edit.path} cannot be replaced: {reason}.") from None


def _replace(file: Path, content: bytes) -> None:
    status = file.stat()
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(content)
            temporary.flush()
            created = os.fstat(temporary.fileno())
            if (created.st_uid, created.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(temporary.fileno(), status.st_uid, status.st_gid)
            shutil.copystat(file, name)  # mode, access control lists, labels
            os.utime(name)
            os.fsync(temporary.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotEditable(f"{path} cannot be read: {error.strerror}.") from None


def _decode(content: bytes, path: Path) -> str:
    """The text with its line ends: unlike `Path.read_text`, which translates them."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def _load(path: Path, text: str, running: Config) -> Config:
    server = running.server
    return load_config(path, text=text, host=server.host, port=server.port)


# --- The place of the value ---


class _Alias(yaml.Node):
    """An alias in the place of its node, whose marks are those of the alias."""

    id = "alias"


class _Loader(yaml.SafeLoader):
    """Composes nodes without resolving aliases, and knows which anchors are used."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.used: set[str] = set()
        self.named: dict[int, str] = {}  # the anchors of nodes

    def compose_node(self, parent: Any, index: Any) -> Any:
        events: Any = self  # its methods have no types
        if events.check_event(yaml.AliasEvent):
            event = events.get_event()
            self.used.add(event.anchor)
            return _Alias("", event.anchor, event.start_mark, event.end_mark)
        anchor = events.peek_event().anchor
        node = super().compose_node(parent, index)
        if anchor is not None:
            self.named[id(node)] = anchor
        return node


def _find(text: str, value: str) -> _Place:
    """Where the value is, or where the missing key belongs."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    except (yaml.YAMLError, RecursionError):
        raise NotEditable("The configuration file is not valid YAML.") from None
    finally:
        loader.dispose()
    line_end = _LINE_END.search(text)
    newline = "\n" if line_end is None else line_end[0]
    if root is None:
        start = "" if not text or text.endswith(("\n", "\r")) else newline
        added = f"{start}routing:{newline}  threshold: {value}{newline}"
        return _Place(len(text), len(text), added, None, (len(text), len(text)))
    if not isinstance(root, yaml.MappingNode):
        raise NotEditable("The configuration file has no sections.")
    key, section = _entry(root, "routing")
    if section is None:
        return _place_of_section(text, root, value, newline)
    if not isinstance(section, yaml.MappingNode) or loader.named.get(id(section)) in loader.used:
        raise NotEditable(f"{KEY} is in a section that the file shares by an anchor or alias.")
    span = key.start_mark.index, _end_of(text, section)
    _, node = _entry(section, "threshold")
    if node is None:
        return _place_of_key(text, key, section, value, newline, span)
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, _Alias):
        return _Place(start, end, value, text[start:end], span)
    if not isinstance(node, yaml.ScalarNode):
        raise NotEditable(f"{KEY} is not a number in the file.")
    if names := _VARIABLE.findall(node.value):
        shown = " and ".join(f"${{{name}}}" for name in names)
        raise NotEditable(f"{KEY} is set by the variable {shown}. Change the variable.")
    if loader.named.get(id(node)) in loader.used:
        raise NotEditable(f"Other settings of the file share the value of {KEY} by an anchor.")
    found = _PROPERTIES.match(text, start, end)
    assert found is not None  # the pattern matches every text
    return _Place(found.end(), end, value, text[found.end() : end], span)


def _entry(mapping: yaml.MappingNode, name: str) -> tuple[Any, Any]:
    for key, value in mapping.value:
        if key.value == name:
            return key, value
    return None, None


def _place_of_section(text: str, root: yaml.MappingNode, value: str, newline: str) -> _Place:
    """Where a missing section belongs: at the end, or at the beginning of a flow mapping."""
    if root.flow_style:
        start = root.start_mark.index + 1
        quote = _quote(root)
        added = f"{quote}routing{quote}: {{{quote}threshold{quote}: {value}}}"
        return _Place(start, start, _in_flow(text, start, added, root), None, (start, start))
    indent = " " * root.value[0][0].start_mark.column
    before = "" if text.endswith(("\n", "\r")) else newline
    added = f"{before}{indent}routing:{newline}{indent}  threshold: {value}{newline}"
    return _Place(len(text), len(text), added, None, (len(text), len(text)))


def _place_of_key(
    text: str,
    key: Any,
    section: yaml.MappingNode,
    value: str,
    newline: str,
    span: tuple[int, int],
) -> _Place:
    """Where a missing key belongs: it becomes the first one of its section."""
    if section.flow_style:
        start = text.index("{", section.start_mark.index) + 1
        quote = _quote(section) or _quote_of(text, key)
        added = _in_flow(text, start, f"{quote}threshold{quote}: {value}", section)
        return _Place(start, start, added, None, span)
    line_end = _LINE_END.search(text, key.end_mark.index)
    assert line_end is not None  # a key of the block is in another line
    start = line_end.end()
    indent = " " * section.value[0][0].start_mark.column
    return _Place(start, start, f"{indent}threshold: {value}{newline}", None, span)


def _in_flow(text: str, start: int, added: str, mapping: yaml.MappingNode) -> str:
    if not mapping.value:
        return added
    return f"{added}," if text[start : start + 1].isspace() else f"{added}, "


def _quote(mapping: yaml.MappingNode) -> str:
    """The quotation mark of a mapping's keys: JSON stays JSON."""
    return '"' if mapping.value and mapping.value[0][0].style == '"' else ""


def _quote_of(text: str, key: Any) -> str:
    return '"' if text[key.start_mark.index] == '"' else ""


def _end_of(text: str, node: Any) -> int:
    """The end of a section. That of a block reaches to the next one, over its comments."""
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode) and not node.flow_style:
        last = node.value[-1]
        return _end_of(text, last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        end = node.start_mark.index + len(text[node.start_mark.index : end].rstrip())
    return end


def _diff(name: str, old: str, new: str, place: _Place) -> str:
    """The unified diff of the section `routing`, with the line numbers of the whole file."""
    first, last = place.section
    line_start = old.rfind("\n", 0, first) + 1
    head = "" if not old[line_start:first].strip() else _CLIPPED
    begin = line_start if not head else first
    rest = re.compile(r"[^\n]*").match(old, last)
    tail = _CLIPPED if rest is not None and rest[0].strip() else ""
    grown = len(place.text) - (place.end - place.start)
    before, after = (
        [f"{line}\n" for line in (head + text[begin:end] + tail).splitlines()]
        for text, end in ((old, last), (new, last + grown))
    )
    offset = old.count("\n", 0, begin)

    def shift(match: re.Match[str]) -> str:
        lines = (int(match[1]) + offset, int(match[3]) + offset)
        return f"@@ -{lines[0]}{match[2]} +{lines[1]}{match[4]} @@"

    lines = difflib.unified_diff(before, after, name, f"{name} (new)", n=_CONTEXT_LINES)
    return "".join(_HUNK.sub(shift, line) if line.startswith("@@") else line for line in lines)
