"""Renders Markdown with the pages' own renderer, and describes what came of it.

A description has one line per element, with what a reader would notice: the numbers of list items,
the alignment of cells, the levels and sizes of headings, the colors of code by their kinds, the
structure of formulas. A picture is small and grey, so that it shows layout rather than glyphs.
"""

import asyncio
import base64
import contextlib
from typing import Any, Final

from playwright.async_api import Page

from browser import PATIENCE_MS
from live import LiveProxy
from pages.conftest import Show

# Loads both libraries, and the grammars that are loaded one by one.
_WARM_UP: Final = "\\(x\\)\n\n" + "".join(
    f"```{language}\n{code}\n```\n\n"
    for language, code in (
        ("python", "None"), ("dockerfile", "FROM a"), ("latex", "\\a"), ("http", "GET / HTTP/1.1"),
    )
)  # fmt: skip

# The fonts that Debian installs with Chromium, and its font with mathematics.
_FONTS: Final = """
:root { font-family: 'DejaVu Sans'; --mono: 'DejaVu Sans Mono' }
.prose math { font-family: 'DejaVu Math TeX Gyre' }
"""

WIDTH: Final = 860  # pixels of an answer on a wide screen
_PREPARE: Final = """async ([fonts, width, warmUp]) => {
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(fonts)
  document.adoptedStyleSheets.push(sheet)
  const { createMarkdownRenderer } = await import('/ui/markdown.js')
  // The page's own scripts go on working in its content, which is hidden.
  const main = document.querySelector('#main')
  for (const child of main.children) child.style.setProperty('display', 'none', 'important')
  main.style.display = document.body.style.display = 'block'
  main.style.height = document.body.style.height = 'auto'
  main.style.overflow = document.body.style.overflow = 'visible'
  main.style.margin = main.style.padding = '0'
  const stage = document.createElement('div')
  stage.style.width = `min(${width}px, 100vw - 28px)`
  stage.style.margin = '14px'
  main.append(stage)
  window.clear = () => stage.replaceChildren()
  window.place = () => {
    const element = document.createElement('div')
    element.className = 'prose'
    stage.append(element)
    return { element, render: createMarkdownRenderer(element) }
  }
  window.renderText = (text) => {
    clear()
    place().render(text)
  }
  window.settled = () =>
    new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
  renderText(warmUp)
}"""
_WARM: Final = """document.querySelector('.prose math') &&
  [...document.querySelectorAll('.prose code')].every((code) => code.querySelector('span'))"""

_DESCRIBE: Final = """() => {
  const lines = []
  const add = (depth, ...parts) =>
    lines.push('  '.repeat(depth) + parts.filter(Boolean).join(' '))
  const quote = (text) => {
    const line = text.replace(/\\s+/g, ' ').trim()
    return line && JSON.stringify(line.length > 60 ? `${line.slice(0, 59)}…` : line)
  }
  const structure = (element) =>
    element.localName + (element.children.length
      ? `(${[...element.children].map(structure).join(' ')})`
      : element.textContent ? `=${element.textContent}` : '')
  const kinds = (code) => {
    const counts = {}
    for (const { className } of code.querySelectorAll('span')) {
      counts[className] = (counts[className] ?? 0) + 1
    }
    return Object.entries(counts).map(([name, count]) => `${name}:${count}`).join(', ')
  }
  const DETAILS = {
    a: (element) => element.href,
    input: (element) => element.checked ? 'checked' : 'open',
    li: (element) => element.parentElement.localName === 'ol' &&
      `${element.parentElement.start + [...element.parentElement.children].indexOf(element)}.`,
    td: (element, style) => style.textAlign,
    th: (element, style) => style.textAlign,
    code: (element) => element.parentElement.localName === 'pre' && kinds(element),
  }
  const visit = (node, depth) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const text = quote(node.data)
      if (text) add(depth, text)
      return
    }
    if (node.nodeType !== Node.ELEMENT_NODE || node.localName === 'button') return
    const style = getComputedStyle(node)
    if (node.dataset.tex) {
      const maths = [...node.querySelectorAll('math')].map(structure).join(' ')
      const kind = node.classList.contains('display') ? 'display' : 'inline'
      return add(depth, kind, maths || `source ${quote(node.textContent)}`)
    }
    const name = node.className && node.localName !== 'code'
      ? `${node.localName}.${node.className.replaceAll(' ', '.')}` : node.localName
    const isHeading = /^h\\d/.test(node.localName)
    add(
      depth, name, DETAILS[node.localName]?.(node, style),
      isHeading && `level ${node.ariaLevel ?? node.localName[1]} ${style.fontSize}`,
      style.direction === 'rtl' && 'rtl',
      node.localName === 'code' && node.parentElement.localName === 'pre' && quote(node.innerText),
    )
    if (node.localName === 'code' && node.parentElement.localName === 'pre') return
    for (const child of node.childNodes) visit(child, depth + 1)
  }
  for (const block of document.querySelectorAll('.prose > *')) visit(block, 0)
  return lines.join('\\n') + '\\n'
}"""

# Draws a picture in grey, in a part of its size.
_SHRINK: Final = """async ([picture, scale]) => {
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0))
  const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }))
  const canvas = new OffscreenCanvas(
    Math.round(image.width * scale), Math.round(image.height * scale))
  const context = canvas.getContext('2d')
  context.filter = 'grayscale(1)'
  context.imageSmoothingQuality = 'high'
  context.drawImage(image, 0, 0, canvas.width, canvas.height)
  const png = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())
  return btoa(Array.from(png, (byte) => String.fromCharCode(byte)).join(''))
}"""

# The share of cells of two pictures, of some pixels each, whose ink differs.
_COMPARE: Final = """async (pictures) => {
  const CELL = 6, INK = 12
  const [first, second] = await Promise.all(pictures.map(async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0))
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }))
    const context = new OffscreenCanvas(image.width, image.height).getContext('2d')
    context.drawImage(image, 0, 0)
    return context.getImageData(0, 0, image.width, image.height)
  }))
  if (Math.abs(first.width - second.width) > 1) return 1
  if (Math.abs(first.height - second.height) > 3) return 1
  const ink = ({ data, width, height }, x, y) => {
    let sum = 0
    for (let v = y; v < Math.min(y + CELL, height); v += 1)
      for (let u = x; u < Math.min(x + CELL, width); u += 1) sum += data[4 * (v * width + u)]
    return sum / CELL ** 2
  }
  let cells = 0, differing = 0
  for (let y = 0; y + CELL <= Math.min(first.height, second.height); y += CELL)
    for (let x = 0; x + CELL <= Math.min(first.width, second.width); x += CELL) {
      const [one, two] = [ink(first, x, y), ink(second, x, y)]
      if (one > 250 && two > 250) continue
      cells += 1
      if (Math.abs(one - two) > INK) differing += 1
    }
  return differing / Math.max(cells, 1)
}"""

SCALE: Final = 0.3


async def open_renderer(show: Show, proxy: LiveProxy, **settings: Any) -> Page:
    """Open a page with nothing but room for an answer, and with both libraries loaded."""
    page = await show(proxy.origin, **settings)
    await page.evaluate(_PREPARE, [_FONTS, WIDTH, _WARM_UP])
    await wait_until(page, _WARM)
    return page


async def wait_until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition. Playwright's own wait is forbidden by the page's policy."""
    async with asyncio.timeout(PATIENCE_MS / 1_000):
        while not await page.evaluate(f"Boolean({condition})"):
            await page.evaluate("() => settled()")


async def render(page: Page, text: str) -> None:
    """Show the text as an answer, in place of the one before."""
    await page.evaluate("async (text) => { renderText(text); await settled() }", text)


async def describe(page: Page) -> str:
    description: str = await page.evaluate(_DESCRIBE)
    return description


async def take_picture(page: Page) -> bytes:
    picture = await page.locator(".prose").screenshot(animations="disabled")
    small = await page.evaluate(_SHRINK, [base64.b64encode(picture).decode(), SCALE])
    return base64.b64decode(small)


async def compare_pictures(page: Page, *pictures: bytes) -> float:
    """The share of the places with ink where two pictures differ."""
    share: float = await page.evaluate(
        _COMPARE, [base64.b64encode(picture).decode() for picture in pictures]
    )
    return share


# Two renderers side by side: one is given each text at once, the other in pieces.
_STREAM: Final = """async ([texts, size]) => {
  clear()
  window.pairs = texts.map((text) => {
    const whole = place()
    whole.render(text)
    const streamed = place()
    for (let end = size; end < text.length + size; end += size) {
      streamed.render(text.slice(0, end))
    }
    return [whole.element, streamed.element]
  })
}"""
_DIFFERENT: Final = """pairs.flatMap(([whole, streamed], index) =>
  whole.innerHTML === streamed.innerHTML ? [] : [index])"""


async def stream_all(page: Page, texts: list[str], size: int) -> list[int]:
    """Show texts at once and in pieces. Returns the numbers of those that end up different."""
    await page.evaluate(_STREAM, [texts, size])
    with contextlib.suppress(TimeoutError):
        await wait_until(page, f"{_DIFFERENT}.length === 0")
    different: list[int] = await page.evaluate(_DIFFERENT)
    return different


# Counts what the renderer reads and makes, while a text comes in pieces of four characters.
_COUNT_WORK: Final = """async (text) => {
  const { Lexer } = await import('/ui/vendor/marked.js')
  const library = (await import('/ui/vendor/highlight.js')).default
  clear()
  const { element, render } = place()
  const work = { read: 0, made: 0, highlighted: 0 }
  const { blockTokens } = Lexer.prototype
  const { highlight } = library
  const observer = new MutationObserver(() => {})
  observer.observe(element, { childList: true, subtree: true })
  Lexer.prototype.blockTokens = function (source, ...rest) {
    work.read += source.length
    return blockTokens.call(this, source, ...rest)
  }
  library.highlight = (code, ...rest) => {
    work.highlighted += code.length
    return highlight.call(library, code, ...rest)
  }
  try {
    for (let end = 4; end < text.length + 4; end += 4) {
      render(text.slice(0, end))
      for (const { addedNodes } of observer.takeRecords()) {
        for (const node of addedNodes) work.made += 1 + (node.querySelectorAll?.('*').length ?? 0)
      }
    }
  } finally {
    observer.disconnect()
    Lexer.prototype.blockTokens = blockTokens
    library.highlight = highlight
  }
  return work
}"""


async def count_work(page: Page, text: str) -> dict[str, int]:
    """What the renderer does for a text in pieces: characters read and highlighted, nodes made."""
    work: dict[str, int] = await page.evaluate(_COUNT_WORK, text)
    return work
