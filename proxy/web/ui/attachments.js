// Images and text files of a question: checked, reduced in size, shown, and sent to the model.

import { h, icon } from './dom.js'
import { bytes } from './format.js'

const MAX_FILES = 8
const MAX_IMAGE_BYTES = 25_000_000 // of the file, before it is reduced
const MAX_TEXT_BYTES = 500_000
const MAX_SIDE = 2048 // pixels: models reduce larger images themselves
const JPEG_QUALITY = 0.9
const MAX_SENT_BYTES = 6_000_000 // of an image as a data URL
const IMAGE_TYPES = ['image/png', 'image/jpeg', 'image/webp', 'image/gif']
const TEXT_EXTENSIONS =
  'txt md markdown csv tsv json jsonl yaml yml toml ini cfg conf xml html css js mjs jsx ts tsx py ' +
  'ipynb rb rs go java kt swift c h cc cpp hpp cs php pl lua r jl sh bash zsh sql tex log diff patch ' +
  'dockerfile makefile'
const EXTENSIONS = new Set(TEXT_EXTENSIONS.split(' '))

/** What a file dialog offers. */
export const ACCEPTED = [
  ...IMAGE_TYPES,
  'text/*',
  ...[...EXTENSIONS].map((name) => `.${name}`),
].join()

const findExtension = (name) => name.toLowerCase().split('.').at(-1)

/**
 * Read files as attachments. Returns {attachments, errors}: each error says which file and why.
 *
 * @param present the number of attachments that the question has already
 */
export async function readFiles(files, present = 0) {
  const attachments = []
  const errors = []
  for (const file of files) {
    if (present + attachments.length >= MAX_FILES) {
      errors.push(`A message can have at most ${MAX_FILES} files. ${file.name} was left out.`)
      continue
    }
    try {
      attachments.push(await readFile(file))
    } catch (error) {
      errors.push(error.message)
    }
  }
  return { attachments, errors }
}

async function readFile(file) {
  const name = (file.name || 'image').slice(0, 200)
  if (IMAGE_TYPES.includes(file.type)) return { kind: 'image', name, ...(await readImage(file)) }
  if (file.type.startsWith('image/')) {
    throw new Error(`${name}: only PNG, JPEG, WebP and GIF images can be sent.`)
  }
  if (file.type.startsWith('text/') || EXTENSIONS.has(findExtension(name))) {
    return { kind: 'text', name, text: await readText(file) }
  }
  throw new Error(`${name}: only images and text files can be sent.`)
}

async function readText(file) {
  if (file.size > MAX_TEXT_BYTES) {
    throw new Error(
      `${file.name} has ${bytes(file.size)}. A text file can have at most ${bytes(MAX_TEXT_BYTES)}.`,
    )
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer())
    if (!text.includes('\0')) return text
  } catch {
    // The message is the same.
  }
  throw new Error(`${file.name} is not a text file in UTF-8.`)
}

async function readImage(file) {
  if (file.size > MAX_IMAGE_BYTES) {
    throw new Error(
      `${file.name} has ${bytes(file.size)}. An image can have at most ${bytes(MAX_IMAGE_BYTES)}.`,
    )
  }
  let bitmap
  try {
    bitmap = await createImageBitmap(file)
  } catch {
    throw new Error(`${file.name} cannot be read as an image.`)
  }
  try {
    const { width, height } = bitmap
    const isSmall = Math.max(width, height) <= MAX_SIDE
    if (isSmall && (file.size * 4) / 3 <= MAX_SENT_BYTES) {
      return { url: await readDataUrl(file), width, height }
    }
    return reduce(bitmap, file)
  } finally {
    bitmap.close()
  }
}

const readDataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.onload = () => resolve(reader.result)
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`))
    reader.readAsDataURL(file)
  })

/** Draw an image at most MAX_SIDE wide and high. A photo that stays large as PNG becomes a JPEG. */
function reduce(bitmap, file) {
  const factor = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height))
  const width = Math.max(1, Math.round(bitmap.width * factor))
  const height = Math.max(1, Math.round(bitmap.height * factor))
  const canvas = h('canvas', { width, height })
  canvas.getContext('2d').drawImage(bitmap, 0, 0, width, height)
  const isPhoto = file.type === 'image/jpeg'
  let url = canvas.toDataURL(isPhoto ? 'image/jpeg' : 'image/png', JPEG_QUALITY)
  if (url.length > MAX_SENT_BYTES) url = canvas.toDataURL('image/jpeg', JPEG_QUALITY)
  return { url, width, height }
}

/** The content of a question as it is sent: its text, or parts if it has images. */
export function createContent({ content, attachments = [] }) {
  const files = attachments.filter(({ kind }) => kind === 'text').map(formatFile)
  const text = [...files, content].filter(Boolean).join('\n\n')
  const images = attachments.filter(({ kind }) => kind === 'image')
  if (!images.length) return text
  return [
    ...(text ? [{ type: 'text', text }] : []),
    ...images.map(({ url }) => ({ type: 'image_url', image_url: { url } })),
  ]
}

/** A text file as a code block, whose fence is longer than any in the file. */
function formatFile({ name, text }) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length))
  const fence = '`'.repeat(longest + 1)
  const extension = findExtension(name)
  const language = /^[a-z0-9]{1,12}$/.test(extension) ? extension : ''
  return `File ${name}:\n${fence}${language}\n${text.replace(/\n$/, '')}\n${fence}`
}

/** Thumbnails and file names; `remove` is called with an attachment, if it may be removed. */
export function createAttachments(attachments, remove = null) {
  return attachments.map((attachment) =>
    h(
      'li',
      { class: `attachment ${attachment.kind}` },
      attachment.kind === 'image'
        ? h('img', {
            src: attachment.url,
            alt: `Image: ${attachment.name}`,
            title: attachment.name,
          })
        : h('span', { class: 'file' }, icon('file'), h('span', {}, attachment.name)),
      remove &&
        h(
          'button',
          {
            type: 'button',
            class: 'remove',
            'aria-label': `Remove ${attachment.name}`,
            title: 'Remove',
            on: { click: () => remove(attachment) },
          },
          icon('close'),
        ),
    ),
  )
}
