"""Errors for the client and the record: the envelope, the ending, the request timeout."""

from collections.abc import Callable, Sequence
from typing import Final

from proxy.errors import (
    InternalError,
    RequestTimeout,
    RouterError,
    ServerStopping,
    UpstreamError,
    UpstreamTimeout,
    envelope,
)
from proxy.gateway.call import Call
from proxy.gateway.relay import ResponseWriter
from proxy.protocol import JSON_MEDIA_TYPE
from proxy.record import CallRecord, Ending

# Why a tier fails in the same way when the request is repeated; it may recover from other failures.
_PERMANENT: Final = frozenset(
    {"refused", "capability", "context", "model_missing", "upstream_auth"}
)


async def send_error(
    error: RouterError,
    writer: ResponseWriter,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    body_of: Callable[[RouterError], bytes] = envelope,
) -> None:
    """Answer with an error, in OpenAI's envelope or the form of another API."""
    all_headers = [(b"content-type", JSON_MEDIA_TYPE), *error.headers, *headers]
    await writer.answer(error.status, all_headers, body_of(error))


def ending_of(error: RouterError) -> Ending:
    """The ending of a request that fails with an error."""
    match error:
        case RequestTimeout() | UpstreamTimeout():
            return Ending.TIMEOUT
        case UpstreamError():
            return Ending.UPSTREAM_ERROR
        case InternalError():
            return Ending.INTERNAL_ERROR
        case ServerStopping():
            return Ending.STOPPED
        case _:
            return Ending.REJECTED


def name_earlier_failure(error: UpstreamError | None, record: CallRecord) -> UpstreamError:
    """Add the first tier's failure to the error of the second, if both failed."""
    assert error is not None  # there is no answer
    if record.fallback_from is not None:
        earlier = f" The {record.fallback_from} upstream had failed before ({record.fallback_why})."
        error.message += earlier
        error.summary += earlier
        error.is_permanent = error.is_permanent and record.fallback_why in _PERMANENT
    return error


def request_timeout(call: Call) -> RequestTimeout | UpstreamTimeout:
    """The error for `server.request_timeout_seconds`: the client's or the upstream's."""
    record, seconds = call.record, call.snapshot.config.server.request_timeout_seconds
    if record.requested_model is None and record.target is None:
        return RequestTimeout(f"The request was not sent within {seconds:g} seconds.")
    return UpstreamTimeout(
        f"The request was not answered within {seconds:g} seconds.",
        upstream=record.target or "none",
        phase="total",
    )
