"""smolagents: an agent that writes code, and one that calls tools."""

import gc
from typing import Any, ClassVar

import pytest
from scene import CITIES, EASY, TEXT, Stage
from smolagents import CodeAgent, LogLevel, OpenAIModel, Tool, ToolCallingAgent


class Weather(Tool):
    """The tool of the other clients."""

    name = "weather"
    description = "Tell the weather of a city."
    inputs: ClassVar = {"city": {"type": "string", "description": "The city."}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return f"It is sunny in {city}."


def code_agent(model: str, **options: Any) -> CodeAgent:
    return CodeAgent(tools=[], model=OpenAIModel(model), verbosity_level=LogLevel.OFF, **options)


def tool_agent(model: str, tools: list[Tool], **options: Any) -> ToolCallingAgent:
    """An agent that requires a tool call in each step, and ends by its tool `final_answer`."""
    return ToolCallingAgent(
        tools, OpenAIModel(model), verbosity_level=LogLevel.OFF, max_steps=3, **options
    )


def test_chat(stage: Stage, tier: str) -> None:
    assert code_agent(tier).run(EASY) == TEXT
    assert stage.tiers == [tier]


def test_stream(tier: str) -> None:
    assert code_agent(tier, stream_outputs=True).run(EASY) == TEXT


def test_stream_left_early_stops_the_upstream(stage: Stage, tier: str) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": f"HANG {EASY}"}]}]
    stream = OpenAIModel(tier).generate_stream(messages)
    next(stream)
    del stream
    gc.collect()  # smolagents closes no stream; it ends with its last reference
    stage.wait_until_released()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(stage: Stage, is_streamed: bool) -> None:
    agent = tool_agent("auto", [Weather()], stream_outputs=is_streamed)
    assert agent.run(EASY) == CITIES[0]
    assert f"It is sunny in {CITIES[0]}." in str(stage.calls[-1].body["messages"])
    assert {call.body["tool_choice"] for call in stage.calls} == {"required"}


def test_saved(measure: Any) -> None:
    measure(lambda task: code_agent("auto").run(task))


def test_tools_saved(measure: Any) -> None:
    measure(lambda task: tool_agent("auto", []).run(task))
