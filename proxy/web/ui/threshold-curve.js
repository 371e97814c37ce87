// The cost-quality curve: cost and quality of each threshold, both of the same requests.

import { score as formatScore } from './format.js'

/** The point of the curve at a threshold. */
export const findPoint = ({ curve }, threshold) => curve[Math.round(threshold * 100)]

const NAMES = { judged: 'judged requests', validation: 'validation data' }

/** What the curve is measured on, in words; empty without a curve. */
export const nameBasis = ({ basis }) => NAMES[basis] ?? ''

/** Plotly's figure of the curve, the threshold in use, and another one. */
export function drawCurve({ pareto, whatIf }, colours) {
  const known = pareto.curve.filter(
    ({ quality, cost_share: cost }) => quality !== null && cost !== null,
  )
  const current = findPoint(pareto, pareto.threshold)
  const selected = findPoint(pareto, whatIf)
  const makeMarker = (point, name, colour, symbol) => ({
    type: 'scatter',
    mode: 'markers',
    name,
    x: [point.cost_share],
    y: [point.quality],
    marker: { color: colour, size: 12, symbol, line: { color: colours.surface, width: 1.5 } },
    hovertemplate: `threshold ${formatScore(point.threshold)}<extra></extra>`,
  })
  return {
    data: known.length
      ? [
          {
            type: 'scatter',
            mode: 'lines',
            name: 'Random routing',
            x: [0, 1],
            y: [0, 1],
            line: { color: colours.dim, width: 1, dash: 'dot' },
            hoverinfo: 'skip',
          },
          {
            type: 'scatter',
            mode: 'lines',
            name: 'By score',
            x: known.map((point) => point.cost_share),
            y: known.map((point) => point.quality),
            text: known.map((point) => formatScore(point.threshold)),
            line: { color: colours.accent, width: 2 },
            hovertemplate:
              'threshold %{text}: %{x:.0%} of the cost, %{y:.0%} of the quality<extra></extra>',
          },
          makeMarker(current, 'In use', colours.text, 'circle'),
          ...(selected.threshold === current.threshold
            ? []
            : [makeMarker(selected, 'Preview', colours.warn, 'diamond')]),
        ]
      : [],
    layout: {
      hovermode: 'closest',
      xaxis: {
        title: { text: 'Share of the all-cloud cost' },
        tickformat: '.0%',
        range: [-0.02, 1.02],
      },
      yaxis: { title: { text: 'Quality recovered' }, tickformat: '.0%', range: [-0.04, 1.06] },
    },
  }
}
