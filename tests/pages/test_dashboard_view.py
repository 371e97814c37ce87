"""Dashboard page: what its address keeps, ranges, order, live rows, headline and empty states."""

import asyncio
import csv
import io
import re
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from browser import check_accessible, fits_its_width
from fakes import EASY
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pages.test_chat import PHONE
from pages.test_dashboard import figure, fill_up, listed, record, settled
from proxy.record import Ending, Reason, Target
from stored import fill

KEYS = {"server": {"api_keys": [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]}}
HOUR = 3_600


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def test_filters_apply_to_figures_and_stay_in_the_address(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    records = fill_up(tmp_path, 130)
    local = sum(item.target is Target.LOCAL for item in records)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await expect(figure(page, "Requests")).to_contain_text("130")
    await page.get_by_role("combobox", name="Tier").select_option("local")
    await expect(figure(page, "Requests")).to_contain_text(str(local))
    await expect(figure(page, "Spent")).to_contain_text("$0.00")
    await expect(page.locator("#traffic")).to_have_attribute(
        "aria-label", re.compile(f"{local} local, 0 cloud")
    )
    await page.get_by_label("Model").select_option("phi3:latest")
    await page.get_by_role("button", name="Older").click()
    await expect(page.locator("#list-state")).to_contain_text("Page 2")
    shared = page.url
    assert address(page).items() >= {"target": "local", "model": "phi3:latest", "page": "2"}.items()
    ids = await page.locator("[data-id]").evaluate_all("rows => rows.map(r => r.dataset.id)")
    # A reload and a shared link show the same page.
    for again in (page, await show(proxy.origin, shared.removeprefix(proxy.origin))):
        if again is page:
            await page.reload()
        await expect(again.locator("#list-state")).to_contain_text("Page 2")
        await expect(again.get_by_role("combobox", name="Tier")).to_have_value("local")
        await expect(figure(again, "Requests")).to_contain_text(str(local))
        found = await again.locator("[data-id]").evaluate_all("rows => rows.map(r => r.dataset.id)")
        assert found == ids
    # The browser's Back undoes each step.
    await page.go_back()
    await expect(page.locator("#list-state")).to_contain_text("Page 1")
    await page.go_back()
    await page.go_back()
    await expect(page.get_by_role("combobox", name="Tier")).to_have_value("")
    await expect(figure(page, "Requests")).to_contain_text("130")


async def test_search_and_clearing_filters(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill_up(tmp_path, 30)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard?search=number+7")
    await expect(figure(page, "Requests")).to_contain_text("1")
    await expect(page.get_by_label("Search")).to_have_value("number 7")
    await page.get_by_label("Search").fill("nobody asked this")
    nothing = page.locator("#nothing")
    await expect(nothing.get_by_role("heading")).to_have_text("No matching requests")
    await expect(page.locator("#content")).to_be_hidden()
    await check_accessible(page)
    await nothing.get_by_role("button", name="Clear filters").click()
    await expect(figure(page, "Requests")).to_contain_text("30")
    assert "search" not in address(page)


async def test_filter_chosen_while_typing_keeps_the_text(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 30)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    # Both in one task: the text is applied a moment after the last key.
    await page.evaluate("""() => {
      const { search, ending } = document.querySelector('#filters').elements
      for (const [field, value] of [[search, 'number 7'], [ending, 'ok']]) {
        field.value = value
        field.dispatchEvent(new Event('input', { bubbles: true }))
      }
    }""")
    await expect(listed(page)).to_have_count(1)
    assert address(page) == {"search": "number 7", "ending": "ok"}
    await expect(page.get_by_label("Search")).to_have_value("number 7")


async def test_change_of_the_view_asks_for_the_list_once(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 30)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    await page.get_by_role("combobox", name="Tier").select_option("local")
    await expect(page.locator("#traffic")).to_have_attribute("aria-label", re.compile(" 0 cloud"))
    await page.wait_for_load_state("networkidle")
    assert asked.count("/api/requests") == 1
    assert asked.count("/api/stats") == 1


async def test_address_with_a_malformed_request_is_harmless(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/dashboard#request=%E0%A4%A", expected=("404",))
    await expect(page.get_by_role("dialog")).to_contain_text("does not exist")
    await settled(page)


async def test_short_and_custom_ranges(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill_up(tmp_path, 10)
    old = [record(n, created_at=time.time() - 5 * 86_400 - n) for n in range(7)]
    fill(f"sqlite:///{tmp_path}/router.db", old)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", timezone_id="Asia/Tokyo")
    await page.get_by_text("1 h", exact=True).click()
    await expect(figure(page, "Requests")).to_contain_text("10")
    assert address(page)["since"] == "1h"
    await page.get_by_text("Custom", exact=True).click()
    form = page.get_by_role("form", name="Custom time range")
    local = time.gmtime(time.time() - 6 * 86_400 + 9 * HOUR)
    end = time.gmtime(time.time() - 4 * 86_400 + 9 * HOUR)
    await form.get_by_label("From").fill(time.strftime("%Y-%m-%dT%H:%M", end))
    await form.get_by_label("To").fill(time.strftime("%Y-%m-%dT%H:%M", local))
    await form.get_by_role("button", name="Apply").click()
    await expect(form.get_by_role("alert")).to_have_text("The end must be after the start.")
    await form.get_by_label("From").fill(time.strftime("%Y-%m-%dT%H:%M", local))
    await form.get_by_label("To").fill(time.strftime("%Y-%m-%dT%H:%M", end))
    await form.get_by_role("button", name="Apply").click()
    await expect(figure(page, "Requests")).to_contain_text("7")
    await expect(listed(page)).to_have_count(7)
    await check_accessible(page)
    await page.reload()
    await expect(page.get_by_role("radio", name="Custom")).to_be_checked()
    await expect(figure(page, "Requests")).to_contain_text("7")


async def test_list_is_sorted_by_its_headings(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    rows = [record(n, cost_usd=float(n % 7), duration_ms=1_000.0 + n) for n in range(60)]
    fill(f"sqlite:///{tmp_path}/router.db", rows)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    heading = page.get_by_role("columnheader", name="Cost")
    await heading.get_by_role("button").click()
    await expect(heading).to_have_attribute("aria-sort", "descending")
    await expect(listed(page).first).to_contain_text("$6.00")
    await expect(page.get_by_role("button", name="Next")).to_be_visible()
    await heading.get_by_role("button").click()
    await expect(listed(page).first).to_contain_text("$0.00")
    await page.get_by_role("columnheader", name="Duration").get_by_role("button").click()
    await page.reload()
    await expect(listed(page).first).to_contain_text("Question number 59?")
    await check_accessible(page)


async def test_live_rows_are_highlighted_until_another_page_is_chosen(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 70)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard?sort=cost")
    await settled(page)
    await page.get_by_role("button", name="Pause").click()
    live = page.get_by_role("button", name="Live")
    await live.click()
    await expect(live).to_have_attribute("aria-pressed", "true")
    await expect(listed(page).first).to_contain_text("Question number 0?")  # newest first again
    await proxy.row_of(await proxy.chat(text=EASY))
    await expect(listed(page).first).to_contain_text(EASY)
    await expect(listed(page).first).to_have_class(re.compile("fresh"))
    await page.get_by_role("button", name="Older").click()
    await expect(live).to_have_attribute("aria-pressed", "false")


async def test_download_has_the_filtered_list(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    records = fill_up(tmp_path, 20)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard?target=cloud")
    await settled(page)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download CSV").click()
    path = await (await downloading.value).path()
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert len(rows) == sum(item.target is Target.CLOUD for item in records)


async def test_refused_row_shows_its_error(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill_up(
        tmp_path, 1, ending=Ending.REJECTED, target=None, model=None, reason=None, turns=None,
        error="The rate limit of this key is 60.", error_code="rate_limit_exceeded",
    )  # fmt: skip
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await expect(listed(page).get_by_role("button")).to_have_text(
        "The rate limit of this key is 60."
    )
    await expect(figure(page, "Failed")).to_contain_text("0 of 0 answered or failed · 1 refused")
    await expect(figure(page, "Answered locally")).to_contain_text("0 of 0 answered requests")
    cell = listed(page).get_by_title("rate_limit_exceeded")
    assert await cell.evaluate("element => element.scrollWidth <= element.clientWidth")


async def test_figures_name_their_denominators(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    records = fill_up(tmp_path, 20)
    local = sum(item.target is Target.LOCAL for item in records)
    others = [
        *(record(100 + n, ending=Ending.REJECTED, target=None) for n in range(9)),
        *(record(200 + n, ending=Ending.TIMEOUT, target=Target.LOCAL) for n in range(5)),
        record(300, ending=Ending.CLIENT_GONE, target=Target.LOCAL),
    ]
    fill(f"sqlite:///{tmp_path}/router.db", others)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    answered = figure(page, "Answered locally")
    await expect(answered).to_contain_text(f"{local / 20 * 100:.0f}%")
    await expect(answered).to_contain_text(f"{local} of 20 answered requests")
    failed = figure(page, "Failed")
    await expect(failed).to_contain_text("20.0%")
    await expect(failed).to_contain_text("5 of 25 answered or failed · 9 refused · 1 cancelled")


async def test_all_reasons_fit_their_table(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill(
        f"sqlite:///{tmp_path}/router.db",
        [record(n, reason=reason) for n, reason in enumerate(Reason)],
    )
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", viewport={"width": 1440, "height": 900})
    await settled(page)
    table = page.get_by_role("region", name="Routing reasons")
    await expect(table.get_by_role("row")).to_have_count(len(Reason) + 1)
    assert await table.evaluate("element => element.scrollWidth <= element.clientWidth")


# --- headline ---


async def test_headline_can_be_copied_and_downloaded(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    records = fill_up(tmp_path, 40, created_at=time.time())
    local = sum(item.target is Target.LOCAL for item in records)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", permissions=["clipboard-read", "clipboard-write"])
    headline = page.get_by_role("region", name="This month")
    saved, share = f"${local / 4:.2f}", f"{local / 40 * 100:.0f}% of the all-cloud bill"
    await expect(headline).to_contain_text(f"Saved {saved} this month, {share}")
    await expect(headline).to_contain_text("not enough data (0 of 100)")
    await expect(headline).not_to_contain_text("by the end of the month")  # of the first day
    await headline.get_by_role("button", name="Copy as Markdown").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    month = time.strftime("%B %Y", time.gmtime())
    assert copied.startswith(f"**Saved {saved} in {month}**, {share}. ")
    async with page.expect_download() as downloading:
        await headline.get_by_role("button", name="Download as picture").click()
    download = await downloading.value
    assert download.suggested_filename == time.strftime("savings-%Y-%m.png", time.gmtime())
    path = await download.path()
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert [int.from_bytes(picture[at : at + 4]) for at in (16, 20)] == [2_400, 1_260]


async def test_headline_has_quality_and_projection(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 10)
    proxy = await start()
    page = await show(proxy.origin, "/login")
    estimate = {"value": 0.962, "low": 0.94, "high": 0.985, "missing": None, "requests": 200}
    payload = (await proxy.client.get("/api/headline")).json()
    payload |= {"projection": {"saved_usd": 12.5, "cost_usd": 1.0, "cloud_cost_usd": 13.5}}
    payload["quality"]["relative"] = estimate
    await page.route("**/api/headline", lambda route: route.fulfill(json=payload))
    await page.goto(proxy.origin + "/dashboard")
    headline = page.get_by_role("region", name="This month")
    await expect(headline).to_contain_text(
        "at 96% of the cloud’s quality (95% interval 94% to 99%)"
    )
    await expect(headline).to_contain_text("At this rate $12.50 by the end of the month.")
    await expect(headline).to_contain_text("Linear projection; it ignores weekends and growth.")


# --- empty states ---


@pytest.mark.parametrize("span", ["1h", "24h", "all"])
async def test_first_request_card_turns_into_the_dashboard(
    proxy: LiveProxy, show: Show, span: str
) -> None:
    page = await show(proxy.origin, f"/dashboard?since={span}")
    card = page.locator("#nothing")
    await expect(card.get_by_role("status")).to_have_text("Waiting for the first request")
    await expect(page.locator("#first")).to_contain_text(f"curl {proxy.origin}/v1/chat/completions")
    await expect(page.locator("#first")).not_to_contain_text("Authorization")
    await expect(page.locator("#content")).to_be_hidden()
    await check_accessible(page)
    await proxy.row_of(await proxy.chat(text=EASY))
    await expect(page.locator("#content")).to_be_visible()
    await expect(card).to_be_hidden()
    await expect(listed(page)).to_have_count(1)
    # A chart that was hidden fills its card.
    chart = page.locator("#traffic")
    width = await chart.evaluate("element => parseFloat(getComputedStyle(element).width)")
    await expect(chart.locator(".main-svg").first).to_have_attribute("width", f"{width:g}")


async def sign_in(page: Page, key: str) -> None:
    await page.locator("input[name=key]").fill(key)
    await page.locator("input[name=key]").press("Enter")


async def test_command_of_the_card_has_a_key_where_one_is_needed(
    start: StartProxy, show: Show
) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/dashboard")
    await sign_in(page, "sk-boss")
    await expect(page.locator("#first")).to_contain_text('-H "Authorization: Bearer $API_KEY"')


async def test_empty_range_offers_the_one_with_requests(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 4, created_at=time.time() - 3 * 86_400)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    card = page.locator("#nothing")
    await expect(card.get_by_role("heading")).to_have_text("No requests in this time range")
    await expect(card).to_contain_text("The newest request was 3 d ago.")
    await check_accessible(page)
    await card.get_by_role("button", name="Show the last 7 d").click()
    await expect(figure(page, "Requests")).to_contain_text("4")
    await expect(page.get_by_role("radio", name="7 d")).to_be_checked()


async def test_late_look_for_requests_does_not_hide_the_figures(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 4, created_at=time.time() - 3 * 86_400)
    proxy = await start()
    page = await show(proxy.origin, "/login")
    asked, shown = asyncio.Event(), asyncio.Event()

    async def look_late(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await shown.wait()
        await route.fulfill(response=answer)

    await page.route("**/api/requests?limit=1", look_late)
    await page.goto(proxy.origin + "/dashboard")
    await asked.wait()
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_text("7 d", exact=True).click()
    await expect(figure(page, "Requests")).to_contain_text("4")
    async with page.expect_response("**/api/requests?limit=1"):
        shown.set()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.locator("#nothing")).to_be_hidden()
    await expect(page.locator("#content")).to_be_visible()


# --- menu and phone ---


async def test_menu_has_only_pages_that_the_caller_may_open(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/login")
    html = await (await page.request.get(proxy.origin + "/login")).text()
    assert "/dashboard" not in html
    await sign_in(page, "sk-team")
    await page.locator("nav").wait_for()
    answer = await page.request.get(proxy.origin + "/")
    assert "/dashboard" not in await answer.text()
    assert answer.headers["vary"] == "accept-encoding, cookie"
    etag = answer.headers["etag"]
    await page.context.clear_cookies()
    await page.goto(proxy.origin + "/login")
    await sign_in(page, "sk-boss")
    await expect(page.get_by_role("link", name="Dashboard")).to_be_visible()
    # The admin's browser may hold the other menu of the same address.
    again = await page.request.get(proxy.origin + "/", headers={"if-none-match": etag})
    assert again.status == 200
    assert "/dashboard" in await again.text()


async def test_phone_shows_rows_as_cards(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill_up(tmp_path, 30)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", viewport=PHONE)
    await settled(page)
    assert await fits_its_width(page)
    region = page.get_by_role("region", name="Request list")
    assert await region.evaluate("element => element.scrollWidth <= element.clientWidth")
    first = listed(page).first
    gist = await first.get_by_role("button").bounding_box()
    badge = await first.locator(".badge").first.bounding_box()
    assert gist is not None
    assert badge is not None
    assert gist["y"] + gist["height"] <= badge["y"] + 1
    await page.get_by_text("Filters", exact=True).click()
    for control in ("#filters select", "#live", "#export", "#order", "#older", ".link"):
        box = await page.locator(control).first.bounding_box()
        assert box is not None
        assert box["height"] >= 44, control
    await check_accessible(page)
    await page.get_by_label("Order").select_option("Highest cost")
    await expect(listed(page).first).to_contain_text("$0.25")
