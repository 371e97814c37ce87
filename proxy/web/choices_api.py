"""What users prefer of two answers to one prompt, for the pages and for scripts: /api/choices.

A client chooses between its own requests, and sees the score of its own choices. Without API keys,
and for admins, these are all requests and all choices.
"""

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, route
from litestar.types import ControllerRouterHandler

from proxy.auth import Principal, is_admin
from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.evaluation import (
    ChoiceQueries,
    ChoiceRecords,
    Chooser,
    Opinion,
    Preferred,
    RefusedChoice,
    Source,
)
from proxy.gateway import Gateway
from proxy.protocol import read_request
from proxy.storage import StoreUnavailable, retry_until_written
from proxy.web.blocking import ask
from proxy.web.small_bodies import read_small_body

MAX_CHOICE_BYTES: Final = 16 * 1024
_RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    request_id: _RequestId
    other_id: _RequestId
    choice: Preferred
    source: Source
    is_blind: bool = False
    may_learn: bool = False


_choice = msgspec.json.Decoder(_Choice)


def routes(
    gateway: Gateway, records: ChoiceRecords, choices: ChoiceQueries, *, body_seconds: float
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        body_seconds: how long a client may take to send a body.
    """

    # One handler of both methods: each handler of a path would answer OPTIONS with its own only.
    @route("/api/choices", http_method=["GET", "POST"], status_code=200)
    async def use_choices(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        client = gateway.snapshot.keys.authenticate(tuple(request.scope["headers"]))
        if request.method == "POST":
            return await take_choice(request, client)
        return await show_score(client)

    async def take_choice(
        request: Request[Any, Any, Any], client: Principal | None
    ) -> Response[dict[str, object]]:
        body = await read_small_body(request, seconds=body_seconds, max_bytes=MAX_CHOICE_BYTES)
        opinion = Opinion(**msgspec.structs.asdict(read_request(_choice, body)))
        key_hash = client.key_hash if client is not None else None
        await _record(records, opinion, Chooser(key_hash, is_admin(client)))
        return Response({"object": "choice", **opinion._asdict()})

    async def show_score(client: Principal | None) -> Response[dict[str, object]]:
        own = None if client is None or is_admin(client) else client.key_hash
        tiers = gateway.snapshot.config.upstreams
        models = tiers.local.model, tiers.cloud.model
        score = await ask(lambda: choices.score(models=models, client=own))
        return Response(
            {
                "scope": "all" if own is None else "own",
                "local_model": models[0],
                "cloud_model": models[1],
                **score,
            }
        )

    return [use_choices]


async def _record(records: ChoiceRecords, opinion: Opinion, chooser: Chooser) -> None:
    """Store a choice. The rows of its requests may be written within a moment.

    Raises:
        NotFound: a request is not on record for this caller.
        InvalidRequest: the answers cannot be compared.
        Unavailable: the database does not answer.
    """
    missing: list[RefusedChoice] = []

    def attempt() -> bool | None:
        try:
            records.record(opinion, chooser)
        except RefusedChoice as error:
            if not error.is_missing:
                raise
            missing.append(error)
            return None
        return True

    try:
        is_stored = await retry_until_written(attempt)
    except RefusedChoice as error:
        raise InvalidRequest(str(error), param=error.field) from None
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None
    if is_stored is None:
        raise NotFound(str(missing[-1]), param=missing[-1].field)
