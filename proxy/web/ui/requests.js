// The dashboard's list of requests: filters, search, page by page, and one in all its detail.
// A page at a time: a browser with ten thousand rows takes seconds for what a drawer changes.

import { gauge, REASON_NAMES, tierBadge, why } from './decision.js'
import { $, copyButton, h, icon, replace } from './dom.js'
import { ago, count, ms, score as shownScore, usd, when } from './format.js'
import { getJson } from './http.js'
import { status } from './shell.js'

const PAGE = 50
const TYPING_MS = 250
const CATEGORIES = ['code', 'maths', 'translation', 'summary', 'extraction', 'writing', 'reasoning', 'question', 'other']
const ENDINGS = ['ok', 'rejected', 'upstream_error', 'timeout', 'client_gone', 'stopped', 'internal_error']
const COLUMNS = ['When', 'Tier', 'Score', 'Prompt', 'First token', 'Took', 'Tokens', 'Cost', 'Ended']

const FILTERS = {
  target: ['Tier', ['local', 'cloud', 'none']],
  reason: ['Reason', REASON_NAMES],
  ending: ['Ending', ENDINGS],
  category: ['Category', CATEGORIES],
}

/**
 * The list, which fills the page's table.
 *
 * @param span says what time is shown
 * @returns refresh: bring in what is new; `everything`: begin anew
 */
export function openRequests(span) {
  const table = $('.requests')
  const body = $('tbody', table)
  const rows = new Map() // by id, in the order of the table
  let places = [null] // where each page begins, up to this one; null is the newest request
  let more = null // where the next one would
  let asked = 0 // the newest question; answers to older ones are too late
  let wanted = new URLSearchParams()

  replace($('thead', table), h('tr', {}, COLUMNS.map((name) => h('th', { scope: 'col' }, name))))
  const search = h('input', { type: 'search', name: 'search', placeholder: 'Text of a prompt, or an id', 'aria-label': 'Search', maxlength: 200 })
  replace($('#filters'), search, Object.entries(FILTERS).map(([name, [label, values]]) =>
    h('label', { class: 'filter' }, h('span', { class: 'offscreen' }, label),
      h('select', { name }, h('option', { value: '' }, `${label}: all`), values.map((value) => h('option', { value }, value))))))

  async function get(before) {
    const query = new URLSearchParams(wanted)
    query.set('since', span())
    query.set('limit', PAGE)
    if (before) query.set('before', before)
    return getJson(`/api/requests?${query}`)
  }

  /** Show the page that begins at the last of these places. */
  async function fill(wantedPlaces) {
    const question = (asked += 1)
    table.setAttribute('aria-busy', 'true')
    const found = await get(wantedPlaces.at(-1))
    if (question !== asked) return
    places = wantedPlaces
    rows.clear()
    for (const request of found.requests) rows.set(request.id, request)
    replace(body, [...rows.values()].map(rowOf))
    more = found.more
    finish(found.searched)
  }

  function finish(searched) {
    table.removeAttribute('aria-busy')
    replace($('#list-trouble'))
    $('#older').disabled = !more
    $('#newer').disabled = places.length === 1
    $('#pager').hidden = !more && places.length === 1
    const looked = searched ? ` among the ${places.length > 1 ? 'next' : 'newest'} ${count(searched)}` : ''
    const page = places.length > 1 || more ? `Page ${places.length}: ` : ''
    replace($('#list-state'), rows.size
      ? `${page}${count(rows.size)} requests${looked}`
      : `${page}no request fits${looked}${more ? '; Older looks further back' : ''}`)
  }

  /** Put what has come since on top, without moving what is read. An older page stays as it is. */
  async function bringIn() {
    for (const cell of body.querySelectorAll('time')) replace(cell, ago(Number(cell.dataset.at)))
    if (places.length > 1) return
    const question = asked
    const found = await get(null)
    if (question !== asked) return
    const fresh = found.requests.filter(({ id }) => !rows.has(id))
    const kept = new Set(found.requests.map(({ id }) => id))
    for (const row of [...body.rows].filter(({ dataset }) => !kept.has(dataset.id))) {
      if (row.contains(document.activeElement)) continue // whoever is there stays there
      rows.delete(row.dataset.id)
      row.remove()
    }
    for (const request of fresh) rows.set(request.id, request)
    body.prepend(...fresh.map(rowOf))
    more = found.more
    finish(found.searched)
  }

  async function told(work) {
    try {
      await work()
    } catch (error) {
      table.removeAttribute('aria-busy')
      replace($('#list-trouble'), error.message)
    }
  }

  let typing = null
  const filter = () => {
    const form = new FormData($('#filters'))
    wanted = new URLSearchParams([...form].filter(([, value]) => value))
    told(() => fill([null]))
  }
  $('#filters').addEventListener('input', (event) => {
    clearTimeout(typing)
    typing = setTimeout(filter, event.target === search ? TYPING_MS : 0)
  })
  $('#filters').addEventListener('submit', (event) => {
    event.preventDefault()
    filter()
  })
  $('#older').addEventListener('click', () => told(() => fill([...places, more])))
  $('#newer').addEventListener('click', () => told(() => fill(places.slice(0, -1))))
  body.addEventListener('click', (event) => {
    const row = event.target.closest('tr')
    if (row && !getSelection().toString()) open(row.dataset.id)
  })
  openDrawer()

  return { refresh: ({ everything = false } = {}) => (everything ? fill([null]) : bringIn()) }
}

function rowOf(request) {
  const { id, target, model, score, threshold, ending } = request
  const tokens = request.input_tokens === null ? '–' : `${count(request.input_tokens)} → ${count(request.output_tokens)}`
  const failed = !['ok', 'client_gone'].includes(ending)
  return h('tr', { 'data-id': id },
    h('td', {}, h('time', { class: 'nowrap', 'data-at': request.created_at, title: when(request.created_at) }, ago(request.created_at))),
    h('td', {}, tierBadge(target, model)),
    h('td', {}, gauge({ score, threshold, target }) ?? h('span', { class: 'dim small' }, request.reason ?? '–')),
    h('td', { class: 'gist' }, h('button', { type: 'button', class: 'link', 'aria-haspopup': 'dialog' }, request.prompt ?? id)),
    h('td', { class: 'num' }, ms(request.ttft_ms)),
    h('td', { class: 'num' }, ms(request.duration_ms)),
    h('td', { class: 'num' }, tokens),
    h('td', { class: 'num' }, usd(request.cost_usd)),
    h('td', {}, h('span', { class: `badge ${failed ? 'danger' : ''}` }, request.error_code ?? ending)))
}

// --- one request ---

const drawer = $('#drawer')

function openDrawer() {
  drawer.addEventListener('close', () => {
    if (location.hash.startsWith('#request=')) history.replaceState(null, '', location.pathname + location.search)
  })
  drawer.addEventListener('click', (event) => {
    if (event.target === drawer) drawer.close() // beside it
  })
  const show = () => {
    const id = /^#request=(.+)$/.exec(location.hash)?.[1]
    if (id) open(decodeURIComponent(id))
  }
  addEventListener('hashchange', show)
  show()
}

async function open(id) {
  const close = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close', on: { click: () => drawer.close() } }, icon('close'))
  const content = h('div', { class: 'stack' }, h('p', { class: 'skeleton' }, 'loading'))
  replace(drawer, h('div', { class: 'drawer-head row spread' }, h('h2', { id: 'drawer-title' }, 'Request'), close), content)
  if (!drawer.open) drawer.showModal()
  history.replaceState(null, '', `${location.pathname}${location.search}#request=${encodeURIComponent(id)}`)
  try {
    replace(content, ...detailsOf(await getJson(`/api/requests/${encodeURIComponent(id)}`), await status))
  } catch (error) {
    replace(content, h('p', { class: 'error', role: 'alert' }, error.message))
  }
}

function detailsOf(row, { keeps_prompts: keeps }) {
  const missing = { none: 'Texts are not kept (storage.prompts: none).', hash: 'Of texts only a hash is kept (storage.prompts: hash).' }[keeps] ?? 'No text of it was kept.'
  const turns = Array.isArray(row.prompt) ? row.prompt : []
  return [
    h('p', { class: 'row' }, tierBadge(row.target, row.model), gauge(row), h('span', { class: 'small' }, why(row))),
    h('section', { class: 'stack' }, h('h3', {}, 'What happened'), h('ul', { class: 'plain' }, row.explanation.map((line) => h('li', {}, line)))),
    timesOf(row),
    facts([
      ['Cost', usd(row.cost_usd)], ['In the cloud', usd(row.cloud_cost_usd)], ['Saved', usd(row.saved_usd)],
      ['Tokens in', count(row.input_tokens)], ['of them cached', count(row.cached_input_tokens)], ['Tokens out', count(row.output_tokens)],
      ['Score', shownScore(row.score, 4)], ['Threshold', shownScore(row.threshold, 4)], ['Category', row.category ?? '–'],
      ['Local alone', shownScore(row.p_local, 4)], ['Cloud alone', shownScore(row.p_cloud, 4)], ['Session', row.session_id?.slice(0, 8) ?? '–'],
    ]),
    row.judgements.length
      ? h('section', { class: 'stack' }, h('h3', {}, 'Judgements'), row.judgements.map((one) =>
        h('p', {}, tierBadge(one.target, one.model), h('b', { class: 'num' }, ` ${one.score} of 10 `), h('span', { class: 'dim small' }, `by ${one.judge_model}. `), one.reason ?? '')))
      : null,
    row.feedback
      ? h('section', {}, h('h3', {}, 'Feedback'), h('p', {}, `${row.feedback.rating > 0 ? '+' : ''}${row.feedback.rating} ${row.feedback.comment ?? ''}`))
      : null,
    h('section', { class: 'stack' }, h('h3', {}, 'Prompt'), turns.length
      ? turns.map(({ role, content }) => textOf(role, content))
      : h('p', { class: 'dim small' }, missing)),
    row.response === null
      ? null
      : h('section', { class: 'stack' }, h('h3', {}, 'Answer'), textOf('assistant', row.response)),
    h('p', { class: 'row dim small' }, h('code', {}, row.id), copyButton(row.id, 'Copy id'), copyButton(() => location.href, 'Copy link')),
  ]
}

const facts = (pairs) =>
  h('dl', { class: 'facts num' }, pairs.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))))

const textOf = (role, content) =>
  h('figure', { class: 'said' }, h('figcaption', { class: 'dim small' }, role), h('div', { class: 'text', tabindex: 0 }, content))

/** Where its time went, as bars of one length. */
function timesOf(row) {
  const whole = row.duration_ms
  const parts = [
    ['Decision', row.decision_ms, 0],
    ['First token', row.ttft_ms, 0],
    ['Upstream', row.upstream_ms, 0],
    ['Whole request', whole, 0],
  ].filter(([, value]) => value !== null)
  return h('section', { class: 'stack' }, h('h3', {}, 'Times'), h('dl', { class: 'bars num' }, parts.map(([name, value]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, h('span', { class: 'bar', style: { '--share': whole ? Math.min(1, value / whole) : 0 } }), ms(value))))))
}
