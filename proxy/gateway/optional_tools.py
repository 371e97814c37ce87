"""What the local tier need not get of a request: the tools that the client merely offers.

Chat front ends offer tools with every message, and most messages need none. If the local model has
no tools, or the offered ones do not fit into its context, it answers without them, as far as
`routing.optional_tools` allows. The cloud gets the request unchanged.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec

from proxy.gateway.call import Call, Reduced, view_request
from proxy.gateway.large_bodies import run_large
from proxy.protocol import Fields
from proxy.protocol.offered_tools import (
    drop_choice,
    drop_tools,
    has_free_choice,
    has_used_tools,
    keep_functions,
    offers_tools,
    read_names,
)
from proxy.record import Target
from proxy.routing import LimitExceeded, LocalLimits, is_built_in, may_leave_out
from proxy.upstream import Capabilities

_raw_fields = msgspec.json.Decoder(Fields)
_encoder = msgspec.json.Encoder()


class _Reduction(NamedTuple):
    """A way to make a request smaller.

    Attributes:
        drops_all: whether no tool is left, which a conversation that has used one does not allow.
    """

    change: Callable[[Fields], None]
    drops_all: bool = False


async def check_local(
    call: Call, limits: LocalLimits, capabilities: Capabilities, *, is_forced: bool
) -> LimitExceeded | None:
    """The limit of the local model that a request exceeds, or None.

    The call gets what is left out of the request so that it exceeds none.

    Args:
        is_forced: whether the client has chosen the local tier.
    """
    record = call.record
    call.reduced = None
    limit = await limits.check(call.request, capabilities, record)
    call.counted_tokens = record.counted_tokens
    if limit is None or not offers_tools(call.request):
        return limit
    for reduced in await _reduced_requests(call, is_forced=is_forced):
        record.counted_tokens = None
        if await limits.check(reduced.request, capabilities, record) is None:
            call.reduced = reduced
            record.step("the local tier does not get %s", ", ".join(reduced.fields))
            return None
    record.counted_tokens = call.counted_tokens
    return limit


async def drop_refused_tools(call: Call, *, is_forced: bool) -> bool:
    """Leave out all tools, as the local server refuses them or is known to.

    Returns:
        False if they are needed, or left out already.
    """
    if not offers_tools(call.request_to(Target.LOCAL)):
        return False
    smaller = await _reduced_requests(call, is_forced=is_forced)
    smallest = next((item for item in reversed(smaller) if not offers_tools(item.request)), None)
    if smallest is None:
        return False
    call.reduced, call.record.counted_tokens = smallest, None
    call.record.step("the local tier does not get %s", ", ".join(smallest.fields))
    return True


async def _reduced_requests(call: Call, *, is_forced: bool) -> list[Reduced]:
    """What may be left out of a request that offers tools, the least first."""
    return await run_large(len(call.body), partial(_read_reduced, call, is_forced=is_forced))


def _read_reduced(call: Call, *, is_forced: bool) -> list[Reduced]:
    given = _raw_fields.decode(call.body)
    smaller = []
    for change, drops_all in _reductions(call, given, is_forced=is_forced):
        fields = dict(given)
        change(fields)
        request = view_request(call, _encoder.encode(fields))
        if not has_used_tools(request) if drops_all else offers_tools(request):
            names = tuple(name for name in given if fields.get(name) is not given[name])
            smaller.append(Reduced(request, change, names))
    return smaller


def _reductions(call: Call, fields: Fields, *, is_forced: bool) -> Iterator[_Reduction]:
    routing = call.snapshot.config.routing
    if is_forced and routing.local_tool_choice == "lenient":
        yield _Reduction(drop_choice)
    if not has_free_choice(fields):
        return
    principal = call.principal
    match (principal and principal.optional_tools) or routing.optional_tools:
        case "drop":
            yield _Reduction(keep_functions)
            yield _Reduction(drop_tools, drops_all=True)
        case "auto":
            names = read_names(fields)
            if names is None or not is_built_in(names):
                return
            # A forced request has either an answer without the tools or an error.
            if is_forced or may_leave_out(names, call.last_user_text):
                yield _Reduction(drop_tools, drops_all=True)
