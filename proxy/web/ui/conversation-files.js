// Conversations as files: Markdown and JSON to download, and JSON to import, which is hostile input.

import { createId } from './conversations.js'
import { download } from './dom.js'

const FORMAT = 'hybrid-llm-chat'
const VERSION = 1
const JSON_TYPE = { type: 'application/json' }
const MAX_TEXT_CHARS = 2_000_000
const MAX_NAME_CHARS = 200
const IMAGE = /^data:image\/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$/
const ID = /^[a-z0-9-]{1,60}$/i

/** A download's file name from a title. */
const nameFile = (title, extension) =>
  `${
    title
      .replace(/[^\p{L}\p{N}]+/gu, '-')
      .replace(/^-+|-+$/g, '')
      .slice(0, 60) || 'chat'
  }.${extension}`

/** Download one conversation as Markdown: the path that is shown. */
export function downloadMarkdown({ title }, path) {
  const parts = path.map(({ role, content, decision, attachments = [] }) => {
    const source = decision?.target ? ` (${decision.target}, ${decision.model})` : ''
    const files = attachments.map(({ name }) => `*Attached: ${name}*\n\n`).join('')
    return `## ${role === 'user' ? 'You' : `Assistant${source}`}\n\n${files}${content}\n`
  })
  const text = `# ${title}\n\n${parts.join('\n')}`
  download(nameFile(title, 'md'), new Blob([text], { type: 'text/markdown' }))
}

/** Download one conversation as JSON, with all versions of its messages. */
export function downloadJson(full) {
  const parts = [createHead(), JSON.stringify(full), ']}\n']
  download(nameFile(full.conversation.title, 'json'), new Blob(parts, JSON_TYPE))
}

/** Download all conversations as JSON. They are read one by one: together they may be large. */
export async function downloadAll(store) {
  const parts = [createHead()]
  for (const { id } of await store.list()) {
    const full = await store.load(id)
    if (full) parts.push(parts.length > 1 ? ',\n' : '', JSON.stringify(full))
  }
  const day = new Date().toISOString().slice(0, 10)
  download(`chats-${day}.json`, new Blob([...parts, ']}\n'], JSON_TYPE))
}

const createHead = () => `{"format":"${FORMAT}","version":${VERSION},"conversations":[\n`

/**
 * Import a file of `downloadJson` or `downloadAll`. Conversations that are stored already are kept.
 * Returns {added, present, skipped} counts. Throws an Error with a message for the reader.
 */
export async function importFile(store, file) {
  let data
  try {
    data = JSON.parse(await file.text())
  } catch {
    throw new Error(`${file.name} is not JSON.`)
  }
  if (data?.format !== FORMAT || !Array.isArray(data.conversations)) {
    throw new Error(`${file.name} is not an export of this chat.`)
  }
  if (data.version !== VERSION) throw new Error(`${file.name} has an unknown version.`)
  const known = new Set((await store.list()).map(({ id }) => id))
  const counts = { added: 0, present: 0, skipped: 0 }
  for (const item of data.conversations) {
    const full = readConversation(item)
    if (!full) {
      counts.skipped += 1
    } else if (known.has(full.conversation.id)) {
      counts.present += 1
    } else {
      await store.create(full.conversation, full.messages)
      known.add(full.conversation.id)
      counts.added += 1
    }
  }
  return counts
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
const isText = (value, max = MAX_NAME_CHARS) => typeof value === 'string' && value.length <= max
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value)
const isId = (value) => typeof value === 'string' && ID.test(value)

/** Fields of an object that have the right form; the others are left out. */
const keep = (object, checks) =>
  Object.fromEntries(
    Object.entries(isObject(object) ? object : {}).filter(([name, value]) => checks[name]?.(value)),
  )

const MAX_DATE_MS = 8.64e15
const isTime = (value) => isNumber(value) && Math.abs(value) <= MAX_DATE_MS
const isFlag = (value) => typeof value === 'boolean'
const isTier = (value) => value === 'local' || value === 'cloud'

const SETTINGS = {
  choice: isText,
  share: isNumber,
  system: (value) => isText(value, MAX_TEXT_CHARS),
  temperature: isNumber,
  max_tokens: isNumber,
}
const DECISION = {
  id: isText,
  target: isTier,
  model: isText,
  reason: isText,
  score: isNumber,
  merit: isNumber,
  threshold: isNumber,
  fallback: isText,
  rule: isText,
  failed_check: isText,
  second_look: isText,
  verified_merit: isNumber,
}
const ROW = {
  target: isTier,
  model: isText,
  reason: isText,
  cost_usd: isNumber,
  cloud_cost_usd: isNumber,
  saved_usd: isNumber,
  ttft_ms: isNumber,
  duration_ms: isNumber,
  input_tokens: isNumber,
  output_tokens: isNumber,
  discarded_tokens: isNumber,
  fallback_from: isTier,
  fallback_why: isText,
  error_code: isText,
  second_look: isText,
  second_look_ms: isNumber,
  verified_score: isNumber,
  verified_merit: isNumber,
}
const EVIDENCE = {
  broken: isFlag,
  agrees: isFlag,
  second: isText,
  mean_logprob: isNumber,
  lowest_logprob: isNumber,
  margin: isNumber,
  tokens: isNumber,
  self_check: isNumber,
}
const ERROR = { message: (value) => isText(value, 10_000), status: isNumber, code: isText }
const MESSAGE = {
  content: (value) => isText(value, MAX_TEXT_CHARS),
  thought: (value) => isText(value, MAX_TEXT_CHARS),
  createdAt: isTime,
  stopped: isFlag,
  finish: isText,
  ttft: isNumber,
  thumb: (value) => value === 'up' || value === 'down',
}
const OTHER = {
  tier: isTier,
  content: (value) => isText(value, MAX_TEXT_CHARS),
  stopped: isFlag,
  finish: isText,
  error: (value) => isText(value, 10_000),
  choice: (value) => ['local', 'cloud', 'tie'].includes(value),
}

function readConversation(item) {
  if (!isObject(item) || !isObject(item.conversation) || !Array.isArray(item.messages)) return null
  const { conversation } = item
  if (!isId(conversation.id) || !isText(conversation.title)) return null
  const ids = new Map() // new IDs: those of the file may be taken by another conversation
  for (const message of item.messages) if (isId(message?.id)) ids.set(message.id, createId())
  const messages = item.messages
    .filter((message) => isId(message?.id) && ['user', 'assistant'].includes(message.role))
    .map((message) => readMessage(message, ids, conversation.id))
  if (!messages.length) return null
  const createdAt = isTime(conversation.createdAt) ? conversation.createdAt : Date.now()
  return {
    conversation: {
      id: conversation.id,
      title: conversation.title,
      session: isId(conversation.session) ? conversation.session : createId(),
      createdAt,
      updatedAt: isTime(conversation.updatedAt) ? conversation.updatedAt : createdAt,
      leaf: ids.get(conversation.leaf) ?? null,
      settings: keep(conversation.settings, SETTINGS),
    },
    messages,
  }
}

function readMessage(message, ids, conversation) {
  const attachments = Array.isArray(message.attachments)
    ? message.attachments.map(readAttachment).filter(Boolean)
    : []
  return {
    content: '',
    createdAt: 0,
    ...keep(message, MESSAGE),
    ...readRequest(message),
    ...(isObject(message.settings) ? { settings: keep(message.settings, SETTINGS) } : {}),
    ...(Array.isArray(message.earlier) ? { earlier: message.earlier.map(readRow) } : {}),
    ...(message.busy || message.interrupted ? { interrupted: true } : {}),
    ...(isObject(message.other) && isTier(message.other.tier)
      ? { other: readOther(message.other) }
      : {}),
    ...(isObject(message.error) && isText(message.error.message, 10_000)
      ? { error: keep(message.error, ERROR) }
      : {}),
    ...(attachments.length ? { attachments } : {}),
    id: ids.get(message.id),
    parent: ids.get(message.parent) ?? null,
    conversation,
    role: message.role,
  }
}

/** The decision and the stored request of an answer. */
const readRequest = ({ decision, row }) => ({
  ...(isObject(decision) ? { decision: keep(decision, DECISION) } : {}),
  ...(isObject(row) ? { row: readRow(row) } : {}),
})

const readRow = (row) => ({
  ...keep(row, ROW),
  ...(isObject(row?.evidence) ? { evidence: keep(row.evidence, EVIDENCE) } : {}),
})

/** The answer of the other tier. */
const readOther = (other) => ({
  content: '',
  ...keep(other, OTHER),
  ...readRequest(other),
  ...(other.busy ? { stopped: true } : {}),
})

function readAttachment(item) {
  if (!isObject(item) || !isText(item.name)) return null
  if (item.kind === 'image' && typeof item.url === 'string' && IMAGE.test(item.url)) {
    return { kind: 'image', name: item.name, url: item.url }
  }
  if (item.kind === 'text' && isText(item.text, MAX_TEXT_CHARS)) {
    return { kind: 'text', name: item.name, text: item.text }
  }
  return null
}
