// Charts, drawn by plotly.js, which is fetched when the first one is.

// Elements by which plotly knows that it need not write rules of its own into the page, which the
// page's policy forbids: ours are in style.css, and of maps there are none.
const RULED = ['plotly.js-style-global', '9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53']

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
    for (const id of RULED) {
      const mark = document.createElement('meta')
      mark.id = id
      mark.className = 'no-inline-styles'
      document.head.append(mark)
    }
    document.head.append(script)
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

const AXIS = { fixedrange: true, automargin: true, zeroline: false, showspikes: false }

function framed({ data, layout = {}, config = {} }, colours) {
  const axis = { ...AXIS, gridcolor: colours.grid, linecolor: colours.line, tickcolor: colours.line }
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
      margin: { l: 8, r: 8, t: 28, b: 8 },
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
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
