// Client of POST /v1/chat/completions with streaming.

import { ApiError, send } from './http.js'

// After [DONE] the body is read to its end, because a browser lists a cancelled one as failed.
const DRAIN_MS = 2000
const DRAIN_CHARS = 64_000

/** Parse the events of a stream up to [DONE]. Throws ApiError if the body ends before. */
async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  let isComplete = false
  try {
    while (true) {
      const { done, value = '' } = await reader.read()
      const lines = (rest + value).split(/\r?\n/)
      rest = done ? '' : lines.pop()
      for (const line of lines) {
        if (!line.startsWith('data:')) continue
        const data = line.slice(5).trim()
        if (data === '[DONE]') {
          isComplete = !done
          return
        }
        if (data) yield JSON.parse(data)
      }
      if (done)
        throw new ApiError('The stream ended before the answer was complete.', {
          code: 'incomplete',
        })
    }
  } finally {
    if (isComplete) drain(reader)
    else reader.cancel().catch(() => {})
  }
}

/** Read a body to its end, unless the server goes on sending or keeps it open. */
async function drain(reader) {
  const cancel = () => reader.cancel().catch(() => {})
  const timer = setTimeout(cancel, DRAIN_MS)
  let size = 0
  try {
    while (size <= DRAIN_CHARS) {
      const { done, value } = await reader.read()
      if (done) return
      size += value.length
    }
    await cancel()
  } catch {
    // The answer is complete already.
  } finally {
    clearTimeout(timer)
  }
}

// Closing a page aborts its requests. The errors are held back until the page is shown again, so that
// they do not replace the state that was stored when it closed.
let shown = Promise.resolve()
addEventListener('pagehide', () => {
  shown = new Promise((resolve) => addEventListener('pageshow', resolve, { once: true }))
})

const parseNumber = (text) => (text === null ? null : Number(text))

/** Read the routing decision from response headers; without them every field is null. */
export function readDecision(headers) {
  const get = (name) => headers.get(`x-router-${name}`)
  return {
    id: headers.get('x-request-id'),
    target: get('target'),
    model: get('model'),
    reason: get('reason'),
    score: parseNumber(get('score')),
    merit: parseNumber(get('merit')),
    threshold: parseNumber(get('threshold')),
    decisionMs: parseNumber(get('decision-ms')),
    fallback: get('fallback'),
    rule: get('rule'),
    second_look: get('second-look'),
    verified_merit: parseNumber(get('verified-merit')),
  }
}

/**
 * Request a completion. Yields {decision} once, then {text} or {thought} chunks, and finally
 * {finish, usage}. Throws ApiError, possibly in the middle of the stream.
 *
 * @param body the request without `stream`
 */
export async function* complete(body, options = {}) {
  try {
    yield* request(body, options)
  } catch (error) {
    await shown
    throw error
  }
}

async function* request(body, { signal, headers }) {
  const response = await send('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  })
  yield { decision: readDecision(response.headers) }
  let finish = null
  let usage = null
  for await (const event of readEvents(response)) {
    if (event.error) {
      const { message, ...fields } = event.error
      throw new ApiError(message ?? String(event.error), fields)
    }
    usage = event.usage ?? usage
    const choice = event.choices?.[0]
    if (!choice) continue
    finish = choice.finish_reason ?? finish
    const { content, reasoning, reasoning_content: thought } = choice.delta ?? {}
    if (reasoning ?? thought) yield { thought: reasoning ?? thought }
    if (content) yield { text: content }
  }
  yield { finish, usage }
}
