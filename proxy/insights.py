"""What the rows tell, as JSON for the dashboard and for scripts: /api/requests and what is beside.

Everything here is about everybody's requests and therefore for admins; a client's own are its.
"""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from proxy.auth import Client, is_admin
from proxy.database import StoreUnavailable
from proxy.errors import NotFound, Unavailable
from proxy.gateway import Gateway
from proxy.reports import explain
from proxy.stats import Stats
from proxy.store import FLUSH_SECONDS


def routes(gateway: Gateway, stats: Stats) -> list[ControllerRouterHandler]:
    """The handlers, bound to the rows."""

    @get("/api/requests/{request_id:str}")
    async def show_request(
        request: Request[Any, Any, Any], request_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        client = gateway.admit(tuple(request.scope["headers"]))
        row = await _find(stats, request_id)
        if row is None or not _may_see(client, row):
            raise NotFound(f"There is no request '{request_id}'.", param="request_id")
        return Response(row | {"explanation": explain(row).splitlines()})

    return [show_request]


def _may_see(client: Client | None, row: dict[str, Any]) -> bool:
    if client is None or is_admin(client):
        return True
    return bool(row["client_key_hash"] == client.key_hash)


async def _find(stats: Stats, request_id: str) -> dict[str, Any] | None:
    """A row; once more after a moment, since it is written a moment after its answer."""
    for wait in (0.0, 2 * FLUSH_SECONDS):
        await asyncio.sleep(wait)
        try:
            row = await asyncio.to_thread(stats.find, request_id)
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from None
        if row is not None:
            return row
    return None
