"""Three scripted models behind one address: a local one, a cloud one, and a judge.

The judge gives 9 points to answers that start with `cloud`, and 4 to others. Words in a prompt
trigger special answers ("empty", "truncated", "declined"), see `Models.reply`.
"""

import json
import re
from collections import Counter
from typing import Any

from fakes import Answer, Call, FakeUpstream, error_json, whole

LOCAL, CLOUD, JUDGE = "scripted-local", "scripted-cloud", "scripted-judge"
# USD per million tokens; large, so that few calls cost dollars.
PRICES = {LOCAL: (0.0, 0.0), CLOUD: (100.0, 400.0), JUDGE: (100.0, 400.0)}


def completion(
    text: str | None,
    *,
    finish_reason: str | None = "stop",
    usage: dict[str, Any] | None = None,
    model: str = "scripted",
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """A chat answer, by default with 20 input and 10 output tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    body = {
        "model": model,
        "choices": [choice | {"finish_reason": finish_reason}],
        "usage": usage or {"prompt_tokens": 20, "completion_tokens": 10},
    }
    return whole(json.dumps(body).encode(), headers=headers)


def failure(status: int, message: str = "no", *, code: str | None = None, **more: Any) -> Answer:
    return whole(error_json(message, code=code), status=status, **more)


def verdict(request: dict[str, Any]) -> str:
    """The judge's verdict, which depends on the first words of the answers."""
    material = request["messages"][1]["content"]
    answers = re.findall(r"BEGIN (ANSWER\S*) \w+\n(\w*)", material)
    if len(answers) == 1:
        return json.dumps({"reasoning": "So.", "score": 9 if answers[0][1] == "cloud" else 4})
    [side] = [name for name, word in answers if word == "cloud"] or ["tie"]
    return json.dumps({"reasoning": "So.", "verdict": side.removeprefix("ANSWER-")})


class Models:
    """The script of a FakeUpstream: `upstream.answer = models`. Sums the billed costs."""

    def __init__(self) -> None:
        self.billed_usd = 0.0
        self.asked: Counter[str] = Counter()

    def __call__(self, call: Call) -> Answer:
        self.asked[call.body.decode()] += 1
        return self.bill(call.json, self.reply(call.json))

    def reply(self, request: dict[str, Any]) -> Answer:
        if request["model"] == JUDGE:
            return completion(verdict(request), model=JUDGE)
        prompt = request["messages"][-1]["content"]
        tier = "local" if request["model"] == LOCAL else "cloud"
        if tier == "local":
            if "empty" in prompt:
                return completion(" \n", model=LOCAL)
            if "truncated" in prompt and request["max_tokens"] < 1000:
                return completion("local tells half a", finish_reason="length", model=LOCAL)
            if "declined" in prompt:
                return failure(400, "too long for this model")
        return completion(f"{tier} answers: {prompt}", model=request["model"])

    def bill(self, request: dict[str, Any], answer: Answer) -> Answer:
        read, written = PRICES[request["model"]]
        [data] = answer
        assert isinstance(data, bytes)
        head, _, body = data.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200") and (usage := json.loads(body).get("usage")):
            tokens = usage["prompt_tokens"] * read + usage["completion_tokens"] * written
            self.billed_usd += tokens / 1e6
        return answer


def arguments(upstream: FakeUpstream, *more: object) -> list[str]:
    """The options that point all roles at the scripted models."""
    options = []
    for role, model in (("local", LOCAL), ("cloud", CLOUD), ("judge", JUDGE)):
        price = "{},{}".format(*PRICES[model])
        options += [
            f"--{role}-url={upstream.base_url}",
            f"--{role}-model={model}",
            f"--{role}-price={price}",
        ]
    return [*options, "--backoff=0.001", *map(str, more)]
