"""Tools that a request merely offers do not keep it from a local model without tools."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fakes import EASY, HARD, Answer, FakeUpstream, answer_by_path, error_json, whole
from live import LiveProxy, StartProxy, envelope_of
from looks import OLLAMA, SECOND_MODEL, UNCERTAIN, LocalModels, UncertainModel
from proxy.gateway import optional_tools
from proxy.record import Target

DESCRIPTION = "Searches what the user has stored, and returns the best matches as JSON. " * 8
NAMES = (
    "get_current_timestamp calculate_timestamp ask_user list_knowledge_bases "
    "search_knowledge_bases query_knowledge_bases grep_knowledge_files search_knowledge_files "
    "query_knowledge_files view_knowledge_file search_chats view_chat search_notes view_note "
    "write_note replace_note_content create_tasks update_task create_automation update_automation "
    "list_automations toggle_automation delete_automation search_calendar_events "
    "create_calendar_event update_calendar_event delete_calendar_event create_skill"
).split()


def function(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"query": {"type": "string"}}}
    fields = {"name": name, "description": DESCRIPTION, "parameters": parameters}
    return {"type": "function", "function": fields}


OPEN_WEBUI = [function(name) for name in NAMES]
WEATHER = function("get_weather")
AGENT = [function("shell"), function("apply_patch")]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NO_TOOLS = {"upstreams": {"local": {"capabilities": []}}}
SHORT = {"upstreams": {"local": {"capabilities": ["tools"], "context_tokens": 4096}}}
REFUSED = whole(
    error_json("registry.ollama.ai/library/phi3:latest does not support tools"), status=400
)
NO_JINJA = whole(error_json("tools param requires --jinja flag"), status=500)
TOO_LONG = whole(
    error_json("the request exceeds the available context size", code="exceed_context_size_error"),
    status=400,
)


def setting(value: str, **changes: Any) -> dict[str, Any]:
    return {"routing": {"optional_tools": value}, **NO_TOOLS, **changes}


def ollama(version: str, *capabilities: str) -> dict[str, Answer]:
    shown = {"capabilities": ["completion", *capabilities], "model_info": {}}
    return {
        "/api/version": whole(json.dumps({"version": version}).encode()),
        "/api/show": whole(json.dumps(shown).encode()),
    }


def outcome(response: Any) -> str:
    assert response.status_code == 200, response.text
    headers = response.headers
    parts = (headers["x-router-target"], headers["x-router-reason"])
    return " ".join((*parts, headers.get("x-router-adapted", ""))).strip()


def ask(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# ── A chat front end's own tools (auto) ───────────────────────────────────────────────────────


@pytest.mark.parametrize("changes", [NO_TOOLS, SHORT])
async def test_a_front_ends_tools_are_left_out(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, changes: dict[str, Any]
) -> None:
    proxy = await start(changes)
    response = await proxy.chat(messages=ask(EASY), tools=OPEN_WEBUI)
    assert outcome(response) == "local score tools"
    assert "tools" not in local.call.json
    assert not cloud.calls
    done = await proxy.finish()
    assert done.row["input_tokens"] == 19  # as the server counts
    assert done.metrics("router_context_truncations_total") == 0


async def test_what_refers_to_the_tools_is_left_out_too(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(NO_TOOLS)
    response = await proxy.chat(
        tools=OPEN_WEBUI, tool_choice="auto", parallel_tool_calls=True, temperature=0.3
    )
    assert set(outcome(response).split()[2:]) == {"tools,", "tool_choice,", "parallel_tool_calls"}
    assert local.call.json.keys() == {"model", "messages", "temperature"}


async def test_the_cloud_gets_the_tools(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start(NO_TOOLS)
    response = await proxy.chat(messages=ask(HARD), tools=OPEN_WEBUI)
    assert outcome(response) == "cloud score"
    assert cloud.call.json["tools"] == OPEN_WEBUI


async def test_tools_that_the_model_has_room_for_stay(
    start: StartProxy, local: FakeUpstream
) -> None:
    room = {"upstreams": {"local": {"capabilities": ["tools"], "context_tokens": 40_960}}}
    proxy = await start(room)
    assert outcome(await proxy.chat(tools=OPEN_WEBUI)) == "local score"
    assert local.call.json["tools"] == OPEN_WEBUI


@pytest.mark.parametrize(
    "tools", [[*OPEN_WEBUI, WEATHER], [WEATHER], AGENT, [*OPEN_WEBUI, function("search_web")]]
)
async def test_other_tools_are_needed(start: StartProxy, tools: list[dict[str, Any]]) -> None:
    proxy = await start(NO_TOOLS)
    assert outcome(await proxy.chat(tools=tools)) == "cloud capability"


@pytest.mark.parametrize(
    "message", ["What time is it?", "What's on my calendar?", "Search my notes.", "Wie spät?"]
)
async def test_a_message_that_refers_to_a_tool_needs_it(start: StartProxy, message: str) -> None:
    proxy = await start(NO_TOOLS)
    response = await proxy.chat(messages=ask(message), tools=OPEN_WEBUI)
    assert outcome(response) == "cloud capability"


async def test_a_reply_to_an_offer_of_the_model_needs_the_tools(start: StartProxy) -> None:
    proxy = await start(NO_TOOLS)

    async def reply(offer: str) -> str:
        messages = [
            *ask("I see the dentist at four."),
            {"role": "assistant", "content": offer},
            *ask("Yes, please do that."),
        ]
        return outcome(await proxy.chat(messages=messages, tools=OPEN_WEBUI))

    assert await reply("I can add 'Dentist' to your calendar. Shall I?") == "cloud capability"
    assert await reply("I can give you three tips. Shall I?") == "local score tools"


# ── What is not optional ──────────────────────────────────────────────────────────────────────

NEEDED: Mapping[str, dict[str, Any]] = {
    "required": {"tool_choice": "required"},
    "named": {"tool_choice": {"type": "function", "function": {"name": "view_note"}}},
    "called": {"messages": [*ask(EASY), {"role": "assistant", "tool_calls": [CALL]}]},
    "answered": {"messages": [*ask(EASY), {"role": "tool", "tool_call_id": "1", "content": "x"}]},
    "web search": {"web_search_options": {}},
}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", ["auto", "drop"])
async def test_what_needs_its_tools(start: StartProxy, value: str, name: str) -> None:
    proxy = await start(setting(value))
    fields = {"messages": ask(EASY), "tools": OPEN_WEBUI, **NEEDED[name]}
    assert outcome(await proxy.chat(**fields)) == "cloud capability"
    forced = await proxy.chat(**fields, model="local")
    assert (forced.status_code, envelope_of(forced)["code"]) == (
        400,
        "unsupported_by_local_model",
    )


@pytest.mark.parametrize("name", ["called", "answered"])
@pytest.mark.parametrize("value", ["auto", "drop"])
async def test_tools_in_use_stay_although_they_are_too_long(
    start: StartProxy, value: str, name: str
) -> None:
    proxy = await start({"routing": {"optional_tools": value}, **SHORT})
    response = await proxy.chat(**{"tools": OPEN_WEBUI, **NEEDED[name]})
    assert outcome(response) == "cloud context"


async def test_the_older_form_is_demanded_likewise(start: StartProxy) -> None:
    proxy = await start(setting("drop"))
    functions = [WEATHER["function"]]
    assert outcome(await proxy.chat(functions=functions)) == "local score functions"
    response = await proxy.chat(functions=functions, function_call={"name": "get_weather"})
    assert outcome(response) == "cloud capability"


# ── The setting ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "tools", "expected"),
    [
        ("keep", OPEN_WEBUI, "cloud capability"),
        ("drop", AGENT, "local score tools"),
        ("drop", [*AGENT, {"type": "custom", "custom": {"name": "c"}}], "local score tools"),
        ("drop", OPEN_WEBUI, "local score tools"),
    ],
)
async def test_the_setting(
    start: StartProxy, value: str, tools: list[dict[str, Any]], expected: str
) -> None:
    proxy = await start(setting(value))
    assert outcome(await proxy.chat(messages=ask(EASY), tools=tools)) == expected


async def test_drop_heeds_no_words(start: StartProxy) -> None:
    proxy = await start(setting("drop"))
    response = await proxy.chat(messages=ask("What time is it?"), tools=OPEN_WEBUI)
    assert outcome(response) == "local score tools"


async def test_a_key_has_its_own_setting(start: StartProxy) -> None:
    keys = [
        {"key": "drops", "optional_tools": "drop"},
        {"key": "keeps", "optional_tools": "keep"},
        {"key": "other", "optional_tools": None},
    ]
    proxy = await start({"server": {"api_keys": keys}, **NO_TOOLS})
    results = [
        outcome(await proxy.chat(tools=tools, headers={"authorization": f"Bearer {key}"}))
        for key, tools in (("drops", AGENT), ("keeps", OPEN_WEBUI), ("other", OPEN_WEBUI))
    ]
    assert results == ["local score tools", "cloud capability", "local score tools"]


async def test_a_named_local_model_answers_without_them(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(NO_TOOLS)
    time = ask("What time is it?")
    response = await proxy.chat(model="local", messages=time, tools=OPEN_WEBUI)
    assert outcome(response) == "local forced tools"
    assert "tools" not in local.call.json
    refused = await proxy.chat(model="local", messages=time, tools=AGENT)
    assert envelope_of(refused)["param"] == "tools"


async def test_a_rule_reads_the_offered_tools(start: StartProxy) -> None:
    rules = [{"name": "tools", "when": {"needs": ["tools"]}, "use": "cloud"}]
    proxy = await start({"routing": {"rules": rules}, **NO_TOOLS})
    assert outcome(await proxy.chat(tools=OPEN_WEBUI)) == "cloud rule"


async def test_a_rule_counts_the_offered_tools(start: StartProxy) -> None:
    rules = [{"name": "long", "when": {"prompt_tokens": {"min": 3000}}, "use": "cloud"}]
    proxy = await start({"routing": {"rules": rules}, **SHORT})
    assert outcome(await proxy.chat(tools=OPEN_WEBUI)) == "cloud rule"


async def test_an_estimate_is_of_what_was_sent(start: StartProxy, local: FakeUpstream) -> None:
    local.answer = whole(answer_without_usage())
    proxy = await start(SHORT)
    assert outcome(await proxy.chat(messages=ask(EASY), tools=OPEN_WEBUI)) == "local score tools"
    row = (await proxy.finish()).row
    assert row["usage_source"] == "estimated"
    assert 0 < row["input_tokens"] < 50


async def test_an_estimate_of_the_cloud_has_the_tools(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(answer_without_usage())
    proxy = await start(NO_TOOLS)
    assert outcome(await proxy.chat(messages=ask(HARD), tools=OPEN_WEBUI)) == "cloud score"
    row = (await proxy.finish()).row
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 3000


def answer_without_usage() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("second", "expected"), [("8", "local score tools"), ("9", "cloud escalated")]
)
async def test_an_uncertain_answer_without_tools_has_a_second_look(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, second: str, expected: str
) -> None:
    local.native, local.answer = dict(OLLAMA), LocalModels(second=second)
    proxy = await start({"verify": {"second": SECOND_MODEL}}, model=UncertainModel())
    response = await proxy.chat(messages=ask(UNCERTAIN), tools=OPEN_WEBUI)
    assert outcome(response) == expected
    assert len(local.calls) == 2
    assert not any("tools" in call.json for call in local.calls)
    assert [call.json["tools"] for call in cloud.calls] == [OPEN_WEBUI] * (second == "9")


# ── A server that refuses tools when it is asked ──────────────────────────────────────────────


def refusing(answer: Answer) -> Any:
    """A server that refuses a request with tools, and answers others."""
    return lambda call: answer if "tools" in call.json else answer_by_path(call)


@pytest.mark.parametrize("refusal", [REFUSED, NO_JINJA])
@pytest.mark.parametrize("model", ["auto", "local"])
@pytest.mark.parametrize("stream", [False, True])
async def test_refused_tools_are_left_out(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    refusal: Answer,
    model: str,
    stream: bool,
) -> None:
    local.answer = refusing(refusal)
    proxy = await start()
    response = await proxy.chat(model=model, messages=ask(EASY), tools=OPEN_WEBUI, stream=stream)
    reason = "score" if model == "auto" else "forced"
    assert outcome(response) == f"local {reason} tools"
    assert ["tools" in call.json for call in local.calls] == [True, False]
    assert not cloud.calls
    assert "x-router-fallback" not in response.headers


@pytest.mark.parametrize(("model", "reason"), [("auto", "score"), ("local", "forced")])
async def test_a_refusal_of_tools_is_learned(
    start: StartProxy, local: FakeUpstream, model: str, reason: str
) -> None:
    local.answer = refusing(REFUSED)
    proxy = await start()
    results = [
        outcome(await proxy.chat(model=model, messages=ask(EASY), tools=OPEN_WEBUI))
        for _ in range(2)
    ]
    assert results == [f"local {reason} tools"] * 2
    assert ["tools" in call.json for call in local.calls] == [True, False, False]
    learned = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL].learned
    assert learned.features("phi3:latest") == ["tools"]
    assert outcome(await proxy.chat(messages=ask(EASY), tools=AGENT)) == "cloud capability"


async def test_a_refused_length_is_one_without_tools(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = refusing(TOO_LONG)
    proxy = await start()
    response = await proxy.chat(messages=ask(EASY), tools=OPEN_WEBUI)
    assert outcome(response) == "local score tools"
    assert not cloud.calls


async def test_needed_tools_that_are_refused_go_to_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = refusing(REFUSED)
    proxy = await start()
    assert outcome(await proxy.chat(messages=ask(EASY), tools=AGENT)) == "cloud fallback"
    assert cloud.call.json["tools"] == AGENT
    assert len(local.calls) == 1


async def test_a_server_that_refuses_everything_is_asked_twice(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = REFUSED
    proxy = await start()
    response = await proxy.chat(messages=ask(EASY), tools=OPEN_WEBUI)
    assert outcome(response) == "cloud fallback"
    assert len(local.calls) == 2
    assert cloud.call.json["tools"] == OPEN_WEBUI


# ── The Responses API: namespaces and hosted tools ────────────────────────────────────────────

SHELL = {"type": "function", "name": "shell", "description": "d", "parameters": {}}
NAMESPACE = {"type": "namespace", "name": "ns", "description": "d", "tools": [SHELL]}
WEB_SEARCH = {"type": "web_search"}
FILE_SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"]}
CODEX = [SHELL, NAMESPACE, WEB_SEARCH]


async def create(proxy: LiveProxy, **fields: Any) -> Any:
    body = {"model": "auto", "input": EASY, "store": False, **fields}
    return await proxy.client.post("/v1/responses", json=body)


@pytest.mark.parametrize(
    ("version", "tools", "expected"),
    [
        ("0.32.6", [SHELL], "local score"),
        ("0.32.6", [SHELL, NAMESPACE], "cloud capability"),
        ("0.32.7", [SHELL, NAMESPACE], "local score"),
        ("0.32.7", CODEX, "cloud capability"),
        ("0.33.0", CODEX, "local score"),
        ("0.33.0", [*CODEX, FILE_SEARCH], "cloud capability"),
    ],
)
async def test_the_tools_of_an_ollama_version(
    start: StartProxy,
    local: FakeUpstream,
    version: str,
    tools: list[dict[str, Any]],
    expected: str,
) -> None:
    local.native = ollama(version, "tools")
    proxy = await start()
    assert outcome(await create(proxy, tools=tools)) == expected
    if expected.startswith("local"):
        assert local.call.json["tools"] == tools


async def test_other_servers_get_functions_only(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start()
    assert outcome(await create(proxy, tools=[SHELL])) == "local score"
    assert outcome(await create(proxy, tools=[SHELL, NAMESPACE])) == "cloud capability"


async def test_without_what_the_server_lacks_the_functions_stay(
    start: StartProxy, local: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.native = ollama("0.32.6", "tools")
    proxy = await start({"routing": {"optional_tools": "drop"}})
    assert outcome(await create(proxy, tools=CODEX, tool_choice="auto")) == "local score tools"
    assert local.call.json["tools"] == [SHELL]
    with monkeypatch.context() as patch:  # the request without any tools is not made
        patch.setattr(optional_tools, "drop_tools", None)
        assert outcome(await create(proxy, tools=CODEX)) == "local score tools"
    used = [
        {"role": "user", "content": EASY},
        {"type": "function_call", "call_id": "1", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "ok"},
    ]
    assert outcome(await create(proxy, tools=CODEX, input=used)) == "local score tools"
    assert local.calls[-1].json["tools"] == [SHELL]


async def test_an_agent_may_be_answered_without_any_tool(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native = ollama("0.33.0")
    proxy = await start({"routing": {"optional_tools": "drop"}})
    assert outcome(await create(proxy, tools=CODEX)) == "local score tools"
    assert "tools" not in local.call.json
    used = [
        {"role": "user", "content": EASY},
        {"type": "function_call_output", "call_id": "1", "output": "ok"},
    ]
    assert outcome(await create(proxy, tools=CODEX, input=used)) == "cloud capability"


async def test_tools_in_use_are_not_all_left_out(start: StartProxy, local: FakeUpstream) -> None:
    local.native = ollama("0.32.6", "tools")
    proxy = await start({"routing": {"optional_tools": "drop"}})
    used = [{"type": "function_call_output", "call_id": "1", "output": "ok"}]
    response = await create(proxy, tools=[WEB_SEARCH], input=used)
    assert outcome(response) == "cloud capability"


@pytest.mark.parametrize(
    ("tools", "name"),
    [
        ([SHELL, NAMESPACE], "namespace"),
        ([SHELL, WEB_SEARCH], "web_search"),
        ([SHELL, FILE_SEARCH], "file_search"),
        ([SHELL, {"type": "of_tomorrow" * 20}], "of_tomorrow" * 5 + "of_tomorr"),
    ],
)
async def test_an_error_names_the_type_of_the_tool(
    start: StartProxy, local: FakeUpstream, tools: list[dict[str, Any]], name: str
) -> None:
    local.native = ollama("0.32.6", "tools")
    proxy = await start()
    refused = await create(proxy, model="local", tools=tools)
    error = envelope_of(refused)
    assert (refused.status_code, error["param"]) == (400, "tools")
    assert f"'tools' ({name})" in error["message"]


async def test_a_rule_knows_web_search_as_a_hosted_tool(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native = ollama("0.33.0", "tools")
    rules = [{"name": "hosted", "when": {"needs": ["hosted_tools"]}, "use": "cloud"}]
    proxy = await start({"routing": {"rules": rules}})
    assert outcome(await create(proxy, tools=[SHELL, WEB_SEARCH])) == "cloud rule"


# ── A demanded choice (routing.local_tool_choice) ─────────────────────────────────────────────

NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_demanded_choice(start: StartProxy, local: FakeUpstream, choice: object) -> None:
    local.native = ollama("0.33.0", "tools")
    strict = await start()
    fields = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False}
    refused = await strict.chat(model="local", **fields)
    assert (refused.status_code, envelope_of(refused)["param"]) == (400, "tool_choice")
    lenient = await start({"routing": {"local_tool_choice": "lenient"}})
    answered = await lenient.chat(model="local", **fields)
    assert outcome(answered) == "local forced tool_choice, parallel_tool_calls"
    assert local.call.json.keys() == {"model", "messages", "tools"}
    assert outcome(await lenient.chat(**fields)) == "cloud capability"


# ── A front end's first chat, with the shipped router ─────────────────────────────────────────

HISTORY = (
    "### Chat History:\n<chat_history>\nUSER: What is the capital of France?\n"
    "ASSISTANT: Paris.\n</chat_history>"
)
FIRST_CHAT: list[dict[str, Any]] = [
    {"messages": ask("What is the capital of France?"), "tools": OPEN_WEBUI},
    {
        "messages": ask(
            "### Task:\nPredict 3-5 useful messages this user might naturally send next.\n"
            '### Output:\nJSON format: { "follow_ups": ["…"] }\n' + HISTORY
        )
    },
    {
        "messages": ask(
            "### Task:\nGenerate a concise title summarizing the chat history.\n### Output:\n"
            'JSON format: { "title": "…" }\n' + HISTORY
        ),
        "max_completion_tokens": 1000,
    },
    {
        "messages": ask(
            "### Task:\nGenerate 1-3 broad tags categorizing the themes of the chat history.\n"
            '### Output:\nJSON format: { "tags": ["…"] }\n' + HISTORY
        )
    },
]


@pytest.mark.parametrize("capabilities", [(), ("tools",)], ids=["no tools", "short context"])
async def test_a_front_ends_first_chat_is_local(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, capabilities: tuple[str, ...]
) -> None:
    local.native = ollama("0.33.0", *capabilities)
    assert len(json.dumps(OPEN_WEBUI)) > 20_000
    proxy = await start({"routing": {"threshold": "auto"}}, model="configured")
    results = [outcome(await proxy.chat(**request, stream=True)) for request in FIRST_CHAT]
    assert [result.split()[:2] for result in results] == [
        ["local", "score"],
        ["local", "housekeeping"],
        ["local", "housekeeping"],
        ["local", "housekeeping"],
    ]
    assert "tools" in results[0].split()
    assert not cloud.calls
    assert not any("tools" in call.json for call in local.calls)
