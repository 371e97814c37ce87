// Usage page of the holder of an API key: own requests, costs, limits and what is left of them.

import { createTierBadge } from './decision.js'
import { $, h, replace } from './dom.js'
import { createFigures } from './figure.js'
import { ago, compact, count, dollars, ms, percent, plural, usd, when } from './format.js'
import { getJson } from './http.js'
import { createKeyName } from './key-parts.js'
import { status } from './shell.js'
import { openSpanChoice } from './span-choice.js'

const REFRESH_MS = 15_000
const HOUR = 3600
const LENGTHS = { '24h': 24 * HOUR, '7d': 7 * 24 * HOUR, '30d': 30 * 24 * HOUR }
const MAX_COLUMNS = 200
// Pages from which callers without an admin key are sent here.
const PAGES = {
  dashboard: 'The dashboard shows the requests of all keys',
  experiments: 'The experiments use the requests of all keys',
  keys: 'The page of keys shows and changes all keys',
}

const getSpan = openSpanChoice('30d', () => refresh())
let lastQuery = 0 // number of the latest query; responses to earlier ones are dropped
let isShown = false // whether the page shows figures, perhaps earlier ones

const figures = createFigures($('#figures'), {
  requests: 'Requests',
  local: 'Answered locally',
  spent: 'Spent',
  saved: 'Saved',
})

function showFigures({ total }) {
  const problems = [
    total.failed ? `${count(total.failed)} failed` : '',
    total.refused ? `${count(total.refused)} refused` : '',
    total.cancelled ? `${count(total.cancelled)} cancelled` : '',
  ].filter(Boolean)
  figures.requests.show(compact(total.requests), problems.join(', ') || 'no failures')
  figures.local.show(
    total.answered ? percent(total.answered_locally / total.answered) : '–',
    total.answered ? `of ${plural(total.answered, 'answered request')}` : '',
  )
  figures.spent.show(dollars(total.cost_usd), `all-cloud cost ${dollars(total.cloud_cost_usd)}`)
  figures.saved.show(
    dollars(total.saved_usd),
    total.cloud_cost_usd
      ? `${percent(total.saved_usd / total.cloud_cost_usd)} of the all-cloud cost`
      : '',
    total.saved_usd > 0 ? 'good' : '',
  )
}

// --- limits ---

function showLimits({ key, resets_at: resets }) {
  const { requests_per_minute: perMinute, cloud_usd_per_day: budget, budget_left_usd: left } = key
  const time = new Date(resets * 1000).toLocaleTimeString('en-GB', {
    hour: '2-digit',
    minute: '2-digit',
  })
  replace(
    $('#limits'),
    h(
      'div',
      { class: 'stack' },
      h(
        'p',
        { class: 'row spread' },
        h('span', {}, 'Cloud budget today'),
        h(
          'b',
          { class: 'num' },
          budget === null ? 'no limit' : `${dollars(left)} of ${dollars(budget)} left`,
        ),
      ),
      budget === null
        ? null
        : h(
            'div',
            { class: 'meter', 'data-low': budget === 0 || left / budget < 0.2 },
            h('span', { style: { '--share': budget ? left / budget : 0 } }),
          ),
      h(
        'p',
        { class: 'dim small' },
        `Spent today: ${dollars(key.spent_today_usd)}. The day begins at midnight UTC; the next one at ${time} your time.`,
      ),
    ),
    h(
      'p',
      { class: 'row spread' },
      h('span', {}, 'Requests per minute'),
      h('b', { class: 'num' }, perMinute === null ? 'no limit' : count(perMinute)),
    ),
  )
}

// --- chart ---

/** The hours or days of the time range, with the empty ones. */
function listPoints({ series, step, span }) {
  const size = step === 'day' ? 24 * HOUR : HOUR
  const last = Math.floor(Date.now() / 1000 / size) * size
  const earliest = series.length ? series[0].begins : last
  const first = Math.max(
    span in LENGTHS ? last - LENGTHS[span] + size : earliest,
    last - (MAX_COLUMNS - 1) * size,
  )
  const known = new Map(series.map((point) => [point.begins, point]))
  const points = []
  for (let begins = first; begins <= last; begins += size)
    points.push(
      known.get(begins) ?? { begins, requests: 0, answered: 0, answered_locally: 0, cost_usd: 0 },
    )
  return points
}

function describePoint({ begins, requests, answered, answered_locally: local, cost_usd }, step) {
  const time = new Date(begins * 1000)
  const day = time.toLocaleDateString('en-GB', {
    day: 'numeric',
    month: 'short',
    ...(step === 'day' ? { timeZone: 'UTC' } : { hour: '2-digit', minute: '2-digit' }),
  })
  const parts = { local, cloud: answered - local, none: requests - answered }
  return { day, parts, requests, cost: cost_usd }
}

const NAMES = { local: 'local', cloud: 'cloud', none: 'not answered' }

function showChart(usage) {
  const points = listPoints(usage).map((point) => describePoint(point, usage.step))
  const most = Math.max(...points.map(({ requests }) => requests))
  const columns = points.map(({ day, parts, requests, cost }) =>
    h(
      'div',
      { title: `${day}: ${plural(requests, 'request')}, ${dollars(cost)}` },
      ['none', 'cloud', 'local']
        .filter((name) => parts[name])
        .map((name) => h('span', { class: name, style: { '--share': parts[name] / most } })),
    ),
  )
  const shown = ['local', 'cloud', 'none'].filter((name) => points.some(({ parts }) => parts[name]))
  replace($('#chart-title'), usage.step === 'day' ? 'Requests by day (UTC)' : 'Requests by hour')
  replace(
    $('#chart'),
    h('div', { class: 'columns', 'aria-hidden': 'true' }, columns),
    h(
      'p',
      { class: 'row spread dim small num', 'aria-hidden': 'true' },
      h('span', {}, points[0].day),
      h('span', {}, most ? `most: ${count(most)}` : 'no requests'),
      h('span', {}, points.at(-1).day),
    ),
    h(
      'p',
      { class: 'row small' },
      shown.map((name) =>
        h('span', {}, h('span', { class: `key-of ${name}`, 'aria-hidden': 'true' }), NAMES[name]),
      ),
    ),
    createHiddenTable(points.filter(({ requests }) => requests)),
  )
}

/** The values of the chart for screen readers. */
const createHiddenTable = (points) =>
  h(
    'div',
    { class: 'offscreen' },
    h(
      'table',
      {},
      h('caption', {}, 'Requests and cost'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          ['Time', 'Local', 'Cloud', 'Not answered', 'Cost'].map((name) =>
            h('th', { scope: 'col' }, name),
          ),
        ),
      ),
      h(
        'tbody',
        {},
        points.map(({ day, parts, cost }) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, day),
            [count(parts.local), count(parts.cloud), count(parts.none), dollars(cost)].map((text) =>
              h('td', {}, text),
            ),
          ),
        ),
      ),
    ),
  )

// --- last requests ---

function showRequests({ requests }) {
  const names = ['Time', 'Tier', 'Prompt', 'Duration', 'Cost', 'Status']
  replace(
    $('.own'),
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        names.map((name) =>
          h(
            'th',
            { scope: 'col', class: ['Duration', 'Cost'].includes(name) ? 'num' : null },
            name,
          ),
        ),
      ),
    ),
    h(
      'tbody',
      {},
      requests.length
        ? requests.map(createRow)
        : h('tr', {}, h('td', { class: 'empty', colspan: names.length }, 'No requests yet')),
    ),
  )
}

function createRow(row) {
  const isFailed = ['upstream_error', 'timeout', 'internal_error'].includes(row.ending)
  const tone = isFailed ? 'danger' : row.ending === 'rejected' ? 'warn' : ''
  return h(
    'tr',
    {},
    h('td', { class: 'nowrap', title: when(row.created_at) }, ago(row.created_at)),
    h('td', {}, createTierBadge(row.target, row.model)),
    h('td', { class: 'gist' }, row.prompt ?? h('span', { class: 'dim' }, 'no text stored')),
    h('td', { class: 'num' }, ms(row.duration_ms)),
    h('td', { class: 'num' }, usd(row.cost_usd)),
    h('td', {}, h('span', { class: `badge ${tone}` }, row.error_code ?? row.ending)),
  )
}

// --- refresh ---

async function refresh() {
  lastQuery += 1
  const number = lastQuery
  try {
    const usage = await getJson(`/api/usage?since=${getSpan()}`)
    if (number !== lastQuery) return
    isShown = true
    replace($('#trouble'))
    replace($('#whose'), createKeyName(usage.key))
    showFigures(usage)
    showLimits(usage)
    showChart(usage)
    showRequests(usage)
  } catch (error) {
    if (number !== lastQuery) return
    replace($('#trouble'), `${error.message}${isShown ? ' Showing earlier data.' : ''}`)
  }
}

function note(text) {
  $('#notice').hidden = false
  replace($('#notice'), text)
}

async function open() {
  const from = new URLSearchParams(location.search).get('from')
  if (Object.hasOwn(PAGES, from ?? ''))
    note(`${PAGES[from]}, so an admin key is needed. This page shows the usage of your own key.`)
  const { needs_key: needsKey } = await status
  if (!needsKey) {
    $('#content').hidden = true
    $('#spans').hidden = true
    note(
      'This proxy needs no API keys, so nothing is counted by key. The dashboard shows all requests.',
    )
    return
  }
  setInterval(() => {
    if (!document.hidden) refresh()
  }, REFRESH_MS)
  refresh()
}

open().catch((error) => replace($('#trouble'), error.message))
