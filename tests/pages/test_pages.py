"""All pages: authentication, authorization, security headers, accessibility and static files."""

import asyncio
import gzip
import re

import httpx2
import pytest
from playwright.async_api import Page, expect

from browser import check_accessible, fits_its_width
from fakes import PATIENCE_SECONDS, FakeUpstream, whole
from live import LiveProxy, StartProxy
from pages.conftest import Show
from proxy.auth import SESSION_COOKIE
from proxy.record import Target
from proxy.web.pages import PAGES

KEYS = {
    "server": {
        "api_keys": [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}],
    }
}
PATHS = [page.path for page in PAGES]
PHONE = {"width": 390, "height": 844}


async def log_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
async def test_page_is_accessible(proxy: LiveProxy, show: Show, path: str, scheme: str) -> None:
    page = await show(proxy.origin, path, color_scheme=scheme)
    await page.get_by_text("no router model").wait_for()
    await check_accessible(page)


@pytest.mark.parametrize("path", PATHS)
async def test_page_fits_a_phone(proxy: LiveProxy, show: Show, path: str) -> None:
    page = await show(proxy.origin, path, viewport=PHONE)
    await page.wait_for_load_state("networkidle")
    assert await fits_its_width(page)


async def test_login_opens_the_requested_page(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/dashboard?since=7d", expected=("401",))
    await check_accessible(page)
    await log_in(page, "sk-nobody")
    await page.get_by_role("alert").get_by_text("Incorrect API key").wait_for()
    await log_in(page, "sk-boss")
    await page.wait_for_url("**/dashboard?since=7d")
    (cookie,) = await page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (SESSION_COOKIE, True, "Lax")
    assert "sk-boss" not in str(cookie)


async def test_logout_ends_the_session(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/", expected=("401",))
    await log_in(page, "sk-team")
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/login")
    assert await page.context.cookies() == []
    await page.goto(proxy.origin + "/")
    await page.wait_for_url("**/login?next=/")


async def test_dashboard_and_experiments_require_an_admin_key(
    start: StartProxy, show: Show
) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/login?next=/experiments")
    await log_in(page, "sk-team")
    await page.wait_for_url("**/usage?from=experiments")
    await page.get_by_text(
        "The experiments use the requests of all keys, so an admin key"
    ).wait_for()
    await page.get_by_role("link", name="Usage").wait_for()
    await page.get_by_role("link", name="Dashboard").wait_for(state="hidden")


async def test_expired_session_redirects_to_the_login(start: StartProxy, show: Show) -> None:
    proxy = await start(KEYS)
    page = await show(proxy.origin, "/login?next=/compare", expected=("401",))
    await log_in(page, "sk-team")
    await page.wait_for_url("**/compare")
    await page.context.clear_cookies()
    await page.evaluate(
        "void import('/ui/http.js').then(({getJson}) => getJson('/api/status')).catch(() => 0)"
    )
    await page.wait_for_url("**/login?next=%2Fcompare")


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example",
     "javascript:alert(1)", "/nowhere", "/%0d%0aset-cookie:%20a=b"],
)  # fmt: skip
async def test_login_redirects_to_own_pages_only(start: StartProxy, target: str) -> None:
    proxy = await start(KEYS)
    answer = await proxy.client.post("/login", data={"key": "sk-team", "next": target})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_login_escapes_the_requested_address(start: StartProxy) -> None:
    proxy = await start(KEYS)
    evil = '/dashboard?"><script>alert(1)</script>'
    answer = await proxy.client.get("/login", params={"next": evil})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "/dashboard?" in answer.text


async def test_foreign_origins_can_neither_log_in_nor_out(start: StartProxy) -> None:
    proxy = await start(KEYS)
    cookie = await session(proxy, "sk-team")
    for path, data in (("/login", {"key": "sk-team"}), ("/logout", {})):
        answer = await proxy.client.post(
            path, data=data, headers={"origin": "https://evil.example", "cookie": cookie}
        )
        assert answer.status_code == 403, path
        assert "set-cookie" not in answer.headers


async def test_session_cookie_works_for_own_pages_only(start: StartProxy) -> None:
    changes = {"server": KEYS["server"] | {"cors_origins": ["https://chat.example.org"]}}
    proxy = await start(changes)
    cookie = await session(proxy, "sk-team")
    host = {"cookie": cookie, "origin": proxy.origin}
    assert (await proxy.client.get("/api/status", headers=host)).status_code == 200
    # A CORS origin may send requests with a key, but not with the session cookie.
    for origin in ("https://evil.example", "https://chat.example.org", "null"):
        answer = await proxy.client.get("/api/status", headers={"cookie": cookie, "origin": origin})
        assert answer.status_code == 403, origin
    image = {"cookie": cookie, "sec-fetch-site": "cross-site"}
    assert (await proxy.client.get("/api/status", headers=image)).status_code == 403


async def test_session_cookie_is_secure_behind_tls(start: StartProxy) -> None:
    proxy = await start(KEYS)
    answer = await proxy.client.post(
        "/login", data={"key": "sk-team"}, headers={"x-forwarded-proto": "https"}
    )
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("path", [*PATHS, "/login"])
async def test_security_headers_allow_own_files_only(start: StartProxy, path: str) -> None:
    proxy = await start(KEYS)
    headers = {} if path == "/login" else {"cookie": await session(proxy, "sk-boss")}
    answer = await proxy.client.get(path, headers=headers)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert " style=" not in answer.text
    assert " on" not in answer.text.partition("<body")[2].partition(">")[0]


async def test_file_is_compressed_and_revalidated(proxy: LiveProxy) -> None:
    plain = await proxy.client.get("/ui/style.css", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with proxy.client.stream(
        "GET", "/ui/style.css", headers={"accept-encoding": "br;q=0.1, gzip"}
    ) as small:
        raw = b"".join([part async for part in small.aiter_raw()])
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 2
    again = await proxy.client.get(
        "/ui/style.css", headers={"if-none-match": plain.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["../pages.py", "%2e%2e/pages.py", "shell.html", "", "nothing.js"])
async def test_unknown_files_are_not_served(proxy: LiveProxy, name: str) -> None:
    answer = await proxy.client.get(f"/ui/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", PATHS)
async def test_every_page_shows_the_tiers_and_follows_them(
    start: StartProxy, show: Show, cloud: FakeUpstream, path: str
) -> None:
    proxy = await start(probe_seconds=0.05)
    page = await show(proxy.origin, path, viewport=PHONE)
    tiers = page.get_by_role("list", name="Tiers")
    local_item, cloud_item = (tiers.get_by_role("listitem").nth(number) for number in range(2))
    # The scripted local upstream has no model; it is up, but cannot answer.
    await expect(local_item).to_have_text("Local not ready")
    await expect(local_item).to_have_attribute(
        "title", "Local: not ready · it lists no models; phi3:latest is configured"
    )
    await expect(cloud_item).to_contain_text("Cloud: up since ")
    cloud.answer = cloud.models = whole(b"{}", status=503)
    assert (await proxy.chat(model="cloud")).status_code == 503
    tier = proxy.proxy.gateway.snapshot.upstreams[Target.CLOUD]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tier.up is not False:
            await proxy.client.get("/health")  # gives the proxy time
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # or 15 s later
    await expect(cloud_item).to_have_text("Cloud down")
    title = await cloud_item.get_attribute("title")
    assert title is not None
    assert re.fullmatch(
        r"Cloud: down since \d\d:\d\d · it has no list of models: status 503", title
    )
    assert await fits_its_width(page)
    await check_accessible(page)


async def test_the_state_of_the_tiers_is_unknown_while_the_proxy_is_gone(
    start: StartProxy, show: Show
) -> None:
    proxy = await start()
    page = await show(proxy.origin, "/compare", expected=("ERR_CONNECTION_REFUSED",))
    tiers = page.get_by_role("list", name="Tiers").get_by_role("listitem")
    await expect(tiers.nth(0)).to_have_text("Local not ready")
    await proxy.stop()
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(tiers.nth(0)).to_have_text("Local: not known")


async def test_unknown_tier_is_a_ring(proxy: LiveProxy, show: Show) -> None:
    """Its dot is not filled: the color alone would not tell it from a tier that is up."""
    page = await show(proxy.origin, "/login", expected=("503",))
    await page.route("**/api/status", lambda route: route.fulfill(status=503, json={}))
    await page.goto(proxy.origin + "/dashboard")
    dot = page.locator("#tiers .dot").first
    await expect(dot).to_have_css("background-color", "rgba(0, 0, 0, 0)")


async def test_head_of_a_phone_is_one_line_and_a_menu_that_shows_its_page(
    proxy: LiveProxy, show: Show
) -> None:
    page = await show(proxy.origin, "/experiments", viewport=PHONE)
    parts = (page.locator(".brand"), page.locator("#tiers"), page.locator("#theme"))
    await expect(parts[1]).to_contain_text("Local not ready")
    tops, heights = [], []
    for part in parts:
        box = await part.bounding_box()
        assert box is not None
        tops.append(box["y"])
        heights.append(box["height"])
    assert max(tops) - min(tops) < max(heights)
    link = page.locator("nav [aria-current]")
    box = await link.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]


@pytest.mark.parametrize("path", [*PATHS, "/login"])
async def test_every_page_of_the_demo_says_so_until_it_is_dismissed(
    start: StartProxy, show: Show, path: str
) -> None:
    proxy = await start(KEYS if path == "/login" else None, is_demo=True)
    page = await show(proxy.origin, path, viewport=PHONE)
    banner = page.get_by_role("complementary", name="Demo")
    await expect(banner).to_contain_text("small stand-in model answers")
    assert await fits_its_width(page)
    await check_accessible(page)
    await banner.get_by_role("button", name="Dismiss").click()
    await expect(banner).to_be_hidden()
    await page.reload()
    await page.wait_for_load_state("networkidle")
    await expect(banner).to_be_hidden()


async def test_only_the_demo_is_one(proxy: LiveProxy, start: StartProxy) -> None:
    assert (await proxy.client.get("/api/status")).json()["is_demo"] is False
    assert "Demo" not in (await proxy.client.get("/")).text
    demo = await start(is_demo=True)
    assert (await demo.client.get("/api/status")).json()["is_demo"] is True


async def session(proxy: LiveProxy, key: str) -> str:
    answer: httpx2.Response = await proxy.client.post("/login", data={"key": key})
    assert answer.status_code == 303
    proxy.client.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("path", PATHS)
async def test_every_module_is_named_in_the_page(proxy: LiveProxy, show: Show, path: str) -> None:
    """Or the browser learns of it only when it has read the module that imports it."""
    named = set(re.findall(r'(?:href|src)="(/ui/[^"]+\.js)"', (await proxy.client.get(path)).text))
    page = await show(proxy.origin, path)
    await page.wait_for_load_state("networkidle")
    loaded: list[str] = await page.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)"
    )
    assert {name for name in loaded if name.endswith(".js")} == named
