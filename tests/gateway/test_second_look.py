"""The second look: in the band, evidence about the local answer decides who answers."""

import asyncio
import json
from typing import Any, NamedTuple

import httpx2
import pytest

from fakes import (
    DONE,
    Answer,
    Call,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    response_answer,
    response_events,
    whole,
)
from live import LOCAL_MODEL, LiveProxy, StartProxy
from looks import (
    LOST,
    OLLAMA,
    SECOND_MODEL,
    SURE,
    UNCERTAIN,
    LocalModels,
    UncertainModel,
    tokens_of,
    verification,
)
from proxy.gateway import second_look
from router_model.evidence import Evidence

VERIFY = {"second": SECOND_MODEL, "streams": "hold"}
KEPT, CLOUD = "It has 8 legs.", "Eight."


class Way(NamedTuple):
    """How a client asks: the endpoint, and whether it wants a stream."""

    endpoint: str
    streams: bool

    def body(self, text: str = UNCERTAIN, **fields: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": "auto", "stream": self.streams}
        if self.endpoint == "responses":
            return asked | {"input": text} | fields
        return asked | {"messages": [{"role": "user", "content": text}]} | fields

    async def ask(self, proxy: LiveProxy, text: str = UNCERTAIN, **fields: Any) -> httpx2.Response:
        path = "/v1/responses" if self.endpoint == "responses" else "/v1/chat/completions"
        headers = fields.pop("headers", None)
        return await proxy.client.post(path, json=self.body(text, **fields), headers=headers)

    def cloud_answer(self) -> Answer:
        if self.endpoint == "responses":
            events = response_events([CLOUD], response_id="resp_cloud")
            return chunked(*events) if self.streams else response_answer(CLOUD)
        return chunked(*openai_events([CLOUD])) if self.streams else whole(answer_json(CLOUD))

    def text_of(self, response: httpx2.Response) -> str:
        """The text that the client gets."""
        if not self.streams:
            if self.endpoint == "responses":
                return str(response.json()["output"][0]["content"][0]["text"])
            return str(response.json()["choices"][0]["message"]["content"])
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
        events = [json.loads(line) for line in lines]
        if self.endpoint == "responses":
            return "".join(item.get("delta", "") for item in events)
        choices = [choice for item in events for choice in item["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


WAYS = [Way(endpoint, streams) for endpoint in ("chat", "responses") for streams in (False, True)]


@pytest.fixture(
    params=WAYS, ids=lambda way: f"{way.endpoint}-{'stream' if way.streams else 'whole'}"
)
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


@pytest.fixture
def models(local: FakeUpstream) -> LocalModels:
    models = LocalModels(first=KEPT)
    local.answer, local.native = models, dict(OLLAMA)
    return models


async def started(start: StartProxy, cloud: FakeUpstream, way: Way, **changes: Any) -> LiveProxy:
    cloud.answer = way.cloud_answer()
    model = changes.pop("model", None) or UncertainModel()
    verify = VERIFY | changes.pop("verify", {})
    return await start({"verify": verify} | changes, model=model)


def models_asked(upstream: FakeUpstream) -> list[str]:
    return sorted(call.json["model"] for call in upstream.calls)


def call_of(upstream: FakeUpstream, model: str) -> Call:
    (call,) = [call for call in upstream.calls if call.json["model"] == model]
    return call


async def test_an_answer_that_the_second_model_gives_as_well_is_kept(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    proxy = await started(start, cloud, way)
    response = await way.ask(proxy)
    assert way.text_of(response) == KEPT
    assert models_asked(local) == [SECOND_MODEL, LOCAL_MODEL]
    assert cloud.calls == []
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["second_look"]) == ("local", "score", "kept")
    evidence = Evidence.from_json(row["evidence"])
    assert evidence is not None
    assert (evidence.agrees, evidence.broken) == (True, False)
    assert row["verified_merit"] > row["threshold"]
    assert 0 < row["second_look_ms"] <= row["duration_ms"]
    assert (row["cost_usd"], row["discarded_tokens"]) == (0.0, None)
    assert row["saved_usd"] > 0


async def test_an_answer_that_the_second_model_contradicts_is_escalated(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.second = "6"
    proxy = await started(start, cloud, way)
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    assert len(cloud.calls) == 1
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["second_look"]) == ("cloud", "escalated", "escalated")
    assert (row["fallback_from"], row["fallback_why"]) == ("local", "evidence")
    assert row["verified_merit"] < row["threshold"] <= row["merit"]
    assert row["discarded_tokens"] > 0
    assert row["cost_usd"] == row["cloud_cost_usd"] > 0
    assert row["saved_usd"] == 0


async def test_the_cloud_answers_after_the_longest_wait(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.before[SECOND_MODEL] = [Gate()]
    proxy = await started(start, cloud, way, verify={"max_wait_seconds": 0.3})
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    await call_of(local, SECOND_MODEL).closed()
    row = (await proxy.finish()).row
    assert (row["target"], row["second_look"]) == ("cloud", "timed_out")
    assert (row["reason"], row["fallback_why"]) == ("escalated", "verify_timeout")
    assert 290 < row["second_look_ms"] < row["duration_ms"]


async def test_a_slow_local_model_is_left_after_the_longest_wait(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.before[LOCAL_MODEL] = [Gate()]
    proxy = await started(start, cloud, way, verify={"max_wait_seconds": 0.3})
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    await call_of(local, LOCAL_MODEL).closed()
    row = (await proxy.finish()).row
    assert (row["target"], row["second_look"]) == ("cloud", "timed_out")
    assert (row["reason"], row["fallback_why"]) == ("fallback", "verify_timeout")
    assert row["discarded_tokens"] is None


async def test_a_client_that_leaves_ends_both_generations(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.before = {LOCAL_MODEL: [Gate()], SECOND_MODEL: [Gate()]}
    proxy = await started(start, cloud, way)
    path = "/v1/responses" if way.endpoint == "responses" else "/v1/chat/completions"
    body = json.dumps(way.body()).encode()
    client = await proxy.connect_raw(
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await local.called(2)
    client.vanish()
    for call in local.calls:
        await call.closed()
    assert cloud.calls == []
    row = (await proxy.finish()).row
    assert (row["ending"], row["second_look"]) == ("client_gone", None)


async def test_a_busy_local_tier_has_no_second_look(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    """There are two slots, and one of them is taken."""
    gate = Gate()
    models.before[LOCAL_MODEL] = [gate]
    proxy = await started(start, cloud, way, upstreams={"local": {"max_concurrency": 2}})
    other = asyncio.create_task(way.ask(proxy, SURE))
    await local.called()
    busy = asyncio.create_task(way.ask(proxy))
    await local.called(2)
    gate.open()
    assert way.text_of(await busy) == KEPT
    await other
    assert models_asked(local) == [LOCAL_MODEL, LOCAL_MODEL]
    rows = (await proxy.finish(2)).rows
    assert sorted(str(row["second_look"]) for row in rows) == ["None", "busy"]


async def test_without_the_second_model_the_other_evidence_decides(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    """Log-probabilities of a chat; without any, as here for responses, the prompt alone."""
    models.second = None
    model = UncertainModel(verification(better=1.0))
    proxy = await started(start, cloud, way, model=model)
    response = await way.ask(proxy)
    has_logprobs = way.endpoint == "chat"
    assert way.text_of(response) == (KEPT if has_logprobs else CLOUD)
    row = (await proxy.finish()).row
    evidence = Evidence.from_json(row["evidence"])
    assert evidence is not None
    assert (evidence.agrees, evidence.second) == (None, None)
    assert (evidence.mean_logprob is not None) == has_logprobs


async def test_a_server_without_log_probabilities_is_not_asked_for_them(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    local.native = {}
    proxy = await started(start, cloud, way)
    response = await way.ask(proxy)
    assert way.text_of(response) == KEPT
    assert not any("logprobs" in call.json for call in local.calls)
    row = (await proxy.finish()).row
    evidence = Evidence.from_json(row["evidence"])
    assert evidence is not None
    assert (evidence.mean_logprob, evidence.margin, evidence.agrees) == (None, None, True)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_server_that_refuses_log_probabilities_is_looked_at_without_them(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, streams: bool
) -> None:
    """The proxy asked for them, not the client."""

    def answer(call: Call) -> Answer:
        if "logprobs" in call.json:
            return whole(error_json("logprobs is not supported"), status=400)
        return models(call)

    local.answer = answer
    way = Way("chat", streams)
    proxy = await started(start, cloud, way)
    for _ in range(2):
        assert way.text_of(await way.ask(proxy)) == KEPT
    assert ["logprobs" in call.json for call in local.calls].count(True) == 1
    assert not cloud.calls


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_log_probabilities_are_evidence_that_the_client_does_not_see(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, streams: bool
) -> None:
    way = Way("chat", streams)
    combiner = verification(second="")
    proxy = await started(
        start, cloud, way, verify={"second": None}, model=UncertainModel(combiner)
    )
    response = await way.ask(proxy)
    assert way.text_of(response) == KEPT
    assert local.call.json["logprobs"] is True
    assert b"top_logprobs" not in response.content
    assert "token" not in response.text.replace("_tokens", "")
    row = (await proxy.finish()).row
    evidence = Evidence.from_json(row["evidence"])
    assert evidence is not None
    assert evidence.mean_logprob == pytest.approx(-0.1)
    assert evidence.margin == pytest.approx(2.0)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_client_gets_the_log_probabilities_that_it_asked_for(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, streams: bool
) -> None:
    way = Way("chat", streams)
    proxy = await started(start, cloud, way)
    response = await way.ask(proxy, logprobs=True, top_logprobs=1)
    assert call_of(local, LOCAL_MODEL).json["top_logprobs"] == 1
    assert b'"top_logprobs"' in response.content
    assert (await proxy.finish()).row["second_look"] == "kept"


async def test_unsure_tokens_escalate(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    models.logprob = -3.0
    way = Way("chat", streams=False)
    combiner = verification(second="")
    proxy = await started(
        start, cloud, way, verify={"second": None}, model=UncertainModel(combiner)
    )
    assert way.text_of(await way.ask(proxy)) == CLOUD
    assert (await proxy.finish()).row["second_look"] == "escalated"


@pytest.mark.parametrize(("says", "target"), [("Yes", "local"), ("No", "cloud")])
async def test_the_model_checks_its_own_answer(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    models: LocalModels,
    says: str,
    target: str,
) -> None:
    models.says = says
    way = Way("chat", streams=False)
    combiner = verification(second="")
    verify = {"second": None, "self_check": True, "logprobs": "off"}
    proxy = await started(start, cloud, way, verify=verify, model=UncertainModel(combiner))
    await way.ask(proxy)
    first, check = local.calls
    assert "logprobs" not in first.json
    assert check.json["messages"][1] == {"role": "assistant", "content": KEPT}
    row = (await proxy.finish()).row
    assert row["target"] == target


async def test_the_same_model_answers_again_at_another_temperature(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    way = Way("chat", streams=True)
    model = UncertainModel(verification(second=LOCAL_MODEL))
    proxy = await started(start, cloud, way, verify={"second": "phi3"}, model=model)
    await way.ask(proxy, temperature=0, seed=7, stream_options={"include_usage": True})
    again = next(call.json for call in local.calls if not call.json["stream"])
    assert (again["model"], again["temperature"]) == ("phi3", 0.8)
    assert "seed" not in again
    assert "stream_options" not in again
    assert (await proxy.finish()).row["second_look"] == "kept"


@pytest.mark.parametrize("text", [SURE, LOST])
async def test_outside_the_band_the_prompt_alone_decides(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    models: LocalModels,
    way: Way,
    text: str,
) -> None:
    proxy = await started(start, cloud, way)
    await way.ask(proxy, text)
    assert len(local.calls) + len(cloud.calls) == 1
    assert not any("logprobs" in call.json for call in local.calls)
    assert (await proxy.finish()).row["second_look"] is None


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"headers": {"x-router-verify": "off"}}, {}),
        ({"headers": {"x-router-target": "local"}}, {}),
        ({"model": "local"}, {}),
        ({"model": "auto:cost=0"}, {}),
        ({"n": 2}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
        ({}, {"verify": {"mode": "checks"}}),
        ({}, {"verify": {"mode": "off"}}),
        ({}, {"verify": {"band": [0.6, 0.7]}}),
        ({}, {"routing": {"threshold": 0.5, "fallback": False}}),
    ],
    ids=str,
)
async def test_who_has_no_second_look(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    models: LocalModels,
    fields: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    local.native = {}
    way = Way("chat", streams=False)
    proxy = await started(start, cloud, way, **changes)
    response = await way.ask(proxy, **fields)
    assert response.status_code == 200
    assert "x-router-second-look" not in response.headers
    assert models_asked(local) == [LOCAL_MODEL]
    assert (await proxy.finish()).row["second_look"] is None


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_streams_have_none_unless_they_are_held(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, endpoint: str
) -> None:
    way = Way(endpoint, streams=True)
    proxy = await started(start, cloud, way, verify={"streams": "skip"})
    assert way.text_of(await way.ask(proxy)) == KEPT
    assert models_asked(local) == [LOCAL_MODEL]
    assert not any("logprobs" in call.json for call in local.calls)
    assert (await proxy.finish()).row["second_look"] is None


async def test_a_whole_answer_to_a_stream_is_looked_at_as_well(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    """Some servers do not stream. No comment may come before their JSON."""
    gate = Gate()
    models.before[SECOND_MODEL] = [gate]
    way = Way("chat", streams=True)
    proxy = await started(start, cloud, way, server={"hold_seconds": 0.05})
    local.answer = lambda call: models(
        Call(call.method, call.path, call.headers, call.body.replace(b'"stream":true', b'"x":1'))
    )
    asked = asyncio.create_task(way.ask(proxy))
    await local.called(2)
    await asyncio.sleep(0.2)  # several times as long as a stream would be held
    gate.open()
    response = await asked
    assert response.json()["choices"][0]["message"]["content"] == KEPT
    assert (await proxy.finish()).row["second_look"] == "kept"


async def test_a_header_asks_for_it(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    way = Way("chat", streams=False)
    proxy = await started(start, cloud, way, verify={"mode": "off"})
    await way.ask(proxy, headers={"x-router-verify": "on"})
    assert (await proxy.finish()).row["second_look"] == "kept"


async def test_the_local_model_answers_first_below_the_threshold_too(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    """The dollars that were reserved for the cloud are free again."""
    model = UncertainModel(uncertain=0.45)
    budget = {"cloud_usd_per_day": 0.05}
    proxy = await started(start, cloud, way, model=model, budget=budget)
    for _ in range(8):  # each reserves some 0.01
        assert way.text_of(await way.ask(proxy)) == KEPT
    rows = (await proxy.finish(8)).rows
    assert {row["second_look"] for row in rows} == {"kept"}
    assert all(row["merit"] < row["threshold"] < row["verified_merit"] for row in rows)
    assert cloud.calls == []


async def test_a_local_answer_that_fails_a_check_needs_no_evidence(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.first = ""
    proxy = await started(start, cloud, way)
    assert way.text_of(await way.ask(proxy)) == CLOUD
    row = (await proxy.finish()).row
    assert (row["second_look"], row["failed_check"]) == ("failed", "empty")
    assert row["evidence"] is None


async def test_a_local_tier_that_fails_falls_back(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    local.answer = whole(error_json("out of memory"), status=500)
    proxy = await started(start, cloud, way)
    assert way.text_of(await way.ask(proxy)) == CLOUD
    row = (await proxy.finish()).row
    assert (row["second_look"], row["reason"]) == ("failed", "fallback")
    assert row["fallback_why"] == "server_error"


async def test_a_held_stream_that_breaks_is_replaced(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    """Nothing of it was sent, so the client sees only the cloud's stream."""
    way = Way("chat", streams=True)
    proxy = await started(
        start, cloud, way, verify={"second": None}, model=UncertainModel(verification(second=""))
    )
    local.answer = chunked(*openai_events()[:3], End.FIN)
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    row = (await proxy.finish()).row
    assert (row["second_look"], row["fallback_why"]) == ("failed", "upstream_broken")


async def test_a_rejected_answer_is_sent_if_the_cloud_fails(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    models.second = "6"
    proxy = await started(start, cloud, way)
    cloud.answer = whole(error_json("overloaded"), status=503)
    response = await way.ask(proxy)
    assert way.text_of(response) == KEPT
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["ending"]) == ("local", "fallback", "ok")
    assert row["second_look"] == "escalated"
    assert row["discarded_tokens"] is None


async def test_a_held_stream_is_kept_alive_and_complete(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    gate = Gate()
    models.before[SECOND_MODEL] = [gate]
    way = Way("chat", streams=True)
    proxy = await started(start, cloud, way, server={"hold_seconds": 0.05})
    client = await proxy.connect(stream=True, text=UNCERTAIN)
    head = await client.read_until(b": keep-alive\n\n")
    assert b"200" in head.splitlines()[0]
    await client.read_until(b": keep-alive\n\n")
    assert len(local.calls) == 2
    gate.open()
    rest = await client.read_until(b"[DONE]\n\n")
    assert b"8 legs" in rest
    await client.leave()
    assert (await proxy.finish()).row["second_look"] == "kept"


async def test_a_rejected_stream_is_sent_behind_comments_if_the_cloud_fails(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    gate = Gate()
    models.before[SECOND_MODEL], models.second = [gate], "6"
    way = Way("chat", streams=True)
    proxy = await started(start, cloud, way, server={"hold_seconds": 0.05})
    cloud.answer = whole(error_json("overloaded"), status=503)
    client = await proxy.connect(stream=True, text=UNCERTAIN)
    await client.read_until(b": keep-alive\n\n")
    gate.open()
    assert b"8 legs" in await client.read_until(b"[DONE]\n\n")
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["ending"]) == ("local", "fallback", "ok")


async def test_priced_local_models_are_billed_for_each_generation(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    price = {"input": 0.01, "output": 0.02}
    proxy = await started(start, cloud, way, upstreams={"local": {"price": price}})
    await way.ask(proxy)
    row = (await proxy.finish()).row
    given, written = row["input_tokens"], row["output_tokens"]
    own = (given * 0.01 + written * 0.02) / 1e6
    second = (19 * 0.01 + 10 * 0.02) / 1e6
    assert row["cost_usd"] == pytest.approx(own + second)
    assert row["saved_usd"] == pytest.approx(row["cloud_cost_usd"] - own - second)


async def test_a_bug_of_the_evidence_does_not_cost_the_answer(
    start: StartProxy,
    cloud: FakeUpstream,
    models: LocalModels,
    way: Way,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> Evidence:
        raise ZeroDivisionError

    monkeypatch.setattr(second_look, "evidence_of", fail)
    proxy = await started(start, cloud, way)
    assert way.text_of(await way.ask(proxy)) == KEPT
    row = (await proxy.finish()).row
    assert (row["second_look"], row["evidence"]) == ("kept", None)


async def test_other_models_turn_it_off(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    way = Way("chat", streams=False)
    proxy = await started(start, cloud, way, verify={"second": None})
    await way.ask(proxy)
    assert models_asked(local) == [LOCAL_MODEL]
    assert (await proxy.finish()).row["second_look"] is None


async def test_a_client_that_leaves_a_held_stream_releases_its_slot(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    gate = Gate()
    local.answer = chunked(*openai_events()[:3], gate, End.FIN)
    model = UncertainModel(verification(second=""))
    way = Way("chat", streams=True)
    proxy = await started(start, cloud, way, verify={"second": None}, model=model)
    client = await proxy.connect(stream=True, text=UNCERTAIN)
    await gate.reached()
    client.vanish()
    await local.call.closed()
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "client_gone"
    assert outcome.metrics("router_in_flight", target="local") == 0


async def test_the_request_timeout_leaves_time_for_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels, way: Way
) -> None:
    """However long a second look may take, it ends after half of the request's time."""
    models.before[SECOND_MODEL] = [Gate()]
    proxy = await started(start, cloud, way, server={"request_timeout_seconds": 1.0})
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    row = (await proxy.finish()).row
    assert (row["second_look"], row["ending"]) == ("timed_out", "ok")


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_an_error_of_the_local_tier_is_not_kept(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    models: LocalModels,
    way: Way,
    status: int,
) -> None:
    """It may be about the log-probabilities that the client did not ask for."""
    local.answer = whole(error_json("logprobs is not allowed here"), status=status)
    proxy = await started(start, cloud, way)
    assert way.text_of(await way.ask(proxy)) == CLOUD
    row = (await proxy.finish()).row
    assert (row["second_look"], row["reason"]) == ("failed", "fallback")


async def test_events_of_several_lines_stay_whole(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    """Their log-probabilities are taken out, and nothing else."""
    events = []
    for number, word in enumerate(("It has ", "8 legs.")):
        data = chunk({"content": word})
        data["choices"][0]["logprobs"] = {"content": [tokens_of(word, -0.1)[0]]}
        lines = json.dumps(data, indent=1).encode().split(b"\n")
        fields = b"".join(b"data: " + line + b"\n" for line in lines)
        events.append(b"id: %d\n" % number + fields + b"\n")
    local.answer = chunked(*events, event(chunk({}, "stop")), DONE)
    way = Way("chat", streams=True)
    model = UncertainModel(verification(second=""))
    proxy = await started(start, cloud, way, verify={"second": None}, model=model)
    response = await way.ask(proxy)
    assert way.text_of(response) == KEPT
    assert b"top_logprobs" not in response.content
    assert b"id: 1\n" in response.content
    assert (await proxy.finish()).row["second_look"] == "kept"


async def test_what_may_contain_log_probabilities_is_not_sent(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    """An event of over a megabyte passes unread, so the cloud answers."""
    data = chunk({"content": "x" * 3_000_000})
    data["choices"][0]["logprobs"] = {"content": tokens_of("It", -0.1)}
    local.answer = chunked(event(data), event(chunk({}, "stop")), DONE)
    way = Way("chat", streams=True)
    model = UncertainModel(verification(second=""))
    proxy = await started(start, cloud, way, verify={"second": None}, model=model)
    response = await way.ask(proxy)
    assert way.text_of(response) == CLOUD
    assert (await proxy.finish()).row["fallback_why"] == "logprobs"


async def test_an_answer_is_kept_if_the_budget_is_spent_meanwhile(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: LocalModels
) -> None:
    """The evidence speaks for the cloud, and another request has the dollars."""
    models.second, gate, slow = "6", Gate(), Gate()
    models.before[SECOND_MODEL] = [gate]
    way = Way("chat", streams=False)
    proxy = await started(start, cloud, way, budget={"cloud_usd_per_day": 0.004})
    cloud.answer = [slow, *way.cloud_answer()]
    asked = asyncio.create_task(way.ask(proxy))
    await local.called(2)
    other = asyncio.create_task(way.ask(proxy, LOST, model="cloud"))
    await cloud.called()
    gate.open()
    response = await asked
    assert way.text_of(response) == KEPT
    slow.open()
    await other
    rows = {row["target"]: row for row in (await proxy.finish(2)).rows}
    assert (rows["local"]["second_look"], rows["local"]["reason"]) == ("kept", "budget")
