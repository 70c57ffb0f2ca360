// The timeline on Plan GOP: which frames are whole pictures, what each costs to predict, what that spends.
import { app } from "../../scripts/app.js"

const NODE = "CodecLensPlanGOP"
const KEY = "codeclens_plan"
const HEIGHT = 132
const COLOURS = { I: "#ffb74d", P: "#4f97c7", ".": "#6b7280", gamma: "#f0626e" }

function colour(element, name, fallback) {
  return getComputedStyle(element).getPropertyValue(name).trim() || fallback
}

function edges(plan) {
  const last = plan.pts.length - 1
  const steps = plan.pts.slice(1).map((seconds, i) => seconds - plan.pts[i]).sort((a, b) => a - b)
  return [...plan.pts, plan.pts[last] + (steps[Math.floor(steps.length / 2)] || 1)]
}

class Timeline {
  constructor() {
    this.root = document.createElement("div")
    this.root.className = "codeclens-timeline"
    this.root.style.cssText = `position:relative;width:100%;height:100%;min-height:${HEIGHT}px;box-sizing:border-box;`
      + "border-radius:6px;overflow:hidden;font:11px sans-serif;background:var(--comfy-input-bg,#222);"
    this.canvas = document.createElement("canvas")
    this.canvas.style.cssText = "position:absolute;inset:0;width:100%;height:100%;"
    this.line = document.createElement("div")
    this.line.style.cssText = "position:absolute;left:8px;right:8px;top:5px;white-space:nowrap;overflow:hidden;"
      + "text-overflow:ellipsis;color:var(--input-text,#ddd);pointer-events:none;"
    this.root.append(this.canvas, this.line)
    this.hover = -1
    this.abort = new AbortController()
    const options = { signal: this.abort.signal }
    this.root.addEventListener("pointermove", (event) => this.point(event), options)
    this.root.addEventListener("pointerleave", () => this.point(null), options)
    this.resized = new ResizeObserver(() => this.draw())
    this.resized.observe(this.root)
    this.show(null)
  }

  remove() {
    this.abort.abort()
    this.resized.disconnect()
  }

  show(plan) {
    this.plan = plan
    this.root.dataset.kind = plan?.kind ?? ""
    this.edges = plan ? edges(plan) : []
    this.point(null)
  }

  point(event) {
    this.hover = -1
    if (event && this.plan) {
      const box = this.root.getBoundingClientRect()
      const start = this.edges[0]
      const seconds = start + ((event.clientX - box.left) / box.width) * (this.edges.at(-1) - start)
      this.hover = this.plan.pts.findLastIndex((pts) => pts <= seconds)
    }
    this.line.textContent = this.words()
    this.draw()
  }

  words() {
    const plan = this.plan
    if (!plan) return "Run the workflow to see the plan."
    if (this.hover >= 0) {
      const i = this.hover
      const kind = { I: "whole picture", P: "predicted", ".": "dropped" }[plan.kind[i]]
      const cost = plan.pcost[i] === null ? "" : `, cost ${(plan.pcost[i] / 1e6).toFixed(2)} M`
      return `${plan.pts[i].toFixed(2)} s, frame ${plan.index[i]}: ${kind}${cost}`
    }
    const whole = [...plan.kind].filter((kind) => kind === "I").length
    const percent = Math.round((100 * plan.tokens) / plan.rgb_per_frame)
    return plan.warnings[0] ?? `${plan.kind.length} frames, ${whole} whole: ${plan.tokens} tokens, ${percent} % of every frame whole`
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.root
    if (!width || !height) return
    const ratio = window.devicePixelRatio || 1
    this.canvas.width = Math.round(width * ratio)
    this.canvas.height = Math.round(height * ratio)
    const pen = this.canvas.getContext("2d")
    pen.scale(ratio, ratio)
    if (!this.plan) return
    const { kind, pcost, gamma, pts } = this.plan
    const start = this.edges[0]
    const x = (seconds) => ((seconds - start) / (this.edges.at(-1) - start)) * width
    const top = 26
    const strip = height - 34
    const highest = pcost.reduce((most, cost) => Math.max(most, 1.05 * (cost ?? 0)), Math.max(1, 1.25 * (gamma ?? 0)))
    const y = (cost) => strip - 6 - Math.sqrt(cost / highest) * (strip - 6 - top)
    const order = [...kind].map((_, i) => i).sort((a, b) => (kind[a] === "I") - (kind[b] === "I"))
    for (const i of order) {
      const left = x(pts[i])
      const gap = x(this.edges[i + 1]) - left >= 3 ? 1 : 0
      const wide = Math.max(x(this.edges[i + 1]) - left - gap, kind[i] === "I" ? 1.5 : 0.5)
      pen.fillStyle = COLOURS[kind[i]]
      pen.globalAlpha = i === this.hover ? 1 : 0.85
      if (pcost[i] !== null) pen.fillRect(left, y(pcost[i]), wide, strip - 6 - y(pcost[i]))
      const low = kind[i] === "I" ? 0 : 5
      pen.fillRect(left, strip + low, wide, 16 - low)
    }
    pen.globalAlpha = 1
    if (gamma !== null) {
      pen.strokeStyle = COLOURS.gamma
      pen.setLineDash([5, 4])
      pen.beginPath()
      pen.moveTo(0, y(gamma))
      pen.lineTo(width, y(gamma))
      pen.stroke()
      pen.setLineDash([])
    }
    pen.fillStyle = colour(this.root, "--descrip-text", "#999")
    pen.font = "10px sans-serif"
    pen.textBaseline = "bottom"
    pen.fillText(`${start.toFixed(1)} s`, 4, height - 3)
    pen.textAlign = "right"
    pen.fillText(`${this.edges.at(-1).toFixed(1)} s`, width - 4, height - 3)
  }
}

app.registerExtension({
  name: "codeclens.timeline",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const timeline = new Timeline()
    const widget = node.addDOMWidget("codeclens_timeline", "codeclens.timeline", timeline.root, {
      serialize: false,
      hideOnZoom: false,
      hideInPanel: true,
      getMinHeight: () => HEIGHT,
      getValue: () => "",
      setValue: () => {},
    })
    widget.serialize = false
    node.codeclensTimeline = timeline
    const { onExecuted, onRemoved } = node
    node.onExecuted = function (message) {
      onExecuted?.apply(this, arguments)
      if (message?.[KEY]) timeline.show(message[KEY][0])
    }
    node.onRemoved = function () {
      onRemoved?.apply(this, arguments)
      timeline.remove()
    }
  },

  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs)) {
      const timeline = app.graph?.getNodeById(id)?.codeclensTimeline
      if (timeline && output?.[KEY]) timeline.show(output[KEY][0])
    }
  },
})
