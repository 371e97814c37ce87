// Conversations in the browser's IndexedDB: one database per API key, one record per message, so
// that several tabs write without overwriting each other. A tab tells the others what it changed.

import { openDB } from './vendor/idb.js'

const NAME = 'hybrid-llm-chat'
const STORES = ['conversations', 'messages', 'texts']
const SEARCH_CHUNK = 300 // conversations that a search reads at once
const MAX_CACHED_CHARS = 60_000_000 // of the texts that a search keeps in memory
const SNIPPET_CHARS = 90

/** A unique ID. IDs sort by the time at which they were made. */
export function createId() {
  const random = [...crypto.getRandomValues(new Uint32Array(3))]
  const digits = random.map((number) => number.toString(36).padStart(7, '0'))
  return Date.now().toString(36).padStart(9, '0') + digits.join('')
}

/** Text as a search compares it: Unicode's compatible forms are equal, and so is case. */
const normalize = (text) => text.normalize('NFKC').toLowerCase()

const splitWords = (query) => normalize(query).split(/\s+/).filter(Boolean)

/** The conversation was deleted, here or in another tab. */
export class ConversationGone extends Error {}

/**
 * The stored conversations of one API key.
 *
 * Dispatches `change` events whose `detail` comes from another tab: `{type: 'changed', id}`,
 * `{type: 'deleted', id}`, or `{type: 'running', id, message}` for an answer that arrives there.
 */
export class ConversationStore extends EventTarget {
  #opening
  #database = null // when open
  #channel = null
  #texts = new Map() // conversation ID: its text, of those that were searched
  #cachedChars = 0
  #running = new Map() // message ID: conversation ID, of the answers of this tab

  /** @param owner a promise of the key's hash; of null without keys */
  constructor(owner) {
    super()
    this.#opening = owner.then((hash) => this.#open(hash ? `${NAME}-${hash}` : NAME))
    this.#opening.catch(() => {}) // every method that needs it rejects
  }

  async #open(name) {
    const database = await openDB(name, 1, {
      upgrade(created) {
        const conversations = created.createObjectStore('conversations', { keyPath: 'id' })
        conversations.createIndex('order', 'order')
        const messages = created.createObjectStore('messages', { keyPath: 'id' })
        messages.createIndex('conversation', 'conversation')
        created.createObjectStore('texts', { keyPath: 'id' })
        created.createObjectStore('settings')
      },
      blocking: (_current, _blocked, event) => event.target.close(), // a newer page upgrades it
      terminated: () => {
        this.#database = null
      },
    })
    this.#channel = new BroadcastChannel(name)
    this.#channel.addEventListener('message', ({ data }) => this.#receive(data))
    this.#database = database
    return database
  }

  #receive(data) {
    if (data.type !== 'who') {
      if (data.type !== 'running') this.#forget(data.id)
      this.dispatchEvent(new CustomEvent('change', { detail: data }))
      return
    }
    for (const [message, id] of this.#running) this.#channel.postMessage(createRunning(id, message))
  }

  #tell(data) {
    this.#channel?.postMessage(data)
  }

  /** Resolves when the database is open. Rejects where the browser refuses one. */
  async open() {
    await this.#opening
  }

  /**
   * Conversations without their messages, the one changed last first.
   *
   * @param limit how many; by default all
   */
  async list(limit = undefined) {
    return (await this.#opening).getAllFromIndex('conversations', 'order', null, limit)
  }

  /** A conversation without its messages; undefined if there is none. */
  async find(id) {
    return (await this.#opening).get('conversations', id)
  }

  /** A conversation and its messages; undefined if there is none. */
  async load(id) {
    const database = await this.#opening
    const transaction = database.transaction(STORES)
    const [conversation, messages] = await Promise.all([
      transaction.objectStore('conversations').get(id),
      transaction.objectStore('messages').index('conversation').getAll(id),
    ])
    return conversation && { conversation, messages }
  }

  /** Store a new conversation. */
  async create(conversation, messages) {
    await put(await this.#opening, messages, conversation)
    await this.#write(conversation.id, (stores) => index(stores, conversation.id))
  }

  /**
   * Change a conversation and store messages of it. Throws ConversationGone if it was deleted.
   *
   * @param changes of the conversation; its other fields keep what another tab may have written
   * @param removed IDs of messages to delete
   */
  async save(id, changes, messages = [], removed = []) {
    if (messages.length) await put(await this.#opening, messages)
    let isGone = false
    await this.#write(id, async (stores) => {
      const stored = await stores.conversations.get(id)
      isGone = !stored
      const deleted = isGone ? messages.map((message) => message.id) : removed
      for (const message of deleted) await stores.messages.delete(message)
      if (isGone) return
      await stores.conversations.put(withOrder({ ...stored, ...changes }))
      if (messages.length || removed.length) await index(stores, id)
    })
    if (isGone) throw new ConversationGone('This chat was deleted.')
  }

  /** Store an answer that is not complete yet. Other tabs learn that it arrives here. */
  async savePartial(message) {
    const database = await this.#opening
    await database.put('messages', message)
    this.announceRunning(message.conversation, message.id)
  }

  /**
   * Store messages at once, while the page is being closed. Nothing waits for the result.
   *
   * @param conversation to create; null if it is stored already
   */
  saveNow(conversation, messages) {
    if (this.#database) put(this.#database, messages, conversation).catch(() => {})
  }

  /** Delete a conversation. Returns what `restore` takes. */
  async remove(id) {
    const removed = await this.load(id)
    await this.#write(
      id,
      async (stores) => {
        const keys = await stores.messages.index('conversation').getAllKeys(id)
        for (const key of keys) await stores.messages.delete(key)
        await stores.conversations.delete(id)
        await stores.texts.delete(id)
      },
      'deleted',
    )
    return removed
  }

  async restore({ conversation, messages }) {
    await this.create(conversation, messages)
  }

  async #write(id, work, type = 'changed') {
    const database = await this.#opening
    const transaction = database.transaction(STORES, 'readwrite')
    const stores = Object.fromEntries(STORES.map((name) => [name, transaction.objectStore(name)]))
    const done = transaction.done
    try {
      await work(stores)
    } catch (error) {
      done.catch(() => {})
      try {
        transaction.abort()
      } catch {
        // It has ended already.
      }
      throw error
    }
    await done
    this.#forget(id)
    this.#tell({ type, id })
  }

  #forget(id) {
    this.#cachedChars -= this.#texts.get(id)?.length ?? 0
    this.#texts.delete(id)
  }

  /** Read the texts of conversations, those that are not in memory from the database. */
  async #readTexts(database, ids) {
    if (ids.every((id) => this.#texts.has(id))) return ids.map((id) => [id, this.#texts.get(id)])
    const texts = await database.getAll('texts', IDBKeyRange.bound(ids.at(-1), ids[0]))
    for (const { id, text } of texts) {
      this.#forget(id)
      if (this.#cachedChars + text.length > MAX_CACHED_CHARS) continue
      this.#texts.set(id, text)
      this.#cachedChars += text.length
    }
    return texts.reverse().map(({ id, text }) => [id, text])
  }

  /** Read the texts of conversations into memory, for a search that is about to come. */
  async prepareSearch(conversations) {
    for await (const _ of this.search(' ', conversations, { aborted: false }));
  }

  /** Free the memory of searches. */
  endSearch() {
    this.#texts.clear()
    this.#cachedChars = 0
  }

  /**
   * Search the texts of conversations. Yields lists of IDs, those of the newest conversations first.
   * Every word of the query must be in the title or a message.
   *
   * @param conversations to search, as `list` returns them
   */
  async *search(query, conversations, signal) {
    const words = splitWords(query)
    const titles = new Map(conversations.map(({ id, title }) => [id, normalize(title)]))
    const ids = [...titles.keys()].sort().reverse()
    const database = await this.#opening
    const found = ([id, text]) => {
      const title = titles.get(id)
      return (
        title !== undefined && words.every((word) => text.includes(word) || title.includes(word))
      )
    }
    for (let start = 0; start < ids.length; start += SEARCH_CHUNK) {
      const texts = await this.#readTexts(database, ids.slice(start, start + SEARCH_CHUNK))
      if (signal.aborted) return
      yield texts.filter(found).map(([id]) => id)
    }
  }

  /** The text around the first word of a query in a conversation; empty if only the title has it. */
  async findSnippet(id, query) {
    const database = await this.#opening
    const messages = await database.getAllFromIndex('messages', 'conversation', id)
    const words = splitWords(query)
    for (const { content } of messages) {
      const text = normalize(content)
      const word = words.find((part) => text.includes(part))
      if (word) return cut(text.length === content.length ? content : text, text.indexOf(word))
    }
    return ''
  }

  async readSetting(name) {
    return (await this.#opening).get('settings', name)
  }

  async writeSetting(name, value) {
    const transaction = (await this.#opening).transaction('settings', 'readwrite')
    transaction.store.put(value, name)
    transaction.commit() // at once, so that a reload right after the change does not abort it
    await transaction.done
  }

  /** Tell the other tabs that an answer arrives here, again and again until it is complete. */
  announceRunning(id, message) {
    this.#running.set(message, id)
    this.#tell(createRunning(id, message))
  }

  endRunning(message) {
    this.#running.delete(message)
  }

  /** Ask the other tabs which answers arrive there. */
  askRunning() {
    this.#tell({ type: 'who' })
  }
}

/** A conversation as it is stored: an index can only be read upwards, and the newest come first. */
const withOrder = (conversation) => ({ ...conversation, order: -conversation.updatedAt })

/** Write at once: a reload right after aborts a transaction that still waits for a request. */
async function put(database, messages, conversation = null) {
  const stores = conversation ? ['messages', 'conversations'] : ['messages']
  const transaction = database.transaction(stores, 'readwrite')
  const requests = messages.map((message) => transaction.objectStore('messages').put(message))
  if (conversation)
    requests.push(transaction.objectStore('conversations').put(withOrder(conversation)))
  transaction.commit()
  await Promise.all([...requests, transaction.done])
}

const createRunning = (id, message) => ({ type: 'running', id, message })

/** Write what a search of a conversation reads. */
async function index({ messages, texts }, id) {
  const stored = await messages.index('conversation').getAll(id)
  const parts = stored.flatMap(({ content, attachments = [] }) => [
    content,
    ...attachments.map(({ name }) => name),
  ])
  await texts.put({ id, text: normalize(parts.join('\n')) })
}

function cut(text, position) {
  const start = Math.max(0, position - SNIPPET_CHARS / 3)
  const part = text.slice(start, start + SNIPPET_CHARS).replace(/\s+/g, ' ')
  return `${start > 0 ? '…' : ''}${part}${start + SNIPPET_CHARS < text.length ? '…' : ''}`
}
