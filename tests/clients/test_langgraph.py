"""LangGraph: a graph, and its agent with tools."""

from typing import Any

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent
from scene import CITIES, EASY, HARD, REPORT, TEXT, Report, Stage, cancel_reading, weather


def graph(model: str, **options: Any) -> Any:
    """A graph with one node, which asks the model."""

    def ask(state: MessagesState) -> Any:
        return {"messages": ChatOpenAI(model=model).invoke(state["messages"])}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(**options)


def user(text: str) -> Any:
    return {"messages": [("user", text)]}


def agent(model: str, **options: Any) -> Any:
    return create_react_agent(ChatOpenAI(model=model), [tool(weather)], **options)


def test_chat(stage: Stage) -> None:
    for prompt in (EASY, HARD):
        assert graph("auto").invoke(user(prompt))["messages"][-1].text == TEXT
    assert stage.tiers == ["local", "cloud"]


def test_chat_continued_from_a_checkpoint(stage: Stage) -> None:
    compiled = graph("auto", checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    for prompt in (EASY, "And 3+3?"):
        compiled.invoke(user(prompt), thread)
    contents = [message["content"] for message in stage.calls[-1].body["messages"]]
    assert contents == [EASY, TEXT, "And 3+3?"]


def test_stream(tier: str) -> None:
    stream = graph(tier).stream(user(EASY), stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in stream) == TEXT


async def test_stream_cancelled_stops_the_upstream(stage: Stage, tier: str) -> None:
    asked = create_react_agent(ChatOpenAI(model=tier), [])
    await cancel_reading(asked.astream(user(f"HANG {EASY}"), stream_mode="messages"))
    stage.wait_until_released()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(stage: Stage, tier: str, is_streamed: bool) -> None:
    if is_streamed:
        *_, state = agent(tier).stream(user(EASY), stream_mode="values")
    else:
        state = agent(tier).invoke(user(EASY))
    assert state["messages"][-1].text == TEXT
    results = [message for message in stage.calls[-1].body["messages"] if message["role"] == "tool"]
    assert [result["content"] for result in results] == [weather(city) for city in CITIES]


def test_structured(tier: str) -> None:
    state = agent(tier, response_format=Report).invoke(user(EASY))
    assert state["structured_response"] == REPORT


def test_saved(measure: Any) -> None:
    """The agent offers its tool with each task, and the models call it: two requests a task."""
    measure(lambda task: agent("auto").invoke(user(task)))
