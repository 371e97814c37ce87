// Why another tier answered, in words: the labels of the header x-router-fallback.

const FAILURES = {
  refused: 'refused the request',
  capability: 'does not support what the request needs',
  context: 'refused the request for its length',
  model_missing: 'does not have the model',
  bad_answer: 'sent something that is no answer',
  server_error: 'answered with a server error',
  rate_limited: 'is rate limited',
  overloaded: 'has a full queue',
  connect_timeout: 'did not accept a connection in time',
  first_token_timeout: 'did not start its answer in time',
  idle_timeout: 'stopped in the middle of its answer',
  upstream_unreachable: 'cannot be reached',
  upstream_unhealthy: 'had too many failures',
  upstream_broken: 'broke off its answer',
  upstream_auth: 'refused the configured API key',
}

/** What the first tier did, such as "local cannot be reached"; empty for a check of an answer. */
export function formatFallback(header) {
  const [, from, why] = /^(local|cloud)->(?:local|cloud):(.+)$/.exec(header ?? '') ?? []
  return FAILURES[why] ? `${from} ${FAILURES[why]}` : ''
}
