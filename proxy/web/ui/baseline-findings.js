// Comparison of the router model with its baselines and ablations.

import { h } from './dom.js'
import { percent, score } from './format.js'
import {
  createCard,
  createChart,
  createOrigin,
  createSelection,
  createTable,
  formatInterval,
  ROUTER,
  SHARE_AXIS,
} from './result-parts.js'

const INSIDE = 'in distribution'
const COMPARED = ['router', 'TF-IDF + LR', 'features + LR', 'MiniLM kNN', 'rules', 'random']

export function createComparison({ baselines: result }) {
  if (!result) return null
  const parts = Object.keys(result.parts)
  const show = (part) => {
    const { baselines, rows } = result.parts[part]
    const sorted = Object.entries(baselines).sort(
      ([, a], [, b]) => (b.auroc_local?.[0] ?? -1) - (a.auroc_local?.[0] ?? -1),
    )
    return [
      createOrigin(result, rows),
      createTable(
        ['', 'AUROC', 'APGR', 'PGR at router’s cloud share', 'Quality', 'Cost', 'Router’s lead'],
        sorted.map(([name, row]) => ({
          isChosen: name === ROUTER,
          cells: [
            name,
            formatInterval(row.auroc_local),
            formatInterval(row.apgr),
            formatInterval(row.pgr_at_rate),
            score(row.quality),
            percent(row.cost_share),
            formatInterval(row.router_ahead?.auroc_local),
          ],
        })),
        `Router and baselines, ${part}`,
      ),
    ]
  }
  const drawn = COMPARED.filter((name) => result.curves[name])
  const curves = createChart(
    'Router and baselines: quality against the share of the cost.',
    300,
    (colours) => ({
      data: drawn.map((name, index) => ({
        x: result.curves[name].cost_share,
        y: result.curves[name].quality,
        name,
        mode: 'lines',
        hovertemplate: '%{y:.2f}',
        line: {
          color: colours.series[index % colours.series.length],
          width: name === ROUTER ? 3 : 1.5,
          dash: ['solid', 'dash', 'dot', 'dashdot'][index % 4],
        },
      })),
      layout: {
        xaxis: { ...SHARE_AXIS, title: { text: 'share of the all-cloud cost' } },
        yaxis: { title: { text: 'quality, 0 to 10' } },
      },
    }),
  )
  return h(
    'div',
    { class: 'wide' },
    createCard(
      'baselines',
      'Router and baselines',
      createSelection('Data set', 'part', parts, show),
      curves,
    ),
  )
}

export function createAblation({ ablation: result }) {
  const inside = result?.parts[INSIDE]
  if (!inside) return null
  const rows = inside.baselines
  const names = Object.keys(rows)
  const titles = {
    'features + LR': 'features only',
    'TF-IDF + LR': 'words only',
    router: 'full router',
    random: 'random',
  }
  const lead = rows['features + LR']?.router_ahead.auroc_local
  return createCard(
    'ablation',
    'Ablation: router without its network',
    createOrigin(result, inside.rows),
    h('p', {}, 'The full router exceeds hand-made features by ', formatInterval(lead), ' AUROC.'),
    createChart(
      'AUROC and APGR of the full router and its ablations.',
      90 + 44 * names.length,
      (colours) => ({
        data: [
          ['auroc_local', 'AUROC', 'accent'],
          ['apgr', 'APGR', 'warn'],
        ].map(([key, title, colour]) => ({
          name: title,
          y: names.map((name) => titles[name] ?? name),
          x: names.map((name) => rows[name][key]?.[0]),
          mode: 'markers',
          marker: { size: 10, color: colours[colour] },
          error_x: {
            type: 'data',
            symmetric: false,
            thickness: 1.5,
            color: colours[colour],
            array: names.map((name) => rows[name][key]?.[2] - rows[name][key]?.[0]),
            arrayminus: names.map((name) => rows[name][key]?.[0] - rows[name][key]?.[1]),
          },
          hovertemplate: '%{x:.3f}',
        })),
        layout: { hovermode: 'y unified', xaxis: { range: [0.45, 0.85] } },
      }),
    ),
    createTable(
      ['', 'AUROC', 'APGR', 'Router’s lead'],
      names.map((name) => ({
        isChosen: name === ROUTER,
        cells: [
          titles[name] ?? name,
          formatInterval(rows[name].auroc_local),
          formatInterval(rows[name].apgr),
          formatInterval(rows[name].router_ahead?.auroc_local),
        ],
      })),
      'Ablations of the router',
    ),
  )
}
