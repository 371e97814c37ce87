// Formulas: TeX typeset as MathML by Temml, which is loaded with the first formula. TeX that Temml
// does not understand, and whatever would be too large, stays as its source.

import { h } from './dom.js'
import { watchOverflow } from './overflow.js'
import { sanitizeMaths } from './sanitize.js'

const LIBRARY = './vendor/temml.js'
const STYLES = '/ui/vendor/temml.css'

const MAX_TEX = 8_000 // characters of a formula
const MAX_TEX_WITH_MACROS = 300 // a macro can repeat its text a thousand times
const MAX_ELEMENTS = 4_000
const MAX_DEPTH = 60
const MACRO = /\\(?:def|gdef|edef|xdef|let|global|futurelet|(?:re)?newcommand|providecommand)\b/
const OPTIONS = {
  throwOnError: true,
  trust: false,
  strict: false,
  maxSize: [20, 200], // em and points
  maxExpand: 1_000,
  wrap: 'tex',
}

// Temml sets the weight with an attribute that the page's policy forbids.
const createMacros = () => ({ '\\pmb': '\\boldsymbol{#1}', '\\sideset': '{#1}{#2}' })

const DELIMITERS = [
  [/^\\\(([\s\S]*)\\\)$/, false],
  [/^\\\[([\s\S]*)\\\]$/, true],
  [/^\$\$([\s\S]*)\$\$$/, true],
  [/^\$([\s\S]*)\$$/, false],
]

// Temml takes the letters of a command for the width of its wide accent.
const narrow = (tex) => tex.replace(/\\wide(hat|tilde)\{(\\[a-zA-Z]+|\w)\}/g, '\\$1{$2}')

/** Split the source of a formula into its TeX and whether it has lines of its own. */
function parse(source) {
  for (const [pattern, isDisplay] of DELIMITERS) {
    const match = pattern.exec(source)
    if (match) return [narrow(match[1].trim()), isDisplay]
  }
  // Without numbers, which would count through all answers of the page.
  const tex = source
    .replace(/\\(begin|end)\{(?:fl)?(equation|align|alignat|gather|multline)\*?\}/g, '\\$1{$2*}')
    .replace(/\\begin\{eqnarray\*?\}/g, '\\begin{array}{rcl}')
    .replace(/\\end\{eqnarray\*?\}/g, '\\end{array}')
  return [narrow(tex), true]
}

let temml = null
let loading = null

function load() {
  loading ??= Promise.all([
    import(LIBRARY),
    new Promise((resolve, reject) => {
      const link = h('link', {
        rel: 'stylesheet',
        href: STYLES,
        on: { load: resolve, error: reject },
      })
      document.head.append(link)
    }),
  ]).then(([library]) => {
    temml = library.default
  })
  return loading
}

function measureDepth(element) {
  let depth = 0
  for (let parents = [element]; parents.length && depth <= MAX_DEPTH; depth += 1) {
    parents = parents.flatMap((parent) => [...parent.children])
  }
  return depth
}

/** The MathML of a formula, or null. */
function typeset(source) {
  const [tex, displayMode] = parse(source)
  if (tex.length > (MACRO.test(tex) ? MAX_TEX_WITH_MACROS : MAX_TEX)) return null
  const place = document.createElement('div')
  try {
    temml.render(tex, place, { ...OPTIONS, displayMode, macros: createMacros() })
  } catch {
    return null
  }
  const maths = place.firstElementChild
  if (maths?.localName !== 'math') return null
  if (maths.getElementsByTagName('*').length > MAX_ELEMENTS) return null
  return measureDepth(maths) > MAX_DEPTH ? null : sanitizeMaths(maths)
}

/** Split a formula where its line may break, so that it flows with the text around it. */
function split(maths) {
  if (maths.hasAttribute('display') || maths.children.length < 2) return [maths]
  return [...maths.children].flatMap((part, index) => {
    const piece = maths.cloneNode(false)
    piece.append(part)
    return index ? [h('wbr'), piece] : [piece]
  })
}

/**
 * Create a function that typesets the formulas of elements. It keeps what it has typeset, for
 * elements that are made anew while an answer grows.
 */
export function createTypesetter() {
  const done = new Map()

  function fill(element) {
    const source = element.dataset.tex
    if (!done.has(source)) done.set(source, typeset(source))
    const maths = done.get(source)?.cloneNode(true)
    if (!maths) {
      element.classList.add('source')
      return
    }
    element.replaceChildren(...split(maths))
    for (const part of element.querySelectorAll('math')) watchOverflow(part, part, 'Formula')
  }

  return (elements) => {
    if (!elements.length) return
    if (temml) elements.forEach(fill)
    else {
      const later = () => elements.filter((element) => element.isConnected).forEach(fill)
      load().then(later, () => {}) // else the sources stay
    }
  }
}

/** Whether the source of a formula has lines of its own. */
export const isDisplay = (source) => parse(source)[1]

// A copied formula is its TeX: the text of MathML has neither fractions nor powers.
document.addEventListener('copy', (event) => {
  const selection = document.getSelection()
  if (!selection.rangeCount || selection.isCollapsed) return
  const range = selection.getRangeAt(0)
  const start = closestFormula(range.startContainer)
  const end = closestFormula(range.endContainer)
  if (start) range.setStartBefore(start)
  if (end) range.setEndAfter(end)
  const copied = h('div', { class: 'copied' }, range.cloneContents())
  const formulas = copied.querySelectorAll('[data-tex]')
  if (!formulas.length) return
  for (const formula of formulas) formula.replaceChildren(formula.dataset.tex)
  document.body.append(copied)
  // biome-ignore lint/performance/useDomNodeTextContent: its line breaks depend on the layout
  event.clipboardData.setData('text/plain', copied.innerText)
  copied.remove()
  event.preventDefault()
})

const closestFormula = (node) =>
  (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest('[data-tex]')
