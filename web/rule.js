// The rule that plans GOPs, as models/video/planning.py and tokens.py have it; tests/web compares the two.

const BUDGET_RAISE = 2
const MARKERS = 2

/**
 * Decide I or P for each frame.
 * data: {pcost: [number or null], pts: [seconds], cuts: [positions], unclear: [positions], modes: {name: {whole,
 * predicted, paired, anchored, stamps}}}.
 * settings: {policy, gamma, cap, budget, frames, pinned, released: [positions], mode, clear}; gamma is a number.
 * Gives {why, kind, keep, tokens: one for each frame, gamma or null, promptTokens, warnings}. Throws an Error with a
 * sentence where there is no such plan.
 */
export function plan(data, settings) {
  const { policy, cap } = settings
  const count = data.pcost.length
  const pcost = data.pcost.map((cost) => cost ?? NaN)
  const waits = settings.clear && (policy === "adaptive" || policy === "budget")
  const marks = {
    cuts: new Set(data.cuts),
    pinned: new Set(settings.pinned),
    released: new Set(settings.released),
    unclear: new Set(waits ? data.unclear : []),
  }
  const mode = data.modes[settings.mode]
  const spent = (made) => {
    const tokens = frameTokens(mode, made.why, made.keep)
    return sum(tokens) + promptWords(tokens, data.pts, mode.stamps)
  }
  let made
  if (policy === "fixed") made = { ...decide(marks, new Array(count).fill(0), 0, cap), gamma: null, warnings: [] }
  else if (policy === "frames") made = listed(marks, settings.frames, count)
  else {
    const free = (gamma) => ({ ...decide(marks, pcost, gamma, cap), gamma, warnings: [] })
    made = free(settings.gamma)
    if (policy === "budget") made = meetBudget(settings, pcost, made, marks, spent)
  }
  const clear = made.why.indexOf("first", 1)
  if (clear > 0) {
    const words = `nothing clear is seen before ${data.pts[clear].toFixed(2)} s: ${clear} frames left out`
    made.warnings = [words, ...made.warnings]
  }
  const tokens = frameTokens(mode, made.why, made.keep)
  return { ...made, kind: kindOf(made.why, made.keep), tokens, promptTokens: spent(made) }
}

/** The fewest prompt tokens that a budget may name: one picture with its time stamp. */
export function leastBudget(data, modeName) {
  const mode = data.modes[modeName]
  const count = data.pts.length
  const keep = Array.from({ length: count }, (_, t) => t === count - 1)
  const tokens = frameTokens(mode, keep.map((kept) => (kept ? "user" : "")), keep)
  return sum(tokens) + promptWords(tokens, data.pts, mode.stamps)
}

function decide(marks, pcost, gamma, cap) {
  const isClear = (t) => t < pcost.length && !marks.unclear.has(t) && !marks.released.has(t)
  const clears = (t) => {
    for (let later = t + 1; later <= t + cap; later++) if (isClear(later)) return true
    return false
  }
  const why = []
  const keep = new Array(pcost.length).fill(true)
  let run = 0
  let waiting = ""
  pcost.forEach((cost, t) => {
    let reason = ""
    if (t === 0) reason = "first"
    else if (marks.pinned.has(t)) reason = "user"
    else if (marks.released.has(t) && !Number.isNaN(cost)) reason = ""
    else if (marks.cuts.has(t)) reason = "cut"
    else if (!(cost <= gamma)) reason = "cost"
    else if (run >= cap) reason = "cap"
    if (reason && reason !== "user" && marks.unclear.has(t) && clears(t)) {
      waiting ||= reason
      if (t) reason = ""
    } else if (!reason && waiting && isClear(t)) reason = waiting
    if (reason && t) {
      if (waiting === "first") {
        keep.fill(false, 0, t)
        if (reason !== "user") reason = waiting
      }
      waiting = ""
    }
    run = reason ? 0 : run + 1
    why.push(reason)
  })
  return { why, keep }
}

function listed(marks, frames, count) {
  const chosen = new Set([...frames, ...marks.pinned].filter((t) => !marks.released.has(t)))
  const why = Array.from({ length: count }, (_, t) => {
    if (t === 0) return "first"
    if (chosen.has(t)) return "user"
    return marks.cuts.has(t) && !marks.released.has(t) ? "cut" : ""
  })
  return { why, keep: new Array(count).fill(true), gamma: null, warnings: [] }
}

function meetBudget(settings, pcost, free, marks, spent) {
  const { budget } = settings
  const count = pcost.length
  let { cap } = settings
  const ending = (frames) => ({
    why: Array.from({ length: count }, (_, t) => (t === Math.max(0, count - 1 - frames) ? "user" : "")),
    keep: Array.from({ length: count }, (_, t) => t >= count - 1 - frames),
  })
  const least = spent(ending(0))
  if (budget < least) {
    throw new Error(`budget is ${budget} tokens; it must hold at least one picture of ${least} tokens with its time stamp`)
  }
  if (spent(free) <= budget) return free
  const warnings = []
  let gamma = free.gamma
  let made = free
  const raised = raiseGamma(budget, pcost, gamma, (higher) => spent(decide(marks, pcost, higher, cap)))
  if (raised > gamma) {
    warnings.push(`budget of ${budget} tokens: gamma raised from ${short(gamma)} to ${short(raised)}`)
    gamma = raised
    made = decide(marks, pcost, gamma, cap)
  }
  let keep = dropGops(budget, made, spent)
  if (!keep) {
    cap = Math.min(cap, count - 1)
    while (!keep) {
      if (spent(ending(cap)) <= budget) cap -= 1
      while (spent(ending(cap)) > budget) cap -= 1
      if (cap < 0) throw new Error(`budget is ${budget} tokens; no GOP fits it while so many frames are released`)
      made = decide(marks, pcost, gamma, cap)
      keep = dropGops(budget, made, spent)
    }
    warnings.push(`budget of ${budget} tokens: GOPs shortened to ${cap} P frames, so that a whole one fits`)
  }
  const opens = made.why.map((reason, t) => reason && made.keep[t])
  const gops = opens.filter(Boolean).length
  const dropped = opens.filter((open, t) => open && !keep[t]).length
  if (dropped) warnings.push(`budget of ${budget} tokens: ${dropped} of ${gops} GOPs dropped, evenly over the clip`)
  return { why: made.why, keep, gamma, warnings }
}

function raiseGamma(budget, pcost, gamma, spentAt) {
  const within = pcost.slice(1).filter((cost) => cost > gamma && cost <= BUDGET_RAISE * gamma)
  const reach = [...new Set(within)].sort((a, b) => a - b)
  if (!reach.length) return gamma
  let low = 0
  let high = reach.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (spentAt(reach[middle]) <= budget) high = middle
    else low = middle + 1
  }
  return reach[high]
}

function dropGops(budget, made, spent) {
  const gop = []
  let number = made.keep[0] ? 0 : -1
  made.why.forEach((reason, t) => gop.push(reason && t ? (number += 1) : number))
  number += 1
  for (let m = number; m > 0; m--) {
    const chosen = new Set()
    for (let i = 0; i < m; i++) chosen.add(Math.floor(((2 * i + 1) * number) / (2 * m)))
    const keep = gop.map((g) => chosen.has(g))
    if (spent({ why: made.why, keep }) <= budget) return keep
  }
  return null
}

function frameTokens(mode, why, keep) {
  const tokens = new Array(why.length).fill(0)
  let shown = 0
  why.forEach((reason, t) => {
    if (mode.anchored && !keep[t]) shown = 0
    if (!keep[t]) return
    if (mode.anchored) {
      if (shown % 2 === 0) tokens[t] = shown === 0 && reason ? mode.whole : mode.predicted
    } else if (mode.paired) {
      if (shown % 2 === 0) tokens[t] = mode.predicted
    } else tokens[t] = reason ? mode.whole : mode.predicted
    shown += 1
  })
  return tokens
}

function promptWords(tokens, pts, stamps) {
  let words = 0
  let before = null
  tokens.forEach((own, t) => {
    if (!own) return
    const second = Math.trunc(pts[t])
    words += MARKERS + (stamps === "every" || second !== before ? stampTokens(pts[t]) : 0)
    before = second
  })
  return words
}

function stampTokens(seconds) {
  const tenths = Math.round(seconds * 10) / 10
  let digits = 1
  for (let limit = 10; Math.abs(tenths) >= limit; limit *= 10) digits += 1
  return digits + (tenths < 0 ? 1 : 0) + "<.0".length + 2
}

/** One letter for each frame: I, P, or '.' where it is not shown. */
function kindOf(why, keep) {
  return why.map((reason, t) => (!keep[t] ? "." : reason ? "I" : "P")).join("")
}

/** A number in at most four digits, as Python's '.4g' writes it. */
export function short(value) {
  const [digits, exponent] = value.toExponential(3).split("e")
  const power = Number(exponent)
  if (power >= -4 && power < 4) return String(Number(value.toPrecision(4)))
  return `${Number(digits)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0)
}
