// Results of the experiment steps, drawn from the JSON files that the steps wrote.

import { createAblation, createComparison } from './baseline-findings.js'
import { $, h, replace } from './dom.js'
import { bytes, count, percent, score, usd, when } from './format.js'
import { createErrorAnalysis, createEvaluation } from './model-findings.js'
import {
  createCard,
  createChart,
  createOrigin,
  createTable,
  formatShortInterval,
  ROUTER,
} from './result-parts.js'

function createBenchmark({ baseline: result }) {
  if (!result) return createCard('benchmark', 'Live benchmark', createEmpty('Baseline benchmark'))
  const all = { ...result.categories, all: result.overall }
  const roles = Object.keys(result.overall.quality)
  const names = Object.keys(all)
  const { pgr, cost_share: cost } = result.overall
  return createCard(
    'benchmark',
    'Live benchmark',
    createOrigin(result, result.overall.questions),
    pgr &&
      h(
        'p',
        {},
        'The proxy recovers ',
        formatShortInterval(pgr),
        ` of the quality gap for ${percent(cost)} of the cloud’s cost.`,
      ),
    createChart(`Quality of ${roles.join(', ')} by category.`, 280, (colours) => ({
      data: roles.map((role) => ({
        type: 'bar',
        name: `${role} (${result.models[role]})`,
        x: names,
        y: names.map((name) => all[name].quality[role]?.[0]),
        marker: { color: colours[role === ROUTER ? 'accent' : role] },
        hovertemplate: '%{y:.2f}',
      })),
      layout: { barmode: 'group', yaxis: { range: [0, 10], title: { text: 'quality, 1 to 10' } } },
    })),
    createTable(
      ['', ...roles],
      names.map((name) => ({
        isChosen: name === 'all',
        cells: [name, ...roles.map((role) => formatShortInterval(all[name].quality[role]))],
      })),
      'Quality by category',
    ),
  )
}

function createValidation({ judge: result }) {
  if (!result)
    return createCard(
      'validate-judge',
      'Judge against human scores',
      createEmpty('Judge validation'),
    )
  const figures = {
    spearman: 'Rank correlation',
    kappa_ok: 'Kappa, good or not',
    kappa_quadratic: 'Kappa, weighted',
    same_side_of_ok: 'Agreement, good or not',
    judge_minus_human: 'Judge minus human, points',
  }
  return createCard(
    'validate-judge',
    'Judge against human scores',
    createOrigin(result, result.n),
    createTable(
      ['', 'Value'],
      Object.entries(figures).map(([key, title]) => ({
        cells: [title, formatShortInterval(result[key])],
      })),
      'Agreement of judge and human scores',
    ),
  )
}

function createLabels({ labels: result }) {
  if (!result.length) return null
  return createCard(
    'label',
    'Labelled prompts',
    createTable(
      ['File', 'Rows', 'Local', 'Cloud', 'Local wins', 'Ties', 'Cloud wins', 'Cost'],
      result.map((file) => ({
        cells: [
          file.name,
          count(file.rows),
          score(file.local_score),
          score(file.cloud_score),
          ...['local', 'tie', 'cloud'].map((winner) => count(file.preferences[winner])),
          usd(file.usd),
        ],
      })),
      'Files of labelled prompts',
    ),
  )
}

function createModels({ models, learning_curve: result }) {
  const made = Object.entries(models).filter(([, model]) => model)
  if (!made.length) return null
  const learned =
    result &&
    createChart(
      'Learning curve: AUROC against the number of training prompts.',
      220,
      (colours) => ({
        data: [
          {
            x: result.points.map((point) => point.rows),
            y: result.points.map((point) => point.router.auroc_within_sources?.mean),
            name: 'router',
            mode: 'lines+markers',
            line: { color: colours.accent },
          },
          {
            x: result.points.map((point) => point.rows),
            y: result.points.map((point) => point['TF-IDF + LR']?.auroc_within_sources),
            name: 'TF-IDF + LR',
            mode: 'lines+markers',
            line: { color: colours.warn, dash: 'dash' },
          },
        ],
        layout: {
          xaxis: { title: { text: 'training prompts' } },
          yaxis: { title: { text: 'AUROC within sources' } },
        },
      }),
    )
  return createCard(
    'train',
    'Router models',
    createTable(
      ['', 'Version', 'Base', 'Pair', 'Threshold'],
      made.map(([name, model]) => ({
        cells: [
          name,
          model.version,
          model.base,
          `${model.local_model} × ${model.cloud_model}`,
          score(model.threshold, 3),
        ],
      })),
      'Router models',
    ),
    made.map(([name, { metrics }]) => createMetrics(name, metrics)),
    learned && [
      h(
        'p',
        { class: 'small dim' },
        `Learning curve · ${result.split} rows · n = ${count(result.rows)} · ${result.date}`,
      ),
      learned,
    ],
  )
}

const METRICS = {
  auroc_local: 'AUROC, local answer is good',
  apgr: 'APGR',
  pgr_at_40_usd: 'Quality recovered at 40% of the cost',
  ece_local: 'Calibration error, P(local good)',
  ece_score: 'Calibration error of the score',
}

/** The validation figures that a router model carries with it, without any result file. */
function createMetrics(name, metrics) {
  const validation = metrics?.validation
  const known = Object.entries(METRICS).filter(([key]) => typeof validation?.[key] === 'number')
  if (!known.length) return null
  return createTable(
    [`Validation of the ${name} model, n = ${count(validation.rows)}`, 'Value'],
    known.map(([key, title]) => ({ cells: [title, score(validation[key], 3)] })),
    `Validation of the ${name} model`,
  )
}

function createReport({ files }) {
  if (!files.length) return null
  return createCard(
    'report',
    'Report',
    createTable(
      ['File', 'Size', 'Modified'],
      files.map((file) => ({ cells: [file.name, bytes(file.bytes), when(file.at)] })),
      'Report files',
    ),
  )
}

const createEmpty = (title) => h('p', { class: 'empty' }, `No results yet. Run ${title}.`)

const SECTIONS = [
  ['evaluate', createEvaluation],
  ['baselines', createComparison],
  ['ablation', createAblation],
  ['errors', createErrorAnalysis],
  ['train', createModels],
  ['benchmark', createBenchmark],
  ['validate-judge', createValidation],
  ['label', createLabels],
  ['report', createReport],
]

const shown = new Map() // by step: the JSON text that was drawn, and the element

/** Draw the results that have changed. An unreadable file affects its own card only. */
export function showResults(results) {
  for (const [step, create] of SECTIONS) {
    const text = JSON.stringify(results[step])
    const last = shown.get(step) ?? { element: h('div', { class: 'found' }) }
    if (last.text === text) continue
    shown.set(step, { ...last, text })
    try {
      replace(last.element, create(results[step]))
    } catch {
      replace(
        last.element,
        createCard(
          step,
          `Results of ${step}`,
          h('p', { class: 'error' }, 'The result file is incomplete or from another version.'),
        ),
      )
    }
  }
  if (!$('#results').childElementCount)
    replace(
      $('#results'),
      [...shown.values()].map(({ element }) => element),
    )
  replace($('#caveat'), results.evaluate?.evaluation?.what)
  $('#results').setAttribute('aria-busy', 'false')
}
