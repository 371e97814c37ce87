"""Loads the router model and the shadow model that a configuration names.

An unusable model is logged and skipped: the router then decides without scores.
"""

import asyncio
import contextlib
import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from proxy.budget import Prices
from proxy.config import Config
from proxy.evaluation import changed_model
from proxy.protocol.ollama import is_same_model
from proxy.routing import TIMEOUT_SECONDS, Model, Router, Scorer, ShadowRouter, Verifier
from router_model.manifest import MANIFEST_FILE, Manifest
from router_model.model import RouterModel, RouterModelError
from router_model.value import GainPerDollar

logger = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A router model that is ready to score, and the manifest it was loaded with."""

    scorer: Scorer | None = None
    manifest: Manifest | None = None
    fingerprint: str | None = None

    @property
    def version(self) -> str | None:
        return self.manifest.version if self.manifest is not None else None

    def manifest_for(self, config: Config) -> Manifest | None:
        """The manifest for the configured objective."""
        if self.manifest is None:
            return None
        return self.manifest.for_objective(config.routing.objective)


class LoadedModels(NamedTuple):
    """The model that decides, and the shadow model, which only scores."""

    router: LoadedModel
    shadow: LoadedModel

    @property
    def scorers(self) -> set[Scorer]:
        return {model.scorer for model in self if model.scorer is not None}


class ModelLoader:
    """Loads the models of a configuration, at the start and at each reload.

    Args:
        router: scores texts; by default the router model at `routing.model_path`.
        shadow: the same for the model at `routing.shadow_router`.
    """

    def __init__(self, *, router: Model | None = None, shadow: Model | None = None) -> None:
        self._router = router
        self._shadow = shadow

    def load(self, config: Config) -> LoadedModels:
        """Load both models. An unusable one is logged and skipped."""
        if self._router is not None:
            manifest = self._router.manifest if isinstance(self._router, RouterModel) else None
            router = LoadedModel(Scorer(self._router), manifest)
        else:
            router = _load_if_possible(config)
        if self._shadow is not None:
            return LoadedModels(router, LoadedModel(_shadow_scorer(self._shadow)))
        try:
            return LoadedModels(router, load_shadow_model(config))
        except RouterModelError as error:
            logger.error("cannot load the shadow router model: %s", error)
            return LoadedModels(router, LoadedModel())

    async def reload(
        self, config: Config, *, running: Config, loaded: LoadedModels
    ) -> LoadedModels:
        """The models of a new configuration. A model whose path and files are unchanged is reused.

        Args:
            running: the configuration in use.
            loaded: its models.

        Raises:
            RouterModelError: a model that the configuration names cannot be loaded.
        """
        router, shadow = loaded
        if self._router is None and (
            config.routing.model_path != running.routing.model_path
            or router.fingerprint != _fingerprint(config.routing.model_folder)
        ):
            router = await asyncio.to_thread(load_model, config)
        if self._shadow is None and not _is_shadow_unchanged(config, running, shadow):
            shadow = await asyncio.to_thread(load_shadow_model, config)
        return LoadedModels(router, shadow)


def load_model(config: Config) -> LoadedModel:
    """Load the router model of a configuration. Raises RouterModelError."""
    folder = config.routing.model_folder
    fingerprint = _fingerprint(folder)
    model = RouterModel.load(folder)
    return LoadedModel(Scorer(model), model.manifest, fingerprint)


def load_shadow_model(config: Config) -> LoadedModel:
    """Load the shadow model of a configuration that names one. Raises RouterModelError."""
    if config.routing.shadow_router is None:
        return LoadedModel()
    folder = Path(config.routing.shadow_router.path)
    fingerprint = _fingerprint(folder)
    model = RouterModel.load(folder)
    return LoadedModel(_shadow_scorer(model), model.manifest, fingerprint)


def build_router(config: Config, model: LoadedModel, prices: Prices) -> Router:
    """The router of a configuration."""
    manifest = model.manifest_for(config)
    objective = _objective(manifest, prices)
    verifier = None if manifest is None else _verifier(manifest, config, objective)
    return Router(config, model.scorer, thresholds=manifest, objective=objective, verifier=verifier)


def load_router(config: Config, prices: Prices) -> tuple[Router, str | None]:
    """The router of a configuration, and the version of its model.

    Without a usable model (the log says why) the version is None, and the router still decides.
    """
    model = _load_if_possible(config)
    return build_router(config, model, prices), model.version


def build_shadow_router(config: Config, model: LoadedModel, prices: Prices) -> ShadowRouter | None:
    """The shadow router, with the threshold that it would have as the router."""
    if config.routing.shadow_router is None or model.scorer is None:
        return None
    manifest = model.manifest_for(config)
    return ShadowRouter(
        model.scorer,
        threshold=Router(config, None, thresholds=manifest).threshold,
        share=config.routing.shadow_router.share,
        objective=_objective(manifest, prices),
        score_system=config.routing.score_system,
    )


def _objective(manifest: Manifest | None, prices: Prices) -> GainPerDollar | None:
    if manifest is None or manifest.gain is None:
        return None
    return GainPerDollar(manifest.gain, prices.cloud_usd_per_token)


def _verifier(
    manifest: Manifest, config: Config, objective: GainPerDollar | None
) -> Verifier | None:
    """The verifier, if it was fitted to answers of the configured models."""
    verification = manifest.verification
    if verification is None or changed_model(verification, config) is not None:
        return None
    return Verifier(
        verification,
        calibration=manifest.calibration,
        objective=objective,
        threshold=manifest.threshold,
        band=config.verify.band,
    )


def warn_of_mismatches(manifest: Manifest, config: Config) -> None:
    """Log what the router model was not trained for: a model of a tier, or the objective."""
    trained = {"local": manifest.local_model, "cloud": manifest.cloud_model}
    for tier, model_name in trained.items():
        configured = getattr(config.upstreams, tier).model
        if not is_same_model(configured, model_name):
            logger.warning(
                "the router model was trained for %s as the %s model, not for %s: its scores "
                "still rank requests, but its threshold is not tuned to this pair",
                model_name,
                tier,
                configured,
            )
    look = manifest.for_objective(config.routing.objective).verification
    if config.verify.mode != "auto":
        look = None
    change = None if look is None else changed_model(look, config)
    if change is not None:
        logger.warning(
            "verify: the second look is off, because it was fitted to answers of other models: %s. "
            "Run `hybrid-llm calibrate --from-db --apply` once there are judged pairs of these",
            change,
        )
    elif look is not None:
        low, high = look.band if config.verify.band == "auto" else config.verify.band
        logger.info("verify: merits from %.4f to %.4f get a second look", low, high)
    if config.routing.objective == "gain_per_usd" and manifest.gain is None:
        logger.warning(
            "routing.objective: gain_per_usd, but this older router model does not predict the "
            "gain of a cloud answer: requests are ranked by score"
        )
    if config.routing.objective == "score" and manifest.gain and manifest.by_score is None:
        logger.warning(
            "routing.objective: score, but the router model has thresholds for gain_per_usd only; "
            "set routing.threshold, or run `hybrid-llm calibrate --from-db`"
        )


def _load_if_possible(config: Config) -> LoadedModel:
    try:
        model = load_model(config)
    except RouterModelError as error:
        logger.error("no router model, every routed request goes to the cloud: %s", error)
        return LoadedModel()
    if model.manifest is not None:
        warn_of_mismatches(model.manifest, config)
    return model


def _shadow_scorer(model: Model) -> Scorer:
    return Scorer(model, timeout_seconds=TIMEOUT_SECONDS, name="shadow router model")


def _is_shadow_unchanged(config: Config, running: Config, shadow: LoadedModel) -> bool:
    new, old = config.routing.shadow_router, running.routing.shadow_router
    return (
        new is not None
        and old is not None
        and new.path == old.path
        and shadow.fingerprint == _fingerprint(Path(new.path))
    )


def _fingerprint(folder: Path) -> str | None:
    """Identifies a router model by its manifest; None without one."""
    with contextlib.suppress(OSError, ValueError):
        return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    return None
