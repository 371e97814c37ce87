"""Answers of models in a real browser: how they look, and what it costs to show them.

`answers/` has answers as models write them, each with a description of its elements and a small
picture. `make answers` records both anew.
"""

import difflib
import os
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from browser import check_accessible, fits_its_width
from fakes import EASY, FakeUpstream, chunk, chunked, event
from live import LiveProxy
from pages.conftest import Show
from pages.rendering import (
    compare_pictures,
    count_work,
    describe,
    open_renderer,
    render,
    stream_all,
    take_picture,
)

ANSWERS: Final = Path(__file__).with_name("answers")
NAMES: Final = sorted(path.stem for path in ANSWERS.glob("*.md"))
RECORD: Final = bool(os.environ.get("RECORD_ANSWERS"))
# Their characters are not in the fonts that Debian installs with Chromium.
WITHOUT_PICTURE: Final = {"chinese", "emojis", "email_draft", "japanese"}
TOLERANCE: Final = 0.02  # of the places with ink
PHONE: Final = {"width": 390, "height": 844}
DESKTOP: Final = {"width": 1440, "height": 900}


def read(name: str, suffix: str = ".md") -> str:
    return (ANSWERS / f"{name}{suffix}").read_text(encoding="utf-8")


@pytest.mark.needs("maths-font")
async def test_answers_are_rendered_as_recorded(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, viewport=DESKTOP)
    differences = []
    for name in NAMES:
        await render(page, read(name))
        description, picture = await describe(page), await take_picture(page)
        if RECORD:
            (ANSWERS / f"{name}.txt").write_text(description, encoding="utf-8")
            if name not in WITHOUT_PICTURE:
                (ANSWERS / f"{name}.png").write_bytes(picture)
            continue
        recorded = read(name, ".txt").splitlines()
        differences += difflib.unified_diff(
            recorded, description.splitlines(), f"{name}.txt", f"{name}, now", lineterm="", n=1
        )
        if name not in WITHOUT_PICTURE:
            share = await compare_pictures(page, (ANSWERS / f"{name}.png").read_bytes(), picture)
            if share > TOLERANCE:
                differences.append(f"{name}.png: {share:.1%} of the picture differ")
    assert not differences, "\n".join(differences)


async def test_streamed_answers_end_up_as_whole_ones(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    for size in (1, 4, 61):
        different = await stream_all(page, [read(name) for name in NAMES], size)
        assert not [NAMES[index] for index in different], size


# Without the last character, as a model that was cut off leaves them.
async def test_cut_off_answers_end_up_as_whole_ones(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    texts = [text[: len(text) * 2 // 3] for text in map(read, NAMES)]
    different = await stream_all(page, texts, 4)
    assert not [NAMES[index] for index in different]


BEGINNINGS: Final = {"code": "```python\n", "table": "| a | b | c |\n|---|:-:|--:|\n"}
LINES: Final = {
    "paragraphs": "A paragraph with **bold** text, `code` and \\(x_{}\\), of the usual length.\n\n",
    "list": "- Item {} of the list, with **bold** text and `code`.\n",
    "loose list": "{}. Item of the list, with **bold** text and `code`.\n\n   And more of it.\n\n",
    "code": "value_{0} = compute('text', {0})  # a comment\n",
    "table": "| Row {} | with **bold** text | and `code` |\n",
    "headings": "## Heading {}\n\nText below.\n\n",
}


async def test_work_grows_with_the_length_of_an_answer(proxy: LiveProxy, show: Show) -> None:
    """In proportion: four times the text is not sixteen times the work."""
    page = await open_renderer(show, proxy)

    async def work_for(kind: str, length: int) -> dict[str, int]:
        text, number = BEGINNINGS.get(kind, ""), 1
        while len(text) < length:
            text += LINES[kind].format(number)
            number += 1
        return await count_work(page, text)

    for kind in LINES:
        quarter, whole = await work_for(kind, 5_000), await work_for(kind, 20_000)
        assert whole["made"] > 0
        for part, amount in whole.items():
            assert amount <= 5 * quarter[part] + 2_000, (kind, part, quarter, whole)


# --- lists, tables and headings ---


STEPS: Final = (
    "1. First:\n\n```bash\na\n```\n\n2. Second:\n\n```bash\nb\n```\n\n3. Third\n\n"
    "| n | ms |\n|:-:|---:|\n| a | 12 |\n"
)


async def test_streamed_steps_count_on_and_cells_are_aligned(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    pieces = [STEPS[start : start + 4] for start in range(0, len(STEPS), 4)]
    local.answer = chunked(
        *(event(chunk({"content": piece})) for piece in pieces),
        event(chunk({}, "stop")), event(b"[DONE]"),
    )  # fmt: skip
    page = await show(proxy.origin)
    await page.get_by_label("Message").fill(EASY)
    await page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Answer")
    await expect(answer).to_have_attribute("aria-busy", "false")
    starts = await answer.locator("ol").evaluate_all("lists => lists.map(list => list.start)")
    assert starts == [1, 2, 3]
    sides = "cells => cells.map(cell => getComputedStyle(cell).textAlign)"
    assert await answer.locator("th").evaluate_all(sides) == ["center", "right"]
    assert await answer.locator("td").evaluate_all(sides) == ["center", "right"]


async def test_tables_scroll_instead_of_breaking_words(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, viewport=PHONE)
    await render(page, read("table_wide"))
    frame = page.get_by_role("group", name="Table")
    await expect(frame).to_have_attribute("tabindex", "0")
    assert await frame.evaluate("frame => frame.scrollWidth > frame.clientWidth")
    # The lines of a word, by the boxes of its text.
    lines = await page.get_by_role("cell", name="Canberra").evaluate(
        """cell => {
          const range = document.createRange()
          range.selectNodeContents(cell)
          return new Set([...range.getClientRects()].map(({ top }) => top)).size
        }"""
    )
    assert lines == 1
    assert await fits_its_width(page)
    await render(page, "| a | b |\n|---|---|\n| 1 | 2 |\n")
    await expect(page.locator(".prose [tabindex]")).to_have_count(0)


async def test_answers_fit_a_phone(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, viewport=PHONE)
    for name in NAMES:
        await render(page, read(name))
        assert await fits_its_width(page), name


async def test_headings_are_larger_than_text_and_below_those_of_the_page(
    proxy: LiveProxy, show: Show
) -> None:
    page = await open_renderer(show, proxy)
    await render(page, "".join(f"{'#' * level} H\n\n" for level in range(1, 7)) + "Text\n")
    sizes = await page.locator(".prose :is(h3, h4, h5, h6, p)").evaluate_all(
        "elements => elements.map(element => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes[:6]) > sizes[6]
    assert sizes[0] < 1.35 * 15  # an h1 of the page
    levels = await page.locator(".prose :is(h3, h4, h5, h6)").evaluate_all(
        "headings => headings.map(({ ariaLevel, localName }) => ariaLevel ?? localName[1])"
    )
    assert levels == ["3", "4", "5", "6", "7", "8"]


async def test_task_lists_keep_their_state(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    await render(page, read("task_list"))
    for name, is_checked in (
        ("Write the announcement", True), ("Update the pricing page", True),
        ("Schedule the e-mail", False), ("Draft", True), ("Review by legal", False),
    ):  # fmt: skip
        box = page.get_by_role("checkbox", name=name, exact=True)
        await expect(box).to_be_checked(checked=is_checked)
        await expect(box).to_be_disabled()


async def test_right_to_left_text_is_set_so(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    await render(page, read("hebrew_and_english"))
    direction = "element => getComputedStyle(element).direction"
    assert await page.locator(".prose ul").evaluate(direction) == "rtl"
    assert await page.locator(".prose pre").evaluate(direction) == "ltr"
    assert await page.locator(".prose p").last.evaluate(direction) == "ltr"


# --- formulas ---


async def test_money_and_code_are_no_formulas(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    for text in (
        "It costs $5 and $10.", "From $5-$10, or $5/$10.", "US$5 and A$10$", "5$ here, 10$ there",
        "$5 for one and 3$ for two", "Set $HOME and $PATH.", "$HOME/$USER", "$ 5 $", "($5, $10)",
        "$.50/$.75", "$1,000 (or $2,000)", "`$x$` and `\\(x\\)`", "A price of $20\n\nand $30",
        "| a | b |\n|---|---|\n| $5 | $6 |",
    ):  # fmt: skip
        await render(page, text)
        assert await page.locator(".prose [data-tex]").count() == 0, text


async def test_formulas_are_typeset(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    for text, count in (
        ("\\(x\\)", 1), ("\\[x\\]", 1), ("$x$", 1), ("$$x$$", 1), ("$$\nx\n$$", 1),
        ("We have\n\\[\na\n- b\n\\]\nso", 1), ("$x$, $y$ and $z$.", 3), ("($n$)", 1),
        ("| a |\n|---|\n| \\(x\\) |", 1), ("# On \\(x\\)", 1), ("- \\[x\\]", 1),
        ("1. Then\n\n   $$\n   x\n   $$", 1), ("> \\(x\\)", 1), ("**\\(x\\)**", 1),
        ("\\begin{align}\na &= b\n\\end{align}", 1), ("$12n$ and $3x^2$", 2),
        ("\\begin{eqnarray*}\na &=& b\n\\end{eqnarray*}", 1), ("\\[x\\].", 1),
        ("\\begin{flalign}\na &= b\n\\end{flalign}", 1), ("*a \\(b*c\\) d*", 1),
    ):  # fmt: skip
        await render(page, text)
        assert await page.locator(".prose [data-tex]:has(math)").count() == count, text


async def test_unfinished_formulas_stay_text(proxy: LiveProxy, show: Show) -> None:
    """Also when Markdown would take parts of them for emphasis, lists or escapes."""
    page = await open_renderer(show, proxy)
    for text in (
        "so \\(a_1 *b* c_2", "so \\[a_1 *b* \\, c_2", "\\[\na\n- b\n= c", "$$\na *b*\n- c",
        "then\n\\begin{align}\na &= *b*\n- c",
    ):  # fmt: skip
        await render(page, text)
        assert (await page.locator(".prose").inner_text()).split() == text.split()
        await expect(page.locator(".prose :is(em, li, h3, math)")).to_have_count(0)


async def test_refused_formulas_show_their_source(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    for tex in (
        "\\href{https://evil.example}{x}", "\\url{https://evil.example}", "\\frac{1}{2",
        "\\includegraphics{https://evil.example/x.png}", "\\class{main}{x}", "\\id{main}{x}",
        "\\style{position:fixed}{x}", "\\def\\a{\\a\\a}\\a", "{" * 3_000 + "}" * 3_000,
        "\\sqrt{" * 200 + "x" + "}" * 200, "\\def\\a{" + "x" * 1_000 + "}" + "\\a" * 900,
        "x" * 9_000, "\\begin{nothing}x\\end{nothing}", "\\unknown",
    ):  # fmt: skip
        source = f"\\({tex}\\) after"
        await render(page, source)
        assert await page.locator(".prose math").count() == 0, tex
        assert await page.locator(".prose").inner_text() == source


async def test_huge_formulas_stay_in_their_boxes(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, viewport=PHONE)
    for tex in (
        "\\rule{9999em}{9999em}", "x\\kern-9999em x", "x\\hspace{-9999em}x", "\\Huge{X}",
        "\\raisebox{9999em}{x}", "\\raisebox{-9999em}{x}", "\\rlap{" + "x" * 500 + "}",
        "x\\llap{" + "x" * 500 + "}",
    ):  # fmt: skip
        await render(page, f"Before.\n\n\\[{tex}\\]\n\nIn a line \\({tex}\\) of text.")
        assert await page.locator(".prose [data-tex]:has(math)").count() == 2, tex
        assert await fits_its_width(page), tex
        height = await page.locator(".prose").evaluate("prose => prose.offsetHeight")
        assert height < 1_000, tex


async def test_references_and_labels_name_nothing(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    await render(page, "\\[x \\label{main} \\tag{1}\\] and \\(\\ref{main}\\)")
    await expect(page.locator(".prose [id], .prose [href]")).to_have_count(0)
    await expect(page.locator("#main")).to_have_count(1)


async def test_copied_formulas_are_tex(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, permissions=["clipboard-read", "clipboard-write"])
    await render(page, "The sum \\(\\frac{a}{b}\\) is\n\n\\[x^2\\]\n\nhere.")
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('.prose'))")
    await page.keyboard.press("Control+c")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.split() == "The sum \\(\\frac{a}{b}\\) is \\[x^2\\] here.".split()
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('mfrac'))")
    await page.keyboard.press("Control+c")
    assert await page.evaluate("navigator.clipboard.readText()") == "\\(\\frac{a}{b}\\)"


# --- code ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_answers_are_accessible(proxy: LiveProxy, show: Show, scheme: str) -> None:
    """With enough contrast for all colors of code, and focus for everything that scrolls."""
    page = await open_renderer(show, proxy, color_scheme=scheme, viewport=PHONE)
    for name in NAMES:
        if name != "maths_accents":  # has a color of the model
            await page.evaluate("text => place().render(text)", read(name))
    await page.evaluate("() => settled()")
    await check_accessible(page)


async def test_growing_code_is_highlighted_to_its_end(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    text = "```python\n" + "x = 1\n" * 20
    assert await stream_all(page, [text, f"- a\n\n  {text}".replace("\n", "\n  ")], 4) == []
    await expect(page.locator(".prose").nth(1).locator(".hljs-number")).to_have_count(20)


async def test_unknown_languages_and_mermaid_stay_plain(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    await render(page, "```mermaid\ngraph TD\n```\n\n```nonsense\nif x\n```\n\n```\nif x\n```\n")
    assert await page.locator(".prose figcaption > span").all_inner_texts() == [
        "mermaid", "nonsense", "text",
    ]  # fmt: skip
    await expect(page.locator(".prose pre span")).to_have_count(0)


# --- hostile text, and costs ---


async def test_deep_nesting_is_shown_as_text(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy)
    for text in (">" * 20_000 + " deep", "- " * 20_000 + "deep", "[" * 20_000 + "deep"):
        await render(page, text)
        assert "deep" in await page.locator(".prose").inner_text()
    await render(page, "Fine **again**.")
    await expect(page.locator(".prose strong")).to_have_text("again")


async def test_libraries_are_loaded_with_the_first_use(
    proxy: LiveProxy, show: Show, local: FakeUpstream
) -> None:
    local.answer = chunked(event(chunk({"content": "Just *text*."})), event(b"[DONE]"))
    page = await show(proxy.origin)
    await page.get_by_label("Message").fill(EASY)
    await page.keyboard.press("Enter")
    await page.locator(".answer em").wait_for()
    resources = (
        "performance.getEntriesByType('resource').concat("
        "performance.getEntriesByType('navigation'))"
        ".map(({ name, transferSize }) => [name, transferSize])"
    )
    loaded = dict(await page.evaluate(resources))
    assert not [name for name in loaded if "temml" in name or "highlight.js" in name]
    assert sum(loaded.values()) < 150_000
    local.answer = chunked(
        event(chunk({"content": "```python\nNone\n```\n\n\\(x\\)"})), event(b"[DONE]")
    )
    await page.get_by_label("Message").fill(EASY)
    await page.keyboard.press("Enter")
    await page.locator(".answer math").wait_for()
    await page.locator(".answer .hljs-literal").wait_for()
