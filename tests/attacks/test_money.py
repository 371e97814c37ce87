"""Money: what reached the paid upstream is booked, and budgets hold however they are spent."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from attack import Attack, AttackRunner, Check, Seen, StartRunner, read_replies
from fakes import (
    PATIENCE_SECONDS,
    Answer,
    Call,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    openai_events,
    response_fields,
    whole,
)
from live import RawClient, chat_body
from proxy.record import key_hash

FAMILY = "money"
BUDGET = 0.01
LONG = "word " * 10_000  # 10,000 tokens
# USD per million tokens, input and output, by OpenAI's list.
BILL = {
    "gpt-4o-mini": (0.15, 0.6),
    "gpt-4o": (2.5, 10),
    "gpt-4": (30, 60),
    "gpt-4.1": (2, 8),
    "gpt-4o-2024-08-06": (2.5, 10),
    "gpt-4-0613": (30, 60),
    "gpt-4-32k": (60, 120),
    "gpt-4-1106-preview": (10, 30),
    "o3-deep-research": (10, 40),
    "gpt-4o-audio-preview": (2.5, 10),
    "openai/gpt-4o": (2.5, 10),
    "azure/gpt-4o": (2.5, 10),
    "openai/gpt-4": (30, 60),
    "ft:gpt-4o-2024-08-06:acme:cs:abc": (3.75, 15),
    "ft:gpt-4o-2024-08-06:acme::abc": (3.75, 15),
    "ft:gpt-4o-2024-11-20:acme:cs:abc:ckpt-step-100": (3.75, 15),
    "ft:gpt-4o-mini-2024-07-18:acme:cs:abc": (0.3, 1.2),
    "ft:gpt-4.1-2025-04-14:acme:cs:abc": (3, 12),
    "ft:gpt-3.5-turbo-0613:acme:cs:abc": (3, 6),
    "ft:gpt-3.5-turbo-1106:acme:cs:abc": (3, 6),
    "ft:gpt-4-0613:acme:cs:abc": (45, 90),
}


class Spent(NamedTuple):
    """What is sent, by a key of its own, and what it costs at the provider.

    Attributes:
        times: how often it is sent, at once.
        leaves: after so many seconds the client hangs up.
        bill: USD for one answer.
    """

    path: str
    body: bytes
    answer: Answer
    bill: float
    times: int = 1
    leaves: float | None = None


def not_tried(seen: Seen) -> str | None:
    """A refusal holds an attack; an unavailable tier proves nothing."""
    return "the tier was unavailable" if 503 in seen.facts["statuses"] else None


def booked(seen: Seen) -> str | None:
    """The rows cost what the provider bills, or the request was refused."""
    calls, cost, bill = seen.facts["calls"], seen.facts["cost"], seen.facts["bill"]
    if not calls:
        return not_tried(seen)
    return (
        None if cost >= 0.5 * bill * calls else f"{calls} calls, booked {cost:.6f}, {bill:.6f} each"
    )


def exactly(seen: Seen) -> str | None:
    calls, cost, bill = seen.facts["calls"], seen.facts["cost"], seen.facts["bill"]
    if not calls:
        return not_tried(seen)
    return None if cost >= 0.999 * bill * calls else f"booked {cost:.6f} of {bill * calls:.6f}"


def within_budget(seen: Seen) -> str | None:
    """Overspent by one request at most."""
    calls, bill = seen.facts["calls"], seen.facts["bill"]
    most = BUDGET + bill
    return None if calls * bill <= most else f"{calls} calls, {calls * bill:.3f} USD of {BUDGET}"


def once(seen: Seen) -> str | None:
    """Three attempts, and one on a reused connection that had probably ended before it."""
    calls = seen.facts["calls"]
    return booked(seen) if calls <= 4 else f"sent {calls} times"


def no_calls(seen: Seen) -> str | None:
    return booked(seen)


def input_bill(model: str, tokens: int = 10_000) -> float:
    return BILL[model][0] * tokens / 1e6


def hang_ups() -> Iterator[tuple[str, Spent, Check]]:
    role = event(chunk({"role": "assistant", "content": ""}))
    word = event(chunk({"content": "Hello"}))
    for model in ("gpt-4o-mini", "gpt-4o", "gpt-4", "gpt-4.1", "gpt-4o-2024-08-06"):
        bill = input_bill(model)
        for stream in (False, True):
            body = chat_body(model=model, text=LONG, stream=stream, max_tokens=10)
            silent: Answer = [Gate()]
            yield (
                f"hang up before the answer, {model}, stream {stream}",
                Spent("/v1/chat/completions", body, silent, bill, leaves=0.15),
                booked,
            )
            for end in (End.FIN, End.RESET):
                yield (
                    f"the upstream ends with {end.value}, {model}, stream {stream}",
                    Spent("/v1/chat/completions", body, [end], bill),
                    once,
                )
            yield (
                f"the first token is late, {model}, stream {stream}",
                Spent("/v1/chat/completions", body, silent, bill, leaves=2.0),
                booked,
            )
        body = chat_body(model=model, text=LONG, stream=True, max_tokens=10)
        for name, pieces in (
            ("role", [role]),
            ("word", [role, word]),
            ("words", [role, *[word] * 9]),
        ):
            yield (
                f"hang up after the {name}, {model}",
                Spent("/v1/chat/completions", body, chunked(*pieces, Gate()), bill, leaves=0.15),
                booked,
            )
            yield (
                f"the stream breaks after the {name}, {model}",
                Spent("/v1/chat/completions", body, chunked(*pieces, End.RESET), bill),
                once,
            )
            yield (
                f"the stream ends without usage after the {name}, {model}",
                Spent("/v1/chat/completions", body, chunked(*pieces, b"data: [DONE]\n\n"), bill),
                booked,
            )
        for path, field in (("/v1/responses", "input"), ("/v1/completions", "prompt")):
            body = json.dumps({"model": model, field: LONG}).encode()
            yield (
                f"hang up, {path}, {model}",
                Spent(path, body, [Gate()], bill, leaves=0.15),
                booked,
            )
    body = json.dumps({"model": "text-embedding-3-large", "input": LONG}).encode()
    spent = Spent("/v1/embeddings", body, [Gate()], 0.13 * 10_000 / 1e6, leaves=0.15)
    yield "hang up, embeddings", spent, booked


def prices() -> Iterator[tuple[str, Spent, Check]]:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 16_000, "total_tokens": 17_000}
    for model, (per_input, per_output) in BILL.items():
        bill = (1_000 * per_input + 16_000 * per_output) / 1e6
        body = chat_body(model=model)
        spent = Spent("/v1/chat/completions", body, whole(answer_json(usage=usage)), bill)
        yield f"price of {model}", spent, exactly
        events = chunked(*openai_events(usage=usage))
        body = chat_body(model=model, stream=True)
        yield (
            f"price of {model}, stream",
            Spent("/v1/chat/completions", body, events, bill),
            exactly,
        )
        named = json.dumps({"prompt": {"id": "pmpt_1"}, "input": "Hi", "model": "cloud"}).encode()
        counts = {"input_tokens": 1_000, "output_tokens": 16_000, "total_tokens": 17_000}
        fields = response_fields(usage=counts, model=model)
        yield (
            f"a stored prompt with {model}",
            Spent("/v1/responses", named, whole(json.dumps(fields).encode()), bill),
            exactly,
        )
    for odd in ("1000.0", "1e3", "1E+3", '"1000"'):
        text = answer_json(usage=usage).replace(b"1000,", odd.encode() + b",")
        assert odd.encode() in text
        spent = Spent("/v1/chat/completions", chat_body(model="gpt-4o"), whole(text), 0.1625)
        yield f"a count of {odd}", spent, exactly
    counts: dict[str, Any] = {"prompt_tokens": 100_000, "completion_tokens": 100}
    for tier, written, bill in (
        ("default", 0, 0.201),
        ("default", 99_000, 0.2505),
        ("ultrafast", 0, 1.206),
    ):
        counts["prompt_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": written}
        answer = json.loads(answer_json(usage=counts)) | {"service_tier": tier}
        body = chat_body(model="gpt-6.1-sol")
        spent = Spent("/v1/chat/completions", body, whole(json.dumps(answer).encode()), bill)
        yield f"service tier {tier}, {written} tokens written to the cache", spent, exactly
    for model, bill in (("gpt-4o", 0.27625), ("gpt-5", 0.3225), ("gpt-4.1", 0.2275)):
        answer = json.loads(answer_json(usage=usage)) | {"service_tier": "priority"}
        body = chat_body(model=model)
        spent = Spent("/v1/chat/completions", body, whole(json.dumps(answer).encode()), bill)
        yield f"service tier priority, {model}", spent, exactly


def bursts() -> Iterator[tuple[str, Spent, Check]]:
    """Forty at once with a budget that has room for two."""
    usage = {"prompt_tokens": 36_000, "completion_tokens": 10, "total_tokens": 36_010}
    big = whole(answer_json(usage=usage))
    bill = 36_000 * 0.15 / 1e6
    pixel = "data:image/png;base64,iVBORw0KGgo="
    contents: dict[str, Any] = {
        "an image": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
        "an inline image": [{"type": "image_url", "image_url": {"url": pixel}}],
        "fifty images": [{"type": "image_url", "image_url": {"url": "https://e.org/a"}}] * 50,
        "a file": [{"type": "file", "file": {"file_id": "file-1"}}],
        "audio": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}],
        "an image without type": [{"image_url": {"url": "https://example.org/a.png"}}],
        "a file without type": [{"file": {"file_id": "file-1"}}],
        "audio without type": [{"input_audio": {"data": "AA==", "format": "mp3"}}],
    }
    for name, parts in contents.items():
        messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}]
        body = chat_body(model="cloud", messages=messages, max_tokens=10)
        yield (
            f"forty with {name}",
            Spent("/v1/chat/completions", body, big, bill, times=40),
            within_budget,
        )
    counts = {"input_tokens": 36_000, "output_tokens": 10, "total_tokens": 36_010}
    answer = whole(json.dumps(response_fields(usage=counts)).encode())
    for name, fields in {
        "a stored prompt": {"prompt": {"id": "pmpt_1"}},
        "an image (responses)": {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "https://e.org"}]}
            ]
        },
        "a file (responses)": {
            "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
        },
        "web search": {"input": "Hi", "tools": [{"type": "web_search"}]},
        "file search": {
            "input": "Hi",
            "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
        },
        "an item reference": {"input": [{"type": "item_reference", "id": "msg_1"}]},
        "a conversation": {"input": "Hi", "conversation": "conv_1"},
        "a continued answer": {"input": "Hi", "previous_response_id": "resp_unknown"},
    }.items():
        body = json.dumps({"model": "cloud", "max_output_tokens": 16} | fields).encode()
        yield (
            f"forty with {name}",
            Spent("/v1/responses", body, answer, bill, times=40),
            within_budget,
        )
    open_usage = {"prompt_tokens": 20, "completion_tokens": 16_000, "total_tokens": 16_020}
    answer = whole(answer_json(usage=open_usage))
    bill = 16_000 * 0.6 / 1e6
    for name, text in {
        "an open answer": "",
        "max_tokens 1.6e4": ',"max_tokens":1.6e4',
        "max_tokens 16000.0": ',"max_tokens":16000.0',
        "max_completion_tokens 1.6E+4": ',"max_completion_tokens":1.6E+4',
        "n 1.28e2": ',"n":1.28e2,"max_tokens":125',
        "n 128": ',"n":128,"max_tokens":125',
        "max_tokens null": ',"max_tokens":null',
        "both limits": ',"max_tokens":1,"max_completion_tokens":16000',
        "both limits, the other way round": ',"max_completion_tokens":1,"max_tokens":16000',
        "a limit twice": ',"max_tokens":1,"max_tokens":16000',
    }.items():
        body = chat_body(model="cloud")[:-1] + text.encode() + b"}"
        yield (
            f"forty with {name}",
            Spent("/v1/chat/completions", body, answer, bill, times=40),
            within_budget,
        )
    spoken = open_usage | {"completion_tokens_details": {"audio_tokens": 16_000}}
    for modality in ("audio", "\\u0061udio"):
        text = f',"max_tokens":16000,"modalities":["text","{modality}"]'
        body = chat_body(model="gpt-4o-audio-preview")[:-1] + text.encode() + b"}"
        yield (
            f"forty with modality {modality}",
            Spent("/v1/chat/completions", body, whole(answer_json(usage=spoken)), 1.28, times=40),
            within_budget,
        )
    text_usage = {"prompt_tokens": 36_000, "completion_tokens": 10, "total_tokens": 36_010}
    body = chat_body(model="cloud", text="word " * 36_000, max_tokens=10)
    spent = Spent("/v1/chat/completions", body, whole(answer_json(usage=text_usage)), 0.0054, 40)
    yield "forty with text", spent, within_budget


PAID = (
    *("/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/audio/speech"),
    *("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/batches", "/v1/fine_tuning/jobs"),
    *("/v1/threads/runs", "/v1/threads/thread_1/runs", "/v1/realtime/client_secrets", "/v1/videos"),
    *("/v1/realtime/sessions", "/v1/realtime/calls", "/v1/responses/compact", "/v1/assistants"),
    *("/v1/vector_stores", "/v1/evals", "/v1/evals/e/runs", "/v1/containers", "/v1/uploads"),
    *("/v1/videos/v/remix", "/v1/chatkit/sessions", "/v1/some/new/endpoint", "/v1/organization/x"),
)


def passed_on() -> Iterator[tuple[str, Spent, Check]]:
    for path in PAID:
        body = json.dumps({"model": "gpt-4o", "input": "Hi", "prompt": "Hi"}).encode()
        spent = Spent(path, body, whole(b'{"id":"x","usage":{"input_tokens":1000}}'), 0.01)
        yield f"pass-through {path}", spent, no_calls
    body = json.dumps({"model": "gpt-5.5-pro", "input": "Hi", "background": True}).encode()
    answer = whole(json.dumps(response_fields(status="queued", usage=None)).encode())
    yield "a background answer", Spent("/v1/responses", body, answer, 0.01), no_calls
    for tool in ("image_generation", "shell", "of_tomorrow", "\\u0069mage_generation"):
        body = f'{{"model":"gpt-5","input":"Draw","tools":[{{"type":"{tool}"}}]}}'.encode()
        drawn = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA"}
        answer = whole(json.dumps(response_fields(output=[drawn])).encode())
        yield f"the hosted tool {tool}", Spent("/v1/responses", body, answer, 0.25), no_calls
    for model in ("my-embedding", "text-embedding-4", "gpt-4o"):
        body = json.dumps({"model": model, "input": "Hi"}).encode()
        usage = {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}
        answer = whole(json.dumps({"object": "list", "data": [], "usage": usage}).encode())
        spent = Spent("/v1/embeddings", body, answer, 0.02)
        yield f"embeddings of {model}", spent, no_calls


def sender(runner: AttackRunner, cloud: FakeUpstream) -> Any:
    proxy = runner.proxy

    async def ask(spent: Spent, key: str) -> int | None:
        head = (
            f"POST {spent.path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(spent.body)}\r\n\r\n"
        )
        client = await RawClient.open(proxy.port, spent.body, head=head.encode())
        try:
            async with asyncio.timeout(spent.leaves or PATIENCE_SECONDS):
                replies = read_replies(await client.read_to_end())
                return replies[0].status if replies else None
        except TimeoutError:
            return None
        finally:
            client.vanish()

    async def send(attack: Attack, seen: Seen) -> None:
        key, spent = attack.sent
        gate = Gate()

        def answer(call: Call) -> Answer:
            return [gate, *spent.answer] if spent.times > 1 else spent.answer

        cloud.answer = answer
        asking = [asyncio.create_task(ask(spent, key)) for _ in range(spent.times)]
        if spent.times > 1:
            await asyncio.sleep(0.15)  # all that are let through wait at the gate
            gate.open()
        statuses = await asyncio.gather(*asking)
        calls = len(cloud.calls)
        seen.facts = {"calls": calls, "bill": spent.bill, "cost": 0.0}
        seen.facts["statuses"] = statuses
        hashed = key_hash(key)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                rows = [row for row in proxy.rows() if row["client_key_hash"] == hashed]
                if len(rows) >= spent.times or not calls:
                    break
                await asyncio.sleep(0.02)
        cloud.answer = whole(answer_json())
        await ask(GOOD, UNLIMITED)  # closes the circuit breaker
        seen.facts["cost"] = sum(row["cost_usd"] or 0 for row in rows)

    return send


UNLIMITED = "sk-unlimited"
GOOD = Spent("/v1/chat/completions", chat_body(model="cloud"), [], 0)


def attacks() -> list[tuple[str, Spent, Check]]:
    return [*hang_ups(), *prices(), *bursts(), *passed_on()]


def keys(budget: float | None) -> tuple[dict[str, Any], Iterator[str]]:
    """A key for each attack, so that none spends the budget of another."""
    names = [f"sk-of-attack-{number:04}" for number in range(len(attacks()))]
    configured: list[dict[str, Any]] = [
        {"key": name, "cloud_usd_per_day": budget} for name in names
    ]
    configured.append({"key": UNLIMITED})
    return {"server": {"api_keys": configured}}, iter(names)


async def test_everybodys_budget(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    """A budget of all keys together refuses what cannot be counted, too."""
    changes, names = keys(None)
    changes |= {"budget": {"cloud_usd_per_day": 1_000}}
    runner = await start_runner(changes)
    await runner.hold(
        [
            Attack(FAMILY, f"{name}, everybody's budget", (next(names), spent), check)
            for name, spent, check in passed_on()
        ],
        sender(runner, cloud),
    )


async def test_money(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    changes, names = keys(BUDGET)
    changes |= {"routing": {"fallback": False}}
    changes |= {
        "upstreams": {"cloud": {"price": "auto", "timeouts": {"first_token": 0.6}}},
    }
    runner = await start_runner(changes)
    await runner.hold(
        [Attack(FAMILY, name, (next(names), spent), check) for name, spent, check in attacks()],
        sender(runner, cloud),
    )
