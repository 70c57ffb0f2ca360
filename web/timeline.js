// The timeline on Plan GOP and Encode Video: what was planned and why, what it spends, and what other settings would do.
import { COLOURS, amount, make, themeColour } from "./element.js"
import { FrameStore } from "./frames.js"
import { CostScale, Layout, drawFrame, drawLevel, drawPlan, frameEdges, penOf, tokensHighest } from "./plot.js"
import { leastBudget, plan, short } from "./rule.js"
import { Settings } from "./settings.js"

export const TIMELINE_HEIGHT = 320
export const COMPACT_HEIGHT = 210
const MONITOR_HEIGHT = 84
const COMPACT_MONITOR_HEIGHT = 56
const NEAR = 6
const STYLE = `
.codeclens-timeline { position: relative; display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%;
  box-sizing: border-box; padding: 6px 8px; border-radius: 6px; overflow: hidden;
  font: 11px sans-serif; color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); }
.codeclens-timeline .quiet { color: var(--descrip-text, #999); }
.codeclens-timeline .head { display: flex; gap: 8px; align-items: baseline; white-space: nowrap; }
.codeclens-timeline .name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; }
.codeclens-timeline .total { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; flex: none; }
.codeclens-timeline select { font: inherit; color: inherit; background: var(--comfy-menu-bg, #333); max-width: 100%;
  border: 1px solid var(--border-color, #555); border-radius: 4px; }
.codeclens-timeline .side { display: flex; flex-direction: column; gap: 3px; flex: 1; min-width: 0; }
.codeclens-timeline .notes { flex: 1; overflow-y: auto; }
.codeclens-timeline .notes > * { overflow-wrap: anywhere; }
.codeclens-timeline .warning::before { content: "! "; color: ${COLOURS.gamma}; font-weight: 700; }
.codeclens-timeline .monitor { display: flex; gap: 8px; flex: none; }
.codeclens-timeline .monitor canvas { height: 100%; border-radius: 4px; background: #0006; flex: none; }
.codeclens-timeline .about { white-space: pre-line; line-height: 1.35; flex: none; }
.codeclens-timeline .plot { position: relative; flex: 1; min-height: 80px; outline: none; touch-action: none; }
.codeclens-timeline .plot:focus-visible { box-shadow: 0 0 0 1px var(--input-text, #ddd); }
.codeclens-timeline .plot canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.codeclens-timeline .legend { display: flex; flex-wrap: wrap; gap: 2px 10px; overflow: hidden; max-height: 28px; flex: none; }
.codeclens-timeline [hidden] { display: none; }
.codeclens-timeline .legend i { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 4px; }
`

/** Cuts and fades that other nodes found, by the first contact sheet of the video. */
const KNOWN = new Map()

/** What Draw Plan found in a video, for the timelines of all its plans: {strip, marks}. */
export function addMarks({ strip, marks }) {
  KNOWN.set(strip, marks)
}

export class Timeline {
  /** `editable`: the node is a Plan GOP, so that its widgets can be changed here; others have a smaller one to read. */
  constructor(node, editable) {
    this.node = node
    this.settings = editable ? new Settings(node) : null
    this.monitorHeight = editable ? MONITOR_HEIGHT : COMPACT_MONITOR_HEIGHT
    this.clips = []
    this.cursor = 0
    this.abort = new AbortController()
    this.build()
    const options = { signal: this.abort.signal }
    for (const [name, handler] of Object.entries({
      pointerdown: (event) => this.press(event),
      pointermove: (event) => this.move(event),
      pointerup: (event) => this.release(event),
      pointercancel: (event) => this.release(event),
      keydown: (event) => this.type(event),
    })) this.plot.addEventListener(name, handler, options)
    this.select.addEventListener("change", () => this.choose(Number(this.select.value)), options)
    this.resized = new ResizeObserver(() => this.redraw())
    this.resized.observe(this.root)
    // A widget may change by hand, by undo or by another extension, and only some of these call it.
    this.watch = setInterval(() => this.root.isConnected && this.replan(), 250)
    this.show([])
  }

  build() {
    this.select = make("select", { title: "Which clip of the list" })
    this.name = make("span", { class: "name" })
    this.total = make("div", { class: "total quiet" })
    this.notes = make("div", { class: "notes" })
    this.frame = make("canvas")
    this.about = make("div", { class: "about" })
    this.base = make("canvas")
    this.top = make("canvas")
    this.plot = make("div", { class: "plot", tabIndex: 0, title: "" }, this.base, this.top)
    this.plot.setAttribute("role", "slider")
    this.plot.setAttribute("aria-label", "Frames of the plan")
    this.legend = make("div", { class: "legend quiet" })
    this.root = make(
      "div",
      { class: "codeclens-timeline" },
      make("style", { textContent: STYLE }),
      make("div", { class: "head" }, this.select, this.name),
      this.total,
      make("div", { class: "monitor", style: `height:${this.monitorHeight}px` }, this.frame, make("div", { class: "side" }, this.about, this.notes)),
      this.plot,
      this.legend,
    )
    this.root.style.minHeight = `${this.settings ? TIMELINE_HEIGHT : COMPACT_HEIGHT}px`
    this.legend.hidden = !this.settings
  }

  remove() {
    this.abort.abort()
    this.resized.disconnect()
    clearInterval(this.watch)
  }

  /** Show what a run sent: one object for each clip of a list. */
  show(clips) {
    this.clips = clips
    this.failed = ""
    this.select.replaceChildren(...clips.map((clip, i) => make("option", { value: i, textContent: `${i + 1}. ${clip.name}` })))
    this.select.hidden = clips.length < 2
    this.choose(0)
  }

  /** The run ended before this node: what is known is of an older one. */
  fail(words) {
    this.failed = words
    this.clips = []
    this.select.hidden = true
    this.choose(0)
  }

  choose(number) {
    this.data = this.clips[number] ?? null
    this.select.value = number
    this.key = ""
    this.made = null
    if (this.data) {
      this.edges = frameEdges(this.data.pts)
      this.store = new FrameStore(this.data.strip, this.data.motion, () => this.redraw())
    }
    this.replan()
    this.cursor = Math.max(0, this.made?.kind.indexOf("I") ?? 0)
    this.redraw()
  }

  /** What the widgets say now, decided at once; the run's own decision where nothing has changed. */
  replan() {
    if (!this.data) return
    const chosen = this.settings && this.data.settings ? this.settings.read(this.data) : null
    const key = JSON.stringify(chosen)
    if (key === this.key && this.made) return
    this.key = key
    this.chosen = chosen
    this.problem = ""
    const ran = asRun(this.data)
    if (!chosen || key === this.keyOfRun()) this.made = ran
    else {
      try {
        this.made = plan(chosen.cuts ? this.data : { ...this.data, cuts: [] }, chosen)
      } catch (error) {
        this.problem = error.message
        this.made = ran
      }
    }
    this.changed = this.made !== ran && !same(this.made, ran)
    this.redraw()
  }

  /** Cuts and fades as [kind, first second, last second], where some node has found them. */
  get marks() {
    const found = this.data.marks ?? []
    return found.length ? found : KNOWN.get(this.data.strip?.files[0]) ?? []
  }

  keyOfRun() {
    const { data } = this
    const ran = new Settings({ widgets: widgetsOf(data.settings), inputs: [] })
    return JSON.stringify(ran.read(data))
  }

  /** Move to a time, as a link in an answer does; false where this timeline does not show that clip. */
  seek(name, seconds) {
    const number = this.clips.findIndex((clip) => clip.name === name)
    if (number < 0) return false
    if (this.clips[number] !== this.data) this.choose(number)
    this.point(new Layout(this.edges, 1, 1).frameAt((seconds - this.edges[0]) / (this.edges.at(-1) - this.edges[0])))
    return true
  }

  point(position) {
    const last = this.data ? this.data.pts.length - 1 : 0
    this.cursor = Math.min(last, Math.max(0, position))
    this.redraw("cursor")
  }

  // Pointer and keys -------------------------------------------------------------------------------------------

  place(event) {
    // A drag may show another input of the node, which moves the plot away from under the pointer.
    const box = this.drag?.box ?? this.plot.getBoundingClientRect()
    const scale = this.plot.clientWidth / box.width
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]
  }

  /** What lies under the pointer: "gamma", "budget" or "frames". */
  partAt([, y]) {
    if (this.canDrag("gamma") && Math.abs(y - this.scale.y(this.made.gamma)) <= NEAR) return "gamma"
    if (this.canDrag("budget") && Math.abs(y - this.budgetY()) <= NEAR) return "budget"
    return "frames"
  }

  canDrag(what) {
    if (!this.settings || !this.chosen || !this.layout) return false
    if (what === "budget") return this.chosen.policy === "budget" && this.settings.editable("policy.budget")
    return this.made.gamma !== null && this.settings.editable("policy.gamma") && this.settings.editable("policy.gamma_value")
  }

  press(event) {
    if (!this.data || event.button !== 0) return
    event.stopPropagation()
    this.plot.focus({ preventScroll: true })
    this.plot.setPointerCapture(event.pointerId)
    const at = this.place(event)
    this.drag = { part: this.partAt(at), from: at, moved: false, box: this.plot.getBoundingClientRect() }
    this.move(event)
  }

  move(event) {
    if (!this.data || !this.layout) return
    const at = this.place(event)
    const { drag } = this
    if (drag && Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 3) drag.moved = true
    const part = drag?.part ?? this.partAt(at)
    this.plot.style.cursor = part === "frames" ? "pointer" : "ns-resize"
    if (drag?.moved && part === "gamma") this.setGamma(this.scale.cost(at[1]))
    else if (drag?.moved && part === "budget") this.setBudget(this.tokensAt(at[1]))
    else if (part === "frames") this.point(this.layout.frameAt(at[0]))
  }

  release(event) {
    const { drag } = this
    this.drag = null
    if (!drag || !this.data) return
    if (event.type === "pointerup" && !drag.moved && drag.part === "frames") this.cycle(this.nearestWhole(drag.from[0]))
    else if (drag.moved && drag.part !== "frames") this.settings.finish()
    this.redraw()
  }

  /** The frame at a pixel, or the I frame within a few pixels of it. */
  nearestWhole(x) {
    const exact = this.layout.frameAt(x)
    const near = [exact, this.layout.frameAt(x - 3), this.layout.frameAt(x + 3)]
    return near.find((position) => this.made.kind[position] === "I") ?? exact
  }

  type(event) {
    if (!this.data) return
    const whole = (step) => {
      let position = this.cursor + step
      while (this.made.kind[position] && this.made.kind[position] !== "I") position += step
      return this.made.kind[position] ? position : this.cursor
    }
    const steps = {
      ArrowLeft: () => this.point(event.shiftKey ? whole(-1) : this.cursor - 1),
      ArrowRight: () => this.point(event.shiftKey ? whole(1) : this.cursor + 1),
      Home: () => this.point(0),
      End: () => this.point(this.data.pts.length - 1),
      Enter: () => this.cycle(this.cursor),
      " ": () => this.cycle(this.cursor),
      ArrowUp: () => this.canDrag("gamma") && this.setGamma(this.made.gamma * 1.05),
      ArrowDown: () => this.canDrag("gamma") && this.setGamma(this.made.gamma / 1.05),
    }
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    steps[event.key]()
    if (event.key === "ArrowUp" || event.key === "ArrowDown") this.settings?.finish()
  }

  cycle(position) {
    this.point(position)
    const name = this.chosen?.policy === "frames" ? "policy.frames" : "pinned"
    if (!this.chosen || !this.settings.editable(name)) return
    this.settings.cycle(position, this.chosen)
    this.replan()
  }

  setGamma(cost) {
    const gamma = Number(cost.toPrecision(4))
    this.settings.write({ "policy.gamma": "value", "policy.gamma_value": gamma })
    this.replan()
  }

  setBudget(tokens) {
    const least = leastBudget(this.data, this.chosen.mode)
    this.settings.write({ "policy.budget": Math.max(least, Math.round(tokens / 8) * 8) })
    this.replan()
  }

  budgetY() {
    const { top, height } = this.layout.tokens
    const level = Math.min(this.chosen.budget / tokensHighest(this.data, this.made, this.chosen.budget), 1)
    return top + height - level * (height - 2)
  }

  tokensAt(y) {
    const { top, height } = this.layout.tokens
    const part = Math.min(1, Math.max(0, (top + height - y) / (height - 2)))
    return part * tokensHighest(this.data, this.made, this.chosen.budget)
  }

  // Drawing ----------------------------------------------------------------------------------------------------

  /** Draw in the next frame of the screen: all of it, or what follows the cursor alone. */
  redraw(what = "all") {
    this.wanted = this.wanted === "all" ? "all" : what
    this.frameRequest ??= requestAnimationFrame(() => {
      this.frameRequest = null
      this.draw()
    })
  }

  draw() {
    const what = this.wanted
    this.wanted = undefined
    if (what === "all" || !this.size) this.size = [this.plot.clientWidth, this.plot.clientHeight]
    const [width, height] = this.size
    this.root.dataset.kind = this.data ? this.made.kind : ""
    this.root.dataset.state = this.failed ? "failed" : this.data ? (this.changed ? "changed" : "ran") : "empty"
    if (!width || !height) return
    if (what === "all" || !this.layout) this.drawBase(width, height)
    this.drawCursor(width, height)
  }

  drawBase(width, height) {
    const pen = penOf(this.base, width, height)
    this.ink = themeColour(this.root, "--input-text", "#ddd")
    this.write()
    this.layout = null
    if (!this.data) return
    this.layout = new Layout(this.edges, width, height)
    this.scale = new CostScale(this.data.pcost, this.made.gamma, this.layout.costs)
    if (this.drag?.part === "gamma") this.scale.highest = this.heldHighest ?? this.scale.highest
    this.heldHighest = this.scale.highest
    const budget = this.chosen?.policy === "budget" ? this.chosen.budget : null
    drawPlan(pen, this.root, this.layout, this.scale, this.data, this.made, this.store, budget, this.marks)
    if (this.made.gamma !== null) {
      const words = `gamma ${short(this.made.gamma)}`
      drawLevel(pen, this.layout, this.scale.y(this.made.gamma), COLOURS.gamma, words, this.drag?.part === "gamma")
    }
    if (budget !== null) drawLevel(pen, this.layout, this.budgetY(), COLOURS.budget, `budget ${budget}`, this.drag?.part === "budget")
  }

  drawCursor(width, height) {
    const pen = penOf(this.top, width, height)
    const wide = Math.round(this.monitorHeight * (this.store?.aspect ?? 16 / 9))
    if (this.frameWidth !== wide) this.frame.style.width = `${wide}px`
    this.frameWidth = wide
    const picture = penOf(this.frame, wide, this.monitorHeight)
    if (!this.data || !this.layout) return
    const left = this.layout.x(this.edges[this.cursor])
    const right = this.layout.x(this.edges[this.cursor + 1])
    pen.fillStyle = this.ink
    pen.globalAlpha = 0.22
    pen.fillRect(left, this.layout.marks.top, Math.max(right - left, 1), height)
    pen.globalAlpha = 1
    pen.fillRect(left, 0, 1, height - 14)
    drawFrame(picture, this.store, this.cursor, wide, this.monitorHeight)
    this.about.textContent = this.describe(this.cursor)
    this.plot.setAttribute("aria-valuenow", this.cursor)
    this.plot.setAttribute("aria-valuetext", this.about.textContent)
  }

  /** The words beside the frame under the cursor. */
  describe(i) {
    const { data, made } = this
    const reasons = {
      first: i ? "the first clear frame" : "the first frame", cost: "its cost is above gamma", cap: "the cap of predicted frames", cut: "a cut before it",
      user: "pinned by you", slice: "the start of a slice",
    }
    const kinds = { I: `whole picture: ${reasons[made.why[i]]}`, P: "predicted", ".": "not shown" }
    const released = this.chosen?.released.includes(i) ? " (released by you)" : ""
    const lines = [`${data.pts[i].toFixed(2)} s, frame ${data.index[i]}: ${kinds[made.kind[i]]}${released}`]
    const known = data.pcost[i] !== null
    const level = known && made.gamma !== null ? ` (${Math.round((100 * data.pcost[i]) / made.gamma)} % of gamma)` : ""
    const cost = known ? `, cost ${amount(data.pcost[i])}${level}` : ""
    lines.push(`sample ${i} of ${data.pts.length}, ${made.tokens[i]} tokens${cost}`)
    return lines.join("\n")
  }

  /** Everything that is text. */
  write() {
    const { data, made } = this
    this.name.hidden = this.clips.length > 1
    this.name.textContent = data?.name ?? ""
    if (!data) {
      this.written = ""
      this.notes.replaceChildren()
      this.legend.replaceChildren()
      const words = this.failed ? `No plan: the run stopped. ${this.failed}` : "Run the workflow to see the plan."
      this.about.textContent = words
      this.total.textContent = ""
      return
    }
    const tokens = made.tokens.reduce((total, own) => total + own, 0)
    const part = (whole) => `${Math.round((100 * tokens) / whole)} %`
    this.total.textContent =
      `${tokens} tokens (${made.promptTokens} in the prompt), ${part(data.rgb_per_frame)} of every frame whole, ` +
      `${part(data.rgb_paired)} of native pairs`
    const notes = [...made.warnings, ...(this.problem ? [this.problem] : [])].map((words) => ["warning", words])
    if (this.changed) {
      const words = ["Planned here with the new settings; run to use it."]
      if (this.chosen.gammaFound === "auto" && this.chosen.cap !== (data.settings.cap ?? 16)) words.push("Gamma auto is found again then.")
      if (this.chosen.cuts && !data.settings.start_at_cuts) words.push("Cuts are found then.")
      notes.push(["quiet", words.join(" ")])
    }
    if (!this.settings) notes.push(["quiet", "To read: frames are pinned and gamma is set on Plan GOP."])
    const entries = [[COLOURS.I, "I, whole"], [COLOURS.P, "P, predicted"]]
    if (made.kind.includes(".")) entries.push([COLOURS["."], "not shown"])
    if (made.gamma !== null) entries.push([COLOURS.gamma, this.canEditGamma() ? "gamma: drag" : "gamma"])
    if (this.chosen?.policy === "budget") entries.push([COLOURS.budget, "budget: drag"])
    const kinds = new Set(this.marks.map(([kind]) => kind))
    if (kinds.size) entries.push([COLOURS.cut, [...kinds].join(", ")])
    if (this.settings) entries.push(["", "click a frame: whole, predicted, automatic"])
    const written = JSON.stringify([notes, entries])
    if (this.written === written) return
    this.written = written
    this.notes.replaceChildren(...notes.map(([kind, words]) => make("div", { class: kind, textContent: words })))
    this.legend.replaceChildren(
      ...entries.map(([colour, words]) => make("span", {}, ...(colour ? [make("i", { style: `background:${colour}` })] : []), words)),
    )
  }

  canEditGamma() {
    return Boolean(this.settings?.editable("policy.gamma") && this.settings.editable("policy.gamma_value"))
  }
}

/** What the run decided, in the form of rule.js. */
function asRun(data) {
  if (data.asRun) return data.asRun
  const reasons = [...data.why]
  const opens = new Set(data.i_frames)
  const why = Array.from({ length: data.pts.length }, (_, i) => (opens.has(i) ? reasons.shift() : ""))
  const made = {
    kind: data.kind, why, gamma: data.gamma, tokens: data.tokens_per_frame, promptTokens: data.prompt_tokens,
    warnings: data.warnings,
  }
  Object.defineProperty(data, "asRun", { value: made })
  return made
}

function same(one, other) {
  return one.kind === other.kind && one.promptTokens === other.promptTokens && one.gamma === other.gamma
}

/** Stand-ins for the widgets of the run that sent these settings. */
function widgetsOf(settings) {
  const own = ["mode", "start_at_cuts", "clear_pictures", "pinned", "policy"]
  return Object.entries(settings).map(([name, value]) => ({ name: own.includes(name) ? name : `policy.${name}`, value }))
}

