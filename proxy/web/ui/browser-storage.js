// Small values in the browser's storage. A browser may block it, and it may be full: then a value
// lasts as long as the page.

/** Read a value of the `session` storage (of this tab) or the `local` one; null without one. */
export function readItem(kind, key) {
  try {
    return window[`${kind}Storage`].getItem(key)
  } catch {
    return null
  }
}

/** Write a value; null removes it. */
export function writeItem(kind, key, value) {
  try {
    const storage = window[`${kind}Storage`]
    if (value === null) storage.removeItem(key)
    else storage.setItem(key, value)
  } catch {
    // The page goes on with its own copy.
  }
}
