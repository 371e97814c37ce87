"""Fields that a tier does not accept, and what is learned of the local model's refusals."""

import json
from typing import Any

import pytest

from fakes import (
    EASY,
    HARD,
    Answer,
    Call,
    FakeUpstream,
    answer_json,
    chunked,
    error_json,
    openai_events,
    response_answer,
    whole,
)
from live import CLOUD_MODEL, LOCAL_KEY, LOCAL_MODEL, StartProxy, envelope_of
from proxy.protocol.refusals import RefusedField
from proxy.record import Target

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Strict:
    """A server that refuses fields, one at a time, in a form of its own."""

    def __init__(self, *refused: str, form: str = "openai", status: int = 400) -> None:
        self.refused = refused
        self.status = status
        self._form = form

    def __call__(self, call: Call) -> Answer:
        body = call.json
        name = next((name for name in self.refused if name in body), None)
        if name is None:
            return answered(call)
        return whole(json.dumps(self._error(name)).encode(), status=self.status)

    def _error(self, name: str) -> Any:
        match self._form:
            case "openai":
                what = f"Unsupported parameter: '{name}' is not supported with this model."
                return openai_error(what, param=name, code="unsupported_parameter")
            case "old openai":
                return openai_error(f"Unrecognized request argument supplied: {name}")
            case "pydantic":
                return {"detail": [extra_field(name)]}
            case "mistral":
                return {"object": "error", "message": {"detail": [extra_field(name)]}, "code": None}
            case "text":
                return {"error": f"json: unknown field {json.dumps(name)}"}
            case _:
                return {
                    "error_code": "BAD_REQUEST",
                    "message": f"{name}: Extra inputs are not permitted",
                }


def extra_field(name: str) -> dict[str, Any]:
    return {
        "type": "extra_forbidden",
        "loc": ["body", name],
        "msg": "Extra inputs are not permitted",
    }


def openai_error(message: str, *, param: str | None = None, code: str | None = None) -> Any:
    fields = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return {"error": fields}


def answered(call: Call) -> Answer:
    if call.path.endswith("/responses"):
        return response_answer()
    return chunked(*openai_events()) if call.json.get("stream") else whole(answer_json())


@both_forms
@pytest.mark.parametrize(
    "form", ["openai", "old openai", "pydantic", "mistral", "text", "databricks"]
)
@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 40), ("keep_alive", "5m"), ("options", {"num_ctx": 8}), ("chat_template_kwargs", {}),
     ("temperature", 0.2), ("my_trace_id", "7")],
)  # fmt: skip
async def test_a_refused_field_is_left_out_and_remembered(
    start: StartProxy, cloud: FakeUpstream, form: str, field: str, value: Any, stream: bool
) -> None:
    cloud.answer = Strict(field, form=form, status=422 if form in ("pydantic", "mistral") else 400)
    proxy = await start()
    for _ in range(2):
        response = await proxy.chat(text=HARD, stream=stream, seed=7, **{field: value})
        assert response.status_code == 200
        assert response.headers["x-router-target"] == "cloud"
        assert response.headers["x-router-adapted"] == field
    assert [field in call.json for call in cloud.calls] == [True, False, False]
    assert all(call.json["seed"] == 7 for call in cloud.calls)  # the others stay
    rows = (await proxy.finish(2)).rows
    assert [row["ending"] for row in rows] == ["ok", "ok"]


@both_forms
@pytest.mark.parametrize("old", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_gets_its_other_name(
    start: StartProxy, cloud: FakeUpstream, old: str, stream: bool
) -> None:
    [new] = {"max_tokens", "max_completion_tokens"} - {old}
    cloud.answer = Strict(old, "temperature")
    proxy = await start()
    for _ in range(2):
        response = await proxy.chat(text=HARD, stream=stream, temperature=0.2, **{old: 50})
        assert response.headers["x-router-adapted"] in (
            f"temperature, {old}->{new}",
            f"{old}->{new}, temperature",
        )
        assert (response.status_code, cloud.calls[-1].json[new]) == (200, 50)
        assert old not in cloud.calls[-1].json
    assert len(cloud.calls) == 4


async def test_a_limit_is_never_left_out(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = Strict("max_tokens", "max_completion_tokens")
    local.answer = answered
    proxy = await start()
    response = await proxy.chat(text=HARD, max_tokens=50)
    assert (response.status_code, response.headers["x-router-target"]) == (200, "local")
    assert response.headers["x-router-fallback"] == "cloud->local:capability"
    assert len(cloud.calls) == 2


@pytest.mark.parametrize("tier", ["local", "cloud"])
async def test_fields_are_adapted_in_both_tiers(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    upstream, text = {"local": (local, EASY), "cloud": (cloud, HARD)}[tier]
    upstream.answer = Strict("top_k", "user")
    proxy = await start()
    response = await proxy.chat(text=text, top_k=1, user="ann")
    assert response.headers["x-router-target"] == tier
    assert set(response.headers["x-router-adapted"].split(", ")) == {"top_k", "user"}


async def test_fields_are_adapted_in_a_fallback(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(b"", status=500)
    cloud.answer = Strict("options")
    proxy = await start()
    response = await proxy.chat(options={"num_ctx": 4096})
    assert (response.status_code, response.headers["x-router-adapted"]) == (200, "options")
    assert response.headers["x-router-fallback"] == "local->cloud:server_error"


async def test_fields_of_responses_are_adapted(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = Strict("temperature")
    proxy = await start()
    body = {"model": "auto", "input": HARD, "temperature": 0.1}
    for _ in range(2):
        response = await proxy.client.post("/v1/responses", json=body)
        assert (response.status_code, response.headers["x-router-adapted"]) == (200, "temperature")
    assert len(cloud.calls) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [TOOL]), ("response_format", {"type": "json_object"}), ("n", 2), ("stop", ["."]),
        ("guided_json", {}), ("grammar", "root ::= x"), ("logit_bias", {"5": 1}),
    ],
)  # fmt: skip
async def test_a_field_that_changes_the_answer_is_not_left_out(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, field: str, value: Any
) -> None:
    cloud.answer, local.answer = Strict(field), answered
    proxy = await start()
    response = await proxy.chat(text=HARD, **{field: value})
    assert (response.status_code, response.headers["x-router-target"]) == (200, "local")
    assert local.calls[-1].json[field] == value
    assert "x-router-adapted" not in response.headers


@pytest.mark.parametrize("tier", ["local", "cloud"])
async def test_fields_of_a_chosen_tier_are_the_clients(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    upstream = {"local": local, "cloud": cloud}[tier]
    upstream.answer = Strict("top_k")
    proxy = await start()
    text = {"local": EASY, "cloud": HARD}[tier]
    await proxy.chat(text=text, top_k=1)  # this one is routed, and learns
    forced = await proxy.chat(model=tier, top_k=1)
    assert (forced.status_code, envelope_of(forced)["param"]) == (400, "top_k")
    assert upstream.calls[-1].json["top_k"] == 1


async def test_only_the_refused_value_is_left_out(start: StartProxy, cloud: FakeUpstream) -> None:
    def answer(call: Call) -> Answer:
        if call.json.get("reasoning_effort") == "minimal":
            what = "Unsupported value: 'reasoning_effort' does not support 'minimal'."
            error = openai_error(what, param="reasoning_effort", code="unsupported_value")
            return whole(json.dumps(error).encode(), status=400)
        return answered(call)

    cloud.answer = answer
    proxy = await start()
    adapted = await proxy.chat(text=HARD, reasoning_effort="minimal")
    assert adapted.headers["x-router-adapted"] == "reasoning_effort"
    assert "reasoning_effort" not in cloud.calls[-1].json
    await proxy.chat(text=HARD, reasoning_effort="high")
    assert cloud.calls[-1].json["reasoning_effort"] == "high"


@pytest.mark.parametrize("model", ["auto", "cloud"])
@pytest.mark.parametrize(
    "error",
    [
        json.dumps({"detail": [extra_field("stream_options")]}).encode(),
        error_json("stream_options: Extra inputs are not permitted"),
        error_json("Bad request"),
        b"",
    ],
    ids=["pydantic", "text", "silent", "empty"],
)
async def test_the_proxys_own_stream_options_are_withdrawn(
    start: StartProxy, cloud: FakeUpstream, model: str, error: bytes
) -> None:
    def answer(call: Call) -> Answer:
        return whole(error, status=422) if "stream_options" in call.json else answered(call)

    cloud.answer = answer
    proxy = await start()
    for _ in range(2):
        response = await proxy.chat(text=HARD, model=model, stream=True)
        assert response.status_code == 200
        assert "x-router-adapted" not in response.headers  # the client did not send it
    assert ["stream_options" in call.json for call in cloud.calls] == [True, False, False]
    assert {row["ending"] for row in (await proxy.finish(2)).rows} == {"ok"}


async def test_an_error_is_not_asked_for_twice_of_a_server_that_knows_stream_options(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = answered
    proxy = await start()
    await proxy.chat(text=HARD, stream=True)
    cloud.answer = whole(error_json("Bad request"), status=400)
    response = await proxy.chat(text=HARD, stream=True)
    assert (response.status_code, len(cloud.calls)) == (400, 2)


async def test_an_unknown_name_within_a_field_is_the_clients_error(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    what = openai_error("Unknown parameter: 'tools[0].nam'.", param="tools[0].nam",
                        code="unknown_parameter")  # fmt: skip
    cloud.answer = whole(json.dumps(what).encode(), status=400)
    proxy = await start()
    response = await proxy.chat(text=HARD, tools=[TOOL])
    assert (response.status_code, len(cloud.calls), len(local.calls)) == (400, 1, 0)


LEARNED = {
    "tools": (
        {"tools": [TOOL]},
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ),
    "images": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": EASY}, IMAGE]}]},
        "llama is not a multimodal model",
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "Hi."}, {"role": "user", "content": EASY}]},
        "Unexpected message role.",
    ),
    "roles": (
        {"messages": [{"role": "user", "content": EASY}, {"role": "user", "content": EASY}]},
        "Conversation roles must alternate user/assistant/user/assistant/...",
    ),
    "prefill": (
        {"messages": [{"role": "user", "content": EASY}, {"role": "assistant", "content": "Well"}]},
        "Assistant response prefill is incompatible with enable_thinking.",
    ),
    "length": (
        {"messages": [{"role": "user", "content": EASY + " word" * 3000}]},
        "The decoder prompt (length 3012) is longer than the maximum model length of 2048.",
    ),
}  # fmt: skip


@both_forms
@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("name", LEARNED)
async def test_what_the_local_model_refuses_is_not_asked_of_it_again(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    name: str,
    stream: bool,
    status: int,
) -> None:
    fields, message = LEARNED[name]
    local.answer = whole(error_json(message), status=status)
    cloud.answer = answered
    proxy = await start()
    first = await proxy.chat(stream=stream, **fields)
    assert first.headers["x-router-fallback"].startswith("local->cloud:")
    second = await proxy.chat(stream=stream, **fields)
    assert (second.status_code, second.headers["x-router-target"]) == (200, "cloud")
    assert second.headers["x-router-reason"] == ("context" if name == "length" else "capability")
    assert len(local.calls) == 1
    local.answer = answered
    easy = await proxy.chat()  # what was not refused stays local
    assert easy.headers["x-router-target"] == "local"
    forced = await proxy.chat(model="local", **fields)
    assert forced.status_code == 200


async def test_nothing_is_learned_of_a_request_that_the_cloud_refuses_too(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(
        error_json("This tool is invalid: parameters must be an object"), status=400
    )
    cloud.answer = whole(error_json("Invalid schema for function 'look'"), status=400)
    proxy = await start()
    for _ in range(2):
        assert (await proxy.chat(tools=[TOOL])).status_code == 400
    assert len(local.calls) == 2


@pytest.mark.parametrize(
    "message",
    ["tools param requires --jinja flag", "Unsupported param: tools",
     "image input is not supported - hint: you may need to provide the mmproj"],
)  # fmt: skip
async def test_a_server_error_about_the_request_keeps_the_breaker_closed(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, message: str
) -> None:
    fields = LEARNED["images"][0] if "image" in message else {"tools": [TOOL]}
    local.answer = whole(error_json(message), status=500)
    cloud.answer = answered
    proxy = await start()
    for _ in range(8):  # forced requests are not decided by what was learned
        assert (await proxy.chat(model="local", **fields)).status_code == 500
    samples = await proxy.scrape()
    assert samples("router_upstream_up", target="local") == 1
    local.answer = answered
    assert (await proxy.chat()).headers["x-router-reason"] == "score"


async def test_a_system_prompt_beside_a_refused_feature_stays_local(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """An error may mention what it does not refuse."""
    what = "After the optional system message, conversation roles must alternate user/assistant."
    local.answer, cloud.answer = whole(error_json(what), status=400), answered
    proxy = await start()
    system = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "content": EASY}
    await proxy.chat(messages=[system, user, user])
    local.answer = answered
    response = await proxy.chat(messages=[system, user])
    assert response.headers["x-router-target"] == "local"


# ── What one client's request must not do to those of others ─────────────────────────────────


async def test_an_unknown_name_within_a_field_changes_no_other_request(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    def answer(call: Call) -> Answer:
        if "foo" in call.json.get("stream_options", {}):
            what = "Unknown parameter: 'stream_options.foo'."
            error = openai_error(what, param="stream_options.foo", code="unknown_parameter")
            return whole(json.dumps(error).encode(), status=400)
        return answered(call)

    cloud.answer = answer
    proxy = await start()
    odd = await proxy.chat(text=HARD, stream=True, stream_options={"foo": 1})
    assert (odd.status_code, odd.headers["x-router-adapted"]) == (200, "stream_options")
    await proxy.chat(text=HARD, stream=True)
    assert cloud.calls[-1].json["stream_options"] == {"include_usage": True}
    rows = (await proxy.finish(2)).rows
    assert rows[-1]["usage_source"] == "upstream"


@pytest.mark.parametrize("place", ["role", "user", "no param"])
async def test_a_text_that_an_error_repeats_is_no_refusal(
    start: StartProxy, cloud: FakeUpstream, place: str
) -> None:
    text = "'temperature' and 'seed' are not supported"

    def answer(call: Call) -> Answer:
        if text not in json.dumps(call.json):
            return answered(call)
        param = {"role": "messages[0].role", "user": "user"}.get(place)
        error = openai_error(f"Invalid value: '{text}'.", param=param, code="invalid_value")
        return whole(json.dumps(error).encode(), status=400)

    cloud.answer = answer
    proxy = await start()
    fields = {"temperature": 0.5, "seed": 7}
    odd = {"metadata": {"x": text}, "user": text} if place != "role" else {}
    messages = [{"role": "user", "content": HARD}]
    if place == "role":
        messages.insert(0, {"role": text, "content": "Hm."})
    refused = await proxy.chat(messages=messages, **odd, **fields)
    assert refused.status_code == 400
    await proxy.chat(text=HARD, **fields)
    assert cloud.calls[-1].json.items() >= fields.items()


async def test_a_value_beyond_a_limit_is_not_refused_of_others(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    def answer(call: Call) -> Answer:
        if call.json.get("temperature", 0) > 2:
            what = error_json("temperature: values above 2 are not supported")
            return whole(what, status=400)
        return answered(call)

    cloud.answer = answer
    proxy = await start()
    await proxy.chat(text=HARD, temperature=3)
    await proxy.chat(text=HARD, temperature=1.5)
    assert cloud.calls[-1].json["temperature"] == 1.5


def test_large_values_and_long_names_are_not_remembered() -> None:
    assert RefusedField("verbosity", b'"x"').may_be_learned
    assert not RefusedField("verbosity", b'"%b"' % (b"x" * 300)).may_be_learned
    assert not RefusedField("x" * 65).may_be_learned


@pytest.mark.parametrize(
    "message",
    ["string too long: user", "'this is too long' is no schema", "The name exceeds 64 characters."],
)
async def test_an_error_about_another_length_closes_no_context(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, message: str
) -> None:
    local.answer, cloud.answer = whole(error_json(message), status=400), answered
    proxy = await start()
    await proxy.chat(user="x" * 65)
    local.answer = answered
    assert (await proxy.chat()).headers["x-router-target"] == "local"


async def test_lengths_are_compared_in_tokens(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """2,000 Chinese characters are more tokens than 2,000 characters of English."""
    local.answer = whole(error_json("The prompt is too long."), status=400)
    cloud.answer = answered
    proxy = await start()
    chinese = {"role": "user", "content": f"{EASY} " + "这些总数中哪一个是正确的" * 160}
    await proxy.chat(messages=[chinese], max_tokens=1)
    local.answer = answered
    english = f"{EASY} " + "word " * 700
    assert (await proxy.chat(text=english, max_tokens=1)).headers["x-router-target"] == "local"
    # Of the same length it is not asked again.
    response = await proxy.chat(messages=[chinese, chinese], max_tokens=1)
    assert response.headers["x-router-reason"] == "context"


@pytest.mark.parametrize("failure", [402, 404, 500])
async def test_the_local_tier_answers_what_it_refused_if_the_cloud_fails(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, failure: int
) -> None:
    local.answer = whole(error_json("This model does not support tools"), status=400)
    cloud.answer = answered
    proxy = await start()
    await proxy.chat(tools=[TOOL])
    local.answer, cloud.answer = answered, whole(error_json("No."), status=failure)
    response = await proxy.chat(tools=[TOOL])
    assert (response.status_code, response.headers["x-router-target"]) == (200, "local")


async def test_the_local_tier_answers_what_it_refused_if_the_budget_is_spent(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(error_json("This model does not support tools"), status=400)
    cloud.answer = answered
    proxy = await start({"budget": {"cloud_usd_per_day": 5.5e-6}})
    await proxy.chat(tools=[TOOL], max_tokens=10)
    local.answer = answered
    learned = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL].learned
    assert set(learned.features(LOCAL_MODEL)) == {"tools"}
    response = await proxy.chat(tools=[TOOL], max_tokens=10)
    assert (response.status_code, response.headers["x-router-reason"]) == (200, "budget")


async def test_a_server_that_refuses_stream_options_in_no_words_is_asked_again_when_it_is_forgotten(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    def answer(call: Call) -> Answer:
        refused = "stream_options" in call.json
        return whole(error_json("bad request"), status=400) if refused else answered(call)

    cloud.answer = answer
    proxy = await start()
    await proxy.chat(text=HARD, stream=True)
    await proxy.chat(text=HARD, stream=True)  # without the option, which it does not accept
    learned = proxy.proxy.gateway.snapshot.upstreams[Target.CLOUD].learned
    assert not learned.accepts_usage(CLOUD_MODEL, "/chat/completions")
    learned.forget()  # as after an hour
    assert (await proxy.chat(text=HARD, stream=True)).headers["x-router-target"] == "cloud"


async def test_refusals_are_logged_once(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    local.answer = whole(error_json("needs --enable-auto-tool-choice"), status=400)
    cloud.answer = answered
    proxy = await start()
    for _ in range(3):
        await proxy.chat()
    lines = [line for line in caplog.messages if "refused a request" in line]
    assert len(lines) == 1
    assert "status 400" in lines[0]
    assert "--enable-auto-tool-choice" in lines[0]


async def test_a_refusals_credentials_are_not_logged(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cut = f"{'x ' * 125}{LOCAL_KEY}"  # over the end of what is logged
    local.answer = whole(error_json(f"The key {LOCAL_KEY}\nis wrong. {cut}"), status=400)
    cloud.answer = answered
    proxy = await start()
    await proxy.chat()
    assert "The key [redacted] is wrong." in caplog.text
    assert "local-" not in caplog.text


async def test_a_refusals_words_are_not_logged_where_prompts_are_not_stored(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    local.answer = whole(error_json("I will not read my secret"), status=400)
    cloud.answer = answered
    proxy = await start({"storage": {"prompts": "hash"}})
    await proxy.chat()
    assert "refused a request" in caplog.text
    assert "my secret" not in caplog.text
