// What every page has: what is running here, and the way out.

import { $, replace } from './dom.js'
import { getJson } from './http.js'

/** GET /api/status; rejects as http.js says. Not asked where nobody has logged in yet. */
export const status = document.body.dataset.page === 'login' ? Promise.resolve(null) : getJson('/api/status')

status.then(
  (found) => {
    if (!found) return
    const model = found.router_model ? `router ${found.router_model}` : 'no router model'
    replace($('#about'), `${found.version} · ${model}`)
    $('#logout').hidden = !found.needs_key
    for (const link of document.querySelectorAll('[data-admin]')) link.hidden = !found.is_admin
  },
  () => replace($('#about'), 'not reachable'),
)
