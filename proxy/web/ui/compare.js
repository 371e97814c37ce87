// Compare: one prompt, both tiers' answers side by side, and what the router would have done.

import { complete } from './completion.js'
import { gauge, tierBadge, why } from './decision.js'
import { $, copyButton, h, replace } from './dom.js'
import { count, ms, percent, usd } from './format.js'
import { getJson, postJson } from './http.js'
import { markdownIn } from './markdown.js'
import { status } from './shell.js'

const TIERS = ['local', 'cloud']

let running = null // the AbortController of the comparison that is under way
let sides = []

/** One tier's answer: where it is shown, and what is known of it. */
class Side {
  constructor(tier, model) {
    this.tier = tier
    this.text = ''
    this.chosen = h('span', { class: 'badge', hidden: true }, 'the router’s choice')
    this.facts = h('dl', { class: 'facts num' })
    this.body = h('div', { class: 'prose' })
    this.note = h('div')
    this.copying = h('span', {}, copyButton(() => this.text))
    this.element = h('article', { class: 'card stack side', 'aria-label': `The ${tier} answer`, 'aria-busy': 'true' },
      h('header', { class: 'row spread' }, h('span', { class: 'row' }, tierBadge(tier, model), this.chosen), this.copying),
      this.facts, this.body, this.note)
    this.markdown = markdownIn(this.body)
    this.row = null
    this.showFacts()
  }

  async run(messages, signal) {
    const began = performance.now()
    try {
      for await (const part of complete({ model: this.tier, messages }, { signal })) {
        if (part.decision) this.id = part.decision.id
        if (part.text) {
          this.ttft ??= performance.now() - began
          this.text += part.text
          this.draw()
        }
        if (part.finish === 'length') replace(this.note, h('p', { class: 'dim small' }, 'Cut off: the most tokens an answer may have.'))
      }
      this.isWhole = true
    } catch (error) {
      if (error.name === 'AbortError') replace(this.note, h('p', { class: 'dim small' }, 'Stopped.'))
      else replace(this.note, h('p', { class: 'error', role: 'alert' }, error.message))
    }
    this.took = performance.now() - began
    this.markdown(this.text)
    this.element.setAttribute('aria-busy', 'false')
    this.showFacts()
    if (this.id) await this.account()
  }

  draw() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null
      this.markdown(this.text)
      this.showFacts()
    })
  }

  async account() {
    try {
      this.row = await getJson(`/api/requests/${encodeURIComponent(this.id)}`)
      this.showFacts()
    } catch {
      // The answer is there all the same.
    }
  }

  showFacts() {
    const tokens = this.row ? `${count(this.row.input_tokens)} in, ${count(this.row.output_tokens)} out` : '–'
    const facts = [
      ['First token', ms(this.ttft)], ['Whole', ms(this.took)], ['Tokens', tokens], ['Cost', usd(this.row?.cost_usd)],
    ]
    replace(this.facts, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))))
  }

  markChosen(target) {
    this.chosen.hidden = target !== this.tier
    this.element.toggleAttribute('data-chosen', target === this.tier)
  }
}

async function compare(prompt) {
  running = new AbortController()
  const { signal } = running
  const messages = [{ role: 'user', content: prompt }]
  const found = await status.catch(() => null)
  sides = TIERS.map((tier) => new Side(tier, found?.tiers[tier].model))
  replace($('#sides'), sides.map((side) => side.element))
  $('#verdict').hidden = true
  showRunning()
  await Promise.all([decide(messages, signal), ...sides.map((side) => side.run(messages, signal))])
  running = null
  showRunning()
  replace($('#announce'), signal.aborted ? 'Stopped.' : 'Both answers are complete.')
  showSaving()
  offerVerdict(messages, found)
}

async function decide(messages, signal) {
  const place = $('#decision')
  place.hidden = false
  replace(place, h('p', { class: 'skeleton' }, 'deciding'))
  try {
    const decision = await (await postJson('/api/decisions', { model: 'auto', messages }, { signal })).json()
    for (const side of sides) side.markChosen(decision.target)
    replace(place,
      h('p', { class: 'row' }, 'The router would choose', tierBadge(decision.target, decision.model), gauge(decision),
        h('span', { class: 'dim small' }, why(decision)),
        h('span', { class: 'dim small num' }, `decided in ${ms(decision.latency_ms)}`)),
      h('p', { id: 'saving', class: 'dim small' }))
  } catch (error) {
    if (error.name === 'AbortError') place.hidden = true
    else replace(place, h('p', { class: 'error', role: 'alert' }, error.message))
  }
}

function showSaving() {
  const [local, cloud] = sides.map((side) => side.row?.cost_usd)
  const place = $('#saving')
  if (!place || local === undefined || cloud === undefined || local === null || cloud === null) return
  const saved = cloud - local
  const share = cloud ? ` (${percent(saved / cloud)} of the cloud’s price)` : ''
  replace(place, saved >= 0
    ? `The local answer costs ${usd(saved)} less${share}.`
    : `The local answer costs ${usd(-saved)} more.`)
}

// --- the judge ---

function offerVerdict(messages, found) {
  const place = $('#verdict')
  if (!sides.every((side) => side.isWhole && side.text)) return
  place.hidden = false
  if (!found?.judge || !found.is_admin) {
    replace(place, h('p', { class: 'dim small' }, found?.judge
      ? 'A judge’s verdict is for admins: it spends the judge’s dollars.'
      : 'With a judge (judge.enabled in the configuration) you could ask which answer is better.'))
    return
  }
  const button = h('button', { type: 'button', on: { click: ask } }, `Ask ${found.judge} which is better`)
  replace(place, h('p', { class: 'row' }, button, h('span', { class: 'dim small' }, 'Four calls, of the judge’s dollars of the day.')))

  async function ask() {
    button.disabled = true
    replace(place, h('p', { class: 'skeleton' }, 'judging'))
    try {
      const [local, cloud] = sides.map((side) => side.text)
      const body = { request_id: sides[0].id, messages, local, cloud }
      showVerdict(place, await (await postJson('/api/verdicts', body)).json())
    } catch (error) {
      replace(place, h('p', { class: 'error', role: 'alert' }, error.message), h('p', {}, button))
      button.disabled = false
    }
  }
}

function showVerdict(place, verdict) {
  const better = verdict.verdict === 'tie'
    ? 'finds both equally good'
    : `prefers the ${verdict.verdict} answer`
  replace(place,
    h('h2', {}, `${verdict.judge} ${better}`),
    h('div', { class: 'grid' }, TIERS.map((tier) =>
      h('div', {}, h('p', { class: 'row' }, tierBadge(tier), h('b', { class: 'num' }, `${verdict[tier].score} of 10`)),
        h('p', {}, verdict[tier].reasoning)))),
    h('details', {}, h('summary', {}, 'Which is better, asked in both orders'),
      h('ul', {},
        h('li', {}, `Local first: ${verdict.first}. ${verdict.first_reasoning}`),
        h('li', {}, `Cloud first: ${verdict.swapped}. ${verdict.swapped_reasoning}`))))
}

// --- the form ---

function showRunning() {
  $('#compare').disabled = running !== null
  $('#stop').hidden = running === null
}

$('#ask').addEventListener('submit', (event) => {
  event.preventDefault()
  const prompt = $('#prompt').value.trim()
  if (prompt && !running) compare(prompt)
})
$('#prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('#ask').requestSubmit()
})
$('#stop').addEventListener('click', () => running?.abort())
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})
replace($('#sides'), TIERS.map((tier) =>
  h('article', { class: 'card side' }, tierBadge(tier), h('p', { class: 'empty' }, 'Its answer comes here.'))))
