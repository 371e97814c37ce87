"""What the server of a tier has refused: fields, features and lengths, by model, for a while.

A refusal costs a request and its wait. So the next request is changed, or decided, before it is
sent. All is forgotten after some time, because the server may be updated. This module does not know
which errors are such a refusal.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from proxy.protocol.refusals import RefusedField

FIELDS_SECONDS: Final = 3600.0  # a wrong entry leaves a field out
FEATURES_SECONDS: Final = 600.0  # a wrong entry costs dollars
MAX_ENTRIES: Final = 256  # clients choose names: the oldest entry makes room

K = TypeVar("K")
T = TypeVar("T")


class _Memory(Generic[K, T]):
    """Entries by key. Each is forgotten after some time, or when MAX_ENTRIES newer ones came."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[K, dict[T, float]] = {}
        self._by_age: dict[tuple[K, T], None] = {}  # the oldest first

    def add(self, key: K, entry: T) -> None:
        self.discard(key, entry)
        if len(self._by_age) >= MAX_ENTRIES:
            self.discard(*next(iter(self._by_age)))
        self._by_age[key, entry] = None
        self._until.setdefault(key, {})[entry] = self._clock() + self._seconds

    def clear(self) -> None:
        self._until.clear()
        self._by_age.clear()

    def discard(self, key: K, entry: T) -> None:
        entries = self._until.get(key)
        if entries is None or entry not in entries:
            return
        del entries[entry], self._by_age[key, entry]
        if not entries:
            del self._until[key]

    def has(self, key: K, entry: T) -> bool:
        entries = self._until.get(key)
        return entries is not None and entries.get(entry, 0.0) > self._clock()

    def entries(self, key: K) -> list[T]:
        entries = self._until.get(key)
        if entries is None:
            return []
        now = self._clock()
        return [entry for entry, until in entries.items() if until > now]


class Learned:
    """What the server of one tier has refused. A `path` is that of an endpoint.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fields: _Memory[tuple[str, str], RefusedField] = _Memory(FIELDS_SECONDS, clock)
        self._usage: _Memory[str, str] = _Memory(FIELDS_SECONDS, clock)
        self._features: _Memory[str, str] = _Memory(FEATURES_SECONDS, clock)
        self._supported: _Memory[str, str] = _Memory(FIELDS_SECONDS, clock)
        self._statuses: _Memory[str, int] = _Memory(FEATURES_SECONDS, clock)
        self._lengths: _Memory[str, int] = _Memory(FEATURES_SECONDS, clock)

    def note_field(self, model: str, path: str, field: RefusedField) -> None:
        """Learn that a model does not accept a field."""
        self._fields.add((model, path), field)

    def fields(self, model: str, path: str) -> list[RefusedField]:
        """The fields that a model does not accept."""
        return self._fields.entries((model, path))

    def note_usage(self, model: str, path: str) -> None:
        """Learn that a model accepts the request for a stream's usage."""
        self._usage.add(model, path)

    def accepts_usage(self, model: str, path: str) -> bool:
        """Whether a model is known to accept the request for a stream's usage."""
        return self._usage.has(model, path)

    def note_feature(self, model: str, feature: str) -> bool:
        """Learn that a model has refused a feature of requests.

        If it has answered a request with this feature, it refuses another thing, or the values.
        Returns whether the feature counts as refused from now on.
        """
        if self._supported.has(model, feature):
            return False
        self._features.add(model, feature)
        return True

    def note_status(self, model: str, status: int) -> bool:
        """Note a refusal. Returns whether it is the first with this status for a while."""
        if self._statuses.has(model, status):
            return False
        self._statuses.add(model, status)
        return True

    def forget(self) -> None:
        """Forget everything: another server may answer now."""
        for memory in (
            self._fields,
            self._usage,
            self._features,
            self._supported,
            self._statuses,
            self._lengths,
        ):
            memory.clear()

    def note_supported(self, model: str, features: Iterable[str]) -> None:
        """Learn that a model has answered a request with these features."""
        for feature in features:
            self._supported.add(model, feature)
            self._features.discard(model, feature)

    def features(self, model: str) -> list[str]:
        """The features of requests that a model does not support."""
        return self._features.entries(model)

    def note_length(self, model: str, tokens: int) -> None:
        """Learn that a request of this many tokens, with its answer, is too long for a model."""
        self._lengths.add(model, tokens)

    def max_length(self, model: str) -> int | None:
        """The tokens from which requests are too long for a model; None if unknown."""
        return min(self._lengths.entries(model), default=None)
