"""DSPy: programs with its default adapter, which puts a frame around each question."""

import os
from typing import Any

import dspy
from dspy.streaming import StreamListener
from scene import EASY, TEXT, Stage, cancel_reading


def lm(model: str) -> dspy.LM:
    """A model without DSPy's cache, which would answer for the proxy."""
    return dspy.LM(
        f"openai/{model}",
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key="unused",
        cache=False,
        num_retries=0,
    )


def predict(model: str, question: str) -> str:
    with dspy.context(lm=lm(model)):
        return dspy.Predict("question -> answer")(question=question).answer


def test_chat(stage: Stage, tier: str) -> None:
    assert predict(tier, EASY) == TEXT
    assert stage.tiers == [tier]


async def test_stream(tier: str) -> None:
    listener = StreamListener(signature_field_name="answer")
    program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
    with dspy.context(lm=lm(tier)):
        pieces = [piece async for piece in program(question=EASY)]
    assert pieces[-1].answer == TEXT
    assert "".join(piece.chunk for piece in pieces[:-1]) == TEXT


async def test_stream_cancelled_stops_the_upstream(stage: Stage, tier: str) -> None:
    program = dspy.streamify(dspy.Predict("question -> answer"), is_async_program=True)
    with dspy.context(lm=lm(tier)):
        await cancel_reading(program(question=f"HANG {EASY}"))
    stage.wait_until_released()


def test_saved(measure: Any) -> None:
    measure(lambda task: predict("auto", task))
