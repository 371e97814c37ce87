"""The errors of many tests, and what earlier steps leave to the next one."""

from typing import Any

from proxy.learning.policy import (
    ERROR,
    FIRST_PAIRS,
    MIN_NEW_PAIRS,
    level_of,
    pairs_needed,
)
from proxy.learning.steps import (
    LearningStep,
    Models,
    Progress,
    history_of,
    progress_of,
)

A, B = Models("phi3:latest", "gpt-4o-mini", ""), Models("qwen3:8b", "gpt-4o-mini", "")


def step(number: int, kind: str, models: Models = A, **fields: Any) -> LearningStep:
    """A finished step at `number` seconds, which has seen `number` hundreds of judgements."""
    values: dict[str, Any] = {
        "id": number, "created_at": float(number), "ended_at": float(number), "kind": kind,
        "state": "done", "local_model": models.local, "cloud_model": models.cloud,
        "second_model": models.second, "judgement_id": 100 * number,
    }  # fmt: skip
    return LearningStep(**values | fields)


def test_the_errors_of_all_tests_together_have_a_bound() -> None:
    errors = [1 - level_of(test) for test in range(1, 10_000)]
    assert sum(errors) <= ERROR
    assert sum(errors[:4]) >= 0.75 * ERROR  # early tests have most of it
    assert errors == sorted(errors, reverse=True)


def test_the_pairs_between_two_fits_grow() -> None:
    assert [pairs_needed(last) for last in (None, 100, 600, 2000)] == [
        FIRST_PAIRS,
        MIN_NEW_PAIRS,
        300,
        1000,
    ]


def test_progress_begins_after_the_last_fit_of_the_pair() -> None:
    steps = [step(1, "models", judgement_id=0)]
    assert progress_of(steps, A) == Progress(0, FIRST_PAIRS)
    steps += [step(2, "fit", pairs=800, test=1), step(3, "models", B)]
    assert progress_of(steps, A) == Progress(200, 400)
    assert progress_of(steps, B) == Progress(300, FIRST_PAIRS)
    steps.append(step(4, "fit", B, state="running"))
    assert progress_of(steps, B) == Progress(300, FIRST_PAIRS)
    same = A._replace(local="phi3")
    assert progress_of(steps, same) == Progress(200, 400)
    steps.append(step(5, "fit", B, pairs=0, decision="postponed"))
    assert progress_of(steps, B) == Progress(500, FIRST_PAIRS)


def test_only_tests_of_the_pair_spend_its_error() -> None:
    steps = [
        step(1, "fit", test=1),
        step(2, "fit", test=None, decision="postponed"),
        step(3, "fit", B, test=1),
        step(4, "fit", test=2),
    ]
    assert history_of(steps, A, version="1").tests == 2
    assert history_of(steps, B, version="1").tests == 1


def test_the_users_dollars_survive_activations_but_no_other_router() -> None:
    steps = [step(1, "fit", test=1, version="1+own", decision="activated", cost_share=0.4)]
    history = history_of(steps, A, version="1+own")
    assert (history.cost_share, history.fitted_until) == (0.4, 1.0)
    changed = history_of(steps, B, version="1+own")  # the dollars stay, its pairs are others
    assert (changed.cost_share, changed.fitted_until) == (0.4, 0.0)
    assert history_of(steps, A, version="by hand").cost_share is None
    assert history_of(steps, A, version=None).cost_share is None


def test_after_a_rollback_only_later_conversations_test() -> None:
    steps = [step(1, "fit", test=1, version="2", decision="activated"), step(5, "rollback")]
    assert history_of(steps, A, version="1").tested_since == 5.0
    assert history_of(steps, B, version="1").tested_since == 0.0
