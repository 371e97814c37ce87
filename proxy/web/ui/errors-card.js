// The dashboard's card of errors: failures and refusals by cause. A cause filters the request list.

import * as view from './dashboard-view.js'
import { createTierBadge } from './decision.js'
import { $, h, refill } from './dom.js'
import { ago, count, percent, when } from './format.js'
import { openDetails } from './request-details.js'

const SHOWN = 6 // causes of each kind, until all are asked for
const KINDS = {
  failures: 'Failures',
  refusals: 'Refused by the proxy',
}
const shown = new Set() // the kinds of which all causes are shown

/** Show the answer of /api/errors. */
export function showErrors(errors) {
  const table = $('#errors')
  const kinds = Object.keys(KINDS).filter((kind) => errors[kind].groups.length)
  refill(
    table,
    kinds.length ? createHead() : null,
    kinds.map((kind) => createGroups(kind, errors)),
    kinds.length
      ? null
      : h('tbody', {}, h('tr', {}, h('td', { class: 'dim' }, 'No errors in this time range.'))),
  )
}

const createHead = () =>
  h(
    'thead',
    {},
    h(
      'tr',
      {},
      h('th', { scope: 'col' }, 'Cause'),
      h('th', { scope: 'col', class: 'num' }, 'Requests'),
      h('th', { scope: 'col', class: 'num' }, 'Share of all'),
      h('th', { scope: 'col' }, 'Last seen'),
      h('th', { scope: 'col' }, h('span', { class: 'offscreen' }, 'Example')),
    ),
  )

function createGroups(kind, errors) {
  const { groups, errors: total, since } = errors[kind]
  const isWhole = shown.has(kind) || groups.length <= SHOWN
  const scope = since ? `newest ${count(total)}, since ${when(since)}` : count(total)
  return h(
    'tbody',
    { class: kind },
    h(
      'tr',
      { class: 'kind' },
      h('th', { scope: 'rowgroup', colspan: 5 }, KINDS[kind], h('span', { class: 'dim' }, scope)),
    ),
    (isWhole ? groups : groups.slice(0, SHOWN)).map((group) => createGroup(kind, group)),
    isWhole
      ? null
      : h(
          'tr',
          {},
          h(
            'td',
            { colspan: 5 },
            h(
              'button',
              {
                type: 'button',
                class: 'quiet small',
                'data-key': `${kind} all`,
                on: {
                  click: () => {
                    shown.add(kind)
                    showErrors(errors)
                  },
                },
              },
              `Show all ${count(groups.length)} causes`,
            ),
          ),
        ),
  )
}

function createGroup(kind, group) {
  const { target, ending, code, message, requests, share, example } = group
  const name = (code ?? ending).replaceAll('_', ' ')
  return h(
    'tr',
    {},
    h(
      'td',
      { class: 'cause' },
      h(
        'span',
        { class: 'row' },
        target ? createTierBadge(target) : null,
        h(
          'button',
          {
            type: 'button',
            class: 'link',
            title: 'Show these requests',
            'data-key': `${kind} ${target} ${code} ${message}`,
            on: { click: () => filterRequests(group) },
          },
          name,
        ),
      ),
      message ? h('span', { class: 'dim small message', title: message }, message) : null,
    ),
    h('td', { class: 'num' }, count(requests)),
    h('td', { class: 'num' }, percent(share, 1)),
    h(
      'td',
      { class: 'nowrap' },
      h('time', { title: `${when(group.first_at)} to ${when(group.last_at)}` }, ago(group.last_at)),
    ),
    h(
      'td',
      {},
      h(
        'button',
        {
          type: 'button',
          class: 'quiet small',
          'aria-label': `Example of ${name}`,
          'aria-haspopup': 'dialog',
          'data-key': example,
          on: { click: () => openDetails(example) },
        },
        'Example',
      ),
    ),
  )
}

/** Show the requests of a cause in the list. */
function filterRequests({ target, ending, code }) {
  view.change({ target: target ?? 'none', ending, error_code: code ?? '' })
  $('#recent').scrollIntoView({ block: 'start' })
}
