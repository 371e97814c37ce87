"""What a tier refuses of a request, and what is learned from it.

The two tiers accept different fields, and the client does not know which one will answer. A field
that its server does not accept is renamed or left out: the request is sent again, and the next one
is sent without the field at once. A field that changes what is asked for stays, and the other tier
answers. Where the client chose the tier, only what the proxy itself added is taken back.

What else the local tier refuses, such as tools, images or a long prompt, goes to the cloud. If the
cloud accepts it, the local model is not asked for the like for a while.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from proxy.gateway.call import Call, LocalRefusal, upstream_body
from proxy.gateway.failover import Failure
from proxy.gateway.large_bodies import run_large
from proxy.gateway.relay import CompleteResponse, StreamStart
from proxy.protocol import Fields
from proxy.protocol.refusals import RENAMED, USAGE_FIELD, RefusedField, read_refusal
from proxy.record import Reason, Target
from proxy.routing import features_of, length_of

MAX_ADAPTATIONS: Final = 8  # of one request; servers name one field at a time
_STATUSES: Final = frozenset({400, 422})

_raw_fields = msgspec.json.Decoder(Fields)


class Adaptation:
    """The bodies of one request to one tier, each without what the last answer has refused.

    Attributes:
        failure: why the other tier should answer, if the tier does not accept a field that the
            answer depends on.
    """

    def __init__(self, call: Call, target: Target, model: str) -> None:
        self.failure: Failure | None = None
        self._call = call
        self._target = target
        self._model = model
        self._path = call.endpoint.path
        self._learned = call.snapshot.upstreams[target].learned
        self._may_change = call.record.reason is not Reason.FORCED
        self._asks_for_usage = True
        self._left = MAX_ADAPTATIONS
        self._body = b""

    def body(self, change: Callable[[Fields], None] | None) -> bytes:
        """The body to send now. The record gets the client's fields that it lacks."""
        adapted: list[str] = []
        self._body = upstream_body(
            self._call,
            self._target,
            self._model,
            change=change,
            asks_for_usage=self._asks_for_usage,
            adapted=adapted,
        )
        self._call.record.adapted = tuple(adapted)
        return self._body

    async def accepts(
        self, status: int, start: CompleteResponse | StreamStart, failure: Failure | None
    ) -> bool:
        """Whether the answer stands. Otherwise the request is to be sent again, changed.

        Args:
            failure: of the answer, as far as it is known.
        """
        if start.error is None:
            self._note_success(start)
            return True
        if status not in _STATUSES or not self._left:
            return True
        self._left -= 1
        fields = await run_large(len(self._body), partial(_raw_fields.decode, self._body))
        refused = read_refusal(start.error).fields_among(fields)
        has_own_usage = self._asks_for_usage and self._has_own_usage(fields)
        if not self._may_change:
            refused = [field for field in refused if field == USAGE_FIELD and has_own_usage]
        if not all(map(self._is_adaptable, refused)):
            self.failure = Failure("capability", may_retry=False, is_refusal=True)
            return True
        for field in refused:
            self._learned.note_field(self._model, self._path, field)
            self._call.record.step("the %s tier does not accept %s", self._target, field.name)
        if refused:
            return False
        is_explained = failure is not None and failure.why != "refused"
        return is_explained or not (has_own_usage and self._withdraw_usage())

    def _is_adaptable(self, field: RefusedField) -> bool:
        """Whether the request may be sent without a field, or with its other name."""
        other = RENAMED.get(field.name)
        if other is None:
            return field.is_optional
        return RefusedField(other) not in self._learned.fields(self._model, self._path)

    def _has_own_usage(self, fields: Fields) -> bool:
        """Whether the proxy has added all of the stream options."""
        name = USAGE_FIELD.name
        return name in fields and name not in _raw_fields.decode(self._call.body)

    def _withdraw_usage(self) -> bool:
        """Do not ask for the usage any more, unless the server is known to accept that.

        Servers refuse the option in many words, and sometimes in none.
        """
        if self._learned.accepts_usage(self._model, self._path):
            return False
        self._asks_for_usage = False
        self._call.record.step("the %s tier is not asked for the stream's usage", self._target)
        return True

    def _note_success(self, start: CompleteResponse | StreamStart) -> None:
        """Learn from an answer what the server supports, and whether a stream reports its usage."""
        call = self._call
        if self._target is Target.LOCAL:
            features = features_of(call.request, call.record.turns or ())
            self._learned.note_supported(self._model, features)
        if not isinstance(start, StreamStart) or not call.endpoint.usage_on_demand:
            return
        if self._asks_for_usage:
            self._learned.note_usage(self._model, self._path)
        else:
            self._learned.note_field(self._model, self._path, USAGE_FIELD)


def read_local_refusal(
    call: Call, failure: Failure, start: CompleteResponse | StreamStart | None
) -> LocalRefusal | None:
    """What the local model refuses of a request, for `learn_refusal`."""
    if not failure.is_refusal or start is None or start.error is None:
        return None
    assert call.record.model is not None  # it has answered
    turns = call.record.turns or ()
    refusal = read_refusal(start.error)
    if refusal.is_about_length:
        tokens = length_of(call.request, call.record)
        return LocalRefusal(call.record.model, tokens=tokens)
    features = refusal.features_among(features_of(call.request, turns))
    return LocalRefusal(call.record.model, features) if features else None


def learn_refusal(call: Call) -> None:
    """Learn what the local model has refused, as the cloud has accepted the same request."""
    refusal, call.refusal = call.refusal, None
    if refusal is None:
        return
    learned = call.snapshot.upstreams[Target.LOCAL].learned
    for feature in refusal.features:
        learned.note_feature(refusal.model, feature)
    if refusal.tokens is not None:
        learned.note_length(refusal.model, refusal.tokens)
