// Markdown of a model, shown while it comes. It is hostile: marked makes HTML of it, DOMPurify
// takes out all but plain formatting, and the page's policy lets nobody else make any.

import { marked } from './vendor/marked.js'
import DOMPurify from './vendor/purify.js'
import { copyButton, h } from './dom.js'

const ALLOWED = {
  ALLOWED_TAGS: [
    'a', 'b', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'i',
    'li', 'ol', 'p', 'pre', 's', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
  ],
  ALLOWED_ATTR: ['href', 'start', 'align', 'class'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
}

const HARMLESS = /^<\/?(?:br|b|i|em|strong|sub|sup)\s*\/?>$/i
const MARKS = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (text) => text.replace(/[&<>"]/g, (mark) => MARKS[mark])

// HTML of a model's is shown as it is written. An image would be fetched from wherever the model
// says, with what it put into the address: it becomes a link.
marked.use({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => (HARMLESS.test(text.trim()) ? text : escaped(text)),
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || 'image')}</a>`,
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6) // below those of the page
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`
    },
  },
})

function render(source) {
  const fragment = DOMPurify.sanitize(marked.parse(source), ALLOWED)
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank'
    link.rel = 'noopener noreferrer'
  }
  for (const one of fragment.querySelectorAll('[class]')) {
    const language = /^language-([\w+#-]{1,30})$/.exec(one.className)?.[1]
    one.removeAttribute('class')
    if (language) one.dataset.language = language
  }
  for (const block of fragment.querySelectorAll('pre')) {
    const language = block.querySelector('code')?.dataset.language ?? 'text'
    const frame = h('figure', { class: 'code' })
    block.replaceWith(frame)
    block.tabIndex = 0 // it may scroll
    frame.append(
      h('figcaption', {}, h('span', {}, language), copyButton(() => block.textContent)),
      block,
    )
  }
  for (const table of fragment.querySelectorAll('table')) {
    const frame = h('div', { class: 'scroll', tabindex: 0 })
    table.replaceWith(frame)
    table.classList.add('table')
    frame.append(table)
  }
  return fragment
}

/**
 * Shows markdown in an element. The function that is returned takes the whole text so far; only the
 * blocks that are new or have changed, usually the last one, are made anew.
 */
export function markdownIn(element) {
  const blocks = []
  return (text) => {
    const tokens = marked.lexer(text)
    let place = 0
    for (const token of tokens) {
      if (token.type === 'space') continue
      if (blocks[place]?.source !== token.raw) {
        const block = h('div', { class: 'block' }, render(token.raw))
        if (blocks[place]) blocks[place].block.replaceWith(block)
        else element.append(block)
        blocks[place] = { source: token.raw, block }
      }
      place += 1
    }
    for (const { block } of blocks.splice(place)) block.remove()
  }
}
