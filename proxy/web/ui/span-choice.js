// Time range of the keys and usage pages: a choice of named ranges, which the address keeps.

import { $ } from './dom.js'

const NAMES = ['24h', '7d', '30d', 'all']

/**
 * Connect the choice of the page.
 *
 * @param initial the range of an address that names none
 * @param onChange is called when another one was chosen
 * @returns a function that returns the name of the range
 */
export function openSpanChoice(initial, onChange) {
  const wanted = new URLSearchParams(location.search).get('since')
  let span = NAMES.includes(wanted) ? wanted : initial
  $(`#spans input[value="${span}"]`).checked = true
  $('#spans').addEventListener('change', ({ target }) => {
    span = target.value
    const url = new URL(location.href)
    url.searchParams.set('since', span)
    url.searchParams.delete('from') // the page that sent the caller here
    history.replaceState(null, '', url)
    onChange()
  })
  return () => span
}
