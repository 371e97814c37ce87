// The preview of routing rules and of the second look's band on recent requests.

import { $, createCopyButton, h, replace } from './dom.js'
import { count, ms, percent } from './format.js'
import { postJson } from './http.js'
import { createMoves, describeMoves } from './threshold-moves.js'

const EXAMPLE = `routing:
  rules:
    - name: contracts
      when: {words: [contract, invoice]}
      use: cloud
verify:
  band: [0.4, 0.6]
`

const UNKNOWN = {
  no_prompt: 'have no stored prompt, or a very long one',
  not_stored: 'depend on a header, on metadata or on needs, which are not stored',
  not_scored: 'were decided by a rule and have no score',
}

/** The text in the form of a configuration file, whichever part of it was written. */
function asConfiguration(text) {
  const indent = (spaces) => text.replace(/^(?=.)/gm, ' '.repeat(spaces))
  if (/^\s*-/.test(text)) return `routing:\n  rules:\n${indent(4)}`
  if (/^rules:/m.test(text) && !/^(routing|verify):/m.test(text)) return `routing:\n${indent(2)}`
  return text
}

/** Connect the form. */
export function openRulesPreview() {
  const form = $('#rules-form')
  const text = $('#rules-text')
  const result = $('#rules-result')
  text.placeholder = EXAMPLE
  replace(
    $('#rules-copy'),
    createCopyButton(() => asConfiguration(text.value || EXAMPLE), 'Copy as configuration'),
  )
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const button = $('button[type="submit"]', form)
    button.disabled = true
    replace($('#rules-problem'))
    result.setAttribute('aria-busy', 'true')
    try {
      const response = await postJson('/api/routing/preview', { yaml: text.value || EXAMPLE })
      replace(result, describe(await response.json()))
    } catch (error) {
      replace(result)
      replace($('#rules-problem'), error.message)
    }
    result.removeAttribute('aria-busy')
    button.disabled = false
  })
}

const describe = ({ rules, second_look: look }) => [
  rules ? describeRules(rules) : null,
  look ? h('p', { class: 'small' }, describeSecondLook(look)) : null,
]

function describeRules(rules) {
  const stopped = rules.is_complete ? '' : ' The time was up before all requests were read.'
  return [
    h(
      'p',
      { class: 'small' },
      `Of ${count(rules.evaluated)} recent requests: ${describeMoves(rules)}${stopped}`,
    ),
    h(
      'ul',
      { class: 'plain small' },
      rules.matched.map(({ name, requests }) =>
        h('li', {}, h('strong', {}, name), ` matches ${count(requests)}`),
      ),
      Object.entries(rules.unknown).map(([cause, requests]) =>
        h(
          'li',
          { class: 'dim' },
          `${count(requests)} more are not evaluated: they ${UNKNOWN[cause]}`,
        ),
      ),
    ),
    rules.moves.length
      ? h(
          'div',
          {
            class: 'scroll',
            role: 'region',
            tabindex: 0,
            'aria-label': 'Requests that rules would move',
          },
          createMoves(rules.moves),
        )
      : null,
  ]
}

function describeSecondLook(look) {
  const { requests, of, streamed, from_cloud: fromCloud, local_ms: total, each_ms: each } = look
  if (!of) return 'Second look: no scored requests yet.'
  const streams =
    streamed && look.streams === 'skip'
      ? ` ${count(streamed)} of them are streamed and are skipped (verify.streams).`
      : ''
  const time =
    total === null
      ? ''
      : ` They take about ${ms(total)} of the local tier, ${ms(each)} each; ${count(fromCloud)} now go to the cloud at once.`
  const fitted = look.is_fitted
    ? ''
    : ' The second look is not fitted to these models yet, so it is off.'
  return `Second look: ${count(requests)} of ${count(of)} recent scored requests (${percent(requests / of)}) are in the band.${streams}${time}${fitted}`
}
