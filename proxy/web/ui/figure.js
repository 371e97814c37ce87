// A card with a key figure.

import { h, replace } from './dom.js'

/** Create a card: {element, show}. `show` changes its text in place. */
function createFigure(name) {
  const value = h('p', { class: 'value num skeleton' }, '–')
  const note = h('p', { class: 'dim small num' }, ' ')
  const element = h(
    'article',
    { class: 'card figure' },
    h('h2', { class: 'dim small' }, name),
    value,
    note,
  )
  return {
    element,
    show(text, detail = '', tone = '') {
      value.classList.remove('skeleton')
      replace(value, text)
      replace(note, detail || ' ')
      value.dataset.tone = tone
    },
  }
}

/** Show cards with these names by key in an element. Returns them by key. */
export function createFigures(element, names) {
  const figures = Object.entries(names).map(([key, name]) => [key, createFigure(name)])
  replace(
    element,
    figures.map(([, figure]) => figure.element),
  )
  return Object.fromEntries(figures)
}
