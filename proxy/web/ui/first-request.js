// Card of the dashboard in place of empty figures: how to send the first request, or where the
// requests are if the chosen range has none.

import * as view from './dashboard-view.js'
import { $, createCopyButton, h, replace } from './dom.js'
import { ago } from './format.js'
import { getJson } from './http.js'
import { status } from './shell.js'

const WAITING_MS = 2_000
const card = $('#nothing')
let shown = '' // what the card says
let latest = 0 // number of the latest call; an earlier one shows nothing any more
let timer = null

/**
 * Show the card while the figures have no requests, and hide what it replaces.
 *
 * @param isEmpty whether the figures have no requests
 * @param refresh loads the figures again
 */
export async function showFirstRequest(isEmpty, refresh) {
  clearTimeout(timer)
  latest += 1
  const number = latest
  if (!isEmpty) return show('', [])
  if (view.hasFilters())
    return show('filtered', [
      h('h2', {}, 'No matching requests'),
      h('p', {}, 'No request in this time range has all of these properties.'),
      createButton('Clear filters', view.clearFilters),
    ])
  const { requests } = await getJson('/api/requests?limit=1')
  if (number !== latest) return
  if (requests.length) {
    const newest = requests[0].created_at
    const span = findSpan(newest)
    return show(`elsewhere ${span}`, [
      h('h2', {}, 'No requests in this time range'),
      h('p', {}, `The newest request was ${ago(newest)}.`),
      createButton(span === 'all' ? 'Show all requests' : `Show the last ${view.SPANS[span]}`, () =>
        view.change({ since: span, until: '' }),
      ),
    ])
  }
  timer = setTimeout(refresh, WAITING_MS)
  const { needs_key: needsKey } = await status
  if (number !== latest) return
  const command = writeCommand(needsKey)
  show('first', [
    h(
      'p',
      { class: 'row waiting', role: 'status' },
      h('span', { class: 'pulse' }),
      'Waiting for the first request',
    ),
    h('h2', {}, 'No requests yet'),
    h('p', {}, 'Point an OpenAI client at this proxy, or send the first request from a terminal:'),
    h('pre', { class: 'scroll', tabindex: '0' }, h('code', { id: 'first' }, command)),
    h(
      'p',
      { class: 'row' },
      createCopyButton(command, 'Copy command'),
      h('a', { class: 'button', href: '/' }, 'Open the chat'),
    ),
    needsKey
      ? h('p', { class: 'small' }, 'Set API_KEY to a key of this proxy first: export API_KEY=…')
      : null,
  ])
}

function show(name, content) {
  card.hidden = !name
  $('#content').hidden = Boolean(name)
  if (name === shown) return // the same card keeps its animation and focus
  shown = name
  replace(card, content)
}

const createButton = (label, click) =>
  h('button', { type: 'button', class: 'primary', on: { click } }, label)

/** The shortest named range that includes a time. */
function findSpan(seconds) {
  const elapsed = Date.now() / 1000 - seconds
  return Object.keys(view.SPAN_SECONDS).find((name) => elapsed < view.SPAN_SECONDS[name]) ?? 'all'
}

const writeCommand = (needsKey) =>
  [
    `curl ${location.origin}/v1/chat/completions`,
    ...(needsKey ? ['-H "Authorization: Bearer $API_KEY"'] : []),
    `-H 'Content-Type: application/json'`,
    `-d '{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}'`,
  ].join(' \\\n  ')
