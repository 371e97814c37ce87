// Syntax highlighting by highlight.js, which is loaded with the first code block.

import { sanitizeTokens } from './sanitize.js'

const LIBRARY = './vendor/highlight.js'
const MORE = new Set(['dockerfile', 'http', 'julia', 'latex', 'nginx', 'powershell', 'scala'])
const ALIASES = {
  docker: 'dockerfile',
  jl: 'julia',
  nginxconf: 'nginx',
  ps: 'powershell',
  ps1: 'powershell',
  pwsh: 'powershell',
  tex: 'latex',
}

const MAX_CODE = 50_000 // characters; longer code stays plain
export const GROWTH = 1.25 // code that grows is highlighted again when it is longer by this factor
const MEMORY = 16 // highlighted blocks that are kept

let highlighter = null
let loading = null

async function load(language) {
  loading ??= import(LIBRARY).then((library) => library.default)
  const library = await loading
  if (MORE.has(language) && !library.getLanguage(language)) {
    const grammar = await import(`./vendor/languages/${language}.js`)
    library.registerLanguage(language, grammar.default)
  }
  highlighter = library
}

const isReady = (language) =>
  highlighter !== null && (!MORE.has(language) || highlighter.getLanguage(language) !== undefined)

/**
 * Create a function that highlights an element with code.
 *
 * It keeps what it has highlighted, for elements that are made anew while an answer grows. Of code
 * that has grown a little the rest stays plain, so that all the work is in proportion to the length
 * of the code.
 *
 * The function takes the element and whether its code is complete. It returns how many characters
 * are highlighted, which is 0 until the library is loaded.
 */
export function createHighlighter() {
  const done = [] // the newest first: {language, code, fragment}

  const find = (language, code, growth) =>
    done.find(
      (item) =>
        item.language === language &&
        code.length <= item.code.length * growth &&
        code.startsWith(item.code),
    )

  function highlight(language, code) {
    const { value } = highlighter.highlight(code, { language, ignoreIllegals: true })
    const item = { language, code, fragment: sanitizeTokens(value) }
    done.unshift(item)
    done.splice(MEMORY)
    return item
  }

  return function fill(element, { isComplete = false } = {}) {
    const code = element.textContent
    const name = element.dataset.language?.toLowerCase() ?? ''
    const language = ALIASES[name] ?? name
    if (!language || code.length > MAX_CODE) return code.length
    if (!isReady(language)) {
      const again = () => {
        if (element.isConnected) fill(element, { isComplete })
      }
      load(language).then(again, () => {}) // else the code stays plain
      return 0
    }
    if (!highlighter.getLanguage(language)) return code.length
    const item = find(language, code, isComplete ? 1 : GROWTH) ?? highlight(language, code)
    element.replaceChildren(item.fragment.cloneNode(true), code.slice(item.code.length))
    return item.code.length
  }
}
