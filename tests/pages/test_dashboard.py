"""Dashboard page: figures, charts, the request list and refreshes without flicker."""

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from browser import PATIENCE_MS, check_accessible, fits_its_width
from fakes import EASY, HARD, FakeUpstream, refused_address
from judging import SHIPPED
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pages.hostile import ALL, check_quiet
from pages.test_chat import PHONE
from proxy.learning import LearningRecords, Models
from proxy.record import CallRecord, Ending, Reason, SecondLookResult, Target
from router_model.categories import CATEGORIES
from router_model.evidence import Evidence
from router_model.manifest import Manifest
from stored import connected, fill, finished

FILTERS = Path(__file__).parents[2] / "proxy/web/ui/filters.js"
DECISION = Path(__file__).parents[2] / "proxy/web/ui/decision.js"
SECOND_LOOK = Path(__file__).parents[2] / "proxy/web/ui/second-look.js"


def record(number: int, **values: object) -> CallRecord:
    """A request record; a higher number is an older request."""
    rng = random.Random(number)
    target = rng.choice(list(Target))
    defaults = {
        "created_at": time.time() - number * 13,
        "target": target,
        "model": {"local": "phi3:latest", "cloud": "gpt-4o-mini"}[target],
        "reason": Reason.SCORE,
        "requested_model": "auto",
        "score": 0.9 if target is Target.LOCAL else 0.1,
        "threshold": 0.5,
        "decision_ms": 2.0,
        "ttft_ms": 100.0,
        "upstream_ms": 900.0,
        "duration_ms": 903.0,
        "status": 200,
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_usd": 0.0 if target is Target.LOCAL else 0.25,
        "cloud_cost_usd": 0.25,
        "saved_usd": 0.25 if target is Target.LOCAL else 0.0,
        "turns": [("user", f"Question number {number}?")],
        "response": f"Answer number {number}.",
    }
    return finished(**defaults | values)


def fill_up(folder: Path, number: int, **values: object) -> list[CallRecord]:
    records = [record(n, **values) for n in range(number)]
    fill(f"sqlite:///{folder}/router.db", records)
    return records


def figure(page: Page, name: str) -> Any:
    return page.locator(".figure").filter(has=page.get_by_role("heading", name=name, exact=True))


def listed(page: Page) -> Any:
    return page.locator(".requests tbody tr")


async def settled(page: Page) -> None:
    await page.get_by_text("updated just now").wait_for()


async def test_figures_match_the_stored_requests(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    records = fill_up(tmp_path, 100)
    fill(f"sqlite:///{tmp_path}/router.db", [record(7_000, created_at=time.time() - 3 * 86_400)])
    local = sum(item.target is Target.LOCAL for item in records)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await expect(figure(page, "Requests")).to_contain_text("100")
    await expect(figure(page, "Spent")).to_contain_text(f"${(100 - local) / 4:.2f}")
    await expect(figure(page, "Spent")).to_contain_text("all-cloud cost $25.00")
    await expect(figure(page, "Saved")).to_contain_text(f"${local / 4:.2f}")
    await expect(figure(page, "Saved")).to_contain_text(f"{local}% of the all-cloud cost")
    await expect(figure(page, "Answered locally")).to_contain_text(f"{local}%")
    await expect(figure(page, "Decision")).to_contain_text("p95 2.")
    await expect(figure(page, "Quality recovered")).to_contain_text("(0 of 100)")
    await expect(figure(page, "Local tier")).to_contain_text("phi3:latest")
    for name in ("#traffic", "#money", "#curve", "#scores"):
        await expect(page.locator(f"{name} .main-svg").first).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.locator("#latency")).to_contain_text("Time to first tokencloud")
    await expect(page.locator("#reasons")).to_contain_text("score100100.0%")


async def test_tier_that_is_down_says_why(start: StartProxy, show: Show) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        await proxy.row_of(await proxy.chat(model="cloud"))
        page = await show(proxy.origin, "/dashboard")
        await expect(figure(page, "Local tier")).to_contain_text("down")
        await expect(figure(page, "Local tier")).to_contain_text("it cannot be reached")


async def test_axis_of_small_costs_is_in_dollars(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    costs = {"target": Target.CLOUD, "cost_usd": 2e-5, "cloud_cost_usd": 2e-5, "saved_usd": 0.0}
    # One time for all rows: the chart adds up each interval, and rows one after the other may
    # fall into two.
    fill_up(tmp_path, 10, created_at=time.time(), **costs)
    page = await show((await start()).origin, "/dashboard")
    await expect(page.locator("#money .ytick").last).to_have_text("$0.0002")


async def test_self_calibration_shows_its_last_step_and_the_way_back(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    url = f"sqlite:///{tmp_path}/router.db"
    fill(url, [])
    version = Manifest.load(SHIPPED).version
    with connected(url) as database:
        records = LearningRecords(database, worker="test")
        models = Models("phi3:latest", "gpt-4o-mini", "")
        step_id = records.claim(models, version="1", is_forced=True)
        assert step_id is not None
        figures = {
            "pairs": 800,
            "test": 1,
            "difference": 0.061,
            "low": 0.02,
            "high": 0.1,
            "level": 0.975,
        }
        records.finish(
            step_id, decision="activated", why="better", figures={**figures, "version": version}
        )
    proxy = await start({"routing": {"model_path": str(SHIPPED)}}, model="configured")
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    card = page.locator("#learning")
    await expect(card).to_contain_text("Calibrated: calibrationphi3 and gpt-4o-mini")
    await expect(card).to_contain_text("Calibrated: second looknone")
    await expect(card).to_contain_text("0 of 400 new judged pairs collected")
    await expect(card).to_contain_text("+0.061, 97.5% interval +0.020 to +0.100. better")
    await expect(card).to_contain_text("hybrid-llm learn rollback")


async def test_time_range_survives_a_reload(tmp_path: Path, start: StartProxy, show: Show) -> None:
    fill_up(tmp_path, 20)
    old = [record(n, created_at=time.time() - 3 * 86_400) for n in range(30)]
    fill(f"sqlite:///{tmp_path}/router.db", old)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await expect(figure(page, "Requests")).to_contain_text("20")
    await expect(listed(page)).to_have_count(20)
    await page.get_by_text("7 d", exact=True).click()
    await expect(figure(page, "Requests")).to_contain_text("50")
    await expect(listed(page)).to_have_count(50)
    await page.reload()
    await expect(page.get_by_role("radio", name="7 d")).to_be_checked()
    await expect(figure(page, "Requests")).to_contain_text("50")


async def test_requests_are_filtered_searched_and_paged(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 460)
    failed = record(500, ending=Ending.TIMEOUT, error_code="idle_timeout", target=Target.CLOUD)
    fill(f"sqlite:///{tmp_path}/router.db", [failed])
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await expect(listed(page)).to_have_count(50)
    state = page.locator("#list-state")
    older = page.get_by_role("button", name="Older")
    newer = page.get_by_role("button", name="Newer")
    await expect(state).to_have_text("Page 1: 50 requests")
    await expect(newer).to_be_disabled()
    ids: list[str] = []
    for number in range(1, 11):
        last = 11 if number == 10 else 50
        await expect(state).to_have_text(f"Page {number}: {last} requests")
        ids += await page.evaluate(
            "[...document.querySelectorAll('[data-id]')].map(row => row.dataset.id)"
        )
        if number < 10:
            await older.click()
    assert len(ids) == len(set(ids)) == 461
    await expect(older).to_be_disabled()
    await expect(listed(page).last).to_contain_text("idle_timeout")
    await newer.click()
    await expect(state).to_have_text("Page 9: 50 requests")

    await page.get_by_label("Status").select_option("timeout")
    await expect(listed(page)).to_have_count(1)
    await page.get_by_label("Status").select_option("")
    await page.get_by_label("Search").fill("number 45")
    await expect(listed(page)).to_have_count(11)  # 45 and 450 to 459
    await page.get_by_role("combobox", name="Tier").select_option("local")
    expected = sum(record(n).target is Target.LOCAL for n in (45, *range(450, 460)))
    await expect(listed(page)).to_have_count(expected)
    await page.get_by_label("Search").fill("nobody asked this")
    await expect(page.locator("#list-state")).to_have_text("No matching requests")


async def test_request_details_open_by_keyboard_and_link(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    answer = await proxy.chat(text=EASY)
    row = await proxy.row_of(answer)
    await proxy.client.post(
        "/v1/feedback", json={"request_id": row["id"], "rating": -0.5, "comment": "Meh <i>."}
    )
    page = await show(proxy.origin, "/dashboard")
    button = page.get_by_role("button", name=EASY)
    await button.focus()
    await page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog")
    await expect(drawer).to_contain_text("its score 0.9000 is at or above the threshold 0.5000")
    for text in (row["id"], EASY, "Hello!", "Meh <i>.", "-0.5", "19", "$0.000009"):
        await expect(drawer).to_contain_text(text)
    assert page.url.endswith(f"#request={row['id']}")
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await expect(drawer).to_be_hidden()
    await expect(button).to_be_focused()
    assert "#" not in page.url
    # The link opens the request again.
    await page.goto(f"{proxy.origin}/dashboard#request={row['id']}")
    await page.reload()
    await expect(drawer).to_contain_text("Hello!")


LOOKED = {
    "target": Target.CLOUD, "model": "gpt-4o-mini", "reason": Reason.ESCALATED, "score": 0.7,
    "merit": 0.55, "second_look": SecondLookResult.ESCALATED,
    "evidence": Evidence(
        False, False, "llama3:8b", -0.3125, -4.0, 1.5, 1_280, 0.25
    ), "verified_score": 0.42,
    "verified_merit": 0.36, "second_look_ms": 1_840.0, "fallback_from": Target.LOCAL,
    "fallback_why": "evidence", "discarded_tokens": 340,
}  # fmt: skip


async def test_second_look_is_listed_and_detailed(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 3)
    busy = record(5, target=Target.CLOUD, score=0.45, second_look=SecondLookResult.BUSY)
    fill(f"sqlite:///{tmp_path}/router.db", [record(4, **LOOKED), busy])
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await page.get_by_label("Second look").select_option("escalated")
    await expect(listed(page)).to_have_count(1)
    await expect(listed(page).get_by_role("img")).to_have_attribute(
        "aria-label", "Verified merit 0.36, threshold 0.50"
    )
    await expect(listed(page)).to_contain_text("escalated")
    await listed(page).get_by_role("button").click()
    drawer = page.get_by_role("dialog")
    await expect(drawer).to_contain_text(
        "escalated by a second look · verified merit 0.36 < threshold 0.50"
    )
    await expect(drawer).to_contain_text("340 local tokens were discarded")
    for name, value in (
        ("Result", "escalated"),
        ("Final answer", "stated"),
        ("llama3:8b", "disagrees"),
        ("Mean log-probability", "-0.313 nats"),
        ("Margin", "1.500 nats"),
        ("Length", "1,280 tokens"),
        ("Self-check P(yes)", "0.250"),
        ("Verified score", "0.4200"),
        ("Verified merit", "0.3600"),
        ("Time to the result", "1.8 s"),
        ("Discarded tokens", "340"),
    ):
        fact = drawer.locator(".facts div").filter(has=page.get_by_text(name, exact=True))
        await expect(fact).to_have_text(name + value)
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await page.get_by_label("Second look").select_option("busy")
    await listed(page).get_by_role("button").click()
    await expect(drawer).to_contain_text(
        "score 0.45 < threshold 0.50 · no second look: the local tier was busy"
    )
    await expect(drawer.get_by_text("Margin")).to_have_count(0)
    await page.keyboard.press("Escape")
    await page.get_by_label("Second look").select_option("none")
    await expect(listed(page)).to_have_count(3)
    await listed(page).first.get_by_role("button").click()
    await expect(drawer.get_by_role("heading", name="Answer")).to_be_visible()
    await expect(drawer.get_by_role("heading", name="Second look")).to_have_count(0)


async def test_link_to_an_unknown_request_shows_the_error(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/dashboard#request=req_gone", expected=("404",))
    await expect(page.get_by_role("dialog")).to_contain_text(
        "The request 'req_gone' does not exist."
    )
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_new_request_is_added_without_moving_focus_or_charts(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 60)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard")
    await settled(page)
    await page.get_by_role("button", name="Pause").click()
    row = listed(page).nth(20)
    await row.get_by_role("button").focus()
    await row.scroll_into_view_if_needed()
    first = await page.locator(".requests thead").element_handle()
    curve = await page.locator("#traffic .main-svg").first.element_handle()
    question = await row.get_by_role("button").inner_text()
    await proxy.row_of(await proxy.chat(text=HARD))
    await page.evaluate("document.querySelector('#pause').click()")
    await expect(listed(page).first).to_contain_text(HARD)
    await expect(figure(page, "Requests")).to_contain_text("61")
    await expect(listed(page)).to_have_count(50)
    # The elements and the focus are unchanged.
    assert await page.evaluate("document.activeElement.textContent") == question
    assert first is not None
    assert curve is not None
    assert await first.evaluate("element => element.isConnected")
    assert await curve.evaluate("element => element.isConnected")


async def test_dashboard_refreshes_unless_paused(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/login")
    await page.clock.install()
    await page.goto(proxy.origin + "/dashboard")
    await page.get_by_text("updated just now").wait_for()
    async with page.expect_response("**/api/stats*"):
        await page.clock.fast_forward(10_100)
    await settled(page)
    await page.get_by_role("button", name="Pause").click()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    await page.clock.fast_forward(60_000)
    await expect(page.locator("#freshness")).to_have_text(re.compile("updated 1 min ago"))
    # The state of the tiers in the header goes on.
    assert [url for url in requested if not url.endswith("/api/status")] == []


async def test_failed_refresh_keeps_the_earlier_data(proxy: LiveProxy, show: Show) -> None:
    await proxy.row_of(await proxy.chat(text=EASY))
    page = await show(proxy.origin, "/dashboard", expected=("503", "ERR_"))
    await settled(page)

    async def fail(route: Route) -> None:
        error = {"message": "The database is <b>away</b>.", "type": "server_error"}
        await route.fulfill(status=503, json={"error": error | {"param": None, "code": None}})

    await page.route("**/api/stats*", fail)
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    trouble = page.locator("#trouble")
    await expect(trouble).to_have_text("The database is <b>away</b>. Showing earlier data.")
    await expect(figure(page, "Requests")).to_contain_text("1")
    await expect(listed(page)).to_have_count(1)
    await check_accessible(page)
    await page.unroute("**/api/stats*")
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    await expect(trouble).to_be_hidden()


async def test_empty_dashboard_shows_the_first_command(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/dashboard?since=all")
    await page.get_by_role("heading", name="No requests yet").wait_for()
    await expect(page.locator("#first")).to_contain_text(f"curl {proxy.origin}/v1/chat/completions")
    await check_accessible(page)
    await proxy.row_of(await proxy.chat(text=EASY))
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("heading", name="No requests yet")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_hostile_rows_are_inert_and_accessible(
    tmp_path: Path, start: StartProxy, show: Show, scheme: str
) -> None:
    hostile = ALL.replace("\0", "")
    fill_up(
        tmp_path, 3, turns=[("<b>user", hostile)], response=hostile, model=hostile[:300],
        error=hostile, error_code=hostile[:100], ending=Ending.UPSTREAM_ERROR, session_id=hostile,
        requested_model=hostile[:200], endpoint=hostile[:100],
    )  # fmt: skip
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", color_scheme=scheme)
    await settled(page)
    await check_accessible(page)
    await listed(page).first.get_by_role("button").click()
    await expect(page.get_by_role("dialog")).to_contain_text("<script>window.pwned=1</script>")
    await check_quiet(page)
    await check_accessible(page)


async def test_dashboard_and_details_fit_a_phone(
    tmp_path: Path, start: StartProxy, show: Show
) -> None:
    fill_up(tmp_path, 10, response="word" * 20_000)
    proxy = await start()
    page = await show(proxy.origin, "/dashboard", viewport=PHONE)
    await settled(page)
    assert await fits_its_width(page)
    await listed(page).first.get_by_role("button").click()
    await expect(page.get_by_role("dialog")).to_contain_text("wordword")
    assert await fits_its_width(page)
    drawer = page.get_by_role("dialog")
    assert await drawer.evaluate("element => element.scrollWidth <= element.clientWidth")


def test_filters_match_the_enums_of_the_code() -> None:
    """The lists in the JavaScript match those of the code: categories, endings and the like."""
    text = FILTERS.read_text(encoding="utf-8")
    for name, values in (("CATEGORIES", CATEGORIES), ("ENDINGS", list(Ending))):
        match = re.search(rf"const {name} = \[(.*?)\]", text, re.S)
        assert match
        assert set(re.findall(r"'([a-z_]+)'", match[1])) == set(values)
    explained = {"score", *keys_of("REASONS", DECISION)}
    exploring = {"exploration", "shadow"}  # the present and the former name of one reason
    assert explained >= exploring
    assert explained == set(Reason) | exploring
    assert keys_of("RESULTS", SECOND_LOOK) == set(SecondLookResult)


def keys_of(name: str, path: Path) -> set[str]:
    """The keys of a constant object of a module."""
    text = path.read_text(encoding="utf-8")
    match = re.search(rf"const {name} = \{{(.*?)\n\}}", text, re.S)
    assert match
    return set(re.findall(r"^  ([a-z_]+):", match[1], re.MULTILINE))
