"""Bodies of the endpoints that take only small ones: forms, feedback, verdicts, jobs."""

import asyncio
from typing import Any, Final

from litestar import Request

from proxy.errors import BodyTooLarge, InvalidRequest, RequestTimeout, UnsupportedMediaType

MAX_SMALL_BODY_BYTES: Final = 2**20


async def read_small_body(
    request: Request[Any, Any, Any], *, seconds: float, max_bytes: int = MAX_SMALL_BODY_BYTES
) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it exceeds the limit. The rest is not kept.
        RequestTimeout: it did not arrive within `seconds`.
        InvalidRequest: the client disconnected. Nobody gets that answer.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length" and int(value) > max_bytes:
            raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message: Any = await request.receive()
                if message["type"] == "http.disconnect":
                    raise InvalidRequest("The client disconnected.")
                body += message["body"]
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                if not message["more_body"]:
                    return bytes(body)
    except TimeoutError:
        raise RequestTimeout("The request body arrived too slowly.") from None


async def read_json_body(
    request: Request[Any, Any, Any], *, seconds: float, max_bytes: int
) -> bytes:
    """The whole body of a request that says that it is JSON, as no form of a web page can.

    Raises:
        UnsupportedMediaType: it says something else.
        BodyTooLarge, RequestTimeout, InvalidRequest: as in `read_small_body`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("Send JSON, with 'content-type: application/json'.")
    return await read_small_body(request, seconds=seconds, max_bytes=max_bytes)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body exceeds {max_bytes // 1024} kB.")
