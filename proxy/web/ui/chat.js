// Chat page: a conversation over /v1/chat/completions that shows the routing of every answer.

import { createAnswer, createQuestion } from './chat-message.js'
import { complete } from './completion.js'
import { $, h, icon, replace } from './dom.js'
import { percent, usd } from './format.js'
import { ApiError, getJson } from './http.js'
import { openRequest } from './open-request.js'
import './shell.js'

// In the session storage of the tab, so that the chat survives a visit to another page.
const STORAGE_KEY = 'hybrid-llm-chat'
const INTERVAL_FACTOR = 4 // drawing takes at most a quarter of the time
const END_DISTANCE = 80 // pixels: within this distance of its end the thread scrolls along

const SAMPLES = [
  ['What is the capital of Australia?', 'a fact'],
  ['Write a friendly two-sentence reminder about the team lunch on Friday.', 'a short text'],
  ['Sort these by size: lake, puddle, ocean, pond.', 'common sense'],
  ['Explain what an index does in a database, to a beginner.', 'an explanation'],
  ['Write a Python function that merges overlapping intervals, with tests.', 'code'],
  [
    'A train leaves at 14:05 at 80 km/h, another at 14:35 at 120 km/h on the same line. When and where does it catch up?',
    'several steps',
  ],
  ['Prove that there are infinitely many primes congruent to 3 modulo 4.', 'a proof'],
  [
    'Design a rate limiter for 10 million users over three regions, and say what fails first.',
    'a design',
  ],
]

// The columns of a stored request to show with its answer, and those of its decision.
const STORED = [
  'cost_usd',
  'cloud_cost_usd',
  'duration_ms',
  'saved_usd',
  'input_tokens',
  'output_tokens',
  'discarded_tokens',
  'second_look',
  'evidence',
  'verified_score',
  'verified_merit',
  'second_look_ms',
]
const DECIDED = [
  'target',
  'model',
  'reason',
  'score',
  'merit',
  'threshold',
  'failed_check',
  'second_look',
  'verified_merit',
]

const MODES = {
  auto: () => 'auto',
  local: () => 'local',
  cloud: () => 'cloud',
  cost: (share) => `auto:cost=${share}`,
  quality: (share) => `auto:quality=${share}`,
}
const LIMITS = {
  cost: (share) => `at most ${percent(share)} of the all-cloud cost`,
  quality: (share) => `recover at least ${percent(share)} of the quality gap`,
}

const thread = $('#thread')
const prompt = $('#prompt')
const share = $('#share')
const state = loadState()
let running = null // the AbortController of the current answer

// --- stored conversation ---

function loadState() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORAGE_KEY))
    if (Array.isArray(stored?.messages)) return stored
  } catch {
    // Written by another version, or not JSON.
  }
  return { session: crypto.getRandomValues(new Uint32Array(4)).join('-'), messages: [] }
}

function saveState() {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(state))
  } catch {
    // The storage is full: the conversation stays on the page only.
  }
}

/** The messages to send to a model: the questions and the answers that are not empty. */
const collectHistory = (end = state.messages.length) =>
  state.messages
    .slice(0, end)
    .filter(({ role, content }) => role === 'user' || content)
    .map(({ role, content }) => ({ role, content }))

// --- messages ---

function showQuestion(message) {
  thread.append(createQuestion(message))
}

/** Append an answer to the thread and return the function that shows its changes. */
function showAnswer(message) {
  const isLast = () => message === state.messages.at(-1)
  const getMessages = () => collectHistory(state.messages.indexOf(message))
  const { element, update } = createAnswer(message, {
    isLast,
    retry,
    save: saveState,
    getMessages,
  })
  thread.append(element)
  return update
}

// --- requests ---

async function ask(question) {
  // Only the last answer can be retried.
  for (const button of thread.querySelectorAll('.retry')) button.remove()
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
  const messages = collectHistory()
  state.messages.push(message)
  const update = showAnswer(message)
  const scheduleDraw = throttle(() => {
    update()
    scrollToEnd()
  })
  $('#welcome').hidden = true
  scrollToEnd(true)
  running = new AbortController()
  showRunning()
  const startedAt = performance.now()
  try {
    const body = { model: selectModel(), messages }
    const options = { signal: running.signal, headers: { 'x-router-session': state.session } }
    for await (const part of complete(body, options)) {
      if (part.decision) message.decision = part.decision
      if (part.text) {
        message.ttft ??= performance.now() - startedAt
        message.content += part.text
      }
      if (part.thought) message.thought = (message.thought ?? '') + part.thought
      if (part.finish) message.finish = part.finish
      scheduleDraw()
    }
  } catch (error) {
    if (error.name === 'AbortError') message.stopped = true
    else message.error = describeError(error)
  }
  running = null
  message.busy = false
  scheduleDraw.cancel()
  update()
  scrollToEnd()
  showRunning()
  saveState()
  announce(message)
  await loadRow(message, update)
}

const describeError = (error) =>
  error instanceof ApiError
    ? { message: error.message, status: error.status, code: error.code, param: error.param }
    : { message: String(error) }

const pick = (object, names) => Object.fromEntries(names.map((name) => [name, object[name]]))

/** Load the stored request, which has the cost. It is written shortly after the last token. */
async function loadRow(message, update) {
  const id = message.decision?.id
  if (!id) return
  try {
    const row = await getJson(`/api/requests/${encodeURIComponent(id)}`)
    message.row = pick(row, STORED)
    // The headers of a stream may have been sent before the local answer was replaced.
    if (row.target) Object.assign(message.decision, pick(row, DECIDED))
  } catch {
    return // the answer stays visible without its cost
  }
  update()
  showTally()
  saveState()
}

function selectModel() {
  const mode = $('input[name=mode]:checked').value
  return MODES[mode](Number(share.value) / 100)
}

/** Throttle a function: it runs in animation frames, at intervals in proportion to its duration. */
function throttle(work) {
  let pending = null
  let notBefore = 0
  const frame = (now) => {
    if (now < notBefore) {
      pending = requestAnimationFrame(frame)
      return
    }
    pending = null
    const startedAt = performance.now()
    work()
    notBefore = startedAt + INTERVAL_FACTOR * (performance.now() - startedAt)
  }
  const schedule = () => {
    pending ??= requestAnimationFrame(frame)
  }
  schedule.cancel = () => cancelAnimationFrame(pending)
  return schedule
}

// --- thread, totals and form ---

let isAtEnd = true
thread.addEventListener(
  'scroll',
  () => {
    isAtEnd = thread.scrollHeight - thread.scrollTop - thread.clientHeight < END_DISTANCE
  },
  { passive: true },
)

function scrollToEnd(always = false) {
  if (always) isAtEnd = true
  if (isAtEnd) thread.scrollTop = thread.scrollHeight
}

function announce({ error, stopped, decision }) {
  const source = decision?.target ? `from the ${decision.target} model ` : ''
  replace($('#announce'), error ? '' : stopped ? 'Stopped.' : `The answer ${source}is complete.`)
}

function showRunning() {
  $('#send').hidden = running !== null
  $('#stop').hidden = running === null
  $('#new').disabled = running !== null
}

function showTally() {
  const rows = state.messages.map(({ row }) => row).filter(Boolean)
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0)
  const allCloud = sum('cloud_cost_usd')
  const saved = allCloud ? ` (${percent(sum('saved_usd') / allCloud)})` : ''
  const cells = [
    ['answers', rows.length],
    ['cost', usd(sum('cost_usd'))],
    ['saved', `${usd(sum('saved_usd'))}${saved}`],
  ]
  const shown = cells.map(([name, value]) => h('span', {}, `${name} `, h('b', {}, value)))
  replace($('#tally'), rows.length ? shown : [])
}

function showLimit() {
  const mode = $('input[name=mode]:checked').value
  const describe = LIMITS[mode]
  $('#limit').hidden = !describe
  if (describe) replace($('#share-text'), describe(Number(share.value) / 100))
}

function resizePrompt() {
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
  scrollToEnd(true)
}

replace($('#send'), icon('send'))
replace($('#stop'), icon('stop'))
replace(
  $('#samples'),
  ...SAMPLES.map(([text, kind]) =>
    h(
      'li',
      {},
      h(
        'button',
        {
          type: 'button',
          on: {
            click: () => {
              if (!running) ask(text)
            },
          },
        },
        h('span', {}, text),
        h('span', { class: 'dim small' }, kind),
      ),
    ),
  ),
)

$('#composer').addEventListener('submit', (event) => {
  event.preventDefault()
  const question = prompt.value.trim()
  if (!question || running) return
  prompt.value = ''
  resizePrompt()
  ask(question)
})
prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault()
    $('#composer').requestSubmit()
  }
})
prompt.addEventListener('input', resizePrompt)
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort()
})
$('#stop').addEventListener('click', () => running?.abort())
$('#new').addEventListener('click', () => {
  sessionStorage.removeItem(STORAGE_KEY)
  Object.assign(state, loadState())
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
openRequest(prompt, (message) => prompt.setAttribute('placeholder', message))
