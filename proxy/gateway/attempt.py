"""One attempt: a request to one tier, until the start of its answer."""

import time
from typing import NamedTuple

from proxy.errors import UpstreamError
from proxy.gateway.adaptation import Adaptation
from proxy.gateway.call import Call, Sent
from proxy.gateway.failover import Failure, check_credential, failure_of_answer, failure_of_error
from proxy.gateway.large_bodies import parse_large
from proxy.gateway.line_observer import LineObserver
from proxy.gateway.relay import (
    CompleteResponse,
    StreamHold,
    StreamStart,
    read_rest,
    read_start,
    require_answer,
)
from proxy.gateway.stream_observer import Rename, StreamObserver
from proxy.protocol.endpoints import RESPONSES, Endpoint
from proxy.protocol.logprobs import LogprobReader
from proxy.protocol.response_objects import ResponseIdRewriter
from proxy.record import CallRecord, Target
from proxy.routing import features_of
from proxy.upstream import Delivery, UpstreamResponse


class Attempt(NamedTuple):
    """The response and its start, or the reason of the failure. The caller closes the response."""

    response: UpstreamResponse | None
    start: CompleteResponse | StreamStart | None
    failure: Failure | None
    error: UpstreamError | None = None


async def open_upstream(
    call: Call,
    target: Target,
    model: str,
    *,
    hold: StreamHold | None = None,
    logprobs: LogprobReader | None = None,
) -> Attempt:
    """Send the request to a tier and read the start of its answer.

    A server that does not accept a field gets the request again without it.

    Args:
        logprobs: asks for log-probabilities and reads them; for chat only.
    """
    adaptation = Adaptation(call, target, model)
    while True:
        attempt = await _ask(call, target, model, adaptation, hold=hold, logprobs=logprobs)
        response, start, failure, _ = attempt
        if response is None or start is None:
            return attempt
        try:
            is_accepted = await adaptation.accepts(response.status, start, failure)
        except BaseException:
            await response.close()
            raise
        if is_accepted:
            return attempt._replace(failure=failure or adaptation.failure)
        await response.close()


async def _ask(
    call: Call,
    target: Target,
    model: str,
    adaptation: Adaptation,
    *,
    hold: StreamHold | None,
    logprobs: LogprobReader | None,
) -> Attempt:
    endpoint, request, record = call.wire(target), call.request, call.record
    upstream = call.snapshot.upstreams[target]
    record.step("sent to the %s tier as %s", target, model)
    change = None if logprobs is None else logprobs.ask
    body = await parse_large(call.body, lambda _: adaptation.body(change))
    rename: Rename | None = None if logprobs is None else logprobs.take
    if endpoint is RESPONSES and target is Target.LOCAL:
        rename = ResponseIdRewriter(record.id).rename
    record.begin_attempt()
    sent = call.sent = Sent(target, model, endpoint, record.adapted)
    if request.streams:
        sent.observer = _observer(call, endpoint, rename)
    response = None
    try:
        try:
            response = sent.response = await upstream.open(
                endpoint.path,
                body,
                call.exchange.headers,
                is_native=endpoint.native is not None,
                stream=request.streams,
                model=model,
                client=record.client_key_hash,
                delivery=sent.delivery,
            )
        finally:
            note_waits(record, sent.delivery)
        start = await read_start(response, endpoint, sent.observer, rename=rename, hold=hold)
        sent.start, sent.began_at = start, time.monotonic()
        require_answer(response, start)
        response.succeed()
        check_credential(response.status, start.error, upstream=upstream.name)
        failure = failure_of_answer(
            response.status,
            response.headers,
            target=target,
            error=start.error,
            features=()
            if start.error is None
            else features_of(call.request_to(target), record.turns or ()),
        )
        if failure is not None and failure.is_refusal:
            response.excuse()
    except UpstreamError as error:
        return Attempt(response, None, failure_of_error(error), error)
    except BaseException:
        if response is not None:
            await response.close()
        raise
    return Attempt(response, start, failure)


def note_waits(record: CallRecord, delivery: Delivery) -> None:
    """Enter an attempt's waits for a slot and for a connection into the record."""
    record.queue_ms = delivery.queue_seconds * 1e3
    if delivery.connect_seconds is not None:
        record.connect_ms = delivery.connect_seconds * 1e3


def _observer(call: Call, wire: Endpoint, rename: Rename | None) -> StreamObserver:
    """The observer of a stream that the client has asked for."""
    if wire.native is not None:
        return LineObserver(wire)
    # The usage is a part of the last line into which a stream is translated.
    strip_usage = call.request.hides_usage and call.native is None
    return StreamObserver(wire, strip_usage=strip_usage, rename=rename)


async def hold_to_end(call: Call, attempt: Attempt, hold: StreamHold) -> Attempt:
    """Read an attempt's answer to its end. A stream that fails half-way is a failure.

    Raises:
        asyncio.CancelledError, TimeoutError: the caller closes the response.
    """
    start = attempt.start
    if not isinstance(start, StreamStart):
        return attempt
    assert attempt.response is not None  # it has started
    assert call.sent is not None
    try:
        start = call.sent.start = await read_rest(attempt.response, start, hold=hold)
    except UpstreamError as error:
        return Attempt(attempt.response, None, failure_of_error(error), error)
    failure = None
    if start.observer.failed:
        failure = Failure("server_error", may_retry=False)
    return attempt._replace(start=start, failure=failure)
