"""Routing rules: each condition, their order, and what a rule decides."""

import json
from pathlib import Path
from typing import Any

import pytest

from fakes import EASY, HARD, StubModel
from proxy.config import NEEDS, load_config
from proxy.protocol.chat import parse_chat
from proxy.protocol.responses import parse_responses
from proxy.record import Reason, Target, key_hash
from proxy.routing.router import Decision, Router, RoutingPreference, Scorer
from proxy.routing.rules import MAX_MATCHED_CHARS, RuleInput

ROOT = Path(__file__).parents[2]
TIERS = {
    "local": {"base_url": "http://127.0.0.1:9/v1", "model": "phi3"},
    "cloud": {"base_url": "http://127.0.0.1:9/v1", "model": "gpt-4o-mini"},
}
KEYS = [{"key": "sk-batch", "name": "batch"}, {"key": "sk-team", "name": "team"}, "sk-other"]


def router_of(folder: Path, *rules: dict[str, Any], scorer: Scorer | None = None) -> Router:
    path = folder / "config.yaml"
    routing = {"threshold": 0.5, "rules": rules}
    fields = {"upstreams": TIERS, "server": {"api_keys": KEYS}, "routing": routing}
    path.write_text(json.dumps(fields))
    return Router(load_config(path, environ={}), scorer, thresholds=None)


def chat(text: str = EASY, **fields: Any) -> RuleInput:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]} | fields
    request = parse_chat(json.dumps(body).encode())
    return RuleInput(request.turns, request=request)


async def matches(folder: Path, when: dict[str, Any], given: RuleInput) -> bool:
    router = router_of(folder, {"name": "rule", "when": when, "use": "cloud"})
    assert router.rules is not None
    return await router.rules.find(given) is not None


TOOLS = [{"type": "function", "function": {"name": "f"}}]
GERMAN = "Wie hoch ist die Dosis von Ibuprofen für ein Kind?"


@pytest.mark.parametrize(
    ("when", "given", "expected"),
    [
        ({"category": "code"}, chat("Write a Python function."), True),
        ({"category": ["maths", "code"]}, chat("Write a Python function."), True),
        ({"category": "maths"}, chat("Write a Python function."), False),
        ({"language": "de"}, chat(GERMAN), True),
        ({"language": ["fr", "de"]}, chat(GERMAN), True),
        ({"language": "en"}, chat(GERMAN), False),
        ({"language": "en"}, chat("Hi"), False),
        ({"words": "dosis"}, chat(GERMAN), True),
        ({"words": ["lawsuit", "dosis"]}, chat(GERMAN), True),
        ({"words": "dos"}, chat(GERMAN), False),
        ({"regex": r"Dosis von \w+"}, chat(GERMAN), True),
        ({"regex": ["x{3}", "(?i)DOSIS"]}, chat(GERMAN), True),
        ({"regex": "DOSIS"}, chat(GERMAN), False),
        ({"needs": "tools"}, chat(tools=TOOLS), True),
        ({"needs": ["logprobs", "tools"]}, chat(tools=TOOLS), True),
        ({"needs": "logprobs"}, chat(tools=TOOLS), False),
        ({"metadata": "team"}, chat(metadata={"team": "red"}), True),
        ({"metadata": ["unit", "team"]}, chat(metadata={"team": "red"}), True),
        ({"metadata": {"team": "red"}}, chat(metadata={"team": "red"}), True),
        ({"metadata": {"team": ["blue", "red"]}}, chat(metadata={"team": "red"}), True),
        ({"metadata": {"team": "blue"}}, chat(metadata={"team": "red"}), False),
        ({"metadata": {"team": "red", "unit": "1"}}, chat(metadata={"team": "red"}), False),
        ({"metadata": "team"}, chat(), False),
        ({"metadata": "team"}, chat(metadata={"team": 1}), False),
        ({"metadata": "team"}, chat(metadata="team"), False),
        ({"prompt_tokens": {"max": 100}}, chat(), True),
        ({"prompt_tokens": {"min": 100}}, chat(), False),
        ({"prompt_tokens": {"min": 100, "max": 400}}, chat("word " * 200), True),
        ({"prompt_tokens": {"max": 100}}, chat("word " * 200), False),
        ({"prompt_tokens": {"min": 100}}, chat(tools=TOOLS * 20), True),
        # All conditions must hold.
        ({"words": "dosis", "language": "de"}, chat(GERMAN), True),
        ({"words": "dosis", "language": "en"}, chat(GERMAN), False),
    ],
)
async def test_conditions(
    tmp_path: Path, when: dict[str, Any], given: RuleInput, expected: bool
) -> None:
    assert await matches(tmp_path, when, given) is expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"key": "batch"}, True),
        ({"key": ["team", "batch"]}, True),
        ({"key": "team"}, False),
        ({"header": "X-Team"}, True),
        ({"header": ["x-unit", "x-team"]}, True),
        ({"header": "x-unit"}, False),
        ({"header": {"x-team": "red"}}, True),
        ({"header": {"x-team": ["blue", "red"]}}, True),
        ({"header": {"x-team": "Red"}}, False),
        ({"header": {"x-team": "red", "x-unit": "1"}}, False),
    ],
)
async def test_conditions_on_the_caller(
    tmp_path: Path, when: dict[str, Any], expected: bool
) -> None:
    headers = [(b"host", b"localhost"), (b"x-team", b"red ")]
    given = RuleInput([("user", EASY)], headers=headers, key_hash=key_hash("sk-batch"))
    assert await matches(tmp_path, when, given) is expected
    if "key" in when:
        for other in (None, key_hash("sk-other")):
            assert not await matches(tmp_path, when, RuleInput([], key_hash=other))


async def test_conditions_read_a_request_of_the_responses_api(tmp_path: Path) -> None:
    body = {"model": "auto", "input": GERMAN, "metadata": {"team": "red"}}
    request = parse_responses(json.dumps(body).encode())
    given = RuleInput(request.turns, request=request)
    when = {"words": "dosis", "metadata": {"team": "red"}, "language": "de"}
    assert await matches(tmp_path, when, given)


async def test_words_are_those_of_the_last_user_message(tmp_path: Path) -> None:
    turns = [("user", "dosage"), ("assistant", "dosage"), ("user", "Thanks"), ("tool", "dosage")]
    assert not await matches(tmp_path, {"words": "dosage"}, RuleInput(turns))
    assert not await matches(tmp_path, {"words": "dosage"}, RuleInput([]))


async def test_of_a_very_long_message_head_and_tail_are_read(tmp_path: Path) -> None:
    filler = "x " * MAX_MATCHED_CHARS
    for text, expected in (
        (f"dosage {filler}", True),
        (f"{filler} dosage", True),
        (f"{filler} dosage {filler}", False),
    ):
        given = RuleInput([("user", text)])
        assert len(given.text) < MAX_MATCHED_CHARS + 10
        assert await matches(tmp_path, {"words": "dosage"}, given) is expected


async def test_the_first_match_wins(tmp_path: Path) -> None:
    router = router_of(
        tmp_path,
        {"name": "first", "when": {"words": "lawsuit"}, "use": "cloud"},
        {"name": "second", "when": {"words": ["lawsuit", "tax"]}, "use": "local"},
        {"name": "third", "when": {"words": "tax"}, "use": {"threshold": 0.75}},
    )
    assert router.rules is not None
    found = [await router.rules.find(chat(text)) for text in ("lawsuit", "tax", "neither")]
    assert [rule and rule.name for rule in found] == ["first", "second", None]


def test_without_rules_nothing_is_compiled(tmp_path: Path) -> None:
    assert router_of(tmp_path).rules is None


CLOUD = {"name": "to cloud", "when": {"words": "lawsuit"}, "use": "cloud"}
LOCAL = {"name": "to local", "when": {"words": "lawsuit"}, "use": "local"}
STRICT = {"name": "strict", "when": {"words": "lawsuit"}, "use": {"threshold": 0.95}}
LAX = {"name": "lax", "when": {"words": "lawsuit"}, "use": {"threshold": 0.05}}


@pytest.mark.parametrize(
    ("rule", "text", "limit", "expected"),
    [
        (CLOUD, EASY, None, (Target.CLOUD, Reason.RULE, None, True)),
        (LOCAL, HARD, None, (Target.LOCAL, Reason.RULE, None, True)),
        # The local model's limits hold.
        (LOCAL, EASY, Reason.CONTEXT, (Target.CLOUD, Reason.CONTEXT, 0.5, False)),
        (CLOUD, EASY, Reason.CAPABILITY, (Target.CLOUD, Reason.RULE, None, False)),
        (LAX, HARD, Reason.CONTEXT, (Target.CLOUD, Reason.CONTEXT, 0.05, False)),
        # The score decides with the rule's threshold.
        (STRICT, EASY, None, (Target.CLOUD, Reason.SCORE, 0.95, True)),
        (LAX, HARD, None, (Target.LOCAL, Reason.SCORE, 0.05, True)),
    ],
)
async def test_decisions(
    tmp_path: Path,
    rule: dict[str, Any],
    text: str,
    limit: Reason | None,
    expected: tuple[Target, Reason, float | None, bool],
) -> None:
    router = router_of(tmp_path, rule, scorer=Scorer(StubModel()))
    assert router.rules is not None
    turns = [("user", f"{text} lawsuit")]
    found = await router.rules.find(RuleInput(turns))
    for own in (None, 0.5):  # also where the request has a threshold of its own
        preference = RoutingPreference(threshold=own)
        made = await router.decide(preference, turns, not_local=limit, rule=found)
        assert (made.target, made.reason, made.threshold, made.has_alternative) == expected
        assert made.rule == rule["name"]
    forced = await router.decide(RoutingPreference(Target.LOCAL), turns, rule=found)
    assert forced == Decision(Target.LOCAL, Reason.FORCED, "phi3")
    router.close()


async def test_pacing_does_not_change_a_rule(tmp_path: Path) -> None:
    router = router_of(tmp_path, STRICT, scorer=Scorer(StubModel()))
    assert router.rules is not None
    turns = [("user", "lawsuit")]
    rule = await router.rules.find(RuleInput(turns))
    made = await router.decide(RoutingPreference(), turns, paced_threshold=0.0, rule=rule)
    assert (made.target, made.threshold) == (Target.CLOUD, 0.95)
    router.close()


def test_needs_are_those_of_the_wire_formats() -> None:
    protocol = ROOT / "proxy/protocol"
    text = "".join(path.read_text(encoding="utf-8") for path in protocol.glob("*.py"))
    assert {need for need in NEEDS if f'"{need}"' not in text} == set()
