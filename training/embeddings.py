"""Sentence embeddings of prompts from the frozen MiniLM encoder, for the baselines.

Embeddings are cached in a file, because a few thousand take minutes on a CPU.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from router_model.features import token_ids
from router_model.split import text_key
from training.network import build
from training.progress import track

MAX_LENGTH = 256
_BATCH = 32

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
    encoder = network.distilbert.eval()
    ids = {key: token_ids(tokenizer, text, max_length=MAX_LENGTH) for key, text in texts.items()}
    # Prompts of equal length form a batch without a mask; the remainder forms smaller batches.
    order = sorted(ids, key=lambda key: len(ids[key]))
    batches: list[list[str]] = []
    for key in order:
        last = batches[-1] if batches else []
        if last and len(last) < _BATCH and len(ids[last[0]]) == len(ids[key]):
            last.append(key)
        else:
            batches.append([key])
    out: dict[str, Vectors] = {}
    with torch.inference_mode():
        for batch in track(batches, "embedding prompts", total=len(batches)):
            states = encoder(input_ids=torch.tensor([ids[key] for key in batch]))[0].mean(dim=1)
            unit = torch.nn.functional.normalize(states, dim=1).numpy()
            out.update(zip(batch, unit, strict=True))
    return out
