// Routing decision elements: the tier, what was compared with the threshold, and the reason in
// words. That is the merit: the gain per dollar, or the score. After a second look it is the verified
// merit.

import { h } from './dom.js'
import { formatFallback } from './failure.js'
import { score as formatScore } from './format.js'
import { formatSecondLook } from './second-look.js'

// `shadow` is the former name of `exploration`; stored requests may still have it.
const REASONS = {
  forced: 'requested explicitly',
  context: 'too long for the local model’s context window',
  capability: 'needs a feature that the local model lacks',
  unhealthy: 'the other tier was unavailable',
  overload: 'the local tier was overloaded',
  loading: 'the local model was being loaded',
  budget: 'the cloud budget was used up or paced',
  sticky: 'stays with its conversation',
  router_unavailable: 'no score was available',
  fallback: 'the other tier failed first',
  escalated: 'a check or a second look rejected the local answer',
  out_of_domain: 'not readable for the router: another language, a short text or noise',
  housekeeping: 'housekeeping of a chat front end',
  rule: 'a routing rule selected it',
  exploration: 'random exploration near the threshold',
  shadow: 'random exploration near the threshold',
}

export const REASON_NAMES = ['score', ...Object.keys(REASONS)]

const missing = (value) => value === null || value === undefined

/** What was compared with the threshold: its name and value; null if nothing was. */
function findCompared({ score, merit, verified_merit, threshold }) {
  if (missing(threshold)) return null
  if (!missing(verified_merit)) return { name: 'Verified merit', value: verified_merit }
  if (missing(merit)) return null
  return { name: merit === score ? 'Score' : 'Merit', value: merit }
}

function explainComparison(decision) {
  const { score, threshold } = decision
  const compared = findCompared(decision)
  if (!compared) return ''
  const { name, value } = compared
  const beside = name === 'Merit' ? ` (score ${formatScore(score)})` : ''
  const relation = value >= threshold ? '≥' : '<'
  return `${name.toLowerCase()} ${formatScore(value)}${beside} ${relation} threshold ${formatScore(threshold)}`
}

/** Explain the reason of a decision in a few words. */
export function explainReason(decision) {
  const { reason, fallback, rule, second_look } = decision
  const compared = explainComparison(decision)
  const look = formatSecondLook(second_look)
  const text = nameReason(decision)
  const parts = [
    text,
    formatFallback(fallback),
    compared || (reason === 'score' && !text ? 'by score' : ''),
    look === text ? '' : look,
    rule ? `rule “${rule}”` : '',
  ]
  return parts.filter(Boolean).join(' · ')
}

/** The reason in words; empty for a plain comparison. */
function nameReason({ reason, target, second_look, failed_check }) {
  if (reason === 'score') return second_look === 'kept' ? formatSecondLook(second_look) : ''
  // A timeout without any local answer is a fallback.
  if (reason === 'escalated' || (reason === 'fallback' && target === 'cloud')) {
    if (failed_check) return `the local answer failed a check: ${formatCheck(failed_check)}`
    if (second_look && second_look !== 'failed') return formatSecondLook(second_look)
  }
  return REASONS[reason] ?? reason ?? ''
}

/** The name of a check that a local answer failed, in words. */
export const formatCheck = (name) => name.replaceAll('_', ' ')

/** A badge with the tier and, if known, the model that answered. */
export function createTierBadge(target, model) {
  if (!target) return h('span', { class: 'badge' }, 'no tier')
  return h(
    'span',
    { class: `badge ${target}` },
    target,
    model ? h('span', { class: 'model' }, model) : null,
  )
}

/** A bar that shows a merit or score and marks its threshold; null without a score. */
export function createGauge(decision) {
  const { threshold, target } = decision
  const compared = findCompared(decision)
  if (!compared) return null
  const { name, value } = compared
  return h('span', {
    class: `gauge ${target ?? ''}`,
    role: 'img',
    'aria-label': `${name} ${formatScore(value)}, threshold ${formatScore(threshold)}`,
    title: `${name} ${formatScore(value, 4)}, threshold ${formatScore(threshold, 4)}`,
    style: { '--score': value, '--threshold': threshold },
  })
}
