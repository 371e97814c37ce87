"""Rows, their split, and the folder of data they come from.

`hybrid-llm-train prepare --data FOLDER` reads the folder and writes one prepared file.

A row's split depends on nothing but its group (near-duplicates share one), so it never moves when
data is added. zeroeval-crux is held out whole: it shows how the router does on a kind of task that
it has never seen.
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


class DataError(Exception):
    """The data cannot be used; the message says why and what to do."""


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One prompt with what each model scored on it.

    `outcomes` maps a head to its target in [0, 1]: "local" and "cloud" for the routed pair, the
    canonical model name for every other model. Scores are 0-10. An auxiliary row has no pair.
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
        """The part this row belongs to."""
        return split_of(self.group, self.source)


def split_of(group: str, source: str) -> Split:
    """70 % train, 10 % validation, 20 % test, by a hash of the group alone."""
    return "ood" if source in OUT_OF_DISTRIBUTION_SOURCES else part_of(group)


class Prepared(msgspec.Struct, kw_only=True):
    """The prepared rows with the hash of the files they came from."""

    data_sha256: str
    rows: list[Row]

    def of(self, *splits: Split, auxiliary: bool | None = None) -> list[Row]:
        """The rows of these splits; only auxiliary ones or only the others when asked."""
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
    """The non-empty lines of a plain or gzipped file with their numbers from 1."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def sha256_of(paths: Iterable[Path]) -> str:
    """One hash over the contents of several files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def save(prepared: Prepared, path: Path) -> None:
    """Write the prepared rows; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wb", compresslevel=3) as stream:
        stream.write(msgspec.msgpack.encode(prepared))
    partial.replace(path)


def load(path: Path) -> Prepared:
    """Read what `save` wrote. Raises DataError when it is not there."""
    if not path.exists():
        raise DataError(f"{path} is missing: run `hybrid-llm-train prepare --data FOLDER` first")
    with gzip.open(path, "rb") as stream:
        return msgspec.msgpack.decode(stream.read(), type=Prepared)
