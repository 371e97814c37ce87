// "Ask the other tier": the answer of the tier that was not chosen, beside the one that was, with
// both costs and times, and the question which is better.

import { createChoice } from './choice.js'
import { complete } from './completion.js'
import { createTierBadge } from './decision.js'
import { describeDifference } from './difference.js'
import { createCopyButton, h, icon, replace } from './dom.js'
import { count, ms, usd } from './format.js'
import { createMarkdownRenderer } from './markdown.js'
import { loadRequest, pick } from './stored-request.js'
import { throttle } from './throttle.js'

const OTHER = { local: 'cloud', cloud: 'local' }
// The columns of a stored request that are shown.
const SHOWN = [
  'target',
  'model',
  'cost_usd',
  'cloud_cost_usd',
  'saved_usd',
  'ttft_ms',
  'duration_ms',
  'output_tokens',
]

/**
 * Create the foot of an answer that asks the other tier. Append it to the answer's own element, so
 * that wide screens show both side by side.
 *
 * The other answer is in `message.other`: the tier, the text, its decision and stored request, and
 * the user's choice. A message with it shows it again.
 *
 * @param message the complete answer {content, decision, row}
 * @param readRequest returns the request of the answer: its messages and parameters. It is called
 *   when the other tier is asked, because the messages may be large.
 * @param save stores the message
 */
export function createOtherAnswer({ message, readRequest, save }) {
  const tier = OTHER[message.decision?.target]
  const element = h('section', { class: 'other-answer', tabindex: -1 })
  if (!tier || !message.content || !message.decision.id) {
    element.hidden = true
    return element
  }
  element.setAttribute('aria-label', `The ${tier} answer to the same question`)
  const announcement = h('p', { class: 'offscreen', role: 'status' })
  const content = h('div', { class: 'other-content' })
  replace(element, content, announcement)
  let running = null // the AbortController of the request

  const announce = (text) => replace(announcement, text)

  /** Store the other answer. A change of another tab may have replaced the fields of the message. */
  function store(other) {
    message.other = other
    save()
  }

  function showButton(label = `Ask the ${tier} model`) {
    return h(
      'p',
      { class: 'row ask-other' },
      h(
        'button',
        { type: 'button', class: 'small', on: { click: ask } },
        icon('retry'),
        label,
        h('span', { class: 'offscreen' }, ' (Ask the other tier)'),
      ),
      tier === 'cloud' ? h('span', { class: 'dim small' }, 'The cloud answer is billed.') : null,
    )
  }

  async function ask() {
    if (running) return
    running = new AbortController()
    const other = { tier, content: '', busy: true }
    const draw = showAnswer(other)
    element.focus({ preventScroll: true })
    announce(`Asking the ${tier} model.`)
    store(other)
    try {
      const body = { ...readRequest(), model: tier }
      // Without the session: the other answer would decide where the conversation goes on.
      const options = { signal: running.signal, headers: { 'x-router-target': tier } }
      for await (const part of complete(body, options)) {
        if (part.decision) other.decision = part.decision
        if (part.text) other.content += part.text
        if (part.finish) other.finish = part.finish
        draw()
      }
      if (!other.content) other.error = 'The model returned an empty answer.'
    } catch (error) {
      if (error.name === 'AbortError') other.stopped = true
      else other.error = error.message
    }
    running = null
    other.busy = false
    if (!other.stopped) await loadRows(message, other) // else its row is written later
    draw.cancel()
    showAnswer(other)
    store(other)
    if (!other.error)
      announce(
        other.stopped ? 'Stopped.' : `The ${tier} answer is complete. ${sayDifference(other)}`,
      )
  }

  function sayDifference(other) {
    if (!isComplete(other)) return ''
    const first = message.row ?? {}
    return tier === 'cloud'
      ? describeDifference(first, other.row ?? {})
      : describeDifference(other.row ?? {}, first)
  }

  /** Show the other answer; returns the function that draws more of it. */
  function showAnswer(other) {
    const text = h('div', { class: 'prose' })
    const render = createMarkdownRenderer(text)
    render(other.content)
    const hadFocus = content.contains(document.activeElement)
    element.toggleAttribute('data-open', true)
    element.setAttribute('aria-busy', String(Boolean(other.busy)))
    replace(
      content,
      h(
        'div',
        { class: 'row spread' },
        createTierBadge(tier, other.decision?.model),
        other.busy
          ? h(
              'button',
              { type: 'button', class: 'small', on: { click: () => running?.abort() } },
              icon('stop'),
              'Stop',
            )
          : other.content
            ? createCopyButton(() => other.content)
            : null,
      ),
      text,
      createNote(other),
      isComplete(other) ? createFigures(message, other, sayDifference(other)) : null,
      isComplete(other) && !isSameTier(message, other) ? createQuestion(other) : null,
      !other.busy && !isComplete(other) ? showButton(`Ask the ${tier} model again`) : null,
    )
    if (hadFocus) element.focus({ preventScroll: true })
    return throttle(() => render(other.content))
  }

  function createQuestion(other) {
    return createChoice({
      request_id: message.decision.id,
      other_id: other.decision.id,
      source: 'chat',
      value: other.choice ?? null,
      onChoose: (choice) => {
        other.choice = choice
        store(other)
      },
    })
  }

  element.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && running) {
      event.stopPropagation()
      running.abort()
    }
  })
  if (message.other) {
    // A reload in the middle of the answer has ended its request.
    if (message.other.busy) Object.assign(message.other, { busy: false, stopped: true })
    showAnswer(message.other)
  } else {
    replace(content, showButton())
  }
  return element
}

const isComplete = (other) =>
  !other.busy && !other.error && !other.stopped && Boolean(other.content && other.decision?.id)

const isSameTier = (message, other) => other.decision.target === message.decision.target

function createNote(other) {
  if (other.error) return h('p', { class: 'error', role: 'alert' }, other.error)
  if (other.stopped) return h('p', { class: 'dim small' }, 'Stopped.')
  if (!isComplete(other)) return null
  if (other.decision.target !== other.tier)
    return h('p', { class: 'notice small' }, `The ${other.tier} model did not answer.`)
  if (other.finish === 'length')
    return h('p', { class: 'dim small' }, 'Stopped at the token limit.')
  return null
}

/** A table of both answers' figures, and their difference in words. */
function createFigures(message, other, difference) {
  const sides = [message, other].map(({ decision, row }) => ({
    tier: decision.target,
    row: row ?? {},
  }))
  const lines = [
    ['Cost', ({ row }) => usd(row.cost_usd)],
    ['Duration', ({ row }) => ms(row.duration_ms)],
    ['First token', ({ row }) => ms(row.ttft_ms)],
    ['Tokens', ({ row }) => count(row.output_tokens)],
  ]
  return h(
    'div',
    { class: 'figures' },
    h(
      'table',
      { class: 'table num' },
      h('caption', { class: 'offscreen' }, 'Both answers in figures'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          h('td', {}),
          sides.map(({ tier }) => h('th', { scope: 'col', class: 'num' }, createTierBadge(tier))),
        ),
      ),
      h(
        'tbody',
        {},
        lines.map(([name, format]) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, name),
            sides.map((side) => h('td', { class: 'num' }, format(side))),
          ),
        ),
      ),
    ),
    difference ? h('p', { class: 'small' }, difference) : null,
  )
}

/** Load the stored requests of both answers, which have the costs and times. */
async function loadRows(message, other) {
  const load = async (id) => {
    if (!id) return null
    try {
      return pick(await loadRequest(id), SHOWN)
    } catch {
      return null // the answers stay visible without figures
    }
  }
  const lacksFigures = message.row?.duration_ms === undefined || message.row.ttft_ms === undefined
  const [first, second] = await Promise.all([
    lacksFigures ? load(message.decision.id) : null,
    load(other.decision?.id),
  ])
  if (first) message.row = { ...message.row, ...first }
  if (second) {
    other.row = second
    if (second.target) Object.assign(other.decision, { target: second.target, model: second.model })
  }
}
