// Load Video's preview is no input: sent with the prompt, it would make the second run another one than the first,
// before the preview was there, and compute all over again.
import { app } from "../../scripts/app.js"

function leaveOutPreviews(graph) {
  for (const node of graph.nodes) {
    const preview = node.comfyClass === "LoadVideo" && node.widgets?.find((widget) => widget.name === "video-preview")
    if (preview) preview.options.serialize = false
  }
}

app.registerExtension({
  name: "codeclens.preview",

  nodeCreated(node) {
    const widget = node.comfyClass?.startsWith("CodecLens") && node.widgets?.[0]
    if (!widget) return
    const { beforeQueued } = widget
    widget.beforeQueued = function () {
      leaveOutPreviews(node.graph ?? app.graph)
      return beforeQueued?.apply(this, arguments)
    }
  },
})
