// The messages of a conversation as a tree: an edited question and a regenerated answer are versions
// beside the first one. The path from the first message to `leaf` is what is shown.

/** By time; messages of the same millisecond by their ID. */
const byTime = (a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)

export class MessageTree {
  #messages = new Map()
  leaf = null // the ID of the last message of the path

  /**
   * @param messages in any order; one whose parent is missing begins a path of its own
   * @param leaf the last message that was shown; what followed it since is shown, too
   */
  constructor(messages = [], leaf = null) {
    for (const message of messages) this.#messages.set(message.id, message)
    const last = this.#messages.has(leaf) ? leaf : this.all().at(-1)?.id
    if (last) this.select(last)
  }

  get(id) {
    return this.#messages.get(id)
  }

  /** All messages, oldest first. */
  all() {
    return [...this.#messages.values()].sort(byTime)
  }

  /** Add a message at the end of its parent's path, which becomes the shown one. */
  add(message) {
    this.#messages.set(message.id, message)
    this.leaf = message.id
  }

  /** The messages from the first one to the leaf, or to another message. */
  path(end = this.leaf) {
    const path = []
    const seen = new Set() // an imported file may contain a loop
    for (let id = end; this.#messages.has(id) && !seen.has(id); id = this.get(id).parent) {
      seen.add(id)
      path.push(this.get(id))
    }
    return path.reverse()
  }

  children(id) {
    return [...this.#messages.values()]
      .filter(({ parent }) => (this.#messages.has(parent) ? parent : null) === id)
      .sort(byTime)
  }

  /** The versions of a message: those in its place, itself among them. */
  versions(message) {
    const parent = this.#messages.has(message.parent) ? message.parent : null
    return this.children(parent).filter(({ role }) => role === message.role)
  }

  /** Show a message, with what followed it last. */
  select(id) {
    const seen = new Set()
    let last = id
    while (!seen.has(last)) {
      seen.add(last)
      last = this.children(last).at(-1)?.id ?? last
    }
    this.leaf = last
  }

  /** Remove one message. What followed it follows its parent. Returns the messages that changed. */
  remove(id) {
    const { parent } = this.get(id)
    const followers = this.children(id)
    for (const follower of followers) follower.parent = parent
    this.#messages.delete(id)
    if (this.leaf === id) {
      if (this.#messages.has(parent)) this.select(parent)
      else this.leaf = this.all().at(-1)?.id ?? null
    }
    return followers
  }
}

/**
 * What a model is sent for a path: pairs of a question and its answer, and the last question.
 * A question without an answer is left out, because many chat templates refuse two turns of the
 * user in a row.
 */
export function selectTurns(path) {
  const turns = []
  let question = null
  for (const message of path) {
    if (message.role === 'user') {
      question = message
    } else if (message.content && question) {
      turns.push(question, message)
      question = null
    }
  }
  return question && path.at(-1) === question ? [...turns, question] : turns
}
