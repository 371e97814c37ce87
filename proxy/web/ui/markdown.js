// Markdown renderer for streamed model output, which is hostile input. marked converts it to HTML,
// DOMPurify removes everything but plain formatting, and the page's policy forbids any other HTML.

import { createCopyButton, h } from './dom.js'
import { marked } from './vendor/marked.js'
import DOMPurify from './vendor/purify.js'

const ALLOWED = {
  ALLOWED_TAGS: [
    'a',
    'b',
    'blockquote',
    'br',
    'code',
    'del',
    'em',
    'h1',
    'h2',
    'h3',
    'h4',
    'h5',
    'h6',
    'hr',
    'i',
    'li',
    'ol',
    'p',
    'pre',
    's',
    'strong',
    'sub',
    'sup',
    'table',
    'tbody',
    'td',
    'th',
    'thead',
    'tr',
    'ul',
  ],
  ALLOWED_ATTR: ['href', 'start', 'align', 'class'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
}

const HARMLESS = /^<\/?(?:br|b|i|em|strong|sub|sup)\s*\/?>$/i
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escapeHtml = (text) => text.replace(/[&<>"]/g, (character) => ENTITIES[character])

// HTML in the source is shown as text. An image becomes a link: fetching it would send data to an
// address of the model's choice.
marked.use({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => (HARMLESS.test(text.trim()) ? text : escapeHtml(text)),
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || 'image')}</a>`,
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6) // below the headings of the page
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
  for (const element of fragment.querySelectorAll('[class]')) {
    const language = /^language-([\w+#-]{1,30})$/.exec(element.className)?.[1]
    element.removeAttribute('class')
    if (language) element.dataset.language = language
  }
  for (const block of fragment.querySelectorAll('pre')) {
    const language = block.querySelector('code')?.dataset.language ?? 'text'
    const frame = h('figure', { class: 'code' })
    block.replaceWith(frame)
    block.tabIndex = 0 // scrollable by keyboard
    frame.append(
      h(
        'figcaption',
        {},
        h('span', {}, language),
        createCopyButton(() => block.textContent),
      ),
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
 * Create a function that renders Markdown into an element. It takes the whole text so far and
 * re-renders only the blocks that are new or have changed, usually the last one.
 */
export function createMarkdownRenderer(element) {
  const blocks = []
  return (text) => {
    const tokens = marked.lexer(text)
    let index = 0
    for (const token of tokens) {
      if (token.type === 'space') continue
      if (blocks[index]?.source !== token.raw) {
        const block = h('div', { class: 'block' }, render(token.raw))
        if (blocks[index]) blocks[index].block.replaceWith(block)
        else element.append(block)
        blocks[index] = { source: token.raw, block }
      }
      index += 1
    }
    for (const { block } of blocks.splice(index)) block.remove()
  }
}
