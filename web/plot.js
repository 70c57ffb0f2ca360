// The drawing of a plan over time: pictures, I and P with their reasons, costs against gamma, tokens spent.
import { COLOURS, clock, themeColour } from "./element.js"

const GAP = 3
const AXIS = 14
const REASONS = { first: "first", cost: "cost", cap: "cap", cut: "cut", user: "pinned", slice: "slice" }

/** Edges of the frames on the time axis: each lasts until the next, the last one as long as most. */
export function frameEdges(pts) {
  const steps = pts.slice(1).map((seconds, i) => seconds - pts[i]).sort((a, b) => a - b)
  return [...pts, pts.at(-1) + (steps[steps.length >> 1] || 1)]
}

/** Where everything is in a plot of so many pixels. */
export class Layout {
  constructor(edges, width, height) {
    this.edges = edges
    this.width = width
    this.height = height
    const free = height - AXIS
    this.pictures = { top: 0, height: Math.round(Math.min(46, free * 0.22)) }
    this.marks = { top: this.pictures.height + GAP, height: 14 }
    const below = this.marks.top + this.marks.height + 13
    const rest = free - below
    this.costs = { top: below, height: Math.round(rest * 0.52) }
    this.tokens = { top: below + this.costs.height + GAP, height: rest - this.costs.height - GAP }
  }

  /** Frames grouped where several share a pixel: [first, last] positions. */
  get columns() {
    if (this.grouped) return this.grouped
    this.grouped = []
    let first = 0
    for (let i = 1; i < this.edges.length; i++) {
      if (i < this.edges.length - 1 && this.x(this.edges[i]) - this.x(this.edges[first]) < 1) continue
      this.grouped.push([first, i - 1])
      first = i
    }
    return this.grouped
  }

  x(seconds) {
    const [start, end] = [this.edges[0], this.edges.at(-1)]
    return ((seconds - start) / (end - start)) * this.width
  }

  /** Position of the frame that is shown at a pixel. */
  frameAt(x) {
    const [start, end] = [this.edges[0], this.edges.at(-1)]
    const seconds = start + (x / this.width) * (end - start)
    let low = 0
    let high = this.edges.length - 2
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.edges[middle] <= seconds) low = middle
      else high = middle - 1
    }
    return low
  }
}

/** The cost axis: square roots, so that small costs can be seen beside those of cuts. */
export class CostScale {
  constructor(pcost, gamma, area) {
    const known = pcost.reduce((most, cost) => Math.max(most, cost ?? 0), 0)
    this.highest = Math.max(1, 1.06 * known, 1.2 * (gamma ?? 0))
    this.area = area
  }

  y(cost) {
    const { top, height } = this.area
    return top + height - Math.sqrt(Math.min(cost, this.highest) / this.highest) * (height - 2)
  }

  cost(y) {
    const { top, height } = this.area
    const part = Math.min(1, Math.max(0, (top + height - y) / (height - 2)))
    return part * part * this.highest
  }
}

/** A canvas scaled to the screen's pixels; gives its pen, cleared. */
export function penOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== wide) canvas.width = wide
  if (canvas.height !== high) canvas.height = high
  const pen = canvas.getContext("2d")
  pen.setTransform(ratio, 0, 0, ratio, 0, 0)
  pen.clearRect(0, 0, width, height)
  return pen
}

/**
 * Draw everything that a moving cursor leaves as it is. `made` is what rule.js or the run decided, `marks` are the
 * changes of shot as [kind, first second, last second].
 */
export function drawPlan(pen, root, layout, scale, data, made, store, budget, marks) {
  const text = themeColour(root, "--descrip-text", "#999")
  pen.font = "10px sans-serif"
  drawPictures(pen, layout, made, store)
  drawMarks(pen, layout, made, text)
  drawBars(pen, layout, scale, data, made)
  drawTokens(pen, layout, data, made, budget, text)
  drawChanges(pen, layout, marks)
  pen.fillStyle = text
  pen.textBaseline = "alphabetic"
  const places = Math.max(2, Math.floor(layout.width / 110))
  const [start, end] = [layout.edges[0], layout.edges.at(-1)]
  for (let i = 0; i <= places; i++) {
    pen.textAlign = i === 0 ? "left" : i === places ? "right" : "center"
    pen.fillText(clock(start + ((end - start) * i) / places, 1), (layout.width * i) / places, layout.height - 3)
  }
  pen.textAlign = "left"
}

/** Cuts as lines at their own time, between two samples mostly; fades, dissolves and wipes as bands. */
function drawChanges(pen, layout, marks) {
  pen.strokeStyle = pen.fillStyle = COLOURS.cut
  const [top, bottom] = [layout.marks.top, layout.height - AXIS]
  for (const [kind, first, last] of marks) {
    const [left, right] = [layout.x(first), layout.x(last)]
    if (kind === "cut") dashed(pen, left, top, left, bottom)
    else {
      pen.globalAlpha = 0.25
      pen.fillRect(left, top, Math.max(right - left, 2), bottom - top)
      pen.globalAlpha = 1
    }
  }
}

function drawPictures(pen, layout, made, store) {
  const { top, height } = layout.pictures
  const wide = height * store.aspect
  const left = (i) => Math.min(layout.x(layout.edges[i]), layout.width - wide)
  const whole = []
  const others = []
  for (let i = 0; i < made.kind.length; i++) (made.kind[i] === "I" ? whole : others).push(i)
  const taken = new Uint8Array(Math.ceil(layout.width) + 1)
  for (const i of [...whole, ...others]) {
    const from = Math.max(0, Math.round(left(i)))
    const to = Math.min(layout.width, Math.round(left(i) + wide))
    if (taken[from] || taken[to - 1] || taken[(from + to) >> 1]) continue
    taken.fill(1, from, to + 2)
    pen.globalAlpha = made.kind[i] === "I" ? 1 : 0.55
    if (!store.draw(pen, i, from, top, wide, height)) {
      pen.fillStyle = "#8884"
      pen.fillRect(from, top, wide, height)
    }
    pen.globalAlpha = 1
    if (made.kind[i] === "I") {
      pen.strokeStyle = COLOURS.I
      pen.lineWidth = 1.5
      pen.strokeRect(from + 0.75, top + 0.75, wide - 1.5, height - 1.5)
    }
  }
  pen.lineWidth = 1
}

function drawMarks(pen, layout, made, text) {
  const { top, height } = layout.marks
  for (const [first, last] of layout.columns) {
    const left = layout.x(layout.edges[first])
    const right = layout.x(layout.edges[last + 1])
    const kind = strongest(made.kind, first, last)
    const low = kind === "I" ? 0 : 4
    const wide = Math.max(right - left - (right - left >= 4 ? 1 : 0), 0.75)
    pen.fillStyle = COLOURS[kind]
    pen.fillRect(left, top + low, wide, height - low)
    if (first === last && right - left >= 12 && kind !== ".") {
      pen.fillStyle = "#fff"
      pen.textAlign = "center"
      pen.textBaseline = "middle"
      pen.fillText(kind, (left + right) / 2, top + (low + height) / 2 + 1)
    }
  }
  pen.textAlign = "left"
  pen.textBaseline = "top"
  let free = 0
  for (let i = 0; i < made.kind.length; i++) {
    if (made.kind[i] !== "I") continue
    const x = layout.x(layout.edges[i])
    const words = REASONS[made.why[i]] ?? ""
    if (x < free || x + 6 * words.length > layout.width) continue
    pen.fillStyle = text
    pen.fillText(words, x, top + height + 1)
    free = x + pen.measureText(words).width + 5
  }
}

function strongest(kind, first, last) {
  let found = "."
  for (let i = first; i <= last; i++) {
    if (kind[i] === "I") return "I"
    if (kind[i] === "P") found = "P"
  }
  return found
}

function drawBars(pen, layout, scale, data, made) {
  const bottom = layout.costs.top + layout.costs.height
  for (const [first, last] of layout.columns) {
    let highest = null
    for (let i = first; i <= last; i++) if (data.pcost[i] !== null) highest = Math.max(highest ?? 0, data.pcost[i])
    if (highest === null) continue
    const left = layout.x(layout.edges[first])
    const wide = layout.x(layout.edges[last + 1]) - left
    pen.fillStyle = COLOURS[strongest(made.kind, first, last)]
    pen.fillRect(left, scale.y(highest), Math.max(wide - (wide >= 4 ? 1 : 0), 0.75), bottom - scale.y(highest))
  }
}

function drawTokens(pen, layout, data, made, budget, text) {
  const { top, height } = layout.tokens
  const bottom = top + height
  const highest = tokensHighest(data, made, budget)
  const y = (tokens) => bottom - (tokens / highest) * (height - 2)
  pen.beginPath()
  pen.moveTo(0, bottom)
  let total = 0
  for (const [first, last] of layout.columns) {
    for (let i = first; i <= last; i++) total += made.tokens[i]
    pen.lineTo(layout.x(layout.edges[first]), y(total))
    pen.lineTo(layout.x(layout.edges[last + 1]), y(total))
  }
  pen.lineTo(layout.width, bottom)
  pen.fillStyle = COLOURS.I
  pen.globalAlpha = 0.45
  pen.fill()
  pen.globalAlpha = 1
  pen.strokeStyle = text
  pen.fillStyle = text
  pen.textBaseline = "bottom"
  for (const [whole, words] of [[data.rgb_per_frame, "every frame whole"], [data.rgb_paired, "native pairs"]]) {
    pen.beginPath()
    pen.moveTo(0, bottom)
    pen.lineTo(layout.width, y(whole))
    pen.stroke()
    pen.textAlign = "right"
    pen.fillText(words, layout.width * 0.72, y(whole * 0.72) - 2)
  }
  pen.textAlign = "left"
}

/** The highest number of tokens on the axis. */
export function tokensHighest(data, made, budget) {
  return 1.04 * Math.max(data.rgb_per_frame, made.promptTokens, Math.min(budget ?? 0, 1.2 * data.rgb_per_frame), 1)
}

/** A line across with its name at the right, such as gamma; `strong` while it is dragged. */
export function drawLevel(pen, layout, y, colour, words, strong) {
  pen.strokeStyle = colour
  pen.lineWidth = strong ? 2 : 1.25
  dashed(pen, 0, y, layout.width, y)
  pen.lineWidth = 1
  pen.font = "10px sans-serif"
  const wide = pen.measureText(words).width + 10
  const top = Math.max(0, y - 15)
  pen.fillStyle = colour
  pen.fillRect(layout.width - wide, top, wide, 14)
  pen.fillStyle = "#fff"
  pen.textAlign = "left"
  pen.textBaseline = "middle"
  pen.fillText(words, layout.width - wide + 5, top + 7.5)
}

function dashed(pen, x1, y1, x2, y2) {
  pen.setLineDash([5, 4])
  pen.beginPath()
  pen.moveTo(x1, y1)
  pen.lineTo(x2, y2)
  pen.stroke()
  pen.setLineDash([])
}

/** The frame under the cursor with arrows from where its content was to where it is. */
export function drawFrame(pen, store, position, width, height) {
  if (!store.draw(pen, position, 0, 0, width, height)) return
  const motion = store.motionOf(position)
  if (!motion) return
  const [across, down] = [width / motion.columns, height / motion.rows]
  const longest = Math.min(across, down) * 4
  pen.lineWidth = 1.25
  for (let row = 0; row < motion.rows; row++) {
    for (let column = 0; column < motion.columns; column++) {
      const [dx, dy] = motion.at(row, column)
      if (Math.hypot(dx, dy) < 0.012) continue
      const [x, y] = [(column + 0.5) * across, (row + 0.5) * down]
      pen.strokeStyle = `hsl(${(Math.atan2(-dy, -dx) * 180) / Math.PI} 90% 60%)`
      pen.beginPath()
      pen.moveTo(x + dx * longest, y + dy * longest)
      pen.lineTo(x, y)
      pen.stroke()
      pen.fillStyle = pen.strokeStyle
      pen.fillRect(x - 1, y - 1, 2.5, 2.5)
    }
  }
}
