// Drawer of the dashboard with the details of one request: decision, times, costs and texts.

import { createCurl } from './curl.js'
import { createGauge, createTierBadge, explainReason, formatCheck } from './decision.js'
import { $, createCopyButton, createFacts, h, icon, replace } from './dom.js'
import { count, score as formatScore, usd } from './format.js'
import { createRawJson, loadBodies } from './raw-json.js'
import { createSecondLook } from './second-look.js'
import { status } from './shell.js'
import { loadRequest, readTurns } from './stored-request.js'
import { createWaterfall } from './waterfall.js'

const drawer = $('#drawer')

/** Open the drawer for the request that the address names, now and when the address changes. */
export function followAddress() {
  drawer.addEventListener('close', () => {
    if (location.hash.startsWith('#request='))
      history.replaceState(null, '', location.pathname + location.search)
  })
  drawer.addEventListener('click', (event) => {
    if (event.target === drawer) drawer.close() // a click on the backdrop
  })
  const openFromHash = () => {
    const id = new URLSearchParams(location.hash.slice(1)).get('request')
    if (id) openDetails(id)
  }
  addEventListener('hashchange', openFromHash)
  openFromHash()
}

/** Open the drawer for a request. */
export async function openDetails(id) {
  const close = h(
    'button',
    { type: 'button', class: 'quiet', 'aria-label': 'Close', on: { click: () => drawer.close() } },
    icon('close'),
  )
  const content = h('div', { class: 'stack' }, h('p', { class: 'skeleton' }, 'Loading'))
  replace(
    drawer,
    h(
      'div',
      { class: 'drawer-head row spread' },
      h('h2', { id: 'drawer-title' }, 'Request'),
      close,
    ),
    content,
  )
  if (!drawer.open) drawer.showModal()
  history.replaceState(
    null,
    '',
    `${location.pathname}${location.search}#request=${encodeURIComponent(id)}`,
  )
  try {
    replace(content, ...createDetails(await loadRequest(id), await status))
  } catch (error) {
    replace(content, h('p', { class: 'error', role: 'alert' }, error.message))
  }
}

function createDetails(
  row,
  { keeps_prompts: keeps, keeps_bodies: keepsBodies, needs_key: needsKey },
) {
  const missing =
    {
      none: 'Prompts are not stored (storage.prompts: none).',
      hash: 'Only a hash of the prompt is stored (storage.prompts: hash).',
    }[keeps] ?? 'No text is stored for this request.'
  const turns = readTurns(row)
  return [
    h(
      'p',
      { class: 'row' },
      createTierBadge(row.target, row.model),
      createGauge(row),
      h('span', { class: 'small' }, explainReason(row)),
    ),
    createOutcome(row),
    createActions(row, turns, needsKey),
    h(
      'section',
      { class: 'stack' },
      h('h3', {}, 'Explanation'),
      h(
        'ul',
        { class: 'plain' },
        row.explanation.map((line) => h('li', {}, line)),
      ),
    ),
    h('section', { class: 'stack' }, h('h3', {}, 'Timeline'), createWaterfall(row)),
    createFacts([
      ['Cost', usd(row.cost_usd)],
      ['All-cloud cost', usd(row.cloud_cost_usd)],
      ['Saved', usd(row.saved_usd)],
      ['Input tokens', count(row.input_tokens)],
      ['Cached input', count(row.cached_input_tokens)],
      ['Output tokens', count(row.output_tokens)],
      ['Score', formatScore(row.score, 4)],
      ['Merit', formatScore(row.merit, 4)],
      ['Threshold', formatScore(row.threshold, 4)],
      ['Category', row.category ?? '–'],
      ['P(local good)', formatScore(row.p_local, 4)],
      ['P(cloud good)', formatScore(row.p_cloud, 4)],
      ['Session', row.session_id?.slice(0, 8) ?? '–'],
      ...(row.key_name ? [['API key', row.key_name]] : []),
      ...(row.failed_check
        ? [
            ['Failed check', formatCheck(row.failed_check)],
            ['Discarded tokens', count(row.discarded_tokens)],
          ]
        : []),
    ]),
    row.second_look
      ? h('section', { class: 'stack' }, h('h3', {}, 'Second look'), createSecondLook(row))
      : null,
    row.judgements.length
      ? h(
          'section',
          { class: 'stack' },
          h('h3', {}, 'Judgements'),
          row.judgements.map((judgement) =>
            h(
              'p',
              {},
              createTierBadge(judgement.target, judgement.model),
              h('b', { class: 'num' }, ` ${judgement.score} of 10 `),
              h('span', { class: 'dim small' }, `by ${judgement.judge_model}. `),
              judgement.reason ?? '',
            ),
          ),
        )
      : null,
    row.feedback
      ? h(
          'section',
          {},
          h('h3', {}, 'Feedback'),
          h(
            'p',
            {},
            `${row.feedback.rating > 0 ? '+' : ''}${row.feedback.rating} ${row.feedback.comment ?? ''}`,
          ),
        )
      : null,
    h(
      'section',
      { class: 'stack' },
      h('h3', {}, 'Prompt'),
      turns.length
        ? turns.map(({ role, content }) => createText(role, content))
        : h('p', { class: 'dim small' }, missing),
    ),
    row.response === null
      ? null
      : h(
          'section',
          { class: 'stack' },
          h('h3', {}, 'Answer'),
          createText('assistant', row.response),
        ),
    createRawJson(row, keepsBodies),
    h(
      'p',
      { class: 'row dim small' },
      h('code', {}, row.id),
      createCopyButton(row.id, 'Copy ID'),
      createCopyButton(() => location.href, 'Copy link'),
    ),
  ]
}

const createText = (role, content) =>
  h(
    'figure',
    { class: 'message' },
    h('figcaption', { class: 'dim small' }, role),
    h('div', { class: 'text', tabindex: 0 }, content),
  )

/** What went wrong: the error of the answer, and that of the tier that failed first. */
function createOutcome(row) {
  const { error, error_code: code, ending, target, status: http } = row
  const first = row.fallback_error
  if (!error && !first) return null
  const isRefused = ending === 'rejected'
  return [
    error
      ? h(
          'section',
          { class: `outcome ${isRefused ? 'notice' : 'error'}` },
          h('h3', {}, isRefused ? 'Refused by the proxy' : `Error of the ${target ?? 'proxy'}`),
          h('p', {}, error),
          h(
            'p',
            { class: 'small' },
            [code, http ? `HTTP ${http}` : ''].filter(Boolean).join(' · '),
          ),
        )
      : null,
    first
      ? h(
          'section',
          { class: 'outcome notice' },
          h('h3', {}, `The ${row.fallback_from} tier failed first`),
          h('p', {}, first),
          h('p', { class: 'small' }, row.fallback_why),
        )
      : null,
  ]
}

/** Ways to ask again: in the chat, by both tiers, and in a terminal. */
function createActions(row, turns, needsKey) {
  const query = `?request=${encodeURIComponent(row.id)}`
  const hasQuestion = turns.some(({ role, content }) => role === 'user' && content)
  const writeCurl = async () => {
    const sent = row.has_body ? (await loadBodies(row.id)).request : null
    const command = createCurl(row, sent, { origin: location.origin, needsKey })
    if (!command) throw new Error('The stored request is not complete.')
    return command
  }
  const link = (path, label) => h('a', { class: 'button', href: path + query }, label)
  return h(
    'p',
    { class: 'row actions' },
    hasQuestion ? link('/', 'Ask again in chat') : null,
    hasQuestion ? link('/compare', 'Open in Compare') : null,
    row.has_body || createCurl(row, null, { origin: '', needsKey })
      ? createCopyButton(writeCurl, 'Copy as curl')
      : null,
  )
}
