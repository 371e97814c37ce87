// The requests that other settings would send to another tier, as sentences and as a table.

import { createTierBadge } from './decision.js'
import { h } from './dom.js'
import { ago, count, dollars, score as formatScore, plural, usd, when } from './format.js'

const signed = (value, format) => `${value < 0 ? '−' : '+'}${format(Math.abs(value))}`

/** How many requests move, in both directions, and what that changes. */
export function describeMoves({ to_cloud: cloud, to_local: local }) {
  if (!cloud.requests && !local.requests) return 'No request would move.'
  const judged = cloud.judged + local.judged
  const change =
    (cloud.judged * (cloud.score_change ?? 0) + local.judged * (local.score_change ?? 0)) / judged
  return [
    `${plural(cloud.requests, 'request')} would move to the cloud, ${count(local.requests)} to the local tier.`,
    `Cost ${signed(cloud.usd + local.usd, dollars)}.`,
    judged
      ? `Judge score of those that move: ${signed(change, (value) => value.toFixed(1))} of 10 (${count(judged)} judged).`
      : 'None of them is judged yet.',
  ].join(' ')
}

/** A table of requests with their tier now and then; each links to its details. */
export function createMoves(moves) {
  const hasRules = moves.some(({ rule }) => rule)
  const names = ['Prompt', 'Tier', 'Merit', 'Cost', hasRules ? 'Rule' : null, 'Time']
  return h(
    'table',
    { class: `table moves${hasRules ? ' ruled' : ''}` },
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        names.filter(Boolean).map((name) => h('th', { scope: 'col' }, name)),
      ),
    ),
    h(
      'tbody',
      {},
      moves.map((move) => createRow(move, hasRules)),
    ),
  )
}

const createRow = (
  { id, prompt, from, to, score, merit, usd: change, rule, created_at: at },
  hasRules,
) =>
  h(
    'tr',
    {},
    h(
      'td',
      { class: 'gist' },
      h('a', { href: `#request=${encodeURIComponent(id)}`, title: prompt ?? id }, prompt ?? id),
    ),
    h(
      'td',
      { class: 'nowrap' },
      createTierBadge(from),
      h('span', { class: 'dim' }, ' → '),
      createTierBadge(to),
    ),
    h(
      'td',
      { class: 'num', title: score === null ? null : `score ${formatScore(score, 4)}` },
      formatScore(merit, 3),
    ),
    h('td', { class: 'num' }, signed(change, usd)),
    hasRules ? h('td', { title: rule }, rule ?? 'none') : null,
    h('td', { class: 'dim nowrap' }, h('time', { title: when(at) }, ago(at))),
  )
