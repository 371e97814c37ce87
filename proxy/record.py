"""One flat record per request: the single source of its row, its metrics and its headers.

A `CallRecord` is opened when a request arrives, filled along the way and closed exactly once,
whatever the ending. It knows no database, no Prometheus and no HTTP framework.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 86_400
PICODOLLARS: Final = 10**12  # in one USD: sums of costs are kept as integers

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Target(StrEnum):
    """The tiers. A request that never reached one has none."""

    LOCAL = "local"
    CLOUD = "cloud"

    @property
    def other(self) -> "Target":
        return Target.CLOUD if self is Target.LOCAL else Target.LOCAL


class Reason(StrEnum):
    """Why a request went where it went: the closed set of the `x-router-reason` header."""

    SCORE = "score"
    FORCED = "forced"
    CONTEXT = "context"
    CAPABILITY = "capability"
    UNHEALTHY = "unhealthy"
    OVERLOAD = "overload"
    BUDGET = "budget"
    STICKY = "sticky"
    ROUTER_UNAVAILABLE = "router_unavailable"
    FALLBACK = "fallback"
    ESCALATED = "escalated"
    EXPLORATION = "exploration"  # a random decision near the threshold (`routing.explore_rate`)


# Decided by the router or its budget: what budget pacing can move.
PACED_REASONS: Final = (Reason.SCORE, Reason.EXPLORATION, Reason.BUDGET)


class Ending(StrEnum):
    """How a request ended. Every record has exactly one."""

    OK = "ok"
    REJECTED = "rejected"  # refused by us: bad input, no key, unknown model
    UPSTREAM_ERROR = "upstream_error"  # an error answer, no answer, or one that broke off
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"
    STOPPED = "stopped"  # the proxy was stopped before the answer was whole
    INTERNAL_ERROR = "internal_error"  # a bug of ours


class UsageSource(StrEnum):
    """Where the token counts come from."""

    UPSTREAM = "upstream"
    ESTIMATED = "estimated"


def new_request_id() -> str:
    """`req_` and 32 hex digits that sort by time: 48 bits of milliseconds, 80 random bits.

    An id is no secret, so the bits need not come from the kernel (a system call for each).
    """
    return f"req_{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"


def key_hash(api_key: str) -> str:
    """A short name for an API key that does not give the key away (first 16 hex of SHA-256)."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]


def _header_value(text: str, *, at_most: int = 200) -> bytes:
    """A client may have chosen the model's name: no line break of theirs may enter our headers."""
    return _UNPRINTABLE.sub("?", text[:at_most]).encode("ascii")


class CallRecord:
    """What happened to one request. Durations are milliseconds, money is USD."""

    __slots__ = (
        "_clock",
        "_opened",
        "body",
        "cached_input_tokens",
        "candidate_score",
        "client_key_hash",
        "cloud_cost_usd",
        "cost_usd",
        "counted_tokens",
        "created_at",
        "decision_ms",
        "duration_ms",
        "ending",
        "endpoint",
        "error",
        "error_code",
        "fallback_from",
        "fallback_why",
        "finish_reason",
        "id",
        "input_tokens",
        "is_paced",
        "model",
        "no_store",
        "output_tokens",
        "p_cloud",
        "p_local",
        "propensity",
        "reason",
        "reasoning_tokens",
        "requested_model",
        "response",
        "sample",
        "saved_usd",
        "score",
        "session_id",
        "started",
        "status",
        "streamed",
        "target",
        "threshold",
        "trace",
        "ttft_ms",
        "turns",
        "upstream_ms",
        "usage_source",
    )

    def __init__(self, endpoint: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._opened: float | None = None
        self.id = new_request_id()
        self.created_at = time.time()
        self.started: Final = clock()
        self.endpoint = endpoint
        self.requested_model: str | None = None
        self.target: Target | None = None
        self.model: str | None = None
        self.reason: Reason | None = None
        self.score: float | None = None
        self.p_local: float | None = None
        self.p_cloud: float | None = None
        self.threshold: float | None = None
        self.is_paced = False  # whether a budget may move the threshold
        self.propensity: float | None = None  # of the chosen tier, before it was chosen
        self.candidate_score: float | None = None
        self.decision_ms: float | None = None
        self.ttft_ms: float | None = None
        self.upstream_ms: float | None = None
        self.duration_ms: float | None = None
        self.status: int | None = None
        self.ending: Ending | None = None
        self.error: str | None = None
        self.error_code: str | None = None
        self.streamed = False
        self.input_tokens: int | None = None
        self.cached_input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.reasoning_tokens: int | None = None  # part of the output
        self.usage_source: UsageSource | None = None
        self.cost_usd: float | None = None
        self.cloud_cost_usd: float | None = None
        self.saved_usd: float | None = None
        self.turns: list[tuple[str, str]] | None = None  # (role, text)
        self.counted_tokens: int | None = None  # of the prompt, where its length mattered
        self.response: str | None = None
        self.finish_reason: str | None = None  # of a whole answer
        self.no_store = False  # the client wants no text of it kept
        self.sample: tuple[str, float, float] | None = None  # kind, propensity, turn; if drawn
        self.body: str | None = None  # as it was sent, where the other tier is to answer it, too
        self.fallback_from: Target | None = None
        self.fallback_why: str | None = None
        self.trace: list[tuple[float, str]] | None = None  # (ms, step), where somebody wants it
        self.session_id: str | None = None
        self.client_key_hash: str | None = None

    @property
    def text_chars(self) -> int:
        """Characters of prompt and answer, which may be megabytes."""
        answer, sent = len(self.response or ""), len(self.body or "")
        return answer + sent + sum(len(text) for _, text in self.turns or ())

    def elapsed_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return (self._clock() - self.started) * 1e3

    def step(self, what: str, *values: object) -> None:
        """Note a step of the way to an answer, where somebody wants to see them.

        Args:
            what: with a `%s` for each value, as log lines have it: put together only when wanted.
        """
        if self.trace is not None:
            self.trace.append((self.elapsed_ms(), what % values))

    def open_upstream(self) -> None:
        """From here on time is the upstream's, its queue included."""
        self._opened = self._clock()

    def close_upstream(self) -> None:
        """The upstream's answer is whole, or over. Only the first call counts."""
        if self._opened is not None and self.upstream_ms is None:
            self.upstream_ms = (self._clock() - self._opened) * 1e3

    def finish(
        self, ending: Ending, *, error: str | None = None, error_code: str | None = None
    ) -> None:
        """Close the record. The first ending stands: what a clean-up runs into later is not it."""
        if self.ending is None:
            self.close_upstream()
            self.ending = ending
            self.error = error
            self.error_code = error_code
            self.duration_ms = self.elapsed_ms()

    def router_headers(self) -> list[tuple[bytes, bytes]]:
        """The `x-request-id` and `x-router-*` response headers, as far as they are known."""
        headers = [(b"x-request-id", self.id.encode())]
        if self.trace is not None:
            steps = "; ".join(f"{ms:.2f} ms {step}" for ms, step in self.trace)
            headers.append((b"x-router-trace", _header_value(steps, at_most=4_000)))
        if self.target is None:
            return headers
        headers.append((b"x-router-target", self.target.encode()))
        if self.model is not None:
            headers.append((b"x-router-model", _header_value(self.model)))
        if self.score is not None:
            headers.append((b"x-router-score", b"%.4f" % self.score))
        if self.threshold is not None:
            headers.append((b"x-router-threshold", b"%.4f" % self.threshold))
        if self.reason is not None:
            headers.append((b"x-router-reason", self.reason.encode()))
        if self.decision_ms is not None:
            headers.append((b"x-router-decision-ms", b"%.3f" % self.decision_ms))
        if self.fallback_from is not None:
            headers.append(
                (
                    b"x-router-fallback",
                    f"{self.fallback_from}→{self.target}:{self.fallback_why}".encode(),
                )
            )
        return headers

    def cost_headers(self) -> list[tuple[bytes, bytes]]:
        """`x-router-cost-usd` and `x-router-saved-usd`: known only once an answer is whole."""
        headers = []
        if self.cost_usd is not None:
            headers.append((b"x-router-cost-usd", b"%.9f" % self.cost_usd))
        if self.saved_usd is not None:
            headers.append((b"x-router-saved-usd", b"%.9f" % self.saved_usd))
        return headers
