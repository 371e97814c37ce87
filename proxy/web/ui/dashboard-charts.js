// Charts of the dashboard: functions from the dashboard's data and the palette to a plotly figure.

import { score as formatScore } from './format.js'

const TIERS = ['local', 'cloud']
const HOUR = 3600
const SPANS = { '24h': 24 * HOUR, '7d': 7 * 24 * HOUR, '30d': 30 * 24 * HOUR }

/** The hours or days of the time range, with the empty ones, in UNIX seconds. */
function listSteps({ stats, span }) {
  const { step, series } = stats
  const size = step === 'day' ? 24 * HOUR : HOUR
  const now = Math.floor(Date.now() / 1000 / size) * size
  const first =
    span in SPANS
      ? now - SPANS[span]
      : Math.min(now - 6 * size, ...series.map(({ begins }) => begins))
  const times = []
  for (let begins = Math.floor(first / size) * size; begins <= now; begins += size)
    times.push(begins)
  return { size, times }
}

/** The sum of a field at each of these times, for one tier or, without a target, for all. */
function sumByStep({ stats }, times, key, target = null) {
  const sums = new Map(times.map((begins) => [begins, 0]))
  for (const point of stats.series) {
    if (target !== null && point.target !== target) continue
    sums.set(point.begins, (sums.get(point.begins) ?? 0) + point[key])
  }
  return times.map((begins) => sums.get(begins))
}

const toDates = (times) => times.map((seconds) => new Date(seconds * 1000))

const makeTransparent = (colour) => colour.replace('rgb(', 'rgba(').replace(')', ', 0.14)')

function drawTraffic(data, colours) {
  const { size, times } = listSteps(data)
  const makeBars = (target, name) => ({
    type: 'bar',
    name,
    x: toDates(times),
    y: sumByStep(data, times, 'requests', target),
    width: size * 850,
    offset: 0,
    marker: { color: target ? colours[target] : colours.dim },
  })
  const answered = TIERS.map((tier) => makeBars(tier, tier))
  const rejected = makeBars('', 'rejected')
  return {
    data: rejected.y.some(Boolean) ? [...answered, rejected] : answered,
    layout: { barmode: 'stack', yaxis: { rangemode: 'tozero' } },
  }
}

function drawCost(data, colours) {
  const { times } = listSteps(data)
  const makeLine = (name, key, style) => ({
    type: 'scatter',
    mode: 'lines',
    name,
    x: toDates(times),
    y: sumByStep(data, times, key),
    hovertemplate: '$%{y:.4f}',
    ...style,
  })
  return {
    data: [
      makeLine('spent', 'cost_usd', { line: { color: colours.cloud, width: 2 } }),
      makeLine('all-cloud cost', 'cloud_cost_usd', {
        line: { color: colours.dim, width: 1.5, dash: 'dot' },
        fill: 'tonexty',
        fillcolor: makeTransparent(colours.saved),
      }),
    ],
    layout: { yaxis: { rangemode: 'tozero', tickprefix: '$' } },
  }
}

function drawScores({ stats: { scores, merits, threshold } }, colours) {
  const middles = scores.map((_, index) => (index + 0.5) / 100)
  const isByScore = merits.every((number, index) => number === scores[index])
  const name = isByScore ? 'score' : 'merit'
  const data = [
    {
      type: 'bar',
      x: middles,
      y: merits,
      width: 0.01,
      showlegend: false,
      marker: {
        color: middles.map((middle) => (middle >= threshold ? colours.local : colours.cloud)),
      },
      hovertemplate: `${name} %{x:.3f}: %{y}<extra></extra>`,
    },
  ]
  if (!isByScore)
    data.push({
      type: 'scatter',
      mode: 'lines',
      name: 'score: probability that local suffices',
      x: middles,
      y: scores,
      line: { color: colours.text, width: 1, dash: 'dot', shape: 'hvh' },
      hovertemplate: 'score %{x:.3f}: %{y}<extra></extra>',
    })
  return {
    data,
    layout: {
      hovermode: 'closest',
      xaxis: {
        range: [0, 1],
        title: {
          text: isByScore
            ? 'score: probability that local suffices'
            : 'merit: low values gain most per cloud dollar',
        },
      },
      yaxis: { rangemode: 'tozero' },
      shapes: [
        {
          type: 'line',
          x0: threshold,
          x1: threshold,
          y0: 0,
          y1: 1,
          yref: 'paper',
          line: { color: colours.text, width: 2 },
        },
      ],
      annotations: [
        {
          x: threshold,
          y: 1.06,
          yref: 'paper',
          text: `threshold ${formatScore(threshold)}`,
          showarrow: false,
          font: { color: colours.text },
        },
      ],
    },
  }
}

/** By the id of their elements; each takes {stats, span} and the palette. */
export const CHARTS = {
  traffic: drawTraffic,
  money: drawCost,
  scores: drawScores,
}
