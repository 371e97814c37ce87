"""The capabilities and context size of a tier's model.

They come from the configuration or, for the local tier, from the server's native API
(`protocol.ollama`). Without either source no request is rejected: the upstream's own
errors decide.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from proxy.config import UpstreamConfig
from proxy.protocol.ollama import UNSUPPORTED, NativeApi, read_model_info

# Conversation state, files and hosted tools. Only the cloud has them.
_CLOUD_ONLY: Final = frozenset({"state", "file_id", "hosted_tools"})
# Types of tools that few local servers accept: each must be known to.
_FEW_HAVE: Final = frozenset({"namespace", "web_search"})


class Capabilities(NamedTuple):
    """The known capabilities of a tier's model. None means unknown.

    Attributes:
        context_tokens: the size of prompt and answer together.
        capabilities: those among tools, vision, json_schema and logprobs.
        needs_adapting: whether the server is one for which `protocol.ollama` adapts requests. It
            has an API of its own, too.
        tool_types: the types of tools besides functions that the server accepts.
        max_context_tokens: the longest context that a request to that API may ask for.
    """

    context_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    needs_adapting: bool = False
    tool_types: frozenset[str] = frozenset()
    max_context_tokens: int | None = None

    @property
    def has_logprobs(self) -> bool:
        """Whether the server is known to have log-probabilities."""
        return self.capabilities is not None and "logprobs" in self.capabilities

    def lacking(self, needs: Collection[str]) -> list[str]:
        """The needs of a request that the model is known not to meet."""
        return [need for need in needs if self._lacks(need)] if needs else []

    def with_context(self, asked: int | None) -> "Capabilities":
        """The capabilities for a request that asks for a context of some tokens (`num_ctx`)."""
        if asked is None or self.context_tokens is None:
            return self
        longest = self.max_context_tokens
        longest = self.context_tokens if longest is None else longest
        return self._replace(context_tokens=min(asked, longest))

    def _lacks(self, need: str) -> bool:
        if need in UNSUPPORTED:
            return self.needs_adapting
        if need in _FEW_HAVE:
            return need not in self.tool_types
        known = self.capabilities
        return need in _CLOUD_ONLY or (known is not None and need not in known)


def configured_capabilities(config: UpstreamConfig) -> Capabilities:
    """The capabilities that the configuration states."""
    capabilities = config.capabilities
    return Capabilities(
        None if config.context_tokens == "auto" else config.context_tokens,
        None if capabilities == "auto" else frozenset(capabilities),
    )


def common_capabilities(replicas: Collection[Capabilities]) -> Capabilities:
    """The capabilities that all replicas have."""
    contexts = [item.context_tokens for item in replicas if item.context_tokens is not None]
    known = [item.capabilities for item in replicas if item.capabilities is not None]
    asked = (item.max_context_tokens for item in replicas)
    longest = [item for item in asked if item is not None]
    return Capabilities(
        min(contexts, default=None),
        frozenset.intersection(*known) if known else None,
        needs_adapting=any(item.needs_adapting for item in replicas),
        tool_types=frozenset.intersection(*(item.tool_types for item in replicas)),
        max_context_tokens=min(longest, default=None),
    )


async def detect_capabilities(
    api: NativeApi, config: UpstreamConfig, model: str | None = None
) -> Capabilities | None:
    """Detect the capabilities of a server's model; the configuration takes precedence.

    Args:
        model: another model of the server. The configuration does not describe it.

    Returns:
        None when the server has no native API.
    """
    info = await read_model_info(api, model or config.model)
    if info is None:
        return None
    stated = configured_capabilities(config) if model is None else Capabilities()
    return Capabilities(
        info.context_tokens if stated.context_tokens is None else stated.context_tokens,
        info.capabilities if stated.capabilities is None else stated.capabilities,
        needs_adapting=True,
        tool_types=info.tool_types,
        max_context_tokens=info.max_context_tokens,
    )
