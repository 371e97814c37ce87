// A streamed chat completion, as any client of /v1 gets it.

import { ApiError, send } from './http.js'

/** The events of a stream, parsed; it ends at [DONE] or with the body. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    while (true) {
      const { done, value = '' } = await reader.read()
      const lines = (rest + value).split(/\r?\n/)
      rest = done ? '' : lines.pop()
      for (const line of lines) {
        if (!line.startsWith('data:')) continue
        const data = line.slice(5).trim()
        if (data === '[DONE]') return
        if (data) yield JSON.parse(data)
      }
      if (done) throw new ApiError('The answer broke off.', { code: 'incomplete' })
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}

const asNumber = (text) => (text === null ? null : Number(text))

/** What the proxy decided, from the headers of an answer; without them (a refusal) all is null. */
export function decisionOf(headers) {
  const get = (name) => headers.get(`x-router-${name}`)
  return {
    id: headers.get('x-request-id'),
    target: get('target'),
    model: get('model'),
    reason: get('reason'),
    score: asNumber(get('score')),
    threshold: asNumber(get('threshold')),
    decisionMs: asNumber(get('decision-ms')),
    fallback: get('fallback'),
  }
}

/**
 * Ask for a completion. Yields {decision} once, then {text} or {thought} as they come, and last
 * {finish, usage}. Raises ApiError, also in the middle.
 *
 * @param body of the request, but for `stream`
 */
export async function* complete(body, { signal, headers } = {}) {
  const response = await send('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  })
  yield { decision: decisionOf(response.headers) }
  let finish = null
  let usage = null
  for await (const event of events(response)) {
    if (event.error) {
      const { message, ...about } = event.error
      throw new ApiError(message ?? String(event.error), about)
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
