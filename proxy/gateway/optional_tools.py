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
    fields = await _read_fields(call)
    for reduction in _reductions(call, fields, is_forced=is_forced):
        reduced = await _reduce(call, fields, reduction)
        record.counted_tokens = None
        if reduced and await limits.check(reduced.request, capabilities, record) is None:
            _use(call, reduced)
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
    fields = await _read_fields(call)
    for reduction in _reductions(call, fields, is_forced=is_forced):
        if reduction.drops_all and (reduced := await _reduce(call, fields, reduction)):
            _use(call, reduced)
            call.record.counted_tokens = None
            return True
    return False


def _use(call: Call, reduced: Reduced) -> None:
    call.reduced = reduced
    call.record.step("the local tier does not get %s", ", ".join(reduced.fields))


async def _read_fields(call: Call) -> Fields:
    return await run_large(len(call.body), partial(_raw_fields.decode, call.body))


async def _reduce(call: Call, given: Fields, reduction: _Reduction) -> Reduced | None:
    """The smaller request; None if it lacks tools that are in use, or offers none all the same."""
    return await run_large(len(call.body), partial(_read_reduced, call, given, reduction))


def _read_reduced(call: Call, given: Fields, reduction: _Reduction) -> Reduced | None:
    fields = dict(given)
    reduction.change(fields)
    request = view_request(call, _encoder.encode(fields))
    if has_used_tools(request) if reduction.drops_all else not offers_tools(request):
        return None
    names = tuple(name for name in given if fields.get(name) is not given[name])
    return Reduced(request, reduction.change, names)


def _reductions(call: Call, fields: Fields, *, is_forced: bool) -> Iterator[_Reduction]:
    """The changes that are allowed, the least first."""
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
            if is_forced or may_leave_out(names, call.record.turns or ()):
                yield _Reduction(drop_tools, drops_all=True)
