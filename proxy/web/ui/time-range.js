// Time range of the dashboard: named ranges, and a custom one between two times of the reader's.

import * as view from './dashboard-view.js'
import { $, h, replace } from './dom.js'

const choice = $('#spans')
const custom = $('#custom')
const [from, to] = ['from', 'to'].map((name) => custom.elements[name])

export function openTimeRange() {
  choice.append(
    ...[...Object.entries(view.SPANS), ['custom', 'Custom']].map(([value, label]) =>
      h('label', {}, h('input', { type: 'radio', name: 'since', value }), label),
    ),
  )
  choice.addEventListener('change', ({ target }) => {
    if (target.value !== 'custom') return view.change({ since: target.value, until: '' })
    const now = Date.now()
    from.value ||= toLocal(now - 86_400_000)
    to.value ||= toLocal(now)
    custom.hidden = false
    from.focus()
  })
  custom.addEventListener('submit', (event) => {
    event.preventDefault()
    const [since, until] = [from, to].map(({ value }) => new Date(value))
    const problem = findProblem(since, until)
    replace($('#custom-problem'), problem)
    if (!problem) view.change({ since: toIso(since), until: toIso(until) })
  })
  view.onChange(show)
  show()
}

function findProblem(since, until) {
  if (Number.isNaN(since.getTime()) || Number.isNaN(until.getTime())) return 'Enter both times.'
  return since < until ? '' : 'The end must be after the start.'
}

function show() {
  const span = view.getSpan()
  $(`input[value="${span}"]`, choice).checked = true
  custom.hidden = span !== 'custom'
  if (span !== 'custom') return
  const [since, until] = [view.get('since'), view.get('until')].map(parse)
  if (since) from.value = toLocal(since)
  to.value = toLocal(until ?? Date.now())
}

/** Milliseconds from UNIX seconds, a time in ISO 8601 or a named range; null without one. */
function parse(text) {
  if (!text) return null
  if (text in view.SPANS) return Date.now() - (view.SPAN_SECONDS[text] ?? 0) * 1000
  const ms = /^[\d.]+$/.test(text) ? Number(text) * 1000 : Date.parse(text)
  return Number.isNaN(ms) ? null : ms
}

/** A time as the value of a datetime-local input. */
function toLocal(ms) {
  const at = new Date(ms)
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

/** To the minute, for a readable address. */
const toIso = (date) => `${date.toISOString().slice(0, 16)}Z`
