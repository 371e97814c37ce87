// Changes of the threshold in the configuration file: the difference, the question, and the undo.

import { $, h, replace } from './dom.js'
import { ago, when } from './format.js'
import { postJson } from './http.js'

const post = async (path, body) => (await postJson(path, body)).json()

/**
 * Connect the buttons of the card that change the file.
 *
 * @param readThreshold returns the threshold to apply, as in the configuration
 * @param onChange is called with the state of /api/threshold after a change
 * @returns show: shows such a state
 */
export function openChanges(readThreshold, onChange) {
  const dialog = $('#change')
  const apply = $('#apply')
  let state = null

  function show(current) {
    state = current
    replace(
      $('#change-problem'),
      state.problem ? `${state.problem} Copy the configuration instead.` : null,
    )
    showLast()
    update()
  }

  function update() {
    apply.disabled = !state || state.problem !== null || readThreshold() === null
  }

  // The elements stay when the card is refreshed, and with them the focus.
  const lastText = h('span')
  const undo = h('button', { type: 'button', class: 'small', hidden: true })
  replace($('#last-change'), lastText, undo)
  undo.addEventListener('click', () =>
    run(undo, async () => {
      const restored = await post('/api/threshold/undo', { sha256: state.sha256 })
      report(`The threshold is ${restored.setting} again.`)
      onChange(restored)
    }),
  )

  function showLast() {
    const { last } = state
    $('#last-change').hidden = !last
    if (!last) return
    const old = last.old ?? 'auto'
    const by = last.by ? ` by ${last.by}` : ''
    const isUndone = last.action === 'threshold.undo'
    const verb = isUndone ? 'Restored' : 'Changed'
    replace(lastText, `${verb} from ${old} to ${last.new}${by}, ${ago(last.at)}.`)
    lastText.title = when(last.at)
    replace(undo, isUndone ? `Restore ${old}` : `Undo: back to ${old}`)
    undo.hidden = !last.can_undo
  }

  /** Run a change. Its error is shown in the card, or in the dialog. */
  async function run(button, work, problem = $('#change-problem')) {
    button.disabled = true
    replace(problem)
    try {
      await work()
    } catch (error) {
      replace(problem, error.message)
    }
    button.disabled = false
    update()
  }

  const report = (text) => replace($('#change-state'), text)

  function ask({ file, old, new: value, diff, sha256 }) {
    const problem = h('p', { class: 'error', role: 'alert' })
    const confirm = h('button', { type: 'button', class: 'primary' }, `Apply ${value}`)
    const cancel = h('button', { type: 'button', on: { click: () => dialog.close() } }, 'Cancel')
    confirm.addEventListener('click', () =>
      run(
        confirm,
        async () => {
          const applied = await post('/api/threshold/apply', { threshold: Number(value), sha256 })
          dialog.close()
          report(`The threshold is ${applied.setting} now.`)
          onChange(applied)
        },
        problem,
      ),
    )
    replace(
      dialog,
      h(
        'div',
        { class: 'stack' },
        h('h2', { id: 'change-title' }, `Change the threshold to ${value}?`),
        h(
          'p',
          {},
          `The value in ${file} changes from ${old ?? 'auto (not set)'} to ${value}, for all clients. Running requests are not interrupted.`,
        ),
        createDiff(diff),
        problem,
        h('div', { class: 'row end' }, cancel, confirm),
      ),
    )
    dialog.showModal()
    confirm.focus()
  }

  apply.addEventListener('click', () =>
    run(apply, async () =>
      ask(await post('/api/threshold/apply', { threshold: readThreshold(), dry_run: true })),
    ),
  )
  dialog.addEventListener('close', () => apply.focus())

  return { show, update }
}

const KINDS = { '+': 'added', '-': 'removed', '@': 'place' }

function createDiff(diff) {
  const lines = diff.trimEnd().split('\n').slice(2) // without the names of the files
  return h(
    'pre',
    { class: 'diff scroll', tabindex: 0, role: 'region', 'aria-label': 'Difference' },
    h(
      'code',
      {},
      lines.map((line) => h('span', { class: KINDS[line[0]] ?? null }, `${line}\n`)),
    ),
  )
}
