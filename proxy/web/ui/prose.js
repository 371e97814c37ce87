// Rendered Markdown as elements of the page: frames of code and tables, formulas, checkboxes.

import { createCopyButton, h } from './dom.js'
import { isDisplay } from './maths.js'
import { watchOverflow } from './overflow.js'
import { sanitizeFormatting } from './sanitize.js'

const LONG_CELL = 60 // characters
const NESTED = 'ul, ol, p, pre, blockquote, table, figure, div'

function frameCode(block) {
  const code = block.querySelector('code')
  const language = /^language-(.+)$/.exec(code.className)?.[1]
  code.removeAttribute('class')
  if (language) code.dataset.language = language
  const frame = h('figure', { class: 'code', dir: 'ltr' })
  block.replaceWith(frame)
  frame.append(
    h(
      'figcaption',
      {},
      h('span', {}, language ?? 'text'),
      createCopyButton(() => code.textContent),
    ),
    block,
  )
  watchOverflow(block, code, 'Code')
}

function frameTable(table) {
  const frame = h('div', { class: 'scroll' })
  table.replaceWith(frame)
  table.classList.add('table')
  for (const cell of table.querySelectorAll('td')) {
    if (cell.textContent.length > LONG_CELL) cell.classList.add('long')
  }
  frame.append(table)
  watchOverflow(frame, table, 'Table')
}

function placeFormula(code) {
  const source = code.textContent
  const formula = h('span', { class: 'maths', dataset: { tex: source } }, source)
  code.replaceWith(formula)
  if (isDisplay(source)) formula.classList.add('display')
}

/** Label a checkbox with the text after it. */
function labelCheckbox(box) {
  const label = h('label')
  box.closest('li')?.classList.add('task')
  box.replaceWith(label)
  while (label.nextSibling && !label.nextSibling.matches?.(NESTED)) label.append(label.nextSibling)
  label.prepend(box)
}

/** Convert the HTML of Markdown, which may be hostile, to a fragment for the page. */
export function createProse(html) {
  const fragment = sanitizeFormatting(html)
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank'
    link.rel = 'noopener noreferrer'
  }
  for (const heading of fragment.querySelectorAll('h6[class]')) {
    heading.setAttribute('aria-level', heading.className.replace('level-', ''))
  }
  // Of a block as a whole: a list would not count the text of items with a direction of their own.
  for (const block of fragment.children) {
    if (block.localName !== 'pre') block.dir = 'auto'
  }
  for (const block of fragment.querySelectorAll('pre')) frameCode(block)
  for (const table of fragment.querySelectorAll('table')) frameTable(table)
  for (const code of fragment.querySelectorAll('code.tex')) placeFormula(code)
  for (const box of fragment.querySelectorAll('input')) labelCheckbox(box)
  return fragment
}
