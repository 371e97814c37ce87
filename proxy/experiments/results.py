"""Results of the steps: their JSON files, and a key figure of each.

A file may come from another version or from a user. An unreadable file counts as missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from proxy.experiments.steps import Step
from router_model.manifest import MANIFEST_FILE

LABELLED: Final = ".labelled.jsonl"
_MAX_FILE_BYTES: Final = 64 * 2**20
_WRITTEN: Final = ("report.html", "cost-quality.png", "reliability.png")


class ResultFolders(NamedTuple):
    """The folders that results are read from. `serving` and `candidate` hold router models."""

    results: Path
    data: Path | None
    serving: Path
    candidate: Path

    def result(self, name: str) -> Path:
        return self.results / f"{name}.json"


def read_results(step: Step, folders: ResultFolders) -> dict[str, Any]:
    """The results of a step by file name; None for a missing file."""
    results: dict[str, Any] = {name: _read(folders.result(name)) for name in step.results}
    match step.name:
        case "label":
            results["labels"] = list(_labels(folders.data)) if folders.data is not None else []
        case "train":
            results["models"] = {
                name: _manifest(folder)
                for name, folder in (
                    ("serving", folders.serving), ("candidate", folders.candidate)
                )
            }  # fmt: skip
        case "report":
            files = [path for name in _WRITTEN if (path := folders.results / name).is_file()]
            results["files"] = [
                {"name": path.name, "bytes": path.stat().st_size, "at": path.stat().st_mtime}
                for path in files
            ]
    return results


def key_figure(step: Step, results: Mapping[str, Any]) -> str | None:
    """The key figure of a step; None without results."""
    try:
        return _key_figure(step.name, results)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file. Invalid lines are skipped; the commands report them."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            return
        with path.open("rb") as file:
            for line in file:
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError:
                    continue
    except OSError:
        return


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None


def _labels(folder: Path) -> Iterator[dict[str, Any]]:
    """The totals of each file of labels."""
    for path in sorted(folder.glob(f"*{LABELLED}")):
        rows = list(read_records(path))
        preferences = [row.get("preference") for row in rows]

        def total(*names: str, rows: list[dict[str, Any]] = rows) -> float:
            values = [row.get(name) for row in rows for name in names]
            return sum(value for value in values if isinstance(value, int | float))

        yield {
            "name": path.name,
            "at": path.stat().st_mtime,
            "rows": len(rows),
            "preferences": {side: preferences.count(side) for side in ("local", "cloud", "tie")},
            "local_score": total("local_score") / len(rows) if rows else None,
            "cloud_score": total("cloud_score") / len(rows) if rows else None,
            "usd": total("local_usd", "cloud_usd", "judge_usd"),
        }


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The fields of a router model's manifest that the page shows."""
    wanted = ("version", "created_at", "base", "local_model", "cloud_model", "threshold", "metrics")
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None
    return {name: manifest.get(name) for name in wanted}


def _key_figure(step: str, results: Mapping[str, Any]) -> str | None:
    match step:
        case "benchmark":
            quality = results["baseline"]["overall"]["quality"]
            scores = ", ".join(f"{role} {value[0]:.2f}" for role, value in quality.items())
            return f"{scores} of 10"
        case "validate-judge":
            judge = results["judge"]
            return f"rank correlation {_span(judge['spearman'])} over {judge['n']} answers"
        case "label":
            rows = sum(file["rows"] for file in results["labels"])
            return f"{rows} prompts are labelled" if rows else None
        case "train":
            for name in ("candidate", "serving"):
                if (model := results["models"][name]) is not None:
                    return f"{name}: {model['version']}"
        case "ablation":
            rows = results["ablation"]["parts"]["in distribution"]["baselines"]
            return (
                f"AUROC {rows['features + LR']['auroc_local'][0]:.3f} by features alone, "
                f"{rows['router']['auroc_local'][0]:.3f} with the network"
            )
        case "baselines":
            rows = dict(results["baselines"]["parts"]["in distribution"]["baselines"])
            router = rows.pop("router")
            areas = {
                key: row["auroc_local"][0] for key, row in rows.items() if "auroc_local" in row
            }
            best = max(areas, key=lambda key: areas[key])
            return f"AUROC {router['auroc_local'][0]:.3f}; best simpler baseline {areas[best]:.3f}"
        case "evaluate":
            at = results["evaluation"]["in_distribution"]["at_threshold"]
            return f"{at['pgr']:.0%} of the quality gap for {at['cost_share']:.0%} of the cost"
        case "errors":
            rates = results["errors"]["sources"]["all"]
            return (
                f"{rates['false local'][0]:.1%} wrongly local, "
                f"{rates['false cloud'][0]:.1%} wrongly cloud"
            )
        case "report":
            return ", ".join(file["name"] for file in results["files"]) or None
    return None


def _span(value: Sequence[float | None]) -> str:
    """A figure with its interval. An undefined value (all scores equal) is a dash."""
    figure, low, high = ("–" if part is None else f"{part:.2f}" for part in value)
    return f"{figure} [{low}, {high}]"
