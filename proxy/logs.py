"""Logging: rich lines on a terminal, plain lines elsewhere, or JSON. Prompts are never logged.

    {"time": "2026-11-24T12:00:00.123Z", "level": "info", "logger": "proxy.gateway.gateway",
     "message": "request", "request_id": "req_…", "target": "local", "ending": "ok", …}

Every line of a request carries its id. With `logging.requests` a finished request logs one line;
its row has the same values. With the header `x-router-trace: true` it logs a second line: the steps
of the routing decision with their times.
"""

import datetime as dt
import logging
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.logging import RichHandler

from proxy.config import LoggingConfig
from proxy.plain_text import printable, printable_json
from proxy.record import CallRecord, Ending, Reason

logger = logging.getLogger(__name__)

TRACE_HEADER: Final = b"x-router-trace"
PACKAGES: Final = ("proxy", "router_model")

# The request that a line belongs to; empty outside requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_LOGGED_FIELDS: Final = (
    "endpoint", "requested_model", "target", "model", "reason", "rule", "score", "merit",
    "threshold", "streamed", "status", "ending", "error_code", "decision_ms", "ttft_ms",
    "duration_ms", "input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "saved_usd",
    "fallback_from", "fallback_why", "failed_check", "discarded_tokens", "second_look",
    "verified_merit", "second_look_ms", "session_id", "client_key_hash",
    "client_key_name",
)  # fmt: skip


def set_up(config: LoggingConfig) -> None:
    """Log to standard error. Other packages log only warnings."""
    console = Console(stderr=True)
    handler: logging.Handler
    if config.format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(_Json())
    elif console.is_terminal and config.format == "auto":
        handler = RichHandler(console=console, show_path=False)
        handler.setFormatter(_Text("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(config.level.upper())


def log_request(record: CallRecord, config: LoggingConfig) -> None:
    """Log a finished request if `logging.requests` selects it, and its trace if there is one."""
    is_wanted = config.requests == "all" or (
        config.requests == "failed" and record.ending not in (Ending.OK, Ending.CLIENT_GONE)
    )
    if is_wanted:
        fields = {name: getattr(record, name) for name in _LOGGED_FIELDS}
        logger.info("request", extra={"fields": fields, "text": _line(record)})
    if record.trace is not None:
        steps = [{"ms": round(ms, 3), "step": step} for ms, step in record.trace]
        lines = [f"{ms:9.3f} ms  {step}" for ms, step in record.trace]
        logger.info("trace", extra={"fields": {"steps": steps}, "lines": lines})


def wants_trace(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the client wants the trace of the routing decision."""
    for name, value in headers:  # not any(): a generator would cost every request a microsecond
        if name == TRACE_HEADER:
            return value.lower() == b"true"
    return False


def _line(record: CallRecord) -> str:
    """A finished request as a readable line."""
    parts = [f"{record.endpoint} {record.requested_model or '?'} →"]
    if record.target is None:
        parts.append("no tier")
    else:
        parts.append(f"{record.target} {record.model or ''}".rstrip())
        parts.append(f"({record.reason}" + (
            f"{_compared(record)} of {record.threshold:.3f})"
            if record.score is not None and record.threshold is not None
            else ")"
        ))  # fmt: skip
    parts.append(f"{record.status or 'no status'} {record.ending}")
    if record.error_code:
        parts.append(record.error_code)
    if record.reason is Reason.ESCALATED:
        parts.append(f"after the local answer failed a check: {record.failed_check}")
    else:
        if record.fallback_from:
            parts.append(f"after {record.fallback_from} failed: {record.fallback_why}")
        if record.failed_check:
            parts.append(f"although it failed a check: {record.failed_check}")
    if record.ttft_ms is not None:
        parts.append(f"ttft {record.ttft_ms:.0f} ms")
    parts.append(f"{record.duration_ms or 0:.0f} ms")
    if record.input_tokens is not None:
        parts.append(f"{record.input_tokens}+{record.output_tokens or 0} tokens")
    if record.cost_usd is not None:
        parts.append(f"${record.cost_usd:.6f}")
    if record.saved_usd:
        parts.append(f"saved ${record.saved_usd:.6f}")
    return " ".join(parts)


def _compared(record: CallRecord) -> str:
    """What was compared with the threshold: the score, or the merit after its name."""
    if record.merit is None or record.merit == record.score:
        return f" {record.score:.3f}"
    return f", merit {record.merit:.3f}"


class _Text(logging.Formatter):
    """Readable lines. A line of a request ends with its id.

    Messages may contain text of clients, so each is one line without control characters. Only
    tracebacks and traces have more lines, and these are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        text = getattr(record, "text", None) or record.getMessage()
        current = request_id.get()
        record.message = printable(
            f"{text} [{current}]" if current and current not in text else text
        )
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [self.formatMessage(record), *getattr(record, "lines", ())]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += self.formatStack(record.stack_info).split("\n")
        return "\n  ".join(map(printable, lines))


class _Json(logging.Formatter):
    """One JSON object per line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        payload: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            payload["request_id"] = current
        payload |= getattr(record, "fields", {})
        if record.exc_info:
            payload["exception"] = self.formatException(record.exc_info)
        return printable_json(msgspec.json.encode(payload, enc_hook=str).decode())
