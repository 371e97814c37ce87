"""Loading the router at the start, and the warnings about untrained models."""

import logging
from pathlib import Path

import pytest

from proxy.budget import Prices
from proxy.config import Config, RoutingConfig, UpstreamConfig, UpstreamsConfig
from proxy.server.models import load_router
from router_model.manifest import Manifest

MODEL = Path(__file__).parents[2] / "data/models/router"


def configure(local: str, cloud: str) -> Config:
    return Config(
        upstreams=UpstreamsConfig(
            local=UpstreamConfig(base_url="http://local/v1", model=local),
            cloud=UpstreamConfig(base_url="http://cloud/v1", model=cloud),
        ),
        routing=RoutingConfig(model_path=str(MODEL)),
    )


@pytest.mark.parametrize(
    ("local", "cloud", "untrained"),
    [
        ("phi3", "gpt-4o-mini", []),
        ("phi3:latest", "gpt-4o-mini", []),
        ("llama3.2", "gpt-4o-mini", ["llama3.2"]),
        ("phi3", "gpt-5-nano", ["gpt-5-nano"]),
        ("llama3.2", "gpt-5-nano", ["llama3.2", "gpt-5-nano"]),
    ],
)
def test_model_unknown_to_the_router_is_logged(
    caplog: pytest.LogCaptureFixture, local: str, cloud: str, untrained: list[str]
) -> None:
    with caplog.at_level(logging.WARNING, logger="proxy"):
        config = configure(local, cloud)
        router, version = load_router(config, Prices.of(config, {}))
    router.close()
    assert version == Manifest.load(MODEL).version
    assert len(caplog.messages) == len(untrained)
    for message, name in zip(caplog.messages, untrained, strict=True):
        assert f"not for {name}:" in message
