// Experiments: the pipeline's steps, what runs now, and what was found.

import { $, copyButton, h, replace } from './dom.js'
import { showResults } from './findings.js'
import { ago, count, percent, span, usd, when } from './format.js'
import { getJson, postJson, send } from './http.js'
import './shell.js'

const POLL_MS = 1000
const IDLE_MS = 10_000 // somebody else may start something
const MAX_LOG_CHARS = 400_000
const STATES = {
  running: ['running', 'accent'],
  done: ['done', 'local'],
  failed: ['failed', 'danger'],
  cancelled: ['cancelled', 'warn'],
  interrupted: ['interrupted', 'warn'],
}

const cards = new Map() // of the steps, by their name
let running = null // the job that runs, wherever it does
let drift = 0 // what this clock is ahead of the proxy's, in seconds

const now = () => Date.now() / 1000 - drift

/** What a step takes, in words. */
function takes(step, estimate) {
  const words = []
  if (estimate.seconds !== null) words.push(`${estimate.basis === 'last' ? 'last time' : 'about'} ${length(estimate.seconds)}`)
  if (estimate.most_usd > 0) words.push(`about ${usd(estimate.usd)}`)
  else words.push(step.is_paid && !estimate.calls ? 'the cost depends on the file' : 'free')
  return words.join(' · ')
}

/** A length of time, as people say it. */
function length(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

/** One step: its card, what was chosen for it, its last job. */
class Card {
  constructor(step, number) {
    this.name = step.name
    this.fields = new Map()
    this.badge = h('span', { class: 'badge' })
    this.headline = h('p', { class: 'headline' })
    this.progress = h('div', { class: 'stack now', hidden: true })
    this.problems = h('div', { class: 'stack' })
    this.takes = h('span', { class: 'small dim num' })
    this.log = h('button', { type: 'button', class: 'quiet small', hidden: true, on: { click: () => log.open(this.job, this.title) } }, 'Log')
    this.run = h('button', { type: 'button', on: { click: () => this.begin() } }, 'Run')
    this.stop = h('button', { type: 'button', class: 'danger', hidden: true, on: { click: () => this.cancel() } }, 'Cancel')
    this.trouble = h('p', { class: 'error', role: 'alert' })
    this.choice = h('details', { class: 'choice', hidden: !step.parameters.length })
    this.title = step.title
    this.element = h('li', { class: 'card step', dataset: { step: step.name } },
      h('div', { class: 'row spread' },
        h('h3', { id: `step-${step.name}` }, h('span', { class: 'dim num', 'aria-hidden': 'true' }, `${number} `), step.title),
        this.badge),
      h('p', { class: 'small dim' }, step.about),
      this.headline, this.progress, this.problems, this.choice, this.trouble,
      h('div', { class: 'row spread foot' }, this.takes, h('span', { class: 'row' }, this.log, this.stop, this.run)))
    for (const button of [this.log, this.run, this.stop]) {
      button.setAttribute('aria-describedby', `step-${step.name}`)
    }
  }

  update(step) {
    this.step = step
    this.estimate ??= step.estimate
    if (!this.isTouched) this.estimate = step.estimate
    this.offer(step.parameters)
    replace(this.headline, step.headline)
    this.headline.hidden = !step.headline
    replace(this.problems, step.problems.map((problem) => h('p', { class: 'small problem' }, problem.message)))
    this.show(step.last)
  }

  show(job) {
    this.job = job
    const isRunning = job?.state === 'running'
    const [word, kind] = STATES[job?.state] ?? ['never run here', '']
    this.badge.className = `badge ${kind}`
    replace(this.badge, word)
    this.element.toggleAttribute('data-running', isRunning)
    this.log.hidden = !job
    this.stop.hidden = !isRunning
    this.run.hidden = isRunning
    this.run.disabled = !this.step.can_run || (running !== null && !isRunning)
    this.run.title = running && !isRunning ? 'One step runs at a time.' : ''
    this.showNow(job)
    this.showEstimate()
  }

  showNow(job) {
    this.progress.hidden = !job
    if (!job) return
    const took = (job.ended_at ?? now()) - (job.started_at ?? job.created_at)
    const message = h('span', { class: 'message' }, job.message)
    if (job.state === 'running') {
      const bar = h('progress', { max: 1, value: job.progress, 'aria-label': `Progress of ${this.title}` })
      replace(this.progress, bar, h('p', { class: 'small row spread num' }, message, h('span', {}, span(took))))
      return
    }
    const spent = job.cost_usd === null ? null : `, ${usd(job.cost_usd)}`
    const ended = h('p', { class: 'small dim num', title: when(job.ended_at) }, `${ago(job.ended_at, now())}, took ${span(took)}`, spent)
    const status = job.exit_status === null ? '' : `Exit status ${job.exit_status}. `
    const why = job.state === 'done' ? null : h('p', { class: `small ${job.state === 'failed' ? 'error' : 'problem'}` }, job.state === 'failed' ? status : null, message)
    replace(this.progress, ended, why)
  }

  showEstimate() {
    replace(this.takes, takes(this.step, this.estimate))
  }

  /** The fields of what may be chosen; what somebody has typed stays. */
  offer(parameters) {
    const wanted = JSON.stringify(parameters)
    if (wanted === this.offered) return
    this.offered = wanted
    this.fields.clear()
    replace(this.choice, h('summary', {}, 'Parameters'),
      h('div', { class: 'grid fields', on: { change: () => this.estimateAnew() } }, parameters.map((one) => this.field(one))))
  }

  field(one) {
    const id = `${this.name}-${one.name}`
    const hint = one.about ? h('span', { class: 'small dim', id: `${id}-hint` }, one.about) : null
    const shared = { id, 'aria-describedby': hint ? `${id}-hint` : null }
    let input
    let read = () => input.value
    if (one.kind === 'flag') {
      input = h('input', { ...shared, type: 'checkbox', checked: one.default })
      read = () => input.checked
      this.fields.set(one.name, read)
      return h('div', { class: 'field flag' }, h('label', { for: id, class: 'row' }, input, one.title), hint)
    }
    if (one.kind === 'choice' || one.kind === 'file') {
      input = h('select', shared, one.choices.map((choice) => h('option', { selected: choice === one.default }, choice)))
    } else if (one.kind === 'name') {
      input = h('input', { ...shared, value: one.default, maxlength: 40, pattern: '[a-z0-9][a-z0-9_\\-]*', spellcheck: 'false' })
    } else {
      input = h('input', { ...shared, type: 'number', value: one.default, min: one.minimum, max: one.maximum, step: one.kind === 'integer' ? 1 : 'any' })
      read = () => (input.value === '' ? null : Number(input.value))
    }
    this.fields.set(one.name, read)
    return h('div', { class: 'field' }, h('label', { for: id }, one.title), input, hint)
  }

  chosen() {
    return Object.fromEntries([...this.fields].map(([name, read]) => [name, read()]))
  }

  /** What it takes with what is chosen now. */
  async estimateAnew() {
    this.isTouched = true
    try {
      const answer = await postJson(`/api/experiments/${this.name}`, { parameters: this.chosen(), dry_run: true })
      this.estimate = (await answer.json()).estimate
      replace(this.trouble)
      this.showEstimate()
      return this.estimate
    } catch (error) {
      replace(this.trouble, error.message)
      this.choice.open = true
      return null
    }
  }

  async begin() {
    const estimate = await this.estimateAnew()
    if (!estimate) return
    const accepted = estimate.most_usd > 0 ? await askFor(this.title, estimate) : null
    if (accepted === undefined) return
    this.run.disabled = true
    try {
      const answer = await postJson(`/api/experiments/${this.name}`, { parameters: this.chosen(), accept_usd: accepted })
      const { job } = await answer.json()
      announce(`${this.title} has started.`)
      follow(job)
      this.stop.focus()
    } catch (error) {
      replace(this.trouble, error.message)
      await refresh()
      this.run.focus()
    }
  }

  async cancel() {
    try {
      await send(`/api/jobs/${encodeURIComponent(this.job.id)}/cancel`, { method: 'POST' })
      announce(`${this.title} is told to stop.`)
    } catch (error) {
      replace(this.trouble, error.message)
    }
  }
}

/** What a job prints, as it comes in. */
const log = {
  job: null,
  end: 0,

  show(job, title) {
    $('#log').hidden = false
    if (this.job?.id !== job.id) {
      this.end = null
      replace($('#log-text'))
    }
    this.job = job
    replace($('#log-title'), `Log of ${title}`)
    this.state(job)
    this.read().catch((error) => replace($('#trouble'), error.message))
  },

  open(job, title) {
    this.show(job, title)
    $('#log').scrollIntoView({ block: 'nearest' })
    $('#log-text').focus({ preventScroll: true })
  },

  state(job) {
    this.job = job
    const chosen = Object.entries(job.arguments).map(([name, value]) => `${name.replaceAll('_', ' ')}: ${value}`)
    replace($('#log-state'), [job.state, `since ${when(job.started_at)}`, job.host, ...chosen].join(' · '))
  },

  /** Fetch what is new of it, and the job as it is. */
  async read() {
    const { id } = this.job
    const after = this.end === null ? '' : `?after=${this.end}`
    const told = await getJson(`/api/jobs/${encodeURIComponent(id)}${after}`)
    if (this.job?.id === id && (this.end ?? told.log_start) <= told.log_start) this.append(told)
    return told
  },

  append({ log: text, log_start: start, log_end: end, job }) {
    const box = $('#log-text')
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24
    if (start > (this.end ?? 0)) box.append('…\n') // what was between is not kept
    if (text) box.append(text)
    if (box.textContent.length > MAX_LOG_CHARS) replace(box, box.textContent.slice(-MAX_LOG_CHARS / 2))
    this.end = end
    this.state(job)
    if (isAtEnd) box.scrollTop = box.scrollHeight
    this.offerEnd()
  },

  offerEnd() {
    const box = $('#log-text')
    $('#log-end').hidden = box.scrollHeight - box.scrollTop - box.clientHeight < 24
  },

  close() {
    $('#log').hidden = true
    cards.get(this.job?.step)?.log.focus()
    this.job = null
  },
}

/** Ask whether it may cost that much; undefined when it may not. */
function askFor(title, estimate) {
  const most = Math.ceil(estimate.most_usd * 100) / 100
  const amount = h('input', { id: 'accept', type: 'number', min: Math.ceil(estimate.usd * 1e4) / 1e4, step: 'any', value: most, required: true })
  const dialog = $('#confirm')
  return new Promise((resolve) => {
    const form = h('form', { class: 'stack', method: 'dialog', on: { submit: () => { dialog.returnValue = amount.value } } },
      h('h2', { id: 'confirm-title' }, `Run ${title}?`),
      h('p', {}, 'It asks models ', h('b', {}, `${count(estimate.calls)} times`), ', for ', h('b', {}, `about ${usd(estimate.usd)}`),
        `. If every answer ran to its limit it would be ${usd(estimate.most_usd)}.`),
      h('label', { class: 'field', for: 'accept' }, 'Spend at most, in US dollars', amount),
      h('div', { class: 'row confirm-foot' },
        h('button', { type: 'button', on: { click: () => dialog.close('') } }, 'Do not run'),
        h('button', { class: 'primary' }, 'Run and spend')))
    replace(dialog, form)
    dialog.returnValue = ''
    dialog.addEventListener('close', () => resolve(dialog.returnValue === '' ? undefined : Number(dialog.returnValue)), { once: true })
    dialog.showModal()
    amount.select()
  })
}

/** What runs now, in a line above everything. */
function tell() {
  const card = cards.get(running?.step)
  $('#current').hidden = !card
  if (!card) return
  const far = running.progress === null ? '' : ` · ${percent(running.progress)}`
  replace($('#current'), h('a', { href: `#step-${card.name}` }, `${card.title} is running`), h('span', { class: 'num' }, `${far} · ${span(now() - running.started_at)}`))
}

const announce = (text) => replace($('#announce'), text)

/** Show a job that runs, until it does not. */
function follow(job) {
  running = job
  for (const card of cards.values()) card.show(card.name === job.step ? job : card.step.last)
  const card = cards.get(job.step)
  if (card) log.show(job, card.title)
  tell()
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
    else await look()
    replace($('#trouble'))
  } catch (error) {
    replace($('#trouble'), error.message)
  }
  tell()
  schedule(running ? POLL_MS : IDLE_MS)
}

/** The job that runs, as it is now. */
async function look() {
  const { id, step } = running
  const told = log.job?.id === id ? await log.read() : await getJson(`/api/jobs/${encodeURIComponent(id)}?after=1000000000`)
  drift = Date.now() / 1000 - told.now
  const card = cards.get(step)
  if (told.job.state === 'running') {
    running = told.job
    card?.show(told.job)
    return
  }
  announce(`${card?.title ?? step} is ${told.job.state}.`)
  const hadFocus = document.activeElement === card?.stop
  running = null
  await refresh()
  if (hadFocus) (card.run.disabled ? card.log : card.run).focus()
  await results()
}

/** All steps as they are. */
async function refresh() {
  const found = await getJson('/api/experiments')
  drift = Date.now() / 1000 - found.now
  const list = $('#steps')
  if (!cards.size) {
    for (const [index, step] of found.steps.entries()) cards.set(step.name, new Card(step, index + 1))
    replace(list, [...cards.values()].map((card) => card.element))
    list.setAttribute('aria-busy', 'false')
    const { command, is_installed: isInstalled } = found.train
    $('#extra').hidden = isInstalled
    replace($('#extra'),
      h('p', {}, 'Steps that fit something need the train extra, which is not installed here: ', h('code', {}, command)),
      copyButton(command, 'Copy the command'))
  }
  const before = running?.id
  running = found.running
  for (const step of found.steps) cards.get(step.name)?.update(step)
  if (running && running.id !== before) follow(running)
}

async function results() {
  const names = [...cards.keys()]
  const found = await Promise.all(names.map((name) => getJson(`/api/experiments/${name}/results`)))
  showResults(Object.fromEntries(found.map(({ step, results }) => [step, results])))
}

$('#log-close').addEventListener('click', () => log.close())
$('#log-end').addEventListener('click', () => { $('#log-text').scrollTop = $('#log-text').scrollHeight })
$('#log-text').addEventListener('scroll', () => log.offerEnd(), { passive: true })
replace($('#log-copy'), copyButton(() => $('#log-text').textContent))
document.addEventListener('visibilitychange', () => { if (!document.hidden) schedule(0) })

try {
  await refresh()
  await results()
} catch (error) {
  replace($('#trouble'), error.message)
}
schedule(running ? POLL_MS : IDLE_MS)
