// What happened to a failed or replaced attempt, in words: what each tier did, and why.

// Codes of `fallback_why` and of errors; after "the local model …" or "the cloud model …".
const FAILURES = {
  server_error: 'had a server error',
  upstream_5xx: 'had a server error',
  upstream_4xx: 'refused the request',
  upstream_error: 'failed',
  upstream_unreachable: 'could not be reached',
  upstream_unhealthy: 'was unavailable after too many failures',
  upstream_broken: 'broke off its answer',
  upstream_auth: 'rejected the proxy’s API key',
  bad_answer: 'sent no valid answer',
  connect_timeout: 'did not accept the connection in time',
  first_token_timeout: 'did not begin its answer in time',
  idle_timeout: 'stopped in the middle of its answer',
  total_timeout: 'did not finish in time',
  rate_limited: 'was rate limited',
  refused: 'refused the request',
  client_error: 'refused the request',
  context: 'cannot hold a text of this length',
  capability: 'lacks a feature of the request',
  model_missing: 'is not installed',
  overloaded: 'was overloaded',
  insufficient_quota: 'has no quota left',
  unavailable: 'was unavailable',
  budget: 'was over its budget',
}
// The same of answers that arrived and were not used.
const REJECTIONS = {
  evidence: 'gave an answer that a second look rejected',
  verify_timeout: 'took too long for a second look',
  logprobs: 'gave no log-probabilities',
}

/** What a tier did, from a code; an unknown code is spelled out. */
const describeWhy = (code) =>
  FAILURES[code] ??
  REJECTIONS[code] ??
  `failed: ${String(code ?? 'unknown reason').replaceAll('_', ' ')}`

/** Read `x-router-fallback`: {from, to, why}; null if it has another form. */
function parseFallback(header) {
  const match = /^(local|cloud)->(local|cloud):([a-z0-9_]{1,60})$/.exec(header ?? '')
  return match && { from: match[1], to: match[2], why: match[3] }
}

/** What the first tier did, from `x-router-fallback`; empty if an answer of it was rejected. */
export function formatFallback(header) {
  const { from, why } = parseFallback(header) ?? {}
  return FAILURES[why] ? `${from} ${FAILURES[why]}` : ''
}

// Why only one tier was asked, by the reason of the decision.
const ALONE = {
  forced: (target) => `the ${target} model was requested explicitly`,
  context: () => 'the request is too long for it',
  capability: () => 'it lacks a feature of the request',
  rule: () => 'a routing rule selected the tier',
  unhealthy: () => 'it was unavailable',
  overload: () => 'it was overloaded',
  loading: () => 'it was being loaded',
  budget: () => 'the cloud budget was used up or paced',
}

const other = (target) => (target === 'local' ? 'cloud' : 'local')
const nameTier = (target) => `${target === 'local' ? 'local' : 'cloud'} model`

/**
 * Which tiers were tried for a failed answer, in sentences; empty if nothing is known.
 *
 * @param message a failed answer: its error, its decision and perhaps its stored request
 */
export function explainFailure({ error, decision, row, content }) {
  const target = row?.target ?? decision?.target
  if (!target) {
    return error.status ? 'The proxy refused the request. Neither model was asked.' : ''
  }
  const fallback = row?.fallback_from
    ? { from: row.fallback_from, why: row.fallback_why }
    : parseFallback(decision?.fallback)
  const outcome = describeOutcome(error, row)
  if (fallback && fallback.from !== target) {
    return (
      `Both models were tried: the ${nameTier(fallback.from)} ${describeWhy(fallback.why)}, ` +
      `then the ${nameTier(target)} ${outcome}.`
    )
  }
  const last = `The ${nameTier(target)} ${outcome}`
  const why = explainAlone({ target, error, decision, row, content })
  return `${last}, and the ${nameTier(other(target))} was not tried${why ? ` because ${why}` : ''}.`
}

function explainAlone({ target, error, decision, row, content }) {
  if (content) return 'a part of the answer had already been sent'
  const reason = row?.reason ?? decision?.reason
  if (ALONE[reason]) return ALONE[reason](target)
  if (target === 'cloud' && error.status >= 400 && error.status < 500 && error.status !== 429)
    return 'the error is about the request itself'
  return ''
}

/** How the last attempt ended. The proxy answers with a status and a code of its own if it got none. */
function describeOutcome(error, row) {
  const isAnswer = row?.error_code
    ? /^upstream_[45]xx$/.test(row.error_code)
    : !(error.code in FAILURES)
  if (isAnswer && error.status >= 400) return `answered ${error.status}`
  return describeWhy(row?.error_code ?? error.code)
}
