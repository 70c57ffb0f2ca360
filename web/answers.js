// Live text: every answer under its question while it is written, what was seen, and times that move the timeline.
import { make } from "./element.js"

export const ANSWERS_HEIGHT = 110
const STYLE = `
.codeclens-answers { width: 100%; height: 100%; min-height: ${ANSWERS_HEIGHT}px; box-sizing: border-box; padding: 6px 8px;
  overflow-y: auto; border-radius: 6px; font: 12px/1.4 sans-serif; color: var(--input-text, #ddd);
  background: var(--comfy-input-bg, #222); user-select: text; cursor: auto; }
.codeclens-answers .quiet { color: var(--descrip-text, #999); font-size: 11px; white-space: pre-line; }
.codeclens-answers .clip { font-weight: 600; }
.codeclens-answers .turn { margin-top: 6px; }
.codeclens-answers .question { font-weight: 600; overflow-wrap: anywhere; }
.codeclens-answers .text { white-space: pre-wrap; overflow-wrap: anywhere; }
.codeclens-answers .foot { display: flex; gap: 8px; align-items: center; }
.codeclens-answers a { color: inherit; text-decoration: underline 2px #4f97c7; cursor: pointer; }
.codeclens-answers button { font: inherit; color: inherit; background: var(--comfy-menu-bg, #333); cursor: pointer;
  border: 1px solid var(--border-color, #555); border-radius: 4px; padding: 0 6px; }
`

export class Answers {
  /** `goTo(clip, seconds)` moves the timelines of a clip and says whether there is one. */
  constructor(goTo) {
    this.goTo = goTo
    this.list = make("div")
    this.root = make("div", { class: "codeclens-answers" }, make("style", { textContent: STYLE }), this.list)
    this.root.dataset.captureWheel = "true"
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation())
    this.root.addEventListener("keydown", (event) => event.stopPropagation())
    this.show([])
  }

  remove() {}

  show(clips) {
    this.clips = [...clips]
    this.failed = ""
    this.redraw()
  }

  /** One clip's answers so far; the first of a run clears those of the run before. */
  stream({ number, clip }) {
    if (number === 0 && clip.turns.length <= 1) this.clips = []
    this.clips[number] = clip
    this.failed = ""
    const { root } = this
    const atEnd = root.scrollTop + root.clientHeight >= root.scrollHeight - 8
    this.redraw()
    if (atEnd) root.scrollTop = root.scrollHeight
  }

  fail(words) {
    this.failed = words
    this.redraw()
  }

  redraw() {
    const turns = this.clips.flatMap((clip) => clip.turns)
    this.root.dataset.state = this.failed ? "failed" : turns.some((turn) => turn.writing) ? "writing" : turns.length ? "done" : "empty"
    const children = this.clips.flatMap((clip) => [
      ...(clip.clip ? [make("div", { class: "clip", textContent: clip.clip })] : []),
      ...(clip.seen ? [make("div", { class: "quiet", textContent: clip.seen })] : []),
      ...clip.turns.map((turn) => this.turn(turn, clip.clip)),
    ])
    if (this.failed) children.push(make("div", { class: "quiet", textContent: `The run stopped. ${this.failed}` }))
    else if (!turns.length) children.push(make("div", { class: "quiet", textContent: "Run the workflow; the text appears here while it is written." }))
    this.list.replaceChildren(...children)
  }

  turn(turn, clip) {
    const text = make("div", { class: "text" }, ...this.linked(turn.text, turn.mentions ?? [], clip))
    const foot = make("div", { class: "foot quiet" }, rate(turn))
    if (!turn.writing) foot.prepend(this.copyButton(turn.text))
    const parts = [make("div", { class: "question", textContent: turn.question })]
    if (turn.reasoning) {
      const reasoning = make("div", { class: "text", textContent: turn.reasoning })
      parts.push(make("details", { class: "quiet" }, make("summary", { textContent: "reasoning" }), reasoning))
    }
    return make("div", { class: "turn" }, ...parts, text, foot)
  }

  /** The text with its times as links. */
  linked(text, mentions, clip) {
    const parts = []
    let from = 0
    for (const { text: words, seconds } of mentions) {
      const at = text.indexOf(words, from)
      if (at < 0) continue
      const link = make("a", { textContent: words, title: "Show this moment in the timeline", tabIndex: 0, data: { seconds: seconds[0] } })
      const go = () => {
        if (!this.goTo(clip, seconds[0])) link.title = "No timeline of this clip is open"
      }
      link.addEventListener("click", go)
      link.addEventListener("keydown", (event) => event.key === "Enter" && go())
      parts.push(text.slice(from, at), link)
      from = at + words.length
    }
    return [...parts, text.slice(from)]
  }

  copyButton(text) {
    const button = make("button", { type: "button", textContent: "copy", title: "Copy the answer" })
    button.addEventListener("click", async () => {
      button.textContent = (await copied(text)) ? "copied" : "could not copy"
      setTimeout(() => (button.textContent = "copy"), 1500)
    })
    return button
  }
}

/** Copy a text; without a secure page the clipboard is reached through a selection. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const field = make("textarea", { value: text, style: "position:fixed;opacity:0" })
    document.activeElement?.after(field)
    field.select()
    const done = document.execCommand("copy")
    field.remove()
    return done
  }
}

function rate(turn) {
  if (!turn.tokens) return turn.writing ? "reading" : ""
  const words = [`${turn.tokens} ${turn.tokens === 1 ? "token" : "tokens"}`, `${turn.seconds.toFixed(1)} s`, `${(turn.tokens / Math.max(turn.seconds, 1e-3)).toFixed(1)} tokens/s`]
  if (turn.prefill > 0.05) words.push(`${turn.prefill.toFixed(1)} s of reading before`)
  if (turn.truncated) words.push("cut off at max_tokens")
  return words.join(", ")
}
