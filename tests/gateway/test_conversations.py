"""Which requests belong to one conversation: their histories, and the names that clients send."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import (
    EASY,
    HARD,
    Answer,
    Call,
    FakeUpstream,
    answer_json,
    chunk,
    chunked,
    event,
    openai_events,
    response_answer,
    response_events,
    whole,
)
from live import LiveProxy, StartProxy, chat_body
from proxy.gateway.conversations import MAX_ANSWERS, TTL_SECONDS, Conversations
from proxy.gateway.history import MAX_KEYS, SESSION_HEADER, History
from proxy.protocol.chat import parse_chat
from proxy.protocol.responses import parse_responses
from proxy.record import Target
from proxy.storage import NotedAnswer
from served import Served, ask, until

TASK = EASY * 20  # easy, and too long for thanks
PROOF = (
    "Assume the contrary. Then there are integers a and b without a common factor such that " * 3
)
LOCAL, CLOUD = NotedAnswer("a", Target.LOCAL), NotedAnswer("b", Target.CLOUD)


def chat(*texts: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]


def decision(response: Any) -> str:
    assert response.status_code == 200
    return f"{response.headers['x-router-target']} {response.headers['x-router-reason']}"


async def decisions(proxy: LiveProxy, *requests: Any, **fields: Any) -> list[str]:
    return [decision(await proxy.chat(messages=messages, **fields)) for messages in requests]


def says(*texts: str) -> Callable[[Call], Answer]:
    """Answers with these texts, the last one for ever."""
    left = list(texts)

    def answer(call: Call) -> Answer:
        text = left.pop(0) if len(left) > 1 else left[0]
        if call.path == "/v1/responses":
            streamed = chunked(*response_events([text[:3], text[3:]]))
            return streamed if call.json.get("stream") else response_answer(text)
        return (
            chunked(*openai_events([text[:3], text[3:]]))
            if call.json.get("stream")
            else whole(answer_json(text))
        )

    return answer


# Conversations that begin with the same words.


async def test_chats_with_the_same_first_words_are_different(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    local.answer = says("Hello! How can I help?", "Hey, what's up?", "Four.")
    assert await decisions(proxy, chat("Hi"), chat("Hi")) == ["local score"] * 2
    hard = await decisions(proxy, chat("Hi", "Hello! How can I help?", HARD))
    easy = await decisions(proxy, chat("Hi", "Hey, what's up?", TASK))
    assert (hard, easy) == (["cloud score"], ["local score"])
    first, second, *later = [row["session_id"] for row in (await proxy.finish(4)).rows]
    assert first != second
    assert later == [first, second]


async def test_another_chat_does_not_take_a_conversation_out_of_the_cloud(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = says("It is so.")
    opening = ("Hello there", "Hello!", HARD)
    assert await decisions(proxy, chat("Hello there"), chat(*opening)) == [
        "local score",
        "cloud score",
    ]
    later = chat(*opening, "It is so.", TASK)
    assert await decisions(proxy, later) == ["cloud sticky"]
    assert await decisions(proxy, chat("Hello there")) == ["local score"]
    assert await decisions(proxy, later) == ["cloud sticky"]


EXAMPLES = chat("Change get_factorial() to use math.factorial", PROOF.replace("integers", "files"))
EXAMPLES += chat("I switched to a new code base.", "Ok.")


def aider(*history: str, repository: str, task: str) -> list[dict[str, Any]]:
    """Its messages: instructions, examples, history, files, the task with a reminder."""
    return [
        {"role": "system", "content": "Act as an expert software developer."},
        *EXAMPLES,
        *chat(*history),
        *chat(f"Here are the files of {repository}.", "Ok, any changes are to those files."),
        {"role": "user", "content": task + "\n\nReply with *SEARCH/REPLACE* blocks."},
    ]


async def test_examples_of_a_client_name_no_conversation(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = says(PROOF)
    first = aider(repository="one", task=TASK)
    hard = aider(repository="one", task=HARD)
    other = aider(repository="two", task=TASK)
    assert await decisions(proxy, first, hard, other) == [
        "local score",
        "cloud score",
        "local score",
    ]
    # The answer is found although its turn has changed, and files stand behind it.
    later = aider(HARD, PROOF, repository="one", task=TASK)
    assert await decisions(proxy, later) == ["cloud sticky"]
    one, two, three, four = [row["session_id"] for row in (await proxy.finish(4)).rows]
    assert two == four
    assert len({one, two, three}) == 3


async def test_a_short_answer_in_another_conversation_links_nothing(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = says("Hello! How can I help?")
    await proxy.chat(messages=chat("Good morning"), model="cloud")
    later = chat("Good evening", "Hello! How can I help?", TASK)
    assert await decisions(proxy, later) == ["local score"]


# A conversation that went to the cloud stays there.


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("text", ["So it is.", PROOF], ids=["short", "long"])
async def test_chat_stays_in_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream, stream: bool, text: str
) -> None:
    cloud.answer = says(text)
    messages = [chat(HARD), chat(HARD, text, TASK), chat(HARD, text, TASK, text, TASK)]
    results = await decisions(proxy, *messages, stream=stream)
    assert results == ["cloud score", "cloud sticky", "cloud sticky"]
    assert len({row["session_id"] for row in (await proxy.finish(3)).rows}) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_responses_stay_in_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream, stream: bool
) -> None:
    cloud.answer = says("So it is.")

    async def create(**fields: Any) -> Any:
        body = {"model": "auto", "stream": stream} | fields
        return await proxy.client.post("/v1/responses", json=body)

    items = [{"role": "user", "content": HARD}]
    assert decision(await create(input=HARD)) == "cloud score"
    answer = {"type": "output_text", "text": "So it is."}
    items += [{"type": "reasoning", "id": "rs_1", "summary": []}]
    items += [{"type": "message", "role": "assistant", "content": [answer]}]
    items += [{"role": "user", "content": TASK}]
    assert decision(await create(input=items)) == "cloud sticky"
    continued = await create(input=TASK, previous_response_id="resp_1")
    assert decision(continued) == "cloud sticky"
    assert len({row["session_id"] for row in (await proxy.finish(3)).rows}) == 1


async def test_reasoning_is_no_text_of_an_answer(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    thought["content"] = [{"type": "reasoning_text", "text": "Hm. Is it?"}]
    message = {"type": "message", "role": "assistant"}
    message["content"] = [{"type": "output_text", "text": "So it is."}]
    cloud.answer = response_answer(output=[thought, message])
    asked = {"role": "user", "content": HARD}
    items = [asked, message, {"role": "user", "content": TASK}]
    for given, expected in (([asked], "cloud score"), (items, "cloud sticky")):
        body = {"model": "auto", "input": given}
        assert decision(await proxy.client.post("/v1/responses", json=body)) == expected


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"id":"x"}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def calls_tool(call_id: str) -> Callable[[Call], Answer]:
    """Calls a tool, without a word."""

    def answer(call: Call) -> Answer:
        made = CALL | {"id": call_id}
        if call.json.get("stream"):
            name, arguments = {"name": "f", "arguments": ""}, {"arguments": '{"id":"x"}'}
            parts = [
                {"index": 0, "id": call_id, "type": "function", "function": name},
                {"index": 0, "function": arguments},
            ]
            events = [event(chunk({"tool_calls": [part]})) for part in parts]
            return chunked(*events, event(chunk({}, "tool_calls")), b"data: [DONE]\n\n")
        body = json.loads(answer_json())
        body["choices"][0] |= {
            "message": {"role": "assistant", "content": None, "tool_calls": [made]},
            "finish_reason": "tool_calls",
        }
        return whole(json.dumps(body).encode())

    return answer


def tool_loop(call_id: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": EASY},
        {"role": "assistant", "content": None, "tool_calls": [CALL | {"id": call_id}]},
        {"role": "tool", "tool_call_id": call_id, "content": "4"},
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_tool_loops_with_the_same_task_are_different(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, stream: bool
) -> None:
    proxy = await start({"upstreams": {"local": {"capabilities": ["tools"]}}})
    cloud.answer, local.answer = calls_tool("call_c"), calls_tool("call_l")
    fields = {"tools": [TOOL], "stream": stream}
    await proxy.chat(messages=chat(EASY), **(fields | {"model": "cloud"}))
    await proxy.chat(messages=chat(EASY), **(fields | {"model": "local"}))
    results = await decisions(proxy, tool_loop("call_c"), tool_loop("call_l"), **fields)
    assert results == ["cloud sticky", "local score"]
    first, second, *later = [row["session_id"] for row in (await proxy.finish(4)).rows]
    assert first != second
    assert later == [first, second]


# Histories that clients change.


@pytest.mark.parametrize(
    ("answer", "returned"),
    [
        ("  So it is.\n\n", "So it is."),
        ("First.\r\n\r\nSecond.", "First.\nSecond."),
        ("<think>\nHm. Is it?\n</think>\n\nSo it is.", "So it is."),
        ("Hm. Is it?</think>So it is.", "So it is."),
    ],
    ids=["trimmed", "lines", "thoughts", "unopened"],
)
async def test_changed_answer_is_found(
    proxy: LiveProxy, cloud: FakeUpstream, answer: str, returned: str
) -> None:
    cloud.answer = says(answer)
    await decisions(proxy, chat(HARD))
    assert await decisions(proxy, chat(HARD, returned, TASK)) == ["cloud sticky"]


async def test_changed_instructions_are_another_matter(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    at_one, at_two = ({"role": "system", "content": f"It is {hour}:00."} for hour in (1, 2))
    await decisions(proxy, [at_one, *chat(HARD)])
    assert await decisions(proxy, [at_two, *chat(HARD, "Hello!", TASK)]) == ["cloud sticky"]


async def test_each_answer_of_a_regenerated_turn_is_found(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = says("Four."), says("It is 4.")
    await proxy.chat(messages=chat(EASY), model="cloud")
    await proxy.chat(messages=chat(EASY), model="local")
    branches = [chat(EASY, text, TASK) for text in ("It is 4.", "Four.", "It is 4.")]
    assert await decisions(proxy, *branches) == ["cloud sticky", "local score", "cloud sticky"]


async def test_trimmed_history_is_found_by_a_long_answer(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = says("So it is.", PROOF, "So it is.")
    await decisions(proxy, chat(HARD), chat(HARD, "So it is.", HARD))
    assert await decisions(proxy, chat("A summary.", PROOF, TASK)) == ["cloud sticky"]
    assert await decisions(proxy, chat(HARD, "That is not what it said.", TASK)) == ["local score"]


@pytest.mark.parametrize("text", ["So it", PROOF], ids=["short", "long"])
async def test_continued_answer_is_found(proxy: LiveProxy, cloud: FakeUpstream, text: str) -> None:
    """A client sends the beginning of an answer, and joins the rest to it."""
    cloud.answer = says(text, " is.")
    asked = [chat(HARD), chat(HARD, text), chat(HARD, text + " is.", TASK)]
    assert await decisions(proxy, *asked) == ["cloud score", "cloud score", "cloud sticky"]
    assert len({row["session_id"] for row in (await proxy.finish(3)).rows}) == 1


async def test_thanks_in_between_do_not_hide_the_conversation() -> None:
    conversations = Conversations()
    begun = history(chat(HARD))
    conversations.note([begun.key_of_answer("So it is.", ())], CLOUD)
    thanks = ["Thanks!", "Welcome."] * (MAX_KEYS - 1)
    assert await conversations.find(history(chat(HARD, "So it is.", *thanks, TASK))) == CLOUD
    assert await conversations.find(history(chat(HARD, "So it is.", *thanks * 2, TASK))) is None


# Names that clients send.


@pytest.mark.parametrize(
    "headers",
    [
        {"x-router-session": "s", "x-session-id": "other"},
        {"session-id": "s", "thread-id": "t"},
        {"session_id": "s"},
        {"x-session-id": "s", "x-session-affinity": "s"},
        {"x-claude-code-session-id": "s"},
        {"x-openwebui-chat-id": "s"},
        {"x-conversation-id": "s"},
    ],
)
async def test_header_names_the_conversation(proxy: LiveProxy, headers: dict[str, str]) -> None:
    assert await decisions(proxy, chat(HARD), chat(TASK), headers=headers) == [
        "cloud score",
        "cloud sticky",
    ]
    others = {name: f"other {value}" for name, value in headers.items()}
    assert await decisions(proxy, chat(TASK), headers=others) == ["local score"]
    first, second, third = [row["session_id"] for row in (await proxy.finish(3)).rows]
    assert first == second != third


@pytest.mark.parametrize("value", [b"", b"{{LIBRECHAT_BODY_CONVERSATIONID}}", b"${CHAT_ID}"])
@pytest.mark.parametrize("name", [SESSION_HEADER, b"x-conversation-id"])
def test_an_empty_header_names_no_conversation(name: bytes, value: bytes) -> None:
    assert history(chat(TASK), (name, value)).name is None


def test_order_and_names_of_headers_count() -> None:
    one, other = (b"session-id", b"1"), (b"thread-id", b"2")
    assert history(chat(TASK), one, other).name == history(chat(TASK), other, one).name
    assert history(chat(TASK), one).name != history(chat(TASK), (b"thread-id", b"1")).name


def test_text_is_not_taken_for_turns() -> None:
    forged = history(chat("q\0assistant\0yes\0user\0more", "no"))
    assert forged.keys != history(chat("q", "yes", "more", "no")).keys
    first = history(chat(TASK))
    assert first.key_of_answer("a\0c1", ()) != first.key_of_answer("a", ("c1",))


def test_header_of_the_router_wins() -> None:
    named = history(chat(HARD), (SESSION_HEADER, b"s"))
    others = [(b"x-session-id", b"1"), (SESSION_HEADER, b"s"), (b"session-id", b"2")]
    assert history(chat(TASK), *others).name == named.name is not None


@pytest.mark.parametrize("name", ["session_id", "conversationId", "thread-id", "chat_id"])
async def test_metadata_name_the_conversation(proxy: LiveProxy, name: str) -> None:
    named = {"metadata": {name: "s", "app": "shop"}}
    assert await decisions(proxy, chat(HARD), **named) == ["cloud score"]
    for trace in "12":
        changed = {"metadata": named["metadata"] | {"trace_id": trace}}
        assert await decisions(proxy, chat(TASK), **changed) == ["cloud sticky"]
    other = {"metadata": {name: "other", "app": "shop"}}
    assert await decisions(proxy, chat(TASK), **other) == ["local score"]


@pytest.mark.parametrize(
    "key",
    ["conv-42", "01a22ebc-5f3b-7d91-a5e2-e74fdb73ae1a", "ses_7f3k2", "Thread:9", "chat/user-1"],
)
async def test_cache_key_that_is_an_id_names_the_conversation(proxy: LiveProxy, key: str) -> None:
    results = await decisions(proxy, chat(HARD), chat(TASK), prompt_cache_key=key)
    assert results == ["cloud score", "cloud sticky"]
    assert await decisions(proxy, chat(TASK), prompt_cache_key=f"{key}0") == ["local score"]


@pytest.mark.parametrize(
    "key", ["app", "chat-app", "support-bot-v2", "tenant-8f14e45f", "chatbot-2", "v1:prompt:2024"]
)
async def test_cache_key_of_an_application_names_none(proxy: LiveProxy, key: str) -> None:
    results = await decisions(proxy, chat(HARD), chat(TASK), prompt_cache_key=key)
    assert results == ["cloud score", "local score"]


@pytest.mark.parametrize(
    "fields",
    [{"prompt_cache_key": "app"}, {"user": "u1"}, {"metadata": {"app": "shop", "session": "x"}}],
    ids=["prompt_cache_key", "user", "metadata"],
)
async def test_what_conversations_share_links_none(
    proxy: LiveProxy, fields: dict[str, Any]
) -> None:
    results = await decisions(proxy, chat(HARD), chat(TASK), chat(TASK, "Hi", TASK), **fields)
    assert results == ["cloud score", "local score", "local score"]
    assert await decisions(proxy, chat(HARD, "Hello!", TASK), **fields) == ["cloud sticky"]


# Processes that share a database.


async def test_history_is_known_across_workers(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = says("Four."), says("So it is.")
    cautious = {"x-router-threshold": "0"}  # local without the conversation
    async with Served(tmp_path, local, cloud, changes={"server": {"workers": 2}}) as proxy:
        await ask(proxy.port, chat_body(model="cloud", messages=chat(HARD)))
        rows = "select * from requests"
        await until(lambda: bool(proxy.query(rows)), what="the row is written")
        for number in range(12):  # each on its own connection
            body = chat_body(messages=chat(HARD, "So it is.", f"{number}. {TASK}"))
            answer = await ask(proxy.port, body, headers=cautious)
            assert answer.head.headers["x-router-reason"] == "sticky"
        other = chat_body(messages=chat(HARD, "So it is not.", TASK))
        answer = await ask(proxy.port, other, headers=cautious)
        assert answer.head.headers["x-router-target"] == "local"
        assert await proxy.stop() == 0
        sessions = [row["session_id"] for row in proxy.query(rows + " order by created_at")]
    assert len(set(sessions[:13])) == 1
    assert sessions[13] != sessions[0]


def history(messages: Sequence[dict[str, Any]], *headers: tuple[bytes, bytes]) -> History:
    body = json.dumps({"model": "auto", "messages": messages}).encode()
    return History(parse_chat(body), headers, "key")


async def test_newer_answer_of_another_process_wins() -> None:
    asked: list[Sequence[str]] = []

    def look_up(keys: Sequence[str], since: float) -> NotedAnswer:
        asked.append(keys)
        return CLOUD

    conversations = Conversations(look_up=look_up, clock=lambda: 5_000.0)
    longer = history(chat(HARD, "One.", TASK, "Two.", TASK))
    newest, older = longer.keys
    conversations.note([older], LOCAL)
    assert await conversations.find(longer) == CLOUD
    assert asked == [(newest,)]
    conversations.note([newest], LOCAL)
    assert await conversations.find(longer) == LOCAL  # no other process can know better
    assert len(asked) == 1
    assert await conversations.find(history(chat(HARD))) is None
    assert len(asked) == 1  # a first request is not looked up


# Bounds.


async def test_an_answer_is_forgotten_after_an_hour() -> None:
    now = 0.0
    conversations = Conversations(clock=lambda: now)
    key = history(chat(HARD)).key_of_answer("One.", ())
    conversations.note([key], CLOUD)
    later = history(chat(HARD, "One.", TASK))
    now = TTL_SECONDS
    assert await conversations.find(later) == CLOUD
    now += 1
    assert await conversations.find(later) is None


def test_memory_is_bounded() -> None:
    conversations = Conversations()
    tracemalloc.start()
    try:
        for number in range(100_000):
            digits = hashlib.blake2b(b"%d" % number, digest_size=8).hexdigest()
            conversations.note([digits], NotedAnswer(digits[::-1], Target.CLOUD))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(conversations) == MAX_ANSWERS
    assert used < 16e6


def test_keys_of_a_long_history_are_few() -> None:
    assert len(history(chat(*["Hi"] * 2_000)).keys) == MAX_KEYS


def test_body_of_a_response_names_its_conversation() -> None:
    def name(**fields: Any) -> str | None:
        body = json.dumps({"model": "auto", "input": "Hi"} | fields).encode()
        return History(parse_responses(body), (), None).name

    assert name() is None
    assert name(conversation="conv_1") == name(conversation={"id": "conv_1"}) is not None
    assert name(conversation="conv_2") != name(conversation="conv_1")
