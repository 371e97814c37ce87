// The dashboard's card of the threshold: the cost-quality curve, a slider that previews another
// threshold on recent requests, and its change in the configuration file.

import { drawChart } from './charts.js'
import { $, createCopyButton, replace } from './dom.js'
import { count, dollars, score as formatScore, percent } from './format.js'
import { getJson } from './http.js'
import { openRulesPreview } from './rules-preview.js'
import { openChanges } from './threshold-change.js'
import { drawCurve, findPoint, nameBasis } from './threshold-curve.js'
import { createMoves, describeMoves } from './threshold-moves.js'

const TYPING_MS = 200 // delay of the preview after the last step of the slider

/**
 * Connect the card of the page.
 *
 * @param getPeriod returns the query of the time range
 * @param onChange is called after the setting was changed; it refreshes the page, and with it this card
 * @returns refresh: reads the curve and the setting again; draw: starts the chart
 */
export function openThreshold(getPeriod, onChange) {
  const slider = $('#whatif')
  let pareto = null
  let state = null // of /api/threshold
  let chart = null
  let isDrawing = false
  let isMoved = false
  let waiting = null
  let pending = null // the AbortController of the current preview

  const readWhatIf = () => (isMoved || !state ? Number(slider.value) / 100 : state.configured)
  const changes = openChanges(
    () => (isMoved && !isConfigured() ? readWhatIf() : null),
    (changed) => {
      isMoved = false
      showSetting(changed)
      onChange()
    },
  )
  openRulesPreview()
  replace($('#whatif-copy'), createCopyButton(writeConfiguration, 'Copy as configuration'))

  function writeConfiguration() {
    const value = isMoved || !state ? readWhatIf().toFixed(2) : state.setting
    return `routing:\n  threshold: ${value}\n`
  }

  const isConfigured = () => Math.abs(readWhatIf() - state.configured) < 0.00005

  function showSetting(current) {
    const before = state
    state = current
    if (!isMoved) slider.value = Math.round(state.configured * 100)
    $('#pacing').hidden = !state.is_paced
    replace(
      $('#pacing'),
      `The budget pacer lowers the threshold from ${formatScore(state.configured)} to ${formatScore(state.threshold)} now, so that the day’s budget lasts. It lowers a higher threshold, too.`,
    )
    changes.show(state)
    showWhatIf()
    if (before?.threshold !== state.threshold) preview()
  }

  function showCurve() {
    replace($('#basis'), describeBasis())
    update()
    showWhatIf()
  }

  function describeBasis() {
    const { basis, judged, judged_needed: needed, curve } = pareto
    if (basis === null) return 'Quality cannot be estimated without a router model.'
    if (basis === 'judged' && curve[100].quality === null)
      return `The local answers to ${count(judged)} judged requests are as good as the cloud’s: there is no quality to recover.`
    return {
      judged: `Cost and quality of ${count(judged)} judged requests of this time range.`,
      validation: `Cost and quality on the router’s validation data, until ${count(needed)} requests of this time range are judged (${count(judged)} so far).`,
    }[basis]
  }

  function showWhatIf() {
    const threshold = readWhatIf()
    slider.setAttribute('aria-valuetext', formatScore(threshold))
    replace($('#whatif-at'), formatScore(threshold))
    changes.update()
    if (!pareto) return
    const point = findPoint(pareto, threshold)
    const { requests, all_cloud_usd: allCloud } = pareto
    const traffic = requests
      ? `${percent(1 - point.cloud_share)} of ${count(requests)} scored requests stay local. The others cost ${dollars(point.cost_usd)}; all of them in the cloud, ${dollars(allCloud)}.`
      : 'No scored requests in this time range.'
    const quality =
      point.quality === null
        ? ''
        : ` ${percent(point.quality)} of the quality for ${percent(point.cost_share)} of the cost, on ${nameBasis(pareto)}.`
    replace($('#whatif-result'), traffic + quality)
  }

  function previewSoon() {
    clearTimeout(waiting)
    pending?.abort()
    $('#moving').setAttribute('aria-busy', 'true')
    waiting = setTimeout(preview, TYPING_MS)
  }

  async function preview() {
    clearTimeout(waiting)
    pending?.abort()
    pending = new AbortController()
    const { signal } = pending
    const moving = $('#moving')
    if (!isMoved || isConfigured()) {
      moving.removeAttribute('aria-busy')
      replace(moving, 'Move the slider to see which recent requests would go elsewhere.')
      showMoves([])
      return
    }
    try {
      const found = await getJson(`/api/threshold/preview?threshold=${readWhatIf()}`, { signal })
      replace(moving, describePreview(found))
      showMoves(found.moves, found.to_cloud.requests + found.to_local.requests)
    } catch (error) {
      if (error.name === 'AbortError') return
      replace(moving, error.message)
      showMoves([])
    }
    moving.removeAttribute('aria-busy')
  }

  function describePreview(found) {
    if (!found.requests) return 'No requests were decided by score yet.'
    const paced =
      found.effective < found.threshold
        ? ` Pacing keeps it at ${formatScore(found.effective)} now.`
        : ''
    return `Of the newest ${count(found.requests)} requests decided by score: ${describeMoves(found)}${paced}`
  }

  function showMoves(moves, number = moves.length) {
    $('#moved').hidden = !moves.length
    const newest = number > moves.length ? ` (the newest ${moves.length} of ${count(number)})` : ''
    replace($('#moved summary'), `Requests that would move${newest}`)
    replace($('#moved-list'), moves.length ? createMoves(moves) : null)
  }

  function update() {
    if (!isDrawing || !pareto) return
    if (chart) chart.update()
    else
      chart = drawChart($('#curve'), (colours) =>
        drawCurve({ pareto, whatIf: readWhatIf() }, colours),
      )
  }

  slider.addEventListener('input', () => {
    isMoved = true
    if (!state) return
    replace($('#change-state'))
    showWhatIf()
    update()
    previewSoon()
  })

  async function refresh({ signal } = {}) {
    const read = async (path, show) => show(await getJson(path, { signal }))
    await Promise.all([
      read('/api/threshold', showSetting),
      read(`/api/pareto?${getPeriod()}`, (current) => {
        pareto = current
        showCurve()
      }),
    ])
  }

  function draw() {
    isDrawing = true
    update()
  }

  return { refresh, draw }
}
