"""The trained router: text -> Score, by ONNX Runtime on one core.

Loads a folder of model.onnx (int8; token ids -> two logits), tokenizer.json and manifest.json.
A short prompt takes 1-2 ms, the longest allowed about 5. Nothing is padded, since inference cost
grows with the tokens. One session serves one dedicated thread; ONNX Runtime releases the GIL while
it works, and its workers do not spin, so an idle router costs nothing.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from router_model.features import token_ids
from router_model.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    PREVIOUS_FILE,
    TOKENIZER_FILE,
    Manifest,
    RouterModelError,
)
from router_model.score import Score

__all__ = ["RouterModel", "RouterModelError", "Score"]


# On the CPU this fused kernel takes three times what the two take that it stands for (ONNX Runtime
# 1.32: 139 µs for 64 tokens, against 15 + 22 µs).
_SLOWER_FUSIONS = ["SkipLayerNormFusion"]


class RouterModel:
    """A loaded router model. Build it with `load`."""

    def __init__(
        self, manifest: Manifest, *, session: ort.InferenceSession, tokenizer: Tokenizer
    ) -> None:
        self.manifest = manifest
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> "RouterModel":
        """Load and verify a model folder; one trial inference included.

        Raises RouterModelError when a file is missing, altered (sha256), or not usable.
        """
        manifest = Manifest.load(folder)
        # The bytes that were verified are the bytes that are loaded.
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
            # It keeps the file's bytes, in case they are to be loaded for another provider.
            session.disable_fallback()
            session._model_bytes = None  # noqa: SLF001
            model = cls(manifest, session=session, tokenizer=tokenizer)
            model.score("What is the capital of France?")
        except Exception as error:  # Both libraries raise a plain Exception of many kinds.
            raise RouterModelError(f"{folder}: the model cannot be run: {error}") from error
        return model

    def score(self, text: str) -> Score:
        """Score one routing text (see router_model.features). Blocking, CPU-bound."""
        logit_local, logit_cloud = self.logits(text)
        calibration = self.manifest.calibration
        p_local = calibration.local.probability(logit_local)
        p_cloud = calibration.cloud.probability(logit_cloud)
        return Score(calibration.score(p_local, p_cloud), p_local, p_cloud)

    def logits(self, text: str) -> tuple[float, float]:
        """The local and the cloud head's raw logit for one routing text."""
        ids = token_ids(self._tokenizer, text, max_length=self.manifest.max_length)
        output: Any = self._session.run(["logits"], {"input_ids": np.array([ids], dtype=np.int64)})
        local, cloud = output[0][0].tolist()
        return local, cloud


def copy_model(manifest: Manifest, source: Path, target: Path) -> None:
    """Write into `target` the files of the model folder `source` with another manifest.

    The manifest goes last, so a folder that is read meanwhile is the old one or refused. Raises
    RouterModelError when a file is missing or altered.
    """
    _write(manifest, _content(manifest, source), target)


def replace_calibration(manifest: Manifest, folder: Path) -> Path:
    """Give the model in `folder` another manifest for the same files; returns where the old one is.

    A proxy that watches the folder takes it up whole. Raises RouterModelError when the files are
    not those of the manifest.
    """
    content = _content(manifest, folder)
    previous = folder / PREVIOUS_FILE
    previous.write_bytes((folder / MANIFEST_FILE).read_bytes())
    _write(manifest, content, folder)
    return previous


def replace_model(candidate: Path, folder: Path) -> Path:
    """Put the model of one folder in the place of another's; returns where that one is kept.

    It is kept beside the folder, `.previous` behind its name, over what was kept there before. To
    go back, put that one in place. A proxy that runs goes on with what it has loaded until the
    manifest, which is written last, names the files that are there. Raises RouterModelError when
    either model is not whole; then nothing is changed.
    """
    manifest, replaced = Manifest.load(candidate), Manifest.load(folder)
    content, kept = _content(manifest, candidate), _content(replaced, folder)
    previous = folder.with_name(f"{folder.name}.previous")
    if previous.exists() and not (previous / MANIFEST_FILE).exists():
        raise RouterModelError(f"{previous} holds something else than a router model")
    _write(replaced, kept, previous)
    # A manifest that was kept by replace_calibration is of the old files.
    (folder / PREVIOUS_FILE).unlink(missing_ok=True)
    _write(manifest, content, folder)
    return previous


def _content(manifest: Manifest, folder: Path) -> dict[str, bytes]:
    return {name: _verified(folder / name, wanted) for name, wanted in manifest.files.items()}


def _write(manifest: Manifest, content: dict[str, bytes], folder: Path) -> None:
    """All files beside their names first: between the first that counts and the last is no time."""
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


def _verified(path: Path, wanted: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RouterModelError(f"{path}: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise RouterModelError(
            f"{path}: sha256 is {found[:12]}…, the manifest says {wanted[:12]}…: "
            "the file was altered or not fully copied"
        )
    return content
