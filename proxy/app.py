"""The only place where things are constructed and wired together.

Proxy(load_config(path)).app      # an ASGI application
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
from litestar import Litestar

from proxy import __version__, admin, api
from proxy.auth import ApiKeys
from proxy.config import Config, UpstreamConfig
from proxy.failover import FIRST_WAIT_SECONDS
from proxy.gateway import Gateway, Snapshot
from proxy.metrics import Metrics
from proxy.record import Target
from proxy.routing import Model, Router, Scorer, is_same_model
from proxy.store import Store
from proxy.tokens import TokenCounter
from proxy.upstream import Upstream, open_transport
from router_model.model import RouterModel, RouterModelError

logger = logging.getLogger(__name__)

LEARN_SECONDS: Final = 30.0  # how often the local tier is asked what it can do


def load_router(config: Config, *, model: Model | None = None) -> tuple[Router, str | None]:
    """The router for a configuration, and its model's version.

    Without a usable model (the log says why) the version is None and the router still decides.
    """
    if model is not None:
        return Router(config, Scorer(model), thresholds=None), None
    try:
        loaded = RouterModel.load(Path(config.routing.model_path))
    except RouterModelError as error:
        logger.error("no router model, every routed request goes to the cloud: %s", error)
        return Router(config, None, thresholds=None), None
    manifest = loaded.manifest
    trained = {"local": manifest.local_model, "cloud": manifest.cloud_model}
    for tier, model_name in trained.items():
        configured = getattr(config.upstreams, tier).model
        if not is_same_model(configured, model_name):
            logger.warning(
                "the router model was trained for %s as the %s model, not for %s: "
                "its scores still order requests, but its threshold is not tuned to this pair",
                model_name,
                tier,
                configured,
            )
    router = Router(config, Scorer(loaded), thresholds=manifest)
    return router, manifest.version


async def _keep_learning(upstream: Upstream) -> None:
    """Models are pulled, loaded with another context, and replaced while the proxy runs."""
    while True:
        await asyncio.sleep(LEARN_SECONDS)
        await upstream.learn()


class Proxy:
    """A whole proxy: `app` is the ASGI application, `gateway` what answers its requests.

    Args:
        config: as `load_config` returns it.
        model: scores texts; by default the router model at `routing.model_path`.
        transport: makes a tier's connections; called once for each.
        first_wait: seconds, about, before a failed upstream is tried again; later ones double.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: Model | None = None,
        transport: Callable[[UpstreamConfig], httpx2.AsyncBaseTransport] = open_transport,
        first_wait: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.config = config
        router, version = load_router(config, model=model)
        tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
        self._transports = {target: transport(tier) for target, tier in tiers.items()}
        upstreams = {
            target: Upstream(target.value, tier, transport=self._transports[target])
            for target, tier in tiers.items()
        }
        self.metrics = Metrics(version=__version__, model_version=version or "none")
        self.metrics.watch(
            up={target: upstream.is_up for target, upstream in upstreams.items()},
            in_flight={target: upstream.count_in_flight for target, upstream in upstreams.items()},
        )
        self.store = Store(config.storage, on_dropped=self.metrics.count_dropped_records)
        self._tokens = TokenCounter()
        self.gateway = Gateway(
            Snapshot(
                config=config,
                keys=ApiKeys(config.server.api_keys),
                router=router,
                upstreams=upstreams,
                prices={target: tier.price for target, tier in tiers.items()},
                model_version=version,
            ),
            store=self.store,
            metrics=self.metrics,
            tokens=self._tokens,
            first_wait=first_wait,
        )
        self._upstreams = upstreams
        self.app = Litestar(
            route_handlers=[
                *api.routes(self.gateway),
                *admin.routes(self.gateway, self.store, self.metrics),
            ],
            exception_handlers={Exception: api.answer_error},
            lifespan=[self._live],
            openapi_config=None,
            logging_config=None,
        )

    @asynccontextmanager
    async def _live(self, app: Litestar) -> AsyncIterator[None]:
        self.store.open()
        self._tokens.load_in_background()
        local = self._upstreams[Target.LOCAL]
        await local.learn()
        learning = asyncio.create_task(_keep_learning(local))
        try:
            yield
        finally:
            learning.cancel()
            self.gateway.snapshot.router.close()
            for transport in self._transports.values():
                await transport.aclose()
            await asyncio.to_thread(self.store.close)
