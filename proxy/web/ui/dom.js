// DOM construction. Text always becomes text nodes, never HTML, because much of it is untrusted.

const SVG = 'http://www.w3.org/2000/svg'

/** The first element that matches a selector. */
export const $ = (selector, root = document) => root.querySelector(selector)

/**
 * Create an HTML element. Attributes that are null or false are omitted; true becomes an empty value.
 * `on` maps events to listeners; `dataset` and `style` (custom properties, too) map names to values.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

/** Create an SVG element; the arguments are those of `h`. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

/** Replace the children of an element. */
export function replace(element, ...children) {
  element.replaceChildren(...present(children))
  return element
}

/**
 * Replace the children of an element. The focus goes from a control to the new one with the same
 * `data-key`: a refresh must not take it away.
 */
export function refill(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null
  replace(element, ...children)
  if (key) [...element.querySelectorAll('[data-key]')].find((c) => c.dataset.key === key)?.focus()
}

function fill(element, { on = {}, dataset = {}, style = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : value)
    }
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener)
  for (const [name, value] of Object.entries(dataset)) element.dataset[name] = value
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value)
  element.append(...present(children))
  return element
}

const present = (children) =>
  children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)

/** A list of names with their values. */
export const createFacts = (pairs) =>
  h(
    'dl',
    { class: 'facts num' },
    pairs.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
  )

const ICONS = {
  up: 'M7 10v10H4V10zM7 10l4-7c1.5 0 2.5 1 2.2 2.600L12.5 9H19c1 0 1.800 1 1.6 2l-1.4 7.400c-.2 1-.9 1.6-1.900 1.600H7',
  down: 'M7 14V4H4v10zM7 14l4 7c1.5 0 2.5-1 2.2-2.600L12.5 15H19c1 0 1.800-1 1.6-2l-1.4-7.400C19 4.6 18.300 4 17.300 4H7',
  copy: 'M9 9h11v11H9zM15 9V4H4v11h5',
  check: 'M5 13l4 4L19 7',
  send: 'M12 19V5M5 12l7-7 7 7',
  stop: 'M7 7h10v10H7z',
  retry: 'M4 12a8 8 0 1 0 2.5-5.800M4 4v4.500h4.5',
  close: 'M6 6l12 12M18 6L6 18',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  delete: 'M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13',
  attach:
    'M20 11l-8.500 8.500a5 5 0 0 1-7-7L13 4a3.300 3.300 0 0 1 4.700 4.700L9.500 17a1.700 1.700 0 0 1-2.400-2.400L14.500 7',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.800v4.400M9 14.800v4.400',
  menu: 'M4 6h16M4 12h16M4 18h16',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  previous: 'M14 6l-6 6 6 6',
  next: 'M10 6l6 6-6 6',
  end: 'M12 5v14M6 13l6 6 6-6',
  plus: 'M12 5v14M5 12h14',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4 4',
  forward: 'M5 5l8 7-8 7zM17 5v14',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  help: 'M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18h.01',
}

/** A decorative icon, hidden from assistive technology: its control needs a text or label. */
export const icon = (name) =>
  svg(
    'svg',
    { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' },
    svg('path', { d: ICONS[name] }),
  )

/** Copy text to the clipboard; without clipboard access (plain HTTP, not localhost) by a selection. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = h('textarea', { class: 'offscreen', readonly: true })
  area.value = text
  document.body.append(area)
  area.select()
  document.execCommand('copy')
  area.remove()
}

/** Download a Blob as a file. */
export function download(name, blob) {
  const url = URL.createObjectURL(blob)
  h('a', { href: url, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

/** A button that copies a text, or what a function returns, and confirms it or says what is wrong. */
export function createCopyButton(text, label = 'Copy') {
  const caption = h('span', {}, label)
  let timer = null
  const report = (result, duration) => {
    replace(caption, result)
    clearTimeout(timer)
    timer = setTimeout(() => replace(caption, label), duration)
  }
  return h(
    'button',
    {
      type: 'button',
      class: 'quiet small',
      on: {
        click: async () => {
          try {
            await copy(typeof text === 'function' ? await text() : text)
            report('Copied', 1500)
          } catch (error) {
            report(`Not copied. ${error.message}`, 5000)
          }
        },
      },
    },
    icon('copy'),
    caption,
  )
}
