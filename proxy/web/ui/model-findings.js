// Results of the router model's evaluation: quality and cost, calibration, wins and errors.

import { h } from './dom.js'
import { count, percent, score } from './format.js'
import {
  createCard,
  createChart,
  createOrigin,
  createSelection,
  createTable,
  formatInterval,
  formatPercentInterval,
  SHARE_AXIS,
} from './result-parts.js'

export function createEvaluation({ evaluation: result }) {
  if (!result) return null
  const inside = result.in_distribution
  const at = inside.at_threshold
  const summary = `At the threshold ${score(result.threshold, 3)} the router keeps ${percent(at.local_share)} local and recovers ${percent(at.pgr)} of the quality gap for ${percent(at.cost_share)} of the cost.`
  const curve = createChart(`Quality against cost. ${summary}`, 300, (colours) => ({
    data: [
      {
        x: result.curve.cost_share,
        y: result.curve.quality,
        name: 'router',
        mode: 'lines',
        line: { color: colours.accent, width: 2.5 },
        hovertemplate: '%{y:.2f}',
      },
      {
        x: [0, 1],
        y: [inside.quality_local, inside.quality_cloud],
        name: 'random',
        mode: 'lines',
        line: { color: colours.dim, dash: 'dot' },
        hoverinfo: 'skip',
      },
      {
        x: [0],
        y: [inside.quality_local],
        name: 'all local',
        mode: 'markers',
        marker: { color: colours.local, size: 11 },
        hovertemplate: '%{y:.2f}',
      },
      {
        x: [1],
        y: [inside.quality_cloud],
        name: 'all cloud',
        mode: 'markers',
        marker: { color: colours.cloud, size: 11 },
        hovertemplate: '%{y:.2f}',
      },
      {
        x: [at.cost_share],
        y: [at.quality],
        name: 'at the threshold',
        mode: 'markers',
        marker: { color: colours.accent, size: 11, symbol: 'diamond' },
        hovertemplate: '%{y:.2f}',
      },
    ],
    layout: {
      xaxis: { ...SHARE_AXIS, title: { text: 'share of the all-cloud cost' } },
      yaxis: { title: { text: 'quality, 0 to 10' } },
    },
  }))
  const facts = [
    ['AUROC, local answer is good', formatInterval(inside.auroc_local)],
    ['AUROC from source and category alone', formatInterval(inside.auroc_category_mean)],
    ['APGR', formatInterval(inside.apgr)],
    ['Cloud share for 50% of the gap', percent(inside.cpt_50)],
    ['Cloud share for 80% of the gap', percent(inside.cpt_80)],
    ['Calibration error of the score (ECE)', score(inside.ece_score, 3)],
    ['ECE expected by chance', score(inside.ece_by_chance, 3)],
  ]
  return [
    createCard(
      'evaluate',
      'Quality against cost',
      createOrigin(result, inside.rows),
      h('p', {}, summary),
      curve,
    ),
    createCard(
      'calibration',
      'Calibration',
      createOrigin(result, inside.rows),
      h('p', {}, 'Observed frequency against predicted probability.'),
      createReliability(result.reliability),
    ),
    createCard('wins', 'Wins by source', createOrigin(result), createWins(result.sources)),
    createCard(
      'figures',
      'Evaluation metrics',
      createOrigin(result, inside.rows),
      createTable(
        ['', 'Value'],
        facts.map((cells) => ({ cells })),
        'Evaluation metrics',
      ),
    ),
  ]
}

function createReliability(result) {
  const lines = [
    ['p_local', 'local is good', 'local'],
    ['score', 'local suffices', 'accent'],
  ]
  return createChart(
    'Observed frequency against predicted probability. The diagonal is perfect calibration.',
    300,
    (colours) => ({
      data: [
        {
          x: [0, 1],
          y: [0, 1],
          name: 'perfect calibration',
          mode: 'lines',
          line: { color: colours.dim, dash: 'dot' },
          hoverinfo: 'skip',
        },
        ...lines
          .filter(([key]) => result[key])
          .map(([key, name, colour]) => ({
            x: result[key].predicted,
            y: result[key].observed,
            customdata: result[key].rows,
            name,
            mode: 'lines+markers',
            line: { color: colours[colour] },
            marker: { size: result[key].rows.map((rows) => 4 + Math.sqrt(rows) / 2) },
            hovertemplate: '%{y:.2f}, n = %{customdata}',
          })),
      ],
      layout: {
        xaxis: { range: [0, 1], title: { text: 'predicted' } },
        yaxis: { range: [0, 1.02], title: { text: 'observed' } },
      },
    }),
  )
}

function createWins(sources) {
  const names = Object.keys(sources).reverse()
  const summary = names
    .map((name) => `${name}: the cloud is better for ${percent(sources[name].cloud_better_share)}`)
    .join('; ')
  return createChart(
    `Which tier answers better. ${summary}.`,
    60 + 42 * names.length,
    (colours) => ({
      data: [
        ['local suffices', 'local', (source) => 1 - source.cloud_better_share],
        ['the cloud is better', 'cloud', (source) => source.cloud_better_share],
      ].map(([name, colour, share]) => ({
        type: 'bar',
        orientation: 'h',
        name,
        y: names,
        x: names.map((source) => share(sources[source])),
        marker: { color: colours[colour] },
        hovertemplate: '%{x:.0%}',
        customdata: names.map((source) => sources[source].rows),
      })),
      layout: {
        barmode: 'stack',
        hovermode: 'y unified',
        xaxis: { ...SHARE_AXIS, range: [0, 1] },
        bargap: 0.35,
      },
    }),
  )
}

const KINDS = {
  'false local': 'routed to the local tier, but the cloud answer was better',
  'false cloud': 'routed to the cloud, but the local answer would have sufficed',
}

export function createErrorAnalysis({ errors: result, robustness }) {
  const parts = []
  if (result) {
    const { edges, local_suffices: suffices, cloud_better: better } = result.histogram
    const middles = edges.slice(1).map((edge, index) => (edge + edges[index]) / 2)
    const sources = Object.entries(result.sources)
    parts.push(
      createCard(
        'errors',
        'Wrong decisions',
        createOrigin(result, result.rows),
        createTable(
          ['', 'n', 'Local', 'False local', 'False cloud'],
          sources.map(([name, row]) => ({
            isChosen: name === 'all',
            cells: [
              name,
              count(row.rows),
              percent(row.local_share),
              formatPercentInterval(row['false local']),
              formatPercentInterval(row['false cloud']),
            ],
          })),
          'Wrong decisions by source',
        ),
        createChart(
          'Distribution of scores where local suffices and where the cloud is better.',
          220,
          (colours) => ({
            data: [
              [suffices, 'local suffices', 'local'],
              [better, 'the cloud is better', 'cloud'],
            ].map(([y, name, colour]) => ({
              type: 'bar',
              x: middles,
              y,
              name,
              marker: { color: colours[colour] },
              hovertemplate: '%{y}',
            })),
            layout: {
              barmode: 'stack',
              bargap: 0.08,
              xaxis: { title: { text: 'score' }, range: [0, 1] },
              yaxis: { title: { text: 'prompts' } },
              shapes: [
                {
                  type: 'line',
                  x0: result.threshold,
                  x1: result.threshold,
                  yref: 'paper',
                  y0: 0,
                  y1: 1,
                  line: { color: colours.text, dash: 'dash' },
                },
              ],
            },
          }),
        ),
      ),
    )
    parts.push(
      createCard(
        'examples',
        'Most confident mistakes',
        createSelection('Kind of mistake', 'kind', Object.keys(result.examples), (kind) => [
          h('p', { class: 'small dim' }, KINDS[kind]),
          h(
            'ol',
            { class: 'examples scroll', tabindex: '0', 'aria-label': `Mistakes: ${kind}` },
            result.examples[kind].map((example) =>
              h(
                'li',
                {},
                h(
                  'p',
                  { class: 'small dim num' },
                  `score ${score(example.score)} · ${example.category} · local ${score(example.local_score, 0)}, cloud ${score(example.cloud_score, 0)}`,
                ),
                h('p', {}, example.text),
              ),
            ),
          ),
        ]),
      ),
    )
  }
  if (robustness) {
    const changes = Object.entries(robustness.changes)
    parts.push(
      createCard(
        'robustness',
        'Robustness',
        createOrigin(robustness, robustness.rows),
        createTable(
          ['Change', 'Unchanged', 'To cloud', 'To local'],
          changes.map(([name, row]) => ({
            cells: [
              name,
              formatPercentInterval(row.survive),
              percent(row.to_cloud, 1),
              percent(row.to_local, 1),
            ],
          })),
          'Harmless prompt changes and the share of decisions that they flip',
        ),
      ),
    )
  }
  return parts
}
