"""Pydantic AI's agents, over chat completions and over responses."""

from typing import Any

import pytest
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from scene import CITIES, EASY, HARD, REPORT, TEXT, Report, Stage, weather


async def test_chat(stage: Stage) -> None:
    agent = Agent(OpenAIChatModel("auto"))
    for prompt in (EASY, HARD):
        result = await agent.run(prompt)
        assert result.output == TEXT
    assert stage.tiers == ["local", "cloud"]


async def test_stream(tier: str) -> None:
    async with Agent(OpenAIChatModel(tier)).run_stream(EASY) as result:
        assert [text async for text in result.stream_text(debounce_by=None)][-1] == TEXT


async def test_tools(stage: Stage, tier: str) -> None:
    agent = Agent(OpenAIChatModel(tier), tools=[weather])
    assert (await agent.run(EASY)).output == TEXT
    results = [message for message in stage.calls[-1].body["messages"] if message["role"] == "tool"]
    assert [result["content"] for result in results] == [weather(city) for city in CITIES]


@pytest.mark.parametrize("kind", [Report, NativeOutput(Report)], ids=["tool", "native"])
async def test_structured(kind: Any) -> None:
    agent: Any = Agent(OpenAIChatModel("auto"), output_type=kind)
    assert (await agent.run(EASY)).output == REPORT
    async with agent.run_stream(EASY) as result:
        assert await result.get_output() == REPORT


async def test_responses(stage: Stage, tier: str) -> None:
    agent = Agent(OpenAIResponsesModel(tier), tools=[weather])
    assert (await agent.run(EASY)).output == TEXT
    async with agent.run_stream(EASY) as result:
        assert await result.get_output() == TEXT
    assert {call.path for call in stage.calls} == {"/v1/responses"}
    typed: Any = Agent(OpenAIResponsesModel(tier), output_type=NativeOutput(Report))
    assert (await typed.run(EASY)).output == REPORT


def test_saved(measure: Any) -> None:
    measure(lambda task: Agent(OpenAIChatModel("auto")).run_sync(task))
