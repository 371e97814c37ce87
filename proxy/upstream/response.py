"""An upstream's response after its head has arrived: its body, read within the time limits.

while chunk := await response.next_chunk(): ...
await response.close()
"""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from typing import Any, Final, Literal, NamedTuple, TypeVar

import httpx2

from proxy.errors import ResponseTooLarge, UpstreamInterrupted, UpstreamTimeout
from proxy.timeouts import NEVER, Deadline
from proxy.upstream.headers import headers_for_client, headers_of_download, is_page_type
from proxy.upstream.http1 import Http1Response

logger = logging.getLogger(__name__)

TRANSPORT_ERRORS: Final = (httpx2.HTTPError, httpx2.StreamError, OSError)

# Server-sent events, and the lines of Ollama's own API.
_STREAM_TYPES: Final = (b"text/event-stream", b"application/x-ndjson")
# Decompression stops after this size for other work: it takes some 0.2 ms.
_DECOMPRESSED_BYTES: Final = 64 * 1024

T = TypeVar("T")

Phase = Literal["connect", "first_token", "idle"]


class ResponseStart(NamedTuple):
    """The head of a response, with names in lower case, and the stream of its body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    stream: httpx2.AsyncByteStream


class _NothingYet(Exception):
    """No chunk has arrived in the given time."""


class UpstreamResponse:
    """A response that has started. The caller must `close` it on every path.

    Args:
        deadline: only for a stream; due when its first event has to be there.
        first_token_seconds: the longest silence before the first output, which an event without
            output or a comment ends.
        idle_seconds: the longest pause between two chunks after it.
        return_headers: names that pass to the client besides the usual ones, in lower case.
        max_bytes: the size limit of a whole body, decompressed; streamed bodies have none.
        timeout: creates the error of a phase that took too long.
        on_result: called with whether the replica has failed: at the first token of a stream, when
            the body is interrupted, times out or is no answer, and at the end of a server error.
        on_close: called once, when the response is closed.
    """

    __slots__ = (
        "_chunks",
        "_deadline",
        "_first",
        "_first_token_seconds",
        "_idle_seconds",
        "_is_closed",
        "_is_counted",
        "_is_excused",
        "_is_started",
        "_limit_at",
        "_max_bytes",
        "_on_close",
        "_on_result",
        "_return_headers",
        "_stream",
        "_timeout",
        "_whole",
        "headers",
        "status",
        "upstream_name",
    )

    def __init__(
        self,
        upstream_name: str,
        start: ResponseStart,
        *,
        deadline: Deadline | None,
        first_token_seconds: float,
        idle_seconds: float,
        max_bytes: int,
        return_headers: frozenset[bytes],
        timeout: Callable[[Phase], UpstreamTimeout],
        on_result: Callable[[bool], None],
        on_close: Callable[[], None],
    ) -> None:
        self.upstream_name = upstream_name
        self.status, self.headers, self._stream = start
        self._deadline = deadline
        self._limit_at = NEVER  # the end of a silence that lasts already
        if deadline is not None:
            self._limit_at = deadline.due
            deadline.disarm()
            deadline.__enter__()  # until `close`
        self._first_token_seconds = first_token_seconds
        self._idle_seconds = idle_seconds
        self._max_bytes = max_bytes
        self._return_headers = return_headers
        self._timeout = timeout
        self._on_result = on_result
        self._on_close = on_close
        self._is_started = False
        self._is_closed = False
        self._is_counted = self._is_excused = False
        self._chunks: AsyncIterator[bytes] | None = None
        # Of `read`: the first piece, and a buffer of all pieces if there are more. `getvalue` does
        # not copy; joining the pieces of a large answer would block the loop for milliseconds.
        self._first = b""
        self._whole = BytesIO()

    def mark_alive(self) -> None:
        """Restart the first-token timeout: an event without output, or a comment, has arrived."""
        self._limit_at = asyncio.get_running_loop().time() + self._first_token_seconds

    def mark_started(self) -> None:
        """The first output has arrived: from now on the idle timeout applies."""
        self._is_started, self._limit_at = True, NEVER

    def succeed(self) -> None:
        """Count the response as an answer of its replica, unless it is a server error."""
        if self.status < 500 and not self._is_counted:
            self._is_counted = True
            self._on_result(False)

    @property
    def is_event_stream(self) -> bool:
        return self._header(b"content-type").lower().startswith(_STREAM_TYPES)

    @property
    def is_page(self) -> bool:
        return is_page_type(self._header(b"content-type"))

    def headers_for_client(self) -> list[tuple[bytes, bytes]]:
        """The headers that the client may have."""
        return headers_for_client(self.headers, self._return_headers)

    def headers_of_download(self) -> list[tuple[bytes, bytes]]:
        """The same for a file, which a browser saves if it could render it as a page."""
        headers = self.headers_for_client()
        if not self.is_page:
            return headers
        return headers_of_download(headers, self._header(b"content-type"))

    def _header(self, name: bytes) -> bytes:
        """A header, b"" without one. Repeated headers are joined (RFC 9110, 5.3)."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).strip()

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body, b"" at its end.

        Raises:
            UpstreamTimeout: the first token or the next chunk did not arrive in time.
            UpstreamInterrupted: the connection broke before the end of the body.
        """
        try:
            return await self._in_time(anext(self._body()))
        except StopAsyncIteration:
            return b""

    async def next_chunk_by(self, due: float) -> bytes | None:
        """As `next_chunk`; None when nothing has arrived by `due`, in the loop's time.

        Where a read cannot be interrupted, it waits for the next chunk.
        """
        body = self._body()
        if self._deadline is None or not isinstance(self._stream, Http1Response):
            return await self.next_chunk()
        try:
            return await self._in_time(anext(body), due=due)
        except StopAsyncIteration:
            return b""
        except _NothingYet:
            return None

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with each chunk on arrival, until it returns False.

        Returns False at the end of the body. Raises as `next_chunk` does, and what `take` raises.
        """
        body, deadline = self._body(), self._deadline
        if not isinstance(body, Http1Response) or deadline is None:
            while chunk := await self.next_chunk():
                if not take(chunk):
                    return True
            return False
        clock, seconds = asyncio.get_running_loop().time, self._idle_seconds

        def take_in_time(data: bytes) -> bool:
            goes_on = take(data)
            deadline.due = clock() + seconds
            return goes_on

        return await self._in_time(body.pump(take_in_time))

    def _body(self) -> AsyncIterator[bytes]:
        if self._chunks is None:
            encoding = self._header(b"content-encoding").lower()
            self._chunks = decode_body(self._stream, encoding.decode("latin-1"))
        return self._chunks

    async def _in_time(self, pending: Awaitable[T], *, due: float = NEVER) -> T:
        """Await under the deadline of the current phase.

        Raises:
            _NothingYet: `due` has passed, and the phase may go on.
        """
        deadline = self._deadline
        limit = NEVER
        try:
            if deadline is None:
                return await pending
            limit = self._limit_at
            if limit == NEVER:
                limit = asyncio.get_running_loop().time() + self._idle_seconds
            deadline.arm(min(limit, due))
            try:
                result = await pending
            except asyncio.CancelledError:
                deadline.raise_if_over()
                raise
            finally:
                deadline.disarm()
            if self._is_started:  # else only `mark_alive` ends the silence
                self._limit_at = NEVER
            return result
        except TimeoutError:
            if due < limit and deadline is not None:
                self._limit_at = limit
                deadline.__exit__(None, None, None)  # it ends once
                deadline.__enter__()
                raise _NothingYet from None
            self.fail()
            raise self._timeout("idle" if self._is_started else "first_token") from None
        except TRANSPORT_ERRORS as error:
            self.fail()
            logger.warning(
                "%s upstream: the response was interrupted: %s",
                self.upstream_name,
                describe_error(error),
            )
            raise UpstreamInterrupted(
                f"The {self.upstream_name} upstream interrupted its response.",
                upstream=self.upstream_name,
            ) from None

    def excuse(self) -> None:
        """Do not count an error status as a failure of the replica: it is about the request."""
        self._is_excused = True

    def fail(self) -> None:
        """Count the response as a failure of its replica: it cannot be used."""
        if not self._is_closed:
            self._is_counted = True
            self._on_result(True)

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            ResponseTooLarge: it exceeds the limit.
            UpstreamError: as of `next_chunk`.
        """
        first = self._first = await self.next_chunk()
        size = len(first)
        while first and (chunk := await self.next_chunk()):
            if size == len(first):
                self._whole.write(first)
            self._whole.write(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                break
        if size > self._max_bytes:
            self.fail()
            raise ResponseTooLarge(
                f"The response of the {self.upstream_name} upstream exceeds "
                f"{self._max_bytes / 1024 / 1024:g} MB (max_response_mb).",
                upstream=self.upstream_name,
            )
        return first if size == len(first) else self._whole.getvalue()

    def read_so_far(self, max_bytes: int) -> bytes:
        """The beginning of the body that `read` has returned or was reading."""
        if not self._whole.tell():
            return self._first[:max_bytes]
        return bytes(self._whole.getbuffer()[:max_bytes])

    async def close(self) -> None:
        """Release the response. May be called again.

        Closing before the end of the body closes the connection, which tells the upstream to stop
        generating.
        """
        if self._is_closed:
            return
        if self.status >= 500:
            self._on_result(not self._is_excused)
        elif self._deadline is None:  # the head of a stream is no answer: some send it at once
            self.succeed()
        self._is_closed = True
        self._on_close()
        if self._deadline is not None:
            self._deadline.__exit__(None, None, None)
        try:
            await self._stream.aclose()
        except TRANSPORT_ERRORS as error:
            logger.debug(
                "%s upstream: closing a response failed: %s",
                self.upstream_name,
                describe_error(error),
            )


def decode_body(stream: httpx2.AsyncByteStream, encoding: str) -> AsyncIterator[bytes]:
    """The chunks of a body without its content-encoding."""
    chunks = aiter(stream)
    return chunks if encoding in ("", "identity") else _Decompressed(chunks, encoding)


class _Decompressed(AsyncIterator[bytes]):
    """Decompresses a body that the server compressed against the request's accept-encoding.

    httpx2's decoders accept truncated data as complete and pass unknown encodings through, and a
    few hundred kilobytes may become gigabytes in one step. A read can be cancelled and repeated.

    Raises:
        httpx2.DecodingError: the data is corrupt, truncated or of an unknown encoding.
    """

    def __init__(self, compressed: AsyncIterator[bytes], encoding: str) -> None:
        self._compressed = compressed
        self._encoding = encoding
        self._decompressor: Any = None
        self._data = b""
        self._has_more = False  # whether the decompressor holds output back

    async def __anext__(self) -> bytes:
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise httpx2.DecodingError(
                "unsupported content-encoding, although identity was requested"
            )
        while True:
            if self._data or self._has_more:
                await asyncio.sleep(0)  # there may be hundreds of megabytes to come
            else:
                await self._read()
            if chunk := self._decompress():
                return chunk

    async def _read(self) -> None:
        try:
            self._data = await anext(self._compressed)
        except StopAsyncIteration:
            if self._decompressor is not None and not self._decompressor.eof:
                raise httpx2.DecodingError("truncated compressed response") from None
            raise

    def _decompress(self) -> bytes:
        data, decompressor = self._data, self._decompressor
        if decompressor is None or decompressor.eof:  # gzip may have several members
            if not data:
                return b""
            # "deflate" comes with a zlib header or, from some servers, without (raw).
            raw = self._encoding == "deflate" and data[0] & 0x0F != 8
            decompressor = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
            self._decompressor = decompressor
        try:
            chunk: bytes = decompressor.decompress(data, _DECOMPRESSED_BYTES)
        except zlib.error as error:
            raise httpx2.DecodingError(str(error)) from None
        self._data = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
        self._has_more = not decompressor.eof and len(chunk) == _DECOMPRESSED_BYTES
        return chunk


def describe_error(error: BaseException) -> str:
    """An error for the log. Its repr may contain the request with the API key."""
    return f"{type(error).__name__}: {error}"
