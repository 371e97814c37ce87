"""The threshold's JSON API: the curve, the previews, and changes of the configuration file."""

import asyncio
import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from fakes import EASY, HARD
from judging import SHIPPED
from live import LiveProxy, StartProxy, envelope_of
from proxy.config import load_config
from proxy.evaluation.estimates import MIN_PAIRS
from proxy.evaluation.queries import WeightedPair
from proxy.record import CallRecord, Reason, Target
from proxy.storage.queries import MeritBucket
from proxy.web.curve import THRESHOLDS, pareto
from router_model.manifest import Manifest
from stored import add_judgements, execute, fill, finished, read

pytest_plugins = ["databases"]

KEYS = {
    "server": {"api_keys": [{"key": "sk-team"}, {"key": "sk-boss", "name": "boss", "admin": True}]}
}
TEAM, ADMIN = ({"authorization": f"Bearer {key}"} for key in ("sk-team", "sk-boss"))
NOTHING = [MeritBucket(0, 0.0)] * 100


async def get(proxy: LiveProxy, path: str, **query: Any) -> Any:
    answer = await proxy.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(proxy: LiveProxy, path: str, **fields: Any) -> httpx2.Response:
    return await proxy.client.post(path, json=fields)


async def preview(proxy: LiveProxy, **fields: Any) -> Any:
    answer = await post(proxy, "/api/routing/preview", **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def curve_of(result: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(point["cost_share"], point["quality"]) for point in result["curve"]]


# --- the curve ---


def random_pairs(rng: random.Random, number: int) -> list[WeightedPair]:
    """Judged pairs of random traffic, with a gap between the tiers."""
    return [
        WeightedPair(
            rng.choice([rng.random(), 0.0, 0.5, 1.0]),
            rng.uniform(1, 8),
            rng.uniform(2, 10),
            rng.choice([1.0, 20.0, 1 / rng.uniform(0.01, 1)]),
            rng.choice([rng.random() * 1e-4, 0.0, None]),
        )
        for _ in range(number)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_judged_curve_reaches_both_ends_and_its_cost_never_falls(seed: int) -> None:
    pairs = random_pairs(random.Random(seed), random.Random(seed).randrange(MIN_PAIRS, 1_000))
    traffic = [MeritBucket(seed, float(seed * n)) for n in range(100)]  # another population
    result = pareto(traffic, pairs, None, 0.5)
    assert result["basis"] == "judged"
    points = curve_of(result)
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert all(before[0] <= after[0] for before, after in pairwise(points))
    # Each point is the outcome of its threshold on the judged requests that have a price.
    priced = [pair for pair in pairs if pair.cloud_usd is not None]
    for index in (13, 50, 87):
        sent = [pair for pair in priced if pair.merit < THRESHOLDS[index]]
        cost, gain = (
            sum(value(pair) for pair in sent) / sum(value(pair) for pair in priced)
            for value in (
                lambda pair: pair.weight * pair.cloud_usd,
                lambda pair: pair.weight * (pair.cloud - pair.local),
            )
        )
        assert points[index] == (pytest.approx(cost), pytest.approx(gain))


def test_random_scores_lie_on_the_diagonal() -> None:
    """So the line of random routing is the baseline of this curve."""
    rng = random.Random(7)
    pairs = [WeightedPair(rng.random(), 4.0, 8.0, 1.0, 0.001) for _ in range(20_000)]
    for cost, quality in curve_of(pareto(NOTHING, pairs, None, 0.5)):
        assert quality == pytest.approx(cost, abs=1e-9)


def test_without_prices_the_cost_is_the_share_of_requests() -> None:
    pairs = [WeightedPair(0.2, 4.0, 8.0, 1.0), WeightedPair(0.8, 7.0, 8.0, 2.0)] * (MIN_PAIRS // 2)
    points = curve_of(pareto(NOTHING, pairs, None, 0.5))
    assert points[50] == (pytest.approx(1 / 3), pytest.approx(4 / 6))


def test_without_a_gap_there_is_no_quality_to_recover() -> None:
    worse = [WeightedPair(0.5, 9.0, 8.0, 1.0, 0.1)] * MIN_PAIRS
    assert {quality for _, quality in curve_of(pareto(NOTHING, worse, None, 0.5))} == {None}


@pytest.mark.parametrize("seed", range(10))
def test_before_enough_are_judged_both_axes_are_of_the_validation_data(seed: int) -> None:
    manifest = Manifest.load(SHIPPED)
    rng = random.Random(seed)
    traffic = [MeritBucket(rng.randrange(9), rng.random()) for _ in range(100)]
    points = curve_of(pareto(traffic, random_pairs(rng, MIN_PAIRS - 1), manifest, 0.5))
    assert points == curve_of(pareto(NOTHING, [], manifest, 0.5))  # whatever the traffic
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert all(before[0] <= after[0] for before, after in pairwise(points))
    for point in manifest.thresholds:
        left = points[int(point.threshold * 100)]
        right = points[min(int(point.threshold * 100) + 1, 100)]
        assert left[0] <= point.cost_share + 1e-9
        assert point.cost_share <= right[0] + 1e-9


def test_dollars_of_the_traffic_are_separate() -> None:
    scored = [MeritBucket(0, 0.0)] * 100
    scored[10], scored[60], scored[99] = (
        MeritBucket(2, 8.0),
        MeritBucket(1, 1.5),
        MeritBucket(1, 0.5),
    )
    result = pareto(scored, [], None, 0.5)
    points = {point["threshold"]: point for point in result["curve"]}
    for threshold, share, usd in (
        (0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.11, 0.5, 8.0), (0.6, 0.5, 8.0), (0.61, 0.75, 9.5),
        (1.0, 1.0, 10.0),
    ):  # fmt: skip
        point = points[threshold]
        assert (point["cloud_share"], point["cost_usd"]) == (share, usd), threshold
        assert (point["cost_share"], point["quality"]) == (None, None)
    assert (result["requests"], result["all_cloud_usd"], result["basis"]) == (4, 10.0, None)


async def test_curve_covers_the_selected_time_range(proxy: LiveProxy) -> None:
    await proxy.chat(text=EASY)
    await proxy.row_of(await proxy.chat(text=HARD))
    result = await get(proxy, "/api/pareto", since="24h")
    assert (result["requests"], result["threshold"]) == (2, 0.5)
    half = result["curve"][50]
    assert half["cloud_share"] == 0.5
    assert half["cost_usd"] == pytest.approx(result["all_cloud_usd"] / 2)
    refused = await proxy.client.get("/api/pareto", params={"since": "1y"})
    assert envelope_of(refused)["param"] == "since"


# --- what would move ---


def scored(merit: float, /, **values: Any) -> CallRecord:
    """A request by score at the threshold 0.5."""
    target = Target.LOCAL if merit >= 0.5 else Target.CLOUD
    defaults: dict[str, Any] = {
        "created_at": time.time() - 60, "requested_model": "auto", "reason": Reason.SCORE,
        "target": target, "score": merit, "merit": merit, "threshold": 0.5, "upstream_ms": 400.0,
        "input_tokens": 100, "output_tokens": 50, "cloud_cost_usd": 0.25,
        "cost_usd": 0.0 if target is Target.LOCAL else 0.25,
        "turns": [("user", f"Merit {merit}?")],
    }  # fmt: skip
    return finished(**defaults | values)


async def test_preview_names_the_requests_that_move(
    start: StartProxy, tmp_path: Path, url: str
) -> None:
    records = [scored(merit) for merit in (0.1, 0.4, 0.45, 0.55, 0.58, 0.9)]
    fill(url, records)
    now = time.time()
    add_judgements(
        url,
        [
            (records[3].id, now, "local", 5.0, "j"),
            (records[3].id, now, "cloud", 8.0, "j"),
            (records[1].id, now, "local", 6.0, "j"),
            (records[1].id, now, "cloud", 7.0, "j"),
        ],
    )
    proxy = await start({"storage": {"url": url}})
    higher = await get(proxy, "/api/threshold/preview", threshold=0.6)
    assert (higher["requests"], higher["local"], higher["new_local"]) == (6, 3, 1)
    assert higher["usd"] == pytest.approx(0.75)
    assert higher["new_usd"] == pytest.approx(1.25)
    assert higher["to_local"]["requests"] == 0
    assert higher["to_cloud"] == {
        "requests": 2, "usd": pytest.approx(0.5), "judged": 1, "score_change": 3.0
    }  # fmt: skip
    assert {(move["id"], move["prompt"]) for move in higher["moves"]} == {
        (records[3].id, "Merit 0.55?"), (records[4].id, "Merit 0.58?")
    }  # fmt: skip
    (move,) = [move for move in higher["moves"] if move["merit"] == 0.58]
    assert (move["from"], move["to"], move["usd"]) == ("local", "cloud", 0.25)
    lower = await get(proxy, "/api/threshold/preview", threshold="0.4")
    assert lower["to_cloud"]["requests"] == 0
    assert (lower["to_local"]["requests"], lower["to_local"]["score_change"]) == (2, -1.0)
    assert lower["to_local"]["usd"] == pytest.approx(-0.5)
    # At the threshold in use nothing moves, whatever it was when the requests came.
    proxy.configure({"routing": {"threshold": 0.6}})
    await proxy.reloaded(lambda: proxy.proxy.config.routing.threshold == 0.6)
    assert (await get(proxy, "/api/threshold/preview", threshold=0.6))["moves"] == []
    assert (await preview(proxy, threshold=0.5))["threshold"]["to_local"]["requests"] == 2


async def test_only_requests_by_the_configured_threshold_move(proxy: LiveProxy) -> None:
    """Not those of the client, of a rule or of another cause."""
    proxy.configure(
        {"routing": {"rules": [{"name": "r", "when": {"words": "tax"}, "use": {"threshold": 0.5}}]}}
    )
    await proxy.reloaded(lambda: bool(proxy.proxy.config.routing.rules))
    moved = await proxy.chat(text=EASY)
    await proxy.chat(text=f"{EASY} 1", headers={"x-router-threshold": "0.5"})
    await proxy.chat(text=f"{EASY} 2", model="auto:threshold=0.5")
    await proxy.chat(text=f"{EASY} 3", model="local")
    await proxy.chat(text=f"{EASY} tax")
    rows = await proxy.rows_of(5)
    assert [row["own_threshold"] for row in rows] == [0, 1, 1, 0, 1]
    result = await get(proxy, "/api/threshold/preview", threshold=1)
    assert result["requests"] == 1
    assert [move["id"] for move in result["moves"]] == [moved.headers["x-request-id"]]


async def test_rows_of_older_versions_and_other_reasons_do_not_move(
    start: StartProxy, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/router.db"
    others = [reason for reason in Reason if reason is not Reason.SCORE]
    old = [
        scored(0.7),
        scored(0.7, requested_model="auto:cost=0.3"),
        scored(0.7, rule="r"),
        scored(0.7, merit=None),
        *(scored(0.7, reason=reason) for reason in others),
    ]
    fill(url, old)
    execute(url, "UPDATE requests SET own_threshold = NULL")
    proxy = await start()
    result = await get(proxy, "/api/threshold/preview", threshold=0.8)
    assert [move["id"] for move in result["moves"]] == [old[0].id]


async def test_preview_lists_the_newest_twenty_and_reads_five_thousand(
    start: StartProxy, tmp_path: Path
) -> None:
    now = time.time()
    fill(
        f"sqlite:///{tmp_path}/router.db",
        [scored(0.7, created_at=now - number) for number in range(5_100)],
    )
    proxy = await start()
    result = await get(proxy, "/api/threshold/preview", threshold=0.8)
    assert result["requests"] == result["to_cloud"]["requests"] == 5_000
    assert result["since"] == pytest.approx(now - 4_999)
    assert [move["created_at"] for move in result["moves"]] == [
        pytest.approx(now - number) for number in range(20)
    ]


async def test_pacing_lowers_the_previewed_threshold(start: StartProxy, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path}/router.db", [scored(merit / 100) for merit in range(0, 100, 5)] * 1)
    proxy = await start({"budget": {"cloud_usd_per_day": 3.0, "pacing": True}})
    state = await get(proxy, "/api/threshold")
    assert state["is_paced"] is True
    assert state["threshold"] < state["configured"] == 0.5
    result = await get(proxy, "/api/threshold/preview", threshold=0.9)
    assert result["effective"] == pytest.approx(result["current"], abs=0.05)
    assert result["effective"] < 0.5
    assert result["to_cloud"]["requests"] == 0
    assert (await get(proxy, "/api/threshold/preview", threshold=0))["effective"] == 0


@pytest.mark.parametrize("value", ["", "x", "1.1", "-0.1", "nan", "1e2", "0_1", "٠", "0.5'--"])
async def test_invalid_threshold_is_named(proxy: LiveProxy, value: str) -> None:
    answer = await proxy.client.get("/api/threshold/preview", params={"threshold": value})
    assert answer.status_code == 400
    assert envelope_of(answer)["param"] == "threshold"


async def test_zero_may_have_a_sign(proxy: LiveProxy) -> None:
    """-0.0 is a number from 0 to 1 by the OpenAPI document. It is written without its sign."""
    previewed = await get(proxy, "/api/threshold/preview", threshold="-0.0")
    assert str(previewed["threshold"]) == "0.0"
    assert (await plan(proxy, -0.0))["new"] == "0.0"


# --- rules and the second look ---


async def test_rules_are_evaluated_on_stored_prompts(start: StartProxy, tmp_path: Path) -> None:
    records = [
        scored(0.9, turns=[("user", "My TAX return, please")]),
        scored(0.9, turns=[("user", "taxi")]),
        scored(0.1, turns=[("user", "Write def f(x): return x")]),
        scored(0.9, turns=[("user", "x" * 300_000)]),  # too long to be read
        scored(0.9, turns=[("user", "Bonjour")], input_tokens=9_000),
        scored(0.9, turns=None),
        scored(0.9, turns=[("user", "my tax")], reason=Reason.FORCED),
    ]
    fill(f"sqlite:///{tmp_path}/router.db", records)
    proxy = await start()
    rules = [
        {"name": "tax", "when": {"words": ["tax"]}, "use": "cloud"},
        {"name": "code", "when": {"regex": r"def \w+\("}, "use": "local"},
        {"name": "long", "when": {"prompt_tokens": {"min": 8_000}}, "use": {"threshold": 0.95}},
    ]
    found = (await preview(proxy, rules=rules))["rules"]
    assert found["evaluated"] == 4
    assert found["unknown"] == {"no_prompt": 2}
    assert found["matched"] == [{"name": name, "requests": 1} for name in ("tax", "code", "long")]
    assert {(move["id"], move["to"], move["rule"]) for move in found["moves"]} == {
        (records[0].id, "cloud", "tax"),
        (records[2].id, "local", "code"),
        (records[4].id, "cloud", "long"),
    }
    assert (found["to_cloud"]["usd"], found["to_local"]["usd"]) == (0.5, -0.25)
    # The same as YAML, in each form that a configuration may have.
    listed = json.dumps(rules)
    block = "".join(f"- {json.dumps(rule)}\n" for rule in rules)
    for text in (
        listed, f"rules: {listed}", f"routing:\n  rules: {listed}\n", f"\n# mine\n{block}"
    ):  # fmt: skip
        assert (await preview(proxy, yaml=text))["rules"] == found


async def test_conditions_that_no_row_has_are_counted_as_unknown(
    start: StartProxy, tmp_path: Path
) -> None:
    fill(
        f"sqlite:///{tmp_path}/router.db",
        [scored(0.9, turns=[("user", text)]) for text in ("my tax", "a poem")],
    )
    proxy = await start()
    rules = [
        {"name": "h", "when": {"words": "tax", "header": "x-team"}, "use": "cloud"},
        {
            "name": "m",
            "when": {"words": "song", "metadata": "team", "needs": "tools"},
            "use": "cloud",
        },
        {"name": "rest", "when": {"words": ["poem", "tax"]}, "use": "cloud"},
    ]
    found = (await preview(proxy, rules=rules))["rules"]
    assert (found["evaluated"], found["unknown"]) == (1, {"not_stored": 1})
    assert [move["rule"] for move in found["moves"]] == ["rest"]


async def test_removed_rules_leave_requests_without_a_score_open(
    start: StartProxy, tmp_path: Path
) -> None:
    by_rule = {"reason": Reason.RULE, "rule": "old", "target": Target.CLOUD}
    records = [
        scored(0.9, **by_rule, merit=None, score=None),
        scored(0.9, rule="limit", own_threshold=True, threshold=0.95, target=Target.CLOUD),
    ]
    fill(f"sqlite:///{tmp_path}/router.db", records)
    proxy = await start()
    found = (await preview(proxy, rules=[]))["rules"]
    assert (found["evaluated"], found["unknown"]) == (1, {"not_scored": 1})
    assert [(move["id"], move["to"]) for move in found["moves"]] == [(records[1].id, "local")]


WRONG_RULES = [
    ({"rules": [{"name": "a", "when": {"regex": "(?=a)"}, "use": "cloud"}]}, "rules[0].when.regex"),
    ({"rules": [{"name": "a", "when": {}, "use": "cloud"}]}, "needs a condition"),
    ({"rules": [{"name": "a", "when": {"words": "b"}, "use": "moon"}]}, "rules[0].use"),
    ({"rules": [{"name": "a", "when": {"key": "nobody"}, "use": "cloud"}]}, "nobody"),
    ({"yaml": "rules:\n- name: a\n  when: {words: b}\n  use: moon\n"}, "Line 4: "),
    ({"yaml": "# mine\n- name: a\n  when: {words: b}\n  use: moon\n"}, "Line 4: "),
    ({"yaml": "routing: {threshold: 0.5}"}, "routing.rules and verify.band only"),
    ({"yaml": "server: {port: 1}"}, "routing.rules and verify.band only"),
    ({"yaml": "rules: ${HOME}"}, "HOME is not set"),
    ({"yaml": "a: ["}, "not valid YAML"),
    ({"yaml": "text"}, "expected a mapping"),
    ({"verify": {"band": [0.6, 0.4]}}, "band"),
    ({"verify": {"mode": "off"}}, "verify.band only"),
    ({"verify": {"band": "auto"}}, "calibrate"),
    ({"rules": "x"}, "rules"),
    ({"yaml": "rules: []", "rules": []}, "alone"),
    ({"threshold": 2}, "threshold"),
]


@pytest.mark.parametrize(("fields", "problem"), WRONG_RULES)
async def test_wrong_rules_are_refused_with_their_place(
    proxy: LiveProxy, fields: dict[str, Any], problem: str
) -> None:
    answer = await post(proxy, "/api/routing/preview", **fields)
    assert answer.status_code == 400, answer.text
    assert problem in envelope_of(answer)["message"]


async def test_band_of_the_second_look_is_previewed(start: StartProxy, tmp_path: Path) -> None:
    records = [
        scored(0.3), scored(0.42), scored(0.48, streamed=True), scored(0.55, second_look_ms=800.0),
        scored(0.6),
    ]  # fmt: skip
    fill(f"sqlite:///{tmp_path}/router.db", records)
    proxy = await start()
    look = (await preview(proxy, verify={"band": [0.4, 0.6]}))["second_look"]
    assert (look["requests"], look["of"], look["streamed"], look["from_cloud"]) == (3, 5, 1, 2)
    assert (look["each_ms"], look["local_ms"], look["basis"]) == (800.0, 2_400.0, "second_looks")
    assert (look["is_fitted"], look["streams"]) == (False, "skip")
    both = await preview(proxy, yaml="verify: {band: [0.0, 0.1]}\nrules: []\n")
    assert both["second_look"]["requests"] == 0
    assert both["rules"]["evaluated"] == 5


# --- changes of the file ---


def changes_of(proxy: LiveProxy) -> list[dict[str, Any]]:
    url = proxy.proxy.config.storage.url.reveal()
    rows = read(url, "SELECT * FROM audit_log ORDER BY id")
    return [row | {"details": json.loads(row["details"])} for row in rows]


async def plan(proxy: LiveProxy, threshold: Any, **headers: str) -> Any:
    answer = await proxy.client.post(
        "/api/threshold/apply", json={"threshold": threshold, "dry_run": True}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_threshold_is_applied_and_undone(start: StartProxy) -> None:
    proxy = await start(KEYS)
    original = proxy.config_file.read_bytes()
    planned = await plan(proxy, 0.05, **ADMIN)
    assert (planned["old"], planned["new"]) == ("0.5", "0.05")
    assert '-…"routing": {"threshold": 0.5}' in planned["diff"]
    assert "sk-" not in planned["diff"]
    assert proxy.config_file.read_bytes() == original
    applied = await proxy.client.post(
        "/api/threshold/apply",
        json={"threshold": 0.05, "sha256": planned["sha256"]},
        headers=ADMIN,
    )
    assert applied.status_code == 200, applied.text
    # The answer comes after the reload, so the next request is decided by the new threshold.
    assert (await proxy.chat(text=HARD, headers=TEAM)).headers["x-router-target"] == "local"
    assert proxy.config_file.read_bytes() == original.replace(
        b'"threshold": 0.5', b'"threshold": 0.05'
    )
    state = applied.json()
    assert (state["setting"], state["value"]) == (0.05, "0.05")
    last = state["last"]
    assert last["at"] == pytest.approx(time.time(), abs=60)
    assert (last["by"], last["old"], last["new"], last["can_undo"]) == ("boss", "0.5", "0.05", True)
    undone = await proxy.client.post(
        "/api/threshold/undo", json={"sha256": state["sha256"]}, headers=ADMIN
    )
    assert undone.status_code == 200, undone.text
    assert proxy.config_file.read_bytes() == original
    assert (await proxy.chat(text=HARD, headers=TEAM)).headers["x-router-target"] == "cloud"
    assert [
        (row["action"], row["subject"], row["details"]["old"], row["details"]["new"])
        for row in changes_of(proxy)
    ] == [
        ("threshold.apply", "routing.threshold", "0.5", "0.05"),
        ("threshold.undo", "routing.threshold", "0.05", "0.5"),
    ]
    assert undone.json()["last"]["old"] == "0.05"  # an undone change can be made again


async def test_change_names_the_key_that_an_admin_created(start: StartProxy) -> None:
    proxy = await start(KEYS)
    created = await proxy.client.post(
        "/api/keys", json={"name": "on call", "is_admin": True}, headers=ADMIN
    )
    headers = {"authorization": f"Bearer {created.json()['secret']}"}
    sha256 = (await plan(proxy, 0.05, **headers))["sha256"]
    applied = await proxy.client.post(
        "/api/threshold/apply", json={"threshold": 0.05, "sha256": sha256}, headers=headers
    )
    assert applied.json()["last"]["by"] == "on call"


async def test_changed_file_needs_a_new_preview(proxy: LiveProxy) -> None:
    planned = await plan(proxy, 0.7)
    proxy.configure({"routing": {"sticky": "off"}})
    edited = proxy.config_file.read_bytes()
    answer = await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=planned["sha256"])
    assert answer.status_code == 409
    assert envelope_of(answer)["code"] == "configuration_changed"
    undo = await post(proxy, "/api/threshold/undo", sha256=planned["sha256"])
    assert envelope_of(undo)["code"] == "nothing_to_undo"
    assert proxy.config_file.read_bytes() == edited
    assert changes_of(proxy) == []
    planned = await plan(proxy, 0.7)
    answer = await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=planned["sha256"])
    assert answer.status_code == 200
    assert proxy.proxy.config.routing.threshold == 0.7
    assert proxy.proxy.config.routing.sticky == "off"


async def test_undo_does_not_replace_a_value_that_was_edited_since(proxy: LiveProxy) -> None:
    sha256 = (await plan(proxy, 0.7))["sha256"]
    applied = await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=sha256)
    assert applied.json()["last"]["can_undo"] is True
    proxy.configure({"routing": {"threshold": 0.3}})
    edited = proxy.config_file.read_bytes()
    state = await get(proxy, "/api/threshold")
    assert (state["value"], state["last"]["can_undo"]) == ("0.3", False)
    undo = await post(proxy, "/api/threshold/undo", sha256=state["sha256"])
    assert (undo.status_code, envelope_of(undo)["code"]) == (409, "nothing_to_undo")
    assert proxy.config_file.read_bytes() == edited


async def test_one_of_two_concurrent_changes_is_refused(proxy: LiveProxy) -> None:
    planned = [await plan(proxy, threshold) for threshold in (0.6, 0.7)]
    answers = await asyncio.gather(
        *(
            post(proxy, "/api/threshold/apply", threshold=threshold, sha256=item["sha256"])
            for threshold, item in zip((0.6, 0.7), planned, strict=True)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(changes_of(proxy)) == 1


async def test_refused_reload_restores_the_file(
    start: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start()
    original = proxy.config_file.read_bytes()
    planned = await plan(proxy, 0.7)
    # Keys that vanish are refused by the reload, not by the loader.
    monkeypatch.setattr("proxy.server.reload._check_keys", _refuse)
    answer = await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=planned["sha256"])
    assert answer.status_code == 409
    error = envelope_of(answer)
    assert error["code"] == "reload_refused"
    assert "the keys are gone" in error["message"]
    assert proxy.config_file.read_bytes() == original
    assert proxy.proxy.config.routing.threshold == 0.5
    assert changes_of(proxy) == []


def _refuse(config: Any, running: Any, path: Path) -> Any:
    from proxy.config import ConfigError

    if config.routing.threshold == 0.7:
        raise ConfigError(f"{path}: the keys are gone")
    return config


async def test_change_that_cannot_be_recorded_is_not_made(proxy: LiveProxy) -> None:
    original = proxy.config_file.read_bytes()
    planned = await plan(proxy, 0.7)
    execute(proxy.proxy.config.storage.url.reveal(), "ALTER TABLE audit_log RENAME TO gone")
    answer = await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=planned["sha256"])
    assert answer.status_code == 503
    assert proxy.config_file.read_bytes() == original
    assert proxy.proxy.config.routing.threshold == 0.5


async def test_file_that_cannot_be_changed_says_why(start: StartProxy) -> None:
    proxy = await start()
    state = await get(proxy, "/api/threshold")
    assert (state["problem"], state["file"], state["last"]) == (None, "config.yaml", None)
    proxy.config_file.chmod(0o444)
    state = await get(proxy, "/api/threshold")
    assert state["problem"].endswith("config.yaml is read-only.")
    for fields in ({"dry_run": True}, {"sha256": state["sha256"]}):
        answer = await post(proxy, "/api/threshold/apply", threshold=0.7, **fields)
        assert answer.status_code == 409
        assert envelope_of(answer)["code"] == "configuration_not_editable"


async def test_variable_is_named(proxy: LiveProxy) -> None:
    fields = json.loads(proxy.config_file.read_text())
    fields["routing"]["threshold"] = "LIMIT"
    text = yaml.safe_dump(fields).replace("LIMIT", "${NO_SUCH_LIMIT:-0.6}")
    proxy.config_file.write_text(text)
    await proxy.reloaded(lambda: proxy.proxy.config.routing.threshold == 0.6)
    state = await get(proxy, "/api/threshold")
    assert "${NO_SUCH_LIMIT}" in state["problem"]
    answer = await post(proxy, "/api/threshold/apply", threshold=0.7, dry_run=True)
    assert "${NO_SUCH_LIMIT}" in envelope_of(answer)["message"]
    assert proxy.config_file.read_text() == text


async def test_value_in_the_file_is_no_change(proxy: LiveProxy) -> None:
    answer = await post(proxy, "/api/threshold/apply", threshold=0.5, dry_run=True)
    assert answer.status_code == 409
    assert envelope_of(answer)["code"] == "no_change"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "threshold"),
        ({"threshold": 1.5, "dry_run": True}, "threshold"),
        ({"threshold": "high", "dry_run": True}, "threshold"),
        ({"threshold": 0.7}, "sha256"),
        ({"threshold": 0.7, "sha256": "x"}, "sha256"),
        ({"threshold": 0.7, "dryrun": True}, "dryrun"),
    ],
)
async def test_invalid_change_names_the_field(
    proxy: LiveProxy, fields: dict[str, Any], param: str
) -> None:
    answer = await post(proxy, "/api/threshold/apply", **fields)
    assert answer.status_code == 400, answer.text
    assert envelope_of(answer)["param"] == param


async def test_a_change_needs_json_of_an_admin_and_of_the_same_origin(start: StartProxy) -> None:
    proxy = await start(KEYS)
    original = proxy.config_file.read_bytes()
    body = {"threshold": 0.7, "sha256": (await plan(proxy, 0.7, **ADMIN))["sha256"]}
    login = await proxy.client.post("/login", data={"key": "sk-boss"})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    for path in ("/api/threshold/apply", "/api/threshold/undo"):
        for headers, status in (
            ({}, 401),
            (TEAM, 403),
            ({**cookie, "origin": "https://evil.example"}, 403),
            ({**cookie, "sec-fetch-site": "cross-site"}, 403),
            ({**ADMIN, "content-type": "text/plain"}, 415),
        ):
            proxy.client.cookies.clear()
            headers = {"content-type": "application/json"} | headers
            answer = await proxy.client.post(path, content=json.dumps(body), headers=headers)
            assert answer.status_code == status, (path, headers)
    assert proxy.config_file.read_bytes() == original


async def test_auto_can_be_restored(start: StartProxy) -> None:
    proxy = await start(
        {"routing": {"threshold": "auto", "model_path": str(SHIPPED)}}, model="configured"
    )
    recommended = Manifest.load(SHIPPED).threshold
    planned = await plan(proxy, 0.7)
    state = (
        await post(proxy, "/api/threshold/apply", threshold=0.7, sha256=planned["sha256"])
    ).json()
    assert state["threshold"] == 0.7
    state = (await post(proxy, "/api/threshold/undo", sha256=state["sha256"])).json()
    assert (state["setting"], state["configured"]) == ("auto", recommended)
    assert load_config(proxy.config_file, environ={}).routing.threshold == "auto"
