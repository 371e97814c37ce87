// The list of conversations beside the chat: grouped by date, searched, renamed, exported, deleted.
// On a narrow screen it is a drawer.

import { downloadAll, downloadJson, downloadMarkdown, importFile } from './conversation-files.js'
import { ConversationGone } from './conversations.js'
import { $, h, icon, replace } from './dom.js'
import { plural } from './format.js'
import { MessageTree } from './message-tree.js'
import { showNotice } from './notice.js'

const PAGE = 100 // rows that are added at once
const SEARCH_WAIT_MS = 60 // after a key
const FORGET_MS = 120_000 // after the last use of the search
const DAY_MS = 86_400_000

const month = new Intl.DateTimeFormat('en', { month: 'long', year: 'numeric' })

/** The heading of a conversation by the day of its last message. */
function nameGroup(time, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime()
  if (time >= midnight) return 'Today'
  if (time >= midnight - DAY_MS) return 'Yesterday'
  if (time >= midnight - 7 * DAY_MS) return 'Previous 7 days'
  if (time >= midnight - 30 * DAY_MS) return 'Previous 30 days'
  return month.format(time)
}

/**
 * Show the list.
 *
 * @param open opens a conversation
 * @param changed called when a conversation was renamed or deleted here: (id, {title}), or (id, null)
 * @returns refresh: reads the list again; update: shows a changed conversation; select: marks one;
 *   focusSearch
 */
export function createConversationList({ store, open, startNew, changed }) {
  const [panel, list, search, state] = [
    '#history',
    '#conversations',
    '#search',
    '#history-state',
  ].map((selector) => $(selector))
  const narrow = matchMedia('(max-width: 900px)')
  let conversations = []
  let shown = []
  let selected = null
  let rendered = 0
  const rows = new Map() // conversation ID: {key, row}, of the rows that are shown
  let searching = null // the AbortController of the running search
  let isReady = false
  let reads = 0 // how often the list is being read
  const changes = new Map() // conversation ID: its state, of those that changed meanwhile

  // --- drawer ---

  const layOut = () => {
    if (panel.open) panel.close()
    if (!narrow.matches) panel.show()
  }
  narrow.addEventListener('change', layOut)
  if (!narrow.matches) panel.setAttribute('open', '') // without taking the focus
  const closeDrawer = () => {
    if (narrow.matches && panel.open) panel.close()
  }
  const openDrawer = () => {
    if (narrow.matches && !panel.open) panel.showModal()
  }
  panel.addEventListener('click', (event) => {
    if (event.target === panel) closeDrawer()
  })
  panel.addEventListener('cancel', (event) => {
    if (!narrow.matches) event.preventDefault()
  })
  $('#open-history').addEventListener('click', openDrawer)
  $('#close-history').addEventListener('click', closeDrawer)

  // --- rows ---

  /** The row of a conversation. One that looks the same stays, so that a click on it is not lost. */
  function findRow(conversation) {
    const { id, title } = conversation
    const key = JSON.stringify([title, search.value.trim()])
    const known = rows.get(id)
    if (known?.key === key) return known.row
    const row = createRow(conversation)
    rows.set(id, { key, row })
    return row
  }

  function createRow(conversation) {
    const { id, title } = conversation
    const snippet = search.value.trim() ? h('span', { class: 'snippet dim small' }, ' ') : null
    const name = h(
      'button',
      {
        type: 'button',
        class: 'open',
        title,
        'aria-current': id === selected ? 'true' : null,
        on: {
          click: () => {
            closeDrawer()
            open(id)
          },
        },
      },
      h('span', { class: 'title' }, title),
      snippet,
    )
    const more = h(
      'button',
      {
        type: 'button',
        class: 'quiet more',
        'aria-label': `Actions of ${title}`,
        'aria-haspopup': 'true',
        on: { click: () => openMenu(conversation, more, row) },
      },
      icon('more'),
    )
    const row = h('li', { class: 'conversation', dataset: { id } }, name, more)
    if (snippet) {
      store.findSnippet(id, search.value).then(
        (text) => replace(snippet, text || ' '),
        () => {},
      )
    }
    return row
  }

  const isSearching = () => search.value.trim() !== ''

  /** Show this many rows. Elements that are shown already stay in their place. */
  function renderRows(count) {
    const items = []
    let group = null
    for (const [index, conversation] of shown.slice(0, count).entries()) {
      const name = isSearching() ? null : nameGroup(conversation.updatedAt)
      if (name !== group) items.push(findHeading(name))
      group = name
      const row = findRow(conversation)
      row.ariaSetSize = shown.length
      row.ariaPosInSet = index + 1
      items.push(row)
    }
    for (const [index, item] of items.entries()) {
      const present = list.children[index] ?? null
      if (present !== item) list.insertBefore(item, present)
    }
    while (list.children.length > items.length) list.lastElementChild.remove()
    rendered = Math.min(count, shown.length)
    observer.disconnect()
    if (rendered < shown.length) observer.observe(list.lastElementChild)
  }

  const findHeading = (name) =>
    [...list.querySelectorAll('.group')].find(({ textContent }) => textContent === name) ??
    h('li', { class: 'group dim small' }, h('h3', {}, name))

  const observer = new IntersectionObserver(
    (entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) renderRows(rendered + PAGE)
    },
    { root: $('#history-scroll'), rootMargin: '600px' },
  )

  /** Show conversations from the first; as many rows as were shown, so that nothing jumps. */
  function render(next, minimum = 0) {
    if ($('.rename', list)) return // it ends with a refresh
    const focused = list.contains(document.activeElement)
      ? document.activeElement.closest('li').dataset.id
      : null
    shown = next
    const ids = new Set(shown.map(({ id }) => id))
    for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id)
    renderRows(Math.max(PAGE, minimum))
    if (focused) $(`[data-id="${CSS.escape(focused)}"] .open`, list)?.focus({ preventScroll: true })
    describeState()
  }

  function describeState() {
    const text = shown.length
      ? ''
      : isSearching()
        ? 'No matching chats'
        : isReady
          ? 'Your chats appear here. They stay in this browser.'
          : ''
    replace(state, text)
    replace($('#search-result'), isSearching() ? plural(shown.length, 'matching chat') : '')
  }

  const renderAll = () => render(conversations, rendered)

  // --- search ---

  async function runSearch() {
    searching?.abort()
    if (!isSearching()) {
      render(conversations)
      return
    }
    searching = new AbortController()
    const { signal } = searching
    const found = new Set()
    let isFirst = true
    try {
      for await (const ids of store.search(search.value, conversations, signal)) {
        for (const id of ids) found.add(id)
        // The first rows as soon as they fill the panel, the others at the end.
        if (isFirst && found.size >= PAGE) {
          isFirst = false
          render(conversations.filter(({ id }) => found.has(id)))
        }
      }
    } catch (error) {
      replace(state, error.message)
      return
    }
    if (!signal.aborted) render(conversations.filter(({ id }) => found.has(id)))
  }

  let forgetting = null
  search.addEventListener('focus', () => {
    clearTimeout(forgetting)
    store.prepareSearch(conversations).catch(() => {}) // the search itself reports the error
  })
  search.addEventListener('blur', () => {
    forgetting = setTimeout(() => store.endSearch(), FORGET_MS)
  })

  let waiting = null
  search.addEventListener('input', () => {
    clearTimeout(waiting)
    waiting = setTimeout(runSearch, SEARCH_WAIT_MS)
  })
  search.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && search.value) {
      event.preventDefault()
      event.stopPropagation()
      search.value = ''
      runSearch()
    } else if (event.key === 'ArrowDown') {
      event.preventDefault()
      $('.open', list)?.focus()
    }
  })
  list.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return
    const buttons = [...list.querySelectorAll('.open')]
    const index = buttons.indexOf(document.activeElement)
    if (index < 0) return
    event.preventDefault()
    const next = buttons[index + (event.key === 'ArrowDown' ? 1 : -1)]
    if (next) next.focus()
    else if (event.key === 'ArrowUp') search.focus()
  })

  // --- actions ---

  const menu = $('#actions')

  function openMenu(conversation, button, row) {
    const act = (text, name, work) =>
      h(
        'button',
        {
          type: 'button',
          class: 'quiet',
          on: {
            click: async () => {
              menu.hidePopover()
              try {
                await work()
              } catch (error) {
                showNotice(error.message)
              }
            },
          },
        },
        icon(name),
        text,
      )
    const { id } = conversation
    replace(
      menu,
      act('Rename', 'edit', () => rename(conversation, row)),
      act('Export as Markdown', 'file', async () => {
        const { conversation: stored, messages } = await load(id)
        downloadMarkdown(stored, new MessageTree(messages, stored.leaf).path())
      }),
      act('Export as JSON', 'file', async () => downloadJson(await load(id))),
      act('Delete', 'delete', () => remove(conversation)),
    )
    // A modal drawer makes everything outside of it inert.
    ;(panel.open ? panel : document.body).append(menu)
    menu.showPopover()
    const { bottom, right, top } = button.getBoundingClientRect()
    const { height, width } = menu.getBoundingClientRect()
    const below = bottom + height + 8 <= innerHeight
    menu.style.setProperty('top', `${below ? bottom + 2 : Math.max(8, top - height - 2)}px`)
    menu.style.setProperty(
      'left',
      `${Math.max(8, Math.min(right - width, innerWidth - width - 8))}px`,
    )
    $('button', menu).focus()
    menu.addEventListener(
      'toggle',
      ({ newState }) => {
        if (newState === 'closed' && menu.contains(document.activeElement)) button.focus()
      },
      { once: true },
    )
  }

  async function load(id) {
    const stored = await store.load(id)
    if (!stored) throw new ConversationGone('This chat was deleted.')
    return stored
  }

  function rename({ id, title }, row) {
    const field = h('input', { 'aria-label': 'New title', maxlength: 200, value: title })
    const form = h('form', { class: 'rename' }, field)
    let isFinished = false // removing a focused field is a blur, too
    const finish = async (isKept) => {
      if (isFinished) return
      isFinished = true
      const next = field.value.trim()
      form.remove()
      rows.delete(id)
      if (isKept && next && next !== title) {
        await store.save(id, { title: next })
        changed(id, { title: next })
      }
      await refresh()
      $(`[data-id="${CSS.escape(id)}"] .open`, list)?.focus()
    }
    const save = () => finish(true).catch((error) => showNotice(error.message))
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      save()
    })
    field.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return
      event.preventDefault()
      event.stopPropagation()
      finish(false)
    })
    field.addEventListener('blur', save)
    replace(row, form)
    field.select()
    field.focus()
  }

  async function remove({ id, title }) {
    const removed = await store.remove(id)
    update(id, null)
    changed(id, null)
    await refresh()
    search.focus({ preventScroll: true })
    showNotice(`Deleted: ${title}`, {
      action: 'Undo',
      run: async () => {
        await store.restore(removed)
        await refresh()
      },
    })
  }

  $('#new').addEventListener('click', () => {
    closeDrawer()
    startNew()
  })
  $('#export').addEventListener('click', async () => {
    try {
      if (conversations.length) await downloadAll(store)
      else showNotice('There are no chats to export.')
    } catch (error) {
      showNotice(error.message)
    }
  })
  $('#import').addEventListener('click', () => $('#import-file').click())
  $('#import-file').addEventListener('change', async ({ target }) => {
    const [file] = target.files
    target.value = ''
    if (!file) return
    try {
      const { added, present, skipped } = await importFile(store, file)
      const parts = [
        `${plural(added, 'chat')} imported`,
        present && `${present} already here`,
        skipped && `${skipped} unreadable`,
      ]
      showNotice(`${parts.filter(Boolean).join(', ')}.`)
    } catch (error) {
      showNotice(error.message)
    }
    await refresh()
  })

  // --- interface ---

  async function refresh() {
    if (!isReady) {
      conversations = await read(PAGE) // what is in sight, before the others are read
      isReady = true
      renderAll()
      if (conversations.length < PAGE) return
    }
    conversations = await read()
    if (isSearching()) await runSearch()
    else renderAll()
  }

  /** Read the list. What has changed meanwhile is newer. */
  async function read(limit) {
    reads += 1
    try {
      let found = await store.list(limit)
      for (const [id, conversation] of changes) found = place(found, id, conversation)
      return found
    } finally {
      reads -= 1
      if (!reads) changes.clear()
    }
  }

  /** A list with another state of one conversation; null removes it. */
  function place(items, id, conversation) {
    const placed = items.filter((item) => item.id !== id)
    if (!conversation) return placed
    const index = placed.findIndex((item) => item.updatedAt <= conversation.updatedAt)
    placed.splice(index < 0 ? placed.length : index, 0, conversation)
    return placed
  }

  /** Show what has changed of one conversation; null removes it. */
  function update(id, conversation) {
    if (reads) changes.set(id, conversation)
    conversations = place(conversations, id, conversation)
    if (!isSearching()) renderAll()
  }

  function select(id) {
    selected = id
    for (const button of list.querySelectorAll('[aria-current]'))
      button.removeAttribute('aria-current')
    if (id) $(`[data-id="${CSS.escape(id)}"] .open`, list)?.setAttribute('aria-current', 'true')
  }

  function focusSearch() {
    openDrawer()
    search.focus()
    search.select()
  }

  return { refresh, update, select, focusSearch }
}
