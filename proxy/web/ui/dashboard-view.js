// What the dashboard shows, as its address says: time range, filters, order and page of the list.

export const SPANS = { '1h': '1 h', '24h': '24 h', '7d': '7 d', '30d': '30 d', all: 'All' }
export const SPAN_SECONDS = { '1h': 3600, '24h': 86_400, '7d': 7 * 86_400, '30d': 30 * 86_400 }
export const FILTER_NAMES = [
  'target',
  'reason',
  'ending',
  'category',
  'second_look',
  'model',
  'error_code',
  'key',
  'search',
]
const LIST_NAMES = ['sort', 'order', 'before', 'page']
const DEFAULT_SPAN = '24h'

/** The parameters of the address; those that the page does not know are left out. */
let parameters = read()
const listeners = []

function read() {
  const given = new URLSearchParams(location.search)
  const known = new URLSearchParams()
  for (const name of ['since', 'until', ...FILTER_NAMES, ...LIST_NAMES]) {
    const value = given.get(name)
    if (value) known.set(name, value)
  }
  return known
}

export const get = (name) => parameters.get(name) ?? ''

/** The name of the time range; `custom` if it has a start and an end. */
export function getSpan() {
  const since = parameters.get('since') ?? DEFAULT_SPAN
  return since in SPANS && !parameters.get('until') ? since : 'custom'
}

/** The query of the figures: the time range and, with `filters`, the filters. */
export function periodQuery({ filters = false } = {}) {
  const query = new URLSearchParams({ since: parameters.get('since') ?? DEFAULT_SPAN })
  if (parameters.has('until')) query.set('until', parameters.get('until'))
  for (const name of filters ? FILTER_NAMES : [])
    if (parameters.has(name)) query.set(name, parameters.get(name))
  return query
}

/** The query of the request list, without the page. */
export function listQuery() {
  const query = periodQuery({ filters: true })
  for (const name of ['sort', 'order'])
    if (parameters.has(name)) query.set(name, parameters.get(name))
  return query
}

export const hasFilters = () => FILTER_NAMES.some((name) => parameters.has(name))

/**
 * Change the view and the address; empty values are removed. A change of anything but the page goes
 * to the first page.
 */
export function change(values) {
  const isTurn = Object.keys(values).every((name) => ['before', 'page'].includes(name))
  for (const [name, value] of Object.entries({
    ...(isTurn ? {} : { before: '', page: '' }),
    ...values,
  })) {
    if (value) parameters.set(name, value)
    else parameters.delete(name)
  }
  const query = parameters.toString()
  history.pushState(null, '', `${location.pathname}${query ? `?${query}` : ''}`)
  announce(isTurn)
}

export const clearFilters = () => change(Object.fromEntries(FILTER_NAMES.map((name) => [name, ''])))

/** The address of this view with one filter changed. */
export function linkTo(name, value) {
  const query = new URLSearchParams(parameters)
  for (const page of ['before', 'page']) query.delete(page)
  query.set(name, value)
  return `?${query}`
}

/** Call a function when the view changes, also by the browser's Back. It gets {isTurn}. */
export const onChange = (listener) => listeners.push(listener)

function announce(isTurn) {
  for (const listener of listeners) listener({ isTurn })
}

addEventListener('popstate', () => {
  const before = parameters.toString()
  parameters = read()
  // A change of the part after # is the drawer's.
  if (parameters.toString() !== before) announce(false)
})
