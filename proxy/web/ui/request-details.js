// Drawer of the dashboard with the details of one request: decision, times, costs and texts.

import { createGauge, createTierBadge, explainReason, formatCheck } from './decision.js'
import { $, createCopyButton, createFacts, h, icon, replace } from './dom.js'
import { count, score as formatScore, ms, usd } from './format.js'
import { getJson } from './http.js'
import { createSecondLook } from './second-look.js'
import { status } from './shell.js'

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
    const id = /^#request=(.+)$/.exec(location.hash)?.[1]
    if (id) openDetails(decodeURIComponent(id))
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
    replace(
      content,
      ...createDetails(await getJson(`/api/requests/${encodeURIComponent(id)}`), await status),
    )
  } catch (error) {
    replace(content, h('p', { class: 'error', role: 'alert' }, error.message))
  }
}

function createDetails(row, { keeps_prompts: keeps }) {
  const missing =
    {
      none: 'Prompts are not stored (storage.prompts: none).',
      hash: 'Only a hash of the prompt is stored (storage.prompts: hash).',
    }[keeps] ?? 'No text is stored for this request.'
  const turns = Array.isArray(row.prompt) ? row.prompt : []
  return [
    h(
      'p',
      { class: 'row' },
      createTierBadge(row.target, row.model),
      createGauge(row),
      h('span', { class: 'small' }, explainReason(row)),
    ),
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
    createTimings(row),
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

/** The times of a request as bars on a common scale. */
function createTimings(row) {
  const total = row.duration_ms
  const parts = [
    ['Decision', row.decision_ms],
    ['First token', row.ttft_ms],
    ['Upstream', row.upstream_ms],
    ['Total', total],
  ].filter(([, value]) => value !== null)
  return h(
    'section',
    { class: 'stack' },
    h('h3', {}, 'Timing'),
    h(
      'dl',
      { class: 'bars num' },
      parts.map(([name, value]) =>
        h(
          'div',
          {},
          h('dt', {}, name),
          h(
            'dd',
            {},
            h('span', {
              class: 'bar',
              style: { '--share': total ? Math.min(1, value / total) : 0 },
            }),
            ms(value),
          ),
        ),
      ),
    ),
  )
}
