"""The prepared rows: their format, their split, and the file that stores them.

`hybrid-llm-train prepare --data FOLDER` writes the file.

The split of a row depends only on its group, which near-duplicates share. Adding data therefore
never moves a row to another split. All of zeroeval-crux is held out as out-of-distribution data.
"""

import gzip
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from router_model.split import part_of

Split = Literal["train", "validation", "test", "ood"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "ood")

OUT_OF_DISTRIBUTION_SOURCES = frozenset({"zeroeval-crux"})
LOCAL_HEAD = "local"
CLOUD_HEAD = "cloud"
LENGTH_HEAD = "length"  # of the cloud model's answer


class DataError(Exception):
    """The data is unusable. The message gives the reason and the remedy."""


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One prompt with the outcome of each model. Scores are 0-10.

    Attributes:
        outcomes: training target in [0, 1] per head. The heads of the routed pair are "local" and
            "cloud"; every other head has the canonical name of its model.
        auxiliary: whether the row is from other models than the routed pair.
        unread: whether the local answer had no verdict and counts as wrong.
        weak: whether the scores are estimates.
    """

    id: str
    source: str
    category: str
    text: str
    group: str
    outcomes: dict[str, float]
    auxiliary: bool = False
    unread: bool = False
    weak: bool = False
    local_score: float | None = None
    cloud_score: float | None = None
    prompt_chars: int = 0
    local_response_chars: int | None = None
    cloud_response_chars: int | None = None
    licence: str = ""

    @property
    def split(self) -> Split:
        """The split of this row."""
        return split_of(self.group, self.source)


def split_of(group: str, source: str) -> Split:
    """The split by a hash of the group: 70 % train, 10 % validation, 20 % test."""
    return "ood" if source in OUT_OF_DISTRIBUTION_SOURCES else part_of(group)


class Prepared(msgspec.Struct, kw_only=True):
    """The prepared rows and the hash of their source files."""

    data_sha256: str
    rows: list[Row]

    def of(self, *splits: Split, auxiliary: bool | None = None) -> list[Row]:
        """The rows of these splits. With `auxiliary`, only rows with this value."""
        return [
            row
            for row in self.rows
            if row.split in splits and (auxiliary is None or row.auxiliary == auxiliary)
        ]

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows per source and split."""
        table: dict[str, Counter[str]] = {}
        for row in self.rows:
            table.setdefault(row.source, Counter())[row.split] += 1
        return {source: dict(counter) for source, counter in sorted(table.items())}


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the non-empty lines of a plain or gzipped file with their numbers, from 1."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def sha256_of(paths: Iterable[Path]) -> str:
    """The SHA-256 over the contents of several files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def save(prepared: Prepared, path: Path) -> None:
    """Write the prepared rows atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wb", compresslevel=3) as stream:
        stream.write(msgspec.msgpack.encode(prepared))
    partial.replace(path)


def load(path: Path) -> Prepared:
    """Read the file of `save`. Raises DataError if it is missing."""
    if not path.exists():
        raise DataError(f"{path} is missing: run `hybrid-llm-train prepare --data FOLDER` first")
    with gzip.open(path, "rb") as stream:
        return msgspec.msgpack.decode(stream.read(), type=Prepared)
