// Log of a job: its output as it arrives, with the state and the parameters of the job.

import { $, replace } from './dom.js'
import { when } from './format.js'
import { getJson } from './http.js'

const MAX_LOG_CHARS = 400_000
const END_DISTANCE = 24 // pixels: within this distance of its end the log scrolls along

/** The log section of the page. */
export class JobLog {
  job = null
  end = 0 // position up to which the log is shown; null before the first part

  show(job, title) {
    $('#log').hidden = false
    if (this.job?.id !== job.id) {
      this.end = null
      replace($('#log-text'))
    }
    this.job = job
    replace($('#log-title'), `Log of ${title}`)
    this.showState(job)
    this.read().catch((error) => replace($('#trouble'), error.message))
  }

  open(job, title) {
    this.show(job, title)
    $('#log').scrollIntoView({ block: 'nearest' })
    $('#log-text').focus({ preventScroll: true })
  }

  showState(job) {
    this.job = job
    const chosen = Object.entries(job.arguments).map(
      ([name, value]) => `${name.replaceAll('_', ' ')}: ${value}`,
    )
    replace(
      $('#log-state'),
      [job.state, `since ${when(job.started_at)}`, job.host, ...chosen].join(' · '),
    )
  }

  /** Load the new part of the log and the state of the job. */
  async read() {
    const { id } = this.job
    const after = this.end === null ? '' : `?after=${this.end}`
    const response = await getJson(`/api/jobs/${encodeURIComponent(id)}${after}`)
    if (this.job?.id === id && (this.end ?? response.log_start) <= response.log_start)
      this.append(response)
    return response
  }

  append({ log: text, log_start: start, log_end: end, job }) {
    const box = $('#log-text')
    const isAtEnd = this.isAtEnd()
    if (start > (this.end ?? 0)) box.append('…\n') // the part between is not stored
    if (text) box.append(text)
    if (box.textContent.length > MAX_LOG_CHARS)
      replace(box, box.textContent.slice(-MAX_LOG_CHARS / 2))
    this.end = end
    this.showState(job)
    if (isAtEnd) this.scrollToEnd()
    this.updateEndButton()
  }

  updateEndButton() {
    $('#log-end').hidden = this.isAtEnd()
  }

  isAtEnd() {
    const box = $('#log-text')
    return box.scrollHeight - box.scrollTop - box.clientHeight < END_DISTANCE
  }

  scrollToEnd() {
    const box = $('#log-text')
    box.scrollTop = box.scrollHeight
  }

  close() {
    $('#log').hidden = true
    this.job = null
  }
}
