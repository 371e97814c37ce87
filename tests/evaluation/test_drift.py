"""A live proxy logs when its traffic drifts, and when the drift ends."""

import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes import StubModel
from live import StartProxy
from proxy.record import Reason, Target
from router_model.categories import category_of
from router_model.drift import reference_of
from router_model.manifest import Manifest
from router_model.model import RouterModel, Score
from served import MODEL
from stored import fill, finished

USUAL, NEW = "Solve 3x + 1 = 7", "Write a poem"


class Fitted(RouterModel):
    """The stub model with a manifest whose reference is 1,000 prompts of one kind."""

    def __init__(self) -> None:
        reference = reference_of([0.9] * 1_000, [category_of([("user", USUAL)])] * 1_000)
        self.manifest = msgspec.structs.replace(Manifest.load(MODEL), reference=reference)
        self._stub = StubModel()

    def score(self, text: str) -> Score:
        return self._stub.score(text)


def rows(number: int, *, score: float, text: str) -> list[Any]:
    common: dict[str, Any] = {"target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE}
    return [
        finished(created_at=time.time(), score=score, turns=[("user", text)], **common)
        for _ in range(number)
    ]


async def test_the_start_and_the_end_of_drift_are_logged_once(
    start: StartProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/router.db"
    fill(url, rows(700, score=0.55, text=NEW) + rows(300, score=0.9, text=USUAL))
    with caplog.at_level(logging.INFO, logger="proxy"):
        proxy = await start(model=Fitted())
        await proxy.reloaded(lambda: "traffic differs from" in caplog.text)
        assert "maths was 100.0% and is 30.0%" in caplog.text
        samples = await proxy.scrape()
        for name in ("score", "category"):
            assert samples("router_drift_index", of=name) > 1
        fill(url, rows(20_000, score=0.9, text=USUAL))
        await proxy.reloaded(lambda: "training data again" in caplog.text)
        samples = await proxy.scrape()
    assert 0 < samples("router_drift_index", of="score") < 0.25
    assert caplog.text.count("traffic differs from") == 1
    assert caplog.text.count("training data again") == 1
