// Charts drawn by plotly.js, which is loaded with the first chart.

// IDs of placeholder elements that stop plotly from injecting its own CSS rules, which the page's
// policy forbids. style.css has the rules for charts; maps are not used.
const STYLE_IDS = [
  'plotly.js-style-global',
  '9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53',
]

let library = null

/** Load the library, which takes a while, before the first chart. */
export function load() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = '/ui/vendor/plotly.js'
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => {
      library = null
      reject(new Error('The chart library could not be loaded.'))
    }
    for (const id of STYLE_IDS) {
      const mark = document.createElement('meta')
      mark.id = id
      mark.className = 'no-inline-styles'
      document.head.append(mark)
    }
    document.head.append(script)
  })
  return library
}

/** Read the colours of the current colour scheme, by name, in the format that plotly reads. */
export function readPalette() {
  const probe = document.createElement('span')
  document.body.append(probe)
  const colour = (name) => {
    probe.style.color = `var(--${name})`
    return getComputedStyle(probe).color
  }
  const names = [
    'text',
    'dim',
    'line',
    'surface',
    'local',
    'cloud',
    'accent',
    'warn',
    'danger',
    'saved',
  ]
  const colours = Object.fromEntries(names.map((name) => [name, colour(name)]))
  probe.remove()
  colours.grid = colours.line
  colours.series = ['accent', 'local', 'cloud', 'warn', 'danger', 'dim'].map(
    (name) => colours[name],
  )
  return colours
}

const AXIS = { fixedrange: true, automargin: true, zeroline: false, showspikes: false }

function buildFigure({ data, layout = {}, config = {} }, colours) {
  const axis = {
    ...AXIS,
    gridcolor: colours.grid,
    linecolor: colours.line,
    tickcolor: colours.line,
  }
  const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name))
  const styledAxes = Object.fromEntries(
    [...new Set(['xaxis', 'yaxis', ...axes])].map((name) => [name, { ...axis, ...layout[name] }]),
  )
  return [
    data,
    {
      paper_bgcolor: 'transparent',
      plot_bgcolor: 'transparent',
      font: { color: colours.dim, family: 'system-ui, sans-serif', size: 12 },
      margin: { l: 8, r: 8, t: 28, b: 8 },
      // In the order of the traces, which is that of stacked bars from below.
      legend: { orientation: 'h', traceorder: 'normal', x: 0, y: 1.02, yanchor: 'bottom' },
      hovermode: 'x unified',
      hoverlabel: {
        bgcolor: colours.surface,
        bordercolor: colours.line,
        font: { color: colours.text },
      },
      dragmode: false,
      ...layout,
      ...styledAxes,
    },
    { displayModeBar: false, ...config },
  ]
}

const charts = new Map() // element: the function that draws its chart

/** Free the charts whose elements are no longer in the page. */
function freeRemoved() {
  for (const element of charts.keys()) {
    if (element.isConnected) continue
    charts.delete(element)
    sizes.unobserve(element)
    window.Plotly?.purge(element)
  }
}

function drawAll() {
  freeRemoved()
  for (const draw of charts.values()) draw()
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll)
document.addEventListener('themechange', drawAll)

// Also for what was drawn while it was hidden, when it had no width.
const sizes = new ResizeObserver(async (entries) => {
  const { Plots } = await load()
  for (const { target } of entries) {
    const width = target.clientWidth // rounded
    const drawn = target._fullLayout?.width ?? 0
    if (width && charts.has(target) && Math.abs(width - drawn) >= 1) Plots.resize(target)
  }
})

/**
 * Draw a chart into an element, as wide as it, and redraw it when the colour scheme changes.
 *
 * @param make takes the palette and returns plotly's {data, layout}
 * @returns update: redraws the chart in place
 */
export function drawChart(element, make) {
  const draw = async () => {
    try {
      const plotly = await load()
      const colours = readPalette()
      await plotly.react(element, ...buildFigure(make(colours), colours))
      element.removeAttribute('data-failed')
      sizes.observe(element)
    } catch (error) {
      element.dataset.failed = error.message
    }
  }
  freeRemoved()
  charts.set(element, draw)
  draw()
  return { update: draw }
}
