"""What a tier refuses of a request, and what is learned from it.

The two tiers accept different fields, and the client does not know which one will answer. A field
that its server does not accept is renamed or left out: the request is sent again, and the next one
is sent without the field at once. A field that changes what is asked for stays, and the other tier
answers. Where the client chose the tier, only what the proxy itself added is taken back.

What else the local tier refuses, such as tools, images or a long prompt, goes to the cloud. If the
cloud accepts it, the local model is not asked for the like for a while.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from proxy.gateway.call import Call, LocalRefusal, upstream_body
from proxy.gateway.failover import AMBIGUOUS, Failure
from proxy.gateway.large_bodies import run_large
from proxy.gateway.optional_tools import drop_refused_tools
from proxy.gateway.relay import CompleteResponse, StreamStart
from proxy.plain_text import one_line
from proxy.protocol import Fields
from proxy.protocol.refusals import RENAMED, USAGE_FIELD, RefusedField, read_refusal
from proxy.record import Reason, Target
from proxy.routing import LocalLimits, features_of
from proxy.upstream import FEATURES_SECONDS

logger = logging.getLogger(__name__)

MAX_LOGGED_CHARS: Final = 300  # of a server's words
MIN_TOKENS: Final = 1024  # no model has a shorter context: its error is about something else
MAX_ADAPTATIONS: Final = 8  # of one request; servers name one field at a time
_STATUSES: Final = frozenset({400, 422})
_LOGPROBS: Final = frozenset({"logprobs", "top_logprobs"})  # that a second look asks for

_raw_fields = msgspec.json.Decoder(Fields)


class Adaptation:
    """The bodies of one request to one tier, each without what the last answers have refused.

    What was refused is learned when the changed request has an answer: an error may repeat the
    client's own words.

    Attributes:
        failure: why the other tier should answer, if the tier does not accept a field that the
            answer depends on.
    """

    def __init__(self, call: Call, target: Target, model: str) -> None:
        self.failure: Failure | None = None
        self._call = call
        self._target = target
        self._model = model
        wire = call.wire(target)
        self._path = wire.path
        self._is_native = wire.native is not None  # it is sent as the client wrote it
        self._learned = call.snapshot.upstreams[target].learned
        self._refused: list[RefusedField] = []
        self._asks_for_usage = self._asks_for_logprobs = True
        self._left = MAX_ADAPTATIONS
        self._refuses_tools = False
        self._body = b""

    def body(self, change: Callable[[Fields], None] | None) -> bytes:
        """The body to send now. The record gets the client's fields that it lacks.

        Args:
            change: asks for log-probabilities, if the proxy wants them.
        """
        adapted: list[str] = []
        self._body = upstream_body(
            self._call,
            self._target,
            self._model,
            change=change if self._asks_for_logprobs else None,
            asks_for_usage=self._asks_for_usage,
            refused=self._refused,
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
        if await self._drops_tools(status, start.error):
            return False
        if status not in _STATUSES or not self._left or self._is_native:
            return True
        self._left -= 1
        sent, given = await run_large(len(self._body) + len(self._call.body), self._read_fields)
        refused = read_refusal(start.error).fields_among(sent)
        own = {field.name for field in refused if field.name not in given}
        if own & _LOGPROBS and self._asks_for_logprobs:
            self._asks_for_logprobs = False
            return False
        has_own_usage = USAGE_FIELD.name in sent and USAGE_FIELD.name not in given
        if USAGE_FIELD.name in own:
            self._asks_for_usage = False
            return False
        refused = [field for field in refused if self._call.may_withhold(field)]
        if not all(map(self._is_adaptable, refused)):
            self.failure = Failure("capability", may_retry=False, is_refusal=True)
            return True
        for field in refused:
            self._call.record.step("the %s tier does not accept %s", self._target, field.name)
        self._refused += refused
        if refused:
            return False
        is_explained = failure is not None and failure.why != "refused"
        return is_explained or not (has_own_usage and self._withdraw_usage())

    async def _drops_tools(self, status: int, error: bytes) -> bool:
        """Whether the local server refuses tools, or the length with them, and needs none.

        What the server of a tier says of them also comes with a status for its own errors.
        """
        if self._target is not Target.LOCAL or status not in _STATUSES | AMBIGUOUS:
            return False
        refusal = read_refusal(error)
        refuses_tools = bool(refusal.features_among(["tools"]))
        if not (refuses_tools or refusal.is_about_length):
            return False
        is_forced = self._call.record.reason is Reason.FORCED
        if not await drop_refused_tools(self._call, is_forced=is_forced):
            return False
        self._refuses_tools = refuses_tools
        return True

    def _read_fields(self) -> tuple[Fields, Fields]:
        """The fields as they were sent, and as the client gave them."""
        return _raw_fields.decode(self._body), _raw_fields.decode(self._call.body)

    def _is_adaptable(self, field: RefusedField) -> bool:
        """Whether the request may be sent without a field, or with its other name."""
        other = RENAMED.get(field.name)
        if other is None:
            return field.is_optional
        known = [*self._refused, *self._learned.fields(self._model, self._path)]
        return RefusedField(other) not in known

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
        """Learn from an answer what its server accepts, and what it had refused before."""
        call = self._call
        if not self._asks_for_usage:
            self._note_field(USAGE_FIELD)
        elif isinstance(start, StreamStart) and b'"include_usage"' in self._body:
            self._learned.note_usage(self._model, self._path)
        for field in self._refused:
            self._note_field(field)
        if not self._asks_for_logprobs and self._learned.note_feature(self._model, "logprobs"):
            _log_closed(self._model, "log-probabilities")
        if self._refuses_tools and self._learned.note_feature(self._model, "tools"):
            _log_closed(self._model, "tools")
        if self._target is Target.LOCAL:
            features = features_of(call.request_to(Target.LOCAL), call.record.turns or ())
            self._learned.note_supported(self._model, features)

    def _note_field(self, field: RefusedField) -> None:
        if not field.may_be_learned:
            return
        self._learned.note_field(self._model, self._path, field)
        logger.info(
            "%s upstream: %s does not accept the field %s; it is left out or renamed",
            self._target,
            self._model,
            field.name,
        )


async def read_local_refusal(
    call: Call, start: CompleteResponse | StreamStart | None, limits: LocalLimits
) -> LocalRefusal | None:
    """What the local model refuses of a request, for `learn_refusal`."""
    if start is None or start.error is None:
        return None
    assert call.record.model is not None  # it has answered
    refusal, request = read_refusal(start.error), call.request_to(Target.LOCAL)
    if refusal.is_about_length:
        tokens = await limits.measure(request, call.record)
        return LocalRefusal(call.record.model, tokens=tokens) if tokens >= MIN_TOKENS else None
    features = refusal.features_among(features_of(request, call.record.turns or ()))
    return LocalRefusal(call.record.model, features) if features else None


def learn_refusal(call: Call) -> None:
    """Learn what the local model has refused, as the cloud has accepted the same request."""
    refusal, call.refusal = call.refusal, None
    if refusal is None:
        return
    learned = call.snapshot.upstreams[Target.LOCAL].learned
    for feature in refusal.features:
        if learned.note_feature(refusal.model, feature):
            _log_closed(refusal.model, feature)
    if refusal.tokens is not None:
        learned.note_length(refusal.model, refusal.tokens)
        _log_closed(refusal.model, f"{refusal.tokens} tokens")


def _log_closed(model: str, what: str) -> None:
    logger.warning(
        "local upstream: %s refuses this: %s. Requests that need it go to the cloud for %g minutes",
        model,
        what,
        FEATURES_SECONDS / 60,
    )


def log_refusal(
    call: Call, failure: Failure, status: int, start: CompleteResponse | StreamStart | None
) -> None:
    """Log that a tier has refused a request, once in a while for each model and status.

    With the server's words, unless prompts are not to be stored: they may repeat them. Credentials
    are removed.
    """
    target, model = call.record.target, call.record.model or ""
    assert target is not None  # a tier has refused
    if not call.snapshot.upstreams[target].learned.note_status(model, status):
        return
    words = ""
    if start is not None and start.error and call.snapshot.config.storage.prompts == "full":
        message = call.snapshot.redact(one_line(read_refusal(start.error).message))
        words = f": {message[:MAX_LOGGED_CHARS]}"
    logger.warning(
        "%s upstream: %s refused a request (status %d, %s), which the other tier answers%s",
        target,
        model,
        status,
        failure.why,
        words,
    )
