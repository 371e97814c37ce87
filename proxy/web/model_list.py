"""The models that a client may name, as GET /v1/models lists them."""

import asyncio
from typing import Final

from proxy.gateway import Snapshot
from proxy.protocol.model_list import (
    ListedModel,
    read_model_list,
    type_by_capabilities,
    type_by_name,
)
from proxy.record import Target
from proxy.upstream import Upstream

OWNER: Final = "hybrid-llm-router"
# Unix seconds, 2026-11-30, for models whose server does not say. Front ends sort by it.
_CREATED: Final = 1_795_996_800

Entry = dict[str, object]


async def list_entries(snapshot: Snapshot) -> dict[str, Entry]:
    """The entries by id: the proxy's own names, then the models of each tier.

    Each has OpenAI's fields, `name` and `type`; and `context_length` and `capabilities` where they
    are known. Nothing is queried per model.
    """
    tiers = [snapshot.upstreams[target] for target in Target]
    bodies = await asyncio.gather(*(tier.catalog.list_models() for tier in tiers))
    listed = [{model.id: model for model in read_model_list(body or b"") or ()} for body in bodies]
    local, cloud = (
        _entry(models.get(tier.model) or _unlisted(tier.model), tier)
        for tier, models in zip(tiers, listed, strict=True)
    )
    entries = {
        "auto": _own("auto", "Auto (local or cloud)", cloud),  # what only the cloud can goes there
        "local": _own("local", f"Local ({local['id']})", local),
        "cloud": _own("cloud", f"Cloud ({cloud['id']})", cloud),
    }
    for tier, configured, models in zip(tiers, (local, cloud), listed, strict=True):
        entries.setdefault(tier.model, configured)
        for model in models.values():
            if model.id not in entries:
                entries[model.id] = _entry(model, tier)
    return entries


def _own(model_id: str, name: str, tier: Entry) -> Entry:
    """The entry of a name of the proxy's own, with what a tier's model can do."""
    named = {"id": model_id, "owned_by": OWNER, "name": name, "created": _CREATED}
    return tier | named


def _unlisted(model: str) -> ListedModel:
    return ListedModel(model, model_type=type_by_name(model))


def _entry(model: ListedModel, tier: Upstream) -> Entry:
    """The entry of a tier's model. What the tier knows of it wins over what the list says."""
    known = tier.catalog.known_capabilities(model.id)
    context_tokens, capabilities = known.context_tokens, known.capabilities
    entry: Entry = {
        "id": model.id,
        "object": "model",
        "created": model.created or _CREATED,
        "owned_by": tier.name,
        "name": model.name or model.id,
        "type": type_by_capabilities(capabilities) or model.model_type,
    }
    if context_tokens or model.context_tokens:
        entry["context_length"] = context_tokens or model.context_tokens
    if capabilities is not None:
        entry["capabilities"] = sorted(capabilities)
    return entry
