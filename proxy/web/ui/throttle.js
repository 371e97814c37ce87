// Drawing of text that arrives: at most once a frame, and at most a quarter of the time.

const INTERVAL_FACTOR = 4 // the time between two draws, in proportion to the last one's duration

/** A function that schedules `work`, in animation frames; `cancel` drops what is scheduled. */
export function throttle(work) {
  let pending = null
  let notBefore = 0
  const frame = (now) => {
    if (now < notBefore) {
      pending = requestAnimationFrame(frame)
      return
    }
    pending = null
    const startedAt = performance.now()
    work()
    notBefore = startedAt + INTERVAL_FACTOR * (performance.now() - startedAt)
  }
  const schedule = () => {
    pending ??= requestAnimationFrame(frame)
  }
  schedule.cancel = () => {
    cancelAnimationFrame(pending)
    pending = null
  }
  return schedule
}
