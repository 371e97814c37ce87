// The dashboard's card of API keys: who sends requests, and who spends.

import * as view from './dashboard-view.js'
import { $, h, refill, replace } from './dom.js'
import { ago, compact, dollars, percent, when } from './format.js'
import { createKeyName } from './key-parts.js'

const SHOWN = 10
const COLUMNS = ['Key', 'Requests', 'Local', 'Spent', 'Saved', 'Budget left', 'Last used']

const createCell = (text, title = null) => h('td', { class: 'num', title }, text)

/** Show the keys of /api/keys, those that spent most first. Without keys the card is hidden. */
export function showKeys(keys) {
  const used = keys.filter(({ requests, state }) => requests > 0 || state === 'valid')
  used.sort((a, b) => b.cost_usd - a.cost_usd || b.requests - a.requests)
  const shown = used.slice(0, SHOWN)
  $('#keys').hidden = !shown.length
  refill(
    $('#keys table'),
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        COLUMNS.map((name, index) => h('th', { scope: 'col', class: index ? 'num' : null }, name)),
      ),
    ),
    h('tbody', {}, shown.map(createRow)),
  )
  replace(
    $('#keys-more'),
    used.length > SHOWN ? `${SHOWN} of ${used.length} keys, by cost. ` : '',
    h('a', { href: '/keys' }, 'Manage keys'),
  )
}

const createRow = (key) =>
  h(
    'tr',
    {},
    h(
      'th',
      { scope: 'row' },
      createKeyName(key, (name) =>
        h(
          'a',
          {
            href: view.linkTo('key', key.key_hash),
            title: 'Show its requests',
            'data-key': key.key_hash,
          },
          name,
        ),
      ),
    ),
    createCell(compact(key.requests)),
    createCell(key.answered ? percent(key.answered_locally / key.answered) : '–'),
    createCell(dollars(key.cost_usd)),
    createCell(dollars(key.saved_usd)),
    createCell(key.cloud_usd_per_day === null ? '–' : dollars(key.budget_left_usd)),
    createCell(
      key.last_used_at ? ago(key.last_used_at) : 'never',
      key.last_used_at ? when(key.last_used_at) : null,
    ),
  )
