// The stored JSON of a request and of its answer, loaded when it is opened.

import { createCopyButton, h, replace } from './dom.js'
import { getJson } from './http.js'

/** Load the stored bodies of a request: {request, response}, each a text or null. */
export const loadBodies = (id) => getJson(`/api/requests/${encodeURIComponent(id)}/body`)

/**
 * Create the section of the drawer.
 *
 * @param row the request as in /api/requests/{id}
 * @param keeps the setting storage.bodies
 */
export function createRawJson({ id, has_body: hasBody, ending }, keeps) {
  if (!hasBody) {
    return h('p', { class: 'dim small' }, explainMissing(keeps, ending))
  }
  const content = h('div', { class: 'stack' }, h('p', { class: 'skeleton' }, 'Loading'))
  let isLoaded = false
  const open = async ({ target }) => {
    if (!target.open || isLoaded) return
    isLoaded = true
    try {
      const { request, response } = await loadBodies(id)
      replace(content, createBody('Request', request), createBody('Response', response))
    } catch (error) {
      isLoaded = false // opening it again retries
      replace(content, h('p', { class: 'error', role: 'alert' }, error.message))
    }
  }
  return h('details', { class: 'raw', on: { toggle: open } }, h('summary', {}, 'Raw JSON'), content)
}

function explainMissing(keeps, ending) {
  if (keeps === 'failed' && ending === 'ok')
    return 'The raw JSON of answered requests is not stored (storage.bodies: failed).'
  if (keeps === 'none') return 'Raw JSON is not stored (storage.bodies: none).'
  return 'The raw JSON of this request is not stored.'
}

const createBody = (name, text) =>
  h(
    'figure',
    { class: 'stack' },
    h(
      'figcaption',
      { class: 'row spread' },
      h('b', {}, name),
      text === null ? null : createCopyButton(format(text), `Copy ${name.toLowerCase()}`),
    ),
    text === null
      ? h('p', { class: 'dim small' }, 'Not stored: there was no body, or it was not JSON.')
      : h('pre', { tabindex: 0, 'aria-label': name }, format(text)),
  )

/** JSON with indents; other texts, such as the events of a stream, as they are. */
function format(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
