// Chat messages: a question, and an answer with its decision, facts, feedback and actions.

import { createAttachments } from './attachments.js'
import { createGauge, createTierBadge, explainReason } from './decision.js'
import { $, createCopyButton, h, icon, replace } from './dom.js'
import { explainFailure } from './failure.js'
import { ms, usd } from './format.js'
import { postJson } from './http.js'
import { createMarkdownRenderer } from './markdown.js'
import { createOtherAnswer } from './other-answer.js'
import { createSecondLook, formatResult } from './second-look.js'

/**
 * Create the element of a question.
 *
 * @param message the state of the question
 * @param thread what the thread offers its messages: see `createThread` in chat.js
 * @returns {element, update, edit}: `edit` opens the editor
 */
export function createQuestion(message, thread) {
  const { attachments = [] } = message
  const text = h('div', { class: 'bubble' })
  const files = h('ul', { class: 'attachments', 'aria-label': 'Attached files' })
  const actions = h('div', { class: 'actions' })
  const element = h('article', { class: 'question', 'aria-label': 'You' }, text, actions)

  const show = () => {
    replace(files, ...createAttachments(attachments))
    replace(
      text,
      attachments.length ? files : null,
      message.content ? h('div', {}, message.content) : null,
    )
  }

  const edit = () => {
    const field = h('textarea', { 'aria-label': 'Edit the question', rows: 3 })
    field.value = message.content
    const finish = () => {
      element.classList.remove('editing')
      show()
      actions.hidden = false
    }
    const send = () => {
      const content = field.value.trim()
      if ((!content && !attachments.length) || thread.isRunning()) return
      finish()
      thread.edit(message, content)
    }
    const cancel = () => {
      finish()
      $('[data-action="edit"]', actions)?.focus()
    }
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        event.preventDefault()
        event.stopPropagation()
        cancel()
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault()
        send()
      }
    })
    const form = h(
      'form',
      {
        class: 'editor',
        on: {
          submit: (event) => {
            event.preventDefault()
            send()
          },
        },
      },
      attachments.length ? files : null,
      field,
      h(
        'div',
        { class: 'row' },
        h('button', { type: 'submit', class: 'primary small' }, 'Send'),
        h('button', { type: 'button', class: 'small', on: { click: cancel } }, 'Cancel'),
      ),
    )
    element.classList.add('editing')
    actions.hidden = true
    replace(text, form)
    field.focus()
    field.setSelectionRange(field.value.length, field.value.length)
  }

  const update = () => {
    showActions(actions, [
      createVersions(message, thread),
      createAction('edit', 'Edit', edit),
      createAction('delete', 'Delete the question and its answers', () => thread.remove(message)),
    ])
  }
  show()
  update()
  return { element, update, edit }
}

/**
 * Create the element of an answer.
 *
 * @param message the state of the answer; `update` shows its changes
 * @param thread what the thread offers its messages: see `createThread` in chat.js
 * @returns {element, update}
 */
export function createAnswer(message, thread) {
  const thought = h('div', { class: 'thought' })
  const thoughts = h('details', { hidden: true }, h('summary', {}, 'Thinking'), thought)
  const text = h('div', { class: 'prose' })
  const note = h('div', { class: 'notes' })
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
  let otherAnswer = null
  let shownNotes = ''

  const update = () => {
    const { decision, content = '' } = message
    element.setAttribute('aria-busy', String(Boolean(message.busy)))
    if (decision?.target) {
      replace(
        head,
        createTierBadge(decision.target, decision.model),
        createGauge(decision),
        h('span', { class: 'dim small' }, explainReason(decision)),
      )
    } else {
      replace(head, message.busy ? h('span', { class: 'dim small' }, 'Routing …') : null)
    }
    head.hidden = !head.hasChildNodes()
    thoughts.hidden = !message.thought
    replace(thought, message.thought ?? '')
    renderMarkdown(content)
    text.hidden = !content && !message.busy
    // Only when they have changed: an alert is read aloud whenever it is inserted.
    const notes = JSON.stringify(createNotes(message))
    if (notes !== shownNotes) replace(note, ...createNotes(message).map(showNote))
    shownNotes = notes
    note.hidden = !note.hasChildNodes()
    const secondLook = createSecondLook(message.row)
    look.hidden = !secondLook
    replace(lookResult, secondLook ? `Second look: ${formatResult(message.row.second_look)}` : '')
    replace(lookFacts, secondLook)
    replace(facts, message.busy ? '' : formatFacts(message))
    showActions(actions, message.busy ? [] : createActions(message, thread))
    if (!otherAnswer && !message.busy && message.decision && content) {
      otherAnswer = createOtherAnswer({
        message,
        readRequest: () => thread.readRequest(message),
        save: () => thread.save(message),
      })
      if (otherAnswer) foot.after(otherAnswer)
    }
  }
  update()
  return { element, update }
}

/** The remarks below an answer: a text, or the parts of an error. */
function createNotes(message) {
  const { error, stopped, interrupted, finish, busy, elsewhere, content } = message
  if (error) return [{ error, tiers: explainFailure(message) }]
  if (elsewhere) return ['The answer arrives in another tab.']
  if (interrupted) return ['The page was closed before the answer was complete.']
  if (stopped) return ['Stopped.']
  if (finish === 'length') return ['Stopped at the token limit.']
  if (finish === 'content_filter') return ['Blocked by the model’s content filter.']
  if (!busy && !content) return ['The model returned an empty answer.']
  return []
}

function showNote(note) {
  if (typeof note === 'string') return h('p', { class: 'dim small' }, note)
  const { error, tiers } = note
  const codes = [
    error.status && `HTTP ${error.status}`,
    String(error.code) !== String(error.status) && error.code,
    error.param && `field ${error.param}`,
  ]
  return h(
    'div',
    { class: 'error', role: 'alert' },
    h('p', {}, error.message),
    tiers ? h('p', { class: 'small' }, tiers) : null,
    codes.some(Boolean)
      ? h('p', { class: 'small codes' }, codes.filter(Boolean).join(' · '))
      : null,
  )
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

/** Show actions. A focused button keeps the focus when the actions are shown again. */
function showActions(place, actions) {
  const focused = place.contains(document.activeElement)
    ? document.activeElement.dataset.action
    : null
  const elements = actions.flat().filter(Boolean)
  const signature = elements.map(({ dataset }) => dataset.signature ?? dataset.action).join()
  if (place.dataset.signature === signature) return
  place.dataset.signature = signature
  replace(place, ...elements)
  if (focused) $(`[data-action="${focused}"]`, place)?.focus()
}

const createAction = (name, label, run, text = null, symbol = name) =>
  h(
    'button',
    {
      type: 'button',
      class: 'quiet small',
      dataset: { action: name },
      'aria-label': text ? null : label,
      title: label,
      on: { click: run },
    },
    icon(symbol),
    text,
  )

/** Arrows between the versions of a message; null if there is one only. */
function createVersions(message, thread) {
  const versions = thread.findVersions(message)
  if (versions.length < 2) return null
  const index = versions.indexOf(message)
  const arrow = (name, label, target) => {
    const button = createAction(name, label, () => thread.showVersion(target))
    button.disabled = !target
    return button
  }
  const text = `${index + 1}/${versions.length}`
  return h(
    'span',
    {
      class: 'versions num small',
      role: 'group',
      'aria-label': 'Versions',
      dataset: { signature: text },
    },
    arrow('previous', 'Previous version', versions[index - 1]),
    h('span', { 'aria-label': `Version ${index + 1} of ${versions.length}`, role: 'img' }, text),
    arrow('next', 'Next version', versions[index + 1]),
  )
}

function createActions(message, thread) {
  const { content, decision, error, stopped, interrupted, elsewhere, finish } = message
  if (elsewhere) return []
  const hasFailed = error || stopped || interrupted || !content
  const copyButton = content ? createCopyButton(() => message.content) : null
  if (copyButton) copyButton.dataset.action = 'copy'
  return [
    createVersions(message, thread),
    copyButton,
    decision?.id && content ? createThumbs(message, () => thread.save(message)) : null,
    content && (hasFailed || finish === 'length')
      ? createAction(
          'continue',
          'Continue the answer',
          () => thread.resume(message),
          'Continue',
          'forward',
        )
      : null,
    hasFailed
      ? createAction('retry', 'Request the answer again', () => thread.retry(message), 'Try again')
      : createAction('retry', 'Regenerate', () => thread.retry(message)),
  ]
}

function createThumbs(message, save) {
  const result = h('span', { class: 'small dim', role: 'status', dataset: { action: 'rated' } })
  const createButton = (thumb, label) =>
    h(
      'button',
      {
        type: 'button',
        class: 'quiet small',
        dataset: { action: thumb },
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
