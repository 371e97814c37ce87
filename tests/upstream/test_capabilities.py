"""Capabilities of a model, read from the native API of several Ollama versions."""

import json
from typing import Any

import pytest

from proxy.config import UpstreamConfig
from proxy.protocol.ollama import DEFAULT_CONTEXT_TOKENS
from proxy.upstream.capabilities import (
    Capabilities,
    common_capabilities,
    configured_capabilities,
    detect_capabilities,
)

PHI = {
    "capabilities": ["completion"],
    "parameters": 'stop                           "<|end|>"',
    "model_info": {"general.architecture": "phi3", "phi3.context_length": 131072},
}


class FakeNative:
    """A server's native API. Missing paths are 404."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {
            f"/api/{name}": value if isinstance(value, bytes) else json.dumps(value).encode()
            for name, value in answers.items()
        }
        self.posted: list[bytes] = []

    async def get(self, path: str) -> bytes | None:
        return self._answers.get(path)

    async def post(self, path: str, body: bytes) -> bytes | None:
        self.posted.append(body)
        return self._answers.get(path)


def ollama(**answers: Any) -> FakeNative:
    return FakeNative(**{"version": {"version": "0.33.0-rc2"}, "show": PHI, **answers})


def tier(**values: Any) -> UpstreamConfig:
    return UpstreamConfig(base_url="http://h/v1", model="phi3:latest", **values)


async def test_unloaded_model_has_ollamas_default_context() -> None:
    native = ollama()
    capabilities = await detect_capabilities(native, tier())
    assert capabilities == Capabilities(
        DEFAULT_CONTEXT_TOKENS,
        frozenset({"completion", "json_schema", "logprobs"}),
        needs_adapting=True,
        tool_types=frozenset({"namespace", "web_search"}),
        max_context_tokens=131072,
    )
    assert json.loads(native.posted[0]) == {"model": "phi3:latest"}


@pytest.mark.parametrize("field", ["name", "model"])
@pytest.mark.parametrize("name", ["phi3", "phi3:latest"])
async def test_loaded_model_has_its_running_context(field: str, name: str) -> None:
    running = {"models": [{"name": "qwen3:4b", "context_length": 1}, {"context_length": 8192}]}
    running["models"][1][field] = name
    capabilities = await detect_capabilities(ollama(ps=running), tier())
    assert capabilities is not None
    assert capabilities.context_tokens == 8192


async def test_num_ctx_is_limited_by_the_context_of_the_model() -> None:
    for num_ctx, expected in ((16384, 16384), (999_999, 131072)):
        details = PHI | {"parameters": f"num_ctx                        {num_ctx}\nstop  x"}
        capabilities = await detect_capabilities(ollama(show=details), tier())
        assert capabilities is not None
        assert capabilities.context_tokens == expected


async def test_small_model_has_a_context_below_the_default() -> None:
    details = PHI | {"model_info": {"llama.context_length": 2048}}
    capabilities = await detect_capabilities(ollama(show=details), tier())
    assert capabilities is not None
    assert capabilities.context_tokens == 2048


async def test_configured_capabilities_take_precedence() -> None:
    capabilities = await detect_capabilities(
        ollama(), tier(context_tokens=1000, capabilities=("tools",))
    )
    assert capabilities == Capabilities(
        1000,
        frozenset({"tools"}),
        needs_adapting=True,
        tool_types=frozenset({"namespace", "web_search"}),
        max_context_tokens=131072,
    )
    assert configured_capabilities(tier(context_tokens=7)) == Capabilities(7)


@pytest.mark.parametrize(
    ("version", "types"),
    [
        ("0.32.6", set()),
        ("0.32.7", {"namespace"}),
        ("0.33.0", {"namespace", "web_search"}),
        ("1.0.0", {"namespace", "web_search"}),
        ("0.0.0", set()),
    ],
)
async def test_types_of_tools_depend_on_the_version(version: str, types: set[str]) -> None:
    detected = await detect_capabilities(ollama(version={"version": version}), tier())
    assert detected is not None
    assert detected.tool_types == types


async def test_old_ollama_reports_fewer_capabilities() -> None:
    capabilities = await detect_capabilities(
        FakeNative(version={"version": "0.5.2"}, show={"model_info": PHI["model_info"]}), tier()
    )
    assert capabilities == Capabilities(
        DEFAULT_CONTEXT_TOKENS, None, needs_adapting=True, max_context_tokens=131072
    )
    detected = await detect_capabilities(ollama(version={"version": "0.12.10"}), tier())
    assert detected is not None
    assert detected.capabilities == {"completion", "json_schema"}


@pytest.mark.parametrize(
    "native",
    [
        FakeNative(),
        FakeNative(version=b"<html>"),
        FakeNative(version=b'{"version": 3}'),
        FakeNative(version=b"\xff"),
    ],
    ids=["404", "html", "number", "no-utf8"],
)
async def test_other_server_is_not_ollama(native: FakeNative) -> None:
    assert await detect_capabilities(native, tier()) is None


async def test_missing_model_and_invalid_replies_are_unknown_capabilities() -> None:
    for answers in ({"show": b"?"}, {"show": b"[]", "ps": b"{"}, {"show": {}, "ps": {}}):
        capabilities = await detect_capabilities(ollama(**answers), tier())
        assert capabilities is not None
        assert (capabilities.context_tokens, capabilities.capabilities) == (None, None)
        assert capabilities.needs_adapting


def test_replicas_share_only_common_capabilities() -> None:
    types = frozenset({"namespace", "web_search"})
    first = Capabilities(4096, frozenset({"tools", "vision"}), needs_adapting=True)
    second = Capabilities(8192, frozenset({"tools"}), tool_types=types)
    assert common_capabilities([first, second]) == Capabilities(
        4096, frozenset({"tools"}), needs_adapting=True
    )
    first = first._replace(tool_types=types - {"web_search"})
    assert common_capabilities([first, second]).tool_types == {"namespace"}
    assert common_capabilities([Capabilities()]) == Capabilities()


def test_unknown_capabilities_are_not_lacking() -> None:
    needs = ["tools", "n", "vision"]
    assert Capabilities().lacking(needs) == []
    assert Capabilities(needs_adapting=True).lacking(needs) == ["n"]
    assert Capabilities(capabilities=frozenset({"tools"})).lacking(needs) == ["vision"]
    assert Capabilities(capabilities=frozenset({"tools"}), needs_adapting=True).lacking([]) == []
