// A stored request, as GET /api/requests/{id} returns it.

import { getJson } from './http.js'

/** Load a request. One that has just ended is waited for. Throws ApiError. */
export const loadRequest = (id) => getJson(`/api/requests/${encodeURIComponent(id)}`)

/** Some fields of an object. */
export const pick = (object, names) => Object.fromEntries(names.map((name) => [name, object[name]]))

/** The turns of a request's prompt; none if it is not stored as text. */
export const readTurns = ({ prompt }) => (Array.isArray(prompt) ? prompt : [])
