"""Requests that are not the user's task: housekeeping, small talk, tasks in the system prompt."""

from typing import Any

import pytest

from fakes import EASY, HARD, FakeUpstream
from live import LiveProxy, StartProxy

HISTORY = f"<chat_history>\nUSER: {HARD}\nASSISTANT: First, …\n</chat_history>"
TITLE = [
    {
        "role": "user",
        "content": "### Task:\nGenerate a short title for the chat.\n### Output:\n"
        'JSON format: { "title": "…" }\n### Chat History:\n' + HISTORY,
    }
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def decision(response: Any) -> str:
    assert response.status_code == 200
    return f"{response.headers['x-router-target']} {response.headers['x-router-reason']}"


def chat(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


async def test_housekeeping_stays_local(proxy: LiveProxy) -> None:
    response = await proxy.chat(messages=TITLE)
    assert decision(response) == "local housekeeping"
    assert "x-router-score" not in response.headers
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["score"]) == ("local", "housekeeping", None)
    assert row["session_id"] is None


async def test_housekeeping_can_be_scored(start: StartProxy) -> None:
    proxy = await start({"routing": {"housekeeping": "score"}})
    assert decision(await proxy.chat(messages=TITLE)) == "local score"


async def test_named_tier_and_limits_come_before_housekeeping(start: StartProxy) -> None:
    proxy = await start({"upstreams": {"local": {"capabilities": []}}})
    assert decision(await proxy.chat(messages=TITLE, model="cloud")) == "cloud forced"
    assert decision(await proxy.chat(messages=TITLE, tools=[TOOL])) == "cloud capability"


async def test_housekeeping_falls_back(start: StartProxy) -> None:
    proxy = await start(local="http://127.0.0.1:9/v1")
    assert decision(await proxy.chat(messages=TITLE)) == "cloud fallback"


async def test_housekeeping_does_not_move_its_conversation(proxy: LiveProxy) -> None:
    headers = {"x-router-session": "mine"}
    results = [
        decision(await proxy.chat(messages=messages, headers=headers, model=model))
        for messages, model in (
            (chat(HARD), "auto"),
            (TITLE, "auto"),
            (TITLE, "local"),
            (chat(HARD, "First, …", EASY * 20), "auto"),
        )
    ]
    assert results == ["cloud score", "local housekeeping", "local forced", "cloud sticky"]
    sessions = [row["session_id"] for row in (await proxy.finish(4)).rows]
    assert sessions[0] == sessions[3] is not None
    assert sessions[1:3] == [None, None]


@pytest.mark.parametrize(
    ("sticky", "target"), [("escalate_only", "local score"), ("session", "cloud sticky")]
)
async def test_thanks_need_no_cloud(start: StartProxy, sticky: str, target: str) -> None:
    proxy = await start({"routing": {"sticky": sticky}})
    assert decision(await proxy.chat(messages=chat(HARD))) == "cloud score"
    assert decision(await proxy.chat(messages=chat(HARD, "Hello!", "Thank you!"))) == target
    later = chat(HARD, "Hello!", "Thank you!", "Hello!", EASY * 20)
    assert decision(await proxy.chat(messages=later)) == "cloud sticky"
    assert len({row["session_id"] for row in (await proxy.finish(3)).rows}) == 1


@pytest.mark.parametrize(
    ("score_system", "user", "expected"),
    [
        ("auto", "go", "cloud score"),
        ("auto", "", "cloud score"),
        ("auto", EASY, "local score"),
        ("never", "go", "local score"),
        ("always", EASY, "cloud score"),
    ],
)
async def test_task_in_the_system_prompt(
    start: StartProxy, score_system: str, user: str, expected: str
) -> None:
    proxy = await start({"routing": {"score_system": score_system}})
    messages = [{"role": "system", "content": HARD}, {"role": "user", "content": user}]
    assert decision(await proxy.chat(messages=messages)) == expected


async def test_system_prompt_setting_is_reloaded(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start({"routing": {"score_system": "never"}})
    messages = [{"role": "system", "content": HARD}, {"role": "user", "content": "go"}]
    assert decision(await proxy.chat(messages=messages)) == "local score"
    proxy.configure({"routing": {"score_system": "auto"}})
    snapshot = proxy.proxy.gateway.snapshot
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot is not snapshot)
    assert decision(await proxy.chat(messages=messages)) == "cloud score"
    assert len(cloud.calls) == 1
