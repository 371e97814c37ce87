"""Near-duplicate detection between splits.

It detects shared wording only. Paraphrases, translations and questions with the same idea are not
detected, so a split may still leak those.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.dataset import Row

# Two prompts are near-duplicates if their sets of word triples have at least this Jaccard index.
NEAR = 0.8
_SHINGLE_WORDS = 3
# 12 bands of 5 minima find a pair of Jaccard 0.8 with probability 0.99 (1 - (1 - 0.8^5)^12).
_BANDS, _BAND_ROWS = 12, 5
_WORD = re.compile(r"\w+|[^\w\s]")

Hashes = NDArray[np.uint64]


class NearPair(NamedTuple):
    """Two near-duplicate rows and the Jaccard index of their word triples."""

    row: Row
    other: Row
    jaccard: float


def shingles(text: str, *, ids: dict[str, int]) -> Hashes:
    """Sorted unique hashes of the word triples of a text. `ids` numbers the words so far."""
    words = _WORD.findall(text.casefold())
    codes = np.array([ids.setdefault(w, len(ids) + 1) for w in words], dtype=np.uint64)
    if codes.size < _SHINGLE_WORDS:
        return codes[:1] if codes.size else np.zeros(1, dtype=np.uint64)
    mixed = np.zeros(codes.size - _SHINGLE_WORDS + 1, dtype=np.uint64)
    for offset in range(_SHINGLE_WORDS):
        part = codes[offset : codes.size - _SHINGLE_WORDS + 1 + offset]
        # Overflow is intended: arithmetic modulo 2^64 by an odd constant (Knuth's, 64 bits).
        mixed = mixed * np.uint64(6364136223846793005) + part
    return np.unique(mixed)


def near_duplicates(rows: Sequence[Row], others: Iterable[Row]) -> list[NearPair]:
    """The nearest of `others` for each of `rows`, if its Jaccard index is at least NEAR.

    MinHash with banding (Broder 1997) selects candidates; the exact Jaccard index decides.
    """
    rng = np.random.default_rng(0)
    shape = (1, _BANDS * _BAND_ROWS)
    scale = rng.integers(0, 2**63, shape, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shift = rng.integers(0, 2**63, shape, dtype=np.uint64)
    ids: dict[str, int] = {}

    def bands(hashes: Hashes) -> list[bytes]:
        minima = ((hashes[:, None] * scale + shift) >> np.uint64(11)).min(axis=0)
        return [b"%d " % i + band.tobytes() for i, band in enumerate(np.split(minima, _BANDS))]

    index: dict[bytes, list[tuple[Row, Hashes]]] = {}
    for other in others:
        hashes = shingles(other.text, ids=ids)
        for band in bands(hashes):
            index.setdefault(band, []).append((other, hashes))
    pairs = []
    for row in rows:
        row_hashes = shingles(row.text, ids=ids)
        near = {o.id: (o, h) for band in bands(row_hashes) for o, h in index.get(band, ())}
        overlap, best = max(
            ((_jaccard(row_hashes, hashes), key) for key, (_, hashes) in near.items()),
            default=(0.0, ""),
        )
        if overlap >= NEAR:
            pairs.append(NearPair(row, near[best][0], overlap))
    return pairs


def _jaccard(a: Hashes, b: Hashes) -> float:
    shared = np.intersect1d(a, b, assume_unique=True).size
    return shared / (a.size + b.size - shared)
