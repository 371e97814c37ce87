// Charts of the dashboard: functions from the dashboard's data and the palette to a plotly figure.

import { count, dollars, score as formatScore } from './format.js'

const TIERS = ['local', 'cloud']

/** The steps of the time range, with the empty ones, in UNIX seconds. */
export function listSteps({ step_seconds: size, series, since, until }) {
  const last = Math.floor((until ?? Date.now() / 1000) / size) * size
  const first = since || Math.min(last - 6 * size, ...series.map(({ begins }) => begins))
  const times = []
  for (let begins = Math.floor(first / size) * size; begins <= last; begins += size)
    if (begins < (until ?? Infinity)) times.push(begins)
  return { size, times }
}

/** The sum of a field at each of these times, for one tier or, without a target, for all. */
export function sumByStep({ series }, times, key, target = null) {
  const sums = new Map(times.map((begins) => [begins, 0]))
  for (const point of series) {
    if (target !== null && point.target !== target) continue
    sums.set(point.begins, (sums.get(point.begins) ?? 0) + point[key])
  }
  return times.map((begins) => sums.get(begins))
}

const toDates = (times) => times.map((seconds) => new Date(seconds * 1000))

/** Bars of the steps. A thin gap separates stacked ones, for readers who tell colours badly apart. */
const makeBars = (stats, { size, times }, colours, { name, key, target, colour, ...style }) => ({
  type: 'bar',
  name,
  x: toDates(times),
  y: sumByStep(stats, times, key, target),
  width: size * 850,
  offset: 0,
  marker: { color: colour, line: { color: colours.surface, width: times.length > 100 ? 0 : 1 } },
  ...style,
})

function drawTraffic({ stats }, colours) {
  const steps = listSteps(stats)
  const make = (target, name, colour) =>
    makeBars(stats, steps, colours, { name, key: 'requests', target, colour })
  const answered = TIERS.map((tier) => make(tier, tier, colours[tier]))
  const rejected = make('', 'no tier', colours.dim)
  return {
    data: rejected.y.some(Boolean) ? [...answered, rejected] : answered,
    layout: { barmode: 'stack', yaxis: { rangemode: 'tozero' } },
  }
}

function drawCost({ stats }, colours) {
  const steps = listSteps(stats)
  const make = (name, key, colour, style) =>
    makeBars(stats, steps, colours, {
      name,
      key,
      colour,
      hovertemplate: '$%{y:.4f}',
      ...style,
    })
  return {
    data: [
      make('spent', 'cost_usd', colours.cloud),
      make('saved (spent + saved = all-cloud cost)', 'saved_usd', colours.saved, {
        hovertemplate: '$%{y:.4f} saved<extra></extra>',
      }),
    ],
    layout: {
      barmode: 'relative',
      yaxis: { rangemode: 'tozero', tickprefix: '$', exponentformat: 'none' },
    },
  }
}

/** A chart in words, for those who do not see it; empty without data. */
export function describeChart(name, { stats }) {
  if (!stats) return ''
  const { series, step, total, scores, threshold } = stats
  const sum = (target) =>
    series.reduce((all, point) => all + (point.target === target ? point.requests : 0), 0)
  if (name === 'traffic')
    return `Requests by ${step}: ${count(sum('local'))} local, ${count(sum('cloud'))} cloud, ${count(sum(''))} neither. The table below the charts has the values.`
  if (name === 'money')
    return `Cost by ${step}: ${dollars(total.cost_usd)} spent, ${dollars(total.saved_usd)} saved. The table below the charts has the values.`
  if (name === 'scores') {
    const local = scores.slice(Math.round(threshold * 100)).reduce((all, one) => all + one, 0)
    return `Distribution of ${count(scores.reduce((all, one) => all + one, 0))} scores; ${count(local)} are at or above the threshold ${formatScore(threshold)}.`
  }
  return ''
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
      legend: { orientation: 'h', x: 0, y: 1.14, yanchor: 'bottom' }, // above the threshold's label
      xaxis: {
        range: [0, 1],
        title: {
          text: isByScore ? 'score: P(local suffices)' : 'merit: gain per cloud dollar, low first',
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
          xanchor: threshold < 0.15 ? 'left' : threshold > 0.85 ? 'right' : 'center',
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
