// Request list of the dashboard: filters, search and paging. It shows one page at a time, because a
// browser needs seconds to lay out ten thousand rows when the drawer opens.

import { createGauge, createTierBadge, REASON_NAMES } from './decision.js'
import { $, h, replace } from './dom.js'
import { ago, count, ms, usd, when } from './format.js'
import { getJson } from './http.js'
import { followAddress, openDetails } from './request-details.js'
import { formatResult, RESULT_NAMES } from './second-look.js'

const PAGE = 50
const TYPING_MS = 250 // delay of the search after the last key
const CATEGORIES = [
  'code',
  'maths',
  'translation',
  'summary',
  'extraction',
  'writing',
  'reasoning',
  'question',
  'other',
]
const ENDINGS = [
  'ok',
  'rejected',
  'upstream_error',
  'timeout',
  'client_gone',
  'stopped',
  'internal_error',
]
const COLUMNS = [
  'Time',
  'Tier',
  'Score',
  'Prompt',
  'First token',
  'Duration',
  'Tokens',
  'Cost',
  'Ending',
]

const FILTERS = {
  target: ['Tier', ['local', 'cloud', 'none']],
  reason: ['Reason', REASON_NAMES],
  ending: ['Ending', ENDINGS],
  error_code: ['Error', []], // the card of errors adds the codes that occur
  category: ['Category', CATEGORIES],
  second_look: ['Second look', [...RESULT_NAMES, 'none']],
}

/**
 * Create the request list in the page's table.
 *
 * @param getSpan returns the time range to show
 * @returns refresh: adds new requests; with `reset` it loads the first page again
 */
export function openRequests(getSpan) {
  const table = $('.requests')
  const body = $('tbody', table)
  const rows = new Map() // by id, in the order of the table
  let cursors = [null] // the cursors of the pages up to this one; null is the newest request
  let nextCursor = null // the cursor of the next page
  let lastQuery = 0 // number of the latest query; responses to earlier ones are dropped
  let filters = new URLSearchParams()

  replace(
    $('thead', table),
    h(
      'tr',
      {},
      COLUMNS.map((name) => h('th', { scope: 'col' }, name)),
    ),
  )
  const search = h('input', {
    type: 'search',
    name: 'search',
    placeholder: 'Prompt text or request ID',
    'aria-label': 'Search',
    maxlength: 200,
  })
  replace(
    $('#filters'),
    search,
    Object.entries(FILTERS).map(([name, [label, values]]) =>
      h(
        'label',
        { class: 'filter' },
        h('span', { class: 'offscreen' }, label),
        h(
          'select',
          { name },
          h('option', { value: '' }, `${label}: all`),
          values.map((value) => h('option', { value }, value)),
        ),
      ),
    ),
  )

  async function loadPage(before) {
    const query = new URLSearchParams(filters)
    query.set('since', getSpan())
    query.set('limit', PAGE)
    if (before) query.set('before', before)
    return getJson(`/api/requests?${query}`)
  }

  /** Show the page of the last of these cursors. */
  async function showPage(newCursors) {
    lastQuery += 1
    const number = lastQuery
    table.setAttribute('aria-busy', 'true')
    const page = await loadPage(newCursors.at(-1))
    if (number !== lastQuery) return
    cursors = newCursors
    rows.clear()
    for (const request of page.requests) rows.set(request.id, request)
    replace(body, [...rows.values()].map(createRow))
    nextCursor = page.more
    showState(page.searched)
  }

  function showState(searched) {
    table.removeAttribute('aria-busy')
    replace($('#list-trouble'))
    $('#older').disabled = !nextCursor
    $('#newer').disabled = cursors.length === 1
    $('#pager').hidden = !nextCursor && cursors.length === 1
    const scope = searched
      ? ` in the ${cursors.length > 1 ? 'next' : 'newest'} ${count(searched)}`
      : ''
    const label = cursors.length > 1 || nextCursor ? `Page ${cursors.length}: ` : ''
    replace(
      $('#list-state'),
      rows.size
        ? `${label}${count(rows.size)} requests${scope}`
        : `${label}no matching requests${scope}${nextCursor ? '; select Older to search further back' : ''}`,
    )
  }

  /** Add new requests at the top and keep the other rows in place. An older page does not change. */
  async function addNew() {
    for (const cell of body.querySelectorAll('time')) replace(cell, ago(Number(cell.dataset.at)))
    if (cursors.length > 1) return
    const number = lastQuery
    const page = await loadPage(null)
    if (number !== lastQuery) return
    const fresh = page.requests.filter(({ id }) => !rows.has(id))
    const currentIds = new Set(page.requests.map(({ id }) => id))
    for (const row of [...body.rows].filter(({ dataset }) => !currentIds.has(dataset.id))) {
      if (row.contains(document.activeElement)) continue // a focused row stays
      rows.delete(row.dataset.id)
      row.remove()
    }
    for (const request of fresh) rows.set(request.id, request)
    body.prepend(...fresh.map(createRow))
    nextCursor = page.more
    showState(page.searched)
  }

  async function reportErrors(work) {
    try {
      await work()
    } catch (error) {
      table.removeAttribute('aria-busy')
      replace($('#list-trouble'), error.message)
    }
  }

  let typing = null
  const applyFilters = () => {
    const form = new FormData($('#filters'))
    filters = new URLSearchParams([...form].filter(([, value]) => value))
    reportErrors(() => showPage([null]))
  }
  $('#filters').addEventListener('input', (event) => {
    clearTimeout(typing)
    typing = setTimeout(applyFilters, event.target === search ? TYPING_MS : 0)
  })
  $('#filters').addEventListener('submit', (event) => {
    event.preventDefault()
    applyFilters()
  })
  $('#older').addEventListener('click', () =>
    reportErrors(() => showPage([...cursors, nextCursor])),
  )
  $('#newer').addEventListener('click', () => reportErrors(() => showPage(cursors.slice(0, -1))))
  body.addEventListener('click', (event) => {
    const row = event.target.closest('tr')
    if (row && !getSelection().toString()) openDetails(row.dataset.id)
  })
  followAddress()

  return { refresh: ({ reset = false } = {}) => (reset ? showPage([null]) : addNew()) }
}

function createRow(request) {
  const { id, target, model, ending } = request
  const tokens =
    request.input_tokens === null
      ? '–'
      : `${count(request.input_tokens)} → ${count(request.output_tokens)}`
  const failed = !['ok', 'client_gone'].includes(ending)
  return h(
    'tr',
    { 'data-id': id },
    h(
      'td',
      {},
      h(
        'time',
        { class: 'nowrap', 'data-at': request.created_at, title: when(request.created_at) },
        ago(request.created_at),
      ),
    ),
    h('td', {}, createTierBadge(target, model)),
    h(
      'td',
      {},
      createGauge(request) ?? h('span', { class: 'dim small' }, request.reason ?? '–'),
      request.second_look
        ? h('div', { class: 'dim small nowrap' }, formatResult(request.second_look))
        : null,
    ),
    h(
      'td',
      { class: 'gist' },
      h(
        'button',
        { type: 'button', class: 'link', 'aria-haspopup': 'dialog' },
        request.prompt ?? id,
      ),
    ),
    h('td', { class: 'num' }, ms(request.ttft_ms)),
    h('td', { class: 'num' }, ms(request.duration_ms)),
    h('td', { class: 'num' }, tokens),
    h('td', { class: 'num' }, usd(request.cost_usd)),
    h(
      'td',
      {},
      h('span', { class: `badge ${failed ? 'danger' : ''}` }, request.error_code ?? ending),
    ),
  )
}
