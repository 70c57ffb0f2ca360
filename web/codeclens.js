// What the pack adds to ComfyUI's page: timelines of plans, text while it is written, verdicts as bars.
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { ANSWERS_HEIGHT, Answers } from "./answers.js"
import { addPanel, growNode } from "./element.js"
import { COMPACT_HEIGHT, TIMELINE_HEIGHT, Timeline, addMarks } from "./timeline.js"
import { VERDICT_HEIGHT, Verdict } from "./verdict.js"

const TIMELINES = { CodecLensPlanGOP: true, CodecLensEncodeVideo: false }

const WRITERS = [
  "CodecLensCaptionVideo", "CodecLensAskVideo", "CodecLensAskImages", "CodecLensDescribeImage", "CodecLensGenerateText",
  "CodecLensCaptionAVideo",
]
const JUDGES = [
  "CodecLensJudgeVideo", "CodecLensJudgeAVideo", "CodecLensCompareVideos", "CodecLensRankVideos", "CodecLensBestOfN",
]

/** Panels by the key under which a node sends what they show. */
const PANELS = {
  codeclens_plan: {
    has: (type) => type in TIMELINES,
    create: (node) => new Timeline(node, TIMELINES[node.comfyClass]),
    height: (node) => (TIMELINES[node.comfyClass] ? TIMELINE_HEIGHT : COMPACT_HEIGHT),
    width: 460,
  },
  codeclens_answers: {
    has: (type) => WRITERS.includes(type),
    create: () => new Answers(seek),
    // The host makes a node with a list of options as low as it can be when a workflow is opened.
    height: (node) => (node.comfyClass === "CodecLensAskVideo" ? 2 * ANSWERS_HEIGHT : ANSWERS_HEIGHT),
    width: 360,
  },
  codeclens_verdict: {
    has: (type) => JUDGES.includes(type),
    create: () => new Verdict(seek),
    height: () => VERDICT_HEIGHT,
    width: 360,
  },
}

/** Move every timeline that shows a clip of this name; false where there is none. */
function seek(name, seconds) {
  return [...panels()].filter((panel) => panel.view.seek?.(name, seconds)).length > 0
}

/** The panel of a node and the key of what it shows, or undefined. */
function panelOf(node) {
  return node?.codeclens
}

/** The node that an entry of the host's outputs is of: 'id' in the root graph, 'subgraph:id' in one below. */
function nodeOf(locator) {
  const root = app.rootGraph ?? app.graph
  const parts = String(locator).split(":")
  const graph = parts.length > 1 ? root?.subgraphs?.get(parts[0]) : root
  return graph?.getNodeById(parts.at(-1))
}

/** The node that an execution id such as '3:7:2' names, from the root down. */
function executedNode(id) {
  let graph = app.rootGraph ?? app.graph
  let node
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part)
    graph = node?.subgraph
  }
  return node
}

/** Cuts and fades that a node found in a video, on every timeline of it. */
function mark(output) {
  if (!output?.codeclens_marks) return
  output.codeclens_marks.forEach(addMarks)
  for (const panel of panels()) if (panel.key === "codeclens_plan") panel.view.redraw()
}

function showOutputs(outputs) {
  for (const [locator, output] of Object.entries(outputs ?? {})) {
    const panel = panelOf(nodeOf(locator))
    if (panel && output?.[panel.key]) panel.view.show(output[panel.key])
    mark(output)
  }
}

/** Every panel of the open workflow, in all of its graphs. */
function* panels() {
  const root = app.rootGraph ?? app.graph
  for (const graph of [root, ...(root?.subgraphs?.values() ?? [])]) {
    for (const node of graph?.nodes ?? []) if (panelOf(node)) yield panelOf(node)
  }
}

api.addEventListener("codeclens_answers", ({ detail }) => panelOf(executedNode(detail.node))?.view.stream?.(detail))

const arrived = new Set()
api.addEventListener("execution_start", () => arrived.clear())
api.addEventListener("execution_cached", ({ detail }) => detail.nodes.forEach((id) => arrived.add(executedNode(id))))
api.addEventListener("executed", ({ detail }) => {
  arrived.add(executedNode(detail.node))
  mark(detail.output)
})
api.addEventListener("execution_error", ({ detail }) => {
  // A run of another tab's workflow is none of this one's business.
  if (executedNode(detail.node_id)?.comfyClass !== detail.node_type) return
  for (const panel of panels()) if (!arrived.has(panel.node)) panel.view.fail?.(detail.exception_message.trim())
})

app.registerExtension({
  name: "codeclens.panels",

  nodeCreated(node) {
    const [key, kind] = Object.entries(PANELS).find(([, panel]) => panel.has(node.comfyClass)) ?? []
    if (!kind) return
    const view = kind.create(node)
    addPanel(node, `codeclens_${view.root.className.split("-")[1]}`, view.root, kind.height(node))
    growNode(node, kind.width)
    node.codeclens = { node, key, view }
    const { onExecuted, onRemoved } = node
    node.onExecuted = function (message) {
      onExecuted?.apply(this, arguments)
      if (message?.[key]) view.show(message[key])
    }
    node.onRemoved = function () {
      onRemoved?.apply(this, arguments)
      view.remove()
    }
  },

  onNodeOutputsUpdated: showOutputs,
  afterConfigureGraph: () => showOutputs(app.nodeOutputs),
})
