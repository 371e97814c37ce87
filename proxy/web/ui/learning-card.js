// The dashboard's card of self-calibration: what is calibrated, what is collected, the last step.

import { $, h, replace } from './dom.js'
import { ago, count, percent } from './format.js'

const MODES = {
  off: ['Off. To turn it on, set ', h('code', {}, 'learning.auto'), '.'],
  suggest: 'Fits are tested and recorded, not used.',
  apply: 'A fit that is shown to be better is used.',
}

const createRow = (name, ...content) =>
  h('tr', {}, h('th', { scope: 'row' }, name), h('td', {}, content))

function describePart({ models, is_calibrated: isCalibrated }) {
  if (!models) return 'none'
  return isCalibrated ? models : `${models}, not the configured models`
}

function describeStep({ decision, state, created_at: at, difference, low, high, level, why }) {
  const interval =
    difference === null
      ? ''
      : ` Difference of the recovered quality ${signed(difference)}, ${percent(level, 1)} interval ${signed(low)} to ${signed(high)}.`
  return `${decision ?? state} ${ago(at)}.${interval} ${why ?? ''}`
}

const signed = (value) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`

/** Show the state of /api/learning. */
export function showLearning(state) {
  const { auto, parts, new_pairs: pairs, pairs_needed: needed, steps, rollback } = state
  const collected = `${count(pairs)} of ${count(needed)} new judged pairs`
  replace(
    $('#learning'),
    h(
      'tbody',
      {},
      createRow('Mode', MODES[auto]),
      parts.map((part) => createRow(`Calibrated: ${part.name}`, describePart(part))),
      createRow('Next fit', state.is_running ? 'running now' : `${collected} collected`),
      createRow('Last step', steps.length ? describeStep(steps[0]) : 'none yet'),
      rollback ? createRow('To go back', h('code', {}, rollback)) : null,
    ),
  )
}
