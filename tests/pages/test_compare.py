"""Compare page: the answers of both tiers, the router's choice and the judge's verdict."""

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from browser import check_accessible, fits_its_width
from fakes import EASY, HARD, Call, FakeUpstream, Gate, answer_json, error_json, whole
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pages.hostile import ALL, check_quiet
from pages.test_chat import PHONE, streamed
from stored import read


async def compare(page: Page, text: str = EASY) -> None:
    await page.get_by_label("Prompt").fill(text)
    await page.get_by_role("button", name="Compare").click()


def side(page: Page, tier: str) -> Locator:
    return page.get_by_role("article", name=f"The {tier} answer")


async def both(page: Page) -> None:
    await expect(page.locator("#announce")).to_have_text("Both answers are complete.")


def verdicts(call: Call) -> list[bytes]:
    """A judge that always prefers the cloud answer and grades it higher."""
    prompt = json.dumps(call.json["messages"])
    if "ANSWER-A" in prompt:
        verdict = "A" if prompt.index("CLOUDY") < prompt.index("LOCALISH") else "B"
        grade = {"reasoning": "The cloudy one <b>is</b> deeper.", "verdict": verdict}
    else:
        grade = {"reasoning": "Fair enough.", "score": 9 if "CLOUDY" in prompt else 4}
    return whole(answer_json(json.dumps(grade)))


async def test_both_tiers_answer_concurrently(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    slow, fast = Gate(), Gate()
    local.answer = streamed("Local ", slow, "words.")
    cloud.answer = streamed("Cloud ", fast, "words.")
    page = await show(proxy.origin, "/compare")
    await compare(page)
    for tier, name in (("local", "Local"), ("cloud", "Cloud")):
        await side(page, tier).get_by_text(name, exact=True).wait_for()
        await expect(side(page, tier)).to_have_attribute("aria-busy", "true")
    fast.open()
    await side(page, "cloud").get_by_text("Cloud words.").wait_for()
    await expect(side(page, "local")).to_have_attribute("aria-busy", "true")
    slow.open()
    await both(page)
    await expect(side(page, "local")).to_contain_text("Local words.")
    for tier, cost in (("local", "$0.00"), ("cloud", "$0.000009")):
        await expect(side(page, tier)).to_contain_text("Tokens19 in, 10 out")
        await expect(side(page, tier)).to_contain_text(f"Cost{cost}")
    rows = await proxy.rows_of(2)  # the decision itself is not stored
    assert {(row["target"], row["reason"]) for row in rows} == {
        ("local", "forced"), ("cloud", "forced"),
    }  # fmt: skip
    await expect(page.locator("#decision")).to_contain_text("The cloud answer costs $0.000009 more")


@pytest.mark.parametrize(("text", "chosen", "score"), [(EASY, "local", 0.9), (HARD, "cloud", 0.1)])
async def test_routers_choice_is_marked(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream,
    text: str, chosen: str, score: float,
) -> None:  # fmt: skip
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    await compare(page, text)
    await both(page)
    decision = page.locator("#decision")
    await expect(decision.locator(".badge")).to_contain_text(chosen)
    await expect(decision.get_by_role("img")).to_have_attribute(
        "aria-label", f"Score {score:.2f}, threshold 0.50"
    )
    for tier in ("local", "cloud"):
        mark = side(page, tier).get_by_text("the router’s choice")
        await expect(mark).to_be_visible(visible=tier == chosen)


@pytest.mark.parametrize("has_second_look", [False, True])
async def test_preview_says_whether_a_second_look_would_decide(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, has_second_look: bool
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")

    async def answer(route: Route) -> None:
        decision = await (await route.fetch()).json()
        await route.fulfill(json=decision | {"second_look": has_second_look})

    await page.route("**/api/decisions", answer)
    await compare(page, EASY)
    await both(page)
    decision = page.locator("#decision")
    await expect(decision).to_contain_text(
        "score 0.90 ≥ threshold 0.500.40 above the thresholddecided in"
    )
    hint = decision.get_by_text("a second look at the local answer would decide")
    await expect(hint).to_be_visible(visible=has_second_look)


async def test_failure_of_one_tier_leaves_the_other_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    cloud.answer = whole(error_json("No such thing.", code="nothing"), status=404)
    page = await show(proxy.origin, "/compare", expected=("404",))
    await compare(page)
    await expect(page.locator("#announce")).to_have_text(
        "The cloud model failed. The local answer is complete."
    )
    await expect(side(page, "cloud").get_by_role("alert")).to_have_text("No such thing.")
    await expect(page.locator("#choice")).to_be_hidden()
    await expect(side(page, "local")).to_contain_text("An answer.")
    await expect(page.locator("#verdict")).to_be_hidden()


async def test_failure_of_both_tiers_is_announced(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = whole(error_json("No such thing."), status=404)
    page = await show(proxy.origin, "/compare", expected=("404",))
    await compare(page)
    await expect(page.locator("#announce")).to_have_text("Both models failed.")
    await expect(page.get_by_role("alert").filter(has_text="No such thing.")).to_have_count(2)


async def test_stopping_closes_both_upstream_requests(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("Half", Gate())
    page = await show(proxy.origin, "/compare")
    await compare(page)
    for tier in ("local", "cloud"):
        await side(page, tier).get_by_text("Half").wait_for()
    await page.get_by_role("button", name="Stop").click()
    for tier, upstream in (("local", local), ("cloud", cloud)):
        await side(page, tier).get_by_text("Stopped.").wait_for()
        await (await upstream.called()).closed()
    rows = await proxy.rows_of(2)
    assert {row["ending"] for row in rows} == {"client_gone"}


async def test_judge_compares_the_answers(
    start: StartProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("LOCALISH words.")

    def answer(call: Call) -> list[bytes]:
        return streamed("CLOUDY words.") if call.json.get("stream") else verdicts(call)

    cloud.answer = answer
    proxy = await start({"judge": {"enabled": True, "sample_rate": 0, "model": "gpt-4o-mini"}})
    page = await show(proxy.origin, "/compare")
    await compare(page)
    await page.get_by_role("button", name="Ask gpt-4o-mini which answer is better").click()
    verdict = page.locator("#verdict")
    await verdict.get_by_role("heading", name="gpt-4o-mini prefers the cloud answer").wait_for()
    await expect(verdict).to_contain_text("4 of 10")
    await expect(verdict).to_contain_text("9 of 10")
    await expect(verdict).to_contain_text("Fair enough.")
    await verdict.get_by_text("Pairwise comparison in both orders").click()
    await expect(verdict).to_contain_text("Local first: cloud. The cloudy one <b>is</b> deeper.")
    assert len(await proxy.rows_of(2)) == 2
    await check_accessible(page)


async def test_invalid_judge_output_is_reported(
    start: StartProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("LOCALISH words.")
    cloud.answer = lambda call: (
        streamed("CLOUDY words.") if call.json.get("stream") else whole(answer_json("10/10 !!!"))
    )
    proxy = await start({"judge": {"enabled": True, "sample_rate": 0, "model": "gpt-4o-mini"}})
    page = await show(proxy.origin, "/compare", expected=("503",))
    await compare(page)
    ask = page.get_by_role("button", name="which answer is better")
    await ask.click()
    alert = page.locator("#verdict").get_by_role("alert")
    await expect(alert).to_contain_text("The judge gave no verdict")
    await expect(ask).to_be_enabled()


async def test_disabled_judge_names_the_setting(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    await compare(page)
    await both(page)
    await expect(page.locator("#verdict")).to_contain_text("judge.enabled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_hostile_answers_are_inert_and_accessible(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, scheme: str
) -> None:
    local.answer = cloud.answer = streamed(*ALL)
    page = await show(proxy.origin, "/compare", color_scheme=scheme, viewport=PHONE)
    await compare(page, ALL)
    await both(page)
    await check_quiet(page)
    await check_accessible(page)
    assert await fits_its_width(page)


async def test_comparison_works_with_the_keyboard_only(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = cloud.answer = streamed("Half", gate)
    page = await show(proxy.origin, "/compare")
    await expect(page.get_by_label("Prompt")).to_be_focused()
    await page.keyboard.type(EASY)
    await page.keyboard.press("Control+Enter")
    await side(page, "local").get_by_text("Half").wait_for()
    await page.keyboard.press("Escape")
    await side(page, "local").get_by_text("Stopped.").wait_for()


# ── The decision ──────────────────────────────────────────────────────────────────────────────


async def test_decision_is_made_before_anything_is_sent(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The page's own request must not make the local tier look busy."""
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    asked = []

    async def answer(route: Route) -> None:
        await page.evaluate("fetch('/api/status')")  # whatever was sent before arrives before
        asked.extend([*local.calls, *cloud.calls])
        await route.continue_()

    await page.route("**/api/decisions", answer)
    await compare(page)
    await both(page)
    assert asked == []
    assert len(local.calls) == len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("reason", "merit", "passing"),
    [("overload", 0.85, True), ("loading", 0.85, True), ("score", 0.31, False)],
)
async def test_what_is_the_case_only_now_is_not_the_routers_choice(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream,
    reason: str, merit: float, passing: bool,
) -> None:  # fmt: skip
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")

    async def answer(route: Route) -> None:
        decision = await (await route.fetch()).json()
        changed = {"target": "cloud", "model": "gpt-4o-mini", "reason": reason}
        await route.fulfill(json=decision | changed | {"merit": merit, "score": merit})

    await page.route("**/api/decisions", answer)
    await compare(page)
    await both(page)
    decision = page.locator("#decision")
    chosen = "localphi3:latest" if passing else "cloudgpt-4o-mini"
    await expect(decision.locator(".badge")).to_have_text(chosen)
    distance = "0.35 above the threshold" if passing else "0.19 below the threshold"
    await expect(decision).to_contain_text(distance)
    now = decision.get_by_text("Right now it would go to the cloud tier")
    await expect(now).to_be_visible(visible=passing)
    mark = side(page, "local").get_by_text("the router’s choice")
    await expect(mark).to_be_visible(visible=passing)


# ── Prompts from the address, and reloads ─────────────────────────────────────────────────────


async def test_comparison_survives_a_reload(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin, "/compare")
    await compare(page)
    await both(page)
    await page.get_by_role("button", name="Cloud is better").click()
    await page.get_by_text("Saved.").wait_for()
    await page.reload()
    await expect(page.get_by_label("Prompt")).to_have_value(EASY)
    await expect(side(page, "local")).to_contain_text("Local words.")
    await expect(side(page, "cloud")).to_contain_text("Cost$0.000009")
    await expect(page.locator("#decision")).to_contain_text("0.40 above the threshold")
    chosen = page.get_by_role("button", name="Cloud is better")
    await expect(chosen).to_have_attribute("aria-pressed", "true")
    assert len(local.calls) == 1


async def test_interrupted_comparison_keeps_what_had_arrived(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Half", Gate()), streamed("Whole.")
    page = await show(proxy.origin, "/compare")
    await compare(page)
    await side(page, "local").get_by_text("Half").wait_for()
    await side(page, "cloud").get_by_text("Whole.").wait_for()
    await page.reload()
    await expect(side(page, "local")).to_contain_text("Half")
    await expect(side(page, "local")).to_contain_text("Stopped.")
    await expect(side(page, "cloud")).to_contain_text("Whole.")
    await expect(page.get_by_label("Prompt")).to_have_value(EASY)
    await expect(page.get_by_role("button", name="Compare")).to_be_enabled()


async def test_prompt_in_the_address_is_filled_in_and_not_sent(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    page = await show(proxy.origin, "/compare?prompt=Why%20%3Cb%3E%20%26%20why%3F")
    await expect(page.get_by_label("Prompt")).to_have_value("Why <b> & why?")
    assert [*local.calls, *cloud.calls] == []
    await page.get_by_label("Prompt").fill("Something else")
    await page.reload()
    await expect(page.get_by_label("Prompt")).to_have_value("Something else")


@pytest.mark.parametrize("form", ["?request={}", "#request={}"])
async def test_stored_prompt_is_compared_with_its_conversation(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, form: str
) -> None:
    local.answer = whole(answer_json("An answer."))
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": EASY},
    ]
    row = await proxy.row_of(await proxy.chat(model="local", messages=turns))
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, f"/compare{form.format(row['id'])}")
    await expect(page.get_by_label("Prompt")).to_have_value(EASY)
    await page.get_by_text("With 3 earlier messages").wait_for()
    await page.get_by_role("button", name="Compare").click()
    await both(page)
    assert cloud.calls[-1].json["messages"] == turns
    await page.get_by_role("button", name="Leave out").click()
    await page.get_by_role("button", name="Compare").click()
    await cloud.called(2)
    assert cloud.calls[-1].json["messages"] == turns[-1:]
    await both(page)


async def test_missing_stored_prompt_is_reported(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/compare?request=req_none", expected=("404",))
    await expect(page.get_by_role("alert")).to_contain_text("req_none' does not exist")
    await expect(page.get_by_role("button", name="Compare")).to_be_enabled()


# ── Choices ───────────────────────────────────────────────────────────────────────────────────


async def stored_choices(proxy: LiveProxy) -> list[dict[str, Any]]:
    url = f"sqlite:///{proxy.config_file.parent}/router.db"
    return read(url, "SELECT * FROM choices ORDER BY id")


async def test_blind_comparison_tells_nothing_before_the_choice(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    slow = Gate()
    local.answer, cloud.answer = streamed("First words."), streamed(slow, "Second words.")
    page = await show(proxy.origin, "/compare")
    await page.get_by_role("switch", name="Hide which is which").check()
    await compare(page)
    await local.called()
    await cloud.called()
    sides = page.locator("#sides")
    # The faster answer waits for the other one.
    await expect(sides.get_by_text("Shown when both answers are complete.")).to_have_count(2)
    assert "First words." not in await sides.inner_text()
    slow.open()
    await both(page)
    shown = await page.locator("#sides, #decision, #choice").all_inner_texts()
    for told in ("phi3", "gpt-4o-mini", "$0.0000", "decided in", "threshold", "19 in"):
        assert told not in " ".join(shown), told
    assert await page.locator("#sides .badge.local, #sides .badge.cloud").count() == 0
    await expect(page.locator("#verdict")).to_be_hidden()
    await check_accessible(page)
    first = page.get_by_role("article", name="Answer A")
    is_local = "First words." in await first.inner_text()
    await page.get_by_role("button", name="A is better").click()
    tier = "local" if is_local else "cloud"
    await expect(page.locator("#which")).to_contain_text(
        f"A was the {tier} answer, B the {'cloud' if is_local else 'local'} one. "
        f"You chose the {tier} answer. The router would choose local."
    )
    await expect(side(page, "cloud")).to_contain_text("Cost$0.000009")
    await expect(page.locator("#decision")).to_contain_text("score 0.90 ≥ threshold 0.50")
    [row] = await stored_choices(proxy)
    assert (row["choice"], row["is_blind"], row["source"]) == (tier, 1, "compare")
    # With the names seen, another choice is not blind any more.
    await page.get_by_role("button", name="Equally good").click()
    await expect(page.locator("#which")).to_contain_text("You found them equally good.")
    [row] = await stored_choices(proxy)
    assert (row["choice"], row["is_blind"]) == ("tie", 0)


async def test_blind_order_is_random(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin, "/compare")
    await page.get_by_role("switch").check()
    for drawn, expected in ((0.2, "Cloud words."), (0.8, "Local words.")):
        await page.evaluate(f"Math.random = () => {drawn}")
        await compare(page)
        await page.get_by_role("article", name="Answer A").get_by_text(expected).wait_for()
        await both(page)


async def test_names_can_be_shown_without_a_choice(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    await page.get_by_role("switch").check()
    await compare(page)
    await page.get_by_role("button", name="Show which is which").click()
    await page.get_by_role("button", name="Local is better").click()
    await page.get_by_text("Saved.").wait_for()
    [row] = await stored_choices(proxy)
    assert (row["choice"], row["is_blind"]) == ("local", 0)


async def test_hidden_tiers_stay_hidden_over_a_reload(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    await page.get_by_role("switch").check()
    await compare(page)
    await both(page)
    await page.reload()
    await expect(page.get_by_role("button", name="B is better")).to_be_visible()
    await expect(page.locator("#decision")).to_be_hidden()
    await expect(page.get_by_role("article", name="Answer B")).to_contain_text("An answer.")
    assert "$0.0000" not in await page.locator("#sides").inner_text()


async def test_failure_of_a_hidden_tier_is_named(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(error_json("No such thing."), status=404)
    cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare", expected=("404",))
    await page.get_by_role("switch").check()
    await compare(page)
    await expect(page.locator("#announce")).to_have_text(
        "The local model failed. The cloud answer is complete."
    )
    await expect(side(page, "cloud")).to_contain_text("An answer.")


async def test_score_counts_the_choices(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    score = page.get_by_role("region", name="Score of all users")
    await expect(score).to_contain_text("No comparisons yet.")
    for name, line in (
        ("Local is better", "Local was good enough in 1 of 1 comparison (100%, 21–100%)"),
        ("Cloud is better", "Local was good enough in 1 of 2 comparisons (50%, 9–91%)"),
    ):
        await compare(page)
        await both(page)
        await page.get_by_role("button", name=name).click()
        await expect(score).to_contain_text(line)
    await score.get_by_text("By kind and category").click()
    await expect(score.get_by_role("row", name="Tiers shown")).to_contain_text("1 of 2")
    await check_accessible(page)


async def test_choice_that_is_not_stored_is_reported(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare", expected=("503",))
    await compare(page)
    await both(page)
    await page.route("**/api/choices", lambda route: route.fulfill(
        status=503, json={"error": {"message": "The database is busy."}}
    ))  # fmt: skip
    button = page.get_by_role("button", name="Equally good")
    await button.click()
    await expect(page.locator("#choice")).to_contain_text("not stored. The database is busy.")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await page.unroute("**/api/choices")
    await button.click()
    await page.get_by_text("Saved.").wait_for()
    assert len(await stored_choices(proxy)) == 1


@pytest.mark.parametrize(("key", "is_on"), [("sk-team", False), ("sk-boss", True)])
async def test_consent_is_asked_of_keys_and_remembered(
    start: StartProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, key: str, is_on: bool
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    keys = [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]
    proxy = await start({"server": {"api_keys": keys}})
    page = await show(proxy.origin, "/login?next=/compare")
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await compare(page)
    await both(page)
    consent = page.get_by_role("checkbox", name="Use my choice to improve routing")
    await expect(consent).to_be_checked(checked=is_on)
    await page.get_by_role("button", name="Local is better").click()
    await page.get_by_text("Saved.").wait_for()
    [row] = await stored_choices(proxy)
    assert (row["may_learn"], row["client_key_hash"] is None) == (int(is_on), False)
    async with page.expect_response(lambda response: response.request.method == "POST"):
        await consent.set_checked(not is_on)
    [row] = await stored_choices(proxy)
    assert row["may_learn"] == int(not is_on)
    await page.reload()
    await expect(consent).to_be_checked(checked=not is_on)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_choice_and_score_fit_a_phone(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, scheme: str
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare", color_scheme=scheme, viewport=PHONE)
    await compare(page)
    await both(page)
    await page.get_by_role("button", name="Equally good").click()
    await page.locator("#score").get_by_text("in 1 of 1 comparison").wait_for()
    await page.locator("#score summary").click()
    assert await fits_its_width(page)
    await check_accessible(page)
    for button in await page.locator("#choice button, #ask button:visible").all():
        box = await button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


async def test_late_choice_does_not_reveal_the_next_comparison(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = streamed("An answer.")
    page = await show(proxy.origin, "/compare")
    await page.get_by_role("switch").check()
    await compare(page)
    await both(page)
    stored, next_one = asyncio.Event(), asyncio.Event()

    async def store_late(route: Route) -> None:
        answer = await route.fetch()
        if route.request.method == "POST":
            stored.set()
            await next_one.wait()
        await route.fulfill(response=answer)

    await page.route("**/api/choices", store_late)
    await page.get_by_role("button", name="A is better").click()
    await stored.wait()
    await compare(page, HARD)
    await local.called(2)
    await both(page)
    next_one.set()
    await expect(page.locator("#score")).to_contain_text("1 comparison")
    await expect(page.get_by_role("article", name="Answer A")).to_be_visible()
    await expect(page.get_by_role("button", name="A is better")).to_have_attribute(
        "aria-pressed", "false"
    )
