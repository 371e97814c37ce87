"""One flat record per request: the single source of its row, its metrics and its headers.

A `CallRecord` is created when a request arrives, filled while it is processed, and finished exactly
once, with any ending. It does not know the database, Prometheus or the HTTP framework.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from router_model.evidence import Evidence

HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 86_400
MAX_TEXT_CHARS: Final = 2**20  # of a prompt or an answer in its row; no model's context is larger
MAX_NAME_CHARS: Final = 200  # of a model's name, a role or a code in a row
MAX_ERROR_CHARS: Final = 2_000  # of an error message in a row; it may quote the client
PICODOLLARS: Final = 10**12  # in one USD: sums of costs are stored as integers

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

# The model names that the proxy itself defines: the router's choice, and the tiers (`Target`).
OWN_NAMES: Final = ("auto", "local", "cloud")


class Target(StrEnum):
    """The tiers. A request without a decision has none."""

    LOCAL = "local"
    CLOUD = "cloud"

    @property
    def other(self) -> "Target":
        return Target.CLOUD if self is Target.LOCAL else Target.LOCAL


class Reason(StrEnum):
    """The reason of a routing decision: the closed set of the `x-router-reason` header."""

    SCORE = "score"
    FORCED = "forced"
    CONTEXT = "context"
    CAPABILITY = "capability"
    UNHEALTHY = "unhealthy"
    OVERLOAD = "overload"
    LOADING = "loading"  # the local model is being loaded
    BUDGET = "budget"
    STICKY = "sticky"
    ROUTER_UNAVAILABLE = "router_unavailable"
    FALLBACK = "fallback"
    ESCALATED = "escalated"
    OUT_OF_DOMAIN = "out_of_domain"  # the router model cannot judge it (`routing.out_of_domain`)
    HOUSEKEEPING = "housekeeping"  # of a chat front end (`routing.housekeeping`)
    RULE = "rule"  # a rule of `routing.rules` names the tier
    EXPLORATION = "exploration"  # a random decision near the threshold (`routing.explore_rate`)


class SecondLookResult(StrEnum):
    """The result of a second look at the local answer (`verify.band`)."""

    KEPT = "kept"
    ESCALATED = "escalated"  # the evidence speaks for the cloud
    FAILED = "failed"  # no local answer, or one that failed a hard check
    TIMED_OUT = "timed_out"  # after `verify.max_wait_seconds`; the cloud answers
    BUSY = "busy"  # there was none, because the local tier was busy


# The decisions that budget pacing can change.
PACED_REASONS: Final = (Reason.SCORE, Reason.EXPLORATION, Reason.BUDGET)


class Ending(StrEnum):
    """How a request ended. Every record has exactly one."""

    OK = "ok"
    REJECTED = "rejected"  # by the proxy: bad input, no key, unknown model
    UPSTREAM_ERROR = "upstream_error"  # an error, no answer, or an interrupted one
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"
    STOPPED = "stopped"  # the proxy was shut down before the answer was complete
    INTERNAL_ERROR = "internal_error"  # a bug of the proxy


# A request that failed. docs/api.md defines the word ("Shares"); totals, lists and metrics use it.
FAILED: Final = (Ending.UPSTREAM_ERROR, Ending.TIMEOUT, Ending.INTERNAL_ERROR)


class UsageSource(StrEnum):
    """The source of the token counts."""

    UPSTREAM = "upstream"
    ESTIMATED = "estimated"


def new_request_id() -> str:
    """`req_` and 32 hex digits that sort by time: 48 bits of milliseconds, 80 random bits.

    An id is not a secret, so the random bits do not come from the kernel (a system call each).
    """
    return f"req_{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"


def key_hash(api_key: str) -> str:
    """A short name for an API key that does not reveal it: the first 16 hex digits of SHA-256."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]


def default_key_name(hashed: str) -> str:
    """The name of an API key that has none, by its `key_hash`."""
    return f"key {hashed[:8]}"


def _header_value(text: str, *, max_chars: int = 200) -> bytes:
    """Text as a header value. A client may choose the model's name: line breaks are replaced."""
    return _UNPRINTABLE.sub("?", text[:max_chars]).encode("ascii")


@dataclass(slots=True, eq=False, repr=False)
class CallRecord:
    """The record of one request. Durations are milliseconds, money is USD.

    A field is None until it is known. The fields are not keyword-only: that would cost 1 µs more a
    request.
    """

    endpoint: str
    clock: Callable[[], float] = time.perf_counter
    id: str = field(default_factory=new_request_id)
    created_at: float = field(default_factory=time.time)
    started: float = field(init=False)  # by the clock
    requested_model: str | None = None
    target: Target | None = None
    model: str | None = None
    reason: Reason | None = None
    score: float | None = None
    merit: float | None = None  # what was compared with the threshold (`routing.objective`)
    p_local: float | None = None
    p_cloud: float | None = None
    threshold: float | None = None
    rule: str | None = None  # the name of the matching rule, even if it did not decide
    is_paced: bool = False  # whether budget pacing may lower the threshold
    own_threshold: bool = False  # whether the request or a rule had one of its own
    propensity: float | None = None  # the probability of the chosen tier before the choice
    candidate_score: float | None = None  # the shadow router's merit
    decision_ms: float | None = None
    ttft_ms: float | None = None  # time to first token
    opened: float | None = None  # start of the upstream's time, by the clock
    opened_ms: float | None = None  # the same, since the request arrived
    attempt_ms: float | None = None  # start of the last attempt, since the request arrived
    upstream_ms: float | None = None
    queue_ms: float | None = None  # part of the last attempt: waiting for a slot of the tier
    connect_ms: float | None = None  # part of the last attempt: opening a connection
    duration_ms: float | None = None
    status: int | None = None
    ending: Ending | None = None
    error: str | None = None
    error_code: str | None = None
    streamed: bool = False
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None  # part of the output tokens
    usage_source: UsageSource | None = None
    cache_write_tokens: int | None = None  # part of the input tokens
    failed_usd: float = 0.0  # part of the cost: attempts without a complete answer
    cost_usd: float | None = None
    cloud_cost_usd: float | None = None
    saved_usd: float | None = None
    turns: list[tuple[str, str]] | None = None  # (role, text)
    counted_tokens: int | None = None  # of the local prompt; only near the context limit
    response: str | None = None
    finish_reason: str | None = None  # of a complete answer
    no_store: bool = False  # whether the client forbids storing its texts
    sample: tuple[str, float, float] | None = None  # kind, propensity and turn, if drawn
    body: str | None = None  # as the client sent it; only if the other tier answers as well
    raw_request: bytes | None = None  # the bodies to store (`storage.bodies`), or their beginnings
    raw_response: bytes | None = None
    redact: Callable[[str], str] | None = None  # removes credentials from these bodies
    adapted: tuple[str, ...] = ()  # the client's fields that were renamed or left out
    fallback_from: Target | None = None
    fallback_why: str | None = None
    fallback_error: str | None = None  # what the first tier said, if it failed
    failed_check: str | None = None  # the hard check that the local answer failed
    discarded_tokens: int | None = None  # of local answers that were not sent
    second_look: SecondLookResult | None = None  # None where none was due
    evidence: Evidence | None = None
    verified_score: float | None = None  # the score, given the evidence
    verified_merit: float | None = None  # what decided instead of the merit
    second_look_ms: float | None = None  # from sending the local request to the result
    trace: list[tuple[float, str]] | None = None  # (ms, step), if the client asks for it
    session_id: str | None = None
    history_hash: str | None = None  # by which the conversation's next request finds the answer
    client_key_hash: str | None = None
    client_key_name: str | None = None  # if the operator named the key; rows keep only its hash

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def text_chars(self) -> int:
        """The characters of prompt and answer, which may be megabytes, and of the bodies."""
        answer, sent = len(self.response or ""), len(self.body or "")
        raw = len(self.raw_request or b"") + len(self.raw_response or b"")
        return answer + sent + raw + sum(len(role) + len(text) for role, text in self.turns or ())

    @property
    def budget_usd(self) -> float:
        """The cost that counts against the cloud budgets.

        A request that fell back from the cloud counts with all of its cost. Rows do not split it.
        """
        is_cloud = self.target is Target.CLOUD or self.fallback_from is Target.CLOUD
        return (self.cost_usd or 0.0) if is_cloud else 0.0

    def elapsed_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return (self.clock() - self.started) * 1e3

    def step(self, text: str, *values: object) -> None:
        """Add a step to the trace, if the client asks for one.

        Args:
            text: a log format with a `%s` for each value, formatted only for a trace.
        """
        if self.trace is not None:
            self.trace.append((self.elapsed_ms(), text % values))

    def open_upstream(self) -> None:
        """Start the upstream's time, which includes its queue."""
        self.opened = self.clock()
        self.opened_ms = (self.opened - self.started) * 1e3

    def begin_attempt(self) -> None:
        """Start an attempt: the first one, or one after a failure."""
        self.attempt_ms = (self.clock() - self.started) * 1e3
        self.queue_ms = self.connect_ms = None

    def close_upstream(self) -> None:
        """End the upstream's time. Only the first call counts."""
        if self.opened is not None and self.upstream_ms is None:
            self.upstream_ms = (self.clock() - self.opened) * 1e3

    def fall_back(self, failed: Target, why: str, error: str | None) -> None:
        """Enter the failure of the tier that was asked first.

        Args:
            why: a code.
            error: what the tier said.
        """
        self.fallback_from, self.fallback_why = failed, why
        self.fallback_error = error and error[:MAX_ERROR_CHARS]

    def finish(
        self, ending: Ending, *, error: str | None = None, error_code: str | None = None
    ) -> None:
        """Finish the record. Only the first call counts: errors of the clean-up change nothing.

        What a client or an upstream has chosen is shortened, however it came into the record.
        """
        if self.ending is None:
            self.close_upstream()
            self.ending = ending
            self.error = error and error[:MAX_ERROR_CHARS]
            self.error_code = error_code and error_code[:MAX_NAME_CHARS]
            self.model = self.model and self.model[:MAX_NAME_CHARS]
            self.requested_model = self.requested_model and self.requested_model[:MAX_NAME_CHARS]
            self.duration_ms = self.elapsed_ms()

    def router_headers(self) -> list[tuple[bytes, bytes]]:
        """The `x-request-id` and `x-router-*` response headers that are known."""
        headers = [(b"x-request-id", self.id.encode())]
        if self.trace is not None:
            steps = "; ".join(f"{ms:.2f} ms {step}" for ms, step in self.trace)
            headers.append((b"x-router-trace", _header_value(steps, max_chars=4_000)))
        if self.target is None:
            return headers
        headers.append((b"x-router-target", self.target.encode()))
        if self.model is not None:
            headers.append((b"x-router-model", _header_value(self.model)))
        if self.score is not None:
            headers.append((b"x-router-score", b"%.4f" % self.score))
        if self.merit is not None:
            headers.append((b"x-router-merit", b"%.4f" % self.merit))
        if self.threshold is not None:
            headers.append((b"x-router-threshold", b"%.4f" % self.threshold))
        if self.reason is not None:
            headers.append((b"x-router-reason", self.reason.encode()))
        if self.rule is not None:
            headers.append((b"x-router-rule", _header_value(self.rule)))
        if self.decision_ms is not None:
            headers.append((b"x-router-decision-ms", b"%.3f" % self.decision_ms))
        if self.fallback_from is not None:
            headers.append(
                (
                    b"x-router-fallback",
                    _header_value(f"{self.fallback_from}->{self.target}:{self.fallback_why}"),
                )
            )
        if self.adapted:
            headers.append((b"x-router-adapted", _header_value(", ".join(self.adapted))))
        if self.second_look is not None:
            headers.append((b"x-router-second-look", self.second_look.encode()))
        if self.verified_merit is not None:
            headers.append((b"x-router-verified-merit", b"%.4f" % self.verified_merit))
        return headers

    def cost_headers(self) -> list[tuple[bytes, bytes]]:
        """`x-router-cost-usd` and `x-router-saved-usd`, for complete answers."""
        headers = []
        if self.cost_usd is not None:
            headers.append((b"x-router-cost-usd", b"%.9f" % self.cost_usd))
        if self.saved_usd is not None:
            headers.append((b"x-router-saved-usd", b"%.9f" % self.saved_usd))
        return headers
