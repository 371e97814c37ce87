"""smolagents' agent that writes code."""

import gc
from typing import Any

from scene import EASY, TEXT, Stage
from smolagents import CodeAgent, LogLevel, OpenAIModel


def agent(model: str, **options: Any) -> CodeAgent:
    return CodeAgent([], OpenAIModel(model), verbosity_level=LogLevel.OFF, **options)


def test_chat(stage: Stage, tier: str) -> None:
    assert agent(tier).run(EASY) == TEXT
    assert stage.tiers == [tier]


def test_stream(tier: str) -> None:
    assert agent(tier, stream_outputs=True).run(EASY) == TEXT


def test_stream_left_early_stops_the_upstream(stage: Stage, tier: str) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": f"HANG {EASY}"}]}]
    stream = OpenAIModel(tier).generate_stream(messages)
    next(stream)
    del stream
    gc.collect()  # smolagents closes no stream; it ends with its last reference
    stage.wait_until_released()


def test_saved(measure: Any) -> None:
    measure(lambda task: agent("auto").run(task))
