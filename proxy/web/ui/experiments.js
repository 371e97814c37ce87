// Experiments page: the steps of the training pipeline, the running job and the results.

import { $, createCopyButton, h, replace } from './dom.js'
import { StepCard } from './experiment-step.js'
import { showResults } from './findings.js'
import { percent, span } from './format.js'
import { getJson } from './http.js'
import { JobLog } from './job-log.js'
import './shell.js'

const POLL_MS = 1000
const IDLE_MS = 10_000 // another client may start a job
const NO_LOG = 1_000_000_000 // a log position past every end

const cards = new Map() // by the name of the step
const log = new JobLog()
let running = null // the running job, in any process
let drift = 0 // seconds by which this clock is ahead of the proxy's

const getNow = () => Date.now() / 1000 - drift

/** Show the running job in a line above the steps. */
function showCurrent() {
  const card = cards.get(running?.step)
  $('#current').hidden = !card
  if (!card) return
  const progress = running.progress === null ? '' : ` · ${percent(running.progress)}`
  replace(
    $('#current'),
    h('a', { href: `#step-${card.name}` }, `${card.title} is running`),
    h('span', { class: 'num' }, `${progress} · ${span(getNow() - running.started_at)}`),
  )
}

const announce = (text) => replace($('#announce'), text)

/** The functions of the page that a step card calls. */
const page = {
  announce,
  follow,
  getNow,
  openLog: (job, title) => log.open(job, title),
  isRunning: () => running !== null,
  refresh,
}

/** Show a running job and poll it until it ends. */
function follow(job) {
  running = job
  for (const card of cards.values()) card.show(card.name === job.step ? job : card.step.last)
  const card = cards.get(job.step)
  if (card) log.show(job, card.title)
  showCurrent()
  schedule(POLL_MS)
}

let timer = null

function schedule(delay) {
  clearTimeout(timer)
  timer = setTimeout(tick, delay)
}

async function tick() {
  if (document.hidden && !running) return schedule(IDLE_MS)
  try {
    if (!running) await refresh()
    else await poll()
    replace($('#trouble'))
  } catch (error) {
    replace($('#trouble'), error.message)
  }
  showCurrent()
  schedule(running ? POLL_MS : IDLE_MS)
}

/** Update the running job. */
async function poll() {
  const { id, step } = running
  const response =
    log.job?.id === id
      ? await log.read()
      : await getJson(`/api/jobs/${encodeURIComponent(id)}?after=${NO_LOG}`)
  drift = Date.now() / 1000 - response.now
  const card = cards.get(step)
  if (response.job.state === 'running') {
    running = response.job
    card?.show(response.job)
    return
  }
  announce(`${card?.title ?? step} is ${response.job.state}.`)
  const hadFocus = document.activeElement === card?.cancelButton
  running = null
  await refresh()
  if (hadFocus) (card.runButton.disabled ? card.logButton : card.runButton).focus()
  await loadResults()
}

/** Load and show the state of all steps. */
async function refresh() {
  const response = await getJson('/api/experiments')
  drift = Date.now() / 1000 - response.now
  const list = $('#steps')
  if (!cards.size) {
    for (const [index, step] of response.steps.entries())
      cards.set(step.name, new StepCard(step, index + 1, page))
    replace(
      list,
      [...cards.values()].map((card) => card.element),
    )
    list.setAttribute('aria-busy', 'false')
    const { command, is_installed: isInstalled } = response.train
    $('#extra').hidden = isInstalled
    replace(
      $('#extra'),
      h(
        'div',
        { class: 'stack' },
        h(
          'p',
          {},
          h('b', {}, 'Results can be read; most steps cannot run here. '),
          `${countBlocked(response.steps)} of ${response.steps.length} steps need the train extra (PyTorch and others). It is best installed on a machine without live traffic:`,
        ),
        h('p', { class: 'row' }, h('code', {}, command), createCopyButton(command, 'Copy command')),
        h(
          'p',
          { class: 'small' },
          'Without it: read the results of the shipped router model below, and let the router calibrate itself on judged traffic (',
          h('code', {}, 'learning.auto'),
          ').',
        ),
      ),
    )
  }
  const before = running?.id
  running = response.running
  for (const step of response.steps) cards.get(step.name)?.update(step)
  if (running && running.id !== before) follow(running)
}

const countBlocked = (steps) =>
  steps.filter(({ problems }) => problems.some(({ code }) => code === 'train_missing')).length

async function loadResults() {
  const names = [...cards.keys()]
  const responses = await Promise.all(
    names.map((name) => getJson(`/api/experiments/${name}/results`)),
  )
  showResults(Object.fromEntries(responses.map(({ step, results }) => [step, results])))
}

$('#log-close').addEventListener('click', () => {
  const { job } = log
  log.close()
  cards.get(job?.step)?.logButton.focus()
})
$('#log-end').addEventListener('click', () => log.scrollToEnd())
$('#log-text').addEventListener('scroll', () => log.updateEndButton(), { passive: true })
replace(
  $('#log-copy'),
  createCopyButton(() => $('#log-text').textContent),
)
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) schedule(0)
})

try {
  await refresh()
  await loadResults()
} catch (error) {
  replace($('#trouble'), error.message)
}
schedule(running ? POLL_MS : IDLE_MS)
