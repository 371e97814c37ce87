"""The only place where things are constructed and wired together, at the start and at a reload.

Proxy(load_config(path), path=path).app      # an ASGI application

A reload builds a whole new snapshot beside the one in use and then puts it in its place. Requests
that have begun finish on the old one. What did not change goes over as it is: a tier keeps its
connections, its slots and its state, the router model its session.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import msgspec
from litestar import Litestar
from litestar.config.cors import CORSConfig

from proxy.auth import ApiKeys
from proxy.budget.pacing import MEMORY_SECONDS, PROFILE_DAYS, BudgetPacer
from proxy.budget.pricing import Price, Prices
from proxy.budget.rate_limits import Limits
from proxy.budget.token_counter import TokenCounter
from proxy.config import (
    Config,
    ConfigError,
    UpstreamConfig,
    load_config,
    load_prices,
    pricing_path,
)
from proxy.evaluation.estimates import Quality
from proxy.evaluation.judge import Caller, Count, Judge, JudgePriceUnknown, judge_price
from proxy.evaluation.judge_queue import JudgeQueue
from proxy.evaluation.metrics import quality_metrics
from proxy.evaluation.queries import QualityQueries
from proxy.evaluation.sampling import Sampler
from proxy.experiments.jobs import PIPELINE, Jobs
from proxy.experiments.planner import Planner
from proxy.gateway.call import Snapshot
from proxy.gateway.conversations import Conversations
from proxy.gateway.failover import FIRST_WAIT_SECONDS
from proxy.gateway.gateway import Gateway
from proxy.metrics import Metrics, Readings
from proxy.record import DAY_SECONDS, HOUR_SECONDS, Target
from proxy.routing.router import Model, Router, Scorer, is_same_model
from proxy.routing.shadow_router import TIMEOUT_SECONDS, ShadowRouter
from proxy.server.workers import METRICS_VARIABLE
from proxy.storage.database import StoreUnavailable, is_postgresql, redacted_url
from proxy.storage.queries import RequestQueries
from proxy.storage.shared_limits import SharedLimits
from proxy.storage.writer import Store
from proxy.upstream.transport import open_transport
from proxy.upstream.upstream import Upstream
from proxy.web import dashboard_api, experiments_api, openai_api, pages, service_api
from router_model.drift import MUCH, Drift
from router_model.manifest import MANIFEST_FILE, Manifest
from router_model.model import RouterModel, RouterModelError

logger = logging.getLogger(__name__)

LEARN_SECONDS: Final = 30.0  # how often the local tier is asked what it can do
PROBE_SICK_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 1.0  # how often the files are looked at
QUALITY_SECONDS: Final = 30.0  # how often the judges' scores are read
QUALITY_DAYS: Final = 30.0  # and how far back
DRIFT_SECONDS: Final = 300.0  # how often traffic is held against what the router was fitted to
REFRESH_SECONDS: Final = 1.0
SPENT_SECONDS: Final = 5.0  # how often it is read what all workers have spent
# Where that takes long, because there are millions of rows, it may take this share of the time.
SPENT_SHARE: Final = 0.05


Signature = list[tuple[int, int, int] | None]
OpenTransport = Callable[[UpstreamConfig], httpx2.AsyncBaseTransport]


class Loaded(NamedTuple):
    """A router model ready to score, and the manifest file it was loaded by."""

    scorer: Scorer | None = None
    manifest: Manifest | None = None
    fingerprint: str | None = None

    @property
    def version(self) -> str | None:
        return self.manifest.version if self.manifest is not None else None


def load_model(config: Config) -> Loaded:
    """Load the router model of a configuration. Raises RouterModelError."""
    folder = config.routing.model_folder
    fingerprint = _fingerprint(folder)
    loaded = RouterModel.load(folder)
    return Loaded(Scorer(loaded), loaded.manifest, fingerprint)


def load_shadow_model(config: Config) -> Loaded:
    """Load the candidate of a configuration, where it has one. Raises RouterModelError."""
    if config.routing.candidate is None:
        return Loaded()
    folder = Path(config.routing.candidate.path)
    fingerprint = _fingerprint(folder)
    loaded = RouterModel.load(folder)
    return Loaded(_shadow_scorer(loaded), loaded.manifest, fingerprint)


def _shadow_scorer(model: Model) -> Scorer:
    return Scorer(model, timeout_seconds=TIMEOUT_SECONDS, name="candidate router model")


def warn_of_other_models(manifest: Manifest, config: Config) -> None:
    """Say which of the configured models the router model was not trained for."""
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


def load_router(config: Config) -> tuple[Router, str | None]:
    """The router for a configuration, and its model's version.

    Without a usable model (the log says why) the version is None and the router still decides.
    """
    loaded = _load_if_possible(config)
    return Router(config, loaded.scorer, thresholds=loaded.manifest), loaded.version


def _load_if_possible(config: Config) -> Loaded:
    try:
        loaded = load_model(config)
    except RouterModelError as error:
        logger.error("no router model, every routed request goes to the cloud: %s", error)
        return Loaded()
    if loaded.manifest is not None:
        warn_of_other_models(loaded.manifest, config)
    return loaded


def open_judge(
    config: Config,
    queue: JudgeQueue,
    prices: Prices,
    *,
    tiers: Mapping[Target, Upstream] | None = None,
    transport: OpenTransport = open_transport,
    count: Count = lambda purpose, outcome, usd: None,
) -> Judge:
    """The judge of a configuration, with connections of its own: what it does to a server says
    nothing about how well a tier answers clients.

    Args:
        tiers: that clients use, so that their hardware is theirs first.

    Raises:
        JudgePriceUnknown: nothing says what the judge costs.
    """
    judge = config.judge
    local, cloud = config.upstreams.local, config.upstreams.cloud
    price = judge_price(config, prices)
    asked = msgspec.structs.replace(cloud, model=judge.model, max_concurrency=None)
    if judge.base_url is not None:
        asked = msgspec.structs.replace(asked, base_url=judge.base_url, api_key=judge.api_key)
    elif judge.api_key is not None:
        asked = msgspec.structs.replace(asked, api_key=judge.api_key)
    local_tier = tiers[Target.LOCAL] if tiers is not None else None
    shares_hardware = not set(asked.base_urls).isdisjoint(local.base_urls)
    shadows = {}
    for target, tier in ((Target.LOCAL, local), (Target.CLOUD, cloud)):
        alone = msgspec.structs.replace(tier, max_concurrency=None)
        shadows[target] = Caller(
            "shadow",
            Upstream(target.value, alone, transport=transport(alone)),
            prices.of(target, tier.model) or Price(),
            cap_usd=judge.shadow_usd_per_day,
            background_tier=local_tier if target is Target.LOCAL else None,
        )
    return Judge(
        queue,
        model=judge.model,
        judge=Caller(
            "judge",
            Upstream("judge", asked, transport=transport(asked)),
            price,
            cap_usd=judge.usd_per_day,
            background_tier=local_tier if shares_hardware else None,
        ),
        shadows=shadows,
        count=count,
    )


def judge_identity() -> str:
    """Tells one judge from the others at a database."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _given(model: Model) -> Loaded:
    manifest = model.manifest if isinstance(model, RouterModel) else None
    return Loaded(Scorer(model), manifest)


def _load_shadow_if_possible(config: Config) -> Loaded:
    try:
        return load_shadow_model(config)
    except RouterModelError as error:
        logger.error("no candidate router model: %s", error)
        return Loaded()


class Proxy:
    """A whole proxy: `app` is the ASGI application, `gateway` what answers its requests.

    Args:
        config: as `load_config` returns it.
        path: the file it is from; without one there is nothing to reload.
        model: scores texts; by default the router model at `routing.model_path`.
        candidate: likewise, in the place of the one at `routing.candidate`.
        transport: makes a tier's connections; called once for each.
        first_wait: seconds, about, before a failed upstream is tried again; later ones double.
        watch_seconds: how often `path` is looked at.
        quality_seconds: how often the judges' scores in the database are.
        drift_seconds: how often the requests there are held against the model's reference.
        spent_seconds: how often what was spent is read there.
        command: what a command of the pipeline begins with.
    """

    def __init__(
        self,
        config: Config,
        *,
        path: Path | None = None,
        model: Model | None = None,
        candidate: Model | None = None,
        transport: OpenTransport = open_transport,
        first_wait: float = FIRST_WAIT_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
        quality_seconds: float = QUALITY_SECONDS,
        drift_seconds: float = DRIFT_SECONDS,
        spent_seconds: float = SPENT_SECONDS,
        command: Sequence[str] = PIPELINE,
    ) -> None:
        self.config = config
        self._path = path
        self._open_transport = transport
        self._watch_seconds = watch_seconds
        self._quality_seconds = quality_seconds
        self._drift_seconds = drift_seconds
        self._spent_seconds = spent_seconds
        self._fixed_model = model
        self._loaded = _given(model) if model is not None else _load_if_possible(config)
        self._fixed_shadow_model = candidate
        self._candidate = (
            Loaded(_shadow_scorer(candidate))
            if candidate is not None
            else _load_shadow_if_possible(config)
        )
        self._reloading = asyncio.Lock()
        self._taken_up: Signature = []  # of the files when they were last read
        self._retired: set[Upstream | Scorer] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        snapshot = self._snapshot(config, self._loaded, self._candidate)
        self.metrics = Metrics(multiprocess_folder=os.environ.get(METRICS_VARIABLE))
        self.store = Store(config.storage, on_dropped=self.metrics.count_dropped_records)
        self.requests = RequestQueries(self.store.database, url=redacted_url(config.storage))
        self._tokens = TokenCounter()
        is_one_of_many = _is_one_of_many(config)
        self._limits = Limits(
            shared_limits=SharedLimits(self.store.database) if is_one_of_many else None
        )
        self._pacer = BudgetPacer()
        self._hours_read_at = 0.0
        self._reloaded = True
        self._quality: Quality | None = None
        self._judge_queue = JudgeQueue(self.store.database, who=judge_identity())
        self._judge: Judge | None = None
        self._judging: asyncio.Task[None] | None = None
        self._drift: Drift | None = None
        self._planner: tuple[Snapshot, Planner] | None = None
        self._jobs = Jobs(self.store.database, prefix=command)
        self.gateway = Gateway(
            snapshot,
            store=self.store,
            metrics=self.metrics,
            tokens=self._tokens,
            limits=self._limits,
            pacer=self._pacer,
            conversations=Conversations(
                look_up=self.store.find_session if is_one_of_many else None
            ),
            first_wait=first_wait,
        )
        self.metrics.watch(self._readings())
        self.app = Litestar(
            route_handlers=[
                *openai_api.routes(self.gateway),
                *service_api.routes(
                    self.gateway, self.store, self.metrics, judge=lambda: self._judge
                ),
                *dashboard_api.routes(
                    self.gateway,
                    self.requests,
                    manifest=lambda: self._loaded.manifest,
                    drift=lambda: self._drift,
                ),
                *pages.routes(self.gateway),
                *experiments_api.routes(self.gateway, self._jobs, self._steps),
            ],
            exception_handlers={Exception: openai_api.answer_error},
            cors_config=_cors(config),
            lifespan=[self._live],
            openapi_config=None,
            logging_config=None,
        )

    async def reload(self) -> bool:
        """Put the configuration in the file into use; whatever is wrong, the old one stays.

        Returns whether it is in use now.
        """
        assert self._path is not None
        async with self._reloading:
            self._taken_up = self._signature(self._path)  # before reading: a later edit counts
            try:
                running = self.config.server
                config = _keep_fixed(
                    await asyncio.to_thread(
                        load_config, self._path, host=running.host, port=running.port
                    ),
                    self.config,
                )
                loaded = await self._model_for(config)
                candidate = await self._shadow_model_for(config)
                snapshot = self._snapshot(config, loaded, candidate, old=self.gateway.snapshot)
            except (ConfigError, RouterModelError) as error:
                logger.error("the configuration stays as it was: %s", error)
                self._reloaded = False
                return False
            except Exception:  # a bug of ours must not end the watch either
                logger.exception("the configuration stays as it was")
                self._reloaded = False
                return False
            old, replaced = self.gateway.snapshot, (self._loaded, self._candidate)
            if (local := snapshot.upstreams[Target.LOCAL]) not in old.upstreams.values():
                await local.refresh_capabilities()
            self.config, self._loaded, self.gateway.snapshot = config, loaded, snapshot
            self._candidate = candidate
            kept = set(snapshot.upstreams.values())
            gone: set[Upstream | Scorer] = {
                one for one in old.upstreams.values() if one not in kept
            }
            in_use = (loaded.scorer, candidate.scorer)
            gone.update(
                one.scorer
                for one in replaced
                if one.scorer is not None and one.scorer not in in_use
            )
            self._retire(gone, after_seconds=old.config.server.request_timeout_seconds)
            self._reloaded = True
            await self._judge_anew()
            logger.info("the configuration in %s is in use", self._path)
            for warning in config.warnings():
                logger.warning("%s: %s", self._path, warning)
            if loaded.manifest is not None:
                warn_of_other_models(loaded.manifest, config)
            return True

    def reload_soon(self) -> None:
        """Reload in a task of its own: what a signal handler can do. Call it on the event loop."""
        if self._path is None:
            logger.warning("there is no configuration file to reload")
        else:
            self._start(self.reload())

    def _steps(self) -> Planner:
        """Those of the configuration in use, which knows what it has counted before."""
        snapshot = self.gateway.snapshot
        if self._planner is None or self._planner[0] is not snapshot:
            made = Planner(snapshot.config, snapshot.prices, self._tokens)
            self._planner = (snapshot, made)
        return self._planner[1]

    def _tier(self, target: Target) -> Upstream:
        return self.gateway.snapshot.upstreams[target]

    def _readings(self) -> Readings:
        return Readings(
            is_up=lambda target: self._tier(target).is_up(),
            in_flight=self._count_in_flight,
            waiting=lambda target: self._tier(target).queued,
            database_is_up=lambda: self.store.healthy,
            model_version=lambda: self._loaded.version or "none",
            threshold=self._threshold,
            reduction=lambda: self.gateway.snapshot.router.threshold - self._threshold(),
            usd_per_day=lambda: self.config.budget.cloud_usd_per_day,
            spent_usd=self._limits.spent_today,
            reloaded=lambda: self._reloaded,
            quality=lambda: quality_metrics(self._quality),
            drift=lambda: self._drift,
        )

    def _threshold(self) -> float:
        return self.gateway.paced_threshold(self.gateway.snapshot)

    def _count_in_flight(self, target: Target) -> int:
        """The replaced ones count until they are done."""
        retired = (one for one in self._retired if isinstance(one, Upstream))
        return sum(
            one.count_in_flight()
            for one in (self._tier(target), *retired)
            if one.name == target.value
        )

    def _price_list(self, config: Config) -> Path | None:
        return pricing_path(config, self._path) if self._path is not None else None

    def _snapshot(
        self, config: Config, loaded: Loaded, candidate: Loaded, *, old: Snapshot | None = None
    ) -> Snapshot:
        tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
        prices = Prices(tiers, load_prices(self._price_list(config)))
        if prices.cloud_is_free:
            logger.warning(
                "no price is known for %s: nothing will be counted as spent or saved; set "
                "upstreams.cloud.price",
                config.upstreams.cloud.model,
            )
        upstreams = {}
        for target, tier in tiers.items():
            upstream = old.upstreams[target] if old is not None else None
            if upstream is None or upstream.config != tier:
                upstream = Upstream(target.value, tier, transport=self._open_transport(tier))
            upstreams[target] = upstream
        return Snapshot(
            config=config,
            keys=ApiKeys(
                config.server.api_keys,
                origins=config.server.cors_origins,
                is_private=config.server.is_private and not config.server.allow_anonymous,
            ),
            router=Router(config, loaded.scorer, thresholds=loaded.manifest),
            upstreams=upstreams,
            prices=prices,
            model_version=loaded.version,
            sampler=Sampler(config.judge, dice=random.Random()) if _judges(config) else None,
            shadow_router=_shadow_router(config, candidate),
        )

    async def _model_for(self, config: Config) -> Loaded:
        """The model in use, unless the configuration names another or its files have changed."""
        unchanged = config.routing.model_path == self.config.routing.model_path
        if self._fixed_model is not None or (
            unchanged and self._loaded.fingerprint == _fingerprint(config.routing.model_folder)
        ):
            return self._loaded
        return await asyncio.to_thread(load_model, config)

    async def _shadow_model_for(self, config: Config) -> Loaded:
        """The candidate in use, with the same exception."""
        wanted, running = config.routing.candidate, self.config.routing.candidate
        unchanged = (
            wanted is not None
            and running is not None
            and wanted.path == running.path
            and self._candidate.fingerprint == _fingerprint(Path(wanted.path))
        )
        if unchanged or self._fixed_shadow_model is not None:
            return self._candidate
        return await asyncio.to_thread(load_shadow_model, config)

    def _retire(self, gone: set[Upstream | Scorer], *, after_seconds: float) -> None:
        """Close what a reload replaced once the last request that may use it is over."""

        async def close() -> None:
            await asyncio.sleep(after_seconds)
            for one in gone:
                self._retired.discard(one)
                await _close(one)

        if gone:
            self._retired |= gone
            self._start(close())

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_learning(self) -> None:
        """Models are pulled, loaded with another context, and replaced while the proxy runs."""
        while True:
            await asyncio.sleep(LEARN_SECONDS)
            await self._tier(Target.LOCAL).refresh_capabilities()

    async def _keep_probing(self) -> None:
        """A tier that recovers is noticed before the next trial request would.

        The local one is asked again what it can do: it may not have been there before.
        """
        while True:
            await asyncio.sleep(PROBE_SICK_SECONDS)
            for target in Target:
                await self._tier(target).probe_unhealthy()
            if (local := self._tier(Target.LOCAL)).capabilities_stale:
                await local.refresh_capabilities()

    async def _keep_quality(self) -> None:
        """What judges say of the answers is in the database, whoever put it there."""
        while True:
            since = time.time() - QUALITY_DAYS * 86_400
            try:
                self._quality = await asyncio.to_thread(
                    QualityQueries.beside(self.requests).quality, since
                )
            except StoreUnavailable as error:
                logger.warning("the answers' quality is not known: %s", error)
            await asyncio.sleep(self._quality_seconds)

    async def _judge_anew(self) -> None:
        """Have answers judged as it is configured now, if at all."""
        await self._end_judging()
        config, snapshot = self.config, self.gateway.snapshot
        if not _judges(config):
            return
        try:
            judge = open_judge(
                config,
                self._judge_queue,
                snapshot.prices,
                tiers=snapshot.upstreams,
                transport=self._open_transport,
                count=self.metrics.count_judging,
            )
        except JudgePriceUnknown as error:
            logger.error("nothing is judged: %s", error)
            return

        async def judge_on() -> None:
            try:
                await judge.run()
            finally:
                await judge.close()

        self._judge = judge
        self._judging = asyncio.create_task(judge_on())

    async def _end_judging(self) -> None:
        self._judge = None
        if self._judging is not None:
            self._judging.cancel()
            await asyncio.gather(self._judging, return_exceptions=True)
            self._judging = None

    async def _keep_drift(self) -> None:
        """Say it once when traffic no longer looks like what the router was fitted to, and once
        when it does again."""
        is_said = False
        while True:
            manifest = self._loaded.manifest
            reference = manifest.reference if manifest is not None else None
            try:
                found = None
                if reference is not None:
                    found = await asyncio.to_thread(self.requests.drift, reference)
                self._drift = found
                is_said = _tell_drift(found, is_said=is_said)
            except (StoreUnavailable, ValueError) as error:
                logger.warning("how traffic has changed is not known: %s", error)
            await asyncio.sleep(self._drift_seconds)

    async def _keep_budget(self) -> None:
        """What the other workers have spent, and what today is like, is in the database."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            keys = self.config.server.api_keys
            by_key = any(one.cloud_usd_per_day is not None for one in keys)
            if (budget := self.config.budget.cloud_usd_per_day) is not None or by_key:
                await self._read_spent(by_key=by_key)
            await self._limits.return_unused()
            if budget is not None:
                await self._read_hours()
                if share := self._limits.crossed_budget_share(budget):
                    logger.warning(
                        "%g %% of the day's %g USD for the cloud are spent", 100 * share, budget
                    )
            took = loop.time() - began
            await asyncio.sleep(max(self._spent_seconds, took / SPENT_SHARE))

    async def _read_spent(self, *, by_key: bool = True) -> None:
        today = self._limits.day_start()
        spent = await asyncio.to_thread(self.store.spent_by_others, today, by_key=by_key)
        if spent is not None:
            self._limits.update_others_spending(spent, since=today)

    async def _read_hours(self) -> None:
        """Those that may have changed since they were read; at first all that matter."""
        now = time.time()
        since = max(self._hours_read_at - HOUR_SECONDS, now - (PROFILE_DAYS + 1) * DAY_SECONDS)
        try:
            self._pacer.update_profile(await asyncio.to_thread(self.requests.spend_by_hour, since))
            self._hours_read_at = now
        except StoreUnavailable as error:
            logger.warning("what the hours cost is not known: %s", error)

    async def _restore_budget(self) -> None:
        """What is known of the traffic and its dollars from before this process began."""
        await self._read_spent()
        await self._read_hours()
        try:
            since = time.time() - 4 * MEMORY_SECONDS
            self._pacer.restore(await asyncio.to_thread(self.requests.spend_by_score, since))
        except StoreUnavailable as error:
            logger.warning("what the scores cost is not known: %s", error)

    async def _keep_refreshing(self) -> None:
        """What this worker is doing, for the worker that is scraped."""
        while True:
            self.metrics.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def _watch_files(self, path: Path) -> None:
        """Reload when a file has changed and then stayed as it is: editors write in steps."""
        seen = self._taken_up = self._signature(path)
        while True:
            await asyncio.sleep(self._watch_seconds)
            found = self._signature(path)
            if found == seen and found != self._taken_up:
                await self.reload()
            seen = found

    def _signature(self, path: Path) -> Signature:
        """What tells that the configuration, its variables or the router model were written."""
        routing = self.config.routing
        manifests = [routing.model_folder / MANIFEST_FILE]
        if routing.candidate is not None:
            manifests.append(Path(routing.candidate.path, MANIFEST_FILE))
        files = (path, Path(".env"), *manifests, self._price_list(self.config))
        return [_written(one) for one in files if one is not None]

    @asynccontextmanager
    async def _live(self, app: Litestar) -> AsyncIterator[None]:
        self.store.open()
        with contextlib.suppress(StoreUnavailable):
            await asyncio.to_thread(self._jobs.interrupt_lost)
        await self._restore_budget()
        await self._tier(Target.LOCAL).refresh_capabilities()
        self._start(self._keep_learning())
        self._start(self._keep_probing())
        self._start(self._keep_quality())
        await self._judge_anew()
        self._start(self._keep_drift())
        self._start(self._keep_budget())
        if METRICS_VARIABLE in os.environ:
            self._start(self._keep_refreshing())
        if self._path is not None:
            self._start(self._watch_files(self._path))
        try:
            yield
        finally:
            ending = asyncio.create_task(asyncio.to_thread(self._jobs.close))
            await self._end_judging()
            await self.gateway.drain()
            await self._limits.return_unused(everything=True)
            self._limits.close()
            self.metrics.count_all()
            await ending
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            in_use = set(self.gateway.snapshot.upstreams.values())
            for one in (*self._retired, *in_use, self._loaded.scorer, self._candidate.scorer):
                if one is not None:
                    await _close(one)
            await asyncio.to_thread(self.store.close)


def _judges(config: Config) -> bool:
    return config.judge.enabled and config.storage.prompts == "full"


def _shadow_router(config: Config, candidate: Loaded) -> ShadowRouter | None:
    """The candidate with its threshold, the one that it would have if it decided."""
    if config.routing.candidate is None or candidate.scorer is None:
        return None
    return ShadowRouter(
        candidate.scorer,
        threshold=Router(config, None, thresholds=candidate.manifest).threshold,
        share=config.routing.candidate.share,
    )


def _tell_drift(drift: Drift | None, *, is_said: bool) -> bool:
    """Whether it is said now that traffic has drifted. What is not known changes nothing."""
    if drift is None or drift.is_much is is_said:
        return is_said
    if drift.is_much:
        logger.warning(
            "traffic no longer looks like what the router was fitted to: the drift index of the "
            "last %d scored requests is %.2f by score and %.2f by category (over %g is much); %s",
            drift.requests,
            drift.score,
            drift.category,
            MUCH,
            "; ".join(
                f"{name} was {before:.1%} and is {now:.1%}" for name, before, now in drift.moved
            ),
        )
    else:
        logger.info("traffic looks like what the router was fitted to again")
    return drift.is_much


def _is_one_of_many(config: Config) -> bool:
    """Whether other processes may answer the same clients."""
    return config.server.workers > 1 or is_postgresql(config.storage)


def _cors(config: Config) -> CORSConfig | None:
    """What browsers are told of the pages that may call the API; None where there are none."""
    origins = config.server.cors_origins
    if not origins:
        return None
    return CORSConfig(allow_origins=list(origins), expose_headers=list(openai_api.EXPOSED_HEADERS))


def _keep_fixed(config: Config, running: Config) -> Config:
    """The new configuration with what only a restart can change left as it runs."""
    fixed = ("host", "port", "workers", "cors_origins", "shutdown_grace_seconds")
    server = msgspec.structs.replace(
        config.server, **{name: getattr(running.server, name) for name in fixed}
    )
    for name, wanted, kept in (
        ("server", config.server, server),
        ("storage", config.storage, running.storage),
    ):
        if wanted != kept:
            logger.warning("%s: some of what changed there takes a restart", name)
    return msgspec.structs.replace(config, server=server, storage=running.storage)


async def _close(one: Upstream | Scorer) -> None:
    if isinstance(one, Scorer):
        one.close()
    else:
        await one.close()


def _fingerprint(folder: Path) -> str | None:
    """What tells one router model from another; None when there is none."""
    with contextlib.suppress(OSError):
        return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    return None


def _written(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()  # follows links: a mounted ConfigMap is one
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None
