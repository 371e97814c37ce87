// Chat messages: a question, and an answer with its decision, facts, feedback and actions.

import { createGauge, createTierBadge, explainReason } from './decision.js'
import { createCopyButton, h, icon, replace } from './dom.js'
import { ms, usd } from './format.js'
import { postJson } from './http.js'
import { createMarkdownRenderer } from './markdown.js'
import { createOtherAnswer } from './other-answer.js'
import { createSecondLook, formatResult } from './second-look.js'

/** Create the element of a question. */
export function createQuestion(message) {
  return h('article', { class: 'question', 'aria-label': 'You' }, message.content)
}

/**
 * Create the element of an answer.
 *
 * @param message the state of the answer; `update` shows its changes
 * @param isLast whether no message follows, so that a failed answer can be retried
 * @param retry requests the answer again
 * @param save stores the conversation after feedback was sent
 * @param getMessages the messages that were sent for this answer
 * @returns {element, update}
 */
export function createAnswer(message, { isLast, retry, save, getMessages }) {
  const thought = h('div', { class: 'thought' })
  const thoughts = h('details', { hidden: true }, h('summary', {}, 'Thinking'), thought)
  const text = h('div', { class: 'prose' })
  const note = h('div')
  const lookResult = h('summary')
  const lookFacts = h('div')
  const look = h('details', { class: 'look', hidden: true }, lookResult, lookFacts)
  const head = h('p', { class: 'answer-head' })
  const facts = h('span', { class: 'dim small num' })
  const actions = h('span', { class: 'actions' })
  const foot = h('div', { class: 'answer-foot' }, facts, actions)
  const element = h(
    'article',
    { class: 'answer', 'aria-label': 'Answer' },
    head,
    thoughts,
    text,
    note,
    look,
    foot,
  )
  const renderMarkdown = createMarkdownRenderer(text)

  const update = () => {
    const { decision, content = '' } = message
    element.setAttribute('aria-busy', String(Boolean(message.busy)))
    if (decision) {
      replace(
        head,
        createTierBadge(decision.target, decision.model),
        createGauge(decision),
        h('span', { class: 'dim small' }, explainReason(decision)),
      )
    } else {
      replace(head, h('span', { class: 'dim small' }, message.busy ? 'Routing …' : ''))
    }
    thoughts.hidden = !message.thought
    replace(thought, message.thought ?? '')
    renderMarkdown(content)
    replace(note, ...createNotes(message))
    const secondLook = createSecondLook(message.row)
    look.hidden = !secondLook
    replace(lookResult, secondLook ? `Second look: ${formatResult(message.row.second_look)}` : '')
    replace(lookFacts, secondLook)
    replace(facts, message.busy ? '' : formatFacts(message))
    // Created only once, so that a focused button keeps the focus.
    if (!message.busy && !actions.hasChildNodes()) {
      replace(actions, ...createActions(message, { isLast: isLast(), retry, save }))
      element.append(createOtherAnswer({ message, messages: getMessages(), save }))
    }
  }
  update()
  return { element, update }
}

function createNotes({ error, stopped, finish, busy, content }) {
  if (error) {
    const details = [
      error.status && `HTTP ${error.status}`,
      error.code,
      error.param && `field ${error.param}`,
    ]
    return [
      h(
        'p',
        { class: 'error', role: 'alert' },
        error.message,
        ' ',
        h('span', { class: 'small' }, details.filter(Boolean).join(' · ')),
      ),
    ]
  }
  if (stopped) return [h('p', { class: 'dim small' }, 'Stopped.')]
  if (finish === 'length') return [h('p', { class: 'dim small' }, 'Truncated at the token limit.')]
  if (finish === 'content_filter')
    return [h('p', { class: 'dim small' }, 'Blocked by the model’s content filter.')]
  if (!busy && !content)
    return [h('p', { class: 'dim small' }, 'The model returned an empty answer.')]
  return []
}

function formatFacts({ ttft, row }) {
  const facts = []
  if (ttft) facts.push(`first token ${ms(ttft)}`)
  if (row?.cost_usd !== null && row?.cost_usd !== undefined) facts.push(`cost ${usd(row.cost_usd)}`)
  if (row?.saved_usd)
    facts.push(`${row.saved_usd < 0 ? 'extra cost' : 'saved'} ${usd(Math.abs(row.saved_usd))}`)
  if (row?.output_tokens) facts.push(`${row.output_tokens} tokens`)
  return facts.join(' · ')
}

function createActions(message, { isLast, retry, save }) {
  return [
    message.content ? createCopyButton(() => message.content) : null,
    message.decision?.id && message.content ? createThumbs(message, save) : null,
    isLast && (message.error || message.stopped)
      ? h(
          'button',
          { type: 'button', class: 'quiet small retry', on: { click: retry } },
          icon('retry'),
          'Try again',
        )
      : null,
  ]
}

function createThumbs(message, save) {
  const result = h('span', { class: 'small dim', role: 'status' })
  const createButton = (thumb, label) =>
    h(
      'button',
      {
        type: 'button',
        class: 'quiet small',
        'aria-pressed': String(message.thumb === thumb),
        'aria-label': label,
        title: label,
        on: { click: () => rate(thumb) },
      },
      icon(thumb),
    )
  const buttons = {
    up: createButton('up', 'Good answer'),
    down: createButton('down', 'Bad answer'),
  }

  async function rate(thumb) {
    const selected = message.thumb === thumb ? null : thumb // a second click withdraws the rating
    const body = {
      request_id: message.decision.id,
      ...(selected ? { thumb: selected } : { rating: 0 }),
    }
    try {
      await postJson('/v1/feedback', body)
      message.thumb = selected
      for (const [name, button] of Object.entries(buttons)) {
        button.setAttribute('aria-pressed', String(name === selected))
      }
      replace(result, selected ? 'Thank you' : '')
      save()
    } catch (error) {
      replace(result, error.message)
    }
  }
  return [buttons.up, buttons.down, result]
}
