// Markdown to HTML by marked: GitHub's dialect with formulas and footnotes. HTML in the source is
// shown as text, but for a few tags without attributes.

import { createMathsSyntax, maskFormulas } from './maths-syntax.js'
import { Lexer, marked } from './vendor/marked.js'

const HARMLESS = /^<\/?(?:br|b|i|u|s|em|strong|del|ins|sub|sup|kbd|mark|small)\s*\/?>$/i
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escapeHtml = (text) => text.replace(/[&<>"]/g, (character) => ENTITIES[character])

const FOOTNOTE = /^\[\^([^\]\s]{1,40})\]:[ \t]*([^\n]*(?:\n(?!\s*\[\^)[ \t]*\S[^\n]*)*)(?:\n|$)/
const REFERENCE = /^\[\^([^\]\s]{1,40})\](?!:)/

const FOOTNOTES = {
  extensions: [
    {
      name: 'footnote',
      level: 'block',
      start: (source) => source.match(/\n(?=\[\^[^\]\s]{1,40}\]:)/)?.index + 1 || undefined,
      tokenizer(source) {
        const match = FOOTNOTE.exec(source)
        if (!match) return undefined
        const [raw, label, text] = match
        const tokens = []
        this.lexer.inline(text, tokens)
        return { type: 'footnote', raw, label, tokens }
      },
      renderer({ label, tokens }) {
        const text = this.parser.parseInline(tokens)
        return `<div class="footnote"><sup>${escapeHtml(label)}</sup> ${text}</div>\n`
      },
    },
    {
      name: 'footnoteReference',
      level: 'inline',
      start: (source) => source.match(/\[\^/)?.index,
      tokenizer(source) {
        const match = REFERENCE.exec(source)
        return match && { type: 'footnoteReference', raw: match[0], label: match[1] }
      },
      renderer: ({ label }) => `<sup class="footnote">${escapeHtml(label)}</sup>`,
    },
  ],
}

// The text of formulas has no emphasis: * and _ mean other things there. marked passes its hook a
// text without escapes, so the lexer keeps the original one.
let inline = ''

class FormulaLexer extends Lexer {
  inlineTokens(source, tokens) {
    const outer = inline
    inline = source
    try {
      return super.inlineTokens(source, tokens)
    } finally {
      inline = outer
    }
  }
}

marked.use(createMathsSyntax(escapeHtml), FOOTNOTES, {
  gfm: true,
  breaks: true,
  hooks: { emStrongMask: (masked) => maskFormulas(inline, masked) },
  renderer: {
    html({ text, block }) {
      if (HARMLESS.test(text.trim())) return text
      return block ? `<div class="source">${escapeHtml(text)}</div>\n` : escapeHtml(text)
    },
    // Fetching an image would send data to an address of the model's choice.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || 'image')}</a>`,
    heading({ tokens, depth }) {
      const level = depth + 2 // below the headings of the page
      const text = this.parser.parseInline(tokens)
      return level > 6
        ? `<h6 class="level-${level}">${text}</h6>\n`
        : `<h${level}>${text}</h${level}>\n`
    },
  },
})

/**
 * Split Markdown into its blocks, without their inline content.
 *
 * @returns tokens of marked; `links` are the addresses that the text defines for its references
 */
export const splitBlocks = (source) => {
  const lexer = new FormulaLexer(marked.defaults)
  return lexer.blockTokens(source, lexer.tokens)
}

/** Convert Markdown to HTML, which is not safe yet. */
export function toHtml(source, links = {}) {
  const lexer = new FormulaLexer(marked.defaults)
  Object.assign(lexer.tokens.links, links)
  return marked.parser(lexer.lex(source), marked.defaults)
}
