"""What is put together at the start, and what is said about it."""

import logging
from pathlib import Path

import pytest

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
    ("local", "cloud", "strangers"),
    [
        ("phi3", "gpt-4o-mini", []),
        ("phi3:latest", "gpt-4o-mini", []),
        ("llama3.2", "gpt-4o-mini", ["llama3.2"]),
        ("phi3", "gpt-5-nano", ["gpt-5-nano"]),
        ("llama3.2", "gpt-5-nano", ["llama3.2", "gpt-5-nano"]),
    ],
)
def test_models_that_the_router_was_not_trained_for_are_named(
    caplog: pytest.LogCaptureFixture, local: str, cloud: str, strangers: list[str]
) -> None:
    with caplog.at_level(logging.WARNING, logger="proxy"):
        router, version = load_router(configure(local, cloud))
    router.close()
    assert version == Manifest.load(MODEL).version
    assert len(caplog.messages) == len(strangers)
    for message, name in zip(caplog.messages, strangers, strict=True):
        assert f"not for {name}:" in message
