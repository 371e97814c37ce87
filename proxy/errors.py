"""The errors that a client can receive, as a typed tree with one exit: OpenAI's error envelope.

Messages are for the user of the client. None contains a stack trace, an API key, or an address
that is not in the configuration. Any other exception is a bug: the client gets `InternalError`, and
the log gets the details.
"""

import math
from typing import Final

import msgspec

DO_NOT_RETRY: Final = (b"x-should-retry", b"false")
_LISTING_SECONDS: Final = 5.0  # within which a started server's models are listed here

_MAX_RETRY_SECONDS: Final = 30.0  # of `retry-after`; an overload should end within this time


class RouterError(Exception):
    """Base of all errors that have an HTTP answer. `status` is its status code.

    Attributes:
        is_permanent: whether a repeated request would fail in the same way. The clients of OpenAI
            and Anthropic obey `x-should-retry`; by the status alone they would retry some of these.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    is_permanent = False

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Additional response headers of this error."""
        return [DO_NOT_RETRY] if self.is_permanent else []


class InvalidRequest(RouterError):
    """The request is invalid for every tier."""

    status = 400
    type = "invalid_request_error"
    is_permanent = True


class ContextExceeded(InvalidRequest):
    """The prompt exceeds the context of the model that has to answer. All counts are tokens.

    Attributes:
        max_prompt: the most that a prompt may have, beside the room for the answer.
    """

    code = "context_length_exceeded"

    def __init__(self, *, prompt: int, room: int, context: int, param: str) -> None:
        super().__init__(
            f"This conversation has about {prompt} tokens. With {room} for the answer it exceeds "
            f"the {context} tokens of the local model's context.",
            param=param,
        )
        self.prompt = prompt
        self.max_prompt = context - room


class NotAuthenticated(RouterError):
    """The API key is missing or not configured."""

    status = 401
    type = "invalid_request_error"
    is_permanent = True
    code = "invalid_api_key"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers, (b"www-authenticate", b"Bearer")]


class Forbidden(RouterError):
    """The caller is not allowed to do this."""

    status = 403
    type = "invalid_request_error"
    is_permanent = True
    code = "origin_not_allowed"


class NotFound(RouterError):
    """The route, model or object does not exist."""

    status = 404
    type = "invalid_request_error"
    is_permanent = True


class LocalModelMissing(NotFound):
    """The name can only mean a local model, or resembles one, and the local tier does not have it.

    Attributes:
        installs: the name under which Ollama may be able to install it.
    """

    code = "model_not_found"

    def __init__(self, message: str, *, installs: str | None) -> None:
        super().__init__(message, param="model")
        self.installs = installs


class MethodNotAllowed(RouterError):
    """The route does not support the HTTP method."""

    status = 405
    type = "invalid_request_error"
    is_permanent = True
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers, (b"allow", self.allow.encode())]


class UnsupportedTransferCoding(RouterError):
    """The body has a Transfer-Encoding other than `chunked`."""

    status = 501
    type = "invalid_request_error"
    is_permanent = True
    code = "unsupported_transfer_encoding"


class UnsupportedVersion(RouterError):
    """The request line names a version of HTTP other than 1.0 and 1.1."""

    status = 505
    type = "invalid_request_error"
    is_permanent = True
    code = "unsupported_http_version"


class Conflict(RouterError):
    """The request is valid but not possible in the current state."""

    status = 409
    type = "invalid_request_error"


class BodyTooLarge(RouterError):
    """The request body exceeds `server.max_body_mb`."""

    status = 413
    type = "invalid_request_error"
    is_permanent = True
    code = "body_too_large"


class UnsupportedEncoding(RouterError):
    """The request body is compressed. OpenAI clients do not compress bodies."""

    status = 415
    type = "invalid_request_error"
    is_permanent = True
    code = "unsupported_content_encoding"


class UnsupportedMediaType(RouterError):
    """The request body is not said to be JSON, where only JSON is taken."""

    status = 415
    type = "invalid_request_error"
    is_permanent = True
    code = "unsupported_media_type"


class RequestTimeout(RouterError):
    """The client sent its request too slowly. The connection is closed."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"connection", b"close")]


class RateLimited(RouterError):
    """The API key has reached its request rate limit."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers, _retry_after(self.seconds)]


class BudgetExhausted(RateLimited):
    """No cloud budget is available."""


class BudgetReserved(BudgetExhausted):
    """The rest of the daily budget is reserved for other requests."""


class BudgetSpent(BudgetExhausted):
    """The daily budget is spent. A retry before the next day is useless."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    is_permanent = True


class HeadTooLarge(RouterError):
    """The request line and headers exceed the size limit."""

    status = 431
    type = "invalid_request_error"
    is_permanent = True
    code = "headers_too_large"


class Unavailable(RouterError):
    """A part of the proxy that this request needs is unavailable."""

    status = 503
    code = "unavailable"


class LocalModelsUnknown(RouterError):
    """The model may be a local one, and the local server has not yet listed its models."""

    status = 503
    code = "local_models_unknown"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(_LISTING_SECONDS)]


class ProxyOverloaded(RouterError):
    """The proxy has more work than its core can do.

    Args:
        seconds: the delay of its event loop.
    """

    status = 503
    code = "proxy_overloaded"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "The proxy has too many requests at the moment. Retry after the time in retry-after."
        )
        self.seconds = seconds

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        # Twice the delay, because the requests that wait already are answered first.
        return [_retry_after(min(2 * self.seconds, _MAX_RETRY_SECONDS))]


class ServerStopping(RouterError):
    """The proxy is shutting down, and the grace period for this answer is over."""

    status = 503
    code = "server_stopping"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(1.0)]


class InternalError(RouterError):
    """A bug in the proxy. The log has the traceback, the client the request id."""

    code = "internal_error"


class UpstreamError(RouterError):
    """An upstream failed. `upstream` names the tier.

    Attributes:
        summary: the message without the upstream's own words.
        answer: status and body of its answer, if it gave one. They are for the record.
        hides_words: whether the words of that answer may contain a part of a key.
    """

    status = 502
    code = "upstream_error"
    answer: tuple[int, bytes] | None = None
    hides_words = False

    def __init__(self, message: str, *, upstream: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.summary = message
        self.upstream = upstream


class Overloaded(UpstreamError):
    """All slots of the tier are in use, and its queue is full."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str, *, upstream: str, seconds: float) -> None:
        super().__init__(message, upstream=upstream)
        self.seconds = seconds

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [_retry_after(self.seconds)]


class UpstreamUnreachable(UpstreamError):
    """The connection failed before the answer began.

    Attributes:
        may_have_arrived: whether the upstream may have got the request, and bill it.
    """

    code = "upstream_unreachable"
    may_have_arrived = False


class UpstreamInterrupted(UpstreamError):
    """The answer was interrupted."""

    code = "upstream_broken"


class ResponseTooLarge(UpstreamInterrupted):
    """The answer exceeds the configured size. Another attempt would, too."""

    is_permanent = True


class NotAnAnswer(UpstreamInterrupted):
    """The tier answered with a success that is no answer, such as a login page or an empty body."""

    code = "bad_answer"


class UpstreamAuthError(UpstreamError):
    """The tier rejected the configured API key. Only the operator can fix this.

    It is no 401, which would tell the client that its own key is wrong.
    """

    code = "upstream_auth"
    is_permanent = True
    hides_words = True


class UpstreamTimeout(UpstreamError):
    """A timeout passed: connect, first_token, idle, or the total of a request.

    The code names it, for example `idle_timeout`.
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
