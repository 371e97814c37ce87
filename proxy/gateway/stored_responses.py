"""Stored responses of the Responses API, which a client may continue.

The cloud stores its own responses, so only their tier is stored here. The local server stores none:
the proxy stores them where `storage.prompts` is `full`. A response belongs to the API key that
requested it.
"""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.gateway.large_bodies import run_large
from proxy.protocol import validation_error
from proxy.protocol.response_objects import ResponseView
from proxy.protocol.responses import ResponsesRequest, find_item, read_reference
from proxy.record import MAX_NAME_CHARS, Target
from proxy.storage import Store, StoredResponse, StoreUnavailable

# Cached here as well, until the database has them. Conversations may contain images.
MAX_CACHED: Final = 1_000
MAX_CACHED_CHARS: Final = 2**24

_items = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


class StoredResponses:
    """The responses that may be continued.

    Args:
        max_cached: the number of the newest responses in memory.
        max_cached_chars: their total size.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_cached: int = MAX_CACHED,
        max_cached_chars: int = MAX_CACHED_CHARS,
    ) -> None:
        self._store = store
        self._max_cached = max_cached
        self._max_cached_chars = max_cached_chars
        self._latest: OrderedDict[str, StoredResponse | None] = OrderedDict()  # None: deleted
        self._chars = 0

    async def remember(
        self,
        view: ResponseView,
        request: ResponsesRequest,
        *,
        target: Target,
        client: str | None,
        keeps_text: bool = True,
    ) -> None:
        """Store a response; of one that has only begun, or was not seen in full, the owner.

        Args:
            client: the hash of the API key that owns it.
            keeps_text: whether its text may be stored; its owner always is.
        """
        if view.id is None or len(view.id) > MAX_NAME_CHARS:
            return  # `find` refuses such an id
        items = body = None
        keeps_text = keeps_text and self._store.keeps_text
        if target is Target.LOCAL and request.may_be_continued and keeps_text:
            size = sum(map(len, request.items)) + len(view.body)
            items, body = await run_large(size, partial(_texts_of, view, request))
        stored = StoredResponse(view.id, target, client, items, len(request.items), body)
        if self._latest.get(view.id) == stored:  # its first event has named it
            return
        self._remember(view.id, stored)
        self._store.store_response(stored)

    async def find(self, response_id: str, client: str | None) -> StoredResponse | None:
        """A stored response; None when the proxy has not stored it.

        Raises:
            InvalidRequest: it belongs to another key, or the id is its id in other case, which an
                upstream might ignore, or the id is too long to be stored.
            Unavailable: its owner cannot be verified now.
        """
        if len(response_id) > MAX_NAME_CHARS:
            raise unknown(f"{response_id[:MAX_NAME_CHARS]}…")
        stored = await self._look_up(response_id, client)
        if stored is None and (lower := response_id.lower()) != response_id:
            stored = await self._look_up(lower, client)
            if stored is not None:
                raise unknown(response_id)
        if stored is not None and stored.client_key_hash != client:
            raise unknown(response_id)
        return stored

    async def _look_up(self, response_id: str, client: str | None) -> StoredResponse | None:
        if response_id in self._latest:
            stored = self._latest[response_id]
        else:
            try:
                stored = await asyncio.to_thread(self._store.lookups.find_response, response_id)
            except StoreUnavailable:
                if client is None:  # without keys nothing is private
                    return None
                raise Unavailable(
                    "The owner of this response cannot be verified right now. Retry."
                ) from None
        return stored

    async def resolve(self, items: list[msgspec.Raw], client: str | None) -> list[msgspec.Raw]:
        """The items, with references to items of local responses replaced by these.

        Other references stay: the cloud resolves them.

        Raises:
            NotFound: the item does not exist, or belongs to another key.
            InvalidRequest: the item was not stored.
            Unavailable: see `find`.
        """
        resolved = list(items)
        references = await run_large(
            sum(map(len, items)), lambda: [read_reference(raw) for raw in items]
        )
        for index, reference in enumerate(references):
            if reference is None:
                continue
            item_id, response_id = reference
            at = f"input[{index}].id"
            missing = NotFound(f"Item with id '{item_id}' not found.", param=at)
            try:
                stored = await self.find(response_id, client)
            except InvalidRequest:
                raise missing from None
            if stored is not None and stored.target is Target.LOCAL:
                find = partial(_find_stored, stored, item_id, param=at)
                item = await run_large(len(stored.items or ""), find)
                if item is None:
                    raise missing
                resolved[index] = item
        return resolved

    def forget(self, response_id: str) -> None:
        """Delete a response."""
        self._remember(response_id, None)
        self._store.forget_response(response_id)

    def _remember(self, response_id: str, stored: StoredResponse | None) -> None:
        self._chars += _chars_of(stored) - _chars_of(self._latest.pop(response_id, None))
        self._latest[response_id] = stored
        while len(self._latest) > self._max_cached or self._chars > self._max_cached_chars:
            _, oldest = self._latest.popitem(last=False)
            self._chars -= _chars_of(oldest)


def _texts_of(view: ResponseView, request: ResponsesRequest) -> tuple[str, str]:
    """Input and output of a response, and the response itself, as stored.

    Parts that were not decoded may be invalid UTF-8. The response is stored anyway.
    """
    items = _encoder.encode([*request.items, *view.output]).decode(errors="replace")
    return items, view.body.decode(errors="replace")


def _find_stored(stored: StoredResponse, item_id: str, *, param: str) -> msgspec.Raw | None:
    return find_item(load_items(stored, param=param), item_id)


def _chars_of(stored: StoredResponse | None) -> int:
    return len(stored.items or "") + len(stored.body or "") if stored is not None else 0


def load_items(stored: StoredResponse, *, param: str = "previous_response_id") -> list[msgspec.Raw]:
    """Input and output of a response of the local tier, as input of the next.

    Args:
        param: the field that refers to the response.

    Raises:
        InvalidRequest: they were not stored.
    """
    if stored.items is None:
        raise InvalidRequest(
            f"The response '{stored.id}' cannot be continued: it came from the local model and was "
            "not stored. Send the conversation as 'input' instead.",
            param=param,
            code="previous_response_not_found",
        )
    return _items.decode(stored.items)


class Page(msgspec.Struct):
    """A page of a list in OpenAI's parameters; the newest item comes first by default."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: str | None = None


def read_page(query: str) -> Page:
    """The page that a query string asks for.

    Raises:
        InvalidRequest: a value is invalid; `param` names it.
    """
    try:
        return msgspec.convert(dict(parse_qsl(query)), Page, strict=False)
    except msgspec.ValidationError as error:
        raise validation_error(str(error)) from None


def list_input_items(stored: StoredResponse, page: Page) -> dict[str, Any]:
    """GET /v1/responses/{id}/input_items for a response of the local tier."""
    items = load_items(stored)[: stored.input_items]
    data = [
        {"id": f"item_{number}"} | _as_shown(msgspec.json.decode(raw))
        for number, raw in enumerate(items)
    ]
    if page.order == "desc":
        data.reverse()
    if page.after is not None:
        ids = [item["id"] for item in data]
        data = data[ids.index(page.after) + 1 :] if page.after in ids else []
    shown = data[: page.limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(data) > len(shown),
    }


def _as_shown(item: dict[str, Any]) -> dict[str, Any]:
    """An input item in OpenAI's form: messages have a type, and their text in parts."""
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {"type": "message", "status": "completed"} | item | {"content": content}


def unknown(response_id: str) -> InvalidRequest:
    """OpenAI's error for an unknown response."""
    return InvalidRequest(
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )
