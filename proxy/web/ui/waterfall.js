// Timeline of one request: its phases as bars on one axis, which begins with its arrival.

import { h } from './dom.js'
import { ms } from './format.js'

const TICKS = [0, 0.25, 0.5, 0.75, 1]

/** Create the table of a request's phases (`timeline` of /api/requests/{id}). */
export function createWaterfall({ timeline, duration_ms: total, target }) {
  const share = (value) => (total > 0 ? Math.min(1, value / total) : 0)
  return h(
    'table',
    { class: 'waterfall num' },
    h('caption', { class: 'offscreen' }, 'Phases of the request, in the order of time'),
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        h('th', { scope: 'col' }, h('span', { class: 'offscreen' }, 'Phase')),
        h(
          'th',
          { scope: 'col', class: 'axis' },
          h('span', { class: 'offscreen' }, 'Start'),
          TICKS.map((at) =>
            h(
              'span',
              { class: 'tick', 'aria-hidden': 'true', style: { '--at': at } },
              at ? ms(at * total) : '0',
            ),
          ),
        ),
        h('th', { scope: 'col' }, h('span', { class: 'offscreen' }, 'Duration')),
      ),
    ),
    h(
      'tbody',
      {},
      timeline.map(({ kind, name, start_ms: start, duration_ms: duration, note }) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, name, note ? h('small', { class: 'dim' }, note) : null),
          h(
            'td',
            { class: 'track', title: `${name}: ${ms(duration)} from ${ms(start)}` },
            h('span', { class: 'offscreen' }, start ? `at ${ms(start)}` : 'at 0 ms'),
            h('span', {
              class: `phase ${kind} ${target ?? ''}`,
              style: { '--start': share(start), '--share': share(duration) },
            }),
          ),
          h('td', { class: 'num' }, ms(duration)),
        ),
      ),
    ),
    h(
      'tfoot',
      {},
      h(
        'tr',
        {},
        h('th', { scope: 'row' }, 'Total'),
        h('td', {}),
        h('td', { class: 'num' }, ms(total)),
      ),
    ),
  )
}
