// Card of an experiment step: its parameters, estimate, last job and buttons.

import { $, h, replace } from './dom.js'
import { ago, count, span, usd, when } from './format.js'
import { postJson, send } from './http.js'

const STATES = {
  running: ['running', 'accent'],
  done: ['done', 'local'],
  failed: ['failed', 'danger'],
  cancelled: ['cancelled', 'warn'],
  interrupted: ['interrupted', 'warn'],
}

/** Describe the time and cost that a step takes. */
function describeEstimate(step, estimate) {
  const parts = []
  if (estimate.seconds !== null)
    parts.push(
      `${estimate.basis === 'last' ? 'last run' : 'about'} ${formatDuration(estimate.seconds)}`,
    )
  if (estimate.most_usd > 0) parts.push(`about ${usd(estimate.usd)}`)
  else parts.push(step.is_paid && !estimate.calls ? 'the cost depends on the file' : 'free')
  return parts.join(' · ')
}

/** A rounded duration, such as "12 min". */
function formatDuration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

/** The card of a step, with the chosen parameters and the last job. */
export class StepCard {
  constructor(step, number, page) {
    this.page = page
    this.name = step.name
    this.readers = new Map()
    this.badge = h('span', { class: 'badge' })
    this.headline = h('p', { class: 'headline' })
    this.progress = h('div', { class: 'stack now', hidden: true })
    this.problems = h('div', { class: 'stack' })
    this.estimateText = h('span', { class: 'small dim num' })
    this.logButton = h(
      'button',
      {
        type: 'button',
        class: 'quiet small',
        hidden: true,
        on: { click: () => page.openLog(this.job, this.title) },
      },
      'Log',
    )
    this.runButton = h('button', { type: 'button', on: { click: () => this.start() } }, 'Run')
    this.cancelButton = h(
      'button',
      { type: 'button', class: 'danger', hidden: true, on: { click: () => this.cancel() } },
      'Cancel',
    )
    this.error = h('p', { class: 'error', role: 'alert' })
    this.parameters = h('details', { class: 'choice', hidden: !step.parameters.length })
    this.title = step.title
    this.element = h(
      'li',
      { class: 'card step', dataset: { step: step.name } },
      h(
        'div',
        { class: 'row spread' },
        h(
          'h3',
          { id: `step-${step.name}` },
          h('span', { class: 'dim num', 'aria-hidden': 'true' }, `${number} `),
          step.title,
        ),
        this.badge,
      ),
      h('p', { class: 'small dim' }, step.about),
      this.headline,
      this.progress,
      this.problems,
      this.parameters,
      this.error,
      h(
        'div',
        { class: 'row spread foot' },
        this.estimateText,
        h('span', { class: 'row' }, this.logButton, this.cancelButton, this.runButton),
      ),
    )
    for (const button of [this.logButton, this.runButton, this.cancelButton]) {
      button.setAttribute('aria-describedby', `step-${step.name}`)
    }
  }

  update(step) {
    this.step = step
    this.estimate ??= step.estimate
    if (!this.isTouched) this.estimate = step.estimate
    this.showParameters(step.parameters)
    replace(this.headline, step.headline)
    this.headline.hidden = !step.headline
    replace(
      this.problems,
      // The notice above the steps says once what a missing extra means for all of them.
      step.problems
        .filter(({ code }) => code !== 'train_missing')
        .map((problem) => h('p', { class: 'small problem' }, problem.message)),
    )
    this.show(step.last)
  }

  show(job) {
    this.job = job
    const isRunning = job?.state === 'running'
    const needsExtra = this.step.problems.some(({ code }) => code === 'train_missing')
    const [state, kind] = STATES[job?.state] ?? [
      needsExtra ? 'needs the train extra' : 'not run here',
      '',
    ]
    this.badge.className = `badge ${kind}`
    replace(this.badge, state)
    this.element.toggleAttribute('data-running', isRunning)
    this.logButton.hidden = !job
    this.cancelButton.hidden = !isRunning
    this.runButton.hidden = isRunning
    this.runButton.disabled = !this.step.can_run || (this.page.isRunning() && !isRunning)
    this.runButton.title =
      this.page.isRunning() && !isRunning ? 'Only one step can run at a time.' : ''
    this.showJob(job)
    this.showEstimate()
  }

  showJob(job) {
    this.progress.hidden = !job
    if (!job) return
    const seconds = (job.ended_at ?? this.page.getNow()) - (job.started_at ?? job.created_at)
    const message = h('span', { class: 'message' }, job.message)
    if (job.state === 'running') {
      const bar = h('progress', {
        max: 1,
        value: job.progress,
        'aria-label': `Progress of ${this.title}`,
      })
      replace(
        this.progress,
        bar,
        h('p', { class: 'small row spread num' }, message, h('span', {}, span(seconds))),
      )
      return
    }
    const spent = job.cost_usd === null ? null : `, ${usd(job.cost_usd)}`
    const ended = h(
      'p',
      { class: 'small dim num', title: when(job.ended_at) },
      `${ago(job.ended_at, this.page.getNow())}, took ${span(seconds)}`,
      spent,
    )
    const status = job.exit_status === null ? '' : `Exit status ${job.exit_status}. `
    const reason =
      job.state === 'done'
        ? null
        : h(
            'p',
            { class: `small ${job.state === 'failed' ? 'error' : 'problem'}` },
            job.state === 'failed' ? status : null,
            message,
          )
    replace(this.progress, ended, reason)
  }

  showEstimate() {
    replace(this.estimateText, describeEstimate(this.step, this.estimate))
  }

  /** Create the parameter fields. Fields that are unchanged keep their values. */
  showParameters(parameters) {
    const serialized = JSON.stringify(parameters)
    if (serialized === this.shownParameters) return
    this.shownParameters = serialized
    this.readers.clear()
    replace(
      this.parameters,
      h('summary', {}, 'Parameters'),
      h(
        'div',
        { class: 'grid fields', on: { change: () => this.updateEstimate() } },
        parameters.map((parameter) => this.createField(parameter)),
      ),
    )
  }

  createField(parameter) {
    const id = `${this.name}-${parameter.name}`
    const hint = parameter.about
      ? h('span', { class: 'small dim', id: `${id}-hint` }, parameter.about)
      : null
    const shared = { id, 'aria-describedby': hint ? `${id}-hint` : null }
    let input
    let read = () => input.value
    if (parameter.kind === 'flag') {
      input = h('input', { ...shared, type: 'checkbox', checked: parameter.default })
      read = () => input.checked
      this.readers.set(parameter.name, read)
      return h(
        'div',
        { class: 'field flag' },
        h('label', { for: id, class: 'row' }, input, parameter.title),
        hint,
      )
    }
    if (parameter.kind === 'choice' || parameter.kind === 'file') {
      input = h(
        'select',
        shared,
        parameter.choices.map((choice) =>
          h('option', { selected: choice === parameter.default }, choice),
        ),
      )
    } else if (parameter.kind === 'name') {
      input = h('input', {
        ...shared,
        value: parameter.default,
        maxlength: 40,
        pattern: '[a-z0-9][a-z0-9_\\-]*',
        spellcheck: 'false',
      })
    } else {
      input = h('input', {
        ...shared,
        type: 'number',
        value: parameter.default,
        min: parameter.minimum,
        max: parameter.maximum,
        step: parameter.kind === 'integer' ? 1 : 'any',
      })
      read = () => (input.value === '' ? null : Number(input.value))
    }
    this.readers.set(parameter.name, read)
    return h('div', { class: 'field' }, h('label', { for: id }, parameter.title), input, hint)
  }

  readParameters() {
    return Object.fromEntries([...this.readers].map(([name, read]) => [name, read()]))
  }

  /** Estimate the step with the current parameters. Returns null and shows the error if they are invalid. */
  async updateEstimate() {
    this.isTouched = true
    try {
      const answer = await postJson(`/api/experiments/${this.name}`, {
        parameters: this.readParameters(),
        dry_run: true,
      })
      this.estimate = (await answer.json()).estimate
      replace(this.error)
      this.showEstimate()
      return this.estimate
    } catch (error) {
      replace(this.error, error.message)
      this.parameters.open = true
      return null
    }
  }

  async start() {
    const estimate = await this.updateEstimate()
    if (!estimate) return
    const acceptedUsd = estimate.most_usd > 0 ? await confirmCost(this.title, estimate) : null
    if (acceptedUsd === undefined) return
    this.runButton.disabled = true
    try {
      const answer = await postJson(`/api/experiments/${this.name}`, {
        parameters: this.readParameters(),
        accept_usd: acceptedUsd,
      })
      const { job } = await answer.json()
      this.page.announce(`${this.title} has started.`)
      this.page.follow(job)
      this.cancelButton.focus()
    } catch (error) {
      replace(this.error, error.message)
      await this.page.refresh()
      this.runButton.focus()
    }
  }

  async cancel() {
    try {
      await send(`/api/jobs/${encodeURIComponent(this.job.id)}/cancel`, { method: 'POST' })
      this.page.announce(`${this.title} is being cancelled.`)
    } catch (error) {
      replace(this.error, error.message)
    }
  }
}

/** Ask for a spending limit. Resolves to dollars, or undefined when the user cancels. */
function confirmCost(title, estimate) {
  const maximum = Math.ceil(estimate.most_usd * 100) / 100
  const amount = h('input', {
    id: 'accept',
    type: 'number',
    min: Math.ceil(estimate.usd * 1e4) / 1e4,
    step: 'any',
    value: maximum,
    required: true,
  })
  const dialog = $('#confirm')
  return new Promise((resolve) => {
    const form = h(
      'form',
      {
        class: 'stack',
        method: 'dialog',
        on: {
          submit: () => {
            dialog.returnValue = amount.value
          },
        },
      },
      h('h2', { id: 'confirm-title' }, `Run ${title}?`),
      h(
        'p',
        {},
        'This makes ',
        h('b', {}, `${count(estimate.calls)} model calls`),
        ' and costs ',
        h('b', {}, `about ${usd(estimate.usd)}`),
        `. The maximum is ${usd(estimate.most_usd)}, if every answer reaches its token limit.`,
      ),
      h('label', { class: 'field', for: 'accept' }, 'Spending limit in US dollars', amount),
      h(
        'div',
        { class: 'row confirm-foot' },
        h('button', { type: 'button', on: { click: () => dialog.close('') } }, 'Cancel'),
        h('button', { class: 'primary' }, 'Run'),
      ),
    )
    replace(dialog, form)
    dialog.returnValue = ''
    dialog.addEventListener(
      'close',
      () => resolve(dialog.returnValue === '' ? undefined : Number(dialog.returnValue)),
      { once: true },
    )
    dialog.showModal()
    amount.select()
  })
}
