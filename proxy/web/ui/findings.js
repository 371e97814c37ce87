// What the steps have found, drawn from the JSON that they wrote. Nothing is computed anew.

import { chart } from './charts.js'
import { $, h, replace } from './dom.js'
import { bytes, count, percent, score, usd, when } from './format.js'

const ROUTER = 'router'
const INSIDE = 'in distribution'
const COMPARED = ['router', 'TF-IDF + LR', 'features + LR', 'MiniLM kNN', 'rules', 'random']

/** A figure with its 95 % interval. */
const interval = (value, show = (one) => score(one, 3)) =>
  typeof value?.[0] === 'number'
    ? [show(value[0]), ' ', h('span', { class: 'dim small interval' }, `[${show(value[1])}, ${show(value[2])}]`)]
    : '–'
const inPercent = (value) => interval(value, (one) => percent(one, 1))
const brief = (value) => interval(value, (one) => score(one, 2))

/** What every result says of itself. */
const origin = (content, rows) =>
  h('p', { class: 'small dim' }, [
    content.split && `${content.split} rows`, rows && `n = ${count(rows)}`, content.model_version && `router ${content.model_version}`,
    content.date ?? content.created_at?.slice(0, 10),
  ].filter(Boolean).join(' · '))

const card = (name, title, ...content) => h('section', { class: 'card stack', id: `found-${name}`, 'aria-labelledby': `found-${name}-title` },
  h('h3', { id: `found-${name}-title` }, title), ...content)

function table(heads, rows, caption) {
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', { class: 'table' },
      h('caption', { class: 'offscreen' }, caption),
      h('thead', {}, h('tr', {}, heads.map((head, index) => h('th', { scope: 'col', class: index ? 'num' : null }, head)))),
      h('tbody', {}, rows.map(({ cells, isChosen }) => h('tr', { class: isChosen ? 'chosen' : null },
        cells.map((cell, index) => index ? h('td', { class: 'num' }, cell) : h('th', { scope: 'row' }, cell)))))))
}

/** A chart, and in words what it shows. */
function picture(label, height, make) {
  const element = h('div', { class: 'chart', role: 'img', 'aria-label': label, style: { '--height': `${height}px` } })
  // Plotly measures what it draws into.
  requestAnimationFrame(() => chart(element, make))
  return element
}

/** One of several to show. */
function choose(legend, name, options, show) {
  const body = h('div', { class: 'stack' })
  const draw = (option) => replace(body, show(option))
  draw(options[0])
  const inputs = options.map((option, index) => h('label', {},
    h('input', { type: 'radio', name, checked: index === 0, on: { change: () => draw(option) } }), option))
  return [h('fieldset', { class: 'segmented' }, h('legend', {}, legend), inputs), body]
}

const SHARE = { tickformat: '.0%', rangemode: 'tozero' }

function evaluation({ evaluation: found }) {
  if (!found) return null
  const inside = found.in_distribution
  const at = inside.at_threshold
  const words = `At its threshold ${score(found.threshold, 3)} the router keeps ${percent(at.local_share)} local and recovers ${percent(at.pgr)} of the quality gap for ${percent(at.cost_share)} of the cost.`
  const curve = picture(`Quality against cost. ${words}`, 300, (colours) => ({
    data: [
      { x: found.curve.cost_share, y: found.curve.quality, name: 'router', mode: 'lines', line: { color: colours.accent, width: 2.5 }, hovertemplate: '%{y:.2f}' },
      { x: [0, 1], y: [inside.quality_local, inside.quality_cloud], name: 'by lot', mode: 'lines', line: { color: colours.dim, dash: 'dot' }, hoverinfo: 'skip' },
      { x: [0], y: [inside.quality_local], name: 'all local', mode: 'markers', marker: { color: colours.local, size: 11 }, hovertemplate: '%{y:.2f}' },
      { x: [1], y: [inside.quality_cloud], name: 'all cloud', mode: 'markers', marker: { color: colours.cloud, size: 11 }, hovertemplate: '%{y:.2f}' },
      { x: [at.cost_share], y: [at.quality], name: 'at its threshold', mode: 'markers', marker: { color: colours.accent, size: 11, symbol: 'diamond' }, hovertemplate: '%{y:.2f}' },
    ],
    layout: { xaxis: { ...SHARE, title: { text: 'share of the all-cloud cost' } }, yaxis: { title: { text: 'quality, 0 to 10' } } },
  }))
  const facts = [
    ['AUROC, local is good', interval(inside.auroc_local)], ['… by source and category alone', interval(inside.auroc_category_mean)],
    ['APGR', interval(inside.apgr)], ['Cloud share for 50 % of the gap', percent(inside.cpt_50)], ['Cloud share for 80 %', percent(inside.cpt_80)],
    ['Calibration error of the score', score(inside.ece_score, 3)], ['… by chance', score(inside.ece_by_chance, 3)],
  ]
  return [
    card('evaluate', 'Quality against cost', origin(found, inside.rows), h('p', {}, words), curve),
    card('calibration', 'Calibration', origin(found, inside.rows), h('p', {}, 'How often it came true, against what was predicted.'), reliability(found.reliability)),
    card('wins', 'Who wins, by source', origin(found), wins(found.sources)),
    card('figures', 'The evaluation in figures', origin(found, inside.rows), table(['', 'Value'], facts.map((cells) => ({ cells })), 'Figures of the evaluation')),
  ]
}

function reliability(found) {
  const lines = [['p_local', 'local is good', 'local'], ['score', 'local suffices', 'accent']]
  return picture('How often it came true, against what was predicted; on the diagonal both are equal.', 300, (colours) => ({
    data: [
      { x: [0, 1], y: [0, 1], name: 'as predicted', mode: 'lines', line: { color: colours.dim, dash: 'dot' }, hoverinfo: 'skip' },
      ...lines.filter(([key]) => found[key]).map(([key, name, colour]) => ({
        x: found[key].predicted, y: found[key].observed, customdata: found[key].rows, name, mode: 'lines+markers',
        line: { color: colours[colour] }, marker: { size: found[key].rows.map((rows) => 4 + Math.sqrt(rows) / 2) },
        hovertemplate: '%{y:.2f}, n = %{customdata}',
      })),
    ],
    layout: { xaxis: { range: [0, 1], title: { text: 'predicted' } }, yaxis: { range: [0, 1.02], title: { text: 'observed' } } },
  }))
}

function wins(sources) {
  const names = Object.keys(sources).reverse()
  const told = names.map((name) => `${name}: the cloud is better for ${percent(sources[name].cloud_better_share)}`).join('; ')
  return picture(`Who answers better. ${told}.`, 60 + 42 * names.length, (colours) => ({
    data: [
      ['local suffices', 'local', (one) => 1 - one.cloud_better_share], ['the cloud is better', 'cloud', (one) => one.cloud_better_share],
    ].map(([name, colour, share]) => ({
      type: 'bar', orientation: 'h', name, y: names, x: names.map((one) => share(sources[one])), marker: { color: colours[colour] },
      hovertemplate: '%{x:.0%}', customdata: names.map((one) => sources[one].rows),
    })),
    layout: { barmode: 'stack', hovermode: 'y unified', xaxis: { ...SHARE, range: [0, 1] }, bargap: 0.35 },
  }))
}

function comparison({ baselines: found }) {
  if (!found) return null
  const parts = Object.keys(found.parts)
  const show = (part) => {
    const { baselines, rows } = found.parts[part]
    const by = Object.entries(baselines).sort(([, a], [, b]) => (b.auroc_local?.[0] ?? -1) - (a.auroc_local?.[0] ?? -1))
    return [
      origin(found, rows),
      table(['', 'AUROC', 'APGR', 'PGR at its rate', 'Quality', 'Cost', 'Router ahead'], by.map(([name, row]) => ({
        isChosen: name === ROUTER,
        cells: [name, interval(row.auroc_local), interval(row.apgr), interval(row.pgr_at_rate), score(row.quality), percent(row.cost_share), interval(row.router_ahead?.auroc_local)],
      })), `The router and everything simpler, ${part}`),
    ]
  }
  const drawn = COMPARED.filter((name) => found.curves[name])
  const curves = picture('Quality against the share of the cost, of the router and simpler ones.', 300, (colours) => ({
    data: drawn.map((name, index) => ({
      x: found.curves[name].cost_share, y: found.curves[name].quality, name, mode: 'lines', hovertemplate: '%{y:.2f}',
      line: { color: colours.series[index % colours.series.length], width: name === ROUTER ? 3 : 1.5, dash: ['solid', 'dash', 'dot', 'dashdot'][index % 4] },
    })),
    layout: { xaxis: { ...SHARE, title: { text: 'share of the all-cloud cost' } }, yaxis: { title: { text: 'quality, 0 to 10' } } },
  }))
  return h('div', { class: 'wide' }, card('baselines', 'The router and everything simpler', choose('Part of the rows', 'part', parts, show), curves))
}

function ablation({ ablation: found }) {
  const inside = found?.parts[INSIDE]
  if (!inside) return null
  const rows = inside.baselines
  const names = Object.keys(rows)
  const titles = { 'features + LR': 'features alone', 'TF-IDF + LR': 'words alone', router: 'the whole router', random: 'chance' }
  const ahead = rows['features + LR']?.router_ahead.auroc_local
  return card('ablation', 'Without the network', origin(found, inside.rows),
    h('p', {}, 'The network and what it is served with are ahead of hand-made features by ', interval(ahead), ' AUROC.'),
    picture('AUROC and APGR of what is left of the router.', 90 + 44 * names.length, (colours) => ({
      data: [['auroc_local', 'AUROC', 'accent'], ['apgr', 'APGR', 'warn']].map(([key, name, colour]) => ({
        name, y: names.map((one) => titles[one] ?? one), x: names.map((one) => rows[one][key]?.[0]), mode: 'markers', marker: { size: 10, color: colours[colour] },
        error_x: {
          type: 'data', symmetric: false, thickness: 1.5, color: colours[colour],
          array: names.map((one) => rows[one][key]?.[2] - rows[one][key]?.[0]), arrayminus: names.map((one) => rows[one][key]?.[0] - rows[one][key]?.[1]),
        },
        hovertemplate: '%{x:.3f}',
      })),
      layout: { hovermode: 'y unified', xaxis: { range: [0.45, 0.85] } },
    })),
    table(['', 'AUROC', 'APGR', 'Router ahead'], names.map((name) => ({
      isChosen: name === ROUTER, cells: [titles[name] ?? name, interval(rows[name].auroc_local), interval(rows[name].apgr), interval(rows[name].router_ahead?.auroc_local)],
    })), 'What is left of the router without its network'))
}

const KINDS = { 'false local': 'kept local, the cloud was better', 'false cloud': 'sent to the cloud, local would have done' }

function mistakes({ errors: found, robustness }) {
  const parts = []
  if (found) {
    const { edges, local_suffices: suffices, cloud_better: better } = found.histogram
    const middles = edges.slice(1).map((edge, index) => (edge + edges[index]) / 2)
    const sources = Object.entries(found.sources)
    parts.push(card('errors', 'Where it decides wrongly', origin(found, found.rows),
      table(['', 'n', 'Kept local', 'Wrongly local', 'Wrongly cloud'], sources.map(([name, row]) => ({
        isChosen: name === 'all', cells: [name, count(row.rows), percent(row.local_share), inPercent(row['false local']), inPercent(row['false cloud'])],
      })), 'Shares of wrong decisions by source'),
      picture('How scores are spread, where local suffices and where the cloud is better.', 220, (colours) => ({
        data: [[suffices, 'local suffices', 'local'], [better, 'the cloud is better', 'cloud']].map(([y, name, colour]) => ({
          type: 'bar', x: middles, y, name, marker: { color: colours[colour] }, hovertemplate: '%{y}',
        })),
        layout: {
          barmode: 'stack', bargap: 0.08, xaxis: { title: { text: 'score' }, range: [0, 1] }, yaxis: { title: { text: 'prompts' } },
          shapes: [{ type: 'line', x0: found.threshold, x1: found.threshold, yref: 'paper', y0: 0, y1: 1, line: { color: colours.text, dash: 'dash' } }],
        },
      }))))
    parts.push(card('examples', 'The most confident mistakes', choose('Kind of mistake', 'kind', Object.keys(found.examples), (kind) => [
      h('p', { class: 'small dim' }, KINDS[kind]),
      h('ol', { class: 'examples scroll', tabindex: '0', 'aria-label': `Mistakes: ${kind}` }, found.examples[kind].map((one) => h('li', {},
        h('p', { class: 'small dim num' }, `score ${score(one.score)} · ${one.category} · local ${score(one.local_score, 0)}, cloud ${score(one.cloud_score, 0)}`),
        h('p', {}, one.text)))),
    ])))
  }
  if (robustness) {
    const changes = Object.entries(robustness.changes)
    parts.push(card('robustness', 'What turns a decision', origin(robustness, robustness.rows),
      table(['Change', 'Stays', 'To cloud', 'To local'], changes.map(([name, row]) => ({
        cells: [name, inPercent(row.survive), percent(row.to_cloud, 1), percent(row.to_local, 1)],
      })), 'Harmless changes of a prompt, and how many decisions they turn')))
  }
  return parts
}

function benchmark({ baseline: found }) {
  if (!found) return card('benchmark', 'Live benchmark', empty('Baseline benchmark'))
  const all = { ...found.categories, all: found.overall }
  const roles = Object.keys(found.overall.quality)
  const names = Object.keys(all)
  const { pgr, cost_share: cost } = found.overall
  return card('benchmark', 'Live benchmark', origin(found, found.overall.questions),
    pgr && h('p', {}, 'The proxy recovers ', brief(pgr), ` of the quality gap for ${percent(cost)} of the cloud’s cost.`),
    picture(`Quality of ${roles.join(', ')} by category.`, 280, (colours) => ({
      data: roles.map((role) => ({
        type: 'bar', name: `${role} (${found.models[role]})`, x: names, y: names.map((name) => all[name].quality[role]?.[0]),
        marker: { color: colours[role === ROUTER ? 'accent' : role] }, hovertemplate: '%{y:.2f}',
      })),
      layout: { barmode: 'group', yaxis: { range: [0, 10], title: { text: 'quality, 1 to 10' } } },
    })),
    table(['', ...roles], names.map((name) => ({
      isChosen: name === 'all', cells: [name, ...roles.map((role) => brief(all[name].quality[role]))],
    })), 'Quality by category'))
}

function validation({ judge: found }) {
  if (!found) return card('validate-judge', 'The judge and people', empty('Judge validation'))
  const figures = { spearman: 'Rank correlation', kappa_ok: 'Kappa, good or not', kappa_quadratic: 'Kappa, weighted', same_side_of_ok: 'Same side of good', judge_minus_human: 'Judge minus people, points' }
  return card('validate-judge', 'The judge and people', origin(found, found.n),
    table(['', 'Value'], Object.entries(figures).map(([key, title]) => ({ cells: [title, brief(found[key])] })), 'Agreement of the judge with people'))
}

function labels({ labels: found }) {
  if (!found.length) return null
  return card('label', 'Labelled prompts', table(['File', 'Rows', 'Local', 'Cloud', 'Local wins', 'Ties', 'Cloud wins', 'Cost'], found.map((one) => ({
    cells: [one.name, count(one.rows), score(one.local_score), score(one.cloud_score), ...['local', 'tie', 'cloud'].map((who) => count(one.preferences[who])), usd(one.usd)],
  })), 'Files of labelled prompts'))
}

function trained({ models, learning_curve: found }) {
  const made = Object.entries(models).filter(([, model]) => model)
  if (!made.length) return null
  const learned = found && picture('What more training data brings.', 220, (colours) => ({
    data: [
      { x: found.points.map((one) => one.rows), y: found.points.map((one) => one.router.auroc_within_sources?.mean), name: 'router', mode: 'lines+markers', line: { color: colours.accent } },
      { x: found.points.map((one) => one.rows), y: found.points.map((one) => one['TF-IDF + LR']?.auroc_within_sources), name: 'TF-IDF + LR', mode: 'lines+markers', line: { color: colours.warn, dash: 'dash' } },
    ],
    layout: { xaxis: { title: { text: 'training prompts' } }, yaxis: { title: { text: 'AUROC within sources' } } },
  }))
  return card('train', 'Router models',
    table(['', 'Version', 'Base', 'Pair', 'Threshold'], made.map(([name, model]) => ({
      cells: [name, model.version, model.base, `${model.local_model} × ${model.cloud_model}`, score(model.threshold, 3)],
    })), 'Router models'),
    learned && [h('p', { class: 'small dim' }, `Learning curve · ${found.split} rows · n = ${count(found.rows)} · ${found.date}`), learned])
}

function report({ files }) {
  if (!files.length) return null
  return card('report', 'Report', table(['File', 'Size', 'Written'], files.map((one) => ({ cells: [one.name, bytes(one.bytes), when(one.at)] })), 'Files of the report'))
}

const empty = (title) => h('p', { class: 'empty' }, `Nothing measured yet: run ${title}.`)

const SECTIONS = [
  ['evaluate', evaluation], ['baselines', comparison], ['ablation', ablation], ['errors', mistakes], ['train', trained],
  ['benchmark', benchmark], ['validate-judge', validation], ['label', labels], ['report', report],
]

const shown = new Map() // what was drawn of each step: from which text, and where

/** Draw what was found, where it is new. A file that makes no sense costs its own card only. */
export function showResults(results) {
  for (const [step, draw] of SECTIONS) {
    const text = JSON.stringify(results[step])
    const last = shown.get(step) ?? { element: h('div', { class: 'found' }) }
    if (last.text === text) continue
    shown.set(step, { ...last, text })
    try {
      replace(last.element, draw(results[step]))
    } catch {
      replace(last.element, card(step, `Results of ${step}`, h('p', { class: 'error' }, 'They are not of this version, or incomplete.')))
    }
  }
  if (!$('#results').childElementCount) replace($('#results'), [...shown.values()].map(({ element }) => element))
  replace($('#caveat'), results.evaluate?.evaluation?.what)
  $('#results').setAttribute('aria-busy', 'false')
}
