"""Chat page: the other tier's answer beside the first one, and the choice between both."""

import json
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from browser import check_accessible, fits_its_width
from fakes import EASY, HARD, FakeUpstream, Gate, error_json, whole
from live import LiveProxy, StartProxy
from pages.chatting import answers, ask, complete, conversations, streamed
from pages.conftest import Show
from pages.hostile import ALL, check_quiet
from pages.test_chat import PHONE
from stored import read


def other(page: Page) -> Locator:
    return page.locator(".other-answer").last


async def ask_other(page: Page) -> None:
    await page.get_by_role("button", name="Ask the other tier").last.click()


async def stored_choices(proxy: LiveProxy) -> list[dict[str, Any]]:
    url = f"sqlite:///{proxy.config_file.parent}/router.db"
    return read(url, "SELECT * FROM choices ORDER BY id")


@pytest.mark.parametrize(
    ("text", "first", "second"), [(EASY, "local", "cloud"), (HARD, "cloud", "local")]
)
async def test_one_click_asks_the_other_tier(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream,
    text: str, first: str, second: str,
) -> None:  # fmt: skip
    gate = Gate()
    tiers = {"local": local, "cloud": cloud}
    tiers[first].answer = streamed("The first.")
    tiers[second].answer = streamed("The ", gate, "second.")
    page = await show(proxy.origin)
    await ask(page, text)
    await complete(page)
    button = page.get_by_role("button", name=f"Ask the {second} model (Ask the other tier)")
    await button.click()
    shown = other(page)
    await expect(shown).to_have_attribute("aria-busy", "true")
    await shown.get_by_text("The", exact=True).wait_for()
    gate.open()
    await expect(shown).to_contain_text("The second.")
    await expect(shown).to_contain_text(second)
    sentence = shown.locator(".figures p")
    await expect(sentence).to_contain_text("The cloud answer costs $0.000009 more and took")
    cost = shown.get_by_role("row", name="Cost")
    costs = {"local": "$0.00", "cloud": "$0.000009"}
    await expect(cost.get_by_role("cell")).to_have_text([costs[first], costs[second]])
    await expect(shown.locator("> [role=status]")).to_contain_text(
        f"The {second} answer is complete. The cloud answer costs"
    )
    sent = [tiers[name].calls[-1].json["messages"] for name in (first, second)]
    assert sent[0] == sent[1]
    rows = await proxy.rows_of(2)
    assert {row["target"]: row["reason"] for row in rows} == {first: "score", second: "forced"}
    await expect(page.locator("#tally")).to_have_text(
        "answers 2cost $0.000009saved $0.000009 (50%)"
    )
    await check_accessible(page)


async def test_thread_follows_the_other_answer_to_the_choice(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("Local.")
    cloud.answer = streamed(*("A long paragraph. " * 20 + "\n\n" for _ in range(10)))
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await expect(page.get_by_role("button", name="Local is better")).to_be_in_viewport()


async def test_choice_is_stored_and_can_be_changed(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    group = page.get_by_role("group", name="Which is better?")
    await group.get_by_role("button", name="Cloud is better").click()
    await group.get_by_text("Saved.").wait_for()
    rows = {row["target"]: row["id"] for row in await proxy.rows_of(2)}
    [row] = await stored_choices(proxy)
    assert (row["request_id"], row["other_id"]) == (rows["local"], rows["cloud"])
    assert (row["choice"], row["source"], row["is_blind"]) == ("cloud", "chat", 0)
    assert row["may_learn"] == 1  # without keys
    # By the keyboard, which stays where it is.
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    equal = group.get_by_role("button", name="Equally good")
    await expect(equal).to_have_attribute("aria-pressed", "true")
    await expect(equal).to_be_focused()
    [row] = await stored_choices(proxy)
    assert row["choice"] == "tie"


async def test_other_answer_and_choice_survive_a_reload(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await page.get_by_role("button", name="Local is better").click()
    await page.get_by_text("Saved.").wait_for()
    await page.reload()
    shown = other(page)
    await expect(shown).to_contain_text("Cloud words.")
    await expect(shown.locator(".figures")).to_contain_text("$0.000009")
    await expect(page.get_by_role("button", name="Local is better")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert len(cloud.calls) == 1


async def test_other_answer_does_not_move_the_conversation(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Neither its text nor its tier: the next question is routed as if nobody had asked."""
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await page.get_by_role("group", name="Which is better?").wait_for()
    await ask(page, "And in short?")
    await complete(page, 2)
    rows = await proxy.rows_of(3)
    assert [(row["target"], row["reason"]) for row in rows] == [
        ("local", "score"), ("cloud", "forced"), ("local", "score"),
    ]  # fmt: skip
    assert "Cloud words." not in json.dumps(local.calls[-1].json)
    # Of an earlier answer, the other tier gets what was sent for that answer.
    await page.get_by_role("button", name="Ask the other tier").click()
    await cloud.called(2)
    assert cloud.calls[-1].json["messages"] == local.calls[-1].json["messages"]


async def test_other_tier_gets_the_settings_of_the_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    page = await show(proxy.origin)
    for prompt, temperature in (("Be brief.", "0.3"), ("Rhyme.", "0.9")):
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("System prompt").fill(prompt)
        await page.get_by_label("Temperature").fill(temperature)
        await page.get_by_role("button", name="Done").click()
        if not local.calls:
            await ask(page)
            await complete(page)
            await expect(answers(page)).to_contain_text("saved")
    await page.reload()
    await ask_other(page)
    await page.get_by_role("button", name="Local is better").click()
    await page.get_by_text("Saved.").wait_for()  # of different prompts it would be refused
    first, second = local.calls[-1].json, cloud.calls[-1].json
    assert second["messages"] == first["messages"]
    assert second["messages"][0] == {"role": "system", "content": "Be brief."}
    assert second["temperature"] == 0.3


async def test_change_in_another_tab_keeps_the_other_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    gate = Gate()
    local.answer, cloud.answer = streamed("Local words."), streamed("Half ", gate, "and half.")
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await other(page).get_by_text("Half").wait_for()
    tab = await page.context.new_page()
    await tab.goto(proxy.origin)
    await conversations(tab).click()
    await ask(tab, "More?")
    await complete(tab, 2)
    await complete(page, 2)
    gate.open()
    await page.get_by_role("group", name="Which is better?").wait_for()
    await page.get_by_role("button", name="Cloud is better").click()
    await page.get_by_text("Saved.").wait_for()
    await page.reload()
    await expect(page.locator(".other-answer").first).to_contain_text("Half and half.")
    await expect(page.get_by_role("button", name="Cloud is better")).to_have_attribute(
        "aria-pressed", "true"
    )


async def test_failure_is_shown_and_can_be_retried(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = streamed("Local words.")
    cloud.answer = whole(error_json("No such thing.", code="nothing"), status=404)
    page = await show(proxy.origin, expected=("404",))
    await ask(page)
    await complete(page)
    await ask_other(page)
    await expect(other(page).get_by_role("alert")).to_have_text("No such thing.")
    await expect(page.get_by_role("group", name="Which is better?")).to_have_count(0)
    await expect(answers(page)).to_contain_text("Local words.")
    cloud.answer = streamed("Cloud words.")
    await page.get_by_role("button", name="Ask the cloud model again").click()
    await page.get_by_role("group", name="Which is better?").wait_for()
    await expect(other(page)).to_contain_text("Cloud words.")


@pytest.mark.parametrize("how", ["button", "Escape"])
async def test_other_answer_can_be_stopped(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, how: str
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Half", Gate())
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await other(page).get_by_text("Half").wait_for()
    if how == "Escape":
        await page.keyboard.press("Escape")
    else:
        await other(page).get_by_role("button", name="Stop").click()
    await other(page).get_by_text("Stopped.", exact=True).first.wait_for()
    await (await cloud.called()).closed()
    await expect(page.get_by_role("group", name="Which is better?")).to_have_count(0)
    await expect(page.get_by_role("button", name="Ask the cloud model again")).to_be_visible()


async def test_reload_in_the_middle_keeps_the_first_answer(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Half", Gate())
    page = await show(proxy.origin)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await other(page).get_by_text("Half").wait_for()
    await page.reload()
    await expect(answers(page)).to_contain_text("Local words.")
    await expect(page.get_by_role("button", name="Ask the cloud model again")).to_be_visible()


async def test_failed_answer_offers_no_other_tier(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = whole(error_json("No."), status=404)
    page = await show(proxy.origin, expected=("404",))
    await ask(page)
    await complete(page)
    await expect(page.get_by_role("button", name="Ask the other tier")).to_have_count(0)


async def test_key_chooses_between_its_own_answers(
    start: StartProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.")
    keys = [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]
    proxy = await start({"server": {"api_keys": keys}})
    page = await show(proxy.origin, "/login")
    await page.get_by_label("API key").fill("sk-team")
    await page.keyboard.press("Enter")
    await ask(page)
    await complete(page)
    await ask_other(page)
    consent = page.get_by_role("checkbox", name="Use my choice to improve routing")
    await expect(consent).not_to_be_checked()
    await page.get_by_role("button", name="Local is better").click()
    await page.get_by_text("Saved.").wait_for()
    [row] = await stored_choices(proxy)
    assert (row["may_learn"], row["client_key_hash"] is None) == (0, False)


@pytest.mark.parametrize("width", [1440, 390])
async def test_answers_are_side_by_side_or_stacked(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, width: int
) -> None:
    local.answer, cloud.answer = streamed("Local words."), streamed("Cloud words.\n\n" * 20)
    page = await show(proxy.origin, viewport={"width": width, "height": 844})
    await ask(page)
    await complete(page)
    await ask_other(page)
    await page.get_by_role("group", name="Which is better?").wait_for()
    first = await answers(page).get_by_text("Local words.").bounding_box()
    second = await other(page).bounding_box()
    assert first is not None
    assert second is not None
    if width == 390:
        assert second["y"] > first["y"]
        assert second["width"] > 300
        for button in await page.locator(".choice button, .consent").all():
            box = await button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
    else:
        assert second["x"] > first["x"] + first["width"]
        assert second["y"] < first["y"]
    assert await fits_its_width(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_hostile_other_answer_is_inert_and_accessible(
    proxy: LiveProxy, show: Show, local: FakeUpstream, cloud: FakeUpstream, scheme: str
) -> None:
    local.answer = cloud.answer = streamed(*ALL)
    page = await show(proxy.origin, color_scheme=scheme, viewport=PHONE)
    await ask(page)
    await complete(page)
    await ask_other(page)
    await page.get_by_role("button", name="Equally good").click()
    await page.get_by_text("Saved.").wait_for()
    await check_quiet(page)
    await check_accessible(page)
    assert await fits_its_width(page)
