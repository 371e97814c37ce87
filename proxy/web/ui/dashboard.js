// Dashboard page: traffic, cost, quality and latency of a time range, and the effect of a threshold.

import { drawChart } from './charts.js'
import { CHARTS } from './dashboard-charts.js'
import { showCategories, showDrift, showLatency, showReasons } from './dashboard-tables.js'
import { $, h, replace } from './dom.js'
import { showErrors } from './errors-card.js'
import { ago, compact, count, dollars, ms, percent } from './format.js'
import { getJson } from './http.js'
import { showKeys } from './keys-card.js'
import { showLearning } from './learning-card.js'
import { openRequests } from './requests.js'
import './shell.js'
import { openThreshold } from './threshold-card.js'

const REFRESH_MS = 10_000
const TIERS = ['local', 'cloud']

const state = {
  span: readSpan(),
  stats: null,
  quality: null,
  learning: null,
  updatedAt: null,
  isPaused: false,
  isDrawing: false,
}
const charts = {}
let pending = null // the AbortController of the current refresh

function readSpan() {
  const wanted = new URLSearchParams(location.search).get('since')
  return ['24h', '7d', '30d', 'all'].includes(wanted) ? wanted : '24h'
}

// --- figures ---

/** Create a card with a key figure, whose text `show` changes in place. */
function createFigure(name) {
  const value = h('p', { class: 'value num skeleton' }, '–')
  const note = h('p', { class: 'dim small num' }, ' ')
  const element = h(
    'article',
    { class: 'card figure' },
    h('h2', { class: 'dim small' }, name),
    value,
    note,
  )
  return {
    element,
    show(text, detail = '', tone = '') {
      value.classList.remove('skeleton')
      replace(value, text)
      replace(note, detail || ' ')
      value.dataset.tone = tone
    },
  }
}

const figures = Object.fromEntries(
  [
    ['requests', 'Requests'],
    ['spent', 'Spent'],
    ['saved', 'Saved'],
    ['local', 'Answered locally'],
    ['decision', 'Decision'],
    ['recovered', 'Quality recovered'],
    ['localTier', 'Local tier'],
    ['cloudTier', 'Cloud tier'],
  ].map(([key, name]) => [key, createFigure(name)]),
)
replace(
  $('#figures'),
  Object.values(figures).map(({ element }) => element),
)

function formatChange(now, before) {
  if (!before) return ''
  const share = now / before - 1
  return `${share >= 0 ? '+' : '−'}${percent(Math.abs(share))} against the previous ${state.span}`
}

function showFigures({ total, before, by, latency, tiers }) {
  const countOf = (target) => by.target.find(({ value }) => value === target)?.requests ?? 0
  const answered = countOf('local') + countOf('cloud')
  figures.requests.show(compact(total.requests), formatChange(total.requests, before?.requests))
  figures.spent.show(dollars(total.cost_usd), `all-cloud cost ${dollars(total.cloud_cost_usd)}`)
  figures.saved.show(
    dollars(total.saved_usd),
    total.cloud_cost_usd
      ? `${percent(total.saved_usd / total.cloud_cost_usd)} of the all-cloud cost`
      : '',
    total.saved_usd > 0 ? 'good' : '',
  )
  figures.local.show(
    answered ? percent(countOf('local') / answered) : '–',
    total.failed
      ? `${count(total.failed)} failed (${percent(total.failed / total.requests, 1)})`
      : 'no failures',
  )
  const decision = latency.find(
    ({ measure, target }) => measure === 'decision_ms' && target === 'all',
  )
  figures.decision.show(
    decision ? ms(decision.ms.p50) : '–',
    decision ? `p95 ${ms(decision.ms.p95)}, p99 ${ms(decision.ms.p99)}` : '',
  )
  for (const tier of TIERS) {
    const { is_up: isUp, problem, model, in_flight: running, waiting } = tiers[tier]
    const busy = waiting ? `${running} running, ${waiting} waiting` : `${running} running`
    const [text, tone] = {
      true: ['up', 'good'],
      false: ['down', 'bad'],
      null: ['not checked yet', ''],
    }[isUp]
    if (isUp && problem) figures[`${tier}Tier`].show('not ready', problem, 'bad')
    else figures[`${tier}Tier`].show(text, `${model} · ${busy}`, tone)
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
  if (!state.isDrawing) return
  if (charts[name]) charts[name].update()
  else charts[name] = drawChart($(`#${name}`), (colours) => CHARTS[name](state, colours))
}

// --- refresh ---

const requests = openRequests(() => state.span)
const threshold = openThreshold(() => state.span)

async function refresh({ reset = false } = {}) {
  pending?.abort()
  pending = new AbortController()
  const { signal } = pending
  const load = async (name, show) => {
    state[name] = await getJson(`/api/${name}?since=${state.span}`, { signal })
    show()
  }
  try {
    await Promise.all([
      load('stats', showStats),
      threshold.refresh({ signal }),
      load('quality', showQuality),
      load('learning', () => showLearning(state.learning)),
      load('errors', () => showErrors(state.errors)),
      load('keys', () => showKeys(state.keys.keys)),
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
  if (state.stats) for (const name of ['traffic', 'money', 'scores']) draw(name)
  threshold.draw()
}

function showStats() {
  const { total, drift } = state.stats
  const isEmpty = total.requests === 0 && state.span === 'all'
  $('#nothing').hidden = !isEmpty
  showFigures(state.stats)
  showLatency(state.stats)
  showReasons(state.stats)
  updateCategories()
  showDrift(drift)
  for (const name of ['traffic', 'money', 'scores']) draw(name)
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

$(`#spans input[value="${state.span}"]`).checked = true
$('#spans').addEventListener('change', (event) => {
  state.span = event.target.value
  const url = new URL(location.href)
  url.searchParams.set('since', state.span)
  history.replaceState(null, '', url)
  refresh({ reset: true })
})

replace(
  $('#first'),
  `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}'`,
)
refresh({ reset: true })
