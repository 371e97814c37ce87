// Chat page: conversations over /v1/chat/completions that show the routing of every answer.

import { readItem, writeItem } from './browser-storage.js'
import { createAnswer, createQuestion } from './chat-message.js'
import { createRequest, createSettings, DEFAULTS } from './chat-settings.js'
import { complete, readDecision } from './completion.js'
import { createComposer } from './composer.js'
import { createConversationList } from './conversation-list.js'
import { ConversationStore } from './conversations.js'
import { $, h, icon, replace } from './dom.js'
import { percent, usd } from './format.js'
import { ApiError, getJson } from './http.js'
import { showNotice } from './notice.js'
import { openRequest } from './open-request.js'
import { SAMPLES } from './samples.js'
import { status } from './shell.js'
import { loadRequest, pick } from './stored-request.js'
import { Talk } from './talk.js'
import { throttle } from './throttle.js'

const OPEN_KEY = 'hybrid-llm-open-chat' // in the session storage: the conversation of this tab
const END_DISTANCE = 80 // pixels: within this distance of its end the thread scrolls along
const SAVE_MS = 300 // between two writes of an answer that arrives
const SIGN_MS = 2000 // between two signs to other tabs that an answer arrives
const READY_MS = 1000 // a question waits for the stored conversation at most this long

// What a model is sent to continue an answer that broke off.
const CONTINUE =
  'Continue your answer exactly where it stopped. Do not repeat any of it, and do not comment on this.'

// The settings to keep with an answer: the other tier is asked with the same.
const ASKED = ['system', 'temperature', 'max_tokens']
// The columns of a stored request to show with its answer, and those of its decision.
const STORED = [
  'target',
  'reason',
  'cost_usd',
  'cloud_cost_usd',
  'ttft_ms',
  'duration_ms',
  'saved_usd',
  'input_tokens',
  'output_tokens',
  'discarded_tokens',
  'fallback_from',
  'fallback_why',
  'error_code',
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

const thread = $('#thread')
const store = new ConversationStore(status.then((current) => current.key_hash ?? null))
const running = new Map() // conversation ID: its Talk, while an answer arrives
let newSettings = DEFAULTS
let current = createTalk()

// --- stored conversations ---

function createTalk(stored = null) {
  const options = { settings: { ...DEFAULTS, ...newSettings }, report: showStorageProblem }
  return new Talk(store, stored, options)
}

function showStorageProblem(error) {
  const problem = $('#storage-problem')
  problem.hidden = !error
  if (!error) return
  const reason =
    error.name === 'QuotaExceededError'
      ? 'The browser has no space left for chats. Export and delete some.'
      : error instanceof ApiError
        ? `Your chats cannot be shown: ${error.message}`
        : 'The browser does not store chats, as in a private window.'
  replace(problem, `${reason} You can go on, but this chat is lost when the page is closed.`)
}

/** Remember the conversation that a reload opens again; null for none. */
const rememberOpen = (id) => writeItem('session', OPEN_KEY, id)
const readOpen = () => readItem('session', OPEN_KEY)

/** Write a setting. A failure is no problem of the conversation. */
const writeSetting = (name, value) => store.writeSetting(name, value).catch(() => {})

async function readNewSettings() {
  const names = ['defaults', 'last']
  const [defaults, last] = await Promise.all(names.map((name) => store.readSetting(name)))
  newSettings = { ...DEFAULTS, ...defaults, ...last }
}

let isChosen = false // whether the reader has changed the settings, perhaps before they were read
const settings = createSettings({
  change: (changed) => {
    isChosen = true
    current.conversation.settings = changed
    newSettings = { ...newSettings, choice: changed.choice, share: changed.share }
    writeSetting('last', { choice: changed.choice, share: changed.share })
    if (current.isEmpty) writeSetting('draft', changed)
    else current.save()
  },
  keep: (kept) => {
    newSettings = { ...kept }
    writeSetting('defaults', kept)
    showNotice('New chats begin with these settings.')
  },
})

const list = createConversationList({
  store,
  open: openConversation,
  startNew,
  changed: (id, change) => {
    if (change) {
      if (current.id === id) Object.assign(current.conversation, change)
      return
    }
    running.get(id)?.markGone()
    if (current.id === id) startNew({ focus: false })
  },
})

let opening = null // the conversation that was chosen last; null when it is shown

async function openConversation(id) {
  opening = id
  if (id === current.id) return
  try {
    const talk = running.get(id) ?? (await loadTalk(id))
    if (talk && opening === id) show(talk)
  } catch (error) {
    showNotice(error.message)
  }
}

async function loadTalk(id) {
  const stored = await store.load(id)
  return stored ? createTalk(stored) : null
}

function startNew({ focus = true } = {}) {
  writeSetting('draft', null)
  show(createTalk())
  if (focus) composer.focus()
}

/** Show another conversation. An answer that arrives in the former one goes on arriving. */
function show(talk) {
  opening = null
  current = talk
  replace(thread)
  showThread()
  settings.show(talk.conversation.settings)
  rememberOpen(talk.isEmpty ? null : talk.id)
  list.select(talk.id)
  showRunning()
  scrollToEnd(true)
  watchOthers()
}

// --- other tabs ---

let watching = null

/** Show when an answer of another tab stops arriving: that tab was closed. */
function watchOthers() {
  clearTimeout(watching)
  if (!current.running && current.tree.all().some(({ busy }) => busy)) {
    watching = setTimeout(() => {
      current.markInterrupted()
      showThread()
      watchOthers()
    }, SIGN_MS)
  }
}

store.addEventListener('change', async ({ detail: { type, id, message } }) => {
  try {
    if (type === 'deleted') {
      running.get(id)?.markGone()
      list.update(id, null)
      if (current.id === id) {
        startNew({ focus: false })
        showNotice('This chat was deleted in another tab.')
      }
      return
    }
    const talk = current
    if (type === 'running') talk.noteElsewhere(message)
    else list.update(id, await store.find(id))
    const stored = talk.id === id ? await store.load(id) : null
    if (!stored || talk !== current) return
    talk.merge(stored)
    showThread()
    scrollToEnd()
    watchOthers()
  } catch {
    // The next change is shown with this one.
  }
})

// --- thread ---

/** What a conversation offers its messages. */
const createThread = (talk) => ({
  isRunning: () => talk.running !== null,
  findVersions: (message) => talk.tree.versions(message),
  readRequest: (message) => {
    const settings = { ...talk.conversation.settings, ...message.settings }
    return { ...createRequest(settings), messages: talk.readSent(message) }
  },
  save: (message) => {
    if (!talk.tree.get(message.id)) return // it was deleted meanwhile
    talk.save([message])
    if (talk === current) showTally()
  },
  showVersion: (message) => {
    if (talk.running) return
    talk.tree.select(message.id)
    talk.save()
    showThread()
  },
  edit: (message, content) => {
    const { attachments } = message
    talk.add('user', message.parent, { content, ...(attachments ? { attachments } : {}) })
    answer(talk)
  },
  remove: (message) => {
    if (talk.running) return
    const undo = talk.remove(message)
    showThread()
    showNotice('The question and its answers are deleted.', {
      action: 'Undo',
      run: () => {
        undo()
        if (talk === current) showThread()
      },
    })
    composer.focus()
  },
  retry: (message) => {
    if (talk.running || !talk.tree.get(message.parent)) return
    // An answer without text is replaced, and what followed it follows the new one.
    const isReplaced = !message.content
    const followers = isReplaced ? talk.discard(message) : []
    talk.tree.leaf = message.parent
    answer(talk, isReplaced ? [message.id] : [], followers)
  },
  resume: (message) => {
    if (!talk.running) resume(talk, message)
  },
})

function findView(talk, message) {
  let view = talk.views.get(message.id)
  if (!view) {
    const create = message.role === 'user' ? createQuestion : createAnswer
    view = create(message, createThread(talk))
    talk.views.set(message.id, view)
  }
  return view
}

/** Show the path of the conversation. Messages that are shown already stay in their place. */
function showThread() {
  const path = current.tree.path()
  for (const [index, message] of path.entries()) {
    const { element, update } = findView(current, message)
    if (thread.children[index] !== element)
      thread.insertBefore(element, thread.children[index] ?? null)
    update()
  }
  while (thread.children.length > path.length) thread.lastElementChild.remove()
  growth.disconnect()
  if (thread.lastElementChild) growth.observe(thread.lastElementChild)
  $('#welcome').hidden = path.length > 0
  showTally()
  showJump()
}

// --- requests ---

let isAsking = false // whether a question waits for the stored conversation

function ask({ content, attachments }) {
  if (current.running || isAsking) return false
  // A reload may not have finished reading the conversation that the question belongs to.
  const start = () => {
    const talk = current
    talk.add('user', talk.tree.leaf, { content, ...(attachments.length ? { attachments } : {}) })
    rememberOpen(talk.id)
    answer(talk)
  }
  if (isReady) start()
  else {
    isAsking = true
    ready.then(() => {
      isAsking = false
      start()
    })
  }
  return true
}

/** Request the answer of the last question. */
async function answer(talk, removed = [], followers = []) {
  const question = talk.tree.get(talk.tree.leaf)
  const settings = pick(talk.conversation.settings, ASKED)
  const message = talk.add('assistant', question.id, { content: '', busy: true, settings })
  for (const follower of followers) follower.parent = message.id
  talk.tree.select(message.id)
  talk.save([question, message, ...followers], removed)
  list.update(talk.id, { ...talk.conversation })
  list.select(talk.id)
  await receive(talk, message, talk.readSent(message))
}

/** Request the rest of an answer that broke off. */
async function resume(talk, message) {
  const messages = [
    ...talk.readSent(message),
    { role: 'assistant', content: message.content },
    { role: 'user', content: CONTINUE },
  ]
  if (message.row) message.earlier = [...(message.earlier ?? []), message.row]
  for (const name of ['decision', 'row', 'error', 'stopped', 'interrupted', 'finish'])
    delete message[name]
  message.busy = true
  talk.tree.select(message.id)
  await receive(talk, message, messages)
}

async function receive(talk, message, messages) {
  talk.hold(message)
  talk.running = new AbortController()
  running.set(talk.id, talk)
  showThread()
  showRunning()
  scrollToEnd(talk.tree.leaf === message.id)
  const { update } = findView(talk, message)
  const scheduleDraw = throttle(() => {
    update()
    if (talk === current) scrollToEnd()
  })
  const saving = setInterval(() => talk.savePartial(message), SAVE_MS)
  const signs = setInterval(() => store.announceRunning(talk.id, message.id), SIGN_MS)
  const startedAt = performance.now()
  try {
    const body = { ...createRequest(talk.conversation.settings), messages }
    const headers = { 'x-router-session': talk.conversation.session }
    for await (const part of complete(body, { signal: talk.running.signal, headers })) {
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
    if (error.headers) message.decision = readDecision(error.headers)
  }
  clearInterval(saving)
  clearInterval(signs)
  store.endRunning(message.id)
  talk.running = null
  running.delete(talk.id)
  message.busy = false
  scheduleDraw.cancel()
  await finish(talk, message, update)
}

async function finish(talk, message, update) {
  update()
  if (talk === current) {
    showThread()
    showRunning()
    scrollToEnd()
  }
  talk.save([message])
  announce(message)
  const row = await loadRow(message)
  if (row) {
    update()
    if (talk === current) {
      showTally()
      scrollToEnd()
    }
    talk.save([message])
  }
  talk.release(message)
}

const describeError = (error) =>
  error instanceof ApiError
    ? { message: error.message, status: error.status, code: error.code, param: error.param }
    : { message: String(error) }

/** Load the stored request, which has the cost. It is written shortly after the last token. */
async function loadRow(message) {
  const { decision } = message
  if (!decision?.id) return false
  try {
    const row = await loadRequest(decision.id)
    if (message.decision !== decision) {
      // The answer is being continued by another request.
      message.earlier = [...(message.earlier ?? []), pick(row, STORED)]
      return true
    }
    message.row = pick(row, STORED)
    // The headers of a stream may have been sent before the local answer was replaced.
    if (row.target) Object.assign(decision, pick(row, DECIDED))
    return true
  } catch {
    return false // the answer stays visible without its cost
  }
}

// --- scrolling, totals and running answers ---

let isAtEnd = true

const showJump = () => {
  $('#to-end').hidden = isAtEnd || thread.scrollHeight <= thread.clientHeight
}

thread.addEventListener(
  'scroll',
  () => {
    isAtEnd = thread.scrollHeight - thread.scrollTop - thread.clientHeight < END_DISTANCE
    showJump()
  },
  { passive: true },
)

function scrollToEnd(always = false) {
  if (always) isAtEnd = true
  if (isAtEnd) thread.scrollTop = thread.scrollHeight
}

// The last answer also grows by the other tier's answer, and by formulas that are set later.
const growth = new ResizeObserver(() => scrollToEnd())

function announce({ error, stopped, decision }) {
  const source = decision?.target ? `from the ${decision.target} model ` : ''
  replace($('#announce'), error ? '' : stopped ? 'Stopped.' : `The answer ${source}is complete.`)
}

function showRunning() {
  const isRunning = current.running !== null
  $('#send').hidden = isRunning
  $('#stop').hidden = !isRunning
}

function showTally() {
  const rows = current.tree
    .all()
    .flatMap(({ row, earlier = [], other }) => [...earlier, row, other?.row])
    .filter(Boolean)
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0)
  const allCloud = sum('cloud_cost_usd')
  const share = allCloud ? ` (${percent(sum('saved_usd') / allCloud)})` : null
  const cells = [
    ['answers', rows.length],
    ['cost', usd(sum('cost_usd'))],
    ['saved', usd(sum('saved_usd')), share && h('span', { class: 'share-saved' }, share)],
  ]
  const shown = cells.map(([name, ...value]) => h('span', {}, `${name} `, h('b', {}, value)))
  replace($('#tally'), rows.length ? shown : [])
}

// --- page ---

const composer = createComposer({
  send: ask,
  editLast: () => {
    const question = current.tree.path().findLast(({ role }) => role === 'user')
    if (!question || current.running) return false
    findView(current, question).edit()
    return true
  },
})

replace(
  $('#samples'),
  ...SAMPLES.map(([text, kind]) =>
    h(
      'li',
      {},
      h(
        'button',
        { type: 'button', on: { click: () => ask({ content: text, attachments: [] }) } },
        h('span', {}, text),
        h('span', { class: 'dim small' }, kind),
      ),
    ),
  ),
)
replace($('#to-end'), icon('end'))
replace($('#open-history'), icon('menu'), 'Chats')
replace($('#close-history'), icon('close'))
$('#new').prepend(icon('plus'))

const isTyping = ({ target }) => target.closest('input, textarea, select, [contenteditable]')

document.addEventListener('keydown', (event) => {
  const isCommand = event.ctrlKey || event.metaKey
  const isModal = document.querySelector('dialog:modal') !== null
  if (event.key === 'Escape') {
    const isPlain = !event.defaultPrevented && !isModal && !document.querySelector(':popover-open')
    if (isPlain) current.running?.abort()
  } else if (isCommand && event.key.toLowerCase() === 'k' && !isModal) {
    event.preventDefault()
    list.focusSearch()
  } else if (isCommand && event.shiftKey && event.key.toLowerCase() === 'o' && !isModal) {
    event.preventDefault()
    startNew()
  } else if (event.key === '?' && !isCommand && !isModal && !isTyping(event)) {
    event.preventDefault()
    $('#shortcuts').showModal()
  }
})
$('#open-shortcuts').addEventListener('click', () => $('#shortcuts').showModal())
$('#stop').addEventListener('click', () => current.running?.abort())
$('#to-end').addEventListener('click', () => {
  scrollToEnd(true)
  showJump()
})

// The page is being closed: store what has arrived.
addEventListener('pagehide', () => {
  for (const talk of new Set([...running.values(), current])) talk.saveNow()
})

// Chats belong to a key: another one may have signed in or out in another tab.
async function checkOwner() {
  try {
    const { needs_key, key_hash } = await status
    if (needs_key && key_hash !== (await getJson('/api/status')).key_hash) location.reload()
  } catch {
    // Signed out: the login page opens. Unreachable: the next request says so.
  }
}
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) checkOwner()
})
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) checkOwner()
})

/** Show what was open in this tab, with the settings that were chosen last. */
async function restore() {
  await store.open()
  await readNewSettings()
  if (!current.isEmpty) return // a question was asked meanwhile
  const id = readOpen()
  const empty = current
  const talk = id ? await loadTalk(id) : null
  if (current !== empty || !current.isEmpty) return // another one was opened meanwhile
  if (talk) {
    show(talk)
    store.askRunning()
    return
  }
  const draft = await store.readSetting('draft')
  if (isChosen) return showThread()
  current.conversation.settings = { ...newSettings, ...draft }
  settings.show(current.conversation.settings)
  showThread()
}

let isReady = false
$('#welcome').hidden = readOpen() !== null
composer.focus()
const ready = Promise.race([
  restore().catch((error) => {
    showStorageProblem(error)
    showThread()
  }),
  new Promise((resolve) => setTimeout(resolve, READY_MS)),
]).then(() => {
  isReady = true
})
store
  .open()
  .then(async () => {
    await list.refresh()
    list.select(current.id)
  })
  .catch(() => {}) // `restore` reports it
status
  .then(({ needs_key }) => {
    // The list of models counts against the rate limit of a key.
    if (needs_key) $('#model').addEventListener('focus', settings.loadModels, { once: true })
    else settings.loadModels()
  })
  .catch(() => {}) // the next request says that the proxy cannot be reached
if (new URLSearchParams(location.search).has('request')) {
  ready.then(() => {
    startNew({ focus: false })
    openRequest($('#prompt'), showNotice)
  })
}
