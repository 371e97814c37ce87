// "Which is better?": a user's choice between the answers of both tiers, with the consent to learn
// from it. The chat and the compare page share it.

import { readItem, writeItem } from './browser-storage.js'
import { h, replace } from './dom.js'
import { postJson } from './http.js'
import { status } from './shell.js'

const CONSENT_KEY = 'hybrid-llm-consent' // in the local storage: yes or no

const LABELS = { local: 'Local is better', cloud: 'Cloud is better', tie: 'Equally good' }

/** Whether the user lets calibration use choices. By default only admins do, and all without keys. */
async function readConsent() {
  const stored = readItem('local', CONSENT_KEY)
  if (stored) return stored === 'yes'
  const current = await status.catch(() => null)
  return Boolean(current && (!current.needs_key || current.is_admin))
}

/**
 * Create the question with its three answers. The choice is stored at once, and can be changed.
 *
 * @param request_id the request of the first answer; `other_id` that of the other tier
 * @param source chat or compare
 * @param isBlind whether the tiers are hidden; asked again for every choice
 * @param names the names of the answers, in the order of their buttons
 * @param value the stored choice, if there is one
 * @param onChoose is called with a choice that was stored
 */
export function createChoice({
  request_id,
  other_id,
  source,
  isBlind = () => false,
  names = { local: LABELS.local, cloud: LABELS.cloud },
  value = null,
  onChoose = () => {},
}) {
  const result = h('span', { class: 'dim small', role: 'status' })
  const consent = h('input', { type: 'checkbox', on: { change: changeConsent } })
  const buttons = Object.entries({ ...names, tie: LABELS.tie }).map(([choice, label]) =>
    h(
      'button',
      {
        type: 'button',
        'aria-pressed': String(choice === value),
        on: { click: () => send(choice) },
      },
      label,
    ),
  )
  const order = [...Object.keys(names), 'tie']
  const isReady = readConsent().then((isGiven) => {
    consent.checked = isGiven
  })
  // The last click wins, whatever the order of the replies.
  let queue = Promise.resolve()

  function send(choice) {
    queue = queue.then(() => store(choice))
    return queue
  }

  async function store(choice) {
    await isReady
    const isHidden = isBlind()
    const body = {
      request_id,
      other_id,
      choice,
      source,
      is_blind: isHidden,
      may_learn: consent.checked,
    }
    try {
      await postJson('/api/choices', body)
    } catch (error) {
      result.className = 'error small'
      replace(result, `The choice is not stored. ${error.message}`)
      return
    }
    value = choice
    buttons.forEach((button, index) => {
      button.setAttribute('aria-pressed', String(order[index] === choice))
    })
    result.className = 'dim small'
    replace(result, 'Saved. Thank you.')
    onChoose(choice, { isBlind: isHidden })
  }

  function changeConsent() {
    writeItem('local', CONSENT_KEY, consent.checked ? 'yes' : 'no')
    if (value) send(value)
  }

  return h(
    'fieldset',
    { class: 'choice' },
    h('legend', {}, 'Which is better?'),
    h('div', { class: 'choice-buttons' }, buttons),
    h(
      'div',
      { class: 'row' },
      h('label', { class: 'consent small' }, consent, 'Use my choice to improve routing'),
      result,
    ),
  )
}
