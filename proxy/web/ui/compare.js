// Compare page: the answers of both tiers to one prompt, the routing decision and the judge's verdict.

import { complete } from './completion.js'
import { createGauge, createTierBadge, explainReason } from './decision.js'
import { $, createCopyButton, h, replace } from './dom.js'
import { count, ms, percent, usd } from './format.js'
import { getJson, postJson } from './http.js'
import { createMarkdownRenderer } from './markdown.js'
import { status } from './shell.js'

const TIERS = ['local', 'cloud']

let running = null // the AbortController of the current comparison
let sides = []

/** The answer of one tier: its elements, text, timing and stored request. */
class Side {
  constructor(tier, model) {
    this.tier = tier
    this.text = ''
    this.chosen = h('span', { class: 'badge', hidden: true }, 'the router’s choice')
    this.facts = h('dl', { class: 'facts num' })
    this.body = h('div', { class: 'prose' })
    this.note = h('div')
    this.copy = h(
      'span',
      {},
      createCopyButton(() => this.text),
    )
    this.element = h(
      'article',
      { class: 'card stack side', 'aria-label': `The ${tier} answer`, 'aria-busy': 'true' },
      h(
        'header',
        { class: 'row spread' },
        h('span', { class: 'row' }, createTierBadge(tier, model), this.chosen),
        this.copy,
      ),
      this.facts,
      this.body,
      this.note,
    )
    this.renderMarkdown = createMarkdownRenderer(this.body)
    this.row = null
    this.showFacts()
  }

  async run(messages, signal) {
    const startedAt = performance.now()
    try {
      for await (const part of complete({ model: this.tier, messages }, { signal })) {
        if (part.decision) this.id = part.decision.id
        if (part.text) {
          this.ttft ??= performance.now() - startedAt
          this.text += part.text
          this.scheduleDraw()
        }
        if (part.finish === 'length')
          replace(this.note, h('p', { class: 'dim small' }, 'Truncated at the token limit.'))
      }
      this.isComplete = true
    } catch (error) {
      if (error.name === 'AbortError')
        replace(this.note, h('p', { class: 'dim small' }, 'Stopped.'))
      else replace(this.note, h('p', { class: 'error', role: 'alert' }, error.message))
    }
    this.durationMs = performance.now() - startedAt
    this.renderMarkdown(this.text)
    this.element.setAttribute('aria-busy', 'false')
    this.showFacts()
    if (this.id) await this.loadRow()
  }

  scheduleDraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null
      this.renderMarkdown(this.text)
      this.showFacts()
    })
  }

  async loadRow() {
    try {
      this.row = await getJson(`/api/requests/${encodeURIComponent(this.id)}`)
      this.showFacts()
    } catch {
      // The answer stays visible without tokens and cost.
    }
  }

  showFacts() {
    const tokens = this.row
      ? `${count(this.row.input_tokens)} in, ${count(this.row.output_tokens)} out`
      : '–'
    const facts = [
      ['First token', ms(this.ttft)],
      ['Total time', ms(this.durationMs)],
      ['Tokens', tokens],
      ['Cost', usd(this.row?.cost_usd)],
    ]
    replace(
      this.facts,
      facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
    )
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
  const current = await status.catch(() => null)
  sides = TIERS.map((tier) => new Side(tier, current?.tiers[tier].model))
  replace(
    $('#sides'),
    sides.map((side) => side.element),
  )
  $('#verdict').hidden = true
  showRunning()
  await Promise.all([
    loadDecision(messages, signal),
    ...sides.map((side) => side.run(messages, signal)),
  ])
  running = null
  showRunning()
  replace($('#announce'), signal.aborted ? 'Stopped.' : 'Both answers are complete.')
  showSaving()
  offerVerdict(messages, current)
}

async function loadDecision(messages, signal) {
  const section = $('#decision')
  section.hidden = false
  replace(section, h('p', { class: 'skeleton' }, 'Loading the decision'))
  try {
    // In a preview `second_look` says whether there would be one; it has no result.
    const { second_look: isUncertain, ...decision } = await (
      await postJson('/api/decisions', { model: 'auto', messages }, { signal })
    ).json()
    for (const side of sides) side.markChosen(decision.target)
    replace(
      section,
      h(
        'p',
        { class: 'row' },
        'The router would choose',
        createTierBadge(decision.target, decision.model),
        createGauge(decision),
        h('span', { class: 'dim small' }, explainReason(decision)),
        h('span', { class: 'dim small num' }, `decided in ${ms(decision.latency_ms)}`),
      ),
      isUncertain
        ? h(
            'p',
            { class: 'dim small' },
            'By the prompt alone: a second look at the local answer would decide.',
          )
        : null,
      h('p', { id: 'saving', class: 'dim small' }),
    )
  } catch (error) {
    if (error.name === 'AbortError') section.hidden = true
    else replace(section, h('p', { class: 'error', role: 'alert' }, error.message))
  }
}

function showSaving() {
  const [local, cloud] = sides.map((side) => side.row?.cost_usd)
  const section = $('#saving')
  if (!section || local === undefined || cloud === undefined || local === null || cloud === null)
    return
  const saved = cloud - local
  const share = cloud ? ` (${percent(saved / cloud)} of the cloud cost)` : ''
  replace(
    section,
    saved >= 0
      ? `The local answer costs ${usd(saved)} less${share}.`
      : `The local answer costs ${usd(-saved)} more.`,
  )
}

// --- the judge ---

function offerVerdict(messages, current) {
  const section = $('#verdict')
  if (!sides.every((side) => side.isComplete && side.text)) return
  section.hidden = false
  if (!current?.judge || !current.is_admin) {
    replace(
      section,
      h(
        'p',
        { class: 'dim small' },
        current?.judge
          ? 'Only admins can ask the judge, because it spends the judge budget.'
          : 'Judging is disabled. Set judge.enabled: true to have a judge compare the answers.',
      ),
    )
    return
  }
  const button = h(
    'button',
    { type: 'button', on: { click: requestVerdict } },
    `Ask ${current.judge} which answer is better`,
  )
  replace(
    section,
    h(
      'p',
      { class: 'row' },
      button,
      h('span', { class: 'dim small' }, 'Makes 4 judge calls from today’s judge budget.'),
    ),
  )

  async function requestVerdict() {
    button.disabled = true
    replace(section, h('p', { class: 'skeleton' }, 'Judging'))
    try {
      const [local, cloud] = sides.map((side) => side.text)
      const body = { request_id: sides[0].id, messages, local, cloud }
      showVerdict(section, await (await postJson('/api/verdicts', body)).json())
    } catch (error) {
      replace(section, h('p', { class: 'error', role: 'alert' }, error.message), h('p', {}, button))
      button.disabled = false
    }
  }
}

function showVerdict(section, verdict) {
  const conclusion =
    verdict.verdict === 'tie'
      ? 'rates both answers as equal'
      : `prefers the ${verdict.verdict} answer`
  replace(
    section,
    h('h2', {}, `${verdict.judge} ${conclusion}`),
    h(
      'div',
      { class: 'grid' },
      TIERS.map((tier) =>
        h(
          'div',
          {},
          h(
            'p',
            { class: 'row' },
            createTierBadge(tier),
            h('b', { class: 'num' }, `${verdict[tier].score} of 10`),
          ),
          h('p', {}, verdict[tier].reasoning),
        ),
      ),
    ),
    h(
      'details',
      {},
      h('summary', {}, 'Pairwise comparison in both orders'),
      h(
        'ul',
        {},
        h('li', {}, `Local first: ${verdict.first}. ${verdict.first_reasoning}`),
        h('li', {}, `Cloud first: ${verdict.swapped}. ${verdict.swapped_reasoning}`),
      ),
    ),
  )
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
replace(
  $('#sides'),
  TIERS.map((tier) =>
    h(
      'article',
      { class: 'card side' },
      createTierBadge(tier),
      h('p', { class: 'empty' }, 'The answer appears here.'),
    ),
  ),
)
