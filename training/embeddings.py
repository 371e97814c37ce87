"""Sentence embeddings of prompts from the frozen MiniLM encoder, for the baselines.

Embeddings are cached in a file, because a few thousand take minutes on a CPU.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_model.features import token_ids
from router_model.split import text_key
from training.frozen import states_of
from training.network import build

MAX_LENGTH = 256

Vectors = NDArray[np.float32]


def embed(texts: list[str], *, cache: Path, base: str = "minilm") -> Vectors:
    """Unit vectors [texts, width]: the normalised mean of a text's token states.

    New vectors are added to `cache`. Raises FileNotFoundError if the base weights are missing.
    """
    keys = [text_key(text) for text in texts]
    cached: dict[str, Vectors] = {}
    if cache.exists():
        with np.load(cache) as stored:
            cached = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in cached}
    if missing:
        cached |= _compute(missing, base)
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(".partial.npz")
        np.savez(partial, keys=np.array(list(cached)), vectors=np.stack(list(cached.values())))
        partial.replace(cache)
    return np.stack([cached[key] for key in keys])


def _compute(texts: dict[str, str], base: str) -> dict[str, Vectors]:
    network, tokenizer = build(base, ["local", "cloud"])
    ids = [token_ids(tokenizer, text, max_length=MAX_LENGTH) for text in texts.values()]
    depth = len(network.distilbert.transformer.layer)
    states = states_of(network, ids, depth=depth, title="embedding prompts")
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    return dict(zip(texts, unit.astype(np.float32), strict=True))
