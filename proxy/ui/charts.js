// Charts, drawn by plotly.js, which is fetched when the first one is.

let library = null

function load() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = '/ui/plotly.min.js'
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => {
      library = null
      reject(new Error('The charts could not be loaded.'))
    }
    // Says that the rules which plotly would write into the page are in our stylesheet.
    const rules = document.createElement('meta')
    rules.id = 'plotly.js-style-global'
    rules.className = 'no-inline-styles'
    document.head.append(rules, script)
  })
  return library
}

/** The colours of this moment's scheme, by name, as plotly reads them. */
export function palette() {
  const probe = document.createElement('span')
  document.body.append(probe)
  const colour = (name) => {
    probe.style.color = `var(--${name})`
    return getComputedStyle(probe).color
  }
  const names = ['text', 'dim', 'line', 'surface', 'local', 'cloud', 'accent', 'warn', 'danger', 'saved']
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]))
  probe.remove()
  found.grid = found.line
  found.series = [found.accent, found.local, found.cloud, found.warn, found.danger, found.dim]
  return found
}

const number = { fixedrange: true, automargin: true, zeroline: false }

function framed({ data, layout = {}, config = {} }, colours) {
  const axis = { ...number, gridcolor: colours.grid, linecolor: colours.line, tickcolor: colours.line }
  const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name))
  const joined = Object.fromEntries(
    [...new Set(['xaxis', 'yaxis', ...axes])].map((name) => [name, { ...axis, ...layout[name] }]),
  )
  return [
    data,
    {
      paper_bgcolor: 'transparent',
      plot_bgcolor: 'transparent',
      font: { color: colours.dim, family: 'system-ui, sans-serif', size: 12 },
      margin: { l: 8, r: 8, t: 8, b: 8 },
      legend: { orientation: 'h', x: 0, y: -0.15, yanchor: 'top' },
      hovermode: 'x unified',
      hoverlabel: {
        bgcolor: colours.surface,
        bordercolor: colours.line,
        font: { color: colours.text },
      },
      dragmode: false,
      ...layout,
      ...joined,
    },
    { displayModeBar: false, responsive: true, ...config },
  ]
}

/**
 * Draw a chart into an element, and again when the colours change.
 *
 * @param make gets the palette and returns plotly's {data, layout}
 * @returns update: draw it anew, in place; ready: whether that was possible, as a promise
 */
export function chart(element, make) {
  const draw = async () => {
    try {
      const plotly = await load()
      const colours = palette()
      await plotly.react(element, ...framed(make(colours), colours))
      element.removeAttribute('data-failed')
      return true
    } catch (error) {
      element.dataset.failed = error.message
      return false
    }
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw)
  return { update: draw, ready: draw() }
}
