// A short message at the bottom of the page, with an action such as Undo.

import { $, h, replace } from './dom.js'

const SECONDS = 8

let timer = null

/** Show a message until it is replaced, used or its time is over. It stays while it has the focus. */
export function showNotice(text, { action = null, run = null } = {}) {
  const element = $('#notice')
  const hide = () => {
    if (element.matches(':hover, :focus-within')) timer = setTimeout(hide, 1000)
    else replace(element)
  }
  clearTimeout(timer)
  timer = setTimeout(hide, SECONDS * 1000)
  const use = () => {
    clearTimeout(timer)
    replace(element)
    run()
  }
  replace(
    element,
    h('span', {}, text),
    action ? h('button', { type: 'button', class: 'small', on: { click: use } }, action) : null,
  )
}
