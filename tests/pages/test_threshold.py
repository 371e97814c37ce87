"""The dashboard's card of the threshold: curve, slider, preview, change and undo."""

import json
import re
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Route, expect

from browser import check_accessible, fits_its_width
from fakes import HARD
from judging import SHIPPED
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pages.hostile import PROBES, check_quiet
from pages.test_chat import PHONE
from proxy.record import CallRecord, Reason, Target
from stored import fill, finished


def record(number: int, **values: object) -> CallRecord:
    """A request by score: every hundredth of the merit from 0 to 0.99, at the threshold 0.5."""
    merit = number % 100 / 100
    target = Target.LOCAL if merit >= 0.5 else Target.CLOUD
    defaults = {
        "created_at": time.time() - number, "requested_model": "auto", "reason": Reason.SCORE,
        "target": target, "model": "m", "score": merit, "merit": merit, "threshold": 0.5,
        "input_tokens": 10, "output_tokens": 5, "cloud_cost_usd": 0.1, "upstream_ms": 300.0,
        "cost_usd": 0.0 if target is Target.LOCAL else 0.1,
        "turns": [("user", f"Question {number}?")],
    }  # fmt: skip
    return finished(**defaults | values)


async def open_card(
    start: StartProxy, show: Show, folder: Path, *, path: str = "/dashboard", **settings: Any
) -> tuple[LiveProxy, Page]:
    fill(f"sqlite:///{folder}/router.db", [record(number) for number in range(100)])
    proxy = await start()
    page = await show(proxy.origin, path, **settings)
    await expect(page.locator("#whatif-at")).to_have_text("0.50")
    await expect(page.locator("#whatif-result")).to_contain_text("100 scored requests")
    return proxy, page


async def test_slider_previews_the_requests_that_move(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    _, page = await open_card(
        start, show, tmp_path, permissions=["clipboard-read", "clipboard-write"]
    )
    slider = page.get_by_label("What if the threshold were")
    result, moving = page.locator("#whatif-result"), page.locator("#moving")
    await expect(slider).to_have_value("50")
    await expect(moving).to_contain_text("Move the slider")
    await expect(page.get_by_role("button", name="Apply…")).to_be_disabled()
    await expect(result).to_have_text(
        re.compile(r"^50\s?% of 100 scored requests stay local\. The others cost \$5\.00; all of "
                   r"them in the cloud, \$10\.00\.")
    )  # fmt: skip
    await slider.focus()
    for _ in range(3):
        await page.keyboard.press("ArrowRight")
    await expect(page.locator("#whatif-at")).to_have_text("0.53")
    await expect(slider).to_have_attribute("aria-valuetext", "0.53")
    await expect(moving).to_have_text(
        "Of the newest 100 requests decided by score: 3 requests would move to the cloud, 0 to the "
        "local tier. Cost +$0.30. None of them is judged yet."
    )
    await page.get_by_text("Requests that would move").click()
    rows = page.locator("#moved-list tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("Question 50?")
    await expect(rows.first).to_contain_text("local → cloud")
    await page.keyboard.press("Escape")
    await rows.first.get_by_role("link").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Question 50?")
    await page.keyboard.press("Escape")
    await slider.focus()
    await page.keyboard.press("End")
    await expect(result).to_contain_text("The others cost $10.00")
    await expect(page.locator("#moved summary")).to_contain_text("the newest 20 of 50")
    await page.keyboard.press("Home")
    await expect(moving).to_contain_text("0 requests would move to the cloud, 50 to the local tier")
    await page.get_by_role("button", name="Copy as configuration").first.click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == "routing:\n  threshold: 0.00\n"
    # A refresh moves neither the slider nor the focus.
    await slider.focus()
    async with page.expect_response("**/api/pareto*"):
        await page.evaluate("document.querySelector('#pause').click()")
        await page.evaluate("document.querySelector('#pause').click()")
    await expect(slider).to_have_value("0")
    await expect(slider).to_be_focused()


async def test_threshold_is_applied_after_a_look_at_the_difference_and_undone(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    proxy, page = await open_card(start, show, tmp_path)
    original = proxy.config_file.read_bytes()
    await page.get_by_role("button", name="Pause").click()
    await page.locator("#whatif").fill("5")
    await page.get_by_role("button", name="Apply…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The value in config.yaml changes from 0.5 to 0.05")
    await expect(dialog.locator(".added")).to_contain_text('"threshold": 0.05')
    await expect(dialog.locator(".removed")).to_contain_text('"threshold": 0.5')
    assert "sk-" not in await dialog.inner_text()
    await check_accessible(page)
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_be_hidden()
    assert proxy.config_file.read_bytes() == original
    await page.get_by_role("button", name="Apply…").click()
    await expect(dialog.get_by_role("button", name="Apply 0.05")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The threshold is 0.05 now.")).to_be_visible()
    await expect(page.locator("#last-change")).to_contain_text(
        "Changed from 0.5 to 0.05, just now."
    )
    assert (await proxy.chat(text=HARD)).headers["x-router-target"] == "local"
    await expect(page.locator("#whatif")).to_have_value("5")
    # The line and the colours of the scores follow the change, not the next refresh.
    await expect(page.locator("#scores")).to_contain_text("threshold 0.05")
    label = page.locator("#scores .annotation")
    assert await label.evaluate(
        "label => label.getBoundingClientRect().left >= "
        "label.closest('svg').getBoundingClientRect().left"
    )
    await page.get_by_role("button", name="Undo: back to 0.5").click()
    await expect(page.get_by_text("The threshold is 0.5 again.")).to_be_visible()
    await expect(page.locator("#scores")).to_contain_text("threshold 0.50")
    assert proxy.config_file.read_bytes() == original
    await expect(page.get_by_role("button", name="Restore 0.05")).to_be_visible()


async def test_refused_change_is_explained_in_the_dialog(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill(f"sqlite:///{tmp_path}/router.db", [record(1)])
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", expected=("409",))
    await expect(page.locator("#whatif-at")).to_have_text("0.50")
    await page.locator("#whatif").fill("70")
    await page.get_by_role("button", name="Apply…").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    proxy.configure({"routing": {"sticky": "off"}})
    await page.get_by_role("button", name="Apply 0.7").click()
    await expect(page.get_by_role("alert").filter(has_text="was changed since")).to_be_visible()
    assert json.loads(proxy.config_file.read_text())["routing"]["threshold"] == 0.5


async def test_read_only_file_offers_the_copy(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill(f"sqlite:///{tmp_path}/router.db", [record(1)])
    proxy = await start()
    proxy.config_file.chmod(0o444)
    page = await show(proxy.origin, "/dashboard")
    await expect(page.locator("#change-problem")).to_contain_text(
        "config.yaml is read-only. Copy the configuration instead."
    )
    await page.locator("#whatif").fill("70")
    await expect(page.locator("#moving")).to_contain_text("No request would move")
    await expect(page.get_by_role("button", name="Apply…")).to_be_disabled()


async def test_rules_are_previewed(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill(f"sqlite:///{tmp_path}/router.db", [record(number) for number in range(100)])
    proxy = await start()
    page = await show(
        proxy.origin, "/dashboard", expected=("400",),
        permissions=["clipboard-read", "clipboard-write"],
    )  # fmt: skip
    await page.get_by_text("Preview rules and the second look").click()
    text = page.get_by_label("Rules and band")
    await text.fill("- name: sevens\n  when: {regex: 'Question 7'}\n  use: cloud\n")
    await page.get_by_role("button", name="Preview", exact=True).click()
    result = page.locator("#rules-result")
    await expect(result).to_contain_text("Of 100 recent requests: 10 requests would move")
    await expect(result).to_contain_text("sevens matches 11")
    await expect(result.locator("tbody tr")).to_have_count(10)
    await page.locator("#rules-copy").get_by_role("button").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == (
        "routing:\n  rules:\n    - name: sevens\n      when: {regex: 'Question 7'}\n"
        "      use: cloud\n"
    )
    await text.fill("rules:\n- name: a\n  when: {words: b}\n  use: moon\n")
    await page.get_by_role("button", name="Preview", exact=True).click()
    await expect(page.locator("#rules-problem")).to_contain_text(
        "Line 4: routing.rules[0].use: 'moon' is not one of: cloud, local"
    )
    await text.fill("verify: {band: [0.4, 0.6]}")
    await page.get_by_role("button", name="Preview", exact=True).click()
    await expect(result).to_contain_text("20 of 100 recent scored requests")
    await check_accessible(page)


async def test_curve_names_its_population_and_works_without_requests(
    start: StartProxy, show: Show
) -> None:
    proxy = await start({"routing": {"model_path": str(SHIPPED)}}, model="configured")
    await proxy.row_of(await proxy.chat(model="local"))  # not decided by score
    page = await show(proxy.origin, "/dashboard")
    await expect(page.locator("#basis")).to_have_text(
        "Cost and quality on the router’s validation data, until 100 requests of this time range "
        "are judged (0 so far)."
    )
    await expect(page.locator("#whatif-result")).to_contain_text("No scored requests")
    await expect(page.locator("#curve .main-svg").first).to_be_visible()
    line = await page.evaluate(
        "(({data}) => { const {x, y} = data.find(({name}) => name === 'By score');"
        "return [x[0], y[0], x.at(-1), y.at(-1), x.length] })(document.querySelector('#curve'))"
    )
    assert line == [0, 0, 1, 1, 101]


async def test_paced_threshold_is_shown(show: Show, start: StartProxy) -> None:
    proxy = await start()
    page = await show(proxy.origin, "/health", expected=("favicon",))

    async def lower(route: Route) -> None:
        answer = await route.fetch()
        fields = await answer.json()
        await route.fulfill(response=answer, json=fields | {"threshold": 0.31, "is_paced": True})

    await page.route("**/api/threshold", lower)
    await page.goto(f"{proxy.origin}/dashboard")
    await expect(page.locator("#pacing")).to_contain_text("lowers the threshold from 0.50 to 0.31")


async def test_hostile_prompts_stay_text(tmp_path: Path, start: StartProxy, show: Show) -> None:
    records = [record(60 + number, turns=[("user", text)]) for number, text in enumerate(PROBES)]
    fill(f"sqlite:///{tmp_path}/router.db", records)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", viewport=PHONE)
    await page.locator("#whatif").fill("100")
    await page.get_by_text("Requests that would move").click()
    await expect(page.locator("#moved-list tbody tr").first).to_be_visible()
    await check_quiet(page)
    await check_accessible(page)
    assert await fits_its_width(page)
    for control in ("#apply", "#moved summary", "#whatif-copy button"):
        box = await page.locator(control).bounding_box()
        assert box is not None
        assert box["height"] >= 44, control
