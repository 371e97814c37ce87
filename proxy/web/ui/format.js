// Number, money and time formatting. A missing value is shown as a dash.

const NONE = '–'
const missing = (value) => value === null || value === undefined || Number.isNaN(value)
const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

/** Dollars with as many decimals as the amount needs. */
export function usd(value) {
  if (missing(value)) return NONE
  const size = Math.abs(value)
  const digits = size === 0 || size >= 1 ? 2 : size >= 0.01 ? 4 : 6
  const text = size.toLocaleString('en', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
  return `${value < 0 ? '−' : ''}$${text}`
}

/** Dollars of many requests: cents, or three significant digits below one dollar. */
export function dollars(value) {
  if (missing(value)) return NONE
  const size = Math.abs(value)
  if (size === 0 || size >= 1) return usd(value)
  const text = size.toLocaleString('en', {
    maximumSignificantDigits: 3,
    maximumFractionDigits: 9,
  })
  const [whole, decimals = ''] = text.split('.')
  return `${value < 0 ? '−' : ''}$${whole}.${decimals.padEnd(2, '0')}`
}

export function ms(value) {
  if (missing(value)) return NONE
  if (value >= 60_000) return `${(value / 60_000).toFixed(1)} min`
  if (value >= 1_000) return `${(value / 1_000).toFixed(value >= 10_000 ? 0 : 1)} s`
  return `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} ms`
}

export function percent(value, digits = 0) {
  return missing(value) ? NONE : `${(value * 100).toFixed(digits)}%`
}

export const count = (value) => (missing(value) ? NONE : plain.format(value))
export const compact = (value) =>
  missing(value) ? NONE : value < 10_000 ? plain.format(value) : short.format(value)
export const score = (value, digits = 2) => (missing(value) ? NONE : value.toFixed(digits))

/** A number of things, such as "1 request" or "2,000 requests". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`

export function bytes(value) {
  if (missing(value)) return NONE
  for (const unit of ['B', 'kB', 'MB']) {
    if (value < 1000) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`
    value /= 1000
  }
  return `${value.toFixed(1)} GB`
}

const moment = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })

/** A date and time in the reader's time zone, from UNIX seconds. */
export const when = (seconds) => (missing(seconds) ? NONE : moment.format(seconds * 1000))

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

/** When something began: the time of today, such as "14:03", else with the day: "1 Dec 14:03". */
export function since(seconds, now = new Date()) {
  if (missing(seconds)) return NONE
  const begin = new Date(seconds * 1000)
  const time = clock.format(begin)
  return begin.toDateString() === now.toDateString() ? time : `${day.format(begin)} ${time}`
}

/** The time that has elapsed since then, such as "5 min ago". */
export function ago(seconds, now = Date.now() / 1000) {
  if (missing(seconds)) return NONE
  const elapsed = Math.max(0, now - seconds)
  if (elapsed < 10) return 'just now'
  for (const [size, unit, next] of [
    [1, 's', 60],
    [60, 'min', 3600],
    [3600, 'h', 86_400],
    [86_400, 'd', Infinity],
  ]) {
    if (elapsed < next) return `${Math.floor(elapsed / size)} ${unit} ago`
  }
  return NONE
}

/** A duration in seconds as h:mm:ss or m:ss. */
export function span(seconds) {
  if (missing(seconds)) return NONE
  const whole = Math.floor(seconds)
  const pad = (number) => String(number).padStart(2, '0')
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60]
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`
}
