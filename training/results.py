"""The JSON files of data/results: what each of them says of itself, and when one is out of date."""

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
    """What every result starts with: on which data and model it rests, and how it was made."""
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
    """One hash for weights, tokenizer, calibration and threshold: the manifest names them all.

    What traffic is compared with changes no score, so it is left out.
    """
    manifest = msgspec.structs.replace(model.manifest, reference=None)
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()


def is_current(path: Path, prepared: Prepared, model: RouterModel, *, split: Split) -> bool:
    """Whether the file holds what this data, model and split gave."""
    if not path.exists():
        return False
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    wanted = (prepared.data_sha256, model_sha256(model), split)
    return wanted == tuple(found.get(name) for name in ("data_sha256", "model_sha256", "split"))


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a result, readable in a diff; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    partial.replace(path)
    say(f"wrote {path}")
