"""Shared by tests of the second look: a router model that is uncertain, and scripted local models.

Its combiner is written by hand, so that each answer has a known verdict: agreement keeps it,
disagreement escalates it, and without evidence the prompt alone decides.
"""

import json
from collections.abc import Sequence
from typing import Any

from fakes import (
    DONE,
    Answer,
    Call,
    Step,
    answer_json,
    chunk,
    chunked,
    event,
    response_answer,
    response_events,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL
from router_model.evidence import InputName
from router_model.model import RouterModel
from router_model.score import Score
from router_model.verification import Input, PromptWeights, Verification
from routers import synthetic_manifest

SECOND_MODEL = "llama3:8b"
UNCERTAIN, SURE, LOST = "How many legs has a spider?", "Say hello.", "Prove it."
OLLAMA = {  # its native API, of the first version with log-probabilities
    "/api/version": whole(b'{"version": "0.12.11"}'),
    "/api/show": whole(b'{"capabilities": ["completion"], "model_info": {}}'),
}
_NOTHING = Input(0.0, 1.0, (0.0, 0.0, 0.0))


def verification(*, second: str = SECOND_MODEL, better: float = 0.0, **fields: Any) -> Verification:
    """A combiner in which agreement decides, and a sure token counts a little.

    Args:
        better: the log-odds of a better cloud answer by the prompt alone.
    """
    prompt = PromptWeights((better, 0.0, 0.0), _NOTHING, _NOTHING)
    weights: dict[InputName, Input] = {
        "agrees": Input(0.5, 0.5, (-3.0, 0.0, 0.0)),
        "mean_logprob": Input(-1.0, 1.0, (-1.5, 0.0, 0.0)),
        "self_check": Input(0.0, 4.6, (-3.0, 0.0, 0.0)),
    }
    values: dict[str, Any] = {
        "local_model": LOCAL_MODEL,
        "cloud_model": CLOUD_MODEL,
        "second": second,
        "pairs": 100,
        "band": (0.3, 0.7),
        "prompt": prompt,
        "beside_evidence": prompt,
        "evidence": weights,
    }
    return Verification(**(values | fields))


class UncertainModel(RouterModel):
    """Scores 0.55 for UNCERTAIN, 0.9 for SURE and 0.1 for LOST. It has no network."""

    def __init__(self, combiner: Verification | None = None, *, uncertain: float = 0.55) -> None:
        self.manifest = synthetic_manifest(verification=combiner or verification())
        self._uncertain = uncertain

    def score(self, text: str) -> Score:
        if LOST in text:
            return Score(0.1, 0.2, 0.8)
        return Score(self._uncertain if UNCERTAIN in text else 0.9, 0.6, 0.7)


def tokens_of(text: str, logprob: float) -> list[dict[str, Any]]:
    """The log-probabilities of a text in two tokens, as chat answers have them."""
    parts = [text[: len(text) // 2], text[len(text) // 2 :]]
    return [
        {
            "token": part,
            "logprob": logprob,
            "bytes": list(part.encode()),
            "top_logprobs": [
                {"token": part, "logprob": logprob, "bytes": None},
                {"token": "?", "logprob": logprob - 2.0, "bytes": None},
            ],
        }
        for part in parts
    ]


class LocalModels:
    """Answers of the local server's models, in the form that the request asks for.

    Args:
        first, second: the answers. None refuses the second model.
        logprob: of each token, if the request asks for log-probabilities.
        says: the answer of a self-check.
    """

    def __init__(
        self,
        first: str = "It has 8 legs.",
        second: str | None = "8",
        *,
        logprob: float = -0.1,
        says: str = "Yes",
    ) -> None:
        self.first = first
        self.second = second
        self.logprob = logprob
        self.says = says
        self.before: dict[str, Sequence[Step]] = {}  # steps before the answer, by the model

    def __call__(self, call: Call) -> Answer:
        body = call.json
        model = body["model"]
        steps = self.before.get(model, ())
        if body.get("max_tokens") == 1:
            return [*steps, *self._chat(self.says, body)]
        text = self.second if model == SECOND_MODEL else self.first
        if text is None:
            return whole(b'{"error": {"message": "model not found"}}', status=404)
        if call.path.endswith("/responses"):
            if body.get("stream"):
                return [*steps, *chunked(*response_events([text]))]
            return [*steps, *response_answer(text)]
        if body.get("stream"):
            return [*steps, *self._streamed(text, body)]
        return [*steps, *self._chat(text, body)]

    def _chat(self, text: str, body: dict[str, Any]) -> Answer:
        answer = json.loads(answer_json(text))
        if body.get("logprobs"):
            answer["choices"][0]["logprobs"] = {"content": tokens_of(text, self.logprob)}
        return whole(json.dumps(answer).encode())

    def _streamed(self, text: str, body: dict[str, Any]) -> Answer:
        events = []
        for token in tokens_of(text, self.logprob):
            data = chunk({"content": token["token"]})
            if body.get("logprobs"):
                data["choices"][0]["logprobs"] = {"content": [token]}
            events.append(event(data))
        usage = {"prompt_tokens": 19, "completion_tokens": 2, "total_tokens": 21}
        events.append(event(chunk({}, "stop")))
        events.append(event(chunk(usage=usage)))
        return chunked(*events, DONE)
