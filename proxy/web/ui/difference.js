// The difference of two answers in cost and time, in words.

import { ms, usd } from './format.js'

const LEAST_MS = 50 // a smaller difference is not worth a sentence

const known = (value) => value !== null && value !== undefined

/**
 * Say how the cloud answer differs from the local one, such as "The cloud answer costs $0.00031 more
 * and took 1.2 s longer." Empty if nothing is known of both.
 *
 * @param local {cost_usd, duration_ms}; so is `cloud`
 */
export function describeDifference(local, cloud) {
  const parts = []
  if (known(local.cost_usd) && known(cloud.cost_usd)) {
    const more = cloud.cost_usd - local.cost_usd
    if (more) parts.push(`costs ${usd(Math.abs(more))} ${more > 0 ? 'more' : 'less'}`)
    else parts.push('costs the same')
  }
  if (known(local.duration_ms) && known(cloud.duration_ms)) {
    const longer = cloud.duration_ms - local.duration_ms
    if (Math.abs(longer) < LEAST_MS) parts.push('took as long')
    else parts.push(`took ${ms(Math.abs(longer))} ${longer > 0 ? 'longer' : 'less'}`)
  }
  return parts.length ? `The cloud answer ${parts.join(' and ')}.` : ''
}
