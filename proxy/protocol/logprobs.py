"""Token log-probabilities of a chat answer, as evidence for the second look.

    logprobs = LogprobReader(removes=True)
    logprobs.ask(fields)                 # of the request
    sent = logprobs.take(event, data)    # each event, or the answer; without the log-probabilities
    logprobs.tokens

Source: OpenAI's API reference (`logprobs`, `top_logprobs`). llama.cpp, vLLM and Ollama (0.12.11 and
later) have the same fields.
"""

from typing import Final

import msgspec

from proxy.protocol.fields import Fields, replace_json
from proxy.protocol.views import UNREADABLE
from router_model.second_look import Token

# The chosen token and the best alternative.
TOP_LOGPROBS: Final = 2
MAX_TOKENS: Final = 32_768  # that are kept of one answer

_FIELD: Final = b'"logprobs"'
_NULL: Final = msgspec.Raw(b"null")


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_answer: Final = msgspec.json.Decoder(_Answer)
_logprobs: Final = msgspec.json.Decoder(_Logprobs)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()


class LogprobReader:
    """Reads the log-probabilities of one answer, complete or streamed.

    Args:
        removes: whether they are taken out again, because the client did not ask for them.

    Attributes:
        tokens: of the answer so far.
        has_unread: whether something passed that could not be read, and may contain them.
    """

    def __init__(self, *, removes: bool) -> None:
        self.removes = removes
        self.tokens: list[Token] = []
        self.has_unread = False

    def ask(self, fields: Fields) -> None:
        """Request the log-probability of each token and of one alternative.

        A request whose client asks for log-probabilities itself is not changed.
        """
        if self.removes:
            fields["logprobs"], fields["top_logprobs"] = (
                msgspec.Raw(b"true"),
                msgspec.Raw(b"%d" % TOP_LOGPROBS),
            )

    def take(self, event: bytes, data: bytes) -> bytes:
        """Read one event, or a whole answer. Returns it as the client gets it.

        Args:
            data: the JSON in the event. What cannot be read passes unchanged.
        """
        if _FIELD not in data:
            return event
        try:
            fields = _fields.decode(data)
            choices = [_fields.decode(raw) for raw in _list.decode(fields["choices"])]
        except (*UNREADABLE, KeyError):
            self.has_unread = True
            return event
        has_any = False
        for choice in choices:
            raw = choice.get("logprobs", _NULL)
            if bytes(raw) == b"null":
                continue
            has_any = True
            self._read(raw)
            choice["logprobs"] = _NULL
        if not (has_any and self.removes):
            return event
        fields["choices"] = msgspec.Raw(_encoder.encode(choices))
        return replace_json(event, data, fields)

    def _read(self, raw: msgspec.Raw) -> None:
        try:
            found = _logprobs.decode(raw).content or []
        except UNREADABLE:
            return
        for item in found[: MAX_TOKENS - len(self.tokens)]:
            top = item.top_logprobs or ()
            others = [other.logprob for other in top if other.token != item.token]
            margin = item.logprob - max(others) if others else None
            self.tokens.append(Token(item.token, item.logprob, margin))


def first_alternatives(body: bytes) -> dict[str, float]:
    """The log-probabilities of the alternatives for an answer's first token, by their text."""
    try:
        answer = _answer.decode(body)
    except UNREADABLE:
        return {}
    found = answer.choices[0].logprobs if answer.choices else None
    if found is None or not found.content:
        return {}
    first = found.content[0]
    return {item.token: item.logprob for item in first.top_logprobs or ()}
