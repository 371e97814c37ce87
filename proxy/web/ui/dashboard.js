// Dashboard: what the requests of some time were, cost and saved, and what a threshold would change.

import { chart } from './charts.js'
import { why } from './decision.js'
import { $, copyButton, h, replace } from './dom.js'
import { ago, compact, count, dollars, ms, percent, score as shownScore } from './format.js'
import { getJson } from './http.js'
import { openRequests } from './requests.js'
import './shell.js'

const REFRESH_MS = 10_000
const TIERS = ['local', 'cloud']
const NAMED = {
  decision_ms: 'Decision', overhead_ms: 'In the proxy', ttft_ms: 'First token', duration_ms: 'Whole request',
}
const ESTIMATES = {
  recovered: ['Quality recovered', 'of the gap between the tiers'],
  good_local: ['Good local answers', 'of those that clients got'],
}

const state = { span: readSpan(), stats: null, quality: null, pareto: null, at: null, paused: false, drawing: false }
const charts = {}
let asking = null

function readSpan() {
  const wanted = new URLSearchParams(location.search).get('since')
  return ['24h', '7d', '30d', 'all'].includes(wanted) ? wanted : '24h'
}

// --- figures ---

/** A card whose text changes in place. */
function figure(name) {
  const value = h('p', { class: 'value num skeleton' }, '–')
  const note = h('p', { class: 'dim small num' }, ' ')
  const element = h('article', { class: 'card figure' }, h('h2', { class: 'dim small' }, name), value, note)
  return {
    element,
    show(text, said = '', tone = '') {
      value.classList.remove('skeleton')
      replace(value, text)
      replace(note, said || ' ')
      value.dataset.tone = tone
    },
  }
}

const figures = Object.fromEntries([
  ['requests', 'Requests'], ['spent', 'Spent'], ['saved', 'Saved'], ['local', 'Answered locally'],
  ['decision', 'Decision'], ['recovered', ESTIMATES.recovered[0]],
  ['localTier', 'Local tier'], ['cloudTier', 'Cloud tier'],
].map(([key, name]) => [key, figure(name)]))
replace($('#figures'), Object.values(figures).map(({ element }) => element))

function change(now, before) {
  if (!before) return ''
  const share = now / before - 1
  return `${share >= 0 ? '+' : '−'}${percent(Math.abs(share))} on the ${state.span} before`
}

function showFigures({ total, before, by, latency, tiers }) {
  const of = (target) => by.target.find(({ value }) => value === target)?.requests ?? 0
  const answered = of('local') + of('cloud')
  figures.requests.show(compact(total.requests), change(total.requests, before?.requests))
  figures.spent.show(dollars(total.cost_usd), `${dollars(total.cloud_cost_usd)} if all went to the cloud`)
  figures.saved.show(
    dollars(total.saved_usd),
    total.cloud_cost_usd ? `${percent(total.saved_usd / total.cloud_cost_usd)} of the all-cloud bill` : '',
    total.saved_usd > 0 ? 'good' : '',
  )
  figures.local.show(
    answered ? percent(of('local') / answered) : '–',
    total.failed ? `${count(total.failed)} failed (${percent(total.failed / total.requests, 1)})` : 'none failed',
  )
  const decision = latency.find(({ measure, target }) => measure === 'decision_ms' && target === 'all')
  figures.decision.show(decision ? ms(decision.ms.p50) : '–', decision ? `p95 ${ms(decision.ms.p95)}, p99 ${ms(decision.ms.p99)}` : '')
  for (const tier of TIERS) {
    const { is_up: isUp, model, in_flight: running, waiting } = tiers[tier]
    const busy = waiting ? `${running} running, ${waiting} waiting` : `${running} running`
    const [said, tone] = { true: ['up', 'good'], false: ['down', 'bad'], null: ['not asked yet', ''] }[isUp]
    figures[`${tier}Tier`].show(said, `${model} · ${busy}`, tone)
  }
}

function showQuality() {
  const { value, low, high, missing, requests } = state.quality.estimates.recovered
  if (missing) figures.recovered.show('–', missing)
  else figures.recovered.show(percent(value), `${percent(low)} to ${percent(high)}, of ${count(requests)} judged`)
  showCategories()
}

// --- charts ---

const HOUR = 3600
const SPANS = { '24h': 24 * HOUR, '7d': 7 * 24 * HOUR, '30d': 30 * 24 * HOUR }

/** The hours or days that are shown, also those in which nothing came; UNIX seconds. */
function steps() {
  const { step, series } = state.stats
  const size = step === 'day' ? 24 * HOUR : HOUR
  const now = Math.floor(Date.now() / 1000 / size) * size
  const first = state.span in SPANS ? now - SPANS[state.span] : Math.min(now - 6 * size, ...series.map(({ begins }) => begins))
  const found = []
  for (let begins = Math.floor(first / size) * size; begins <= now; begins += size) found.push(begins)
  return { size, times: found }
}

/** A sum of each of these times, of one tier or of all. */
function sumsOf(times, key, target = null) {
  const found = new Map(times.map((begins) => [begins, 0]))
  for (const point of state.stats.series) {
    if (target !== null && point.target !== target) continue
    found.set(point.begins, (found.get(point.begins) ?? 0) + point[key])
  }
  return times.map((begins) => found.get(begins))
}

const asDates = (times) => times.map((seconds) => new Date(seconds * 1000))

const DRAWN = {
  traffic: (colours) => {
    const { size, times } = steps()
    const bars = (target, name) => ({
      type: 'bar', name, x: asDates(times), y: sumsOf(times, 'requests', target), width: size * 850, offset: 0,
      marker: { color: target ? colours[target] : colours.dim },
    })
    const shown = TIERS.map((tier) => bars(tier, tier))
    const refused = bars('', 'refused')
    return {
      data: refused.y.some(Boolean) ? [...shown, refused] : shown,
      layout: { barmode: 'stack', yaxis: { rangemode: 'tozero' } },
    }
  },
  money: (colours) => {
    const { times } = steps()
    const line = (name, key, more) => ({
      type: 'scatter', mode: 'lines', name, x: asDates(times), y: sumsOf(times, key), hovertemplate: '$%{y:.4f}', ...more,
    })
    return {
      data: [
        line('spent', 'cost_usd', { line: { color: colours.cloud, width: 2 } }),
        line('if all went to the cloud', 'cloud_cost_usd', {
          line: { color: colours.dim, width: 1.5, dash: 'dot' }, fill: 'tonexty', fillcolor: faded(colours.saved),
        }),
      ],
      layout: { yaxis: { rangemode: 'tozero', tickprefix: '$' } },
    }
  },
  curve: (colours) => {
    const { curve, basis } = state.pareto
    const known = curve.filter(({ quality }) => quality !== null)
    const here = at(state.pareto.threshold)
    const wanted = at(whatif())
    const mark = (point, name, colour, symbol) => ({
      type: 'scatter', mode: 'markers', name, x: [point.cost_share], y: [point.quality],
      marker: { color: colour, size: 11, symbol, line: { color: colours.surface, width: 1.5 } },
      hovertemplate: `threshold ${shownScore(point.threshold)}<extra></extra>`,
    })
    return {
      data: basis === null ? [] : [
        { type: 'scatter', mode: 'lines', name: 'by lot', x: [0, 1], y: [0, 1], line: { color: colours.dim, width: 1, dash: 'dot' }, hoverinfo: 'skip' },
        {
          type: 'scatter', mode: 'lines', name: 'by score', x: known.map((one) => one.cost_share), y: known.map((one) => one.quality),
          text: known.map((one) => shownScore(one.threshold)), line: { color: colours.accent, width: 2 },
          hovertemplate: 'threshold %{text}: %{x:.0%} of the bill, %{y:.0%} of the gap<extra></extra>',
        },
        mark(here, 'now', colours.text, 'circle'),
        ...(wanted.threshold === here.threshold ? [] : [mark(wanted, 'what if', colours.warn, 'diamond')]),
      ],
      layout: {
        hovermode: 'closest',
        xaxis: { title: { text: 'share of the all-cloud bill' }, tickformat: '.0%', range: [-0.02, 1.02] },
        yaxis: { title: { text: 'gap recovered' }, tickformat: '.0%' },
      },
    }
  },
  scores: (colours) => {
    const { scores, threshold } = state.stats
    const places = scores.map((_, place) => (place + 0.5) / 100)
    return {
      data: [{
        type: 'bar', x: places, y: scores, width: 0.01, showlegend: false,
        marker: { color: places.map((place) => (place >= threshold ? colours.local : colours.cloud)) },
        hovertemplate: 'score %{x:.3f}: %{y}<extra></extra>',
      }],
      layout: {
        hovermode: 'closest',
        xaxis: { range: [0, 1], title: { text: 'score: how probably the local answer is as good' } },
        yaxis: { rangemode: 'tozero' },
        shapes: [{ type: 'line', x0: threshold, x1: threshold, y0: 0, y1: 1, yref: 'paper', line: { color: colours.text, width: 2 } }],
        annotations: [{ x: threshold, y: 1.06, yref: 'paper', text: `threshold ${shownScore(threshold)}`, showarrow: false, font: { color: colours.text } }],
      },
    }
  },
}

const faded = (colour) => colour.replace('rgb(', 'rgba(').replace(')', ', 0.14)')

function draw(name) {
  if (!state.drawing) return
  if (charts[name]) charts[name].update()
  else charts[name] = chart($(`#${name}`), DRAWN[name])
}

// --- what if ---

const slider = $('#whatif')
const whatif = () => Number(slider.value) / 100
const at = (threshold) => state.pareto.curve[Math.round(threshold * 100)]

function showPareto() {
  const { basis, judged, judged_needed: needed, threshold } = state.pareto
  if (!slider.dataset.moved) slider.value = Math.round(threshold * 100)
  replace($('#basis'), {
    judged: `Quality by ${count(judged)} judged pairs of these requests.`,
    validation: `Quality by the router’s validation data: ${count(judged)} of ${needed} judged pairs so far. Cost by these requests.`,
  }[basis] ?? 'Without a router model nothing is known of the quality.')
  draw('curve')
  showWhatIf()
}

function showWhatIf() {
  const point = at(whatif())
  const { requests, all_cloud_usd: all } = state.pareto
  const quality = point.quality === null ? '' : `, ${percent(point.quality)} of the gap recovered`
  replace($('#whatif-at'), shownScore(whatif()))
  replace($('#whatif-said'), requests
    ? `${percent(1 - point.cloud_share)} stay local, ${dollars(point.cost_usd)} of ${dollars(all)} spent${quality}`
    : `No scored requests in this time${quality}`)
  replace($('#whatif-copy'), copyButton(`routing:\n  threshold: ${whatif().toFixed(2)}\n`, 'Copy as configuration'))
}

slider.addEventListener('input', () => {
  if (!state.pareto) return
  slider.dataset.moved = 'yes'
  showWhatIf()
  draw('curve')
})

// --- tables ---

const right = (text) => h('td', { class: 'num' }, text)
const head = (...names) =>
  h('thead', {}, h('tr', {}, names.map((name, place) => h('th', { scope: 'col', class: place ? 'num' : null }, name))))

function showCategories() {
  const categories = state.stats?.categories ?? []
  const grades = state.quality?.categories ?? []
  const rows = new Map()
  for (const one of categories) {
    const row = rows.get(one.category) ?? { requests: 0, local: 0, cost_usd: 0, saved_usd: 0 }
    row.requests += one.requests
    if (one.target === 'local') row.local += one.requests
    row.cost_usd += one.cost_usd
    row.saved_usd += one.saved_usd
    rows.set(one.category, row)
  }
  const grade = (category) => {
    const of = (target) => grades.find((one) => one.category === category && one.target === target)
    const [local, cloud] = TIERS.map(of)
    if (!local && !cloud) return right('–')
    const judged = Math.max(local?.answers ?? 0, cloud?.answers ?? 0)
    return h('td', { class: 'num', title: `Mean grades, local / cloud, of ${count(judged)} judged` },
      `${shownScore(local?.score, 1)} / ${shownScore(cloud?.score, 1)}`, h('span', { class: 'dim small' }, ` (${compact(judged)})`))
  }
  const sorted = [...rows].sort(([, one], [, other]) => other.requests - one.requests)
  replace($('#categories'),
    head('Category', 'Requests', 'Local', 'Spent', 'Saved', 'Grades'),
    h('tbody', {}, sorted.map(([category, row]) => h('tr', {},
      h('th', { scope: 'row' }, category),
      right(count(row.requests)),
      h('td', { class: 'num' }, h('span', { class: 'share', style: { '--share': row.local / row.requests } }), percent(row.local / row.requests)),
      right(dollars(row.cost_usd)), right(dollars(row.saved_usd)),
      grade(category)))))
}

function showLatency({ latency }) {
  const rows = Object.entries(NAMED).flatMap(([measure, name]) =>
    latency
      .filter((one) => one.measure === measure && (measure === 'decision_ms' || measure === 'overhead_ms' ? one.target === 'all' : TIERS.includes(one.target)))
      .map((one) => h('tr', {},
        h('th', { scope: 'row' }, name, one.target === 'all' ? '' : h('span', { class: `badge ${one.target}` }, one.target)),
        right(compact(one.requests)), right(ms(one.ms.p50)), right(ms(one.ms.p95)), right(ms(one.ms.p99)))))
  replace($('#latency'), head('', 'Requests', 'p50', 'p95', 'p99'), h('tbody', {}, rows))
}

function showReasons({ by, total }) {
  replace($('#reasons'), head('Reason', 'Requests', 'Share'), h('tbody', {}, by.reason.map(({ value, requests }) =>
    h('tr', {}, h('th', { scope: 'row' }, value, h('span', { class: 'dim small' }, value === 'score' || value === 'none' ? '' : ` ${why({ reason: value })}`)),
      right(count(requests)), right(percent(requests / total.requests, 1))))))
}

function showDrift(drift) {
  replace($('#drift'), drift
    ? `Drift of the last ${count(drift.requests)} scored requests: ${drift.score.toFixed(2)} by score (${drift.score_reading}), ${drift.category.toFixed(2)} by category (${drift.category_reading}).`
    : '')
}

// --- keeping it fresh ---

const requests = openRequests(() => state.span)

async function refresh({ everything = false } = {}) {
  asking?.abort()
  asking = new AbortController()
  const { signal } = asking
  const get = async (what, show) => {
    const found = await getJson(`/api/${what}?since=${state.span}`, { signal })
    state[what] = found
    show()
  }
  try {
    await Promise.all([
      get('stats', showStats),
      get('pareto', showPareto),
      get('quality', showQuality),
      requests.refresh({ everything }),
    ])
    state.at = Date.now() / 1000
    replace($('#trouble'))
  } catch (error) {
    if (error.name === 'AbortError') return
    const kept = state.at ? ' What is shown is as it was.' : ''
    replace($('#trouble'), `${error.message}${kept}`)
  }
  showFreshness()
  // What draws takes most of a second to start: the figures and the list are seen first.
  if (!state.drawing) requestAnimationFrame(() => setTimeout(drawAll))
}

function drawAll() {
  state.drawing = true
  if (state.stats) for (const name of ['traffic', 'money', 'scores']) draw(name)
  if (state.pareto) draw('curve')
}

function showStats() {
  const { total, drift } = state.stats
  const isEmpty = total.requests === 0 && state.span === 'all'
  $('#nothing').hidden = !isEmpty
  showFigures(state.stats)
  showLatency(state.stats)
  showReasons(state.stats)
  showCategories()
  showDrift(drift)
  for (const name of ['traffic', 'money', 'scores']) draw(name)
}

function showFreshness() {
  replace($('#freshness'), state.at ? `updated ${ago(state.at)}` : '')
}

setInterval(() => {
  if (!state.paused && !document.hidden) refresh()
}, REFRESH_MS)
setInterval(showFreshness, 5_000)
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !state.paused && state.at && Date.now() / 1000 - state.at > REFRESH_MS / 1000) refresh()
})

$('#pause').addEventListener('click', () => {
  state.paused = !state.paused
  $('#pause').setAttribute('aria-pressed', String(state.paused))
  replace($('#pause'), state.paused ? 'Go on' : 'Pause')
  if (!state.paused) refresh()
})

$(`#spans input[value="${state.span}"]`).checked = true
$('#spans').addEventListener('change', (event) => {
  state.span = event.target.value
  delete slider.dataset.moved
  const address = new URL(location.href)
  address.searchParams.set('since', state.span)
  history.replaceState(null, '', address)
  refresh({ everything: true })
})

replace($('#first'), `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}'`)
refresh({ everything: true })
