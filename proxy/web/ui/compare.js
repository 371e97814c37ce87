// Compare page: the answers of both tiers to one prompt, the routing decision, the user's choice and
// the judge's verdict.

import { readItem, writeItem } from './browser-storage.js'
import { createChoice } from './choice.js'
import { showScore } from './choice-score.js'
import { Side } from './compare-side.js'
import { createGauge, createTierBadge, explainReason } from './decision.js'
import { describeDifference } from './difference.js'
import { $, h, replace } from './dom.js'
import { score as formatScore, ms, plural } from './format.js'
import { postJson } from './http.js'
import { status } from './shell.js'
import { loadRequest, readTurns } from './stored-request.js'

const TIERS = ['local', 'cloud']
// In the session storage of the tab: the prompt and the comparison survive a reload.
const STORAGE_KEY = 'hybrid-llm-compare'
const ROLES = ['system', 'developer', 'user', 'assistant']
// Reasons that say how things are now, not what the prompt is like.
const PASSING = ['overload', 'loading', 'unhealthy', 'budget']

const prompt = $('#prompt')
const blind = $('#blind')

let running = null // the AbortController of the current comparison
let sides = [] // in the order of the page
let state = { prompt: '', context: [], isBlind: false } // a new object for each comparison

// --- a comparison ---

async function compare(text) {
  running = new AbortController()
  const { signal } = running
  const messages = [...state.context, { role: 'user', content: text }]
  const order = blind.checked && Math.random() < 0.5 ? TIERS.toReversed() : TIERS
  state = { prompt: text, context: state.context, isBlind: blind.checked, messages, order }
  const current = await status.catch(() => null)
  sides = order.map(
    (tier, index) =>
      new Side(tier, current?.tiers[tier].model, state.isBlind ? nameOf(index) : null),
  )
  showSides()
  for (const id of ['#choice', '#verdict', '#problem']) $(id).hidden = true
  showRunning()
  replace($('#announce'), state.isBlind ? 'Asking both models.' : 'Loading the decision.')
  // The decision comes first: the requests of this comparison are load for the local tier.
  await loadDecision(signal)
  if (!signal.aborted) await Promise.all(sides.map((side) => side.run(messages, signal)))
  running = null
  showRunning()
  if (!sides.every((side) => side.text && !side.error && !side.stopped)) reveal()
  for (const side of sides) {
    side.stopped ||= signal.aborted && !side.text && !side.error
    side.end()
  }
  showEnd(current)
  replace($('#announce'), describeEnd())
  save()
}

const nameOf = (index) => `Answer ${'AB'[index]}`

const sideOf = (tier) => sides.find((side) => side.tier === tier)

function describeEnd() {
  const failed = sides.filter((side) => side.error)
  if (failed.length === 2) return 'Both models failed.'
  if (sides.some((side) => side.stopped)) return 'Stopped.'
  if (!failed.length) return 'Both answers are complete.'
  const other = failed[0].tier === 'local' ? 'cloud' : 'local'
  return `The ${failed[0].tier} model failed. The ${other} answer is complete.`
}

function showSides() {
  replace(
    $('#sides'),
    sides.map((side) => side.element),
  )
}

/** Show what follows the answers: the choice, and the verdict unless the tiers are hidden. */
function showEnd(current) {
  showDecision()
  if (!sides.every((side) => side.isComplete)) return
  offerChoice()
  if (!isHidden()) offerVerdict(current)
}

const isHidden = () => sides.some((side) => side.isHidden)

function reveal() {
  for (const side of sides) side.reveal()
  state.isRevealed = true
  showDecision()
}

// --- the decision ---

async function loadDecision(signal) {
  if (!state.isBlind) {
    $('#decision').hidden = false
    replace($('#decision'), h('p', { class: 'skeleton' }, 'Loading the decision'))
  } else $('#decision').hidden = true
  try {
    const body = { model: 'auto', messages: state.messages }
    state.decision = await (await postJson('/api/decisions', body, { signal })).json()
  } catch (error) {
    if (error.name !== 'AbortError') state.decisionError = error.message
  }
  showDecision()
}

/** The tier by the prompt alone, without what is the case only now. */
function chosenByPrompt({ reason, merit, threshold, target }) {
  if (!PASSING.includes(reason) || typeof merit !== 'number' || typeof threshold !== 'number')
    return target
  return merit >= threshold ? 'local' : 'cloud'
}

function describeDistance({ merit, threshold }) {
  if (typeof merit !== 'number' || typeof threshold !== 'number') return ''
  const side = merit >= threshold ? 'above' : 'below'
  return `${formatScore(Math.abs(merit - threshold))} ${side} the threshold`
}

function showDecision() {
  const section = $('#decision')
  const { decision, decisionError } = state
  section.hidden = isHidden() || !(decision || decisionError)
  if (section.hidden) return
  if (!decision) {
    replace(section, h('p', { class: 'error', role: 'alert' }, decisionError))
    return
  }
  // In a preview `second_look` says whether there would be one; it has no result.
  const { second_look: isUncertain, ...shown } = decision
  const target = chosenByPrompt(decision)
  const isOther = target !== decision.target
  for (const side of sides) side.markChosen(target)
  replace(
    section,
    h(
      'p',
      { class: 'row' },
      'The router would choose',
      createTierBadge(target, isOther ? sideOf(target)?.model : decision.model),
      createGauge({ ...shown, target }),
      h(
        'span',
        { class: 'dim small' },
        explainReason(isOther ? { ...shown, reason: 'score', target } : shown),
      ),
      h('span', { class: 'dim small num' }, describeDistance(decision)),
      h('span', { class: 'dim small num' }, `decided in ${ms(decision.latency_ms)}`),
    ),
    isOther
      ? h(
          'p',
          { class: 'notice small now' },
          `Right now it would go to the ${decision.target} tier: ${explainReason({ reason: decision.reason })}.`,
        )
      : null,
    isUncertain
      ? h(
          'p',
          { class: 'dim small' },
          'By the prompt alone: a second look at the local answer would decide.',
        )
      : null,
    h('p', { id: 'saving', class: 'dim small' }, describeSaving()),
  )
}

function describeSaving() {
  const [local, cloud] = TIERS.map((tier) => sideOf(tier))
  if (!local?.isComplete || !cloud?.isComplete) return ''
  const figures = ({ row, durationMs }) => ({ cost_usd: row?.cost_usd, duration_ms: durationMs })
  return describeDifference(figures(local), figures(cloud))
}

// --- the choice ---

function offerChoice() {
  const section = $('#choice')
  const comparison = state
  const [first, second] = sides
  section.hidden = false
  const wasHidden = isHidden()
  const name = (side, index) =>
    state.isBlind && wasHidden
      ? `${'AB'[index]} is better`
      : `${side.tier === 'local' ? 'Local' : 'Cloud'} is better`
  replace(
    section,
    createChoice({
      request_id: sideOf('local').id,
      other_id: sideOf('cloud').id,
      source: 'compare',
      isBlind: isHidden,
      names: { [first.tier]: name(first, 0), [second.tier]: name(second, 1) },
      value: state.choice ?? null,
      onChoose: async (choice, { isBlind }) => {
        showScore($('#score'))
        if (comparison !== state) return // another one has begun meanwhile
        state.choice = choice
        if (isBlind) {
          reveal()
          nameButtons()
          offerVerdict(await status.catch(() => null))
        }
        replace($('#which'), describeChoice())
        save()
      },
    }),
    wasHidden
      ? h(
          'p',
          {},
          h(
            'button',
            { type: 'button', class: 'quiet small', on: { click: showAtOnce } },
            'Show which is which without choosing',
          ),
        )
      : null,
    h('p', { id: 'which', role: 'status' }, describeChoice()),
  )
}

async function showAtOnce() {
  reveal()
  offerChoice()
  offerVerdict(await status.catch(() => null))
  save()
  $('#choice button')?.focus()
}

/** Name the tiers on the buttons, which stay where they are. */
function nameButtons() {
  const buttons = $('#choice').querySelectorAll('.choice-buttons button')
  sides.forEach((side, index) => {
    replace(buttons[index], `${'AB'[index]} (${side.tier}) is better`)
  })
  $('#choice > p:not(#which)')?.remove()
}

/** What a blind choice turned out to be, beside the router's decision. */
function describeChoice() {
  if (!state.isBlind || !state.choice || isHidden()) return ''
  const [first, second] = sides
  const names = `A was the ${first.tier} answer, B the ${second.tier} one.`
  const preferred =
    state.choice === 'tie'
      ? 'You found them equally good.'
      : `You chose the ${state.choice} answer.`
  if (!state.decision) return `${names} ${preferred}`
  return `${names} ${preferred} The router would choose ${chosenByPrompt(state.decision)}.`
}

// --- the judge ---

function offerVerdict(current) {
  const section = $('#verdict')
  section.hidden = false
  if (state.verdict) {
    showVerdict(section, state.verdict)
    return
  }
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
      h('span', { class: 'dim small' }, 'Uses four judge calls from today’s judge budget.'),
    ),
  )

  async function requestVerdict() {
    button.disabled = true
    replace(section, h('p', { class: 'skeleton' }, 'Judging'))
    const comparison = state
    try {
      const [local, cloud] = TIERS.map((tier) => sideOf(tier))
      const { messages } = state
      const body = { request_id: local.id, messages, local: local.text, cloud: cloud.text }
      const verdict = await (await postJson('/api/verdicts', body)).json()
      if (comparison !== state) return // another one has begun meanwhile
      state.verdict = verdict
      showVerdict(section, verdict)
      save()
    } catch (error) {
      if (comparison !== state) return
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

// --- what outlives a reload, and what the address asks for ---

function save() {
  const stored = { ...state, prompt: prompt.value, sides }
  writeItem('session', STORAGE_KEY, JSON.stringify(stored))
}

async function restore() {
  let stored = null
  try {
    stored = JSON.parse(readItem('session', STORAGE_KEY))
  } catch {
    // Written by another version.
  }
  if (!stored) return
  const { sides: answers = [], ...others } = stored
  state = { ...state, ...others }
  prompt.value = stored.prompt
  blind.checked = Boolean(stored.isBlind)
  showContext()
  if (answers.length !== 2 || !answers.every(({ tier }) => TIERS.includes(tier))) return
  const isStillHidden = stored.isBlind && !stored.isRevealed
  sides = answers.map((answer, index) => {
    const isCut = !answer.error && !answer.stopped && answer.durationMs === undefined
    const side = Side.from(answer, stored.isBlind ? nameOf(index) : null)
    if (isCut) side.stopped = true // the reload has ended its request
    if (!isStillHidden) side.isHidden = false
    side.end()
    return side
  })
  if (!sides.every((side) => side.isComplete)) reveal()
  showSides()
  showEnd(await status.catch(() => null))
}

/** Fill in the prompt that the address names. It is not sent: that would cost money. */
async function readAddress() {
  const named = new URLSearchParams(location.search)
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) named.set(name, value)
  const [text, id] = [named.get('prompt'), named.get('request')]
  if (text === null && id === null) return false
  history.replaceState(null, '', location.pathname) // a reload shows what the user has done since
  if (id === null) {
    prompt.value = text
    return true
  }
  try {
    await loadPrompt(id)
  } catch (error) {
    $('#problem').hidden = false
    replace($('#problem'), error.message)
  }
  return true
}

async function loadPrompt(id) {
  const known = readTurns(await loadRequest(id)).filter(({ role }) => ROLES.includes(role))
  const last = known.findLastIndex(({ role }) => role === 'user')
  if (last < 0) throw new Error('No text is stored for this request.')
  prompt.value = known[last].content
  state.context = known.slice(0, last)
  showContext()
}

function showContext() {
  const { context } = state
  const line = $('#context')
  line.hidden = !context.length
  if (line.hidden) return
  const drop = () => {
    state.context = []
    showContext()
    save()
    prompt.focus()
  }
  replace(
    line,
    `With ${plural(context.length, 'earlier message')} of its conversation.`,
    h('button', { type: 'button', class: 'quiet small', on: { click: drop } }, 'Leave out'),
  )
}

// --- the form ---

function showRunning() {
  $('#compare').disabled = running !== null
  $('#stop').hidden = running === null
  blind.disabled = running !== null
}

$('#ask').addEventListener('submit', (event) => {
  event.preventDefault()
  const text = prompt.value.trim()
  if (text && !running) compare(text)
})
prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('#ask').requestSubmit()
})
$('#stop').addEventListener('click', () => running?.abort())
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})
// Without a listener for `submit`, a click reloads the page and loses the prompt.
$('#compare').disabled = false
addEventListener('pagehide', save)
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
if (!(await readAddress())) await restore()
// On a touch screen the focus would open the keyboard over the page.
if (matchMedia('(hover: hover)').matches) prompt.focus()
showScore($('#score'))
