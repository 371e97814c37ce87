// The colour scheme that the reader chose. A classic script, not a module: it runs before the first
// paint, so that no page flashes in the other scheme.

;(() => {
  const STORAGE_KEY = 'hybrid-llm-theme'
  const THEMES = ['system', 'light', 'dark']
  const root = document.documentElement

  const read = () => {
    try {
      const stored = localStorage.getItem(STORAGE_KEY)
      return THEMES.includes(stored) ? stored : 'system'
    } catch {
      return 'system' // the browser blocks storage
    }
  }

  const apply = (theme) => {
    if (theme === 'system') delete root.dataset.theme
    else root.dataset.theme = theme
    // Charts have colours of their own and are drawn again.
    document.dispatchEvent(new Event('themechange'))
  }

  apply(read())
  addEventListener('storage', ({ key }) => {
    if (key === STORAGE_KEY || key === null) apply(read())
  })

  document.addEventListener('DOMContentLoaded', () => {
    const button = document.querySelector('#theme')
    const show = () => {
      const theme = root.dataset.theme ?? 'system'
      button.dataset.shown = theme
      button.setAttribute('aria-label', `Theme: ${theme}`)
      button.title = `Theme: ${theme}`
    }
    button.addEventListener('click', () => {
      const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? 'system') + 1) % THEMES.length]
      try {
        localStorage.setItem(STORAGE_KEY, theme)
      } catch {
        // The choice lasts for this page.
      }
      apply(theme)
    })
    document.addEventListener('themechange', show)
    button.hidden = false
    show()
  })
})()
