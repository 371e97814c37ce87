// Frames that scroll can be reached by keyboard; the others do not stop it.

const TOLERANCE = 8 // pixels by which the ink of a formula may exceed its box

const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const frame = target.closest('[data-scrolls]')
    if (frame) update(frame)
  }
})

function update(frame) {
  const scrolls =
    frame.scrollWidth > frame.clientWidth + (frame.localName === 'math' ? TOLERANCE : 0) ||
    (frame.localName === 'pre' && frame.scrollHeight > frame.clientHeight)
  if (scrolls === frame.hasAttribute('tabindex')) return
  if (scrolls) {
    frame.setAttribute('tabindex', '0')
    frame.setAttribute('role', 'group')
    frame.setAttribute('aria-label', frame.dataset.scrolls)
  } else {
    for (const name of ['tabindex', 'role', 'aria-label']) frame.removeAttribute(name)
  }
}

/** Make a frame reachable by keyboard while its content is larger than it. */
export function watchOverflow(frame, content, label) {
  frame.dataset.scrolls = label
  observer.observe(frame)
  observer.observe(content)
}
