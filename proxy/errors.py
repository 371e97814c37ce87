"""Everything that can go wrong, as one small typed tree with one way out: OpenAI's error envelope.

Messages are written for the person who reads them in their client; none carries a stack trace,
a key or an address that the configuration did not already name. Whatever is not in this tree is a
bug and leaves as `InternalError`, its details only in the log.
"""

import math

import msgspec


class RouterError(Exception):
    """Base of all errors that have an answer. `status` is the HTTP status it leaves with."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Extra response headers this error asks for."""
        return []


class InvalidRequest(RouterError):
    """The client sent something that no tier can answer."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(RouterError):
    """No API key, or one that is not configured."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"www-authenticate", b"Bearer")]


class Forbidden(RouterError):
    """Who asks may not, whatever they ask."""

    status = 403
    type = "invalid_request_error"
    code = "origin_not_allowed"


class NotFound(RouterError):
    """An unknown route or model."""

    status = 404
    type = "invalid_request_error"


class MethodNotAllowed(RouterError):
    """A known route asked with the wrong method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", self.allow.encode())]


class Conflict(RouterError):
    """What is asked for may well be done, but not as things are now."""

    status = 409
    type = "invalid_request_error"


class BodyTooLarge(RouterError):
    """The request body exceeds `server.max_body_mb`."""

    status = 413
    type = "invalid_request_error"
    code = "body_too_large"


class UnsupportedEncoding(RouterError):
    """The request body is compressed, which no client of OpenAI's does."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_encoding"


class RequestTimeout(RouterError):
    """The client did not send its request in time; the rest of it is not waited for."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"connection", b"close")]


class RateLimited(RouterError):
    """The API key has made all the requests it may make for now."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(self.seconds)]


class BudgetExhausted(RateLimited):
    """There are no dollars for the cloud."""


class BudgetReserved(BudgetExhausted):
    """What is left of the day's dollars is set aside for other requests."""


class BudgetSpent(BudgetExhausted):
    """The day's dollars are spent. Clients need not try again before the next."""

    type = "insufficient_quota"
    code = "insufficient_quota"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers, (b"x-should-retry", b"false")]


class HeadTooLarge(RouterError):
    """The request line and headers are larger than any client of this proxy needs."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class Unavailable(RouterError):
    """A part of ours that this request needs does not work now."""

    status = 503
    code = "unavailable"


class ServerStopping(RouterError):
    """The proxy is being stopped and cannot wait for this answer any longer."""

    status = 503
    code = "server_stopping"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(1.0)]


class InternalError(RouterError):
    """A bug of ours. The log has the trace; the client has the request id."""

    code = "internal_error"


class UpstreamError(RouterError):
    """An upstream could not answer; `upstream` names the tier."""

    status = 502
    code = "upstream_error"

    def __init__(self, message: str, *, upstream: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.upstream = upstream


class Overloaded(UpstreamError):
    """The tier works on all it can, and too many wait already."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str, *, upstream: str, seconds: float) -> None:
        super().__init__(message, upstream=upstream)
        self.seconds = seconds

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(self.seconds)]


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before the answer began."""

    code = "upstream_unreachable"


class UpstreamInterrupted(UpstreamError):
    """The answer began and then stopped short."""

    code = "upstream_broken"


class UpstreamAuthError(UpstreamError):
    """The tier does not accept our credential: a matter of the configuration, not of the client."""

    code = "upstream_auth"


class UpstreamTimeout(UpstreamError):
    """One of the configured timeouts passed: connect, first_token, idle, or the total of a request.

    The code says which: `idle_timeout`, for instance.
    """

    status = 504

    def __init__(self, message: str, *, upstream: str, phase: str) -> None:
        super().__init__(message, upstream=upstream, code=f"{phase}_timeout")
        self.phase = phase


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", b"%d" % max(1, math.ceil(seconds))


def envelope(error: RouterError) -> bytes:
    """The JSON body OpenAI's clients parse: `{"error": {message, type, param, code}}`."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )
