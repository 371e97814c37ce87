// A conversation that is open on the page: its messages, settings and what is stored of it.

import { createContent } from './attachments.js'
import { DEFAULTS } from './chat-settings.js'
import { ConversationGone, createId } from './conversations.js'
import { MessageTree, selectTurns } from './message-tree.js'

const TITLE_CHARS = 80
const SEEN_MS = 6000 // for this long after its last sign an answer counts as arriving in another tab

export class Talk {
  running = null // the AbortController of the answer that arrives
  views = new Map() // message ID: its view
  #store
  #report
  #saving = Promise.resolve()
  #isStored
  #isGone = false
  #isSavingPartial = false
  #unsaved = [] // messages to write next, also those of a write that failed
  #own = new Map() // message: how many reasons make the state of this page the newest
  #seen = new Map() // message ID: when another tab last said that it receives it

  /**
   * @param stored what `ConversationStore.load` returns; null for a new conversation
   * @param report called with the error of a failed write, and with null after a successful one
   */
  constructor(store, stored, { settings, report }) {
    this.#store = store
    this.#report = report
    this.#isStored = stored !== null
    const now = Date.now()
    const { conversation, messages } = stored ?? {
      conversation: { id: createId(), session: createId(), title: '', createdAt: now, settings },
      messages: [],
    }
    this.conversation = { updatedAt: now, leaf: null, ...conversation }
    // What another version or an imported file has left out.
    this.conversation.settings = { ...DEFAULTS, ...conversation.settings }
    this.tree = new MessageTree(messages, this.conversation.leaf)
    this.markInterrupted()
  }

  get id() {
    return this.conversation.id
  }

  get isEmpty() {
    return this.tree.leaf === null
  }

  /** Add a message at the end of the path of another one. */
  add(role, parent, fields) {
    const { id: conversation } = this
    const message = { id: createId(), conversation, parent, role, createdAt: Date.now(), ...fields }
    this.tree.add(message)
    if (!this.conversation.title) this.conversation.title = createTitle(message)
    this.conversation.updatedAt = message.createdAt
    return message
  }

  /** What is sent for an answer: the system prompt that it was asked with, and the turns before it. */
  readSent(answer) {
    const { system } = answer.settings ?? this.conversation.settings
    const turns = selectTurns(this.tree.path(answer.parent)).map((message) => ({
      role: message.role,
      content: message.role === 'user' ? createContent(message) : message.content,
    }))
    return system ? [{ role: 'system', content: system }, ...turns] : turns
  }

  /** Delete a question and its answers. Returns a function that undoes it. */
  remove(question) {
    const { leaf } = this.tree
    const answers = this.tree.children(question.id).filter(({ role }) => role === 'assistant')
    const removed = [...answers, question]
    const parents = new Map() // message that followed a removed one: the ID of that one
    for (const { id } of removed) {
      this.views.delete(id)
      for (const message of this.tree.remove(id))
        if (!parents.has(message)) parents.set(message, id)
    }
    this.save(
      [...parents.keys()],
      removed.map(({ id }) => id),
    )
    const nextLeaf = this.tree.leaf
    return () => {
      // What was asked or deleted since stays so.
      const followers = [...parents.keys()].filter(({ id }) => this.tree.get(id))
      const current = this.tree.leaf
      for (const message of removed) this.tree.add(message)
      for (const message of followers) message.parent = parents.get(message)
      this.tree.leaf = current === nextLeaf ? leaf : current
      this.save([...removed, ...followers])
    }
  }

  /** Remove an answer that has no text, to request it again. Returns what followed it. */
  discard(answer) {
    this.views.delete(answer.id)
    return this.tree.remove(answer.id)
  }

  /** Note that the state of a message here is newer than the stored one, until `release`. */
  hold(message) {
    this.#own.set(message, (this.#own.get(message) ?? 0) + 1)
  }

  release(message) {
    const reasons = this.#own.get(message) - 1
    if (reasons) this.#own.set(message, reasons)
    else this.#own.delete(message)
  }

  /** Store the conversation with these messages of it. */
  save(messages = [], removed = []) {
    this.conversation.leaf = this.tree.leaf
    for (const message of messages) this.hold(message)
    this.#unsaved.push(...messages)
    this.#enqueue(async () => {
      const unsaved = this.#unsaved.splice(0)
      try {
        await this.#write(unsaved, removed)
      } catch (error) {
        this.#unsaved.unshift(...unsaved)
        throw error
      }
      for (const message of unsaved) this.release(message)
    })
  }

  async #write(unsaved, removed) {
    if (this.#isStored) {
      // The title is written where it is changed: by the list, perhaps of another tab.
      const { leaf, updatedAt, settings } = this.conversation
      await this.#store.save(this.id, { leaf, updatedAt, settings }, this.#select(unsaved), removed)
    } else if (!this.isEmpty) {
      await this.#store.create({ ...this.conversation }, this.tree.all().map(clean))
      this.#isStored = true
    }
  }

  /** What is stored of these messages. One that was deleted since must not come back. */
  #select(messages) {
    const present = [...new Set(messages)].filter((item) => this.tree.get(item.id) === item)
    return present.map(clean)
  }

  /** Store an answer that arrives, unless the last such write is not done yet. */
  savePartial(message) {
    if (this.#isSavingPartial || !this.#isStored) return
    this.#isSavingPartial = true
    this.#enqueue(async () => {
      this.#isSavingPartial = false
      if (message.busy) await this.#store.savePartial(clean(message))
    })
  }

  /** Store what is not stored yet at once, while the page is being closed. */
  saveNow() {
    if (this.isEmpty || this.#isGone || !this.#own.size) return
    const conversation = this.#isStored ? null : { ...this.conversation, leaf: this.tree.leaf }
    this.#store.saveNow(conversation, this.#select(this.#own.keys()))
  }

  /** The conversation was deleted, here or in another tab: nothing of it is stored any more. */
  markGone() {
    this.#isGone = true
    this.running?.abort()
  }

  #enqueue(write) {
    this.#saving = this.#saving.then(async () => {
      if (this.#isGone) return
      try {
        await write()
        this.#report(null)
      } catch (error) {
        if (error instanceof ConversationGone) this.markGone()
        else this.#report(error)
      }
    })
  }

  /** Note that an answer arrives in another tab. */
  noteElsewhere(message) {
    this.#seen.set(message, Date.now())
  }

  /**
   * Mark the stored answers that are not complete: they arrive in another tab or were interrupted.
   * Returns whether one arrives in another tab.
   */
  markInterrupted() {
    let isElsewhere = false
    for (const message of this.tree.all()) {
      if (this.#own.has(message) || !(message.busy || message.elsewhere)) continue
      message.elsewhere = Date.now() - (this.#seen.get(message.id) ?? 0) < SEEN_MS
      message.busy = message.elsewhere
      message.interrupted = !message.elsewhere
      isElsewhere ||= message.elsewhere
    }
    return isElsewhere
  }

  /** Take over what another tab has stored. */
  merge({ conversation, messages }) {
    const { title, updatedAt } = conversation
    Object.assign(this.conversation, { title, updatedAt })
    const stored = new Set(messages.map(({ id }) => id))
    for (const message of messages.sort((a, b) => a.createdAt - b.createdAt)) {
      const known = this.tree.get(message.id)
      if (this.#own.has(known)) continue
      if (known) replaceFields(known, message)
      else this.#extend(message)
    }
    for (const message of this.tree.all()) {
      if (stored.has(message.id) || this.#own.has(message)) continue
      this.tree.remove(message.id)
      this.views.delete(message.id)
    }
    return this.markInterrupted()
  }

  /** Add a message of another tab. It is shown if it follows what is shown. */
  #extend(message) {
    const { leaf } = this.tree
    this.tree.add(message)
    if (message.parent !== leaf) this.tree.leaf = leaf
  }
}

function replaceFields(message, fields) {
  for (const name of Object.keys(message)) delete message[name]
  Object.assign(message, fields)
}

/** A message as it is stored: whether it arrives in another tab changes without a write. */
const clean = ({ elsewhere: _, ...message }) => message

function createTitle({ content, attachments = [] }) {
  const line = content.trim().split('\n')[0].replace(/\s+/g, ' ') || attachments[0]?.name || 'Chat'
  return line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS - 1)}…` : line
}
