// Request list of the dashboard: order, paging and live rows. It shows one page at a time, because a
// browser needs seconds to lay out ten thousand rows when the drawer opens.

import * as view from './dashboard-view.js'
import { createGauge, createTierBadge } from './decision.js'
import { $, h, replace } from './dom.js'
import { ago, count, ms, plural, usd, when } from './format.js'
import { getJson } from './http.js'
import { followAddress, openDetails } from './request-details.js'
import { formatResult } from './second-look.js'

const PAGE = matchMedia('(max-width: 720px)').matches ? 20 : 50 // rows are cards on a phone
const LIVE_MS = 2_000
// By their order in the table: the heading and the name of its order.
const COLUMNS = [
  ['Time', 'time'],
  ['Tier'],
  ['Score', 'score'],
  ['Prompt'],
  ['First token'],
  ['Duration', 'duration'],
  ['Tokens', 'tokens'],
  ['Cost', 'cost'],
  ['Status'],
]
const ORDERS = {
  'time desc': 'Newest first',
  'time asc': 'Oldest first',
  'cost desc': 'Highest cost',
  'duration desc': 'Longest duration',
  'tokens desc': 'Most tokens',
  'score asc': 'Lowest score',
  'score desc': 'Highest score',
}

/**
 * Create the request list in the page's table.
 *
 * @returns refresh: adds new requests; with `reset` it loads the page of the address again
 */
export function openRequests() {
  const table = $('.requests')
  const body = $('tbody', table)
  const rows = new Map() // by id, in the order of the table
  const cursors = new Map() // of the pages that were shown, by their number
  let nextCursor = null // the cursor of the next page
  let lastQuery = 0 // number of the latest query; responses to earlier ones are dropped
  let adding = null // the promise of new rows, while they are queried
  let live = null // the timer of live rows

  const getPage = () => Number(view.get('page')) || 1
  const getOrder = () => `${view.get('sort') || 'time'} ${view.get('order') || 'desc'}`

  const heads = COLUMNS.map(([name, sort]) =>
    h(
      'th',
      { scope: 'col' },
      sort
        ? h('button', { type: 'button', class: 'sort', on: { click: () => turn(sort) } }, name)
        : name,
    ),
  )
  replace($('thead', table), h('tr', {}, heads))
  const order = $('#order')
  order.append(...Object.entries(ORDERS).map(([value, name]) => h('option', { value }, name)))
  order.addEventListener('change', () => setOrder(...order.value.split(' ')))

  /** Sort by a column: the largest first, then the smallest. */
  function turn(sort) {
    const [current, direction] = getOrder().split(' ')
    setOrder(sort, current === sort && direction === 'desc' ? 'asc' : 'desc')
  }

  function setOrder(sort, direction) {
    view.change({
      sort: sort === 'time' ? '' : sort,
      order: direction === 'desc' ? '' : direction,
    })
  }

  function showOrder() {
    const [sort, direction] = getOrder().split(' ')
    for (const [index, [, name]] of COLUMNS.entries()) {
      if (name === sort)
        heads[index].setAttribute('aria-sort', direction === 'asc' ? 'ascending' : 'descending')
      else heads[index].removeAttribute('aria-sort')
    }
    if (!(`${sort} ${direction}` in ORDERS))
      order.append(h('option', { value: `${sort} ${direction}` }, `${sort}, lowest first`))
    order.value = `${sort} ${direction}`
    $('#export').href = `/api/requests.csv?${view.listQuery()}`
  }

  async function loadPage() {
    const query = view.listQuery()
    query.set('limit', PAGE)
    if (view.get('before')) query.set('before', view.get('before'))
    return getJson(`/api/requests?${query}`)
  }

  /** Show the page of the address. */
  async function showPage() {
    lastQuery += 1
    const number = lastQuery
    table.setAttribute('aria-busy', 'true')
    showOrder()
    let page
    try {
      page = await loadPage()
    } catch (error) {
      if (number !== lastQuery) return
      table.removeAttribute('aria-busy')
      throw error
    }
    if (number !== lastQuery) return
    cursors.set(getPage(), view.get('before'))
    rows.clear()
    for (const request of page.requests) rows.set(request.id, request)
    replace(body, [...rows.values()].map(createRow))
    nextCursor = page.more
    showState(page.searched)
  }

  function showState(searched) {
    const number = getPage()
    const isNewest = getOrder() === 'time desc'
    table.removeAttribute('aria-busy')
    replace($('#list-trouble'))
    $('#older').disabled = !nextCursor
    $('#newer').disabled = number === 1
    replace($('#newer'), isNewest ? 'Newer' : 'Previous')
    replace($('#older'), isNewest ? 'Older' : 'Next')
    $('#pager').hidden = !nextCursor && number === 1
    const scope = searched
      ? ` in the ${number > 1 && isNewest ? 'next' : 'newest'} ${count(searched)}`
      : ''
    const label = number > 1 || nextCursor ? `Page ${number}: ` : ''
    replace(
      $('#list-state'),
      rows.size
        ? `${label}${plural(rows.size, 'request')}${scope}`
        : `${label}No matching requests${scope}${nextCursor ? '; select Older to search further back' : ''}`,
    )
  }

  /**
   * Add new requests at the top and keep the other rows in place. Other pages do not change. One
   * query at a time: a late response would take away the rows of a newer one.
   */
  function addNew(options) {
    for (const cell of body.querySelectorAll('time')) replace(cell, ago(Number(cell.dataset.at)))
    if (getPage() > 1 || getOrder() !== 'time desc') return null
    adding ??= queryNew(options).finally(() => {
      adding = null
    })
    return adding
  }

  async function queryNew({ highlight = false } = {}) {
    const number = lastQuery
    const page = await loadPage()
    if (number !== lastQuery) return
    const fresh = page.requests.filter(({ id }) => !rows.has(id))
    const currentIds = new Set(page.requests.map(({ id }) => id))
    for (const row of [...body.rows].filter(({ dataset }) => !currentIds.has(dataset.id))) {
      if (row.contains(document.activeElement)) continue // a focused row stays
      rows.delete(row.dataset.id)
      row.remove()
    }
    for (const request of fresh) rows.set(request.id, request)
    const created = fresh.map(createRow)
    if (highlight) for (const row of created) row.classList.add('fresh')
    body.prepend(...created)
    nextCursor = page.more
    showState(page.searched)
  }

  async function reportErrors(work) {
    try {
      await work()
    } catch (error) {
      replace($('#list-trouble'), error.message)
    }
  }

  // --- live rows ---

  function setLive(isOn) {
    clearInterval(live)
    live = isOn ? setInterval(follow, LIVE_MS) : null
    $('#live').setAttribute('aria-pressed', String(isOn))
    if (!isOn) return
    if (getPage() > 1 || getOrder() !== 'time desc') view.change({ sort: '', order: '' })
    else follow()
  }

  const follow = () => {
    if (!document.hidden) reportErrors(() => addNew({ highlight: true }))
  }

  $('#live').addEventListener('click', () => setLive(live === null))
  $('#older').addEventListener('click', () =>
    view.change({ before: nextCursor, page: String(getPage() + 1) }),
  )
  $('#newer').addEventListener('click', () => {
    const number = getPage() - 1
    // A page that was opened by its address does not know the pages before it.
    if (number > 1 && cursors.has(number))
      view.change({ before: cursors.get(number), page: String(number) })
    else view.change({ before: '', page: '' })
  })
  view.onChange(({ isTurn }) => {
    if (live !== null && (getPage() > 1 || getOrder() !== 'time desc')) setLive(false)
    if (isTurn) reportErrors(showPage)
    else cursors.clear() // the page refreshes everything, the list with it
  })
  body.addEventListener('click', (event) => {
    const row = event.target.closest('tr')
    if (row && !getSelection().toString()) openDetails(row.dataset.id)
  })
  followAddress()

  return { refresh: ({ reset = false } = {}) => (reset ? showPage() : addNew()) }
}

function createRow(request) {
  const { id, target, model, ending } = request
  const tokens =
    request.input_tokens === null
      ? '–'
      : `${count(request.input_tokens)} → ${count(request.output_tokens)}`
  const failed = ['upstream_error', 'timeout', 'internal_error'].includes(ending)
  const result = request.error_code ?? ending
  const createCell = (name, attributes, ...content) =>
    h('td', { 'data-name': name, ...attributes }, content)
  return h(
    'tr',
    { 'data-id': id },
    createCell(
      'Time',
      {},
      h(
        'time',
        { class: 'nowrap', 'data-at': request.created_at, title: when(request.created_at) },
        ago(request.created_at),
      ),
    ),
    createCell(
      'Tier',
      { title: model },
      createTierBadge(target, model),
      request.key_name
        ? h(
            'div',
            { class: 'dim small clip', title: `API key ${request.key_name}` },
            request.key_name,
          )
        : null,
    ),
    createCell(
      'Score',
      {},
      createGauge(request) ?? h('span', { class: 'dim small' }, request.reason ?? '–'),
      request.second_look
        ? h('div', { class: 'dim small nowrap' }, formatResult(request.second_look))
        : null,
    ),
    createCell('Prompt', { class: 'gist' }, createGist(request)),
    createCell('First token', { class: 'num' }, ms(request.ttft_ms)),
    createCell('Duration', { class: 'num' }, ms(request.duration_ms)),
    createCell('Tokens', { class: 'num' }, tokens),
    createCell('Cost', { class: 'num' }, usd(request.cost_usd)),
    createCell(
      'Status',
      {},
      h(
        'span',
        {
          class: `badge ${failed ? 'danger' : ending === 'rejected' ? 'warn' : ''}`,
          title: result,
        },
        h('span', { class: 'clip' }, result),
      ),
    ),
  )
}

/** The prompt as the button that opens the details; without one the error, or the id. */
function createGist({ id, prompt, error, error_code: code }) {
  const text = prompt ?? error ?? code
  return h(
    'button',
    {
      type: 'button',
      class: `link${prompt === null ? ' dim' : ''}`,
      'aria-haspopup': 'dialog',
      title: text ?? id,
    },
    text ?? id,
  )
}
