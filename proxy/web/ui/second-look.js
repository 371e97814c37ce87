// The second look at a local answer: its result, the evidence and what both decided.

import { createFacts } from './dom.js'
import { count, score as formatScore, ms } from './format.js'

const RESULTS = {
  kept: 'kept by a second look',
  escalated: 'escalated by a second look',
  failed: 'a second look had no usable local answer',
  timed_out: 'a second look timed out',
  busy: 'no second look: the local tier was busy',
}

export const RESULT_NAMES = Object.keys(RESULTS)

/** The name of a result. */
export const formatResult = (name) => name.replaceAll('_', ' ')

/** The result of a second look in words; empty outside the band. */
export const formatSecondLook = (result) => (result ? (RESULTS[result] ?? result) : '')

/** A list of what a stored request says about its second look; null outside the band. */
export function createSecondLook(row) {
  if (!row?.second_look) return null
  const evidence = row.evidence ?? {}
  const { broken, agrees, second, margin, tokens, self_check } = evidence
  const known = (value, format) => (value === null || value === undefined ? null : format(value))
  const facts = [
    ['Result', formatResult(row.second_look)],
    ['Final answer', known(broken, (is) => (is ? 'none' : 'stated'))],
    [second ?? 'Second model', known(agrees, (is) => (is ? 'agrees' : 'disagrees'))],
    ['Mean log-probability', known(evidence.mean_logprob, (x) => `${formatScore(x, 3)} nats`)],
    ['Lowest log-probability', known(evidence.lowest_logprob, (x) => `${formatScore(x, 3)} nats`)],
    ['Margin', known(margin, (value) => `${formatScore(value, 3)} nats`)],
    ['Length', known(tokens, (value) => `${count(value)} tokens`)],
    ['Self-check P(yes)', known(self_check, (value) => formatScore(value, 3))],
    ['Verified score', known(row.verified_score, (value) => formatScore(value, 4))],
    ['Verified merit', known(row.verified_merit, (value) => formatScore(value, 4))],
    ['Time to the result', known(row.second_look_ms, ms)],
    ['Discarded tokens', known(row.discarded_tokens, count)],
  ]
  return createFacts(facts.filter(([, value]) => value !== null))
}
