"""Everything that is specific to Ollama: address, model names, native API, request adaptation.

Ollama imitates OpenAI's API below /v1. It drops or refuses some fields, which `UNSUPPORTED` lists
and `adapt_chat` and `adapt_responses` replace where possible. The native API next to /v1 describes
the models: `/api/version`, `/api/show` (capabilities, the model's own limits, num_ctx of a
Modelfile), `/api/ps` (the context of a loaded model) and `/api/tags` (the installed models).

Sources: Ollama's docs/api.md and openai/openai.go as of v0.33; https://docs.ollama.com/faq.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from proxy.protocol.fields import Fields, drop_forbidden_tools, is_given

T = TypeVar("T")

DEFAULT_PORT: Final = 11434
# The context without OLLAMA_CONTEXT_LENGTH or num_ctx, on machines with under 24 GiB of VRAM.
DEFAULT_CONTEXT_TOKENS: Final = 4096
# What a name has if it does not say anything else. Source: Ollama's types/model/name.go.
_HOST: Final = "registry.ollama.ai/"
_NAMESPACE: Final = "library/"
TAG: Final = ":latest"  # that a name without one has
_REGISTRIES: Final = (_HOST, _NAMESPACE, "hf.co/", "huggingface.co/")
# The names that it can install, with the port of a registry.
_NAME: Final = re.compile(
    r"(?!.*\.gguf$)\w[\w.-]*(?::\d+(?=/))?(?:/[\w.-]+)*(?::[\w.-]+)?", re.ASCII | re.IGNORECASE
)
# Names with a colon that only clouds have: OpenAI's fine-tuned models, OpenRouter's variants, and
# versions and resources at Amazon Bedrock. OpenRouter's `:thinking` is a tag in Ollama's library.
# Sources: https://openrouter.ai/docs/guides/routing/model-variants,
# https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html.
_CLOUD_NAME: Final = re.compile(
    r"ft:.+|(?:.+/)?arn:aws:.+"
    r"|[^:]+/[^:]+:(?:free|batch|beta|extended|nitro|floor|exacto|online)"
    r"|(?:[\w-]+/)*(?:(?:us-gov|[a-z]{2}|apac|global)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|luma|meta|mistral|openai|qwen|stability|twelvelabs"
    r"|writer)\.[^:/]*\d:\d+(?::\d*[a-z]+)?"
)
# Files and folders of models, and names that only files have: a format, or how it is quantized.
_FILE_NAME: Final = re.compile(
    r"(?:file:|[a-z]:[\\/]|\\|~?/|\.{1,2}[\\/]).*"
    r"|.+\.(?:safetensors|llamafile)|.+[._-](?:gguf|ggml)(?:[:@/].*)?"
    r"|.+[._-]i?q[1-8]_(?:[01]|k(?:_(?:xs|s|m|l|xl))?)",
    re.DOTALL,
)
# Names without a tag as Ollama's library spells them: clouds write `llama-3.3-70b` or `qwen-max`.
# Source: https://ollama.com/library.
_LIBRARY_NAME: Final = re.compile(
    r"(?:(?:llama|phi|qwen|gemma|granite|smollm|olmo|command-r|deepseek-v)\d+(?:\.\d+)?"
    r"|llama\d(?:\.\d)?-vision|gemma\dn|phi\d-mini|qwen\d(?:\.\d)?-coder|gemma|qwen"
    r"|mistral|mistral-nemo|mixtral|codellama|codegemma|deepseek-r1|tinyllama|vicuna|falcon"
    r"|starcoder2?|stablelm2|orca-mini|dolphin-[a-z0-9]+|nomic-embed-text|mxbai-embed-large"
    r"|all-minilm|bge-m3|snowflake-arctic-embed\d?|embeddinggemma|llava)"
)
# Ollama drops these without an error or refuses them, whichever model is loaded.
UNSUPPORTED: Final = frozenset(
    {"n", "logit_bias", "tool_choice", "parallel_tool_calls", "custom_tools", "functions"}
    | {"image_url", "audio", "file", "content_part", "reasoning_effort"}
    | {"echo", "prompt_list"}  # /v1/completions
    | {"store", "input_item", "json_object", "response_logprobs"}  # /v1/responses
)
# The values that every version accepts, as raw JSON. Others depend on the version.
REASONING_EFFORTS: Final = frozenset(
    {b"", b"null", b'""', b'"none"', b'"low"', b'"medium"', b'"high"', b'"max"'}
)
# A pattern of the errors for a request that Ollama cannot read.
UNREADABLE_REQUEST: Final = (
    r"invalid (?:reasoning value|message format|message content|image input|tool call arguments)"
    r"|unknown (?:input item|content) type|failed to parse function call arguments"
)
OWN_FAMILY: Final = "hybrid-llm-router"  # of `auto`, `local` and `cloud` in a list of models
TAGS_PATH: Final = "/api/tags"
SHOW_PATH: Final = "/api/show"
RUNNING_PATH: Final = "/api/ps"
LOAD_PATH: Final = "/api/generate"
# The paths of the native API. The proxy has others below /api.
_NATIVE_PATH: Final = re.compile(
    r"/api/(?:chat|copy|create|delete|embed|embeddings|generate|me|ps|pull|push|show|signin|signout"
    r"|tags|version|web_fetch|web_search|(?:blobs|experimental|user)(?:/.*)?)",
    re.DOTALL,
)

_LOGPROBS_SINCE: Final = (0, 12, 11)
# The tools of /v1/responses that are no functions, and the versions with which Ollama expands
# namespaces and answers web searches itself.
_TOOL_TYPES_SINCE: Final = {"namespace": (0, 32, 7), "web_search": (0, 33, 0)}
_NUM_CTX: Final = re.compile(r"^\s*num_ctx\s+(\d+)", re.MULTILINE)
_DEVELOPER: Final = b'"developer"'


# ── Address and names ─────────────────────────────────────────────────────────────────────────


def server_url(environ: Mapping[str, str]) -> str:
    """The server's address from OLLAMA_BASE_URL, from OLLAMA_HOST, or the default.

    OLLAMA_HOST is read as Ollama reads it: `host`, `:port`, `host:port` or a URL. An address that
    means all interfaces becomes localhost.
    """
    if base_url := environ.get("OLLAMA_BASE_URL"):
        return base_url
    value = environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    has_scheme = "://" in value
    try:
        parts = urlsplit(value if has_scheme else f"http://{value}")
        host, port = parts.hostname or "localhost", parts.port
    except ValueError:
        parts, host, port = urlsplit("http://localhost"), "localhost", None
    if host in ("0.0.0.0", "::"):  # noqa: S104  # replaced here, not bound
        host = "localhost"
    if ":" in host:
        host = f"[{host}]"
    if port is None and not has_scheme:
        port = DEFAULT_PORT
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def shortest_name(name: str) -> str:
    """The name of a model without what Ollama adds to it, and in lower case.

    `registry.ollama.ai/library/Phi3:latest` is `phi3`; a name with another host keeps it. Names of
    other servers are read alike: none has two models whose names differ in this way only.
    """
    path = name.lower().removeprefix(_HOST).removesuffix(TAG)
    own_name = path.removeprefix(_NAMESPACE)
    return path if "/" in own_name else own_name  # in `library/a/b` it is a host


def is_same_model(name: str, other: str) -> bool:
    """Whether two names mean one model, as Ollama reads them."""
    return name == other or shortest_name(name) == shortest_name(other)


def find_model(name: str, listed: Collection[str]) -> str | None:
    """The spelling of a model in a list; None if the list does not have it."""
    if name in listed:
        return name
    shortest = shortest_name(name)
    return next((other for other in listed if shortest_name(other) == shortest), None)


def is_cloud_name(name: str) -> bool:
    """Whether a name with a colon has a form that only clouds have."""
    return _CLOUD_NAME.fullmatch(name.lower()) is not None


def looks_local(name: str) -> bool:
    """Whether a name has the form of a local model's.

    That is `name:tag`, a name with a registry in front, one of Ollama's library, such as `phi3`, or
    the name of a file. Characters that no model's name has do not make it one of the cloud.
    """
    name = name.lower()
    if _FILE_NAME.fullmatch(name) or name.startswith(_REGISTRIES):
        return True
    is_tagged = ":" in name and name.isprintable() and not is_cloud_name(name)
    return is_tagged or _LIBRARY_NAME.fullmatch(name) is not None


def spellings_of(name: str) -> list[str]:
    """All names of a model in lower case, for a search."""
    shortest = shortest_name(name)
    paths = [shortest, _HOST + shortest]
    if "/" not in shortest:
        paths = [shortest, _NAMESPACE + shortest, _HOST + _NAMESPACE + shortest]
    return [path + tag for path in paths for tag in ("", TAG)]


# ── The native API ────────────────────────────────────────────────────────────────────────────


def is_native_path(path: str) -> bool:
    """Whether a path is one of Ollama's native API."""
    return _NATIVE_PATH.fullmatch(path) is not None


class NativeApi(Protocol):
    """Access to a server's API outside /v1."""

    async def get(self, path: str) -> bytes | None:
        """The body of a successful GET; None for every other result."""

    async def post(self, path: str, body: bytes) -> bytes | None:
        """The body of a successful POST; None for every other result."""


class ModelInfo(NamedTuple):
    """The native API's report on a model. None means unknown.

    Attributes:
        context_tokens: of the loaded model, or the one that loading it would give.
        tool_types: the types of tools besides functions that the server accepts.
        max_context_tokens: the longest context that a request may ask for (`num_ctx`).
    """

    context_tokens: int | None
    capabilities: frozenset[str] | None
    tool_types: frozenset[str] = frozenset()
    max_context_tokens: int | None = None


class _Version(msgspec.Struct):
    version: str


class _Show(msgspec.Struct):
    capabilities: list[str] | None = None
    parameters: str | None = None
    model_info: dict[str, object] | None = None


class _RunningModel(msgspec.Struct):
    name: str = ""
    model: str = ""
    context_length: int | None = None


class _Ps(msgspec.Struct):
    models: list[_RunningModel] | None = None


async def read_model_info(api: NativeApi, model: str) -> ModelInfo | None:
    """Read what a server reports about a model. Returns None when the server is not Ollama."""
    version = _decode(await api.get("/api/version"), _Version)
    if version is None:
        return None
    body = msgspec.json.encode({"model": model})
    show = _decode(await api.post(SHOW_PATH, body), _Show) or _Show()
    running = _decode(await api.get(RUNNING_PATH), _Ps) or _Ps()
    number, capabilities = _parse_version(version.version), None
    if show.capabilities is not None:
        capabilities = frozenset({"json_schema", *show.capabilities})
        if number >= _LOGPROBS_SINCE:
            capabilities |= {"logprobs"}
    types = frozenset(kind for kind, since in _TOOL_TYPES_SINCE.items() if number >= since)
    context, longest = _context_tokens(model, show, running), min(_own_limits(show), default=None)
    return ModelInfo(context, capabilities, types, longest)


def _context_tokens(model: str, show: _Show, running: _Ps) -> int | None:
    """The context of the loaded model, or the one that loading it would give."""
    for loaded in running.models or ():
        names_it = is_same_model(model, loaded.name) or is_same_model(model, loaded.model)
        if names_it and loaded.context_length:
            return loaded.context_length
    if show.model_info is None:
        return None  # the server does not have the model: a request will fail with that error
    num_ctx = _NUM_CTX.search(show.parameters or "")
    requested = int(num_ctx[1]) if num_ctx else DEFAULT_CONTEXT_TOKENS
    return min([requested, *_own_limits(show)])


def _own_limits(show: _Show) -> list[int]:
    """The context that a model was trained for, in tokens; empty if it is not reported."""
    return [
        value
        for name, value in (show.model_info or {}).items()
        if name.endswith(".context_length") and isinstance(value, int)
    ]


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _decode(body: bytes | None, kind: type[T]) -> T | None:
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_running(body: bytes) -> frozenset[str] | None:
    """The names of the loaded models from the answer to `RUNNING_PATH`; None if it is no such one.

    A model that is being loaded is among them: Ollama lists it from the start of the load.
    """
    running = _decode(body, _Ps)
    if running is None or running.models is None:
        return None
    return frozenset(name for model in running.models for name in (model.name, model.model) if name)


def load_body(model: str) -> bytes:
    """The request to `LOAD_PATH` that loads a model, and is answered when it is loaded.

    Without a prompt nothing is generated. Without `keep_alive` the server's own setting applies.
    Ollama aborts the load when the client of this request disconnects.
    """
    return msgspec.json.encode({"model": model, "stream": False})


def can_pull(name: str) -> bool:
    """Whether a name is a model's and no file's, with characters that a shell may get."""
    return _NAME.fullmatch(name) is not None


def pull_command(model: str) -> str:
    """The shell command that installs a model."""
    return f"ollama pull {model.removesuffix(':latest')}"


def is_proxy(tags: Any) -> bool:
    """Whether the decoded answer to `TAGS_PATH` is that of this program. Raises as the next one."""
    return any((model.get("details") or {}).get("family") == OWN_FAMILY for model in tags["models"])


def read_model_names(tags: Any) -> list[str]:
    """The installed models from the decoded answer to `TAGS_PATH`, the smallest first.

    Raises:
        ValueError, TypeError, LookupError or AttributeError: it is not such an answer.
    """
    models = sorted((int(model.get("size") or 0), str(model["name"])) for model in tags["models"])
    return [name for _, name in models]


def can_chat(name: str, show: Any) -> bool:
    """Whether a model can chat.

    Args:
        show: the decoded answer to `SHOW_PATH`; None when the request failed. Old versions report
            no capabilities: the name decides there.
    """
    capabilities = show.get("capabilities") if show is not None else None
    return "completion" in capabilities if capabilities else "embed" not in name


# ── Request adaptation ────────────────────────────────────────────────────────────────────────


class _ContentPart(msgspec.Struct):
    type: str = "text"
    text: str | None = None


_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_part = msgspec.json.Decoder(_ContentPart)
_encoder = msgspec.json.Encoder()


def adapt_chat(fields: Fields) -> None:
    """Adapt a chat request.

    Ollama knows `max_completion_tokens` by its old name only, has no `tool_choice` and no role
    `developer`, and makes a message of each part of a text.
    """
    limit = fields.pop("max_completion_tokens", None)
    if limit is not None and not is_given(fields.get("max_tokens", msgspec.Raw())):
        fields["max_tokens"] = limit
    drop_forbidden_tools(fields)
    fields["messages"] = _adapt_messages(fields["messages"])


def adapt_responses(fields: Fields) -> None:
    """Adapt a request for a response: Ollama has no `tool_choice` and no role `developer`."""
    drop_forbidden_tools(fields)
    raw_input = bytes(fields.get("input", b""))
    if raw_input.startswith(b"[") and _DEVELOPER in raw_input:
        items = _raw_list.decode(raw_input)
        for index, raw in enumerate(items):
            item = _raw_fields.decode(raw)
            if _replace_developer(item):
                items[index] = msgspec.Raw(_encoder.encode(item))
        fields["input"] = msgspec.Raw(_encoder.encode(items))


def _replace_developer(message: Fields) -> bool:
    """Rename the role `developer` to `system`. Returns whether the message had it."""
    is_developer = bytes(message.get("role", b"")) == _DEVELOPER
    if is_developer:
        message["role"] = msgspec.Raw(b'"system"')
    return is_developer


def _adapt_messages(messages: msgspec.Raw) -> msgspec.Raw:
    """Join each run of text parts into one; content that is only text becomes a string."""
    text = bytes(messages)
    if text.find(b"[", 1) == -1 and _DEVELOPER not in text:  # as in most requests
        return messages
    adapted, any_changed = [], False
    for raw in _raw_list.decode(messages):
        fields = _raw_fields.decode(raw)
        changed = _replace_developer(fields)
        content = fields.get("content")
        if content is not None and bytes(content).startswith(b"["):
            fields["content"], changed = _join_text_parts(_raw_list.decode(content)), True
        adapted.append(msgspec.Raw(_encoder.encode(fields)) if changed else raw)
        any_changed = any_changed or changed
    return msgspec.Raw(_encoder.encode(adapted)) if any_changed else messages


def _join_text_parts(parts: list[msgspec.Raw]) -> msgspec.Raw:
    runs: list[msgspec.Raw | list[str]] = []
    for raw in parts:
        part = _part.decode(raw)
        if part.type != "text" or part.text is None:
            runs.append(raw)
        elif runs and isinstance(runs[-1], list):
            runs[-1].append(part.text)
        else:
            runs.append([part.text])
    if not runs:  # only tool calls: Ollama would attach them to the message before
        return msgspec.Raw(b'""')
    joined = [
        {"type": "text", "text": "\n".join(run)} if isinstance(run, list) else run for run in runs
    ]
    if len(joined) == 1 and isinstance(joined[0], dict):
        return msgspec.Raw(_encoder.encode(joined[0]["text"]))
    return msgspec.Raw(_encoder.encode(joined))
