"""What the server of a tier has refused: fields, features and lengths, by model, for a while.

A refusal costs a request and its wait. So the next request is changed, or decided, before it is
sent. All is forgotten after some time, because the server may be updated. Which errors are such a
refusal is not known here.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from proxy.protocol.refusals import RefusedField

FIELDS_SECONDS: Final = 3600.0  # a wrong entry leaves a field out
FEATURES_SECONDS: Final = 600.0  # a wrong entry costs dollars
MAX_ENTRIES: Final = 256  # clients choose names: the oldest entry makes room

T = TypeVar("T")


class _Memory(Generic[T]):
    """A set whose entries are forgotten after some time."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[T, float] = {}

    def add(self, entry: T) -> None:
        self._until.pop(entry, None)
        if len(self._until) >= MAX_ENTRIES:
            del self._until[next(iter(self._until))]
        self._until[entry] = self._clock() + self._seconds

    def clear(self) -> None:
        self._until.clear()

    def discard(self, entry: T) -> None:
        self._until.pop(entry, None)

    def __contains__(self, entry: T) -> bool:
        return bool(self._until) and self._until.get(entry, 0.0) > self._clock()

    def __iter__(self) -> Iterator[T]:
        if not self._until:
            return
        now = self._clock()
        yield from [entry for entry, until in self._until.items() if until > now]


class Learned:
    """What the server of one tier has refused. A model's path is that of the endpoint.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fields: _Memory[tuple[str, str, RefusedField]] = _Memory(FIELDS_SECONDS, clock)
        self._usage: _Memory[tuple[str, str]] = _Memory(FIELDS_SECONDS, clock)
        self._features: _Memory[tuple[str, str]] = _Memory(FEATURES_SECONDS, clock)
        self._supported: _Memory[tuple[str, str]] = _Memory(FIELDS_SECONDS, clock)
        self._statuses: _Memory[tuple[str, int]] = _Memory(FEATURES_SECONDS, clock)
        self._lengths: _Memory[tuple[str, int]] = _Memory(FEATURES_SECONDS, clock)

    def note_field(self, model: str, path: str, field: RefusedField) -> None:
        """Learn that a model does not accept a field."""
        self._fields.add((model, path, field))

    def fields(self, model: str, path: str) -> list[RefusedField]:
        """The fields that a model does not accept."""
        return [field for name, at, field in self._fields if (name, at) == (model, path)]

    def note_usage(self, model: str, path: str) -> None:
        """Learn that a model accepts the request for a stream's usage."""
        self._usage.add((model, path))

    def accepts_usage(self, model: str, path: str) -> bool:
        """Whether a model is known to accept the request for a stream's usage."""
        return (model, path) in self._usage

    def note_feature(self, model: str, feature: str) -> bool:
        """Learn that a model has refused a feature of requests.

        If it has answered a request with this feature, it refuses another thing, or the values.
        Returns whether the feature counts as refused from now on.
        """
        if (model, feature) in self._supported:
            return False
        self._features.add((model, feature))
        return True

    def note_status(self, model: str, status: int) -> bool:
        """Note a refusal. Returns whether it is the first with this status for a while."""
        if (model, status) in self._statuses:
            return False
        self._statuses.add((model, status))
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
            self._supported.add((model, feature))
            self._features.discard((model, feature))

    def features(self, model: str) -> set[str]:
        """The features of requests that a model does not support."""
        return {feature for name, feature in self._features if name == model}

    def note_length(self, model: str, tokens: int) -> None:
        """Learn that a request of this many tokens, with its answer, is too long for a model."""
        self._lengths.add((model, tokens))

    def max_length(self, model: str) -> int | None:
        """The tokens from which requests are too long for a model; None if unknown."""
        return min((tokens for name, tokens in self._lengths if name == model), default=None)
