// Dashboard page: traffic, cost, quality and latency of a time range, and the effect of a threshold.

import { drawChart, load as loadCharts } from './charts.js'
import { CHARTS, describeChart } from './dashboard-charts.js'
import {
  showCategories,
  showDrift,
  showLatency,
  showReasons,
  showSteps,
} from './dashboard-tables.js'
import * as view from './dashboard-view.js'
import { $, replace } from './dom.js'
import { showErrors } from './errors-card.js'
import { createFigures } from './figure.js'
import { offerErrors, offerKeys, offerModels, openFilters } from './filters.js'
import { showFirstRequest } from './first-request.js'
import { ago, compact, count, dollars, ms, percent, when } from './format.js'
import { refreshHeadline } from './headline.js'
import { getJson } from './http.js'
import { showKeys } from './keys-card.js'
import { showLearning } from './learning-card.js'
import { openRequests } from './requests.js'
import './shell.js'
import { openThreshold } from './threshold-card.js'
import { openTimeRange } from './time-range.js'

const REFRESH_MS = 10_000
const TIERS = ['local', 'cloud']

const state = {
  stats: null,
  quality: null,
  learning: null,
  errors: null,
  keys: null,
  updatedAt: null,
  isPaused: false,
  isDrawing: false,
}
const charts = {}
let pending = null // the AbortController of the current refresh

// --- figures ---

const figures = createFigures($('#figures'), {
  requests: 'Requests',
  spent: 'Spent',
  saved: 'Saved',
  local: 'Answered locally',
  failed: 'Failed',
  decision: 'Decision',
  first: 'First token',
  recovered: 'Quality recovered',
  localTier: 'Local tier',
  cloudTier: 'Cloud tier',
})

function formatChange(now, before) {
  if (!before) return ''
  const share = now / before - 1
  const period = view.SPANS[state.stats.span] ?? 'period'
  return `${share >= 0 ? '+' : '−'}${percent(Math.abs(share))} against the previous ${period}`
}

const join = (parts) => parts.filter(Boolean).join(' · ')

function showFigures({ total, before, latency, tiers }) {
  const { answered, answered_locally: locally, failed, refused, cancelled } = total
  figures.requests.show(compact(total.requests), formatChange(total.requests, before?.requests))
  figures.spent.show(dollars(total.cost_usd), `all-cloud cost ${dollars(total.cloud_cost_usd)}`)
  figures.saved.show(
    dollars(total.saved_usd),
    total.cloud_cost_usd
      ? `${percent(total.saved_usd / total.cloud_cost_usd)} of the all-cloud cost`
      : 'no priced requests',
    total.saved_usd > 0 ? 'good' : '',
  )
  figures.local.show(
    answered ? percent(locally / answered) : '–',
    `${count(locally)} of ${count(answered)} answered requests`,
  )
  figures.failed.show(
    answered + failed ? percent(failed / (answered + failed), failed ? 1 : 0) : '–',
    join([
      `${count(failed)} of ${count(answered + failed)} answered or failed`,
      refused && `${count(refused)} refused`,
      cancelled && `${count(cancelled)} cancelled`,
    ]),
    failed ? 'bad' : '',
  )
  const find = (name, tier) =>
    latency.find(({ measure, target }) => measure === name && target === tier)
  const decision = find('decision_ms', 'all')
  figures.decision.show(
    decision ? ms(decision.ms.p50) : '–',
    decision ? `p95 ${ms(decision.ms.p95)}, p99 ${ms(decision.ms.p99)}` : '',
  )
  const first = find('ttft_ms', 'all')
  figures.first.show(
    first ? ms(first.ms.p50) : '–',
    join(
      TIERS.map((tier) => {
        const row = find('ttft_ms', tier)
        return row && `${tier} ${ms(row.ms.p50)}`
      }),
    ) || 'no streamed answers',
  )
  for (const tier of TIERS) {
    const { is_up: isUp, problem, model, in_flight: running, waiting } = tiers[tier]
    const busy = waiting ? `${running} running, ${waiting} waiting` : `${running} running`
    const [text, tone] = {
      true: ['up', 'good'],
      false: ['down', 'bad'],
      null: ['not checked yet', ''],
    }[isUp]
    const figure = figures[`${tier}Tier`]
    if (problem) figure.show(isUp ? 'not ready' : text, problem, 'bad')
    else figure.show(text, `${model} · ${busy}`, tone)
  }
}

function showQuality() {
  const { value, low, high, missing, requests } = state.quality.estimates.recovered
  if (missing) figures.recovered.show('–', missing)
  else
    figures.recovered.show(
      percent(value),
      `${percent(low)} to ${percent(high)}, ${count(requests)} judged requests`,
    )
  updateCategories()
}

const updateCategories = () =>
  showCategories(state.stats?.categories ?? [], state.quality?.categories ?? [])

// --- charts ---

function draw(name) {
  // A hidden chart has no size.
  if (!state.isDrawing || $('#content').hidden) return
  const label = describeChart(name, state)
  if (label) $(`#${name}`).setAttribute('aria-label', label)
  if (charts[name]) charts[name].update()
  else charts[name] = drawChart($(`#${name}`), (colours) => CHARTS[name](state, colours))
}

// --- refresh ---

const requests = openRequests()
const threshold = openThreshold(() => view.periodQuery(), refresh)
openTimeRange()
openFilters()

async function refresh({ reset = false } = {}) {
  pending?.abort()
  pending = new AbortController()
  const { signal } = pending
  const load = async (name, show, options = {}) => {
    state[name] = await getJson(`/api/${name}?${view.periodQuery(options)}`, { signal })
    show()
  }
  try {
    await Promise.all([
      load('stats', showStats, { filters: true }),
      threshold.refresh({ signal }),
      load('quality', showQuality),
      load('learning', () => showLearning(state.learning)),
      load('errors', showErrorGroups),
      load('keys', showKeyUse),
      refreshHeadline({ signal }),
      requests.refresh({ reset }),
    ])
    state.updatedAt = Date.now() / 1000
    replace($('#trouble'))
  } catch (error) {
    if (error.name === 'AbortError') return
    const note = state.updatedAt ? ' Showing earlier data.' : ''
    replace($('#trouble'), `${error.message}${note}`)
  }
  showFreshness()
  // The chart library takes most of a second to start, so the figures and the list are shown first.
  if (!state.isDrawing) requestAnimationFrame(() => setTimeout(drawAll))
}

function drawAll() {
  state.isDrawing = true
  if ($('#content').hidden) loadCharts()
  if (state.stats) for (const name of ['traffic', 'money', 'scores']) draw(name)
  drawCurve()
}

function drawCurve() {
  if (state.isDrawing && !$('#content').hidden) threshold.draw()
}

function showErrorGroups() {
  showErrors(state.errors)
  offerErrors(state.errors)
}

function showKeyUse() {
  showKeys(state.keys.keys)
  offerKeys(state.keys.keys)
}

function showStats() {
  const { total, drift, basis, by } = state.stats
  showFirstRequest(total.requests === 0, () => {
    if (!state.isPaused) refresh({ reset: true })
  }).catch((error) => replace($('#trouble'), error.message))
  showBasis(basis)
  offerModels(by.model.map(({ value }) => value))
  showFigures(state.stats)
  showLatency(state.stats)
  showReasons(state.stats)
  updateCategories()
  showDrift(drift)
  showSteps(state.stats)
  for (const name of ['traffic', 'money', 'scores']) draw(name)
  drawCurve()
}

/** Say what the figures cover, where it is not exactly the chosen range and filters. */
function showBasis({ totals, details, searched, searched_since: since }) {
  const newest = searched && `the newest ${count(searched)} requests, since ${when(since)}`
  replace(
    $('#basis-note'),
    join([
      totals === 'hours' && view.getSpan() !== 'all' && 'Figures cover full hours (UTC)',
      newest && totals === 'rows' && `Figures cover matches among ${newest}`,
      newest &&
        totals === 'hours' &&
        details === 'rows' &&
        `Latency and scores cover matches among ${newest}`,
      view.hasFilters() && 'Quality, the cost-quality curve and self-calibration are not filtered',
    ]),
  )
}

function showFreshness() {
  replace($('#freshness'), state.updatedAt ? `updated ${ago(state.updatedAt)}` : '')
}

setInterval(() => {
  if (!state.isPaused && !document.hidden) refresh()
}, REFRESH_MS)
setInterval(showFreshness, 5_000)
document.addEventListener('visibilitychange', () => {
  if (
    !document.hidden &&
    !state.isPaused &&
    state.updatedAt &&
    Date.now() / 1000 - state.updatedAt > REFRESH_MS / 1000
  )
    refresh()
})

$('#pause').addEventListener('click', () => {
  state.isPaused = !state.isPaused
  $('#pause').setAttribute('aria-pressed', String(state.isPaused))
  replace($('#pause'), state.isPaused ? 'Resume' : 'Pause')
  if (!state.isPaused) refresh()
})

view.onChange(({ isTurn }) => {
  if (!isTurn) refresh({ reset: true }) // the list turns its pages by itself
})
// On a phone the filters would fill the first screen.
$('#filter-box').open = view.hasFilters() || matchMedia('(min-width: 721px)').matches
refresh({ reset: true })
