// Routing decision elements: the tier, the score against the threshold, and the reason in words.

import { h } from './dom.js'
import { score as formatScore } from './format.js'

// `shadow` is the former name of `exploration`; stored requests may still have it.
const REASONS = {
  forced: 'requested by name',
  context: 'too long for the local model’s context window',
  capability: 'needs a feature that the local model lacks',
  unhealthy: 'the other tier was unavailable',
  overload: 'the local tier was overloaded',
  budget: 'the cloud budget was used up or paced',
  sticky: 'session affinity with its conversation',
  router_unavailable: 'no score was available',
  fallback: 'the other tier failed first',
  escalated: 'the local answer was not good enough',
  exploration: 'a random decision near the threshold',
  shadow: 'exploration: a random decision near the threshold',
}

export const REASON_NAMES = ['score', ...Object.keys(REASONS)]

/** Explain the reason of a decision in a few words. */
export function explainReason({ reason, score, threshold, fallback }) {
  const known =
    score !== null && score !== undefined && threshold !== null && threshold !== undefined
  const compared = known
    ? `score ${formatScore(score)} ${score >= threshold ? '≥' : '<'} threshold ${formatScore(threshold)}`
    : ''
  if (reason === 'score') return compared || 'by score'
  const text = REASONS[reason] ?? reason ?? ''
  return [text, fallback ? `(${fallback})` : '', compared ? `· ${compared}` : '']
    .filter(Boolean)
    .join(' ')
}

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

/** A bar that shows a score and marks its threshold; null without a score. */
export function createGauge({ score, threshold, target }) {
  if (score === null || score === undefined || threshold === null || threshold === undefined)
    return null
  return h('span', {
    class: `gauge ${target ?? ''}`,
    role: 'img',
    'aria-label': `Score ${formatScore(score)}, threshold ${formatScore(threshold)}`,
    title: `Score ${formatScore(score, 4)}, threshold ${formatScore(threshold, 4)}`,
    style: { '--score': score, '--threshold': threshold },
  })
}
