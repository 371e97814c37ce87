"""The text that `hybrid-llm serve` prints when no model can answer yet."""

from collections.abc import Sequence
from typing import Final

from proxy.config import UpstreamConfig, UpstreamsConfig
from proxy.protocol.ollama import pull_command

_OPENAI: Final = "https://api.openai.com/"


def setup_guidance(upstreams: UpstreamsConfig, *, local_up: bool, cloud_up: bool) -> str | None:
    """The missing tiers, their addresses, and the commands to set them up. None if a tier is up.

    Args:
        local_up: whether the local tier answered.
        cloud_up: whether the cloud tier answered and accepted the API key.
    """
    if local_up or cloud_up:
        return None
    local, cloud = upstreams.local, upstreams.cloud
    return "\n".join(
        (
            "No model can answer yet. The proxy is running; set up at least one tier:",
            "",
            f"  local: no answer from {_addresses(local.base_urls)}.",
            "    Install Ollama (https://ollama.com), start it with `ollama serve`, then run:",
            f"      {pull_command(local.model)}",
            f"  cloud: {_cloud_problem(cloud)}.",
            "    Set the key and restart the proxy:",
            "      export OPENAI_API_KEY=...    or    hybrid-llm init",
            "",
            "To try the proxy without Ollama and without a key, stop it and run:",
            "      hybrid-llm demo    or, in a clone,    make demo",
        )
    )


def _cloud_problem(cloud: UpstreamConfig) -> str:
    address = _addresses(cloud.base_urls)
    if cloud.has_credentials:
        return f"{address} did not answer or rejected the API key"
    if cloud.base_urls[0].startswith(_OPENAI):
        return f"no API key for {address} (OPENAI_API_KEY is not set)"
    return f"{address} did not answer, and no API key is set (OPENAI_API_KEY)"


def _addresses(urls: Sequence[str]) -> str:
    return ", ".join(urls)
