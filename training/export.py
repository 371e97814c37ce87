"""Export of the best checkpoint to data/models/router: `hybrid-llm-train export`.

- Graph: the three served heads, the frozen part and the lexical part become one ONNX graph, from
  token ids to three logits. It takes a single unpadded prompt, so it has no mask.
- Quantisation: dynamic int8, with 7-bit weights per channel. Full 8-bit products overflow the
  16-bit sums of processors without VNNI.
- Calibration: fitted on the validation logits of the quantised model, which is the served one.

The export fails if quantisation costs more than MAX_AUROC_LOSS.
"""

import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import export as export_graph
from optimum.exporters.onnx.model_configs import DistilBertOnnxConfig
from tokenizers import Tokenizer

from router_model import calibrate
from router_model.calibrate import Outcomes
from router_model.categories import category_of
from router_model.drift import reference_of
from router_model.features import token_ids
from router_model.manifest import (
    MODEL_FILE,
    TOKENIZER_FILE,
    Manifest,
    Reference,
    ThresholdTable,
)
from router_model.metrics import Floats, apgr, auroc, curve, ece, pgr_at_cost
from router_model.model import RouterModel
from router_model.value import text_tokens
from training import frozen, lexical
from training.dataset import DataError, Prepared, Row
from training.network import RouterNetwork, ServedNetwork
from training.outcomes import COST_SHARE, outcomes_of, tokens_of
from training.progress import say, track
from training.train import (
    SERVED_HEADS,
    Item,
    best_checkpoint,
    encode_rows,
    load_checkpoint,
    predict,
)

MAX_AUROC_LOSS = 0.01
# The weight of the lexical part, as a share of the best one on validation. It ranks prompts of
# other sources worst, and no validation prompt shows that (training/LOG.md).
LEXICAL_SHARE = 0.2
# The spread of the frozen part, as a share of the spread of the network's local logit.
FROZEN_SHARE = 0.5
OPSET = 17

Logits = Floats


class ExportError(Exception):
    """The exported model is not good enough to serve."""


class _ServedOnnxConfig(DistilBertOnnxConfig):  # type: ignore[misc]
    """Inputs and outputs of the graph. The rest is optimum's configuration of DistilBERT."""

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"input_ids": {0: "batch", 1: "tokens"}}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"logits": {0: "batch"}}


def to_onnx(served: ServedNetwork, path: Path) -> None:
    """Write the network as an fp32 ONNX graph."""
    onnx_config = _ServedOnnxConfig(served.config, task="text-classification")
    with warnings.catch_warnings():
        # The tracing exporter that optimum uses is deprecated.
        warnings.simplefilter("ignore")
        export_graph(served.eval(), onnx_config, path, opset=OPSET)


def quantise(source: Path, target: Path) -> None:
    """Quantise the weights of an fp32 graph, and the activations multiplied by them, to int8."""
    quantize_dynamic(
        source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
    )


def onnx_logits(path: Path, items: list[Item], *, title: str) -> Logits:
    """Logits [n, 3] of a graph, one prompt at a time as in serving."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows = [
        session.run(["logits"], {"input_ids": np.array([item.ids], dtype=np.int64)})[0][0]
        for item in track(items, title, total=len(items))
    ]
    return np.array(rows, dtype=np.float64)


def export(
    prepared: Prepared,
    run: Path,
    *,
    target: Path,
    version: str,
    created_at: str,
    local_model: str,
    cloud_model: str,
) -> Manifest:
    """Export the best epoch of `run` into the folder `target`.

    Raises:
        ExportError: quantisation costs too much.
        FileNotFoundError: there is no checkpoint.
    """
    checkpoint = best_checkpoint(run)
    network, tokenizer, config = load_checkpoint(checkpoint)
    rows = validation_rows(prepared)
    items = encode_rows(rows, network.config.heads, tokenizer=tokenizer, config=config)
    out = outcomes_of(rows)
    deep = predict(network, items)[:, : len(SERVED_HEADS)].astype(np.float64)
    ids = [item.ids for item in items]
    fitted = FitRows.of(prepared, tokenizer=tokenizer, max_length=config.max_length)
    depth = min(config.frozen_layers, len(network.distilbert.transformer.layer))
    weights, frozen_report = frozen_weights(fitted, network, deep, out, ids=ids, depth=depth)
    deep = deep + frozen.states_of(network, ids, depth=depth) @ weights
    table, lexical_report = lexical_table(
        fitted, deep, out, ids=ids, vocabulary=tokenizer.get_vocab_size()
    )
    served = ServedNetwork(network, torch.from_numpy(table), torch.from_numpy(weights), depth=depth)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        full, small = Path(scratch, "full.onnx"), Path(scratch, MODEL_FILE)
        to_onnx(served, full)
        quantise(full, small)
        logits = onnx_logits(small, items, title="int8 on validation")
        reference = deep + lexical.bags(ids, len(table)) @ table
        parity = compare(reference, logits, out=out)
        say(f"int8 against fp32: {parity}")
        if parity["auroc_loss"] > MAX_AUROC_LOSS:
            raise ExportError(
                f"int8 loses {parity['auroc_loss']:.4f} AUROC on validation, over {MAX_AUROC_LOSS}"
            )
        content = {
            MODEL_FILE: small.read_bytes(),
            TOKENIZER_FILE: tokenizer.to_str().encode(),
        }
    calibration = calibrate.fit(logits, out)
    score, p_local, _ = calibrate.scores(logits, calibration)
    given, written = tokens_of(rows)
    texts = np.array([text_tokens(row.text) for row in rows])
    gain = calibrate.fit_gain(logits, out, calibration, given, written, text_tokens=texts)
    merit = calibrate.merits(logits, calibration, gain, given, text_tokens=texts)
    by_merit, by_score = (_thresholds(values, out) for values in (merit, score))
    for name, data in content.items():
        (target / name).write_bytes(data)
    manifest = Manifest(
        version=version,
        created_at=created_at,
        base=config.base,
        max_length=config.max_length,
        local_model=local_model,
        cloud_model=cloud_model,
        calibration=calibration,
        threshold=by_merit.threshold,
        threshold_why=by_merit.threshold_why,
        thresholds=by_merit.thresholds,
        gain=gain,
        by_score=by_score,
        data_sha256=prepared.data_sha256,
        files={name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        metrics={
            "validation": {
                "rows": len(rows),
                "auroc_local": _rounded(auroc(out.local_ok, p_local)),
                "apgr": _rounded(apgr(curve(score, out.local, out.cloud, out.cost))),
                "pgr_at_40_usd": _rounded(
                    pgr_at_cost(curve(merit, out.local, out.cloud, out.cost), COST_SHARE)
                ),
                "apgr_within_source": _rounded(calibrate.within_source_apgr(score, out)),
                "ece_local": _rounded(ece(out.local_ok, p_local)),
                "ece_score": _rounded(ece(out.local_suffices, score)),
            },
            "frozen": frozen_report,
            "lexical": lexical_report,
            "int8": parity,
            "checkpoint": checkpoint.name,
            "recipe": msgspec.to_builtins(config),
        },
        reference=reference_of(score.tolist(), categories_of(rows)),
    )
    manifest.save(target)
    RouterModel.load(target)
    return manifest


def _thresholds(rank: Floats, out: Outcomes) -> ThresholdTable:
    points = calibrate.threshold_table(rank, out)
    threshold, why = calibrate.recommend(points, rows="the validation prompts")
    return ThresholdTable(threshold=threshold, threshold_why=why, thresholds=points)


class FitRows(NamedTuple):
    """The rows that the lexical and the frozen part are fitted to: token ids and outcomes."""

    ids: list[list[int]]
    out: Outcomes

    @classmethod
    def of(cls, prepared: Prepared, *, tokenizer: Tokenizer, max_length: int) -> "FitRows":
        rows = [row for row in prepared.of("train", auxiliary=False) if not row.weak]
        ids = [token_ids(tokenizer, row.text, max_length=max_length) for row in rows]
        return cls(ids, outcomes_of(rows))


def frozen_weights(
    fitted: FitRows,
    network: RouterNetwork,
    deep: Logits,
    out: Outcomes,
    *,
    ids: list[list[int]],
    depth: int,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The weights [dim, 3] of the frozen part, scaled next to the deep logits. Only local has one.

    They are 0 if no layer is frozen.
    """
    weights = np.zeros((network.config.dim, len(SERVED_HEADS)), dtype=np.float32)
    if depth == 0:
        return weights, {"depth": 0}
    states = frozen.states_of(network, fitted.ids, depth=depth)
    local = frozen.fit(states, fitted.out.local_ok)
    logit = frozen.states_of(network, ids, depth=depth) @ local
    if (spread := logit.std()) > 0:
        weights[:, 0] = local * FROZEN_SHARE * deep[:, 0].std() / spread
    report = {
        "depth": depth,
        "inverse_penalty": frozen.INVERSE_PENALTY,
        "auroc_local_frozen": _rounded(auroc(out.local_ok, logit)),
    }
    say(f"frozen part: {report}")
    return weights, report


def lexical_table(
    fitted: FitRows, deep: Logits, out: Outcomes, *, ids: list[list[int]], vocabulary: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The table [vocabulary, 3] of the lexical part, scaled by its weight next to the deep logits.

    It has no part in the length.
    """
    table, strength = lexical.fit(fitted.ids, fitted.out, vocabulary=vocabulary)
    wide = lexical.bags(ids, len(table)) @ table
    weights = LEXICAL_SHARE * lexical.blend(deep, wide, out)
    scaled = np.pad((table * weights).astype(np.float32), ((0, 0), (0, 1)))
    parts = {
        "deep": deep[:, 0],
        "wide": wide[:, 0],
        "both": deep[:, 0] + weights[0] * wide[:, 0],
    }
    report: dict[str, Any] = {"strength": strength, "weights": [_rounded(w) for w in weights]}
    for name, logit in parts.items():
        report[f"auroc_local_{name}"] = _rounded(auroc(out.local_ok, logit))
    say(f"lexical part: {report}")
    return scaled, report


def validation_rows(prepared: Prepared) -> list[Row]:
    """The calibration rows: real outcomes of the routed pair, without estimates."""
    return [row for row in prepared.of("validation", auxiliary=False) if not row.weak]


def add_reference(prepared: Prepared, model: RouterModel, *, folder: Path) -> Reference:
    """Add the reference of the validation prompts to the manifest of an exported model.

    Raises DataError if the model was not fitted to these rows.
    """
    if prepared.data_sha256 != model.manifest.data_sha256:
        raise DataError(f"{folder} was not made from these prepared rows")
    rows = validation_rows(prepared)
    scores = [model.score(row.text).score for row in track(rows, "scores", total=len(rows))]
    reference = reference_of(scores, categories_of(rows))
    msgspec.structs.replace(model.manifest, reference=reference).save(folder)
    return reference


def categories_of(rows: list[Row]) -> list[str]:
    """The category of each prompt, by the rules for live prompts."""
    return [category_of([("user", row.text)]) for row in rows]


def compare(reference: Logits, logits: Logits, *, out: Outcomes) -> dict[str, Any]:
    """Largest and mean change of a probability, and the AUROC loss of the local head.

    For each source with both labels: the loss in AUROC and in APGR.
    """
    change = np.abs(1 / (1 + np.exp(-reference)) - 1 / (1 + np.exp(-logits)))
    loss = auroc(out.local_ok, reference[:, 0]) - auroc(out.local_ok, logits[:, 0])
    # One calibration for both, so that only the logits differ.
    calibration = calibrate.fit(reference, out)
    before, after = (calibrate.scores(z, calibration)[0] for z in (reference, logits))
    sources = {}
    for name in np.unique(out.source):
        part = out.take(chosen := out.source == name)
        lost = auroc(part.local_ok, reference[chosen, 0]) - auroc(part.local_ok, logits[chosen, 0])
        areas = [apgr(curve(s[chosen], part.local, part.cloud, part.cost)) for s in (before, after)]
        if np.isfinite(lost):
            sources[str(name)] = {
                "auroc_loss": _rounded(lost),
                "apgr_loss": _rounded(areas[0] - areas[1]) if np.isfinite(areas).all() else None,
            }
    return {
        "max_change": _rounded(change.max()),
        "mean_change": _rounded(change.mean()),
        "auroc_loss": _rounded(loss if np.isfinite(loss) else 0.0),
        "sources": sources,
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)
