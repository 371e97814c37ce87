"""The keys page, the usage page of a key's holder, and the dashboard's card of keys."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from browser import check_accessible, fits_its_width
from live import LiveProxy, StartProxy
from pages.conftest import Show
from proxy.record import Target, key_hash
from stored import fill, finished

BOSS = {"authorization": "Bearer sk-boss"}
TEAM = {"authorization": "Bearer sk-team"}
KEYS = {
    "server": {
        "api_keys": [
            {"key": "sk-boss", "admin": True, "name": "operator"},
            {"key": "sk-team", "name": "<img src=x onerror=alert(1)>", "requests_per_minute": 90},
        ]
    }
}
PHONE = {"width": 390, "height": 844}


async def open_as(show: Show, proxy: LiveProxy, key: str, path: str, **settings: object) -> Page:
    page = await show(proxy.origin, "/login", expected=("401", "409"), **settings)
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(proxy.origin + "/")
    await page.goto(proxy.origin + path)
    return page


async def test_a_key_is_created_used_and_revoked(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await open_as(show, proxy, "sk-boss", "/keys")
    await page.get_by_role("button", name="Create key").click()
    dialog = page.get_by_role("dialog")
    await check_accessible(page)
    await dialog.get_by_label("Name").fill("operator")
    await dialog.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Another API key has this name")
    await expect(dialog.get_by_label("Name")).to_be_focused()
    await dialog.get_by_label("Name").fill("nightly")
    await dialog.get_by_label("Requests per minute").fill("60")
    await dialog.get_by_label("Cloud budget").fill("2.5")
    await dialog.get_by_role("button", name="Create", exact=True).click()
    secret = await dialog.locator("code").inner_text()
    await check_accessible(page)
    assert re.fullmatch(r"hlr-[\w-]{43}", secret)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert secret not in await page.content()
    row = page.get_by_role("row").filter(has_text="nightly")
    await expect(row).to_contain_text("60 requests/min")
    await expect(row).to_contain_text("$2.50 cloud/day")
    answer = await proxy.chat(model="local", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200

    await row.get_by_role("button", name="Edit nightly").click()
    await expect(dialog.get_by_label("Requests per minute")).to_have_value("60")
    await dialog.get_by_label("Name").fill("hourly")
    await dialog.get_by_label("Requests per minute").fill("")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_be_hidden()
    row = page.get_by_role("row").filter(has_text="hourly")
    await expect(row).not_to_contain_text("requests/min")
    await expect(row.get_by_role("button", name="Edit hourly")).to_be_focused()
    changes = page.get_by_role("list", name="Changes")
    await expect(changes).to_contain_text("name: nightly → hourly")
    await expect(changes).to_contain_text("requests per minute: 60 → no limit")

    await row.get_by_role("button", name="Revoke hourly").click()
    await dialog.get_by_role("button", name="Cancel").click()
    await row.get_by_role("button", name="Revoke hourly").click()
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(row).to_have_count(0)
    await page.get_by_label("Show 1 revoked").check()
    await expect(row).to_contain_text("revoked")
    answer = await proxy.chat(model="local", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1440, "height": 900}])
async def test_pages_with_keys_are_accessible_and_fit(
    start: StartProxy, show: Show, viewport: dict[str, int]
) -> None:
    proxy = await start(KEYS)
    await proxy.client.post("/api/keys", json={"name": "n" * 60}, headers=BOSS)
    await proxy.row_of(await proxy.chat(model="local", headers=BOSS))
    page = await open_as(show, proxy, "sk-boss", "/keys", viewport=viewport)
    await page.get_by_text("n" * 60).first.wait_for()
    await check_accessible(page)
    assert await fits_its_width(page)
    if viewport is PHONE:
        for button in await page.get_by_role("button", name=re.compile("^(Edit|Revoke)")).all():
            box = await button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
    await page.goto(proxy.origin + "/usage")
    await page.get_by_text("no limit").first.wait_for()
    await check_accessible(page)
    assert await fits_its_width(page)


async def test_names_are_text(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    name = "<b onclick=alert(1)>bold</b>"
    await proxy.client.post("/api/keys", json={"name": name}, headers=BOSS)
    await proxy.row_of(await proxy.chat(model="local", headers=TEAM, text="<i>hi</i>"))
    page = await open_as(show, proxy, "sk-boss", "/keys")
    for text in (name, "<img src=x onerror=alert(1)>"):
        await expect(page.get_by_text(text).first).to_be_visible()
    assert await page.locator("main :is(img, b[onclick])").count() == 0
    await page.goto(proxy.origin + "/dashboard")
    card = page.get_by_role("region", name="API keys").last
    await expect(card).to_contain_text("<img src=x")
    assert await page.locator("main img").count() == 0


async def test_key_of_the_dashboard_keeps_its_focus_and_the_range(
    start: StartProxy, show: Show
) -> None:
    proxy = await start(KEYS)
    await proxy.row_of(await proxy.chat(model="local", headers=TEAM))
    page = await open_as(show, proxy, "sk-boss", "/dashboard?since=7d")
    link = page.locator("#keys").get_by_role("link", name="<img src=x")
    await link.focus()
    first = await link.element_handle()
    assert first is not None
    async with page.expect_response("**/api/keys*"):
        await page.evaluate("document.querySelector('#pause').click()")
        await page.evaluate("document.querySelector('#pause').click()")
    await page.wait_for_function("element => !element.isConnected", arg=first)
    await expect(link).to_be_focused()
    await link.click()
    await page.wait_for_url("**/dashboard?since=7d&key=*")
    await expect(page.get_by_role("radio", name="7 d")).to_be_checked()
    await expect(page.get_by_role("combobox", name="Key")).to_have_value(key_hash("sk-team"))


async def test_without_keys_the_pages_say_so(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/keys")
    await page.get_by_text("Keys can be created once server.api_keys").wait_for()
    await expect(page.get_by_role("button", name="Create key")).to_be_disabled()
    await expect(page.get_by_role("link", name="Usage")).to_be_hidden()
    await page.goto(proxy.origin + "/usage")
    await page.get_by_text("This proxy needs no API keys").wait_for()
    await page.goto(proxy.origin + "/dashboard")
    await page.get_by_text("No requests yet").first.wait_for(state="attached")
    await expect(page.locator("#keys")).to_be_hidden()


async def test_a_holder_sees_the_own_use_and_why_not_the_dashboard(
    start: StartProxy, show: Show
) -> None:
    proxy = await start(KEYS)
    path = proxy.proxy.store.database.database
    now = time.time()
    common = {"target": Target.CLOUD, "model": "gpt", "cost_usd": 0.5, "cloud_cost_usd": 0.5}
    fill(
        f"sqlite:///{path}",
        [
            finished(created_at=now - 3 * 86_400, client_key_hash=key_hash("sk-team"), **common),
            finished(created_at=now - 9, client_key_hash=key_hash("sk-boss"), **common),
        ],
    )
    own = await proxy.chat(model="local", headers=TEAM, text="My own question")
    await proxy.row_of(own)
    await proxy.row_of(await proxy.chat(model="local", headers=BOSS, text="Not mine"))
    page = await open_as(show, proxy, "sk-team", "/dashboard")
    await page.wait_for_url("**/usage?from=dashboard")
    await page.get_by_text("The dashboard shows the requests of all keys").wait_for()
    figures = page.get_by_label("Key figures")
    await expect(figures).to_contain_text("$0.50")
    await expect(figures).to_contain_text("of 2 answered requests")
    await expect(page.get_by_role("region", name="Limits")).to_contain_text("90")
    requests = page.get_by_role("region", name="Last requests").last
    await expect(requests).to_contain_text("My own question")
    assert "Not mine" not in await page.content()
    await page.get_by_label("24 h").check()
    await expect(figures).to_contain_text("of 1 answered request")
    assert "since=24h" in page.url
    assert await page.get_by_role("link", name="Keys").is_hidden()


async def test_the_login_page_links_to_no_pages(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/login")
    await page.get_by_role("heading", name="Sign in with an API key").wait_for()
    links = await page.get_by_role("link").all()
    assert [await link.inner_text() for link in links] == ["Skip to content"]
    await check_accessible(page)
