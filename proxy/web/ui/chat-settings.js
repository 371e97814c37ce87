// Settings of a conversation: who answers, the system prompt, the temperature and the token limit.

import { $, h, replace } from './dom.js'
import { percent } from './format.js'
import { getJson } from './http.js'

// The routed choices, and the share that each begins with.
const ROUTED = {
  auto: { label: 'Auto' },
  cost: {
    label: 'Cost…',
    share: 30,
    describe: (share) => `at most ${percent(share)} of the all-cloud cost`,
  },
  quality: {
    label: 'Quality…',
    share: 95,
    describe: (share) => `recover at least ${percent(share)} of the quality gap`,
  },
}
const TIERS = { local: 'Local', cloud: 'Cloud' }
const NAMED = 'model:' // before the name of a model

export const DEFAULTS = {
  choice: 'auto',
  share: 30,
  system: '',
  temperature: null,
  max_tokens: null,
}

/** The request fields of settings, without the messages. */
export function createRequest({ choice, share, temperature, max_tokens }) {
  return {
    model: selectModel(choice, share),
    ...(isSet(temperature) ? { temperature } : {}),
    ...(isSet(max_tokens) ? { max_tokens } : {}),
  }
}

const isSet = (value) => value !== null && value !== undefined

function selectModel(choice, share) {
  if (choice.startsWith(NAMED)) return choice.slice(NAMED.length)
  return ROUTED[choice]?.describe ? `auto:${choice}=${share / 100}` : choice
}

/**
 * Show settings in the composer and in their dialog.
 *
 * @param change called with the settings whenever the reader changed them
 * @param keep called with the settings to use for new chats
 * @returns show(settings): shows those of another conversation
 */
export function createSettings({ change, keep }) {
  const [select, share, dialog] = [$('#model'), $('#share'), $('#settings')]
  const form = $('form', dialog)
  let settings = { ...DEFAULTS }
  let models = []

  const showLimit = () => {
    const { describe } = ROUTED[settings.choice] ?? {}
    $('#limit').hidden = !describe
    if (describe) replace($('#share-text'), describe(settings.share / 100))
  }

  const showChoices = () => {
    const named = models.map(({ id, name }) => [NAMED + id, name ?? id])
    // A model that is not listed, any more or yet, stays selected.
    if (settings.choice.startsWith(NAMED) && !named.some(([value]) => value === settings.choice))
      named.push([settings.choice, settings.choice.slice(NAMED.length)])
    const group = (label, choices) =>
      h(
        'optgroup',
        { label },
        choices.map(([value, text]) => h('option', { value }, text)),
      )
    replace(
      select,
      group(
        'Routed',
        Object.entries(ROUTED).map(([value, { label }]) => [value, label]),
      ),
      group('One tier', Object.entries(TIERS)),
      named.length ? group('One model', named) : null,
    )
    select.value = settings.choice
  }

  const showChanged = () => {
    const changed = [settings.system, settings.temperature, settings.max_tokens].some(
      (value) => isSet(value) && value !== '',
    )
    $('#open-settings').classList.toggle('changed', changed)
    $('#open-settings').setAttribute('aria-label', changed ? 'Settings (changed)' : 'Settings')
  }

  const show = (next) => {
    settings = { ...DEFAULTS, ...next }
    share.value = settings.share
    form.elements.system.value = settings.system ?? ''
    form.elements.temperature.value = settings.temperature ?? ''
    form.elements.max_tokens.value = settings.max_tokens ?? ''
    showChoices()
    showLimit()
    showChanged()
  }

  const apply = (changes) => {
    settings = { ...settings, ...changes }
    showLimit()
    showChanged()
    change(settings)
  }

  const loadModels = async () => {
    try {
      const { data } = await getJson('/v1/models?type=chat')
      models = data.filter(({ id }) => !(id in ROUTED) && !(id in TIERS))
      showChoices()
    } catch {
      models = [] // the routed choices do without the list
    }
  }

  select.addEventListener('change', () => {
    const initial = ROUTED[select.value]?.share
    if (initial) share.value = initial
    apply({ choice: select.value, share: Number(share.value) })
  })
  share.addEventListener('input', () => apply({ share: Number(share.value) }))
  const readNumber = ({ value, validity }) =>
    value === '' || !validity.valid ? null : Number(value)
  const readForm = () => {
    const { system, temperature, max_tokens } = form.elements
    const read = {
      system: system.value.trim(),
      temperature: readNumber(temperature),
      max_tokens: readNumber(max_tokens),
    }
    if (Object.entries(read).some(([name, value]) => value !== settings[name])) apply(read)
  }
  form.addEventListener('change', () => {
    form.reportValidity()
    readForm()
  })
  dialog.addEventListener('close', readForm) // also what Escape leaves in a field
  $('#open-settings').addEventListener('click', () => dialog.showModal())
  $('#keep-settings').addEventListener('click', () => {
    if (!form.reportValidity()) return
    keep(settings)
    dialog.close()
  })
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close() // a click on the backdrop
  })
  show(settings)
  return { show, loadModels }
}
