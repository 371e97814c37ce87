"""smolagents' agent that calls tools: each step requires a call, the last one of `final_answer`."""

from typing import Any, ClassVar

import pytest
from scene import CITIES, EASY, Stage
from smolagents import LogLevel, OpenAIModel, Tool, ToolCallingAgent


class Weather(Tool):
    """The tool of the other clients."""

    name = "weather"
    description = "Tell the weather of a city."
    inputs: ClassVar = {"city": {"type": "string", "description": "The city."}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return f"It is sunny in {city}."


def agent(*tools: Tool, **options: Any) -> ToolCallingAgent:
    model = OpenAIModel("auto")
    return ToolCallingAgent(
        list(tools), model, verbosity_level=LogLevel.OFF, max_steps=3, **options
    )


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(stage: Stage, is_streamed: bool) -> None:
    assert agent(Weather(), stream_outputs=is_streamed).run(EASY) == CITIES[0]
    assert f"It is sunny in {CITIES[0]}." in str(stage.calls[-1].body["messages"])
    assert {call.body["tool_choice"] for call in stage.calls} == {"required"}


def test_saved(measure: Any) -> None:
    measure(lambda task: agent().run(task))
