"""Who made which answer of the Responses API, and what went before it: what a client may continue.

A cloud remembers its own answers, so of those only the tier is kept. Ollama remembers nothing;
where prompts may be kept at all (`storage.prompts: full`), we do it for the local tier. An answer
belongs to the API key it was made for.
"""

import asyncio
from collections import OrderedDict
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.protocol.fields import validation_error
from proxy.protocol.responses import ResponsesRequest, ResponseView, find_item, read_reference
from proxy.record import Target
from proxy.storage.database import StoreUnavailable
from proxy.storage.lookups import StoredResponse
from proxy.storage.writer import Store

# Remembered here as well, until the database surely has them. Conversations may hold images.
MAX_LATEST: Final = 1_000
MAX_LATEST_CHARS: Final = 2**24

_items = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


class StoredResponses:
    """The answers that may be continued."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: OrderedDict[str, StoredResponse | None] = OrderedDict()  # None: deleted
        self._chars = 0

    def remember(
        self, seen: ResponseView, request: ResponsesRequest, *, target: Target, client: str | None
    ) -> None:
        """An answer is whole. `client`: whose it is, by the hash of the key."""
        if seen.id is None:
            return
        items = body = None
        if target is Target.LOCAL and request.may_be_continued and self._store.keeps_text:
            # What a server sends may be no UTF-8 where nobody had to look; it is an answer still.
            items = _encoder.encode([*request.items, *seen.output]).decode(errors="replace")
            body = seen.body.decode(errors="replace")
        kept = StoredResponse(seen.id, target, client, items, len(request.items), body)
        self._remember(seen.id, kept)
        self._store.store_response(kept)

    async def find(self, response_id: str, client: str | None) -> StoredResponse | None:
        """What is known of an answer; None when it was not made here, as far as is known.

        Raises:
            InvalidRequest: it was made for somebody else.
            Unavailable: whether it was cannot be found out now.
        """
        if response_id in self._latest:
            kept = self._latest[response_id]
        else:
            try:
                kept = await asyncio.to_thread(self._store.lookups.find_response, response_id)
            except StoreUnavailable:
                if client is None:  # no key to keep from another's
                    return None
                raise Unavailable("Whose answer that is cannot be looked up now.") from None
        if kept is not None and kept.client_key_hash != client:
            raise unknown(response_id)
        return kept

    async def resolve(self, items: list[msgspec.Raw], client: str | None) -> list[msgspec.Raw]:
        """The items, with those of local answers in place of references to them.

        Other references stay: the cloud knows what they mean.

        Raises:
            NotFound: there is no such item, or it was made for somebody else.
            InvalidRequest: it was not kept.
            Unavailable: see `find`.
        """
        resolved = list(items)
        for index, raw in enumerate(items):
            if (reference := read_reference(raw)) is None:
                continue
            item_id, response_id = reference
            at = f"input[{index}].id"
            missing = NotFound(f"Item with id '{item_id}' not found.", param=at)
            try:
                kept = await self.find(response_id, client)
            except InvalidRequest:
                raise missing from None
            if kept is not None and kept.target is Target.LOCAL:
                item = find_item(load_items(kept, param=at), item_id)
                if item is None:
                    raise missing
                resolved[index] = item
        return resolved

    def forget(self, response_id: str) -> None:
        """The client has deleted an answer."""
        self._remember(response_id, None)
        self._store.forget_response(response_id)

    def _remember(self, response_id: str, kept: StoredResponse | None) -> None:
        self._chars += _chars_of(kept) - _chars_of(self._latest.pop(response_id, None))
        self._latest[response_id] = kept
        while len(self._latest) > MAX_LATEST or self._chars > MAX_LATEST_CHARS:
            _, oldest = self._latest.popitem(last=False)
            self._chars -= _chars_of(oldest)


def _chars_of(kept: StoredResponse | None) -> int:
    return len(kept.items or "") + len(kept.body or "") if kept is not None else 0


def load_items(kept: StoredResponse, *, param: str = "previous_response_id") -> list[msgspec.Raw]:
    """Input and output of an answer of the local tier, as the input of the next.

    Args:
        param: the field that asks for them.

    Raises:
        InvalidRequest: they were not kept.
    """
    if kept.items is None:
        raise InvalidRequest(
            f"The response '{kept.id}' cannot be continued: it came from the local model, and was "
            "not stored. Send the conversation as 'input' instead.",
            param=param,
            code="previous_response_not_found",
        )
    return _items.decode(kept.items)


class Page(msgspec.Struct):
    """Which of a list, as OpenAI's clients ask for it: the newest first, unless told otherwise."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: str | None = None


def read_page(query: str) -> Page:
    """The page that a query string asks for.

    Raises:
        InvalidRequest: it has a value that no page has; `param` names it.
    """
    try:
        return msgspec.convert(dict(parse_qsl(query)), Page, strict=False)
    except msgspec.ValidationError as error:
        raise validation_error(str(error)) from None


def list_input_items(kept: StoredResponse, page: Page) -> dict[str, Any]:
    """GET /v1/responses/{id}/input_items for an answer of the local tier."""
    items = load_items(kept)[: kept.input_items]
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
    """An input item as OpenAI tells it: messages are named so and have their text in parts."""
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {"type": "message", "status": "completed"} | item | {"content": content}


def unknown(response_id: str) -> InvalidRequest:
    """As OpenAI says it."""
    return InvalidRequest(
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )
