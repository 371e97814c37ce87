// HTTP client of the proxy. Errors are thrown as ApiError with the fields of the error envelope.

export class ApiError extends Error {
  constructor(
    message,
    { status = 0, code = null, param = null, type = null, headers = null } = {},
  ) {
    super(message)
    Object.assign(this, { status, code, param, type, headers })
  }
}

/** Read the error from a response, whatever its format. */
async function readError(response) {
  const text = await response.text()
  let error = null
  try {
    error = JSON.parse(text).error
  } catch {
    // Not the error envelope: perhaps from a server in between.
  }
  const detail = typeof error === 'string' ? error : error?.message
  const message = detail || text.slice(0, 500) || `HTTP ${response.status}`
  const { status, headers } = response
  return new ApiError(message, { status, ...(error?.message ? error : {}), headers })
}

/** Fetch a successful response. Throws ApiError; an expired session redirects to the login page. */
export async function send(path, options = {}) {
  let response
  try {
    response = await fetch(path, { credentials: 'same-origin', ...options })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new ApiError('Cannot reach the proxy. Is it running?', { code: 'unreachable' })
  }
  if (response.ok) return response
  if (response.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`)
  }
  throw await readError(response)
}

export const getJson = async (path, options) => (await send(path, options)).json()

export const postJson = (path, body, options = {}) =>
  send(path, {
    ...options,
    method: 'POST',
    headers: { 'content-type': 'application/json', ...options.headers },
    body: JSON.stringify(body),
  })
