// Chat: a conversation over /v1/chat/completions, like any client's, with what the router did.

import { complete } from './completion.js'
import { gauge, tierBadge, why } from './decision.js'
import { $, copyButton, h, icon, replace } from './dom.js'
import { ms, percent, usd } from './format.js'
import { ApiError, getJson, postJson } from './http.js'
import { markdownIn } from './markdown.js'
import './shell.js'

const KEPT = 'hybrid-llm-chat' // in this tab, so that a look at another page loses nothing
const FRAME_SHARE = 4 // rendering takes at most a quarter of the time
const NEAR_THE_END = 80 // pixels: who has not scrolled up further is taken along

const SAMPLES = [
  ['What is the capital of Australia?', 'a fact'],
  ['Write a friendly two-sentence reminder about the team lunch on Friday.', 'a short text'],
  ['Sort these by size: lake, puddle, ocean, pond.', 'common sense'],
  ['Explain what an index does in a database, to a beginner.', 'an explanation'],
  ['Write a Python function that merges overlapping intervals, with tests.', 'code'],
  ['A train leaves at 14:05 at 80 km/h, another at 14:35 at 120 km/h on the same line. When and where does it catch up?', 'several steps'],
  ['Prove that there are infinitely many primes congruent to 3 modulo 4.', 'a proof'],
  ['Design a rate limiter for 10 million users over three regions, and say what fails first.', 'a design'],
]

const MODES = {
  auto: () => 'auto',
  local: () => 'local',
  cloud: () => 'cloud',
  cost: (share) => `auto:cost=${share}`,
  quality: (share) => `auto:quality=${share}`,
}
const LIMITS = {
  cost: (share) => `at most ${percent(share)} of what the cloud alone would cost`,
  quality: (share) => `at least ${percent(share)} of the cloud’s lead in quality`,
}

const thread = $('#thread')
const prompt = $('#prompt')
const share = $('#share')
const state = load()
let running = null // the AbortController of the answer that is coming

// --- what was said ---

function load() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT))
    if (Array.isArray(kept?.messages)) return kept
  } catch {
    // Of an older version, or not ours.
  }
  return { session: crypto.getRandomValues(new Uint32Array(4)).join('-'), messages: [] }
}

function save() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(state))
  } catch {
    // It is full: what is on the page stays there.
  }
}

/** What a model is sent: the questions, and the answers that came. */
const history = () =>
  state.messages
    .filter(({ role, content }) => role === 'user' || content)
    .map(({ role, content }) => ({ role, content }))

// --- one message ---

function showQuestion(message) {
  thread.append(h('article', { class: 'question', 'aria-label': 'You' }, message.content))
}

/** An answer's place; what is returned brings it up to date. */
function showAnswer(message) {
  const thought = h('div', { class: 'thought' })
  const thoughts = h('details', { hidden: true }, h('summary', {}, 'Thinking'), thought)
  const text = h('div', { class: 'prose' })
  const note = h('div')
  const head = h('p', { class: 'answer-head' })
  const facts = h('span', { class: 'dim small num' })
  const actions = h('span', { class: 'actions' })
  const foot = h('div', { class: 'answer-foot' }, facts, actions)
  const article = h('article', { class: 'answer', 'aria-label': 'Answer' }, head, thoughts, text, note, foot)
  const markdown = markdownIn(text)
  thread.append(article)

  const update = () => {
    const { decision, content = '' } = message
    article.setAttribute('aria-busy', String(Boolean(message.busy)))
    if (decision) {
      replace(
        head,
        tierBadge(decision.target, decision.model),
        gauge(decision),
        h('span', { class: 'dim small' }, why(decision)),
      )
    } else {
      replace(head, h('span', { class: 'dim small' }, message.busy ? 'deciding …' : ''))
    }
    thoughts.hidden = !message.thought
    replace(thought, message.thought ?? '')
    markdown(content)
    replace(note, ...notesOf(message))
    replace(facts, message.busy ? '' : factsOf(message))
    // Once: what has the focus keeps it.
    if (!message.busy && !actions.hasChildNodes()) replace(actions, ...actionsOf(message))
  }
  update()
  return update
}

function notesOf({ error, stopped, finish, busy, content }) {
  if (error) {
    const about = [error.status && `HTTP ${error.status}`, error.code, error.param && `field ${error.param}`]
    return [
      h('p', { class: 'error', role: 'alert' }, error.message, ' ',
        h('span', { class: 'small' }, about.filter(Boolean).join(' · '))),
    ]
  }
  if (stopped) return [h('p', { class: 'dim small' }, 'Stopped.')]
  if (finish === 'length') return [h('p', { class: 'dim small' }, 'Cut off: the most tokens an answer may have.')]
  if (finish === 'content_filter') return [h('p', { class: 'dim small' }, 'Withheld by the model’s content filter.')]
  if (!busy && !content) return [h('p', { class: 'dim small' }, 'An empty answer.')]
  return []
}

function factsOf({ ttft, row }) {
  const facts = []
  if (ttft) facts.push(`first token ${ms(ttft)}`)
  if (row?.cost_usd !== null && row?.cost_usd !== undefined) facts.push(`cost ${usd(row.cost_usd)}`)
  if (row?.saved_usd) facts.push(`${row.saved_usd < 0 ? 'lost' : 'saved'} ${usd(Math.abs(row.saved_usd))}`)
  if (row?.output_tokens) facts.push(`${row.output_tokens} tokens`)
  return facts.join(' · ')
}

function actionsOf(message) {
  const isLast = message === state.messages.at(-1)
  return [
    message.content ? copyButton(() => message.content) : null,
    message.decision?.id && message.content ? thumbs(message) : null,
    isLast && (message.error || message.stopped)
      ? h('button', { type: 'button', class: 'quiet small retry', on: { click: retry } }, icon('retry'), 'Try again')
      : null,
  ]
}

function thumbs(message) {
  const said = h('span', { class: 'small dim', role: 'status' })
  const make = (thumb, label) =>
    h('button', {
      type: 'button',
      class: 'quiet small',
      'aria-pressed': String(message.thumb === thumb),
      'aria-label': label,
      title: label,
      on: { click: () => rate(thumb) },
    }, icon(thumb))
  const buttons = { up: make('up', 'Good answer'), down: make('down', 'Bad answer') }

  async function rate(thumb) {
    const wanted = message.thumb === thumb ? null : thumb // once more takes it back
    const body = { request_id: message.decision.id, ...(wanted ? { thumb: wanted } : { rating: 0 }) }
    try {
      await postJson('/v1/feedback', body)
      message.thumb = wanted
      for (const [name, button] of Object.entries(buttons)) {
        button.setAttribute('aria-pressed', String(name === wanted))
      }
      replace(said, wanted ? 'Thank you' : '')
      save()
    } catch (error) {
      replace(said, error.message)
    }
  }
  return [buttons.up, buttons.down, said]
}

// --- asking ---

async function ask(question) {
  for (const button of thread.querySelectorAll('.retry')) button.remove() // the talk has moved on
  const message = { role: 'user', content: question }
  state.messages.push(message)
  showQuestion(message)
  await answer()
}

async function retry() {
  state.messages.pop()
  thread.lastElementChild.remove()
  await answer()
}

async function answer() {
  const message = { role: 'assistant', content: '', busy: true }
  const messages = history()
  state.messages.push(message)
  const update = showAnswer(message)
  const draw = inFrames(() => {
    update()
    follow()
  })
  $('#welcome').hidden = true
  follow(true)
  running = new AbortController()
  showRunning()
  const began = performance.now()
  try {
    const body = { model: model(), messages }
    const options = { signal: running.signal, headers: { 'x-router-session': state.session } }
    for await (const part of complete(body, options)) {
      if (part.decision) message.decision = part.decision
      if (part.text) {
        message.ttft ??= performance.now() - began
        message.content += part.text
      }
      if (part.thought) message.thought = (message.thought ?? '') + part.thought
      if (part.finish) message.finish = part.finish
      draw()
    }
  } catch (error) {
    if (error.name === 'AbortError') message.stopped = true
    else message.error = described(error)
  }
  running = null
  message.busy = false
  draw.cancel()
  update()
  follow()
  showRunning()
  save()
  announce(message)
  await account(message, update)
}

const described = (error) =>
  error instanceof ApiError
    ? { message: error.message, status: error.status, code: error.code, param: error.param }
    : { message: String(error) }

/** What it cost is known a moment after its last word, from its row. */
async function account(message, update) {
  const id = message.decision?.id
  if (!id) return
  try {
    const row = await getJson(`/api/requests/${encodeURIComponent(id)}`)
    const { cost_usd, cloud_cost_usd, saved_usd, input_tokens, output_tokens } = row
    message.row = { cost_usd, cloud_cost_usd, saved_usd, input_tokens, output_tokens }
  } catch {
    return // its answer is there all the same
  }
  update()
  showTally()
  save()
}

function model() {
  const mode = $('input[name=mode]:checked').value
  return MODES[mode](Number(share.value) / 100)
}

/** Runs something on later frames, and seldom enough that what it takes can be afforded. */
function inFrames(work) {
  let pending = null
  let notBefore = 0
  const frame = (now) => {
    if (now < notBefore) {
      pending = requestAnimationFrame(frame)
      return
    }
    pending = null
    const began = performance.now()
    work()
    notBefore = began + FRAME_SHARE * (performance.now() - began)
  }
  const soon = () => { pending ??= requestAnimationFrame(frame) }
  soon.cancel = () => cancelAnimationFrame(pending)
  return soon
}

// --- the rest of the page ---

let followed = true
thread.addEventListener('scroll', () => {
  followed = thread.scrollHeight - thread.scrollTop - thread.clientHeight < NEAR_THE_END
}, { passive: true })

function follow(always = false) {
  if (always) followed = true
  if (followed) thread.scrollTop = thread.scrollHeight
}

function announce({ error, stopped, decision }) {
  const who = decision?.target ? `from the ${decision.target} model ` : ''
  replace($('#announce'), error ? '' : stopped ? 'Stopped.' : `The answer ${who}is complete.`)
}

function showRunning() {
  $('#send').hidden = running !== null
  $('#stop').hidden = running === null
  $('#new').disabled = running !== null
}

function showTally() {
  const rows = state.messages.map(({ row }) => row).filter(Boolean)
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0)
  const all = sum('cloud_cost_usd')
  const saved = all ? ` (${percent(sum('saved_usd') / all)})` : ''
  const cells = [['answers', rows.length], ['cost', usd(sum('cost_usd'))], ['saved', `${usd(sum('saved_usd'))}${saved}`]]
  const shown = cells.map(([name, value]) => h('span', {}, `${name} `, h('b', {}, value)))
  replace($('#tally'), rows.length ? shown : [])
}

function showLimit() {
  const mode = $('input[name=mode]:checked').value
  const say = LIMITS[mode]
  $('#limit').hidden = !say
  if (say) replace($('#share-said'), say(Number(share.value) / 100))
}

function grow() {
  prompt.style.setProperty('height', 'auto')
  prompt.style.setProperty('height', `${Math.min(prompt.scrollHeight + 2, 220)}px`)
}

function showAll() {
  replace(thread)
  for (const message of state.messages) {
    if (message.role === 'user') showQuestion(message)
    else showAnswer(message)
  }
  $('#welcome').hidden = state.messages.length > 0
  showTally()
  follow(true)
}

replace($('#send'), icon('send'))
replace($('#stop'), icon('stop'))
replace($('#samples'), ...SAMPLES.map(([text, kind]) =>
  h('li', {}, h('button', {
    type: 'button',
    on: { click: () => { if (!running) ask(text) } },
  }, h('span', {}, text), h('span', { class: 'dim small' }, kind)))))

$('#composer').addEventListener('submit', (event) => {
  event.preventDefault()
  const question = prompt.value.trim()
  if (!question || running) return
  prompt.value = ''
  grow()
  ask(question)
})
prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault()
    $('#composer').requestSubmit()
  }
})
prompt.addEventListener('input', grow)
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})
$('#stop').addEventListener('click', () => running?.abort())
$('#new').addEventListener('click', () => {
  sessionStorage.removeItem(KEPT)
  Object.assign(state, load())
  showAll()
  prompt.focus()
})
$('#modes').addEventListener('change', () => {
  const mode = $('input[name=mode]:checked').value
  share.value = mode === 'quality' ? 95 : 30
  showLimit()
})
share.addEventListener('input', showLimit)
showAll()
showLimit()
