// A link of another page to the chat: `/?request=ID` asks the last question of a request again.

import { loadRequest, readTurns } from './stored-request.js'

/**
 * Fill a field with the last question of the request that the address names, if it names one.
 *
 * @param field the text area of the chat, which gets an input event
 * @param report shows why there is no question
 */
export async function openRequest(field, report) {
  const url = new URL(location.href)
  const id = url.searchParams.get('request')
  if (!id) return
  url.searchParams.delete('request')
  history.replaceState(null, '', url)
  try {
    const turns = readTurns(await loadRequest(id))
    const question = turns.findLast(({ role }) => role === 'user')?.content
    if (!question) throw new Error('No text is stored for this request.')
    field.value = question
    field.dispatchEvent(new Event('input', { bubbles: true }))
    field.focus()
  } catch (error) {
    report(error.message)
  }
}
