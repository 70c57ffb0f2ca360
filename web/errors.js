// An error of ours in words: the host's own toast says only that a node failed.
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const OURS = "codeclens.InputError"

app.registerExtension({
  name: "codeclens.errors",

  setup() {
    api.addEventListener("execution_error", ({ detail }) => {
      if (detail.exception_type !== OURS) return
      const node = app.graph.getNodeById(detail.node_id)
      app.extensionManager.toast.add({
        severity: "error",
        summary: node?.title ?? "CodecLens",
        detail: detail.exception_message.trim(),
        life: 12000,
      })
    })
  },
})
