"""The judge's agreement with humans, and the two-turn benchmark, with scripted models."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fakes import Answer, Call, FakeUpstream, answer_json, whole
from scripted_models import CLOUD, JUDGE, LOCAL, Models, arguments, completion
from training import benchmark, cli, judge, live
from training.dataset import DataError
from training.label import Rejection

# ── Agreement ─────────────────────────────────────────────────────────────────────────────────


def test_cohens_kappa_matches_a_published_example() -> None:
    # A textbook example of Cohen's kappa: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no.
    a = [1] * 25 + [0] * 25
    b = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert judge.kappa(a, b) == pytest.approx(0.4)
    assert judge.kappa(a, b, quadratic=True) == pytest.approx(0.4)  # equal for two values
    assert judge.kappa(a, a) == 1
    assert judge.kappa([1, 0], [0, 1]) == -1
    assert math.isnan(judge.kappa([1, 1], [1, 1]))


def test_quadratic_weights_penalize_large_differences() -> None:
    human = [1, 3, 5, 7, 9, 10]
    near, far = [2, 3, 5, 7, 9, 10], [9, 3, 5, 7, 9, 10]
    assert judge.kappa(human, near) == pytest.approx(judge.kappa(human, far), abs=0.05)
    assert judge.kappa(human, near, quadratic=True) > 0.97
    assert judge.kappa(human, far, quadratic=True) < 0.5


def test_figures_match_scipy_and_scikit_learn() -> None:
    stats = pytest.importorskip("scipy.stats")
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    a = rng.integers(1, 11, 200)
    b = np.clip(a + rng.integers(-3, 4, 200), 1, 10)
    assert judge.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    for quadratic in (False, True):
        expected = sklearn.cohen_kappa_score(a, b, weights="quadratic" if quadratic else None)
        assert judge.kappa(a, b, quadratic=quadratic) == pytest.approx(expected)


def test_spearman_ranges_from_minus_one_to_one() -> None:
    assert judge.spearman([1, 2, 3, 9], [2, 4, 5, 6]) == pytest.approx(1)
    assert judge.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(judge.spearman([5, 5], [1, 2]))


def annotated(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "annotated.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def row(human: float, answer: str = "cloud", **more: Any) -> dict[str, Any]:
    return {"question": f"q{human}", "answer": answer, "human_score": human, **more}


def validate(path: Path, *more: str) -> Result:
    out = path.parent / "figures.json"
    options = ["validate-judge", f"--file={path}", f"--out={out}", *more]
    return CliRunner().invoke(cli.main, options)


def test_scores_in_the_file_require_no_judge(tmp_path: Path) -> None:
    rows = [row(h, judge_score=j) for h, j in ((2, 3), (4, 4), (6.5, 8), (8, 7), (9, 10))]
    result = validate(annotated(tmp_path, *rows))
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["n"] == 5
    assert figures["spearman"][0] == pytest.approx(0.9)
    assert figures["same_side_of_ok"][0] == 0.8
    low, high = figures["spearman"][1:]
    assert -1 <= low < 0.9 < high <= 1
    assert figures["judge_model"] is None
    assert "spearman: 0.900 [" in result.output


def test_invalid_rows_are_named(tmp_path: Path) -> None:
    invalid = {
        "{": "not JSON",
        json.dumps(row(11)): "`human_score` is not from 1 to 10",
        json.dumps({"question": "q", "answer": "a"}): "`human_score` is missing",
        json.dumps(row(True)): "`human_score` is not a number",
        json.dumps(row(5, judge_score="7")): "`judge_score` is not a number",
        json.dumps(row(5, answer=" ")): "`answer` is not a text",
        json.dumps({"answer": "a", "human_score": 5}): "`question` is missing",
    }
    result = validate(annotated(tmp_path, row(5, judge_score=5), *invalid))
    assert result.exit_code == 1
    for number, message in enumerate(invalid.values(), start=2):
        assert f"annotated.jsonl:{number}: {message}" in result.output
    assert "at least 2 rows, not 1" in validate(annotated(tmp_path, row(5))).output


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        server.answer = Models()
        yield server


def _judge_options(upstream: FakeUpstream, folder: Path) -> list[str]:
    options = [option for option in arguments(upstream) if "local" not in option]
    return [
        *(option for option in options if "cloud" not in option),
        f"--journal={folder / 'journal'}",
    ]


async def test_missing_scores_are_requested_from_the_judge(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()
    upstream.answer = lambda call: (
        completion("10/10!") if "q3" in call.json["messages"][1]["content"] else models(call)
    )
    rows = [row(9), row(2, "local"), row(8), row(3, "local"), row(1, judge_score=1)]
    path = annotated(tmp_path, *rows)
    result = await asyncio.to_thread(validate, path, *_judge_options(upstream, tmp_path))
    assert result.exit_code == 0, result.output
    assert "annotated.jsonl:4: excluded, no verdict" in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["n"] == 4
    assert figures["kappa_ok"][0] == 1
    assert figures["judge_model"] == JUDGE
    assert len(upstream.calls) == 3 + len(judge.TEMPERATURES)


# ── The benchmark ─────────────────────────────────────────────────────────────────────────────


def test_questions_have_the_expected_categories_and_references() -> None:
    questions = benchmark.read_questions(live.QUESTIONS)
    assert Counter(q.category for q in questions) == dict.fromkeys(benchmark.CATEGORIES, 10)
    for category in ("reasoning", "math", "coding"):
        assert all(q.references for q in questions if q.category == category)
    assert len({turn for q in questions for turn in q.turns}) == 160
    assert {q.licence for q in questions} == {"Apache-2.0"}


def test_invalid_questions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    good = {"id": "a", "category": "c", "turns": ["x", "y"]}
    lines = [good, good, {**good, "turns": ["x"]}, {**good, "refs": []}]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(DataError) as caught:
        benchmark.read_questions(path)
    assert [line.split(": ")[0][-1] for line in str(caught.value).splitlines()] == ["2", "3", "4"]
    path.write_text("\n")
    with pytest.raises(DataError, match="no questions"):
        benchmark.read_questions(path)


def outcome(number: int, **scores: tuple[int, int]) -> benchmark.Outcome:
    targets: list[str | None] = ["local", "cloud"]
    tiers = {
        role: benchmark.Tier(scores=list(pair), usd=[0.1, 0.2], targets=targets)
        for role, pair in scores.items()
    }
    category = "math" if number % 2 else "own"
    return benchmark.Outcome(f"q{number}", category, tiers, judge_usd=0.01)


def test_report_has_the_recovered_share_of_the_gap() -> None:
    outcomes = [
        outcome(i, local=(4, 4), cloud=(8, 8 - i % 2), router=(7, 7 - i % 3)) for i in range(30)
    ]
    left_out = [Rejection("x", "local answer empty")]
    result = benchmark.report(outcomes, left_out, models={}, command="c", rounds=200)
    assert result["overall"]["quality"]["cloud"][0] == 7.75
    assert result["overall"]["quality_by_turn"]["router"] == [7, 6]
    pgr, low, high = result["overall"]["pgr"]
    assert pgr == pytest.approx(2.5 / 3.75, abs=1e-4)
    assert low < pgr < high
    assert list(result["categories"]) == ["math", "own"]
    assert result["overall"]["local_share"] == 0.5
    assert result["overall"]["cost_share"] == 1
    assert result["judge_usd"] == 0.3
    assert result["left_out"] == {"local answer empty": 1}
    benchmark.show(result)
    no_gap = [outcome(0, local=(5, 5), cloud=(5, 5), router=(5, 5))]
    result = benchmark.report(no_gap, [], models={}, command="c", rounds=10)
    assert math.isnan(result["overall"]["pgr"][0])
    benchmark.show(result)


def questions_file(folder: Path, number: int = 3) -> Path:
    path = folder / "questions.jsonl"
    rows = [
        {
            "id": f"q{i}",
            "category": "math",
            "turns": [f"first {i}", f"second {i}"],
            "references": [f"truth {i}", f"other truth {i}"],
        }
        for i in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def baseline(upstream: FakeUpstream, folder: Path, *more: str) -> Result:
    options = [
        "baseline",
        f"--questions={questions_file(folder)}",
        f"--out={folder / 'figures.json'}",
        f"--journal={folder / 'journal'}",
        *arguments(upstream, *more),
    ]
    return await asyncio.to_thread(CliRunner().invoke, cli.main, options)


async def test_both_tiers_and_the_proxy_are_benchmarked(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()

    def routing(call: Call) -> Answer:
        if call.json["model"] != "auto":
            return models(call)
        first = len(call.json["messages"]) == 1
        tier, model = ("local", LOCAL) if first else ("cloud", CLOUD)
        return completion(f"{tier} routed", model=model, headers=(("x-router-target", tier),))

    upstream.answer = routing
    result = await baseline(upstream, tmp_path, f"--router-url={upstream.base_url}")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    overall = figures["overall"]
    assert overall["questions"] == 3
    assert {role: q[0] for role, q in overall["quality"].items()} == {
        "local": 4,
        "cloud": 9,
        "router": 6.5,
    }
    assert overall["pgr"] == [0.5, 0.5, 0.5]
    assert overall["local_share"] == 0.5
    # Half of the proxy's answers came from the local tier, which is free.
    assert overall["usd"]["router"] == pytest.approx(overall["usd"]["cloud"] / 2)
    assert overall["cost_share"] == 0.5
    assert "math" in result.output
    second_turns = [c.json["messages"] for c in upstream.calls if len(c.json["messages"]) == 3]
    assert second_turns[0][1]["role"] == "assistant"
    materials = [c.json["messages"][1]["content"] for c in upstream.calls if _is_judge_call(c)]
    assert len(materials) == 3 * 2 * 3
    assert all("truth" in material for material in materials)
    upstream.calls.clear()
    repeated = await baseline(upstream, tmp_path, f"--router-url={upstream.base_url}")
    assert repeated.exit_code == 0
    assert not upstream.calls


def _is_judge_call(call: Call) -> bool:
    return bool(call.json["model"] == JUDGE)


async def test_question_without_all_answers_is_left_out(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()
    upstream.answer = lambda call: (
        completion("", model=LOCAL)
        if call.json["model"] == LOCAL and "second 1" in call.json["messages"][-1]["content"]
        else models(call)
    )
    result = await baseline(upstream, tmp_path)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["overall"]["questions"] == 2
    assert figures["left_out"] == {"local answer empty": 1}
    assert "pgr" not in figures["overall"]


async def test_incomplete_benchmark_writes_no_result(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    result = await baseline(upstream, tmp_path, "--max-usd=0.02", "--max-tokens=30")
    assert result.exit_code == 1
    assert "is used up" in result.output
    assert not (tmp_path / "figures.json").exists()


async def test_benchmark_without_answers_fails(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.answer = whole(answer_json(""))
    result = await baseline(upstream, tmp_path)
    assert result.exit_code == 1
    assert "no question could be benchmarked" in result.output
