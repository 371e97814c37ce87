"""The trained router: text -> Score, by ONNX Runtime on one core.

Loads a folder of model.onnx (int8; token ids -> two or three logits: local, cloud, and the length
of the cloud's answer), tokenizer.json and manifest.json. Prompts are not padded, because inference
time grows with layers and tokens (`make bench`). One session serves one dedicated thread. ONNX
Runtime releases the GIL during inference, and its threads do not spin, so an idle router uses no
CPU.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from router_model.domain import Domain
from router_model.features import clip, token_ids
from router_model.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    PREVIOUS_FILE,
    TOKENIZER_FILE,
    Manifest,
    RouterModelError,
)
from router_model.runtime import ort
from router_model.score import Score
from router_model.value import expected_output_tokens, text_tokens

__all__ = ["RouterModel", "RouterModelError", "Score"]


# On the CPU this fused kernel takes three times as long as the two kernels that it replaces (ONNX
# Runtime 1.32: 139 µs for 64 tokens, against 15 + 22 µs).
_SLOWER_FUSIONS = ["SkipLayerNormFusion"]


class RouterModel:
    """A loaded router model. Build it with `load`."""

    def __init__(
        self, manifest: Manifest, *, session: ort.InferenceSession, tokenizer: Tokenizer
    ) -> None:
        self.manifest = manifest
        self._session = session
        self._tokenizer = tokenizer
        self.domain = Domain(tokenizer.get_vocab())

    @classmethod
    def load(cls, folder: Path) -> "RouterModel":
        """Load and verify a model folder, with one trial inference.

        Raises RouterModelError when a file is missing, altered (sha256), or not usable.
        """
        manifest = Manifest.load(folder)
        # Load the verified bytes, not the file again.
        content = _content(manifest, folder)
        try:
            tokenizer = Tokenizer.from_str(content[TOKENIZER_FILE].decode())
            tokenizer.no_truncation()
            tokenizer.no_padding()
            session = ort.InferenceSession(
                content[MODEL_FILE],
                _session_options(),
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_SLOWER_FUSIONS,
            )
            # The session keeps the model bytes for a fallback provider; free them.
            session.disable_fallback()
            session._model_bytes = None  # noqa: SLF001
            model = cls(manifest, session=session, tokenizer=tokenizer)
            model.score("What is the capital of France?")
        except Exception as error:  # Both libraries raise plain Exceptions.
            raise RouterModelError(f"{folder}: the model cannot be run: {error}") from error
        return model

    def score(self, text: str) -> Score:
        """Score one routing text (see router_model.task). Blocking, CPU-bound."""
        ids = self.token_ids(text)
        logits = self._infer(ids)
        calibration = self.manifest.calibration
        p_local = calibration.local.probability(logits[0])
        p_cloud = calibration.cloud.probability(logits[1])
        unreadable = self.domain.reason_unreadable(clip(text), ids)
        score = Score(calibration.score(p_local, p_cloud), p_local, p_cloud, unreadable)
        gain = self.manifest.gain
        if gain is None:
            return score
        [length] = expected_output_tokens(gain, [logits], text_tokens(text))
        return score._replace(output_tokens=float(length))

    def logits(self, text: str) -> tuple[float, ...]:
        """The raw logits for one routing text: local, cloud, and the length's if there is one."""
        return self._infer(self.token_ids(text))

    def token_ids(self, text: str) -> npt.NDArray[np.int64]:
        """The IDs that the model reads of a text."""
        ids = token_ids(self._tokenizer, text, max_length=self.manifest.max_length)
        return np.array(ids, dtype=np.int64)

    def _infer(self, ids: npt.NDArray[np.int64]) -> tuple[float, ...]:
        output: Any = self._session.run(["logits"], {"input_ids": ids[np.newaxis]})
        logits = tuple(output[0][0].tolist())
        if len(logits) not in (2, 3):
            raise ValueError(f"{len(logits)} logits instead of 2 or 3")
        return logits


def copy_model(manifest: Manifest, source: Path, target: Path) -> None:
    """Write into `target` the files of the model folder `source` with another manifest.

    The manifest is written last: a concurrent reader gets the old model or an error. Raises
    RouterModelError when a file is missing or altered.
    """
    _write(manifest, _content(manifest, source), target)


def replace_calibration(manifest: Manifest, folder: Path) -> Path:
    """Replace the manifest of the model in `folder`. Returns the path of the old manifest.

    A proxy that watches the folder loads the change as a whole. Raises RouterModelError when the
    files are not those of the manifest.
    """
    content = _content(manifest, folder)
    previous = folder / PREVIOUS_FILE
    previous.write_bytes((folder / MANIFEST_FILE).read_bytes())
    _write(manifest, content, folder)
    return previous


def replace_model(candidate: Path, folder: Path) -> Path:
    """Replace the model in `folder` by the candidate. Returns the folder of the replaced model.

    The replaced model is kept in `folder` + `.previous`, which is overwritten. To go back, replace
    the model by that one. A running proxy keeps its loaded model until the manifest, written last,
    matches the files. Raises RouterModelError when either model is incomplete; then nothing
    changes.
    """
    manifest, replaced = Manifest.load(candidate), Manifest.load(folder)
    content, old_content = _content(manifest, candidate), _content(replaced, folder)
    previous = folder.with_name(f"{folder.name}.previous")
    if previous.exists() and not (previous / MANIFEST_FILE).exists():
        raise RouterModelError(f"{previous} is not a router model; remove or rename it")
    _write(replaced, old_content, previous)
    # A manifest saved by replace_calibration belongs to the old files.
    (folder / PREVIOUS_FILE).unlink(missing_ok=True)
    _write(manifest, content, folder)
    return previous


def _content(manifest: Manifest, folder: Path) -> dict[str, bytes]:
    return {name: _verified(folder / name, sha256) for name, sha256 in manifest.files.items()}


def _write(manifest: Manifest, content: dict[str, bytes], folder: Path) -> None:
    """Write all files under temporary names, then rename them, the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    partials = {}
    for name, data in content.items():
        if not _holds(folder / name, data):
            partials[name] = folder / f"{name}.partial"
            partials[name].write_bytes(data)
    for name, partial in partials.items():
        partial.replace(folder / name)
    manifest.save(folder)


def _holds(path: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == len(data) and path.read_bytes() == data
    return False


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _verified(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RouterModelError(f"{path}: {error.strerror or error}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise RouterModelError(
            f"{path}: sha256 is {actual[:12]}…, the manifest has {expected[:12]}…: "
            "the file was altered or copied incompletely"
        )
    return content
