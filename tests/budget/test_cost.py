"""Tokens and costs of a row, from the reported usage or, without one, estimated."""

import json
from pathlib import Path
from typing import Any

import pytest

from fakes import (
    DONE,
    EASY,
    End,
    FakeUpstream,
    Step,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    response_events,
    response_fields,
    typed,
    whole,
)
from live import LiveProxy, Row, StartProxy, check_headers

AUDIO_PRICE = {
    "upstreams": {
        "cloud": {"price": {"input": 2.5, "output": 10, "audio_input": 32, "audio_output": 64}}
    }
}

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def answer(usage: Any, *, stream: bool, text: str = "Hello!") -> Any:
    if not stream:
        return whole(answer_json(text, usage=usage))
    return chunked(*openai_events([text], usage))


def cloud_price(input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
    """gpt-4o-mini, by hand: USD per million tokens."""
    return (
        (input_tokens - cached_tokens) * 0.15 + cached_tokens * 0.075 + output_tokens * 0.60
    ) / 1e6


def check_tokens(row: Row, input_tokens: int, cached_tokens: int, output_tokens: int) -> None:
    assert row["usage_source"] == "upstream"
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (
        input_tokens,
        cached_tokens,
        output_tokens,
    )


@both_forms
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param({"prompt_tokens": 1000, "completion_tokens": 200}, (1000, 0, 200), id="plain"),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 200,
                "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
            },
            (1000, 400, 200),
            id="cached",
        ),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 200,
                "prompt_tokens_details": None,
                "completion_tokens_details": {"reasoning_tokens": 150},
            },
            (1000, 0, 200),
            id="reasoning-is-part-of-output",
        ),
    ],
)
async def test_a_cloud_answer_costs_its_tokens(
    proxy: LiveProxy, cloud: FakeUpstream, usage: Any, tokens: tuple[int, int, int], stream: bool
) -> None:
    cloud.answer = answer(usage, stream=stream)
    response = await proxy.chat(model="cloud", stream=stream)
    outcome = await proxy.finish()
    row = outcome.row
    check_headers(response.headers, row)
    check_tokens(row, *tokens)
    assert row["cost_usd"] == pytest.approx(cloud_price(*tokens))
    assert (row["cloud_cost_usd"], row["saved_usd"]) == (row["cost_usd"], 0)
    assert ("x-router-cost-usd" in response.headers) == (not stream)


@both_forms
@pytest.mark.parametrize(
    ("price", "cost"),
    [({}, 0.0), ({"input": 0.01, "output": 0.02}, 1.4e-5)],
    ids=["free", "priced"],
)
async def test_a_local_answer_saves_what_the_cloud_would_have_cost(
    start: StartProxy, local: FakeUpstream, price: dict[str, float], cost: float, stream: bool
) -> None:
    proxy = await start({"upstreams": {"local": {"price": price}}})
    local.answer = answer({"prompt_tokens": 1000, "completion_tokens": 200}, stream=stream)
    response = await proxy.chat(stream=stream)
    row = (await proxy.finish()).row
    check_headers(response.headers, row)
    assert row["cost_usd"] == pytest.approx(cost)
    assert row["cloud_cost_usd"] == pytest.approx(cloud_price(1000, 0, 200))
    assert row["saved_usd"] == pytest.approx(cloud_price(1000, 0, 200) - cost)


async def test_cached_local_tokens_do_not_reduce_the_cloud_price(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 1000},
    }
    local.answer = answer(usage, stream=False)
    await proxy.chat()
    row = (await proxy.finish()).row
    assert row["saved_usd"] == pytest.approx(cloud_price(1000, 0, 0))


async def test_an_incomplete_local_answer_saves_nothing(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start({"upstreams": {"local": {"price": {"output": 0.01}}}})
    local.answer = chunked(*openai_events(["Half an"])[:-3])
    await proxy.chat(stream=True)
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "upstream_error"
    assert outcome.row["cost_usd"] > 0
    assert outcome.row["saved_usd"] == 0
    assert outcome.metrics("router_saved_usd_total") == 0


async def test_a_local_tier_dearer_than_the_cloud_is_recorded_as_a_loss(
    start: StartProxy, local: FakeUpstream
) -> None:
    """A Prometheus counter cannot decrease, so the loss has its own."""
    proxy = await start({"upstreams": {"local": {"price": {"output": 6.0}}}})
    local.answer = answer({"prompt_tokens": 0, "completion_tokens": 100}, stream=False)
    response = await proxy.chat()
    samples = await proxy.settled()
    assert samples("router_saved_usd_total") == 0
    assert samples("router_lost_usd_total") == pytest.approx(5.4e-4)
    assert float(response.headers["x-router-saved-usd"]) == pytest.approx(-5.4e-4)
    assert (await proxy.row_of(response))["saved_usd"] == pytest.approx(-5.4e-4)


NO_USAGE = {
    "whole-without": (False, whole(answer_json("Four. " * 50, usage=None))),
    "whole-null": (False, whole(answer_json("Four. " * 50, usage=None)[:-1] + b',"usage":null}')),
    "whole-empty": (False, whole(answer_json("Four. " * 50, usage={}))),
    "whole-negative": (
        False,
        whole(answer_json("Four. " * 50, usage={"prompt_tokens": -1, "completion_tokens": -1})),
    ),
    "whole-absurd": (
        False,
        whole(answer_json("Four. " * 50, usage={"prompt_tokens": 10**30, "completion_tokens": 1})),
    ),
    "stream-without": (
        True,
        chunked(
            *[event(chunk({"content": "Four. "}))] * 50,
            event(chunk({}, "stop")),
            DONE,
        ),
    ),
    "stream-null": (
        True,
        chunked(
            *[event(chunk({"content": "Four. "}, usage=None))] * 50,
            event(chunk({}, "stop", usage=None)),
            DONE,
        ),
    ),
}


@pytest.mark.parametrize(("stream", "script"), NO_USAGE.values(), ids=NO_USAGE.keys())
async def test_unreported_usage_is_estimated_and_marked(
    proxy: LiveProxy, cloud: FakeUpstream, stream: bool, script: Any
) -> None:
    cloud.answer = script
    response = await proxy.chat(model="cloud", stream=stream)
    assert response.status_code == 200
    row = (await proxy.finish()).row
    check_headers(response.headers, row)
    assert row["usage_source"] == "estimated"
    assert len(EASY) / 8 < row["input_tokens"] < len(EASY) * 2
    assert 50 <= row["output_tokens"] <= 150  # "Four. " is two tokens
    assert row["cost_usd"] == pytest.approx(
        cloud_price(row["input_tokens"], 0, row["output_tokens"])
    )


def spoken(key: str, *, usage: dict[str, Any] | None, stream: bool) -> Any:
    """An answer with a hundred words in one field besides `content`."""
    calls = {
        "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "word " * 100}}],
        "function_call": {"name": "f", "arguments": "word " * 100},
        "content": "word " * 100,
    }
    if stream:
        return chunked(event(chunk({key: calls[key]})), event(chunk({}, "stop", usage=usage)), DONE)
    body = json.loads(answer_json(usage=usage))
    body["choices"][0]["message"] = {"role": "assistant", "content": None, key: calls[key]}
    return whole(json.dumps(body).encode())


@both_forms
@pytest.mark.parametrize("key", ["tool_calls", "function_call", "content"])
@pytest.mark.parametrize(
    "usage",
    [None, {"prompt_tokens": 10}, {"prompt_tokens": 10, "completion_tokens": -1}],
    ids=["none", "without-answer", "negative-answer"],
)
async def test_output_without_a_count_is_estimated_wherever_it_is(
    proxy: LiveProxy, cloud: FakeUpstream, key: str, usage: Any, stream: bool
) -> None:
    cloud.answer = spoken(key, usage=usage, stream=stream)
    assert (await proxy.chat(model="cloud", stream=stream)).status_code == 200
    row = (await proxy.finish()).row
    assert row["usage_source"] == "estimated"
    assert 100 <= row["output_tokens"] <= 200


async def test_an_answer_without_output_needs_no_count(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(answer_json("", usage={"prompt_tokens": 7}))
    await proxy.chat(model="cloud")
    row = (await proxy.finish()).row
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("upstream", 7, 0)


def audio_usage(*, prompt: Any, answer: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": prompt},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": answer},
    }


@both_forms
@pytest.mark.parametrize(
    ("usage", "usd", "source"),
    [
        # 400 at 2.5, 600 at 32, 50 at 10 and 150 at 64 per million.
        (audio_usage(prompt=600, answer=150), 0.0303, "upstream"),
        (audio_usage(prompt=None, answer=0), 0.0045, "upstream"),
        (audio_usage(prompt="600", answer=150.0), 0.0303, "upstream"),
        (audio_usage(prompt=5000, answer=-1), 0.034, "estimated"),
    ],
    ids=["reported", "none", "of-other-types", "impossible"],
)
async def test_audio_tokens_have_their_own_prices(
    start: StartProxy, cloud: FakeUpstream, usage: Any, usd: float, source: str, stream: bool
) -> None:
    proxy = await start(AUDIO_PRICE)
    cloud.answer = answer(usage, stream=stream)
    await proxy.chat(model="cloud", stream=stream)
    row = (await proxy.finish()).row
    assert (row["usage_source"], row["input_tokens"]) == (source, 1000)
    assert row["cost_usd"] == pytest.approx(usd)


async def test_audio_tokens_of_a_response_have_their_own_prices(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start(AUDIO_PRICE)
    usage = {
        "input_tokens": 1000,
        "output_tokens": 200,
        "input_tokens_details": {"audio_tokens": 600},
        "output_tokens_details": {"audio_tokens": 150},
    }
    cloud.answer = whole(json.dumps(response_fields(usage=usage)).encode())
    await proxy.client.post("/v1/responses", json={"model": "cloud", "input": "Hi"})
    assert (await proxy.finish()).row["cost_usd"] == pytest.approx(0.0303)


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
FILES = {"type": "file_search_call", "id": "fs_1", "results": None}
PYTHON = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "web_search_call"}]}
TOKENS_USD = 1200 * 0.15e-6 + 200 * 0.6e-6
FEES = {"web_search": 0.01, "file_search": 0.0025, "code_interpreter": 0.03}


def write_fees(folder: Path) -> None:
    """A price list of the cloud's model."""
    listed = {"gpt-4o-mini": {"input": 0.15, "output": 0.6}}
    (folder / "pricing.yaml").write_text(json.dumps({"tools": FEES, "models": listed}))


@both_forms
@pytest.mark.parametrize(
    ("output", "fees"),
    [
        ([MESSAGE], 0),
        ([SEARCH, MESSAGE], 0.01),
        ([SEARCH, SEARCH, FILES, MESSAGE], 0.0225),
        ([PYTHON, PYTHON | {"id": "ci_2"}, MESSAGE], 0.03),
        ([PYTHON, PYTHON | {"container_id": "cntr_2"}, PYTHON | {"container_id": None}], 0.09),
        ([{"type": 1}, 2, SEARCH], 0.01),
    ],
    ids=["no-tool", "search", "search-twice", "one-container", "three-containers", "odd-items"],
)
async def test_a_response_costs_the_fees_of_its_tools(
    start: StartProxy, tmp_path: Path, cloud: FakeUpstream, output: Any, fees: float, stream: bool
) -> None:
    write_fees(tmp_path)
    proxy = await start({"pricing": str(tmp_path / "pricing.yaml")})
    usage = {"input_tokens": 1200, "output_tokens": 200}
    if stream:
        seen = [typed("response.web_search_call.completed", 9) for item in output if item == SEARCH]
        events = response_events(output=output, usage=usage)
        cloud.answer = chunked(*events[:3], *seen, *events[3:])
    else:
        fields = response_fields(output=output, usage=usage)
        cloud.answer = whole(json.dumps(fields).encode())
    body = {"model": "cloud", "input": "Hi", "tools": [{"type": "web_search"}], "stream": stream}
    await proxy.client.post("/v1/responses", json=body)
    row = (await proxy.finish()).row
    assert row["usage_source"] == "upstream"
    assert row["cost_usd"] == pytest.approx(TOKENS_USD + fees)


async def test_a_stream_that_breaks_costs_the_fees_of_the_tools_that_ran(
    start: StartProxy, tmp_path: Path, cloud: FakeUpstream
) -> None:
    write_fees(tmp_path)
    proxy = await start({"pricing": str(tmp_path / "pricing.yaml")})
    seen = [typed("response.web_search_call.completed", 9)] * 2
    cloud.answer = chunked(*response_events()[:6], *seen)
    body = {"model": "cloud", "input": "Hi", "tools": [{"type": "function"}], "stream": True}
    await proxy.client.post("/v1/responses", json=body)
    row = (await proxy.finish()).row
    assert row["ending"] == "upstream_error"
    assert 0.02 < row["cost_usd"] < 0.021


async def test_embeddings_without_an_answer_cost_the_tokens_of_their_texts(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    tokens = proxy.proxy._tokens
    tokens.load()
    texts = ["这些总数中哪一个是正确的？" * 20, "for (i = 0; i < n; ++i) {}\n" * 20]
    cloud.answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", End.FIN]
    fields = {"model": "text-embedding-3-small", "input": texts}
    await proxy.client.post("/v1/embeddings", json=fields)
    row = (await proxy.finish()).row
    least = sum(map(tokens.count, texts))
    assert least <= row["input_tokens"] <= least + 10
    assert json.loads(row["prompt"]) == []


def cut_chat(**fields: Any) -> list[Step]:
    return chunked(event(chunk({"content": "Four"}) | fields), End.FIN)


def cut_response(**fields: Any) -> list[Step]:
    return chunked(*response_events(["Four"], **fields)[:5], End.FIN)


@pytest.mark.parametrize(
    ("asked", "answer", "input_usd"),
    [
        pytest.param({}, {}, 2.5, id="standard"),
        pytest.param({"service_tier": "priority"}, {}, 4.25, id="tier-of-the-request"),
        pytest.param({"service_tier": "priority"}, {"service_tier": "auto"}, 4.25, id="tier-auto"),
        pytest.param({}, {"service_tier": "priority"}, 4.25, id="tier-of-the-answer"),
        pytest.param({}, {"model": "gpt-4o-2024-05-13"}, 5.0, id="model-of-the-answer"),
    ],
)
@pytest.mark.parametrize("endpoint", ["chat/completions", "responses"])
async def test_a_cut_stream_costs_the_price_that_its_first_event_names(
    start: StartProxy,
    cloud: FakeUpstream,
    endpoint: str,
    asked: dict[str, str],
    answer: dict[str, str],
    input_usd: float,
) -> None:
    proxy = await start({"upstreams": {"cloud": {"price": "auto"}}})
    is_chat = endpoint != "responses"
    answer = {"model": "gpt-4o-2024-08-06"} | answer
    cloud.answer = cut_chat(**answer) if is_chat else cut_response(**answer)
    text = {"messages": [{"role": "user", "content": EASY}]} if is_chat else {"input": EASY}
    fields = {"model": "gpt-4o", "stream": True, **text, **asked}
    await proxy.client.post(f"/v1/{endpoint}", json=fields)
    row = (await proxy.finish()).row
    output_usd = {2.5: 10, 4.25: 17, 5.0: 15}[input_usd]
    usd = (row["input_tokens"] * input_usd + row["output_tokens"] * output_usd) / 1e6
    assert row["usage_source"] == "estimated"
    assert row["cost_usd"] == pytest.approx(usd)


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        pytest.param("gpt-5-pro", (1_000, 270_000), 0.015 + 32.4, id="long-answer"),
        pytest.param("openai/gpt-4o-mini", (4_000_000, 10), 0.600006, id="many-images"),
    ],
)
async def test_usage_within_the_limits_of_a_model_is_billed_as_reported(
    proxy: LiveProxy, cloud: FakeUpstream, model: str, usage: tuple[int, int], usd: float
) -> None:
    prompt, output = usage
    cloud.answer = answer({"prompt_tokens": prompt, "completion_tokens": output}, stream=False)
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    content = [{"type": "text", "text": EASY}, image]
    await proxy.chat(model=model, messages=[{"role": "user", "content": content}])
    row = (await proxy.finish()).row
    check_tokens(row, prompt, 0, output)
    assert row["cost_usd"] == pytest.approx(usd)


async def test_an_error_costs_nothing(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(error_json("No."), status=429)
    await proxy.chat(model="cloud")
    outcome = await proxy.finish()
    assert outcome.row["cost_usd"] is None
    assert outcome.metrics("router_cost_usd_total") == 0


async def test_rows_and_metrics_agree_on_the_sums_of_several_requests(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """`finish` compares the sums of rows and metrics."""
    proxy = await start()
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
    for stream in (False, True):
        local.answer = cloud.answer = answer(usage, stream=stream)
        for model in ("local", "cloud", "auto"):
            await proxy.chat(model=model, stream=stream)
    outcome = await proxy.finish(6)
    spent = outcome.metrics("router_cost_usd_total", target="cloud")
    assert spent == pytest.approx(2 * cloud_price(100, 60, 10))
    assert outcome.metrics("router_saved_usd_total") == pytest.approx(4 * cloud_price(100, 0, 10))


LARGE = "Be brief." + " " * (2**21 + 70_000)


@pytest.mark.parametrize(
    ("asked", "answered", "usd"),
    [
        ("priority", "priority", 0.8225),
        ("priority", None, 0.8225),
        ("priority", "auto", 0.8225),
        ("priority", "default", 0.41125),
        ("flex", "flex", 0.205625),
        ("flex", None, 0.41125),
        (None, None, 0.41125),
        (None, "priority", 0.8225),
    ],
)
@pytest.mark.parametrize("instructions", ["Be brief.", LARGE], ids=["small", "large"])
async def test_a_response_costs_at_least_the_tier_that_was_asked_for(
    start: StartProxy,
    cloud: FakeUpstream,
    instructions: str,
    asked: str | None,
    answered: str | None,
    usd: float,
) -> None:
    proxy = await start({"upstreams": {"cloud": {"price": "auto"}}})
    usage = {"input_tokens": 9_000, "output_tokens": 40_000}
    metadata = {"usage": "x", "service_tier": "flex"}
    fields = response_fields(model="gpt-5", usage=usage, metadata=metadata)
    fields |= {"instructions": instructions, "service_tier": answered}
    cloud.answer = whole(json.dumps(fields).encode())
    body = {"model": "gpt-5", "input": "Hi", "service_tier": asked}
    await proxy.client.post("/v1/responses", json=body)
    row = (await proxy.finish()).row
    assert row["usage_source"] == "upstream"
    assert row["cost_usd"] == pytest.approx(usd)


@both_forms
async def test_a_stored_prompt_costs_its_own_model_in_an_answer_of_any_size(
    start: StartProxy, cloud: FakeUpstream, stream: bool
) -> None:
    proxy = await start({"upstreams": {"cloud": {"price": "auto"}}})
    usage = {"input_tokens": 1_000, "output_tokens": 1_000}
    fields = response_fields(model="gpt-5.5-pro", usage=usage) | {"instructions": LARGE}
    cloud.answer = whole(json.dumps(fields).encode())
    if stream:
        cloud.answer = chunked(*response_events(usage=usage, model="gpt-5.5-pro", user=LARGE))
    body = {"prompt": {"id": "pmpt_1"}, "input": "Hi", "stream": stream}
    await proxy.client.post("/v1/responses", json=body)
    assert (await proxy.finish()).row["cost_usd"] == pytest.approx(0.21)
