"""Compare page: the answers of both tiers, the router's choice and the judge's verdict."""

import json

import pytest
from playwright.async_api import Locator, Page, Route, expect

from browser import check_accessible, fits_its_width
from fakes import EASY, HARD, Call, FakeUpstream, Gate, answer_json, error_json, whole
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pages.hostile import ALL, check_quiet
from pages.test_chat import PHONE, streamed


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
    await expect(page.locator("#decision")).to_contain_text("costs $0.000009 less (100%")


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
    await expect(decision).to_contain_text("score 0.90 ≥ threshold 0.50decided in")
    hint = decision.get_by_text("a second look at the local answer would decide")
    await expect(hint).to_be_visible(visible=has_second_look)


async def test_failure_of_one_tier_leaves_the_other_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("An answer.")
    cloud.answer = whole(error_json("No such thing.", code="nothing"), status=404)
    page = await show(proxy.origin, "/compare", expected=("404",))
    await compare(page)
    await both(page)
    await expect(side(page, "cloud").get_by_role("alert")).to_have_text("No such thing.")
    await expect(side(page, "local")).to_contain_text("An answer.")
    await expect(page.locator("#verdict")).to_be_hidden()


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
