"""OpenAI's Agents SDK, over responses (its default) and over chat completions."""

import asyncio
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from scene import CITIES, EASY, HARD, REPORT, TEXT, Report, Stage, weather


@pytest.fixture(params=["responses", "chat"])
def make(request: pytest.FixtureRequest) -> Any:
    """A function that makes an agent for a model name, by the interface that it uses."""

    kinds = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}

    def agent(model: str, **options: Any) -> Agent:
        # The default client is shared, which the event loops of the tests are not.
        client = AsyncOpenAI(max_retries=0)
        return Agent("helper", model=kinds[request.param](model, client), **options)

    return agent


def text_delta(event: Any) -> str:
    is_delta = event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    return event.data.delta if is_delta else ""


async def test_chat(make: Any, stage: Stage) -> None:
    for prompt in (EASY, HARD):
        result = await Runner.run(make("auto"), prompt)
        assert result.final_output == TEXT
        assert result.context_wrapper.usage.total_tokens == 29
    assert stage.tiers == ["local", "cloud"]


async def test_stream(make: Any, tier: str) -> None:
    result = Runner.run_streamed(make(tier), EASY)
    assert "".join([text_delta(event) async for event in result.stream_events()]) == TEXT
    assert result.final_output == TEXT


async def test_stream_cancelled_by_the_client_stops_the_upstream(
    make: Any, stage: Stage, tier: str
) -> None:
    result = Runner.run_streamed(make(tier), f"HANG {EASY}")
    async for event in result.stream_events():
        if text_delta(event):
            result.cancel()
    stage.wait_until_released()


async def test_tools(make: Any, stage: Stage, tier: str) -> None:
    result = await Runner.run(make(tier, tools=[function_tool(weather)]), EASY)
    assert result.final_output == TEXT
    sent = str(stage.calls[-1].body)
    assert all(weather(city) in sent for city in CITIES)


async def test_tools_streamed(make: Any, tier: str) -> None:
    result = Runner.run_streamed(make(tier, tools=[function_tool(weather)]), EASY)
    outputs = [
        event.item.output
        async for event in result.stream_events()
        if event.type == "run_item_stream_event" and event.item.type == "tool_call_output_item"
    ]
    assert outputs == [weather(city) for city in CITIES]
    assert result.final_output == TEXT


async def test_tools_of_an_agent_that_hands_over(make: Any, tier: str) -> None:
    """A handoff is offered as a tool."""
    expert = make(tier)
    result = await Runner.run(make(tier, handoffs=[expert]), EASY)
    assert (result.final_output, result.last_agent) == (TEXT, expert)


async def test_structured(make: Any, tier: str) -> None:
    result = await Runner.run(make(tier, output_type=Report), EASY)
    assert result.final_output == REPORT


def test_responses_are_the_default(stage: Stage) -> None:
    assert Runner.run_sync(Agent("helper", model="auto"), EASY).final_output == TEXT
    assert stage.call.path == "/v1/responses"


async def test_errors_within_a_stream(make: Any, tier: str) -> None:
    result = Runner.run_streamed(make(tier), f"VANISH {EASY}")
    with pytest.raises(openai.APIError, match="interrupted its response"):
        async for _ in result.stream_events():
            pass


def test_saved(measure: Any) -> None:
    def ask(task: str) -> None:
        model = OpenAIResponsesModel("auto", AsyncOpenAI())
        asyncio.run(Runner.run(Agent("helper", model=model), task))

    measure(ask)
