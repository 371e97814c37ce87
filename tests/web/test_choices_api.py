"""Choices of users between two answers: who may store them, which answers they may name."""

import asyncio
from typing import Any

import pytest

from fakes import EASY, HARD, FakeUpstream, answer_json, error_json, whole
from live import LiveProxy, StartProxy, envelope_of
from stored import execute, read

KEYS = {
    "server": {
        "api_keys": [{"key": "sk-team"}, {"key": "sk-other"}, {"key": "sk-boss", "admin": True}]
    }
}
TEAM, OTHER, ADMIN = (
    {"authorization": f"Bearer {key}"} for key in ("sk-team", "sk-other", "sk-boss")
)


@pytest.fixture(autouse=True)
def answers(local: FakeUpstream, cloud: FakeUpstream) -> None:
    local.answer = cloud.answer = whole(answer_json("An answer."))


async def ask(
    proxy: LiveProxy, target: str, *, text: str = EASY, headers: dict[str, str] | None = None
) -> str:
    """The id of an answer of a tier."""
    answer = await proxy.chat(model=target, text=text, headers=headers)
    assert answer.status_code == 200, answer.text
    request_id: str = answer.headers["x-request-id"]
    return request_id


async def pair(proxy: LiveProxy, **options: Any) -> dict[str, str]:
    """The ids of both tiers' answers to one prompt."""
    first, other = [await ask(proxy, target, **options) for target in ("local", "cloud")]
    return {"request_id": first, "other_id": other}


async def choose(
    proxy: LiveProxy,
    ids: dict[str, str],
    choice: str = "tie",
    *,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Any:
    body = {**ids, "choice": choice, "source": "chat"} | fields
    return await proxy.client.post("/api/choices", json=body, headers=headers)


async def score(proxy: LiveProxy, headers: dict[str, str] | None = None) -> Any:
    answer = await proxy.client.get("/api/choices", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored(proxy: LiveProxy) -> list[dict[str, Any]]:
    return read(f"sqlite:///{proxy.config_file.parent}/router.db", "SELECT * FROM choices")


async def test_a_choice_is_stored_right_after_the_answers(proxy: LiveProxy) -> None:
    ids = await pair(proxy)
    answer = await choose(proxy, ids, "local", is_blind=True, may_learn=True, source="compare")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "object": "choice", **ids, "choice": "local", "source": "compare", "is_blind": True,
        "may_learn": True,
    }  # fmt: skip
    [row] = stored(proxy)
    assert row["client_key_hash"] is None
    assert (row["local_model"], row["cloud_model"]) == ("phi3:latest", "gpt-4o-mini")
    assert (row["choice"], row["is_blind"], row["may_learn"]) == ("local", 1, 1)
    assert row["category"] is not None


async def test_a_later_choice_replaces_it_in_either_order(proxy: LiveProxy) -> None:
    ids = await pair(proxy)
    for choice in ("local", "local", "cloud"):
        assert (await choose(proxy, ids, choice)).status_code == 200
    assert [row["choice"] for row in stored(proxy)] == ["cloud"]
    mirrored = {"request_id": ids["other_id"], "other_id": ids["request_id"]}
    assert (await choose(proxy, mirrored, "tie")).status_code == 200
    [row] = stored(proxy)
    assert (row["request_id"], row["choice"]) == (ids["other_id"], "tie")
    assert row["local_model"] == "phi3:latest"  # whichever answer came first


async def test_concurrent_choices_are_one_comparison(proxy: LiveProxy) -> None:
    ids = await pair(proxy)
    mirrored = {"request_id": ids["other_id"], "other_id": ids["request_id"]}
    done = await asyncio.gather(*(choose(proxy, either) for either in (ids, mirrored) * 8))
    assert {answer.status_code for answer in done} == {200}
    assert len(stored(proxy)) == 1


async def test_answers_must_be_of_both_tiers_complete_and_to_one_prompt(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    ids = await pair(proxy)
    again = await ask(proxy, "local")
    different = await ask(proxy, "cloud", text=HARD)
    cloud.answer = whole(error_json("No."), status=400)
    failed = (await proxy.chat(model="cloud", text=EASY)).headers["x-request-id"]
    for other, message in (
        (again, "Both answers are from the local tier"),
        (ids["request_id"], "Both answers are from the local tier"),
        (different, "different prompts"),
        (failed, "no complete answer"),
    ):
        answer = await choose(proxy, ids | {"other_id": other})
        assert answer.status_code == 400, answer.text
        envelope = envelope_of(answer)
        assert envelope["param"] == "other_id"
        assert message in envelope["message"]
    answer = await choose(proxy, ids | {"request_id": failed})
    assert envelope_of(answer)["param"] == "request_id"
    assert stored(proxy) == []


async def test_only_texts_are_compared(proxy: LiveProxy) -> None:
    ids = await pair(proxy)
    await proxy.rows_of(2)
    execute(
        f"sqlite:///{proxy.config_file.parent}/router.db",
        f"UPDATE requests SET endpoint = 'embeddings' WHERE id = '{ids['other_id']}'",
    )
    answer = await choose(proxy, ids)
    assert (answer.status_code, envelope_of(answer)["param"]) == (400, "other_id")


@pytest.mark.parametrize("prompts", ["hash", "none"])
async def test_prompts_are_compared_as_far_as_they_are_stored(
    start: StartProxy, prompts: str
) -> None:
    proxy = await start({"storage": {"prompts": prompts}})
    ids = await pair(proxy)
    assert (await choose(proxy, ids)).status_code == 200
    different = await ask(proxy, "cloud", text=HARD)
    answer = await choose(proxy, ids | {"other_id": different})
    assert answer.status_code == (400 if prompts == "hash" else 200)


async def test_answers_that_store_no_text_may_be_counted(proxy: LiveProxy) -> None:
    ids = await pair(proxy, headers={"x-router-no-store": "true"})
    assert (await choose(proxy, ids, "local", may_learn=True)).status_code == 200
    assert (await score(proxy))["open"]["local"] == 1


async def test_a_client_names_only_its_own_requests(start: StartProxy) -> None:
    proxy = await start(KEYS)
    mine = await pair(proxy, headers=TEAM)
    others = await pair(proxy, headers=OTHER)
    for ids, field in (
        (others, "request_id"),
        (mine | {"other_id": others["other_id"]}, "other_id"),
        (mine | {"request_id": "req_none"}, "request_id"),
    ):
        answer = await choose(proxy, ids, headers=TEAM)
        assert answer.status_code == 404
        envelope = envelope_of(answer)
        assert envelope["param"] == field
        assert "does not exist" in envelope["message"]
    assert (await choose(proxy, mine, headers=TEAM)).status_code == 200
    assert (await choose(proxy, others, "cloud", headers=ADMIN)).status_code == 200
    for headers, scope, number in ((TEAM, "own", 1), (OTHER, "own", 0), (ADMIN, "all", 2)):
        shown = await score(proxy, headers)
        assert (shown["scope"], shown["all"]["comparisons"]) == (scope, number)


async def test_choices_need_a_key_and_the_own_origin(start: StartProxy) -> None:
    proxy = await start(KEYS)
    ids = await pair(proxy, headers=TEAM)
    assert (await choose(proxy, ids)).status_code == 401
    assert (await proxy.client.get("/api/choices")).status_code == 401
    open_proxy = await start()
    foreign = {"origin": "https://evil.example"}
    assert (await choose(open_proxy, ids, headers=foreign)).status_code == 403
    answer = await open_proxy.client.get("/api/choices", headers=foreign)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"choice": "both"}, "choice"),
        ({"source": "api"}, "source"),
        ({"is_blind": 1}, "is_blind"),
        ({"may_learn": "yes"}, "may_learn"),
        ({"request_id": ""}, "request_id"),
        ({"other_id": "x" * 101}, "other_id"),
        ({"weight": 9}, "weight"),
    ],
)
async def test_an_invalid_choice_is_rejected_by_name(
    proxy: LiveProxy, fields: dict[str, Any], param: str
) -> None:
    answer = await choose(proxy, {"request_id": "req_1", "other_id": "req_2"}, **fields)
    assert answer.status_code == 400
    assert envelope_of(answer)["param"] == param


async def test_the_score_counts_blind_and_open_choices_apart(proxy: LiveProxy) -> None:
    for choice, is_blind in (("local", True), ("tie", True), ("cloud", True), ("cloud", False)):
        answer = await choose(proxy, await pair(proxy), choice, is_blind=is_blind)
        assert answer.status_code == 200
    shown = await score(proxy)
    blind, seen = shown["blind"], shown["open"]
    assert (blind["local_good_enough"], blind["comparisons"], blind["tie"]) == (2, 3, 1)
    assert blind["share"] == pytest.approx(2 / 3)
    assert blind["low"] == pytest.approx(0.2077, abs=1e-4)  # Wilson
    assert blind["high"] == pytest.approx(0.9385, abs=1e-4)
    assert (seen["local_good_enough"], seen["comparisons"], seen["low"]) == (0, 1, 0.0)
    [category] = shown["categories"]
    assert category["all"]["comparisons"] == 4
    assert (shown["local_model"], shown["cloud_model"]) == ("phi3:latest", "gpt-4o-mini")


async def test_both_methods_of_the_path_are_listed(proxy: LiveProxy) -> None:
    answer = await proxy.client.request("OPTIONS", "/api/choices")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    answer = await proxy.client.delete("/api/choices")
    assert answer.status_code == 405


async def test_choices_between_other_models_are_not_in_the_score(
    start: StartProxy,
) -> None:
    proxy = await start()
    assert (await choose(proxy, await pair(proxy))).status_code == 200
    execute(
        f"sqlite:///{proxy.config_file.parent}/router.db",
        "UPDATE choices SET local_model = 'llama3'",
    )
    shown = await score(proxy)
    assert (shown["all"]["comparisons"], shown["all"]["share"]) == (0, None)
