// The syntax of formulas in Markdown: \( … \), \[ … \], $ … $, $$ … $$ and the environments of
// LaTeX. A formula becomes <code class="tex"> with its source; maths.js typesets it.

// Inside of a formula: pairs of a backslash and a character, and no empty line.
const BODY = String.raw`(?:\\[^()[\]]|[^\\\n]|\n(?![ \t]*\n))`
const ROUND = new RegExp(String.raw`^\\\(${BODY}+?\\\)`)
const SQUARE = new RegExp(String.raw`^\\\[${BODY}+?\\\]`)
const DOLLARS = /^\$\$(?:\\[\s\S]|[^\\$\n]|\n(?![ \t]*\n))+\$\$/
const DOLLAR = /^\$(?![\s$])((?:\\[^\n]|[^\\$\n`])+?)(?<!\s)\$(?![\w$]|\.\d)/

const ENVIRONMENT =
  '(?:equation|align|alignat|aligned|flalign|gather|gathered|multline|split|eqnarray|cases|array|' +
  '[pbBvV]?matrix|smallmatrix|CD)\\*?'
const DISPLAY = [
  /^ {0,3}\$\$(?:\\[\s\S]|[^\\$\n]|\n(?![ \t]*\n))+\$\$[ \t]*(?:\n+|$)/,
  new RegExp(String.raw`^ {0,3}\\\[${BODY}+?\\\][ \t]*(?:\n+|$)`),
  new RegExp(
    String.raw`^ {0,3}\\begin\{(${ENVIRONMENT})\}(?:[^\n]|\n(?![ \t]*\n))*?\\end\{\1\}[ \t]*(?:\n+|$)`,
  ),
]
const UNCLOSED = new RegExp(
  String.raw`^ {0,3}(?:\$\$[ \t]*\n|\$\$[ \t]*$|\\\[|\\begin\{${ENVIRONMENT}\})(?:[^\n]|\n(?![ \t]*\n))*`,
)
const CLOSED = /\\\]|[^$\s]\s*\$\$|\\end\{/
const LINE_START = /\n(?= {0,3}(?:\$\$|\\\[|\\begin\{))/g
const OPENING = /\\[\s\S]|\$/g
const COMMANDS = /\\[a-zA-Z]+(?:\{[^{}]*\})?/g

/** Whether the text between two dollar signs is about money: "$5 for one and 3$". */
const isProse = (text) => /^\d/.test(text) && /[a-zA-Z]{3}/.test(text.replace(COMMANDS, ''))

function matchBlock(source) {
  for (const pattern of DISPLAY) {
    const raw = pattern.exec(source)?.[0]
    if (raw) return { type: 'formula', raw, text: raw.trim() }
  }
  const raw = UNCLOSED.exec(source)?.[0]
  if (raw && !CLOSED.test(raw)) return { type: 'unclosedFormula', raw, text: raw }
  return undefined
}

/** The first formula of its own lines in a paragraph, which ends there. */
function findBlock(source) {
  const end = source.search(/\n[ \t]*\n/)
  const paragraph = end < 0 ? source : source.slice(0, end)
  for (const { index } of paragraph.matchAll(LINE_START)) {
    if (matchBlock(source.slice(index + 1))) return index + 1
  }
  return undefined
}

/** The formula at the beginning of a text, which follows the character `before`. */
function matchInline(source, before) {
  let raw
  if (source.startsWith('\\(')) raw = ROUND.exec(source)?.[0]
  else if (source.startsWith('\\[')) raw = SQUARE.exec(source)?.[0]
  else if (source.startsWith('$$')) raw = DOLLARS.exec(source)?.[0]
  else if (source.startsWith('$') && !/[\w$\\]/.test(before)) {
    const match = DOLLAR.exec(source)
    if (match && !isProse(match[1])) raw = match[0]
  }
  if (raw) return { type: 'inlineFormula', raw, text: raw }
  // A formula that is not complete yet: Markdown would take its backslashes and underscores.
  if (/^\\[([]/.test(source)) return { type: 'text', raw: source, text: source, escaped: false }
  return undefined
}

/** Formulas as an extension of marked. `escapeHtml` escapes text for HTML. */
export function createMathsSyntax(escapeHtml) {
  const code = (text) => `<code class="tex">${escapeHtml(text)}</code>`
  return {
    extensions: [
      {
        name: 'formula',
        level: 'block',
        start: findBlock,
        tokenizer: matchBlock,
        renderer: ({ text }) => `<p>${code(text)}</p>\n`,
      },
      {
        name: 'unclosedFormula',
        renderer: ({ text }) => `<div class="source">${escapeHtml(text)}</div>\n`,
      },
      {
        name: 'inlineFormula',
        level: 'inline',
        start: (source) => {
          const index = source.search(/\\[([]|\$/)
          return index < 0 ? undefined : index
        },
        tokenizer: (source, tokens) => matchInline(source, tokens.at(-1)?.raw.at(-1) ?? ''),
        renderer: ({ text }) => code(text),
      },
    ],
  }
}

/** Replace the formulas of a text by letters, of which its copy `masked` keeps the rest. */
export function maskFormulas(source, masked) {
  let result = ''
  for (const { index } of source.matchAll(OPENING)) {
    if (index < result.length) continue
    const match = matchInline(source.slice(index), source[index - 1] ?? '')
    if (match?.type !== 'inlineFormula') continue
    result += masked.slice(result.length, index) + 'a'.repeat(match.raw.length)
  }
  return result + masked.slice(result.length)
}
