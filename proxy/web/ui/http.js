// Asking the proxy. What it refuses comes as an ApiError in the words of its error envelope.

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, type = null } = {}) {
    super(message)
    Object.assign(this, { status, code, param, type })
  }
}

/** The error that a response tells, whoever wrote it. */
export async function errorOf(response) {
  const text = await response.text()
  let error = null
  try {
    error = JSON.parse(text).error
  } catch {
    // Not ours: a server in between, perhaps.
  }
  const told = typeof error === 'string' ? error : error?.message
  const message = told || text.slice(0, 500) || `HTTP ${response.status}`
  return new ApiError(message, { status: response.status, ...(error?.message ? error : {}) })
}

/** A response that is good. Raises ApiError; a login that is over leads to a new one. */
export async function send(path, options = {}) {
  let response
  try {
    response = await fetch(path, { credentials: 'same-origin', ...options })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new ApiError('The proxy does not answer. Is it still running?', { code: 'unreachable' })
  }
  if (response.ok) return response
  if (response.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`)
  }
  throw await errorOf(response)
}

export const getJson = async (path, options) => (await send(path, options)).json()

export const postJson = (path, body, options = {}) =>
  send(path, {
    ...options,
    method: 'POST',
    headers: { 'content-type': 'application/json', ...options.headers },
    body: JSON.stringify(body),
  })
