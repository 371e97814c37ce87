// Parts of the pages that show API keys.

import { h } from './dom.js'
import { count, dollars } from './format.js'

/**
 * The name of a key with its state, and the beginning of a key that was created on a page.
 *
 * @param link makes a link of the name
 */
export const createKeyName = (
  { name, prefix, is_admin: isAdmin, state },
  link = (text) => h('b', {}, text),
) =>
  h(
    'div',
    { class: 'key-name' },
    link(name),
    isAdmin ? h('span', { class: 'badge' }, 'admin') : null,
    state === 'valid' ? null : h('span', { class: 'badge warn' }, state),
    prefix ? h('code', { class: 'dim small' }, `${prefix}…`) : null,
  )

/** The limits of a key, each on a line. */
export function describeLimits({ requests_per_minute: perMinute, cloud_usd_per_day: usd }) {
  const limits = [
    perMinute === null ? '' : `${count(perMinute)} requests/min`,
    usd === null ? '' : `${dollars(usd)} cloud/day`,
  ].filter(Boolean)
  return limits.length ? limits.map((limit) => h('div', { class: 'nowrap' }, limit)) : 'none'
}
