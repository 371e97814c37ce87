"""The endpoints that the gateway parses: how requests, answers and errors of each are formatted.

The differences between endpoints are here and in the wire formats. The gateway treats all alike.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from proxy.errors import RouterError, envelope
from proxy.protocol import messages, response_objects, responses
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
from proxy.protocol.ollama_answers import (
    Translation,
    VectorTranslation,
    chat_form,
    error_body,
    error_line,
    generate_form,
    has_native_vectors,
    read_native_parts,
    view_native,
)
from proxy.protocol.ollama_native import (
    CHAT_NAME,
    EMBED_NAME,
    EMBEDDINGS_NAME,
    GENERATE_NAME,
    MANAGEMENT_NAME,
    NativeRequest,
    read_chat_request,
    read_embed_request,
    read_embeddings_request,
    read_generate_request,
)
from proxy.protocol.views import AnswerView, RoutingRequest
from router_model.answer_checks import LocalAnswer


def _event_of(error: RouterError) -> bytes:
    """The event that OpenAI's clients raise as an error in a stream of chunks."""
    return b"data: " + envelope(error) + b"\n\n"


def _is_answer(view: AnswerView, _: bytes) -> bool:
    return view.is_answer


class NativeForm(NamedTuple):
    """How requests and answers of a local server's own API are translated from and to OpenAI's.

    Attributes:
        read: reads a request; raises InvalidRequest.
        endpoint: of OpenAI's API, for the servers that do not have this API.
        translation: of an answer of that endpoint.
    """

    read: Callable[[bytes], NativeRequest]
    endpoint: "Endpoint"
    translation: Callable[..., Translation]


class Endpoint(NamedTuple):
    """One endpoint.

    Attributes:
        name: its name in rows and metrics.
        path: relative to a base URL; that of a native endpoint relative to the server's address.
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
        is_local: whether only the local tier has it.
        native: of an endpoint of a local server's own API. `parse` then reads the translation.
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
    is_local: bool = False
    native: NativeForm | None = None

    @property
    def is_generation(self) -> bool:
        """Whether a language model answers, with its own context."""
        return self.is_routed or self.is_local

    @property
    def openai(self) -> "Endpoint":
        """The endpoint of OpenAI's API for the same requests."""
        return self if self.native is None else self.native.endpoint


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
# Anthropic's API, which the cloud tier does not have.
MESSAGES: Final = Endpoint(
    "messages",
    "/messages",
    messages.parse_messages,
    messages.view_message,
    error_body=messages.error_body,
    error_event=messages.error_event,
    has_output=lambda _: False,  # its events have types
    adapt=messages.adapt_messages,
    usage_on_demand=False,
    ends_with_done=False,
    is_routed=False,
    is_local=True,
)
_OTHER_MESSAGES: Final = OTHER._replace(error_body=messages.error_body)
# Those below /v1 whose requests are parsed. Not all of them are routed.
PARSED: Final = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)


def _native_endpoint(name: str, path: str, form: NativeForm) -> Endpoint:
    """An endpoint of the local server's own API."""
    is_routed = form.endpoint.is_routed
    return Endpoint(
        name,
        path,
        form.endpoint.parse,
        view_native,
        error_body=error_body,
        error_event=error_line,
        has_output=lambda _: False,  # the view reads all that clients show
        is_answer=_is_answer if is_routed else lambda _, body: has_native_vectors(body),
        read_parts=read_native_parts,
        usage_on_demand=False,
        ends_with_done=False,
        is_routed=is_routed,
        native=form,
    )


NATIVE: Final = (
    _native_endpoint(
        CHAT_NAME,
        "/api/chat",
        NativeForm(read_chat_request, CHAT, partial(Translation, chat_form)),
    ),
    _native_endpoint(
        GENERATE_NAME,
        "/api/generate",
        NativeForm(read_generate_request, CHAT, partial(Translation, generate_form)),
    ),
    _native_endpoint(
        EMBED_NAME,
        "/api/embed",
        NativeForm(
            read_embed_request,
            EMBEDDINGS,
            partial(VectorTranslation, is_single=False),
        ),
    ),
    _native_endpoint(
        EMBEDDINGS_NAME,
        "/api/embeddings",
        NativeForm(
            read_embeddings_request,
            EMBEDDINGS,
            partial(VectorTranslation, is_single=True),
        ),
    ),
)

# The management of the local server's models: passed through without parsing.
MANAGEMENT: Final = Endpoint(
    MANAGEMENT_NAME,
    "",
    parse_embedding,
    view_native,
    error_body=error_body,
    error_event=error_line,
    usage_on_demand=False,
    is_routed=False,
)

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
    r"/*(?:(?:openai|anthropic|compatible-mode)/+)?(?:api/+(?=v\d|chat/+completions))?"
    r"(?:v\d\w*/+)*",
    re.IGNORECASE,
)
# What a path below /v1 begins with if the client's base URL has /v1 and its own path a base, too.
_SECOND_BASE: Final = re.compile(r"v\d\w*|openai|anthropic", re.IGNORECASE | re.ASCII)

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
    def is_below_messages(self) -> bool:
        """Whether it is one of Anthropic's API, of which no tier has more than the endpoint."""
        return self.steps[0].lower() == "messages"

    @property
    def name(self) -> str:
        """The path for comparisons, in lower case: some upstreams ignore case."""
        return "/" + "/".join(self.steps).lower()


def meant_path(path: str) -> str | None:
    """The path of the API that a path outside of /v1 means; None if it means none."""
    rest = _OTHER_BASE.sub("", path, count=1)
    return f"/v1/{rest}" if rest.partition("/")[0] in _FIRST_STEPS else None


def has_second_base(path: Path) -> bool:
    """Whether a path below /v1 begins with the base of another API, such as `v1` or `api`."""
    return _SECOND_BASE.fullmatch(path.steps[0]) is not None


# Without MESSAGES: a stored chat completion has messages.
_PROMPT_PATHS: Final = tuple(endpoint.path for endpoint in PARSED if endpoint is not MESSAGES)
_STARTS_OF_PROMPTS: Final = tuple(f"{path}/" for path in _PROMPT_PATHS)


def is_misspelled(path: Path) -> bool:
    """Whether a path below /v1 is nearly that of a routed endpoint: `/chat`, or twice the name.

    Its body is a prompt, which is not for the cloud before it is routed.
    """
    name = path.name
    if path.steps[0].lower() == "chat" and not name.startswith(f"{CHAT.path}/"):
        return name != CHAT.path
    is_doubled = name.startswith(_STARTS_OF_PROMPTS) and name.endswith(_PROMPT_PATHS)
    return is_doubled or f"{name}s" in (*_PROMPT_PATHS, MESSAGES.path)


def other_endpoint(raw_path: bytes) -> Endpoint:
    """The endpoint of any other path, with the form of its errors."""
    path = read_path(raw_path)
    return _OTHER_MESSAGES if path is not None and path.is_below_messages else OTHER


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
