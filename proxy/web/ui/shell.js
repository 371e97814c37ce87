// Page header: the version and router model of this proxy, the menu and the logout button.

import { $, replace } from './dom.js'
import { getJson } from './http.js'

/** The response of GET /api/status; null on the login page. Rejects with ApiError. */
export const status =
  document.body.dataset.page === 'login' ? Promise.resolve(null) : getJson('/api/status')

status.then(
  (current) => {
    if (!current) return
    const model = current.router_model ? `router ${current.router_model}` : 'no router model'
    replace($('#about'), `${current.version} · ${model}`)
    $('#logout').hidden = !current.needs_key
  },
  () => replace($('#about'), 'unreachable'),
)
