// Building blocks of the experiment results: cards, tables, charts, intervals and choices.

import { drawChart } from './charts.js'
import { h, replace } from './dom.js'
import { count, percent, score } from './format.js'

export const ROUTER = 'router' // the row of the router among the baselines
export const SHARE_AXIS = { tickformat: '.0%', rangemode: 'tozero' }

/** Format [value, low, high] as a value with its 95% interval. */
export const formatInterval = (interval, format = (number) => score(number, 3)) =>
  typeof interval?.[0] === 'number'
    ? [
        format(interval[0]),
        ' ',
        h(
          'span',
          { class: 'dim small interval' },
          `[${format(interval[1])}, ${format(interval[2])}]`,
        ),
      ]
    : '–'
export const formatPercentInterval = (interval) =>
  formatInterval(interval, (number) => percent(number, 1))
export const formatShortInterval = (interval) =>
  formatInterval(interval, (number) => score(number, 2))

/** A line with the rows, the router model and the date of a result. */
export const createOrigin = (content, rows) =>
  h(
    'p',
    { class: 'small dim' },
    [
      content.split && `${content.split} rows`,
      rows && `n = ${count(rows)}`,
      content.model_version && `router ${content.model_version}`,
      content.date ?? content.created_at?.slice(0, 10),
    ]
      .filter(Boolean)
      .join(' · '),
  )

/** A card of results; `name` becomes part of its ID. */
export const createCard = (name, title, ...content) =>
  h(
    'section',
    { class: 'card stack', id: `found-${name}`, 'aria-labelledby': `found-${name}-title` },
    h('h3', { id: `found-${name}-title` }, title),
    ...content,
  )

/** A table whose `rows` are {cells, isChosen}; the first cell of a row is its heading. */
export function createTable(heads, rows, caption) {
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      { class: 'table' },
      h('caption', { class: 'offscreen' }, caption),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          heads.map((head, index) => h('th', { scope: 'col', class: index ? 'num' : null }, head)),
        ),
      ),
      h(
        'tbody',
        {},
        rows.map(({ cells, isChosen }) =>
          h(
            'tr',
            { class: isChosen ? 'chosen' : null },
            cells.map((cell, index) =>
              index ? h('td', { class: 'num' }, cell) : h('th', { scope: 'row' }, cell),
            ),
          ),
        ),
      ),
    ),
  )
}

/** A chart with a label that describes it. */
export function createChart(label, height, make) {
  const element = h('div', {
    class: 'chart',
    role: 'img',
    'aria-label': label,
    style: { '--height': `${height}px` },
  })
  // Plotly measures the element, so it has to be in the page.
  requestAnimationFrame(() => drawChart(element, make))
  return element
}

/** Radio buttons for options, and the content of the chosen option. */
export function createSelection(legend, name, options, show) {
  const body = h('div', { class: 'stack' })
  const draw = (option) => replace(body, show(option))
  draw(options[0])
  const inputs = options.map((option, index) =>
    h(
      'label',
      {},
      h('input', { type: 'radio', name, checked: index === 0, on: { change: () => draw(option) } }),
      option,
    ),
  )
  return [h('fieldset', { class: 'segmented' }, h('legend', {}, legend), inputs), body]
}
