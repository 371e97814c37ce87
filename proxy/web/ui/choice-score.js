// How often the user found the local answer good enough: the score of the stored choices.

import { h, replace } from './dom.js'
import { count, percent, plural } from './format.js'
import { getJson } from './http.js'

const sayInterval = ({ low, high }) => `${Math.round(low * 100)}–${percent(high)}`

/** A score in words, such as "Local was good enough in 14 of 20 comparisons (70%, 48–85%)". */
function describeScore({ comparisons, local_good_enough: good, ...interval }) {
  const share = `${percent(interval.share)}, ${sayInterval(interval)}`
  return `Local was good enough in ${count(good)} of ${plural(comparisons, 'comparison')} (${share})`
}

/** Load the score and show it in a section. Without an answer the section stays as it is. */
export async function showScore(section) {
  let score
  try {
    score = await getJson('/api/choices')
  } catch {
    return
  }
  section.hidden = false
  const title = score.scope === 'own' ? 'Your score' : 'Score of all users'
  replace(
    section,
    h('h2', { id: 'score-title' }, title),
    score.all.comparisons
      ? createScore(score)
      : h(
          'p',
          { class: 'dim' },
          'No comparisons yet. Say which answer is better, and the score appears here.',
        ),
    h(
      'p',
      { class: 'dim small' },
      `Between ${score.local_model} and ${score.cloud_model}. Good enough: local is better, or both are equally good. With 95% intervals. A score of what was compared, not of all requests.`,
    ),
  )
}

function createScore({ all, blind, open, categories }) {
  return [
    h('p', { class: 'score-line num' }, describeScore(all)),
    h('div', {
      class: 'score-bar',
      role: 'img',
      'aria-label': `${percent(all.share)}, interval ${sayInterval(all)}`,
      style: { '--share': all.share, '--low': all.low, '--high': all.high },
    }),
    h(
      'details',
      {},
      h('summary', {}, 'By kind and category'),
      h(
        'div',
        { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Score by kind and category' },
        h(
          'table',
          { class: 'table' },
          h('caption', { class: 'offscreen' }, 'Where the local answer was good enough'),
          h(
            'thead',
            {},
            h(
              'tr',
              {},
              h('th', { scope: 'col' }, 'Comparisons'),
              h('th', { scope: 'col', class: 'num' }, 'Good enough'),
              h('th', { scope: 'col', class: 'num' }, 'Share'),
              h('th', { scope: 'col', class: 'num' }, 'Interval'),
            ),
          ),
          h(
            'tbody',
            {},
            createLine('Tiers hidden', blind),
            createLine('Tiers shown', open),
            categories.map((item) => createLine(item.category.replaceAll('_', ' '), item.all)),
          ),
        ),
      ),
    ),
  ]
}

function createLine(name, { comparisons, local_good_enough: good, ...interval }) {
  if (!comparisons) return null
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, name),
    h('td', { class: 'num' }, `${count(good)} of ${count(comparisons)}`),
    h('td', { class: 'num' }, percent(interval.share)),
    h('td', { class: 'num' }, sayInterval(interval)),
  )
}
