"""Judged requests as data sets for calibration and router comparison: texts, arrays and splits.

The splits are those of training (router_model.split): a fifth of the conversations is held out.
"""

from collections import Counter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxy.config import Config
from proxy.evaluation.choices import ChosenRequest
from proxy.evaluation.queries import JudgedRequest, RatedRequest
from proxy.protocol.ollama import is_same_model
from router_model import calibrate, split
from router_model.calibrate import (
    CHOICE_WEIGHT,
    MAX_CHOICE_SHARE,
    RATING_WEIGHT,
    Outcomes,
    Ratings,
    effective_weights,
)
from router_model.evidence import Evidence
from router_model.label import is_ok
from router_model.manifest import Calibration, Gain, Manifest
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.task import new_chars, routing_text
from router_model.value import (
    CHARS_PER_TOKEN,
    UsdPerToken,
    expected_output_tokens,
    text_tokens,
    verified_merits,
)
from router_model.verification import Verification

MIN_REQUESTS: Final = 100


class NotEnoughJudgements(Exception):
    """There are too few judged requests to fit or compare. The message has the counts."""


class JudgedDataset(NamedTuple):
    """Judged requests of one pair of models, with the text to score. All in the same order.

    `input_tokens` [n] are of what was new in the requests, `text_tokens` [n] of the texts,
    `output_tokens` [n] of the cloud's answers, NaN where unknown.
    """

    requests: list[JudgedRequest]
    texts: list[str]
    outcomes: Outcomes

    @property
    def text_tokens(self) -> Floats:
        return np.array([text_tokens(text) for text in self.texts], dtype=float)

    @property
    def input_tokens(self) -> Floats:
        chars = [new_chars(request.turns or ()) for request in self.requests]
        return np.array(chars, dtype=float) / CHARS_PER_TOKEN

    @property
    def output_tokens(self) -> Floats:
        return np.array([request.cloud_output_tokens for request in self.requests], dtype=float)

    def logits(self, model: RouterModel) -> Floats:
        """The model's logits [n, 2 or 3] for the texts."""
        return np.array([model.logits(text) for text in self.texts])

    def merits(
        self, logits: Floats, calibration: Calibration, gain: Gain | None, prices: UsdPerToken
    ) -> Floats:
        """[n]: what the requests are ranked by, from their logits."""
        return calibrate.merits(
            logits,
            calibration,
            gain,
            self.input_tokens,
            text_tokens=self.text_tokens,
            prices=prices,
        )

    def policy_merits(
        self,
        logits: Floats,
        manifest: Manifest,
        config: Config,
        prices: UsdPerToken,
    ) -> Floats:
        """[n]: what a router compares with its threshold, after the second look if it has one.

        Requests without evidence are decided by the prompt. Streams count as all other requests.

        Args:
            manifest: for the configured objective.
        """
        merit = self.merits(logits, manifest.calibration, manifest.gain, prices)
        look = manifest.verification
        if look is None or config.verify.mode != "auto" or changed_model(look, config):
            return merit
        low, high = look.band_at(
            threshold_in_use(manifest, config),
            fitted_threshold=manifest.threshold,
            configured=config.verify.band,
        )
        evidence = self.evidence(config.verify.second)
        known = np.array([item is not None for item in evidence], dtype=bool)
        index = np.flatnonzero(known & (low <= merit) & (merit < high))
        if not index.size:
            return merit
        lengths = np.ones(index.size)
        if manifest.gain is not None:
            lengths = expected_output_tokens(manifest.gain, logits[index], self.text_tokens[index])
        verified = merit.copy()
        verified[index] = verified_merits(
            look.probabilities(logits[index], [evidence[i] for i in index]),
            manifest.gain,
            self.input_tokens[index],
            lengths,
            prices=prices,
        )
        return verified

    def evidence(self, second: str | None) -> list[Evidence | None]:
        """[n]: the evidence of second looks as configured now.

        Args:
            second: the second model. Evidence without its answer counts as none; without a second
                model the agreement with any other does not count.
        """
        return [_as_configured(request.evidence, second) for request in self.requests]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """[n]: the rows that measure a router."""
        return split.held_out(list(self.outcomes.group), self.texts)

    @property
    def is_test(self) -> NDArray[np.bool_]:
        """[n]: the test part. `held_out` is this without texts that other parts contain as well."""
        return np.array([split.part_of(group) == "test" for group in self.outcomes.group])

    def take(self, chosen: NDArray[np.bool_]) -> "JudgedDataset":
        """The chosen [n] rows."""
        index = np.flatnonzero(chosen)
        return JudgedDataset(
            [self.requests[i] for i in index],
            [self.texts[i] for i in index],
            self.outcomes.take(chosen),
        )


def threshold_in_use(manifest: Manifest, config: Config) -> float:
    """The threshold of a router: the configured one, or that of its manifest."""
    threshold = config.routing.threshold
    return manifest.threshold if threshold == "auto" else threshold


def changed_model(fitted: Verification, config: Config) -> str | None:
    """The configured model that a second look was not fitted to; None if it fits all."""
    pairs = (
        ("upstreams.local.model", fitted.local_model, config.upstreams.local.model),
        ("upstreams.cloud.model", fitted.cloud_model, config.upstreams.cloud.model),
        ("verify.second", fitted.second, config.verify.second or ""),
    )
    for name, known, configured in pairs:
        if not is_same_model(known, configured):
            return f"{name} is {configured or 'null'}, and was {known or 'null'}"
    return None


def dataset_of_pair(judged: list[JudgedRequest], config: Config) -> JudgedDataset:
    """The requests of the configured pair of models with a readable prompt.

    Raises:
        NotEnoughJudgements: fewer than MIN_REQUESTS.
    """
    local, cloud = config.upstreams.local.model, config.upstreams.cloud.model
    of_pair = [
        request
        for request in judged
        if is_same_model(request.local_model, local) and is_same_model(request.cloud_model, cloud)
    ]
    system = config.routing.score_system
    readable = [
        (routing_text(r.turns, score_system=system), r) for r in of_pair if r.turns is not None
    ]
    usable = [(text, request) for text, request in readable if text]
    if len(usable) < MIN_REQUESTS:
        pairs = Counter(f"{r.local_model} and {r.cloud_model}" for r in judged)
        counts = ", ".join(f"{n} of {pair}" for pair, n in pairs.most_common(5)) or "none"
        hint = ""
        if len(readable) < len(of_pair):
            missing = len(of_pair) - len(readable)
            hint = f"; {missing} have no readable prompt: storage.prompts"
        raise NotEnoughJudgements(
            f"{len(usable)} requests of {local} and {cloud} have judge scores for both answers "
            f"and a readable prompt; {MIN_REQUESTS} are needed (judged: {counts}{hint})"
        )
    texts = [text for text, _ in usable]
    requests = [request for _, request in usable]
    return JudgedDataset(requests, texts, _outcomes(requests, texts))


def ratings_of(rated: list[RatedRequest], config: Config, model: RouterModel) -> Ratings:
    """Client ratings of the configured models' answers, without those of the test part."""
    models = {"local": config.upstreams.local.model, "cloud": config.upstreams.cloud.model}
    of_pair = [
        (routing_text(request.turns, score_system=config.routing.score_system), request)
        for request in rated
        if request.turns is not None
        and is_same_model(request.model, models.get(request.target, ""))
    ]
    groups = [split.group_of(request.session_id, text) for text, request in of_pair]
    rows = [
        (text, request, group)
        for (text, request), group in zip(of_pair, groups, strict=True)
        if text and split.part_of(group) != "test"
    ]
    return Ratings(
        logits=np.array([model.logits(text)[:2] for text, _, _ in rows]).reshape(-1, 2),
        is_local=np.array([request.target == "local" for _, request, _ in rows], dtype=bool),
        ok=np.array([request.rating > 0 for _, request, _ in rows], dtype=bool),
        weight=np.array([RATING_WEIGHT * abs(request.rating) for _, request, _ in rows]),
        group=np.array([group for _, _, group in rows], dtype=str),
    )


def labels_of_choices(
    chosen: list[ChosenRequest], judged: JudgedDataset, config: Config, model: RouterModel
) -> Ratings:
    """Users' choices between the configured models as labels: two for each, one of each tier.

    An answer is labelled good unless the other one is preferred. Thus the difference of both labels
    is the preference: -1, 0 or 1, as the gain of the cloud's answer. A choice that belongs to the
    test part, by its conversation or by its text, is left out.

    Args:
        judged: all judged requests. Choices count at most MAX_CHOICE_SHARE of those that are not
            in the test part.
    """
    tiers = config.upstreams
    is_test = judged.is_test
    tested = {split.text_key(judged.texts[i]) for i in np.flatnonzero(is_test)}
    rows = []
    for request in chosen:
        if request.turns is None or not (
            is_same_model(request.local_model, tiers.local.model)
            and is_same_model(request.cloud_model, tiers.cloud.model)
        ):
            continue
        text = routing_text(request.turns, score_system=config.routing.score_system)
        group = split.group_of(request.session_id, text)
        if text and split.part_of(group) != "test" and split.text_key(text) not in tested:
            rows.append((text, request, group))
    logits = np.array([model.logits(text)[:2] for text, _, _ in rows]).reshape(-1, 2)
    groups = np.array([name for _, _, name in rows], dtype=str)
    weight = 0.0
    if rows:
        most = MAX_CHOICE_SHARE * effective_weights(judged.outcomes.weight[~is_test]).sum()
        weight = min(CHOICE_WEIGHT, float(most) / len(rows))
    return Ratings(
        logits=np.concatenate([logits, logits]),
        is_local=np.repeat([True, False], len(rows)),
        ok=np.array(
            [request.choice != other for other in ("cloud", "local") for _, request, _ in rows],
            dtype=bool,
        ),
        weight=np.full(2 * len(rows), weight),
        group=np.concatenate([groups, groups]),
    )


def _as_configured(evidence: Evidence | None, second: str | None) -> Evidence | None:
    if evidence is None or second is None:
        return evidence and evidence._replace(agrees=None, second=None)
    has_answer = evidence.second is not None and is_same_model(evidence.second, second)
    return evidence if has_answer else None


def _outcomes(requests: list[JudgedRequest], texts: list[str]) -> Outcomes:
    local = np.array([r.local_score for r in requests], dtype=float)
    cloud = np.array([r.cloud_score for r in requests], dtype=float)
    known = [r.cloud_cost_usd for r in requests if r.cloud_cost_usd is not None]
    typical = float(np.median(known)) if known else 1.0
    pairs = zip(requests, texts, strict=True)
    return Outcomes(
        local=local,
        cloud=cloud,
        local_ok=np.array([is_ok(s) for s in local]),
        cloud_ok=np.array([is_ok(s) for s in cloud]),
        cost=np.array(
            [typical if r.cloud_cost_usd is None else r.cloud_cost_usd for r in requests]
        ),
        source=np.full(len(requests), "own traffic"),
        group=np.array([split.group_of(request.session_id, text) for request, text in pairs]),
        weight=np.array([r.weight for r in requests]),
    )
