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

/** A button that copies a text and confirms it. */
export function createCopyButton(text, label = 'Copy') {
  const caption = h('span', {}, label)
  return h(
    'button',
    {
      type: 'button',
      class: 'quiet small',
      on: {
        click: async () => {
          await copy(typeof text === 'function' ? await text() : text)
          replace(caption, 'Copied')
          setTimeout(() => replace(caption, label), 1500)
        },
      },
    },
    icon('copy'),
    caption,
  )
}
