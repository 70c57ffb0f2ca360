// The settings of a plan: the values of the widgets on Plan GOP, read and changed as a user would.
import { app } from "../../scripts/app.js"

export class Settings {
  /** `node` is a Plan GOP. */
  constructor(node) {
    this.node = node
  }

  widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name)
  }

  /** Whether the user's own hand decides on this value: it has a widget, and no link feeds it. */
  editable(name) {
    const linked = this.node.inputs?.find((input) => input.widget?.name === name)?.link != null
    return Boolean(this.widget(name)) && !linked
  }

  value(name, ran) {
    const short = name.replace("policy.", "")
    return this.editable(name) ? this.widget(name).value : ran[short]
  }

  /**
   * What the widgets say, for rule.js. `data` came from the last run: what a link feeds is as it was then.
   */
  read(data) {
    const ran = data.settings
    const policy = this.value("policy", ran)
    const known = (name) => (this.widget(`policy.${name}`) ? this.value(`policy.${name}`, ran) : undefined)
    const found = known("gamma")
    const pins = numbers(this.value("pinned", ran) ?? "")
    return {
      policy,
      gamma: found === "value" ? Number(known("gamma_value")) : data.gammas[found] ?? data.gammas.scaled,
      gammaFound: found,
      cap: Number(known("cap") ?? 16),
      budget: Number(known("budget") ?? 0),
      frames: numbers(known("frames") ?? "0"),
      pinned: pins.filter((number) => !isBelow(number)).map(Number),
      released: pins.filter(isBelow).map((number) => -number),
      mode: this.value("mode", ran),
      clear: Boolean(this.value("clear_pictures", ran) ?? true),
      cuts: Boolean(this.value("start_at_cuts", ran)),
    }
  }

  /** Change widgets, by name; the prompt, the saved workflow and undo see it as any other edit. */
  write(values) {
    for (const [name, value] of Object.entries(values)) {
      const widget = this.widget(name)
      if (!widget || widget.value === value) continue
      widget.value = value
      widget.callback?.(value, app.canvas, this.node)
    }
    this.node.graph?.setDirtyCanvas?.(true, true)
  }

  /** Tell the host that an edit is complete, as one step of undo. */
  finish() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
    if (tracker?.captureCanvasState) tracker.captureCanvasState()
    else tracker?.checkState?.()
  }

  /** What a click does to a frame: rule, then whole (pinned), then predicted (released), then the rule again. */
  cycle(position, settings) {
    if (position === 0) return
    if (settings.policy === "frames") {
      const frames = new Set(settings.frames)
      if (!frames.delete(position)) frames.add(position)
      this.write({ "policy.frames": list([...frames]) })
    } else {
      const pinned = new Set(settings.pinned)
      const released = new Set(settings.released)
      if (pinned.delete(position)) released.add(position)
      else if (!released.delete(position)) pinned.add(position)
      this.write({ pinned: list([...pinned, ...[...released].map((number) => -number)]) })
    }
    this.finish()
  }
}

function isBelow(number) {
  return number < 0
}

function list(positions) {
  return positions.sort((a, b) => Math.abs(a) - Math.abs(b)).join(", ")
}

function numbers(words) {
  return String(words).split(/[\s,]+/).filter(Boolean).map(Number).filter(Number.isInteger)
}
