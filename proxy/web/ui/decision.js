// A decision, shown: which tier, its score against the threshold, and why, in words.

import { h } from './dom.js'
import { score as shown } from './format.js'

const REASONS = {
  forced: 'asked for by name',
  context: 'too long for the local model’s context',
  capability: 'asks for what the local model cannot do',
  unhealthy: 'the other tier was down',
  overload: 'the local tier was too busy',
  budget: 'the dollars for the cloud were spent, or saved for later',
  sticky: 'its conversation was there',
  router_unavailable: 'there was no score',
  fallback: 'the other tier failed first',
  escalated: 'the local answer was not good enough',
  exploration: 'a random decision near the threshold',
}

export const REASON_NAMES = ['score', ...Object.keys(REASONS)]

/** Why, in a few words. */
export function why({ reason, score, threshold, fallback }) {
  const known = score !== null && score !== undefined && threshold !== null && threshold !== undefined
  const compared = known
    ? `score ${shown(score)} ${score >= threshold ? '≥' : '<'} threshold ${shown(threshold)}`
    : ''
  if (reason === 'score') return compared || 'by its score'
  const told = REASONS[reason] ?? reason ?? ''
  return [told, fallback ? `(${fallback})` : '', compared ? `· ${compared}` : ''].filter(Boolean).join(' ')
}

/** A tier, with the model that answered where that is known. */
export function tierBadge(target, model) {
  if (!target) return h('span', { class: 'badge' }, 'no tier')
  return h('span', { class: `badge ${target}` }, target, model ? h('span', { class: 'model' }, model) : null)
}

/** A bar for a score with its threshold marked; nothing where there was no score. */
export function gauge({ score, threshold, target }) {
  if (score === null || score === undefined || threshold === null || threshold === undefined) return null
  return h('span', {
    class: `gauge ${target ?? ''}`,
    role: 'img',
    'aria-label': `Score ${shown(score)}, threshold ${shown(threshold)}`,
    title: `Score ${shown(score, 4)}, threshold ${shown(threshold, 4)}`,
    style: { '--score': score, '--threshold': threshold },
  })
}
