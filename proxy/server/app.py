"""The composition root: constructs all parts of a proxy and connects them.

Proxy(load_config(path), path=path).app      # an ASGI application
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import msgspec
from litestar import Litestar
from litestar.config.cors import CORSConfig

from proxy.auth import ApiKeys, IssuedKeys
from proxy.budget import BudgetPacer, Limits, Price, Prices, TokenCounter, unpriced_warning
from proxy.config import Config, ConfigError, UpstreamConfig, load_prices, pricing_path
from proxy.evaluation import (
    ChoiceQueries,
    ChoiceRecords,
    Judge,
    JudgePriceUnknown,
    JudgeQueue,
    OnPaidCall,
    PaidUpstream,
    QualityQueries,
    Sampler,
    judge_price,
    quality_metrics,
)
from proxy.experiments import PIPELINE, Jobs, Planner
from proxy.gateway import FIRST_WAIT_SECONDS, Conversations, Gateway, Snapshot
from proxy.learning import LearningRecords
from proxy.loop_delay import LoopDelay
from proxy.metrics import GaugeSources, Metrics
from proxy.record import Target
from proxy.routing import Model
from proxy.server.background import BackgroundTasks, every
from proxy.server.learning import STEP_COMMAND, LearningMonitor
from proxy.server.models import LoadedModels, ModelLoader, build_router, build_shadow_router
from proxy.server.monitors import BudgetMonitor, DriftMonitor, QualityMonitor
from proxy.server.notifications import Notifier
from proxy.server.reload import Reloader
from proxy.server.workers import METRICS_VARIABLE
from proxy.storage import (
    Notices,
    RequestQueries,
    SharedLimits,
    Store,
    StoredKeys,
    StoreUnavailable,
    is_postgresql,
    redacted_url,
)
from proxy.upstream import LOAD_SECONDS, Upstream, open_transport
from proxy.web import (
    KeyDirectory,
    choices_api,
    dashboard_api,
    experiments_api,
    keys_api,
    native_api,
    openai_api,
    pages,
    service_api,
    threshold_api,
)
from proxy.web.openai_api import BodyLimits

logger = logging.getLogger(__name__)

QUALITY_DAYS: Final = 30.0  # how far back answer quality is measured
# Reading the spent budget takes long with many fallbacks in a day, so it is then read less often.
BUDGET_READ_SHARE: Final = 0.05

OpenTransport = Callable[[UpstreamConfig], httpx2.AsyncBaseTransport]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Seconds between two runs of each background task.

    Attributes:
        refresh_capabilities: of the local tier's model catalog; models change while the proxy runs.
        probe: of tiers whose last request failed, more often than the circuit breaker's trial
            requests; and of the loaded models, which a local server unloads after a while.
        watch: of the configuration's files.
        quality: of the judges' grades.
        drift: of the comparison with the router model's reference.
        spent: of the spending of all workers.
        refresh: of this worker's gauges, for the worker that is scraped.
        learning: of the check whether self-calibration has enough new judged pairs.
        keys: of the API keys that admins create, for changes by other processes.
    """

    refresh_capabilities: float = 30.0
    probe: float = 5.0
    watch: float = 1.0
    quality: float = 30.0
    drift: float = 300.0
    spent: float = 5.0
    refresh: float = 1.0
    learning: float = 60.0
    keys: float = 2.0


def open_judge(
    config: Config,
    queue: JudgeQueue,
    prices: Prices,
    *,
    tiers: Mapping[Target, Upstream] | None = None,
    transport: OpenTransport = open_transport,
    count: OnPaidCall = lambda purpose, outcome, usd: None,
) -> Judge:
    """The judge of a configuration. It has its own connections, so that its failures do not count
    against a tier.

    Args:
        tiers: the tiers that clients use; on shared hardware their requests come first.

    Raises:
        JudgePriceUnknown: neither the configuration nor the price list has the judge's price.
    """
    judge = config.judge
    local, cloud = config.upstreams.local, config.upstreams.cloud
    price = judge_price(config, prices)
    upstream = msgspec.structs.replace(cloud, model=judge.model, max_concurrency=None)
    if judge.base_url is not None:
        upstream = msgspec.structs.replace(upstream, base_url=judge.base_url)
    if judge.has_own_credentials:  # none of the cloud's may reach another server
        upstream = msgspec.structs.replace(
            upstream, api_key=judge.api_key, basic_auth=judge.basic_auth, headers=judge.headers
        )
    local_tier = tiers[Target.LOCAL] if tiers is not None else None
    shares_hardware = not set(upstream.base_urls).isdisjoint(local.base_urls)
    paid_tiers = {}
    for target, tier in ((Target.LOCAL, local), (Target.CLOUD, cloud)):
        unlimited = msgspec.structs.replace(tier, max_concurrency=None)
        paid_tiers[target] = PaidUpstream(
            "shadow",
            Upstream(target.value, unlimited, transport=transport(unlimited)),
            prices.find(target, tier.model) or Price(),
            cap_usd=judge.shadow_usd_per_day,
            owner=local_tier if target is Target.LOCAL else None,
        )
    return Judge(
        queue,
        model=judge.model,
        judge=PaidUpstream(
            "judge",
            Upstream("judge", upstream, transport=transport(upstream)),
            price,
            cap_usd=judge.usd_per_day,
            owner=local_tier if shares_hardware else None,
        ),
        tiers=paid_tiers,
        verify=config.verify,
        count=count,
    )


def judge_identity() -> str:
    """Identifies this process among the judges that share a database."""
    return f"{socket.gethostname()}:{os.getpid()}"


class JudgeRunner:
    """Runs the judge of the configuration in use, if judging is enabled."""

    def __init__(self, open_current: Callable[[], Judge | None]) -> None:
        self.judge: Judge | None = None
        self._open_current = open_current
        self._task: asyncio.Task[None] | None = None

    async def restart(self) -> None:
        """Stop the running judge, and start the one of the configuration in use."""
        await self.stop()
        judge = self._open_current()
        if judge is not None:
            self.judge, self._task = judge, asyncio.create_task(self._run(judge))

    async def stop(self) -> None:
        self.judge = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self, judge: Judge) -> None:
        try:
            await judge.run()
        finally:
            await judge.close()


class Proxy:
    """A whole proxy: `app` is the ASGI application, `gateway` answers its requests.

    Args:
        config: as `load_config` returns it.
        path: the file of the configuration; without it there is nothing to reload.
        model: scores texts; by default the router model at `routing.model_path`.
        shadow_model: the same for the model at `routing.shadow_router`.
        transport: makes a tier's connections; called once for each tier.
        first_wait: seconds before the first retry, then exponential backoff.
        load_seconds: the time limit of loading a local model.
        intervals: of the background tasks.
        body_limits: the minimum rate of a request body.
        command: starts a command of the training pipeline.
        learning_command: makes a step of self-calibration.
        clock: monotonic seconds, to measure the delay of the event loop.
        is_demo: whether stand-in models answer, which the pages say. No configuration sets it.
    """

    def __init__(
        self,
        config: Config,
        *,
        path: Path | None = None,
        model: Model | None = None,
        shadow_model: Model | None = None,
        transport: OpenTransport = open_transport,
        first_wait: float = FIRST_WAIT_SECONDS,
        load_seconds: float = LOAD_SECONDS,
        intervals: Intervals | None = None,
        body_limits: BodyLimits | None = None,
        command: Sequence[str] = PIPELINE,
        learning_command: Sequence[str] = STEP_COMMAND,
        clock: Callable[[], float] = time.monotonic,
        is_demo: bool = False,
    ) -> None:
        self._path = path
        self._is_demo = is_demo
        self._open_transport = transport
        self._load_seconds = load_seconds
        self._intervals = intervals or Intervals()
        self._tasks = BackgroundTasks()
        loader = ModelLoader(router=model, shadow=shadow_model)
        models = loader.load(config)
        self._issued_keys = IssuedKeys()
        snapshot = self._build_snapshot(config, models, None)
        self.metrics = Metrics(multiprocess_folder=os.environ.get(METRICS_VARIABLE))
        self.loop_delay = LoopDelay(observe=self.metrics.observe_loop_delay, clock=clock)
        self.store = Store(config.storage, on_dropped=self.metrics.count_dropped_records)
        self.requests = RequestQueries(self.store.database, url=redacted_url(config.storage))
        self.keys = KeyDirectory(StoredKeys(self.store.database), self._issued_keys)
        self._tokens = TokenCounter()
        shares_state = _shares_state(config)
        self._limits = Limits(
            shared_limits=SharedLimits(self.store.database) if shares_state else None
        )
        pacer = BudgetPacer()
        self.gateway = Gateway(
            snapshot,
            store=self.store,
            metrics=self.metrics,
            tokens=self._tokens,
            limits=self._limits,
            pacer=pacer,
            conversations=Conversations(
                look_up=self.store.lookups.find_answer if shares_state else None
            ),
            loop_delay=lambda: self.loop_delay.seconds,
            first_wait=first_wait,
        )
        self._judge_queue = JudgeQueue(self.store.database, worker=judge_identity())
        self._judging = JudgeRunner(self._open_current_judge)
        self.reloader = Reloader(
            self.gateway,
            models,
            path=path,
            loader=loader,
            build=self._build_snapshot,
            tasks=self._tasks,
            on_change=self._on_change,
        )
        self._learning_records = LearningRecords(self.store.database, worker=judge_identity())
        self._learning = LearningMonitor(
            self._learning_records,
            config=lambda: self.config,
            manifest=lambda: self.reloader.models.router.manifest,
            path=path,
            command=learning_command,
        )
        self.budget_monitor = BudgetMonitor(
            self.store,
            self.requests,
            limits=self._limits,
            pacer=pacer,
            config=lambda: self.config,
            has_key_budgets=lambda: any(
                key.cloud_usd_per_day is not None for key in self.gateway.snapshot.keys.valid
            ),
        )
        self.quality_monitor = QualityMonitor(
            QualityQueries.sharing(self.requests), days=QUALITY_DAYS
        )
        self.drift_monitor = DriftMonitor(
            self.requests, manifest=lambda: self.reloader.models.router.manifest
        )
        self._notifier = Notifier(
            Notices(self.store.database),
            config=lambda: self.config,
            callers=lambda: self.gateway.snapshot.keys.valid,
            tier=self._tier,
            spending=self._limits.spending,
        )
        self._planner: tuple[Snapshot, Planner] | None = None
        self._jobs = Jobs(self.store.database, prefix=command)
        self.metrics.watch(self._gauge_sources())
        self.app = self._build_app(config, body_limits or BodyLimits())

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self.gateway.snapshot.config

    def _build_app(self, config: Config, body_limits: BodyLimits) -> Litestar:
        return Litestar(
            route_handlers=[
                *openai_api.routes(self.gateway, limits=body_limits),
                *native_api.routes(self.gateway, limits=body_limits),
                *service_api.routes(
                    self.gateway,
                    self.store,
                    self.metrics,
                    judge=lambda: self._judging.judge,
                    body_seconds=body_limits.small_body_seconds,
                    is_demo=self._is_demo,
                ),
                *dashboard_api.routes(
                    self.gateway,
                    self.requests,
                    manifest=lambda: self.reloader.models.router.manifest_for(self.config),
                    drift=lambda: self.drift_monitor.drift,
                    learning=self._learning_records,
                ),
                *threshold_api.routes(
                    self.gateway,
                    self.requests,
                    manifest=lambda: self.reloader.models.router.manifest_for(self.config),
                    tokens=self._tokens,
                    path=self._path,
                    reload=self.reloader.apply_file,
                    body_seconds=body_limits.small_body_seconds,
                ),
                *pages.routes(
                    self.gateway,
                    body_seconds=body_limits.small_body_seconds,
                    is_demo=self._is_demo,
                ),
                *keys_api.routes(
                    self.gateway,
                    self.keys,
                    self.requests,
                    self._limits,
                    body_seconds=body_limits.small_body_seconds,
                ),
                *choices_api.routes(
                    self.gateway,
                    ChoiceRecords(self.store.database),
                    ChoiceQueries.sharing(self.requests),
                    body_seconds=body_limits.small_body_seconds,
                ),
                *experiments_api.routes(
                    self.gateway,
                    self._jobs,
                    self._current_planner,
                    body_seconds=body_limits.small_body_seconds,
                ),
            ],
            exception_handlers={Exception: openai_api.answer_error},
            cors_config=_cors(config),
            lifespan=[self.lifespan],
            openapi_config=None,
            logging_config=None,
        )

    def _build_snapshot(
        self, config: Config, models: LoadedModels, old: Snapshot | None
    ) -> Snapshot:
        """A snapshot of a configuration. It reuses the upstreams whose settings are unchanged."""
        tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
        price_list = pricing_path(config, self._path) if self._path is not None else None
        prices = Prices.of(config, load_prices(price_list))
        if prices.cloud_is_free:
            logger.warning(
                "no price is known for %s, so costs and savings are recorded as 0; set "
                "upstreams.cloud.price",
                config.upstreams.cloud.model,
            )
        elif not prices.cloud_is_known:
            logger.warning("%s", unpriced_warning(config))
        upstreams = {}
        for target, tier in tiers.items():
            upstream = old.upstreams[target] if old is not None else None
            if upstream is None or upstream.config != tier:
                upstream = Upstream(
                    target.value,
                    tier,
                    transport=self._open_transport(tier),
                    makes_trials=target is Target.LOCAL,
                    load_seconds=self._load_seconds,
                )
            upstreams[target] = upstream
        return Snapshot(
            config=config,
            keys=ApiKeys(
                config.server.api_keys,
                issued=self._issued_keys,
                origins=config.server.cors_origins,
                is_private=config.server.is_private and not config.server.allow_anonymous,
            ),
            router=build_router(config, models.router, prices),
            upstreams=upstreams,
            prices=prices,
            model_version=models.router.version,
            sampler=Sampler(config.judge, rng=random.Random()) if _judges(config) else None,
            shadow_router=build_shadow_router(config, models.shadow, prices),
        )

    def _open_current_judge(self) -> Judge | None:
        snapshot = self.gateway.snapshot
        if not _judges(snapshot.config):
            return None
        try:
            return open_judge(
                snapshot.config,
                self._judge_queue,
                snapshot.prices,
                tiers=snapshot.upstreams,
                transport=self._open_transport,
                count=self.metrics.count_judging,
            )
        except (JudgePriceUnknown, ConfigError) as error:
            logger.error("judging is off: %s", error)
            return None

    def _current_planner(self) -> Planner:
        """The planner of the configuration in use. It is reused, as it caches token counts."""
        snapshot = self.gateway.snapshot
        if self._planner is None or self._planner[0] is not snapshot:
            self._planner = snapshot, Planner(snapshot.config, snapshot.prices, self._tokens)
        return self._planner[1]

    def _gauge_sources(self) -> GaugeSources:
        return GaugeSources(
            is_up=lambda target: self._tier(target).up,
            in_flight=self.reloader.count_in_flight,
            waiting=lambda target: self._tier(target).queued,
            database_is_up=lambda: self.store.healthy,
            model_version=lambda: self.reloader.models.router.version or "none",
            threshold=self._threshold,
            reduction=lambda: self.gateway.snapshot.router.threshold - self._threshold(),
            usd_per_day=lambda: self.config.budget.cloud_usd_per_day,
            spent_usd=self._limits.spending.spent_today,
            reloaded=lambda: self.reloader.succeeded,
            quality=lambda: quality_metrics(self.quality_monitor.quality),
            drift=lambda: self.drift_monitor.drift,
            key_budgets=lambda: [
                (key.name, key.cloud_usd_per_day)
                for key in self.gateway.snapshot.keys.valid
                if key.name is not None and key.cloud_usd_per_day is not None
            ],
        )

    async def _on_change(self) -> None:
        await self._judging.restart()
        await self._learning.record_models()

    def _threshold(self) -> float:
        return self.gateway.paced_threshold(self.gateway.snapshot)

    def _tier(self, target: Target) -> Upstream:
        return self.gateway.snapshot.upstreams[target]

    async def _refresh_catalog(self) -> None:
        await self._tier(Target.LOCAL).refresh()

    async def _probe(self) -> None:
        await asyncio.gather(*(self._tier(target).probe_unhealthy() for target in Target))

    async def _refresh_models(self) -> None:
        local = self._tier(Target.LOCAL)
        await (local.refresh() if local.catalog.is_stale else local.refresh_running())

    async def _refresh_gauges(self) -> None:
        self.metrics.refresh()

    def _start_tasks(self) -> None:
        start, seconds = self._tasks.start, self._intervals
        start(
            every(
                seconds.refresh_capabilities,
                self._refresh_catalog,
                name="refreshing the model catalog",
                at_once=False,
            )
        )
        start(every(seconds.probe, self._probe, name="probing the tiers", at_once=False))
        refresh = self._refresh_models
        start(every(seconds.probe, refresh, name="reading the loaded models", at_once=False))
        start(every(seconds.quality, self.quality_monitor.read, name="reading answer quality"))
        start(every(seconds.keys, self.keys.read, name="reading API keys", at_once=False))
        start(every(seconds.drift, self.drift_monitor.read, name="measuring drift"))
        start(
            every(
                seconds.learning,
                self._learning.check,
                name="self-calibration",
                at_once=False,
            )
        )
        start(
            every(
                seconds.spent,
                self.budget_monitor.read,
                name="reading the spent budget",
                max_share=BUDGET_READ_SHARE,
            )
        )
        start(self._notifier.deliver())
        start(every(seconds.probe, self._notifier.check, name="notifying", at_once=False))
        if METRICS_VARIABLE in os.environ:
            start(every(seconds.refresh, self._refresh_gauges, name="writing gauges"))
        if self._path is not None:
            self.reloader.remember_files()
            check = self.reloader.check_files
            start(every(seconds.watch, check, name="checking the files", at_once=False))

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """The application's lifespan: open, start tasks, serve, drain, close."""
        self.store.open()
        await self.keys.read()
        if self.keys.rows and not self.gateway.snapshot.keys.required:
            logger.warning(
                "the API keys that were created on the page have no effect: server.api_keys is "
                "empty, so no key is needed"
            )
        with contextlib.suppress(StoreUnavailable):
            await asyncio.to_thread(self._jobs.interrupt_orphaned)
        await self.budget_monitor.restore()
        await self._refresh_catalog()
        await self._on_change()
        self._start_tasks()
        self.loop_delay.start()
        try:
            yield
        finally:
            self.loop_delay.stop()
            closing_jobs = asyncio.create_task(asyncio.to_thread(self._jobs.close))
            await self._judging.stop()
            await self.gateway.drain()
            await self._limits.close()
            await closing_jobs
            await self._tasks.close()
            await self.reloader.close()
            await asyncio.to_thread(self.store.close)


def _judges(config: Config) -> bool:
    return config.judge.enabled and config.storage.prompts == "full"


def _shares_state(config: Config) -> bool:
    """Whether other processes may answer the same clients."""
    return config.server.workers > 1 or is_postgresql(config.storage)


def _cors(config: Config) -> CORSConfig | None:
    """The CORS headers for the allowed origins; None without any."""
    origins = config.server.cors_origins
    if not origins:
        return None
    return CORSConfig(allow_origins=list(origins), expose_headers=list(openai_api.EXPOSED_HEADERS))
