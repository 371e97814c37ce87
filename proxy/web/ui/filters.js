// Filters of the dashboard. They apply to the figures, the charts and the request list.

import * as view from './dashboard-view.js'
import { REASON_NAMES } from './decision.js'
import { $, h, replace } from './dom.js'
import { RESULT_NAMES } from './second-look.js'

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
const FILTERS = {
  target: ['Tier', ['local', 'cloud', 'none']],
  reason: ['Reason', REASON_NAMES],
  ending: ['Status', ENDINGS],
  category: ['Category', [...CATEGORIES, 'none']],
  second_look: ['Second look', [...RESULT_NAMES, 'none']],
  model: ['Model', []],
  error_code: ['Error', []],
  key: ['Key', []],
}

const form = $('#filters')
const search = h('input', {
  type: 'search',
  name: 'search',
  placeholder: 'Prompt text or request ID',
  'aria-label': 'Search',
  maxlength: 200,
})
const selects = Object.fromEntries(
  Object.entries(FILTERS).map(([name, [label, values]]) => [
    name,
    h(
      'select',
      { name },
      h('option', { value: '' }, `${label}: all`),
      values.map((value) => h('option', { value }, value)),
    ),
  ]),
)
const clear = h(
  'button',
  { type: 'button', class: 'quiet small', hidden: true, on: { click: clearAll } },
  'Clear filters',
)

export function openFilters() {
  replace(
    form,
    search,
    Object.entries(selects).map(([name, select]) =>
      h('label', { class: 'filter' }, h('span', { class: 'offscreen' }, FILTERS[name][0]), select),
    ),
    clear,
  )
  let typing = null
  form.addEventListener('input', ({ target }) => {
    clearTimeout(typing)
    if (target === search) typing = setTimeout(apply, TYPING_MS)
    else apply()
  })
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    clearTimeout(typing)
    apply()
  })
  view.onChange(show)
  show()
}

/** Apply all fields: the text of the search may not have been applied when another one changes. */
function apply() {
  const chosen = Object.entries(selects).map(([name, { value }]) => [name, value])
  const changed = [...chosen, ['search', search.value.trim()]].filter(
    ([name, value]) => value !== view.get(name),
  )
  if (changed.length) view.change(Object.fromEntries(changed))
}

function clearAll() {
  view.clearFilters()
  search.focus()
}

function show() {
  if (search !== document.activeElement) search.value = view.get('search')
  for (const [name, select] of Object.entries(selects)) {
    addOption(select, view.get(name)) // an address may name a value that is not listed
    select.value = view.get(name)
  }
  const number = view.FILTER_NAMES.filter((name) => view.get(name)).length
  clear.hidden = !number
  replace($('#filter-count'), number ? `Filters (${number})` : 'Filters')
}

/** Offer these models, beside those that were offered before. */
export function offerModels(models) {
  for (const model of models) addOption(selects.model, model)
}

/** Offer the codes of these errors (/api/errors). */
export function offerErrors({ failures, refusals }) {
  for (const { code } of [...failures.groups, ...refusals.groups])
    addOption(selects.error_code, code)
}

/** Offer these API keys by name. Without keys there is nothing to choose. */
export function offerKeys(keys) {
  for (const { key_hash: hash, name } of keys) addOption(selects.key, hash, name)
  selects.key.parentElement.hidden = selects.key.options.length === 1
}

function addOption(select, value, label = value) {
  if (!value) return
  const known = [...select.options].find((option) => option.value === value)
  if (known) known.textContent = label === value ? known.textContent : label
  else select.append(h('option', { value }, label))
}
