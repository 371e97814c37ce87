// Page header: the version and router model of this proxy, the state of its tiers, the menu, the
// logout button and the banner of the demo.

import { readItem, writeItem } from './browser-storage.js'
import { $, replace } from './dom.js'
import { since } from './format.js'
import { getJson } from './http.js'

const REFRESH_MS = 15_000
const TITLES = { local: 'Local', cloud: 'Cloud' }
const isLogin = document.body.dataset.page === 'login'

/** The response of GET /api/status; null on the login page. Rejects with ApiError. */
export const status = isLogin ? Promise.resolve(null) : getJson('/api/status')

status.then(
  (current) => {
    if (!current) return
    const model = current.router_model ? `router ${current.router_model}` : 'no router model'
    replace($('#about'), `${current.version} · ${model}`)
    $('#logout').hidden = !current.needs_key
    showTiers(current.tiers)
    if (current.key_name) $('#logout button').title = `Signed in with the key ${current.key_name}`
  },
  () => replace($('#about'), 'unreachable'),
)

/** Show which tiers are up, and since when; without `tiers` that is not known. */
function showTiers(tiers) {
  for (const item of document.querySelectorAll('#tiers > li')) {
    const { tier } = item.dataset
    const current = tiers?.[tier]
    const [state, text] = describeTier(current)
    item.dataset.state = state
    item.title = `${TITLES[tier]}: ${text}`
    const label = item.querySelector('.state')
    // Seen by all when it cannot answer: a color alone tells little.
    const seen = { down: ' down', unready: ' not ready' }[state]
    label.classList.toggle('offscreen', !seen)
    replace(label, seen ?? `: ${text}`)
  }
}

function describeTier(tier) {
  if (!tier) return ['unknown', 'not known']
  if (tier.is_up === null) return ['unknown', 'not known yet']
  // A server that is up may still lack the model.
  const state = !tier.is_up ? 'down' : tier.problem ? 'unready' : 'up'
  const name = state === 'unready' ? 'not ready' : `${state} since ${since(tier.since)}`
  return [state, [name, tier.problem].filter(Boolean).join(' · ')]
}

async function refresh() {
  if (document.hidden) return
  try {
    // Not with getJson: the end of a session must not take a reader away from the page.
    const response = await fetch('/api/status', { credentials: 'same-origin' })
    showTiers(response.ok ? (await response.json()).tiers : null)
  } catch {
    showTiers(null)
  }
}

// On a phone the menu scrolls: show the link of this page.
$('.top nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })

if (isLogin) $('#tiers').hidden = true
else {
  setInterval(refresh, REFRESH_MS)
  document.addEventListener('visibilitychange', refresh)
}

const banner = $('#demo')
if (banner) {
  const DISMISSED = 'demo-banner-dismissed'
  banner.hidden = readItem('session', DISMISSED) !== null
  $('button', banner).addEventListener('click', () => {
    writeItem('session', DISMISSED, '1')
    banner.hidden = true
    $('#main').focus()
  })
}
