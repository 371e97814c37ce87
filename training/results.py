"""The JSON files of data/results: their common header, and whether a file is current."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from router_model.model import RouterModel
from training.dataset import Prepared, Split
from training.progress import say

CAVEAT = "Benchmark questions with right/wrong outcomes. Says nothing about open chat."


def heading(
    prepared: Prepared, model: RouterModel, *, split: Split, command: str, rounds: int
) -> dict[str, Any]:
    """The common header of all results: data, model and command."""
    return {
        "what": CAVEAT,
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "split": split,
        "data_sha256": prepared.data_sha256,
        "model_version": model.manifest.version,
        "model_sha256": model_sha256(model),
        "threshold": model.manifest.threshold,
        "bootstrap_rounds": rounds,
    }


def model_sha256(model: RouterModel) -> str:
    """The SHA-256 of the manifest, which has the hashes of weights and tokenizer.

    The drift reference is excluded, because it does not affect scores.
    """
    manifest = msgspec.structs.replace(model.manifest, reference=None)
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()


def is_current(path: Path, prepared: Prepared, model: RouterModel, *, split: Split) -> bool:
    """Whether the file has the result of this data, model and split."""
    if not path.exists():
        return False
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    expected = (prepared.data_sha256, model_sha256(model), split)
    return expected == tuple(content.get(name) for name in ("data_sha256", "model_sha256", "split"))


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a result atomically, with indentation for readable diffs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    partial.replace(path)
    say(f"wrote {path}")
