// Headline of the dashboard: what routing has saved this month, to quote as Markdown or a picture.

import { readPalette } from './charts.js'
import { $, createCopyButton, download, h, replace } from './dom.js'
import { count, dollars, percent } from './format.js'
import { getJson } from './http.js'

const SIZE = { width: 1200, height: 630, scale: 2 } // CSS pixels, as link previews want
let current = null // the response of /api/headline

export async function refreshHeadline({ signal }) {
  current = await getJson('/api/headline', { signal })
  show(describe(current))
}

/** The parts of the headline as texts. A missing part is empty. */
function describe({ month, total, projection, quality }) {
  const { saved_usd: saved, cloud_cost_usd: bill, cost_usd: spent, requests } = total
  const name = new Date(`${month}-15T12:00:00Z`).toLocaleDateString('en', {
    month: 'long',
    year: 'numeric',
    timeZone: 'UTC',
  })
  const { value, low, high, missing } = quality.relative
  return {
    month: name,
    saved: dollars(saved),
    share: bill > 0 ? `${percent(saved / bill)} of the all-cloud bill` : '',
    quality:
      missing || value === null
        ? ''
        : `at ${percent(value)} of the cloud’s quality (95% interval ${percent(low)} to ${percent(high)})`,
    missing: missing ? `Quality this month: ${missing}.` : '',
    basis: `Spent ${dollars(spent)} of ${dollars(bill)} for ${count(requests)} requests in ${name} (UTC).`,
    projection: projection
      ? `At this rate ${dollars(projection.saved_usd)} by the end of the month.`
      : '',
  }
}

const join = (parts) => parts.filter(Boolean).join(', ')

function show(parts) {
  const card = $('#headline')
  card.hidden = !current.total.requests
  replace(
    $('#headline-text'),
    h('span', {}, 'Saved '),
    h('strong', { class: 'num' }, parts.saved),
    h('span', {}, join([' this month', parts.share, parts.quality])),
  )
  replace(
    $('#headline-note'),
    parts.basis,
    ' ',
    parts.projection
      ? h(
          'span',
          {
            title:
              'Linear: the rest of the month is taken to go on as the time since its first request. Weekends and growth are not considered.',
          },
          `${parts.projection} Linear projection; it ignores weekends and growth.`,
        )
      : '',
    ' ',
    parts.missing,
  )
}

const writeMarkdown = () => {
  const parts = describe(current)
  return `${join([`**Saved ${parts.saved} in ${parts.month}**`, parts.share, parts.quality])}. ${[parts.basis, parts.projection].filter(Boolean).join(' ')} Routed by hybrid-llm-router.\n`
}

/** Draw the headline on a canvas, in the page's colours. */
function drawPicture(parts) {
  const colours = readPalette()
  const { width, height, scale } = SIZE
  const canvas = h('canvas', { width: width * scale, height: height * scale })
  const context = canvas.getContext('2d')
  context.scale(scale, scale)
  const family = getComputedStyle(document.documentElement).fontFamily
  const write = (text, x, y, size, colour, weight = 400) => {
    context.font = `${weight} ${size}px ${family}`
    context.fillStyle = colour
    return wrap(context, text, width - 2 * x, (line, row) =>
      context.fillText(line, x, y + row * size * 1.35),
    )
  }
  context.fillStyle = colours.surface
  context.fillRect(0, 0, width, height)
  context.fillStyle = colours.local
  context.fillRect(0, 0, 14, height)
  write(`hybrid-llm-router · ${parts.month}`, 72, 96, 28, colours.dim, 500)
  write(`Saved ${parts.saved}`, 72, 238, 104, colours.local, 700)
  const rows = write(join([parts.share, parts.quality]), 72, 312, 38, colours.text, 550)
  drawShare(context, 72, 340 + rows * 38 * 1.35 - 38, width - 144, colours)
  const notes = write(parts.basis, 72, 530, 24, colours.dim)
  if (parts.projection) write(parts.projection, 72, 530 + notes * 34, 24, colours.dim)
  return canvas
}

/** A bar of the all-cloud bill: the part that was spent, and the part that was saved. */
function drawShare(context, x, y, width, colours) {
  const { cost_usd: spent, saved_usd: saved, cloud_cost_usd: bill } = current.total
  if (!(bill > 0)) return
  const share = Math.min(1, spent / bill)
  const rest = Math.max(0, Math.min(1 - share, saved / bill))
  context.fillStyle = colours.line
  context.fillRect(x, y, width, 28)
  context.fillStyle = colours.local
  context.fillRect(x + width * share, y, width * rest, 28)
  context.fillStyle = colours.cloud
  context.fillRect(x, y, width * share, 28)
  context.font = `500 22px ${getComputedStyle(document.documentElement).fontFamily}`
  context.fillText(`spent ${percent(spent / bill)}`, x, y + 62)
}

/** Break a text into lines of a width. Returns their number. */
function wrap(context, text, width, draw) {
  let line = ''
  let row = 0
  for (const word of text.split(' ')) {
    const longer = line ? `${line} ${word}` : word
    if (line && context.measureText(longer).width > width) {
      draw(line, row)
      row += 1
      line = word
    } else line = longer
  }
  draw(line, row)
  return row + 1
}

const downloadPicture = () =>
  drawPicture(describe(current)).toBlob(
    (blob) => download(`savings-${current.month}.png`, blob),
    'image/png',
  )

$('#headline-actions').append(
  createCopyButton(writeMarkdown, 'Copy as Markdown'),
  h(
    'button',
    { type: 'button', class: 'quiet small', on: { click: downloadPicture } },
    'Download as picture',
  ),
)
