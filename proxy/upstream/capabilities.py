"""What a tier's model can do: its context and capabilities, from the configuration or from Ollama.

Ollama says it on its native API, beside /v1: `/api/version`, `/api/show` (capabilities, the model's
own limits, a Modelfile's num_ctx) and `/api/ps` (the context a loaded model really runs with).
Where neither the configuration nor Ollama says anything, nothing is known and nothing is refused:
the upstream's own errors then decide. Only the local tier is asked.

Sources: Ollama's docs/api.md and openai/openai.go as of v0.33.
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from proxy.config import UpstreamConfig

T = TypeVar("T")

# Ollama's context without OLLAMA_CONTEXT_LENGTH or num_ctx, on machines with under 24 GiB of VRAM.
OLLAMA_DEFAULT_CONTEXT: Final = 4096
# The cloud's memory, its files and the tools it runs itself: no other server has them.
_ONLY_IN_THE_CLOUD: Final = frozenset({"state", "file_id", "hosted_tools"})
# What Ollama's /v1 drops without a word or refuses, so that no model of its has it.
_NEVER_ON_OLLAMA: Final = frozenset(
    {"n", "logit_bias", "tool_choice", "parallel_tool_calls", "custom_tools", "functions"}
    | {"image_url", "audio", "file", "content_part", "reasoning_effort"}
    | {"echo", "prompt_list"}  # /v1/completions
    | {"store", "input_item", "json_object", "response_logprobs"}  # /v1/responses
)
_LOGPROBS_SINCE: Final = (0, 12, 11)
_NUM_CTX = re.compile(r"^\s*num_ctx\s+(\d+)", re.MULTILINE)


class Capabilities(NamedTuple):
    """What is known of a tier's model. None: not known.

    `capabilities`: of tools, vision, json_schema, logprobs. `context_tokens`: prompt and answer
    together.
    """

    context_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    needs_adapting: bool = False

    def lacking(self, needs: Collection[str]) -> list[str]:
        """The needs of a request that the model is known not to meet."""
        return [need for need in needs if self._lacks(need)] if needs else []

    def _lacks(self, need: str) -> bool:
        if need in _NEVER_ON_OLLAMA:
            return self.needs_adapting
        known = self.capabilities
        return need in _ONLY_IN_THE_CLOUD or (known is not None and need not in known)


class Native(Protocol):
    """How to ask a server beside its /v1."""

    async def get(self, path: str) -> bytes | None:
        """The body of a successful GET; None for everything else."""

    async def post(self, path: str, body: bytes) -> bytes | None:
        """The body of a successful POST; None for everything else."""


class _Version(msgspec.Struct):
    version: str


class _Shown(msgspec.Struct):
    capabilities: list[str] | None = None
    parameters: str | None = None
    model_info: dict[str, object] | None = None


class _Running(msgspec.Struct):
    name: str = ""
    model: str = ""
    context_length: int | None = None


class _Ps(msgspec.Struct):
    models: list[_Running] | None = None


def configured(config: UpstreamConfig) -> Capabilities:
    """What the configuration alone says."""
    capabilities = config.capabilities
    return Capabilities(
        None if config.context_tokens == "auto" else config.context_tokens,
        None if capabilities == "auto" else frozenset(capabilities),
    )


def least(facts: Collection[Capabilities]) -> Capabilities:
    """What all of several replicas can do."""
    contexts = [one.context_tokens for one in facts if one.context_tokens is not None]
    known = [one.capabilities for one in facts if one.capabilities is not None]
    return Capabilities(
        min(contexts, default=None),
        frozenset.intersection(*known) if known else None,
        needs_adapting=any(one.needs_adapting for one in facts),
    )


async def ask(
    native: Native, config: UpstreamConfig, model: str | None = None
) -> Capabilities | None:
    """The facts of a tier whose server is Ollama, the configuration's first; None elsewhere.

    Args:
        model: another one that the server has; of it the configuration says nothing.
    """
    version = _decode(await native.get("/api/version"), _Version)
    if version is None:
        return None
    said = configured(config) if model is None else Capabilities()
    model = model or config.model
    body = msgspec.json.encode({"model": model})
    shown = _decode(await native.post("/api/show", body), _Shown) or _Shown()
    running = _decode(await native.get("/api/ps"), _Ps) or _Ps()
    context, capabilities = said.context_tokens, said.capabilities
    if context is None:
        context = _context_of(model, shown, running)
    if capabilities is None and shown.capabilities is not None:
        capabilities = frozenset({"json_schema", *shown.capabilities})
        if _numbers(version.version) >= _LOGPROBS_SINCE:
            capabilities |= {"logprobs"}
    return Capabilities(context, capabilities, needs_adapting=True)


def _context_of(model: str, shown: _Shown, running: _Ps) -> int | None:
    """The context a request will meet: the loaded one's, else what loading would give."""
    for one in running.models or ():
        if _bare(model) in (_bare(one.name), _bare(one.model)) and one.context_length:
            return one.context_length
    if shown.model_info is None:
        return None  # Ollama does not know the model: a request will say so
    found = _NUM_CTX.search(shown.parameters or "")
    asked = int(found[1]) if found else OLLAMA_DEFAULT_CONTEXT
    limits = [
        value
        for name, value in shown.model_info.items()
        if name.endswith(".context_length") and isinstance(value, int)
    ]
    return min([asked, *limits])


def _bare(model: str) -> str:
    return model.removesuffix(":latest")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _decode(body: bytes | None, kind: type[T]) -> T | None:
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
