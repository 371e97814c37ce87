// The allow-lists for everything that becomes HTML or MathML on a page. The sources are answers of
// models, so each element names its attributes, and each attribute the values it may have.

import DOMPurify from './vendor/purify.js'

const SIDE = /^(?:left|center|right)$/
const EMPTY = /^$/

const FORMATTING = {
  a: { href: /^(?:https?|mailto):/i },
  b: {},
  blockquote: {},
  br: {},
  code: { class: /^(?:language-[\w+#.-]{1,30}|tex)$/ },
  del: {},
  div: { class: /^(?:footnote|source)$/ },
  em: {},
  h3: {},
  h4: {},
  h5: {},
  h6: { class: /^level-[78]$/ },
  hr: {},
  i: {},
  input: { type: /^checkbox$/, checked: EMPTY, disabled: EMPTY },
  ins: {},
  kbd: {},
  li: {},
  mark: {},
  ol: { start: /^\d{1,9}$/ },
  p: {},
  pre: {},
  s: {},
  small: {},
  strong: {},
  sub: {},
  sup: { class: /^footnote$/ },
  table: {},
  tbody: {},
  td: { align: SIDE },
  th: { align: SIDE },
  thead: {},
  tr: {},
  u: {},
  ul: {},
}

// What Temml makes of TeX, in sizes that stay near the formula.
const WORDS = /^[\w -]{1,80}$/
const COLOR = /^#[0-9a-f]{3,8}$|^[a-z]{1,30}$/i
const LENGTH = /^-?\d{0,2}(?:\.\d+)?(?:em|ex|%)?$|^-?\d{1,3}(?:\.\d+)?(?:pt|px|%)$/
const STYLE = /^(?!.*(?:url\(|\d{3}(?:\.\d+)?em|-\d{2}))/is
const FORMULA = {
  accent: WORDS,
  class: WORDS,
  columnalign: WORDS,
  depth: LENGTH,
  display: WORDS,
  displaystyle: WORDS,
  fence: WORDS,
  form: WORDS,
  height: LENGTH,
  largeop: WORDS,
  linethickness: LENGTH,
  lspace: LENGTH,
  mathbackground: COLOR,
  mathcolor: COLOR,
  mathsize: LENGTH,
  mathvariant: WORDS,
  maxsize: LENGTH,
  minsize: LENGTH,
  movablelimits: WORDS,
  notation: WORDS,
  rowspacing: LENGTH,
  rspace: LENGTH,
  scriptlevel: /^[+-]?\d$/,
  separator: WORDS,
  stretchy: WORDS,
  style: STYLE,
  symmetric: WORDS,
  voffset: LENGTH,
  width: LENGTH,
}
const MATHML =
  'math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow mspace ' +
  'msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none semantics'
const MATHS = {
  ...Object.fromEntries(MATHML.split(' ').map((name) => [name, FORMULA])),
  span: { class: /^tml-eqn$/ }, // the number of an equation
}

const TOKENS = { span: { class: /^(?:hljs-|language-)[\w -]{1,60}$/ } }

function createSanitizer(elements, options) {
  const attributes = Object.values(elements).flatMap(Object.keys)
  const configuration = {
    ALLOWED_TAGS: Object.keys(elements),
    ALLOWED_ATTR: [...new Set(attributes)],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ...options,
  }
  return (dirty) => {
    rules = elements
    return DOMPurify.sanitize(dirty, configuration)
  }
}

// One rule per attribute. DOMPurify has one regular expression for all values, which suits
// addresses only.
let rules = {}
DOMPurify.addHook('uponSanitizeAttribute', (element, attribute) => {
  const rule = rules[element.localName]?.[attribute.attrName]
  attribute.keepAttr = rule?.test(attribute.attrValue) ?? false
  attribute.forceKeepAttr = attribute.keepAttr
})

/** Convert the HTML of Markdown to a fragment with nothing but formatting. */
export const sanitizeFormatting = createSanitizer(FORMATTING, { RETURN_DOM_FRAGMENT: true })

/** Convert the HTML of highlighted code to a fragment of text and spans. */
export const sanitizeTokens = createSanitizer(TOKENS, { RETURN_DOM_FRAGMENT: true })

/**
 * Remove everything but MathML from an element. In place: the inline styles of a copy would be
 * parsed again, which the page's policy forbids.
 */
export const sanitizeMaths = createSanitizer(MATHS, { IN_PLACE: true })
