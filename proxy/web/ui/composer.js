// The composer: the text of a message and its files, from the dialog, the clipboard or a drop.

import { ACCEPTED, createAttachments, readFiles } from './attachments.js'
import { $, icon, replace } from './dom.js'

const MAX_HEIGHT = 220 // pixels of the text area
const KEYBOARD_HEIGHT = 100 // pixels: a smaller difference is a toolbar of the browser

/** Whether there is a mouse: on a touch screen, focusing the field opens the keyboard. */
const hasMouse = matchMedia('(hover: hover) and (pointer: fine)')

/**
 * Set up the composer.
 *
 * @param send called with {content, attachments}; returns whether the message was taken
 * @param editLast opens the editor of the last question
 * @returns focus: focuses the field where that opens no keyboard
 */
export function createComposer({ send, editLast }) {
  const prompt = $('#prompt')
  const input = $('#files')
  let attachments = []

  const resize = () => {
    prompt.style.setProperty('height', 'auto')
    prompt.style.setProperty('height', `${Math.min(prompt.scrollHeight, MAX_HEIGHT)}px`)
  }

  const showAttachments = () => {
    const remove = (attachment) => {
      attachments = attachments.filter((item) => item !== attachment)
      showAttachments()
      prompt.focus()
    }
    replace($('#attachments'), ...createAttachments(attachments, remove))
    $('#attachments').hidden = !attachments.length
  }

  const showErrors = (errors) => {
    replace($('#attachment-errors'), errors.join(' '))
    $('#attachment-errors').hidden = !errors.length
  }

  // One after the other, so that their number is known.
  let reading = Promise.resolve()
  const attach = (files) => {
    reading = reading.then(async () => {
      const read = await readFiles(files, attachments.length)
      attachments = [...attachments, ...read.attachments]
      showAttachments()
      showErrors(read.errors)
    })
  }

  $('#composer').addEventListener('submit', async (event) => {
    event.preventDefault()
    await reading
    const content = prompt.value.trim()
    if (!content && !attachments.length) return
    if (!send({ content, attachments })) return
    prompt.value = ''
    attachments = []
    showAttachments()
    showErrors([])
    resize()
  })
  prompt.addEventListener('keydown', (event) => {
    if (event.isComposing) return
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault()
      $('#composer').requestSubmit()
    } else if (event.key === 'ArrowUp' && !prompt.value && !attachments.length) {
      if (editLast()) event.preventDefault()
    }
  })
  prompt.addEventListener('input', resize)

  input.accept = ACCEPTED
  $('#attach').addEventListener('click', () => input.click())
  input.addEventListener('change', () => {
    attach([...input.files])
    input.value = '' // so that the same file can be chosen again
  })
  document.addEventListener('paste', (event) => {
    const files = [...event.clipboardData.files]
    // A copied table is a text and an image of it: the text is meant.
    if (!files.length || event.clipboardData.types.includes('text/plain')) return
    event.preventDefault()
    attach(files)
  })

  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes('Files')
  const showDrop = (isOver) => $('.chat').classList.toggle('drop', isOver)
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return
    event.preventDefault() // or the browser opens the file in place of the page
    showDrop(true)
  })
  addEventListener('dragleave', ({ relatedTarget }) => {
    if (!relatedTarget) showDrop(false)
  })
  addEventListener('drop', (event) => {
    showDrop(false)
    if (!hasFiles(event)) return
    event.preventDefault()
    attach([...event.dataTransfer.files])
  })

  // iOS lays the keyboard over the page: the page is then as high as what remains visible.
  const fit = () => {
    const { height } = visualViewport
    const isCovered = innerHeight - height > KEYBOARD_HEIGHT
    if (isCovered) document.body.style.setProperty('--visible-height', `${height}px`)
    else document.body.style.removeProperty('--visible-height')
    if (isCovered) scrollTo(0, 0)
  }
  globalThis.visualViewport?.addEventListener('resize', fit)

  replace($('#send'), icon('send'))
  $('#send').disabled = false // without a listener for `submit`, a click reloads the page
  replace($('#stop'), icon('stop'))
  replace($('#attach'), icon('attach'))
  replace($('#open-settings'), icon('settings'))
  return {
    focus: () => {
      if (hasMouse.matches) prompt.focus()
    },
  }
}
