"""The colour scheme that the reader chooses, on all pages."""

import pytest
from playwright.async_api import Page, expect

from browser import check_accessible
from live import LiveProxy, StartProxy
from pages.conftest import Show
from proxy.web.pages import PAGES

DARK, LIGHT = "rgb(14, 17, 22)", "rgb(245, 246, 248)"


async def background(page: Page) -> str:
    colour: str = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return colour


async def test_theme_is_chosen_and_remembered(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, color_scheme="dark")
    assert await background(page) == DARK
    for before, after, colour in (
        ("system", "light", LIGHT), ("light", "dark", DARK), ("dark", "system", DARK),
        ("system", "light", LIGHT),
    ):  # fmt: skip
        await page.get_by_role("button", name=f"Theme: {before}").click()
        await expect(page.get_by_role("button", name=f"Theme: {after}")).to_be_visible()
        assert await background(page) == colour
    tab = await page.context.new_page()
    # Before the first module runs, and before the first paint.
    await tab.route("**/ui/shell.js", lambda route: route.abort())
    await tab.goto(proxy.origin + "/dashboard", wait_until="commit")
    await tab.locator("main").wait_for(state="attached")
    assert await background(tab) == LIGHT
    # The other tab follows.
    await page.get_by_role("button", name="Theme: light").click()
    await expect(tab.locator("html")).to_have_attribute("data-theme", "dark")
    await tab.close()


async def test_theme_does_without_storage(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, color_scheme="light")
    await page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked') } })"
    )
    await page.reload()
    await page.get_by_role("button", name="Theme: system").click()
    await page.get_by_role("button", name="Theme: light").click()
    assert await background(page) == DARK


@pytest.mark.parametrize("path", [page.path for page in PAGES])
async def test_chosen_theme_is_accessible(proxy: LiveProxy, show: Show, path: str) -> None:
    # On a busy machine a preloaded file may be used later than the browser expects.
    page = await show(proxy.origin, path, color_scheme="light", expected=("preload",))
    await page.get_by_role("button", name="Theme: system").click()
    await page.get_by_role("button", name="Theme: light").click()
    await page.get_by_text("no router model").wait_for()
    await check_accessible(page)


async def test_charts_follow_the_theme(proxy: LiveProxy, show: Show) -> None:
    await proxy.chat(model="auto")
    page = await show(proxy.origin, "/dashboard", color_scheme="light")
    text = page.locator("#scores .main-svg text").first
    await text.wait_for()
    before = await text.evaluate("element => getComputedStyle(element).fill")
    await page.get_by_role("button", name="Theme: system").click()
    await page.get_by_role("button", name="Theme: light").click()
    await expect(page.locator("#scores .main-svg text").first).not_to_have_css("fill", before)


async def test_login_page_has_the_theme(start: StartProxy, show: Show) -> None:
    proxy = await start({"server": {"api_keys": [{"key": "sk-team"}]}})
    page = await show(proxy.origin, "/login", color_scheme="light")
    await page.get_by_role("button", name="Theme: system").click()
    await page.get_by_role("button", name="Theme: light").click()
    assert await background(page) == DARK


async def test_removed_chart_is_freed(proxy: LiveProxy, show: Show) -> None:
    page = await show(proxy.origin, "/experiments")
    drawn, is_kept = await page.evaluate("""async () => {
      const { drawChart } = await import('/ui/charts.js')
      const drawn = []
      const frame = () => new Promise(requestAnimationFrame)
      const place = async (name) => {
        const element = document.createElement('div')
        document.querySelector('main').append(element)
        drawChart(element, () => {
          drawn.push(name)
          return { data: [{ y: [1, 2] }] }
        })
        while (!element._fullLayout) await frame()
        return element
      }
      const first = await place('first')
      first.remove()
      await place('second')
      drawn.length = 0
      document.dispatchEvent(new Event('themechange'))
      while (!drawn.length) await frame()
      return [drawn, Boolean(first._fullLayout)]
    }""")
    assert drawn == ["second"]
    assert not is_kept
