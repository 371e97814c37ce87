// One answer of a comparison: its elements, text, figures and stored request.

import { complete } from './completion.js'
import { createTierBadge } from './decision.js'
import { createCopyButton, h, replace } from './dom.js'
import { count, ms, usd } from './format.js'
import { createMarkdownRenderer } from './markdown.js'
import { loadRequest, pick } from './stored-request.js'
import { throttle } from './throttle.js'

/** The fields of an answer that outlive a reload. */
const KEPT = [
  'tier',
  'model',
  'text',
  'id',
  'ttft',
  'durationMs',
  'row',
  'error',
  'stopped',
  'finish',
]
const ROW = ['target', 'cost_usd', 'input_tokens', 'output_tokens']

/**
 * The answer of one tier.
 *
 * @param name shown in place of the tier while it is hidden, such as "Answer A"
 */
export class Side {
  constructor(tier, model, name = null) {
    Object.assign(this, { tier, model, name, text: '' })
    this.chosen = h('span', { class: 'badge', hidden: true }, 'the router’s choice')
    this.title = h('span', { class: 'row' })
    this.copy = h('span')
    this.facts = h('dl', { class: 'facts num' })
    this.body = h('div', { class: 'prose' })
    this.note = h('div')
    this.element = h(
      'article',
      { class: 'card stack side', 'aria-busy': 'true' },
      h('header', { class: 'row spread' }, this.title, this.copy),
      this.facts,
      this.body,
      this.note,
    )
    this.renderMarkdown = createMarkdownRenderer(this.body)
    this.scheduleDraw = throttle(() => {
      this.renderMarkdown(this.text)
      this.showFacts()
    })
    this.isHidden = name !== null
    this.show()
  }

  /** The answer of a stored comparison. */
  static from(stored, name) {
    const side = new Side(stored.tier, stored.model, name)
    Object.assign(side, stored)
    side.end()
    return side
  }

  get isComplete() {
    return this.isDone && !this.error && !this.stopped && Boolean(this.text)
  }

  toJSON() {
    return Object.fromEntries(KEPT.map((name) => [name, this[name]]))
  }

  /** Request the answer. Never throws. */
  async run(messages, signal) {
    const startedAt = performance.now()
    try {
      for await (const part of complete({ model: this.tier, messages }, { signal })) {
        if (part.decision) this.id = part.decision.id
        if (part.text) {
          this.ttft ??= performance.now() - startedAt
          this.text += part.text
          if (!this.isHidden) this.scheduleDraw()
        }
        if (part.finish) this.finish = part.finish
      }
      if (!this.text) this.error = 'The model returned an empty answer.'
    } catch (error) {
      if (error.name === 'AbortError') this.stopped = true
      else this.error = error.message
    }
    this.durationMs = performance.now() - startedAt
    if (!this.isHidden) this.end()
    // The row of a stopped request is written later.
    if (this.id && !this.stopped) await this.loadRow()
  }

  async loadRow() {
    try {
      this.row = pick(await loadRequest(this.id), ROW)
      this.showFacts()
    } catch {
      // The answer stays visible without tokens and cost.
    }
  }

  /** Show the whole answer. A hidden one waits for this, as its speed would tell the tier. */
  end() {
    this.isDone = true
    this.scheduleDraw.cancel()
    this.renderMarkdown(this.text)
    this.element.setAttribute('aria-busy', 'false')
    this.show()
  }

  /** Say whose answer it is. */
  reveal() {
    this.isHidden = false
    this.show()
  }

  show() {
    this.element.toggleAttribute('data-hidden', this.isHidden)
    this.element.setAttribute('aria-label', this.isHidden ? this.name : `The ${this.tier} answer`)
    replace(
      this.title,
      this.name ? h('span', { class: 'badge' }, this.name) : null,
      this.isHidden ? null : createTierBadge(this.tier, this.model),
      this.chosen,
    )
    replace(this.copy, this.text && this.isDone ? createCopyButton(() => this.text) : null)
    replace(this.note, this.createNote())
    this.showFacts()
  }

  createNote() {
    if (!this.isDone)
      return this.isHidden
        ? h('p', { class: 'dim small' }, 'Shown when both answers are complete.')
        : null
    if (this.error) return h('p', { class: 'error', role: 'alert' }, this.error)
    if (this.stopped) return h('p', { class: 'dim small' }, 'Stopped.')
    if (this.finish === 'length')
      return h('p', { class: 'dim small' }, 'Stopped at the token limit.')
    return null
  }

  showFacts() {
    const tokens = this.row
      ? `${count(this.row.input_tokens)} in, ${count(this.row.output_tokens)} out`
      : '–'
    const facts = [
      ['First token', ms(this.ttft)],
      ['Duration', ms(this.durationMs)],
      ['Tokens', tokens],
      ['Cost', usd(this.row?.cost_usd)],
    ]
    replace(
      this.facts,
      // Hidden figures are not in the page at all, but keep their place.
      facts.map(([name, value]) =>
        h('div', {}, h('dt', {}, name), h('dd', {}, this.isHidden ? '–' : value)),
      ),
    )
  }

  markChosen(target) {
    this.chosen.hidden = target !== this.tier
    this.element.toggleAttribute('data-chosen', target === this.tier)
  }
}
