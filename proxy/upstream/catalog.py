"""The models of a tier's server: their list and their capabilities, as the server reports them.

The requests of this module are small, have no slot of the tier and end after PROBE_SECONDS, unless
the caller gives them longer. The tier reads the last known state while a refresh runs.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

import httpx2

from proxy.addresses import join_url, without_version
from proxy.config import ConfigError, UpstreamConfig
from proxy.protocol import view_models
from proxy.protocol.ollama import is_same_model, pull_command, shortest_name
from proxy.upstream.capabilities import (
    Capabilities,
    common_capabilities,
    configured_capabilities,
    detect_capabilities,
)
from proxy.upstream.environment import environment_proxy
from proxy.upstream.health import Look, LookResult
from proxy.upstream.response import TRANSPORT_ERRORS, decode_body, describe_error

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 2.0
MAX_PROBE_BYTES: Final = 2**20
# Every caller may request the model list and the health check: repeated requests share one probe.
MODEL_LIST_SECONDS: Final = 1.0
# Looking a name up waits for the list, so it is repeated rarely, and soon after a failure.
_LOOKUP_SECONDS: Final = 600.0
_LOOKUP_RETRY_SECONDS: Final = 10.0
_MAX_LISTED: Final = 5  # names in a message
_MAX_NAME_CHARS: Final = 100


class ModelCatalog:
    """The models of one tier.

    Args:
        name: of the tier, for logs.
        headers: of each request, with the tier's credentials.
        on_look: called with a base URL and what a request for its model list has shown.
        max_bytes: the size limit of a response, decompressed.
        clock: monotonic seconds.

    Attributes:
        names: the server's models; empty while `is_listed` is false.
        is_listed: whether the server's list has been read.
        capabilities: of the configured model; of several replicas, the intersection.
        problem: what is wrong with the configured model, and the remedy; None while it is listed,
            or no list is known.
        is_stale: whether the server may have been replaced since the last `refresh`.
    """

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        transport: httpx2.AsyncBaseTransport,
        headers: list[tuple[bytes, bytes]],
        on_look: Callable[[str, Look], None] = lambda base_url, look: None,
        max_bytes: int = MAX_PROBE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.names: frozenset[str] = frozenset()
        self._shortest_names: frozenset[str] = frozenset()  # each request looks its model up
        self.is_listed = False
        self.capabilities = configured_capabilities(config)
        self.is_stale = True
        self.problem: str | None = None
        self._other_capabilities: dict[str, Capabilities] = {}  # of models that are not configured
        self._failures = 0
        self._name = name
        self._config = config
        self._transport = transport
        self._headers = headers
        self._on_look = on_look
        self._clock = clock
        self._max_bytes = max_bytes
        self._list_lock = asyncio.Lock()
        self._list: bytes | None = None
        self._list_expires_at = 0.0
        self._lookup_lock = asyncio.Lock()
        self._looked_up: frozenset[str] = frozenset()
        self._lookup_expires_at = 0.0

    @property
    def known_names(self) -> frozenset[str] | None:
        """The server's models; None before its list has been read."""
        return self.names if self.is_listed else None

    def lacks(self, model: str) -> bool:
        """Whether the server has listed its models, and this one is not among them."""
        return self.is_listed and shortest_name(model) not in self._shortest_names

    async def lists(self, model: str) -> bool:
        """Whether the server lists a model under exactly this name.

        The list is queried on first use, and cached. Some servers list names
        with `models/` in front, and providers behind a colon are not listed: `vendor/model:fast`.
        """
        async with self._lookup_lock:
            if self._clock() >= self._lookup_expires_at:
                names = view_models(await self.list_models() or b"")
                self._looked_up = self._looked_up if names is None else frozenset(names)
                seconds = _LOOKUP_RETRY_SECONDS if names is None else _LOOKUP_SECONDS
                self._lookup_expires_at = self._clock() + seconds
        name, _, _ = model.rpartition(":")
        is_variant = "/" in name and name in self._looked_up
        return is_variant or not self._looked_up.isdisjoint({model, f"models/{model}"})

    def mark_stale(self) -> None:
        """Record a failure of the server: another server may answer from now on."""
        self._failures += 1
        self.is_stale = True

    async def refresh(self) -> None:
        """Query the server's models and capabilities. Without a response nothing changes."""
        failures = self._failures
        try:
            # A server that starts between the two queries still reports its capabilities.
            names = view_models(await self.fetch_models() or b"")
            capabilities = await self._query_capabilities()
        except Exception:  # requests must not depend on this query
            logger.exception("%s upstream: querying its capabilities failed", self._name)
            return
        has_failed_meanwhile = self._failures != failures
        self.is_stale = (capabilities is None and names is None) or has_failed_meanwhile
        self._other_capabilities.clear()
        self.capabilities = capabilities or self.capabilities
        if names is not None:
            self.names, self.is_listed = frozenset(names), True
            self._shortest_names = frozenset(map(shortest_name, names))
            self._note_problem(_missing_model(self._config.model, names, self.capabilities))

    def _note_problem(self, problem: str | None) -> None:
        """Log a problem once, and its end."""
        if problem is not None and problem != self.problem:
            logger.warning("%s upstream: %s", self._name, problem)
        elif problem is None and self.problem is not None:
            model = self._config.model
            logger.info("%s upstream: the model %s is available now", self._name, model)
        self.problem = problem

    def known_capabilities(self, model: str) -> Capabilities:
        """The capabilities of a model as far as they are known, without a query."""
        if is_same_model(model, self._config.model):
            return self.capabilities
        return self._other_capabilities.get(model, Capabilities())

    async def capabilities_of(self, model: str) -> Capabilities:
        """The capabilities of another model of the server, queried on first use."""
        if model not in self._other_capabilities:
            capabilities = await self._query_capabilities(model)
            self._other_capabilities[model] = capabilities or Capabilities(
                needs_adapting=self.capabilities.needs_adapting
            )
        return self._other_capabilities[model]

    async def _query_capabilities(self, model: str | None = None) -> Capabilities | None:
        responses = await asyncio.gather(
            *(
                detect_capabilities(_NativeApi(self, base_url), self._config, model)
                for base_url in self._config.base_urls
            )
        )
        known = [capabilities for capabilities in responses if capabilities is not None]
        return common_capabilities(known) if known else None

    async def list_models(self) -> bytes | None:
        """As `fetch_models`, cached for MODEL_LIST_SECONDS."""
        async with self._list_lock:
            if self._clock() >= self._list_expires_at:
                self._list = await self.fetch_models()
                self._list_expires_at = self._clock() + MODEL_LIST_SECONDS
            return self._list

    async def fetch_models(self) -> bytes | None:
        """The body of GET /models from the first replica that answers; None when none does."""
        bodies = await asyncio.gather(*map(self._fetch_models_of, self._config.base_urls))
        return next((body for body in bodies if body is not None), None)

    async def look(self, base_url: str) -> Look:
        """Request the model list of a replica, to see whether it answers."""
        return (await self._look(base_url))[0]

    async def _fetch_models_of(self, base_url: str) -> bytes | None:
        return (await self._look(base_url))[1]

    async def _look(self, base_url: str) -> tuple[Look, bytes | None]:
        """A look at a replica, and its list of models if it is one."""
        body = None
        try:
            status, received = await self._request("GET", join_url(base_url, "/models"))
        except (TimeoutError, httpx2.TimeoutException):
            look = Look(LookResult.SILENT, f"it does not answer in time{_way_to(base_url)}")
        except TRANSPORT_ERRORS:
            look = Look(LookResult.UNREACHABLE, f"it cannot be reached{_way_to(base_url)}")
        else:
            # Login pages and other servers also answer with success.
            is_list = status == 200 and view_models(received) is not None
            body = received if is_list else None
            look = _judge_answer(status, is_list=is_list, way=_way_to(base_url))
        self._on_look(base_url, look)
        return look, body

    async def fetch(self, method: str, url: str, body: bytes = b"") -> bytes | None:
        """The body of a successful response; None for every other result."""
        response = await self.send(method, url, body)
        return response[1] if response is not None and 200 <= response[0] < 300 else None

    async def ask_native(
        self, method: str, path: str, body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """The status and body of the first replica's own API; None without such a server."""
        if not self.capabilities.needs_adapting:
            return None
        url = join_url(without_version(self._config.base_urls[0]), path)
        return await self.send(method, url, body)

    async def send(
        self, method: str, url: str, body: bytes = b"", *, seconds: float = PROBE_SECONDS
    ) -> tuple[int, bytes] | None:
        """The status and the body of a response; None without one in time."""
        try:
            return await self._request(method, url, body, seconds=seconds)
        except (TimeoutError, *TRANSPORT_ERRORS) as error:
            logger.debug("%s upstream %s: %s", self._name, url, describe_error(error))
            return None

    async def _request(
        self, method: str, url: str, body: bytes = b"", *, seconds: float = PROBE_SECONDS
    ) -> tuple[int, bytes]:
        """As `send`. Raises TimeoutError, and TRANSPORT_ERRORS."""
        request = httpx2.Request(
            method,
            url,
            headers=self._headers,
            content=body or None,
            extensions={"timeout": {"connect": self._config.timeouts.connect}},
        )
        async with asyncio.timeout(seconds):
            response = await self._transport.handle_async_request(request)
            try:
                body = await self._read(response)
            finally:
                await response.aclose()
        return response.status_code, body

    async def _read(self, response: httpx2.Response) -> bytes:
        """The body. Raises httpx2.DecodingError for one beyond the limit, or that is corrupt."""
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        parts: list[bytes] = []
        size = 0
        async for chunk in decode_body(stream, encoding):
            parts.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raise httpx2.DecodingError(f"more than {self._max_bytes} bytes")
        return b"".join(parts)


def _missing_model(model: str, names: Collection[str], server: Capabilities) -> str | None:
    """What to do if a server does not list the configured model; None if it does."""
    if any(is_same_model(model, name) for name in names):
        return None
    if server.needs_adapting:
        return f"it has no model {model}; run: {pull_command(model)}"
    if not names:
        return f"it lists no models; {model} is configured"
    listed = ", ".join(name[:_MAX_NAME_CHARS] for name in sorted(names)[:_MAX_LISTED])
    more = " and others" if len(names) > _MAX_LISTED else ""
    return f"it does not list the model {model}; it lists {listed}{more}"


def _way_to(base_url: str) -> str:
    """That a server is asked through a proxy. Addresses are not named: anybody may read this."""
    try:
        return " through the proxy of the environment" if environment_proxy(base_url) else ""
    except ConfigError:  # a variable was changed; the transport is open already
        return ""


def _judge_answer(status: int, *, is_list: bool, way: str) -> Look:
    """What the answer to a request for the model list shows."""
    match status:
        case 200 if is_list:
            return Look(LookResult.LISTED)
        case 200:
            return Look(
                LookResult.OTHER,
                f"it has no list of models{way}, but answers with something else",
            )
        case 401 | 403 | 407:
            return Look(LookResult.REFUSED, f"it refuses the credentials{way}: status {status}")
        case 429:
            return Look(LookResult.LIMITED)
        case 404 | 405 | 501:
            result = LookResult.NO_LIST
        case _:
            result = LookResult.BROKEN if status >= 500 else LookResult.OTHER
    return Look(result, f"it has no list of models{way}: status {status}")


class _NativeApi:
    """The native API of a replica's server, for `capabilities.detect_capabilities`."""

    def __init__(self, catalog: ModelCatalog, base_url: str) -> None:
        self._catalog = catalog
        self._root = without_version(base_url)

    async def get(self, path: str) -> bytes | None:
        return await self._catalog.fetch("GET", join_url(self._root, path))

    async def post(self, path: str, body: bytes) -> bytes | None:
        return await self._catalog.fetch("POST", join_url(self._root, path), body)
