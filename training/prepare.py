"""Conversion of a folder of outcome data to one prepared file and its data card.

`hybrid-llm-train prepare --data FOLDER` reads the layouts of training/sources, and with --from-db
the database of a proxy. It drops repeated prompts, checks the rows, and writes
data/results/data_card.json.

The card does not show wrong scores, or paraphrases in different splits.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from router_model.label import is_ok
from router_model.split import text_key
from training import dataset, results
from training.dataset import DataError, Prepared, Row
from training.duplicates import NEAR, near_duplicates
from training.progress import say
from training.sources import mmlu_pro, pairs, proxy_db, zeroeval
from training.sources.fetch import DEFAULT_BASE, fetch

# Incremented when the same files give different rows.
PREPARE_VERSION = 1
MIN_ONE_CLASS_ROWS = 20
_EXAMPLES = 10


class Source(Protocol):
    """The interface of the modules in training.sources. A place is a file or a folder."""

    KIND: str
    LAYOUT: str

    def find(self, folder: Path, /) -> list[Path]:
        """The readable places in a data folder, in a fixed order."""

    def files(self, place: Path, /) -> list[Path]:
        """The files of a place."""

    def rows(self, place: Path, /) -> Iterator[Row]:
        """The rows of a place. Raises DataError, which names file and row."""


SOURCES: tuple[Source, ...] = (pairs, zeroeval, mmlu_pro, proxy_db)
FETCHABLE = {zeroeval.KIND: zeroeval.wanted, mmlu_pro.KIND: mmlu_pro.wanted}


def prepare(
    folder: Path | None,
    estimated: tuple[Path, ...],
    *,
    target: Path,
    card: Path,
    databases: tuple[Path, ...] = (),
    fetched: tuple[str, ...] = (),
    fetch_base: str = DEFAULT_BASE,
    command: str = "",
) -> Prepared:
    """Read, clean and write the rows. Does nothing if the files are unchanged.

    Raises DataError if there is no data, or only one class.
    """
    places: list[tuple[Source, Path]] = []
    if folder is not None:
        for kind in fetched:
            fetch(FETCHABLE[kind](folder), base=fetch_base)
        places = [(source, place) for source in SOURCES for place in source.find(folder)]
    for database in databases:
        if not database.is_file():
            raise DataError(f"there is no database {database}")
        places.append((proxy_db, database))
    if not places:
        layouts = "; ".join(source.LAYOUT for source in SOURCES)
        raise DataError(f"no data in {folder}: expected one or more of: {layouts}")
    places += [(pairs, path) for path in estimated if path.is_file()]
    files = {path: source.KIND for source, place in places for path in source.files(place)}
    digest = dataset.sha256_of(files)
    if (finished := _find_finished(target, card, digest=digest)) is not None:
        say(f"prepare: {target.name} is up to date ({len(finished.rows)} rows)")
        return finished
    all_rows = [row for source, place in places for row in source.rows(place)]
    rows, dropped = deduplicate(all_rows)
    check(rows)
    prepared = Prepared(data_sha256=digest, rows=rows)
    content = data_card(prepared, dropped=dropped) | {
        "command": command,
        "prepare_version": PREPARE_VERSION,
        "files": [
            {
                "name": path.relative_to(folder).as_posix()
                if folder is not None and path.is_relative_to(folder)
                else path.name,
                "kind": kind,
                "bytes": path.stat().st_size,
                "sha256": dataset.sha256_of([path]),
            }
            for path, kind in files.items()
        ],
    }
    dataset.save(prepared, target)
    show(content)
    say(f"prepare: wrote {target} ({len(rows)} rows)")
    results.write(card, content)
    return prepared


def deduplicate(rows: list[Row]) -> tuple[list[Row], dict[str, int]]:
    """Drop repeated prompts. Returns the remaining rows, and the number of dropped ones by reason.

    - The first row with a prompt is kept: once among the routed pair's rows, and once per source
      among the auxiliary rows.
    - Auxiliary rows that repeat a routed prompt are dropped, because they could leak test prompts.
    - Auxiliary rows with equal prompts get the same group.
    """
    dropped = {"repeated in the routed pair": 0, "auxiliary, in the routed pair": 0}
    dropped["auxiliary, repeated in its source"] = 0
    routed: dict[str, Row] = {}
    auxiliary: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: row.auxiliary):
        key = text_key(row.text)
        if not row.auxiliary:
            if key in routed:
                dropped["repeated in the routed pair"] += 1
            else:
                routed[key] = row
        elif key in routed:
            dropped["auxiliary, in the routed pair"] += 1
        elif (row.source, key) in auxiliary:
            dropped["auxiliary, repeated in its source"] += 1
        else:
            auxiliary[row.source, key] = row
    groups: dict[str, str] = {}
    for (_, key), row in auxiliary.items():
        row.group = groups.setdefault(key, row.group)
    kept_ids = {id(row) for row in (*routed.values(), *auxiliary.values())}
    return [row for row in rows if id(row) in kept_ids], dropped


def check(rows: list[Row]) -> None:
    """Raise DataError if the routed pair has no training rows, or rows of only one class."""
    train = [row for row in rows if row.split == "train" and not row.auxiliary and not row.weak]
    labels = Counter(is_ok(row.local_score) for row in train if row.local_score is not None)
    if not labels:
        raise DataError(
            "no training rows with real outcomes of the routed pair: files named other_pairs* "
            "contain only other pairs"
        )
    if len(labels) == 1:
        [ok] = labels
        example = train[0]
        raise DataError(
            f"all {len(train)} training rows ({example.source}, first {example.id}) have a "
            f"{'good' if ok else 'bad'} local answer: training needs both classes"
        )


def data_card(prepared: Prepared, *, dropped: dict[str, int]) -> dict[str, Any]:
    """The data card: counts, shares, licences, and the overlap of the splits."""
    by_source: dict[str, list[Row]] = {}
    for row in prepared.rows:
        by_source.setdefault(row.source, []).append(row)
    sources = {name: _described(rows) for name, rows in sorted(by_source.items())}
    warnings = [
        f"{name}: every local answer is {'good' if source['local_ok_share'] else 'bad'}"
        for name, source in sources.items()
        if source["rows"] >= MIN_ONE_CLASS_ROWS and source["local_ok_share"] in (0.0, 1.0)
    ]
    return {
        "what": "Outcomes of a local and a cloud model on the same prompts.",
        "not_covered": "Open chat. No prompt here has judged chat answers of both models, unless "
        "a source named proxy is listed.",
        "data_sha256": prepared.data_sha256,
        "rows": len(prepared.rows),
        "sources": sources,
        "dropped": dropped,
        "leakage": leakage(prepared),
        "warnings": warnings,
    }


def _described(rows: list[Row]) -> dict[str, Any]:
    scores = np.array(
        [(r.local_score, r.cloud_score) for r in rows if r.local_score is not None], dtype=float
    ).reshape(-1, 2)
    return {
        "rows": len(rows),
        "role": "auxiliary"
        if rows[0].auxiliary
        else "estimated"
        if rows[0].weak
        else "routed pair",
        "splits": dict(Counter(row.split for row in rows)),
        "groups": len({row.group for row in rows}),
        "local_ok_share": _share(np.array([is_ok(score) for score in scores[:, 0]])),
        "cloud_better_share": _share(scores[:, 1] > scores[:, 0]),
        "unread_share": _share(np.array([row.unread for row in rows])),
        "categories": dict(Counter(row.category for row in rows).most_common()),
        "licences": sorted({row.licence for row in rows if row.licence}),
    }


def leakage(prepared: Prepared) -> dict[str, Any]:
    """The overlap of train with the other splits: groups, prompts and near-duplicates."""
    train = [row for row in prepared.rows if row.split == "train"]
    groups = {row.group for row in train}
    texts = {text_key(row.text) for row in train}
    out: dict[str, Any] = {
        "method": "word triples, MinHash with banding, then the exact Jaccard overlap",
        "near_duplicate_jaccard": NEAR,
    }
    parts: tuple[dataset.Split, ...] = ("validation", "test", "ood")
    for split in parts:
        held_out = [row for row in prepared.of(split, auxiliary=False) if not row.weak]
        near = near_duplicates(held_out, train)
        out[split] = {
            "rows": len(held_out),
            "groups_in_train": len({row.group for row in held_out} & groups),
            "texts_in_train": sum(text_key(row.text) in texts for row in held_out),
            "near_duplicates_in_train": len(near),
            "near_duplicates_by_source": dict(
                Counter(f"{pair.row.source} ~ {pair.other.source}" for pair in near)
            ),
            "examples": [
                {"row": p.row.id, "train": p.other.id, "jaccard": round(p.jaccard, 3)}
                for p in sorted(near, key=lambda pair: -pair.jaccard)[:_EXAMPLES]
            ],
        }
    return out


def show(card: dict[str, Any], console: Console | None = None) -> None:
    """Print the card."""
    console = console or Console(width=None if Console().is_terminal else 130)
    table = Table(title=f"{card['rows']} rows, sha256 {card['data_sha256'][:12]}…")
    for name in ("source", "role"):
        table.add_column(name)
    for name in ("train", "validation", "test", "ood", "local ok", "cloud better"):
        table.add_column(name, justify="right")
    table.add_column("licence")
    for name, source in card["sources"].items():
        splits = [str(source["splits"].get(split, "")) for split in dataset.SPLITS]
        shares = [f"{source[key]:.2f}" for key in ("local_ok_share", "cloud_better_share")]
        table.add_row(name, source["role"], *splits, *shares, "; ".join(source["licences"])[:40])
    console.print(table)
    for split, overlap in card["leakage"].items():
        if isinstance(overlap, dict):
            console.print(
                f"{split} against train: {overlap['groups_in_train']} groups and "
                f"{overlap['texts_in_train']} prompts shared, "
                f"{overlap['near_duplicates_in_train']} of {overlap['rows']} prompts with a "
                f"near-duplicate (Jaccard ≥ {NEAR})"
            )
    for reason, number in card["dropped"].items():
        if number:
            console.print(f"dropped, {reason}: {number}")
    for warning in card["warnings"]:
        console.print(f"note: {warning}")


def _find_finished(target: Path, card: Path, *, digest: str) -> Prepared | None:
    if not (target.exists() and card.exists()):
        return None
    about = msgspec.json.decode(card.read_bytes())
    if about.get("data_sha256") != digest or about.get("prepare_version") != PREPARE_VERSION:
        return None
    prepared = dataset.load(target)
    return prepared if prepared.data_sha256 == digest else None


def _share(mask: Any) -> float:
    return round(float(mask.mean()), 4) if mask.size else 0.0
