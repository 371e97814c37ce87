// Tables of the dashboard: categories, latency, routing reasons, and the drift of the scores.

import { listSteps, sumByStep } from './dashboard-charts.js'
import { explainReason } from './decision.js'
import { $, h, replace } from './dom.js'
import { compact, count, dollars, score as formatScore, ms, percent, when } from './format.js'

const TIERS = ['local', 'cloud']
const MEASURES = {
  decision_ms: 'Decision',
  overhead_ms: 'Proxy overhead',
  ttft_ms: 'Time to first token',
  duration_ms: 'Duration',
}
const TIERLESS_MEASURES = ['decision_ms', 'overhead_ms']

const createCell = (text) => h('td', { class: 'num' }, text)
const createHead = (...names) =>
  h(
    'thead',
    {},
    h(
      'tr',
      {},
      names.map((name, index) => h('th', { scope: 'col', class: index ? 'num' : null }, name)),
    ),
  )

/**
 * Show requests, cost and judge grades by category.
 *
 * @param categories of the statistics, by tier
 * @param grades of the quality estimates, by tier
 */
export function showCategories(categories, grades) {
  const rows = new Map()
  for (const group of categories) {
    const row = rows.get(group.category) ?? { requests: 0, local: 0, cost_usd: 0, saved_usd: 0 }
    row.requests += group.requests
    if (group.target === 'local') row.local += group.requests
    row.cost_usd += group.cost_usd
    row.saved_usd += group.saved_usd
    rows.set(group.category, row)
  }
  const sorted = [...rows].sort(([, a], [, b]) => b.requests - a.requests)
  replace(
    $('#categories'),
    createHead('Category', 'Requests', 'Local', 'Spent', 'Saved', 'Grades'),
    h(
      'tbody',
      {},
      sorted.map(([category, row]) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, category),
          createCell(count(row.requests)),
          h(
            'td',
            { class: 'num' },
            h('span', { class: 'share', style: { '--share': row.local / row.requests } }),
            percent(row.local / row.requests),
          ),
          createCell(dollars(row.cost_usd)),
          createCell(dollars(row.saved_usd)),
          createGrades(category, grades),
        ),
      ),
    ),
  )
}

function createGrades(category, grades) {
  const [local, cloud] = TIERS.map((tier) =>
    grades.find((grade) => grade.category === category && grade.target === tier),
  )
  if (!local && !cloud) return createCell('–')
  const judged = Math.max(local?.answers ?? 0, cloud?.answers ?? 0)
  return h(
    'td',
    {
      class: 'num',
      title: `Mean judge grades, local / cloud, of ${count(judged)} judged requests`,
    },
    `${formatScore(local?.score, 1)} / ${formatScore(cloud?.score, 1)}`,
    h('span', { class: 'dim small' }, ` (${compact(judged)})`),
  )
}

export function showLatency({ latency }) {
  const isShown = ({ measure, target }) =>
    TIERLESS_MEASURES.includes(measure) ? target === 'all' : TIERS.includes(target)
  const rows = Object.entries(MEASURES).flatMap(([measure, name]) =>
    latency
      .filter((row) => row.measure === measure && isShown(row))
      .map((row) =>
        h(
          'tr',
          {},
          h(
            'th',
            { scope: 'row' },
            name,
            row.target === 'all' ? '' : h('span', { class: `badge ${row.target}` }, row.target),
          ),
          createCell(compact(row.requests)),
          createCell(ms(row.ms.p50)),
          createCell(ms(row.ms.p95)),
          createCell(ms(row.ms.p99)),
        ),
      ),
  )
  replace($('#latency'), createHead('', 'Requests', 'p50', 'p95', 'p99'), h('tbody', {}, rows))
}

export function showReasons({ by, total }) {
  const explain = (reason) =>
    reason === 'score' || reason === 'none' ? '' : ` ${explainReason({ reason })}`
  replace(
    $('#reasons'),
    createHead('Reason', 'Requests', 'Share'),
    h(
      'tbody',
      {},
      by.reason.map(({ value, requests }) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, value, h('span', { class: 'dim small' }, explain(value))),
          createCell(count(requests)),
          createCell(percent(requests / total.requests, 1)),
        ),
      ),
    ),
  )
}

/** The values of the charts of requests and cost, newest first. */
export function showSteps(stats) {
  const box = $('#steps-data')
  box.ontoggle = () => fillSteps(stats)
  if (box.open) fillSteps(stats)
}

function fillSteps(stats) {
  const { times } = listSteps(stats)
  const columns = [
    sumByStep(stats, times, 'requests', 'local'),
    sumByStep(stats, times, 'requests', 'cloud'),
    sumByStep(stats, times, 'requests', ''),
    sumByStep(stats, times, 'cost_usd'),
    sumByStep(stats, times, 'saved_usd'),
  ]
  const formats = [count, count, count, dollars, dollars]
  replace(
    $('#steps'),
    createHead(`Start of the ${stats.step}`, 'Local', 'Cloud', 'No tier', 'Spent', 'Saved'),
    h(
      'tbody',
      {},
      times
        .map((begins, index) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, when(begins)),
            columns.map((values, number) => createCell(formats[number](values[index]))),
          ),
        )
        .reverse(),
    ),
  )
}

export function showDrift(drift) {
  replace(
    $('#drift'),
    drift
      ? `Drift over the last ${count(drift.requests)} scored requests: score ${drift.score.toFixed(2)} (${drift.score_reading}), category ${drift.category.toFixed(2)} (${drift.category_reading}).`
      : '',
  )
}
