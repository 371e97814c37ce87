// Keys page: who uses the proxy, with which limits; create, change and revoke API keys.

import { $, createCopyButton, h, replace } from './dom.js'
import { ago, compact, count, dollars, percent, when } from './format.js'
import { getJson, postJson, send } from './http.js'
import { createKeyName, describeLimits } from './key-parts.js'
import './shell.js'
import { openSpanChoice } from './span-choice.js'

const REFRESH_MS = 15_000
const COLUMNS = [
  'Key',
  'Limits',
  'Requests',
  'Local',
  'Spent today',
  'Spent',
  'Saved',
  'Budget left',
  'Last used',
  '',
]
const NUMBERS = COLUMNS.slice(2, -1)

const table = $('.keys')
const dialog = $('#dialog')
const state = { page: null, showsOld: false }
const getSpan = openSpanChoice('24h', () => refresh())
let lastQuery = 0 // number of the latest query; responses to earlier ones are dropped

// --- table ---

replace(
  $('thead', table),
  h(
    'tr',
    { role: 'row' },
    COLUMNS.map((name) =>
      h(
        'th',
        { scope: 'col', role: 'columnheader', class: NUMBERS.includes(name) ? 'num' : null },
        name || h('span', { class: 'offscreen' }, 'Actions'),
      ),
    ),
  ),
)
replace(
  $('tbody', table),
  [1, 2, 3].map(() =>
    h(
      'tr',
      { role: 'row' },
      h('td', { role: 'cell', colspan: COLUMNS.length }, h('p', { class: 'skeleton' }, 'Loading')),
    ),
  ),
)

function createRow(key) {
  const cell = (label, content, kind = 'num') =>
    h(
      'td',
      { role: 'cell', class: kind, 'data-label': label },
      content === null ? null : h('div', {}, content),
    )
  const isChangeable = key.source === 'created' && key.state === 'valid'
  return h(
    'tr',
    { role: 'row', dataset: { hash: key.key_hash, state: key.state } },
    h('th', { scope: 'row', role: 'rowheader' }, createKeyName(key), createOrigin(key)),
    cell('Limits', describeLimits(key), 'limits'),
    cell('Requests', [compact(key.requests), createProblems(key)]),
    cell('Local', key.answered ? percent(key.answered_locally / key.answered) : '–'),
    cell('Spent today', dollars(key.spent_today_usd)),
    cell('Spent', dollars(key.cost_usd)),
    cell('Saved', dollars(key.saved_usd)),
    cell('Budget left', createBudget(key)),
    cell(
      'Last used',
      key.last_used_at
        ? h('span', { class: 'nowrap', title: when(key.last_used_at) }, ago(key.last_used_at))
        : 'never',
    ),
    cell(
      'Actions',
      isChangeable
        ? [
            createAction('Edit', key, () => edit(key)),
            createAction('Revoke', key, () => confirmRevocation(key), 'danger'),
          ]
        : null,
      'last',
    ),
  )
}

const createAction = (caption, key, act, kind = 'quiet') =>
  h(
    'button',
    {
      type: 'button',
      class: `${kind} small`,
      'aria-label': `${caption} ${key.name}`,
      on: { click: act },
    },
    caption,
  )

/** Where a key comes from, and since when. */
function createOrigin({ source, created_at: at, created_by: by, revoked_at: revoked }) {
  const text =
    source === 'file'
      ? 'configuration file'
      : source === null
        ? 'no longer configured'
        : revoked
          ? `revoked ${ago(revoked)}`
          : `created ${ago(at)}${by ? ` by ${by}` : ''}`
  const moment = revoked ?? at
  return h('div', { class: 'dim small', title: moment ? when(moment) : null }, text)
}

function createProblems({ failed, refused }) {
  const parts = [
    failed ? `${count(failed)} failed` : '',
    refused ? `${count(refused)} refused` : '',
  ]
  const text = parts.filter(Boolean).join(', ')
  return text ? h('div', { class: 'dim small' }, text) : null
}

function createBudget({ cloud_usd_per_day: budget, budget_left_usd: left }) {
  if (budget === null) return '–'
  const share = budget ? left / budget : 0
  return [
    h('span', { class: 'budget', 'data-low': share < 0.2, style: { '--share': share } }),
    dollars(left),
  ]
}

function show() {
  const { keys, changes, can_create: canCreate, why_not: why } = state.page
  const current = keys.filter(({ state: now }) => now === 'valid')
  const old = keys.filter(({ state: now }) => now !== 'valid')
  const shown = state.showsOld ? [...current, ...old] : current
  table.removeAttribute('aria-busy')
  $('#create').disabled = !canCreate
  $('#notice').hidden = !why
  replace($('#notice'), why)
  replace(
    $('tbody', table),
    shown.length
      ? shown.map(createRow)
      : h(
          'tr',
          { role: 'row' },
          h(
            'td',
            { role: 'cell', class: 'empty', colspan: COLUMNS.length },
            'This proxy needs no API keys.',
          ),
        ),
  )
  $('#old').hidden = !old.length
  replace($('#old span'), `Show ${count(old.length)} revoked and removed keys`)
  replace(
    $('#changes'),
    changes.length
      ? changes.map(createChange)
      : h('li', { class: 'dim' }, 'No key has been created, changed or revoked yet.'),
  )
}

// --- changes ---

const FIELDS = {
  name: ['name', (value) => value],
  is_admin: ['admin', (value) => (value ? 'yes' : 'no')],
  requests_per_minute: ['requests per minute', (value) => value ?? 'no limit'],
  cloud_usd_per_day: ['cloud USD per day', (value) => value ?? 'no limit'],
}

function describeChange({ action, details }) {
  if (action === 'create') return 'created'
  if (action === 'revoke') return 'revoked'
  return Object.entries(details.changes ?? {})
    .filter(([name]) => name in FIELDS)
    .map(([name, [before, after]]) => {
      const [caption, format] = FIELDS[name]
      return `${caption}: ${format(before)} → ${format(after)}`
    })
    .join('; ')
}

const createChange = (change) =>
  h(
    'li',
    {},
    h('time', { class: 'dim nowrap', title: when(change.created_at) }, ago(change.created_at)),
    h(
      'span',
      {},
      h('b', {}, change.subject_name),
      ` ${describeChange(change)}`,
      change.actor_name ? h('span', { class: 'dim' }, ` by ${change.actor_name}`) : null,
    ),
  )

// --- dialogs ---

/** Show a dialog with a title. */
function openDialog(title, ...content) {
  replace(dialog, h('h2', { id: 'dialog-title' }, title), ...content)
  if (!dialog.open) dialog.showModal()
}

const createCancel = (caption = 'Cancel') =>
  h('button', { type: 'button', on: { click: () => dialog.close() } }, caption)

/** A form for the fields of a key. `save` sends them; its errors are shown at the field. */
function openForm(title, caption, key, save) {
  const trouble = h('p', { class: 'error', role: 'alert' })
  const number = (name, label, hint, options) =>
    h(
      'label',
      { class: 'field' },
      label,
      h('input', {
        name,
        type: 'number',
        placeholder: 'no limit',
        value: key?.[name] ?? null,
        'aria-describedby': `${name}-hint`,
        ...options,
      }),
      h('span', { class: 'dim small', id: `${name}-hint` }, hint),
    )
  const submit = h('button', { type: 'submit', class: 'primary' }, caption)
  const form = h(
    'form',
    {
      class: 'stack',
      on: {
        submit: async (event) => {
          event.preventDefault()
          submit.disabled = true
          replace(trouble)
          try {
            await save(readForm(form))
          } catch (error) {
            replace(trouble, error.message)
            const field = error.param ? form.elements.namedItem(error.param) : null
            field?.focus()
          }
          submit.disabled = false
        },
      },
    },
    h(
      'label',
      { class: 'field' },
      'Name',
      h('input', {
        name: 'name',
        required: true,
        maxlength: 60,
        autocomplete: 'off',
        spellcheck: 'false',
        value: key?.name ?? null,
      }),
    ),
    number('requests_per_minute', 'Requests per minute', 'Further requests get 429.', {
      min: 1,
      step: 1,
      inputmode: 'numeric',
    }),
    number('cloud_usd_per_day', 'Cloud budget (USD per day)', 'Days begin at midnight UTC.', {
      min: 0,
      step: 'any',
      inputmode: 'decimal',
    }),
    h(
      'label',
      { class: 'row check' },
      h('input', { name: 'is_admin', type: 'checkbox', checked: key?.is_admin ?? false }),
      h('span', {}, 'Admin: sees all requests, starts experiments, manages keys'),
    ),
    trouble,
    h('div', { class: 'row foot' }, createCancel(), submit),
  )
  openDialog(title, form)
}

function readForm(form) {
  const { name, is_admin: isAdmin, ...numbers } = form.elements
  const read = (field) => (numbers[field].value === '' ? null : Number(numbers[field].value))
  return {
    name: name.value.trim(),
    is_admin: isAdmin.checked,
    requests_per_minute: read('requests_per_minute'),
    cloud_usd_per_day: read('cloud_usd_per_day'),
  }
}

function create() {
  openForm('Create a key', 'Create', null, async (fields) => {
    const { key, secret } = await (await postJson('/api/keys', fields)).json()
    showSecret(key, secret)
    await refresh()
  })
}

function showSecret(key, secret) {
  openDialog(
    `Key for ${key.name}`,
    h(
      'div',
      { class: 'stack' },
      h('p', {}, 'Copy it now. It is stored only as a hash and cannot be shown again.'),
      h('code', { class: 'secret', tabindex: 0 }, secret),
      h(
        'div',
        { class: 'row foot' },
        createCopyButton(secret, 'Copy key'),
        h(
          'button',
          { type: 'button', class: 'primary', on: { click: () => dialog.close() } },
          'Done',
        ),
      ),
    ),
  )
}

function edit(key) {
  openForm(`Edit ${key.name}`, 'Save', key, async (fields) => {
    await send(`/api/keys/${key.key_hash}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    })
    await finish(key, `${fields.name} is saved.`)
  })
}

function confirmRevocation(key) {
  const trouble = h('p', { class: 'error', role: 'alert' })
  const revoke = async () => {
    try {
      await send(`/api/keys/${key.key_hash}`, { method: 'DELETE' })
      await finish(key, `${key.name} is revoked.`)
    } catch (error) {
      replace(trouble, error.message)
    }
  }
  openDialog(
    `Revoke ${key.name}?`,
    h(
      'div',
      { class: 'stack' },
      h('p', {}, 'Its clients and sessions are refused at once. This cannot be undone.'),
      trouble,
      h(
        'div',
        { class: 'row foot' },
        createCancel(),
        h('button', { type: 'button', class: 'danger', on: { click: revoke } }, 'Revoke'),
      ),
    ),
  )
}

/** Close the dialog of a key, and return the focus to its row, or else to the page. */
async function finish(key, announcement) {
  dialog.close()
  await refresh()
  replace($('#announcement'), announcement)
  const row = $(`tr[data-hash="${key.key_hash}"] button`, table) ?? $('#create')
  row.focus()
}

// --- refresh ---

async function refresh() {
  lastQuery += 1
  const number = lastQuery
  try {
    const page = await getJson(`/api/keys?since=${getSpan()}`)
    if (number !== lastQuery) return
    state.page = page
    replace($('#trouble'))
    show()
  } catch (error) {
    if (number !== lastQuery) return
    table.removeAttribute('aria-busy')
    replace($('#trouble'), `${error.message}${state.page ? ' Showing earlier data.' : ''}`)
  }
}

$('#create').addEventListener('click', create)
dialog.addEventListener('close', () => replace(dialog)) // a key must not stay in the page
$('#old input').addEventListener('change', (event) => {
  state.showsOld = event.target.checked
  show()
})
setInterval(() => {
  const isIdle = !document.hidden && !dialog.open && !table.contains(document.activeElement)
  if (isIdle) refresh()
}, REFRESH_MS)
refresh()
