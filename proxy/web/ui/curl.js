// A stored request as a curl command that sends it again.

const ROLES = ['system', 'developer', 'user', 'assistant']
const CUT = /characters of base64\]|… \[cut\]$/ // the marks of a body that was shortened
const MAX_TOKENS = 1024 // of an answer in Anthropic's API, which requires a limit

// By endpoint: the path, and the body from the stored turns.
const ENDPOINTS = {
  'chat.completions': ['/v1/chat/completions', (turns) => ({ messages: turns })],
  completions: ['/v1/completions', (turns) => ({ prompt: turns.at(-1).content })],
  responses: ['/v1/responses', (turns) => ({ input: turns })],
  messages: [
    '/v1/messages',
    (turns) => {
      const system = turns.filter(({ role }) => role === 'system').map(({ content }) => content)
      return {
        max_tokens: MAX_TOKENS,
        ...(system.length ? { system: system.join('\n\n') } : {}),
        messages: turns.filter(({ role }) => role !== 'system'),
      }
    },
  ],
  'ollama.chat': ['/api/chat', (turns, stream) => ({ messages: turns, stream })],
  'ollama.generate': [
    '/api/generate',
    (turns, stream) => {
      const system = turns.find(({ role }) => role === 'system')?.content
      return { prompt: turns.at(-1).content, ...(system ? { system } : {}), stream }
    },
  ],
  embeddings: ['/v1/embeddings', null],
  'ollama.embed': ['/api/embed', null],
  'ollama.embeddings': ['/api/embeddings', null],
}

/**
 * Create the command; null if the request is not stored well enough.
 *
 * @param row the request as in /api/requests/{id}
 * @param sent its stored JSON, if there is any
 * @param needsKey whether the proxy requires an API key, which the command takes from $API_KEY
 */
export function createCurl(row, sent, { origin, needsKey }) {
  const [path, build] = ENDPOINTS[row.endpoint] ?? []
  const body = path && (readSent(sent) ?? rebuild(row, build))
  if (!body) return null
  return [
    `curl ${row.streamed ? '-N ' : ''}${origin}${path}`,
    "-H 'content-type: application/json'",
    needsKey ? '-H "authorization: Bearer $API_KEY"' : null,
    `--data-raw ${quote(body)}`,
  ]
    .filter(Boolean)
    .join(' \\\n  ')
}

/** Quote a text for a POSIX shell. */
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** The JSON as the client sent it, if it is whole. */
function readSent(sent) {
  if (!sent || CUT.test(sent) || sent.includes('[redacted]')) return null
  try {
    JSON.parse(sent)
    return sent
  } catch {
    return null
  }
}

/** The JSON of the stored texts. Parameters of the request are not among them. */
function rebuild({ prompt, requested_model: model, streamed }, build) {
  const turns = Array.isArray(prompt) ? prompt : []
  if (!build || !turns.length || turns.some(({ role }) => !ROLES.includes(role))) return null
  const body = { model, ...build(turns, streamed) }
  return JSON.stringify(streamed ? { ...body, stream: true } : body, null, 2)
}
