"""The test of LangChain's tool calls, for each of its chat models."""

from typing import Any

from langchain_core.tools import tool
from scene import CITIES, EASY, TEXT, weather


def check_tools(model: Any, *, is_streamed: bool) -> None:
    """Have a model call a tool, whole or as a stream, and answer with the results."""
    model = model.bind_tools([tool(weather)])
    if is_streamed:
        first, *rest = model.stream(EASY)
        message: Any = sum(rest, first)
    else:
        message = model.invoke(EASY)
    assert [call["args"] for call in message.tool_calls] == [{"city": city} for city in CITIES]
    results = [tool(weather).invoke(call) for call in message.tool_calls]
    assert model.invoke([("user", EASY), message, *results]).text == TEXT
