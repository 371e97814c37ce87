"""Routing rules over a real socket: what the client, the row and the metrics show."""

from typing import Any

import pytest

from fakes import EASY, HARD, End, FakeUpstream, response_answer
from live import StartProxy

ADVICE = {"name": "regulated advice", "when": {"words": ["dosage", "tax return"]}, "use": "cloud"}
STAY = {"name": "stay", "when": {"words": "secret"}, "use": "local"}
STRICT = {"name": "strict", "when": {"header": {"x-team": "red"}}, "use": {"threshold": 0.95}}
RULES: dict[str, Any] = {"routing": {"rules": [ADVICE, STAY, STRICT]}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def shown(response: Any) -> tuple[str, str, str | None]:
    """The tier, the reason and the rule of an answer, by its headers."""
    assert response.status_code == 200, response.text
    names = ("x-router-target", "x-router-reason", "x-router-rule")
    target, reason, rule = (response.headers.get(name) for name in names)
    return target, reason, rule


async def test_a_rule_is_in_header_trace_row_and_metric(start: StartProxy) -> None:
    proxy = await start(RULES)
    response = await proxy.chat(text="Which DOSAGE?", headers={"x-router-trace": "true"})
    assert shown(response) == ("cloud", "rule", "regulated advice")
    assert "rule: 'regulated advice' (cloud)" in response.headers["x-router-trace"]
    for absent in ("x-router-score", "x-router-threshold"):
        assert absent not in response.headers
    outcome = await proxy.finish()
    row, metrics = outcome.row, outcome.metrics
    assert (row["target"], row["reason"], row["rule"]) == ("cloud", "rule", "regulated advice")
    assert row["score"] is None
    assert metrics("router_rule_decisions_total", rule="regulated advice") == 1


async def test_without_a_match_the_score_decides(start: StartProxy) -> None:
    proxy = await start(RULES)
    assert shown(await proxy.chat(text=EASY)) == ("local", "score", None)
    assert shown(await proxy.chat(text=HARD)) == ("cloud", "score", None)


async def test_a_rule_sets_the_threshold(start: StartProxy) -> None:
    proxy = await start(RULES)
    for own in ({}, {"x-router-threshold": "0.1"}):
        response = await proxy.chat(text=EASY, headers={"x-team": "red"} | own)
        assert shown(response) == ("cloud", "score", "strict")
        assert response.headers["x-router-threshold"] == "0.9500"
    assert shown(await proxy.chat(text=EASY, headers={"x-team": "blue"})) == (
        "local", "score", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "headers"),
    [("local", {}), ("phi3:latest", {}), ("auto", {"x-router-target": "local"})],
)
async def test_rules_do_not_touch_forced_tiers(
    start: StartProxy, model: str, headers: dict[str, str]
) -> None:
    proxy = await start(RULES)
    response = await proxy.chat(text="Which dosage?", model=model, headers=headers)
    assert shown(response) == ("local", "forced", None)


async def test_limits_of_the_local_model_hold(start: StartProxy) -> None:
    limits = {"local": {"capabilities": ["json_schema"], "context_tokens": 1000}}
    proxy = await start(RULES | {"upstreams": limits})
    response = await proxy.chat(text="A secret?", tools=TOOLS)
    assert shown(response) == ("cloud", "capability", "stay")
    response = await proxy.chat(text="A secret? " + "word " * 2_000)
    assert shown(response) == ("cloud", "context", "stay")
    assert shown(await proxy.chat(text="A secret?")) == ("local", "rule", "stay")


async def test_a_spent_budget_keeps_a_request_local(start: StartProxy) -> None:
    proxy = await start(RULES | {"budget": {"cloud_usd_per_day": 0.0}})
    response = await proxy.chat(text="Which dosage?")
    assert shown(response) == ("local", "budget", "regulated advice")


async def test_a_failed_tier_falls_back(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start(RULES)
    cloud.answer = [End.RESET]
    response = await proxy.chat(text="Which dosage?")
    assert shown(response) == ("local", "fallback", "regulated advice")


async def test_a_rule_wins_over_session_affinity(start: StartProxy) -> None:
    proxy = await start(RULES | {"routing": RULES["routing"] | {"sticky": "session"}})

    async def ask(text: str) -> tuple[str, str, str | None]:
        return shown(await proxy.chat(text=text, headers={"x-router-session": "s"}))

    assert await ask(HARD) == ("cloud", "score", None)
    assert await ask(f"{EASY} A secret?") == ("local", "rule", "stay")
    assert await ask(HARD) == ("local", "sticky", None)
    assert await ask("Which dosage?") == ("cloud", "rule", "regulated advice")


async def test_responses_api(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start(
        {
            "routing": {
                "rules": [
                    {
                        "name": "legal",
                        "when": {"metadata": {"department": "legal"}, "regex": r"§ ?\d+"},
                        "use": "cloud",
                    }
                ]
            }
        }
    )
    cloud.answer = response_answer()
    body = {"model": "auto", "input": "What is § 5?", "metadata": {"department": "legal"}}
    response = await proxy.client.post("/v1/responses", json=body)
    assert shown(response) == ("cloud", "rule", "legal")


async def test_keys_are_known_by_their_names(start: StartProxy) -> None:
    keys = [{"key": "sk-batch", "name": "batch"}, {"key": "sk-team"}]
    rules = [{"name": "batch key", "when": {"key": "batch"}, "use": "local"}]
    proxy = await start({"server": {"api_keys": keys}, "routing": {"rules": rules}})
    for key, expected in (
        ("sk-batch", ("local", "rule", "batch key")),
        ("sk-team", ("cloud", "score", None)),
    ):
        response = await proxy.chat(text=HARD, headers={"authorization": f"Bearer {key}"})
        assert shown(response) == expected


async def test_a_preview_names_the_rule(start: StartProxy) -> None:
    proxy = await start(RULES)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Which dosage?"}]}
    previewed = (await proxy.client.post("/api/decisions", json=body)).json()
    assert (previewed["reason"], previewed["rule"]) == ("rule", "regulated advice")


async def test_a_reload_with_a_wrong_rule_keeps_the_old_ones(start: StartProxy) -> None:
    proxy = await start(RULES)
    wrong = {"name": "wrong", "when": {"regex": "("}, "use": "cloud"}
    proxy.configure({"routing": {"rules": [wrong]}})
    await proxy.reloaded(lambda: not proxy.proxy.reloader.succeeded)
    assert shown(await proxy.chat(text="Which dosage?")) == ("cloud", "rule", "regulated advice")
    proxy.configure({"routing": {"rules": [STAY]}})
    await proxy.reloaded(lambda: proxy.proxy.reloader.succeeded)
    assert shown(await proxy.chat(text="Which dosage?")) == ("local", "score", None)
