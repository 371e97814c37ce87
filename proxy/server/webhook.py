"""Sends one message to a webhook: Slack's, Mattermost's, Discord's, or one that reads JSON.

The address is a secret, so neither the log nor a result has any part of it. Redirects are not
followed: they could lead the message anywhere.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import httpx2
import msgspec

from proxy.config import ConfigError, Secret, UpstreamConfig
from proxy.upstream import TRANSPORT_ERRORS, open_transport

SEND_SECONDS: Final = 10.0
_RETRIED: Final = (408, 425, 429)

OpenTransport = Callable[[UpstreamConfig], httpx2.AsyncBaseTransport]


class Sent(NamedTuple):
    """The result of an attempt.

    Attributes:
        problem: None if the message was accepted.
        is_temporary: whether another attempt may succeed.
    """

    problem: str | None = None
    is_temporary: bool = False


async def send(
    url: Secret,
    message: Mapping[str, Any],
    *,
    seconds: float = SEND_SECONDS,
    transport: OpenTransport = open_transport,
) -> Sent:
    """Send a message once.

    Args:
        message: JSON. Slack and Mattermost read its `text`, Discord its `content`.
        seconds: the time limit.
    """
    request = httpx2.Request(
        "POST",
        url.reveal(),
        headers={"content-type": "application/json", "user-agent": "hybrid-llm-router"},
        content=msgspec.json.encode(message),
    )
    origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
    try:
        opened = transport(UpstreamConfig(base_url=origin, model="webhook"))
    except ConfigError:  # a variable of the environment, which the start has reported
        return Sent("the outbound proxy or the certificates of the environment cannot be used")
    try:
        async with opened, asyncio.timeout(seconds):
            response = await opened.handle_async_request(request)
            status = response.status_code
            await response.aclose()
    except TimeoutError:
        return Sent(f"no answer within {seconds:g} seconds", is_temporary=True)
    except TRANSPORT_ERRORS as error:
        return Sent(f"cannot be reached ({type(error).__name__})", is_temporary=True)
    if 200 <= status < 300:
        return Sent()
    is_redirect = 300 <= status < 400
    problem = f"answered {status}" + (", a redirect, which is not followed" if is_redirect else "")
    return Sent(problem, is_temporary=status >= 500 or status in _RETRIED)
