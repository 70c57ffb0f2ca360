// Verdicts: a bar for each question with its probability and off-list mass, the worst moment, and A beside B.
import { COLOURS, clock, make, temporaryFile } from "./element.js"

export const VERDICT_HEIGHT = 130
const STYLE = `
.codeclens-verdict { width: 100%; height: 100%; min-height: ${VERDICT_HEIGHT}px; box-sizing: border-box; padding: 6px 8px;
  overflow-y: auto; border-radius: 6px; font: 11px/1.35 sans-serif; color: var(--input-text, #ddd);
  background: var(--comfy-input-bg, #222); }
.codeclens-verdict .quiet { color: var(--descrip-text, #999); white-space: pre-line; }
.codeclens-verdict .title { font-weight: 600; font-size: 12px; overflow-wrap: anywhere; }
.codeclens-verdict .row { display: grid; grid-template-columns: minmax(60px, 34%) 1fr 34px; gap: 6px; margin-top: 3px;
  align-items: center; }
.codeclens-verdict .row .label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.codeclens-verdict .row.low .label { color: ${COLOURS.gamma}; font-weight: 600; }
.codeclens-verdict .bar { position: relative; height: 11px; border-radius: 3px; background: #8883; overflow: hidden; }
.codeclens-verdict .bar i { position: absolute; top: 0; bottom: 0; }
.codeclens-verdict .bar .interval { top: 4px; bottom: 4px; background: currentColor; opacity: 0.55; }
.codeclens-verdict .words { grid-column: 2 / 4; margin-top: -2px; font-size: 10px; }
.codeclens-verdict .pictures { display: flex; gap: 8px; margin-top: 6px; }
.codeclens-verdict figure { margin: 0; flex: 1; min-width: 0; }
.codeclens-verdict figure.won img { outline: 2px solid ${COLOURS.budget}; }
.codeclens-verdict img { width: 100%; max-height: 150px; object-fit: contain; border-radius: 4px; background: #0004; display: block; }
.codeclens-verdict .moments { display: flex; align-items: flex-end; gap: 1px; height: 34px; margin-top: 6px; }
.codeclens-verdict .moments i { flex: 1 1 0; min-width: 1px; border-radius: 1px 1px 0 0; cursor: pointer; }
`

export class Verdict {
  /** `goTo(clip, seconds)` moves the timelines of a clip. */
  constructor(goTo) {
    this.goTo = goTo
    this.list = make("div")
    this.root = make("div", { class: "codeclens-verdict" }, make("style", { textContent: STYLE }), this.list)
    this.root.dataset.captureWheel = "true"
    this.show([])
  }

  remove() {}

  show(verdicts) {
    this.verdicts = verdicts
    this.root.dataset.state = verdicts.length ? "done" : "empty"
    const kinds = { judged: (one) => this.judged(one), compared, ranked, strengths }
    const children = verdicts.flatMap((one) => kinds[one.kind](one))
    if (!verdicts.length) children.push(make("div", { class: "quiet", textContent: "Run the workflow to see the scores." }))
    this.list.replaceChildren(...children)
  }

  fail(words) {
    this.show([])
    this.root.dataset.state = "failed"
    this.list.replaceChildren(make("div", { class: "quiet", textContent: `The run stopped. ${words}` }))
  }

  judged(one) {
    const parts = [make("div", { class: "title", textContent: `${one.clip}: ${one.score.toFixed(3)}` })]
    const passed = `${one.title}, ${Math.round(100 * one.pass_fraction)} % of ${one.questions.length} questions passed`
    parts.push(make("div", { class: "quiet", textContent: passed }))
    for (const question of one.questions) {
      const replies = Object.entries(question.probabilities).map(([reply, p]) => `${reply} ${percent(p)}`)
      const words = `${replies.join(", ")}; other replies ${percent(question.off_list)}`
      const low = one.questions.length > 1 && question.name === one.lowest
      parts.push(bar(question.name, question.score, words, { low, offList: question.off_list, title: question.question }))
    }
    if (one.moments?.length > 1) {
      const lowest = Math.min(...one.moments.map((moment) => moment.score))
      parts.push(make("div", { class: "moments" }, ...one.moments.map((moment) => {
        const colour = moment.score === lowest ? COLOURS.gamma : COLOURS.P
        const mark = make("i", {
          style: `height:${Math.max(4, 100 * moment.score)}%;background:${colour}`,
          title: `${clock(moment.seconds[0])}: ${moment.score.toFixed(3)}`,
        })
        mark.addEventListener("click", () => this.goTo(one.clip, moment.seconds[0]))
        return mark
      })))
    }
    if (one.worst) parts.push(make("div", { class: "pictures" }, figure(one.worst.picture, one.worst.words)))
    if (one.reason) parts.push(make("div", { textContent: one.reason }))
    return parts
  }
}

function compared(one) {
  const equal = one.winner === "equal"
  const names = { a: one.a.name, b: one.b.name }
  const parts = [make("div", { class: "title", textContent: equal ? "neither is better" : `better: ${one.winner.toUpperCase()} (${names[one.winner]})` })]
  parts.push(bar("A is better", one.probability, `equal ${percent(one.equal)}; other replies ${percent(one.off_list)}`, { offList: one.off_list }))
  parts.push(bar("B is better", 1 - one.probability, `the two orders disagree by ${one.inconsistency.toFixed(3)}`, {}))
  const side = (key) => {
    const shown = figure(one[key].picture, `${key.toUpperCase()}: ${one[key].name}`)
    if (one.winner === key) shown.classList.add("won")
    return shown
  }
  parts.push(make("div", { class: "pictures" }, side("a"), side("b")))
  return parts
}

function ranked(one) {
  const parts = [make("div", { class: "title", textContent: one.title })]
  for (const row of one.rows) {
    parts.push(bar(`${row.rank}. ${row.name}`, row.score, row.words, { low: !row.kept }))
  }
  return [...parts, ...picturesOf(one.rows, (row) => row.kept)]
}

/** Strengths on one axis from the least to the most, with their intervals where they have any. */
function strengths(one) {
  const least = Math.min(0, ...one.rows.map((row) => row.low))
  const most = Math.max(0, ...one.rows.map((row) => row.high))
  const at = (value) => `${((100 * (value - least)) / (most - least || 1)).toFixed(1)}%`
  const parts = [
    make("div", { class: "title", textContent: `${one.title}: best ${one.rows[0].name}` }),
    make("div", { class: "quiet", textContent: one.unit }),
  ]
  for (const { rank, name, strength, low, high } of one.rows) {
    const [from, to] = [Math.min(0, strength), Math.max(0, strength)]
    const filled = make("i", { style: `left:${at(from)};width:calc(${at(to)} - ${at(from)});background:${COLOURS.P}` })
    const interval = make("i", {
      class: "interval",
      style: `left:${at(low)};width:calc(${at(high)} - ${at(low)})`,
      title: `${low.toFixed(2)} to ${high.toFixed(2)}`,
    })
    parts.push(make(
      "div",
      { class: "row", title: name, data: { value: strength.toFixed(4) } },
      make("span", { class: "label", textContent: `${rank}. ${name}` }),
      make("span", { class: "bar" }, filled, ...(high > low ? [interval] : [])),
      make("span", { textContent: strength.toFixed(2) }),
    ))
  }
  return [...parts, ...picturesOf(one.rows, (row) => row.rank === 1)]
}

/** The pictures of the first rows that have one; those that `won` says yes to are framed. */
function picturesOf(rows, won) {
  const shown = rows.filter((row) => row.picture).slice(0, 4)
  if (!shown.length) return []
  return [make("div", { class: "pictures" }, ...shown.map((row) => {
    const picture = figure(row.picture, `${row.rank}. ${row.name}`)
    if (won(row)) picture.classList.add("won")
    return picture
  }))]
}

/** A bar from 0 to 1; the mass of other replies is grey at its right. */
function bar(label, value, words, { low = false, offList = 0, title = label }) {
  const width = (part) => `${(100 * Math.min(1, Math.max(0, part))).toFixed(1)}%`
  const filled = make("i", { style: `left:0;width:${width(value)};background:${low ? COLOURS.gamma : COLOURS.P}` })
  const other = make("i", { style: `right:0;width:${width(offList)};background:#888a` })
  const row = make(
    "div",
    { class: low ? "row low" : "row", title, data: { value: value.toFixed(4) } },
    make("span", { class: "label", textContent: label }),
    make("span", { class: "bar" }, filled, other),
    make("span", { textContent: value.toFixed(2) }),
  )
  if (words) row.append(make("span", { class: "words quiet", textContent: words }))
  return row
}

function figure(picture, words) {
  return make("figure", {}, make("img", { src: temporaryFile(picture), alt: words }), make("figcaption", { class: "quiet", textContent: words }))
}

function percent(part) {
  return `${Math.round(100 * part)} %`
}
