"""Instructor: structured output."""

from collections.abc import Iterator
from typing import Any

import instructor
import pytest
from openai import OpenAI
from pydantic import BaseModel
from scene import EASY, HARD, REPORT, TEXT, Report, Stage

MESSAGES: Any = [{"role": "user", "content": EASY}]


@pytest.fixture(params=["TOOLS", "JSON_SCHEMA"])
def mode(request: pytest.FixtureRequest) -> Any:
    """The request for structured output: a required tool, or a schema."""
    return instructor.Mode[request.param]


@pytest.fixture
def client(stage: Stage, mode: Any) -> Iterator[Any]:
    with OpenAI(max_retries=0) as client:
        yield instructor.from_openai(client, mode=mode)


def test_chat(client: Any, stage: Stage) -> None:
    for prompt in (EASY, HARD):
        messages = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(
            model="auto", messages=messages, response_model=None
        )
        assert answer.choices[0].message.content == TEXT
    assert stage.tiers == ["local", "cloud"]


def test_stream(client: Any) -> None:
    """A stream of partial objects."""
    *_, last = client.chat.completions.create_partial(
        model="auto", messages=MESSAGES, response_model=Report
    )
    assert last.model_dump() == REPORT.model_dump()


def test_structured(client: Any, stage: Stage, mode: Any) -> None:
    report, completion = client.chat.completions.create_with_completion(
        model="auto", messages=MESSAGES, response_model=Report
    )
    assert report.model_dump() == REPORT.model_dump()
    assert completion.usage.total_tokens == 29
    # Ollama does not support required tools.
    assert stage.call.tier == ("cloud" if mode is instructor.Mode.TOOLS else "local")


class Reply(BaseModel):
    """A reply to the user."""

    text: str


def test_saved(measure: Any) -> None:
    def ask(task: str) -> None:
        with OpenAI(max_retries=0) as client:
            instructor.from_openai(client).chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": task}],
                response_model=Reply,
            )

    measure(ask)
