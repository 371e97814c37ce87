// Markdown renderer for streamed answers of models, which are hostile input. marked converts them to
// HTML, DOMPurify removes everything but plain formatting, and the page's policy forbids any other
// HTML.

import { h } from './dom.js'
import { createHighlighter, GROWTH } from './highlighting.js'
import { splitBlocks, toHtml } from './markdown-syntax.js'
import { createTypesetter } from './maths.js'
import { createProse } from './prose.js'

const QUIET_MS = 300 // after this time without new text, code is highlighted to its end

const LINE_BREAKS = /\r\n?/g
const ENDS_WITH_BLANK_LINE = /\n[ \t]*\n[ \t]*$/
const FENCE = /^(`{3,}|~{3,})([^\n]*)\n/
const TABLE_HEAD = /^[^\n]*\n[^\n]*(?:\n|$)/
// What is settled: its text, its number of blocks, and what to put before the rest to read it.
const NOTHING = { text: '', blocks: 0, prefix: '' }
const MARKER = /^ {0,3}(?:[-*+]|(\d{1,9})([.)]))/

/** Whether the text that precedes a position ends with an empty line. */
const followsBlankLine = (text, position) =>
  ENDS_WITH_BLANK_LINE.test(text.slice(Math.max(position - 80, 0), position))

/**
 * Create a function that renders Markdown into an element. It takes the whole text so far.
 *
 * A text that grows costs work in proportion to its length: blocks that no later text can change are
 * settled and not read again, of a list or table all items or rows but the last are, and code is
 * appended to.
 */
export function createMarkdownRenderer(element) {
  const tools = { highlight: createHighlighter(), typeset: createTypesetter(), links: {} }
  const blocks = []
  let previous = ''
  let settled = NOTHING
  let quiet = null

  function update(text) {
    if (!text.startsWith(settled.text)) settled = NOTHING
    const last = blocks.at(-1)
    if (last?.append && text.startsWith(previous) && last.append(text.slice(previous.length)))
      return
    const tokens = splitBlocks(settled.prefix + text.slice(settled.text.length))
    for (const label of addLinks(tools.links, tokens.links)) {
      for (const block of blocks) block.refresh?.(label)
    }
    let index = settled.blocks
    const afterBlankLine = followsBlankLine(settled.text, settled.text.length)
    for (const token of tokens) {
      if (token.type === 'space' || token.type === 'def') continue
      const isFirst = index === settled.blocks
      if (!blocks[index]?.update(token, { afterBlankLine: isFirst && afterBlankLine })) {
        const block = createBlock(token, tools)
        if (blocks[index]) blocks[index].element.replaceWith(block.element)
        else element.append(block.element)
        blocks[index] = block
      }
      index += 1
    }
    for (const block of blocks.splice(index)) block.element.remove()
    settle(text, tokens)
  }

  /** Settle what precedes the last block, or the last item or row of the last block. */
  function settle(text, tokens) {
    let position = settled.text.length
    let index = settled.blocks
    let next = settled
    const visible = tokens.findLastIndex(({ type }) => type !== 'space' && type !== 'def')
    for (const [number, token] of tokens.entries()) {
      const raw = number ? token.raw : token.raw.slice(settled.prefix.length)
      if (!text.startsWith(raw, position)) return
      if (token.type !== 'space' && token.type !== 'def') {
        const isLineComplete = number < visible || token.raw.includes('\n')
        if (number && isLineComplete && followsBlankLine(text, position)) {
          next = { text: text.slice(0, position), blocks: index, prefix: '' }
        }
        if (number === visible && blocks[index].settle) {
          const { length, prefix } = blocks[index].settle(token, raw)
          if (length) next = { text: text.slice(0, position + length), blocks: index, prefix }
        }
        index += 1
      }
      position += raw.length
    }
    settled = next
  }

  function finish() {
    for (const block of blocks.slice(-1)) block.finish?.()
  }

  return (text) => {
    const source = text.includes('\r') ? text.replace(LINE_BREAKS, '\n') : text
    if (source === previous) return
    try {
      update(source)
    } catch {
      // Nested too deeply to be read.
      blocks.splice(0)
      settled = NOTHING
      element.replaceChildren(h('div', { class: 'block source' }, source))
    }
    previous = source
    clearTimeout(quiet)
    quiet = setTimeout(finish, QUIET_MS)
  }
}

/** Add the addresses that a text defines, and return the labels of the new ones. */
function addLinks(known, found) {
  const labels = Object.keys(found).filter((label) => known[label]?.href !== found[label].href)
  for (const label of labels) known[label] = found[label]
  return labels
}

function createBlock(token, tools) {
  if (token.type === 'list') return createList(token, tools)
  if (token.type === 'table') return createTable(token, tools)
  if (token.type === 'code' && FENCE.test(token.raw)) return createCode(token, tools)
  return createOther(token, tools)
}

/** Render Markdown to a fragment. Code in it may still grow. */
function render(source, { highlight, typeset, links }, options) {
  const fragment = createProse(toHtml(source, links))
  for (const code of fragment.querySelectorAll('pre > code')) highlight(code, options)
  typeset([...fragment.querySelectorAll('[data-tex]')])
  return fragment
}

/** A block that is rendered anew when it changes. */
function createOther(token, tools) {
  const element = h('div', { class: 'block' })
  let source = null

  const show = (text, options) => {
    source = text
    element.replaceChildren(render(text, tools, options))
  }
  const update = ({ type, raw }) => {
    if (type === 'list' || type === 'table') return false
    if (type === 'code' && FENCE.test(raw)) return false
    const text = raw.trimEnd()
    if (text !== source) show(text)
    return true
  }
  update(token)
  return {
    element,
    update,
    refresh(label) {
      if (source.toLowerCase().includes(`[${label}]`)) show(source)
    },
    finish() {
      for (const code of element.querySelectorAll('pre > code')) {
        tools.highlight(code, { isComplete: true })
      }
    },
  }
}

/** A fenced code block, whose text grows at its end. */
function createCode(token, tools) {
  const element = h('div', { class: 'block' })
  const [opening, fence, info] = FENCE.exec(token.raw)
  const mark = fence[0]
  const closing = new RegExp(`\\n {0,3}\\${mark}{${fence.length},}[ \\t]*\\n*$`)
  element.append(createProse(toHtml(`${fence}${info}\n${fence}`)))
  const code = element.querySelector('code')
  let text = null
  let isOpen = true
  let highlightAt = 0 // at this length

  function highlight(options) {
    const length = tools.highlight(code, options)
    highlightAt = (length || text.length) * GROWTH
  }
  const update = ({ type, raw, text: content }) => {
    if (type !== 'code' || !raw.startsWith(opening)) return false
    isOpen = !closing.test(raw)
    const current = isOpen ? raw.slice(opening.length) : `${content.replace(/\n$/, '')}\n`
    if (current !== text || !isOpen) {
      text = current
      if (code.textContent !== text) code.replaceChildren(text)
      highlight({ isComplete: !isOpen })
    }
    return true
  }
  update(token)
  return {
    element,
    update,
    /** Append to the code, unless the addition may close it. */
    append(addition) {
      if (!isOpen || addition.includes(mark)) return false
      text += addition
      code.append(addition)
      if (text.length >= highlightAt) highlight()
      return true
    },
    finish: () => highlight({ isComplete: true }),
  }
}

/** A list, of which the items that have changed are rendered anew. */
function createList(token, tools) {
  const list = h(token.ordered ? 'ol' : 'ul', {
    dir: 'auto',
    start: token.ordered && token.start !== 1 ? token.start : null,
  })
  const element = h('div', { class: 'block' }, list)
  const marker = findMarker(token)
  const items = []
  let isLoose = false
  let settledItems = 0

  function renderItem(source, options) {
    // A list is loose by its items together: a second one shows it.
    const context = isLoose ? `${source}\n\n${/^ */.exec(source)[0]}${marker} .` : source
    const fragment = render(context, tools, options)
    return fragment.querySelector('li')
  }
  function show(index, source, options) {
    const item = renderItem(source, options)
    if (items[index]) items[index].element.replaceWith(item)
    else list.append(item)
    items[index] = { source, element: item }
  }
  const update = (current, { afterBlankLine = false } = {}) => {
    if (current.type !== 'list' || findMarker(current) !== marker) return false
    if (!settledItems && current.ordered && current.start !== token.start) return false
    const becomesLoose = !isLoose && (current.loose || (settledItems > 0 && afterBlankLine))
    if (becomesLoose) {
      isLoose = true
      for (const [index, { source }] of items.entries()) show(index, source)
    }
    let index = settledItems
    for (const { raw } of current.items) {
      const source = raw.trimEnd()
      if (items[index]?.source !== source) show(index, source)
      index += 1
    }
    for (const { element: item } of items.splice(index)) item.remove()
    return true
  }
  update(token)
  return {
    element,
    update,
    /** Settle the items that no later text can change, and return the length of their text. */
    settle({ items: current }) {
      const count = Math.max(current.length - (current.at(-1).raw.includes('\n') ? 1 : 2), 0)
      settledItems += count
      const length = current.slice(0, count).reduce((sum, { raw }) => sum + raw.length, 0)
      return { length, prefix: '' }
    },
    refresh(label) {
      for (const [index, { source }] of items.entries()) {
        if (source.toLowerCase().includes(`[${label}]`)) show(index, source)
      }
    },
    finish() {
      for (const code of list.lastElementChild.querySelectorAll('pre > code')) {
        tools.highlight(code, { isComplete: true })
      }
    },
  }
}

/** A table, of which the rows that have changed are rendered anew. */
function createTable(token, tools) {
  const head = findHead(token.raw)
  const element = h('div', { class: 'block' }, render(head, tools))
  const body = h('tbody')
  element.querySelector('table').append(body)
  const rows = []
  let settledRows = 0

  function show(index, source) {
    const row = render(`${head}\n${source}`, tools).querySelector('tbody > tr')
    if (rows[index]) rows[index].element.replaceWith(row)
    else body.append(row)
    rows[index] = { source, element: row }
  }
  const update = ({ type, raw }) => {
    if (type !== 'table' || findHead(raw) !== head) return false
    let index = settledRows
    for (const source of raw.replace(TABLE_HEAD, '').trimEnd().split('\n')) {
      if (source && rows[index]?.source !== source) show(index, source)
      if (source) index += 1
    }
    for (const { element: row } of rows.splice(index)) row.remove()
    return true
  }
  update(token)
  return {
    element,
    update,
    /** Settle all rows but the last, and return the length of their text. */
    settle({ raw }, addition) {
      const text = raw.replace(TABLE_HEAD, '')
      const end = text.trimEnd().lastIndexOf('\n') + 1
      if (!end) return { length: 0, prefix: '' }
      settledRows += text.slice(0, end).split('\n').length - 1
      return { length: addition.length - text.length + end, prefix: `${head}\n` }
    },
    refresh(label) {
      for (const [index, { source }] of rows.entries()) {
        if (source.toLowerCase().includes(`[${label}]`)) show(index, source)
      }
    },
  }
}

/** The first two lines of a table: its headings and alignment. */
const findHead = (raw) => TABLE_HEAD.exec(raw)[0].trimEnd()

/** The kind of marker of a list's items; another kind begins another list. */
function findMarker({ ordered, items }) {
  const [marker, , delimiter] = MARKER.exec(items[0].raw)
  return ordered ? `1${delimiter}` : marker.trim()
}
