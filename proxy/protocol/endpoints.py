"""The endpoints that the gateway parses: how requests, answers and errors of each are formatted.

The differences between endpoints are here and in the wire formats. The gateway treats all alike.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from proxy.errors import RouterError, envelope
from proxy.protocol import response_objects, responses
from proxy.protocol.answer_parts import read_chat, read_response
from proxy.protocol.chat import (
    has_output,
    has_vectors,
    parse_chat,
    parse_completion,
    parse_embedding,
    view_answer,
)
from proxy.protocol.fields import Fields
from proxy.protocol.ollama import adapt_chat, adapt_responses
from proxy.protocol.views import AnswerView, RoutingRequest
from router_model.answer_checks import LocalAnswer


def _event_of(error: RouterError) -> bytes:
    """The event that OpenAI's clients raise as an error in a stream of chunks."""
    return b"data: " + envelope(error) + b"\n\n"


def _is_answer(view: AnswerView, _: bytes) -> bool:
    return view.is_answer


class Endpoint(NamedTuple):
    """One endpoint.

    Attributes:
        name: its name in rows and metrics.
        path: relative to a base URL.
        parse: parses a request; raises InvalidRequest.
        view: reads a complete answer or one event of a stream; None for an unknown form.
        has_output: whether an event of a stream has output in fields that `view` does not read.
        is_answer: whether a complete body, viewed, is an answer and not something else.
        error_body: the body of an answer that is an error.
        error_event: the last event of a stream that cannot go on.
        read_parts: reads the parts of a complete answer; None for an unknown form.
        adapt: changes a request's fields for a server with `Capabilities.needs_adapting`.
        usage_on_demand: whether a stream has its usage only on request.
        ends_with_done: whether [DONE] ends a stream; otherwise its finishing event does.
        is_routed: whether the router may choose the tier.
    """

    name: str
    path: str
    parse: Callable[[bytes], RoutingRequest]
    view: Callable[[bytes], AnswerView | None]
    error_body: Callable[[RouterError], bytes] = envelope
    error_event: Callable[[RouterError], bytes] = _event_of
    has_output: Callable[[bytes], bool] = has_output
    is_answer: Callable[[AnswerView, bytes], bool] = _is_answer
    read_parts: Callable[[bytes], LocalAnswer | None] = read_chat
    adapt: Callable[[Fields], None] | None = None
    usage_on_demand: bool = True
    ends_with_done: bool = True
    is_routed: bool = True


CHAT: Final = Endpoint(
    "chat.completions",
    "/chat/completions",
    parse_chat,
    view_answer,
    adapt=adapt_chat,
)
COMPLETIONS: Final = Endpoint("completions", "/completions", parse_completion, view_answer)
EMBEDDINGS: Final = Endpoint(
    "embeddings",
    "/embeddings",
    parse_embedding,
    view_answer,
    is_answer=lambda _, body: has_vectors(body),
    is_routed=False,
)
# All other paths below /v1: passed through without parsing.
OTHER: Final = Endpoint(
    "other", "", parse_embedding, view_answer, usage_on_demand=False, is_routed=False
)
RESPONSES: Final = Endpoint(
    "responses",
    "/responses",
    responses.parse_responses,
    response_objects.view_response,
    error_event=response_objects.error_event,
    has_output=lambda _: False,  # its events have types
    read_parts=read_response,
    adapt=adapt_responses,
    usage_on_demand=False,
    ends_with_done=False,
)
ROUTED: Final = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)

# Passed-through requests that neither read nor change what the cloud account stores. Any other one
# may: files, batches, stored completions, fine-tuned models and the rest belong to the account,
# not to the API key that created them.
STATELESS_POSTS: Final = frozenset(
    {
        "/audio/speech",
        "/audio/transcriptions",
        "/audio/translations",
        "/images/edits",
        "/images/generations",
        "/images/variations",
        "/moderations",
        "/responses/compact",
        "/responses/input_tokens",
    }
)

# The first steps of paths that clients with a wrong base URL ask for without /v1, and what other
# services have in the place of /v1.
_FIRST_STEPS: Final = frozenset(
    "audio batches chat completions embeddings feedback files images messages models moderations "
    "responses".split()
)

_OTHER_BASE: Final = re.compile(
    r"/*(?:(?:openai|anthropic|compatible-mode)/+)?(?:api/+(?=v\d))?(?:v\d\w*/+)*", re.IGNORECASE
)
# What a path below /v1 begins with if the client's base URL has /v1 and its own path a base, too.
_SECOND_BASE: Final = re.compile(r"v\d\w*|api|openai", re.IGNORECASE | re.ASCII)

# The characters of a step of a path, decoded: those of names and ids. A lenient upstream may trim
# control characters, spaces and final dots, decode `%` once more, or cut off what follows `;?#`,
# and so read another path than the one that was checked.
_OPEN_IN_A_STEP: Final = "!$&'()*+,=:@"  # RFC 3986, section 3.3, without `;`
_STEP: Final = re.compile(r"[\w.~!$&'()*+,=:@-]*[\w~!$&'()*+,=:@-]", re.ASCII)


class Path(NamedTuple):
    """A path below /v1 in its normal form, so that the upstream reads the path that was checked.

    Attributes:
        steps: the decoded segments. An encoded slash separates segments too, as some upstreams do.
        sent: the encoded path, relative to a base URL.
    """

    steps: tuple[str, ...]
    sent: str

    @property
    def name(self) -> str:
        """The path for comparisons, in lower case: some upstreams ignore case."""
        return "/" + "/".join(self.steps).lower()


def meant_path(path: str) -> str | None:
    """The path of the API that a path outside of /v1 means; None if it means none."""
    rest = path[_OTHER_BASE.match(path).end() :]  # type: ignore[union-attr]  # matches everything
    return f"/v1/{rest}" if rest.partition("/")[0] in _FIRST_STEPS else None


def has_second_base(path: Path) -> bool:
    """Whether a path below /v1 begins with the base of another API, such as `v1` or `api`."""
    return _SECOND_BASE.fullmatch(path.steps[0]) is not None


def read_path(raw: bytes) -> Path | None:
    """The path of a request line.

    Returns None for a path that an upstream or an intermediary might read as another one: with
    empty segments, with `.` or `..`, or with a character that no name or id has.
    """
    parts = [unquote_to_bytes(part) for part in raw.removesuffix(b"/").split(b"/")]
    below = b"/".join(parts[2:]).replace(b"\\", b"/").decode(errors="replace")
    steps = tuple(below.split("/"))
    if parts[:2] != [b"", b"v1"] or not all(map(_STEP.fullmatch, steps)):
        return None
    return Path(steps, "".join("/" + quote(part, safe=_OPEN_IN_A_STEP) for part in parts[2:]))
