// gamma_value on Plan GOP is there only while gamma is 'value'.
import { app } from "../../scripts/app.js"

function showWhereUsed(node) {
  const named = (name) => node.widgets?.find((widget) => widget.name === name)
  const gamma = named("policy.gamma")
  const number = named("policy.gamma_value")
  if (!gamma || !number) return
  const hidden = gamma.value !== "value"
  Object.assign(number, { hidden, advanced: false })
  Object.assign(number.options, { hidden, advanced: false })
  node.setDirtyCanvas(true, true)
}

// The two widgets are made anew for every policy, so they are followed from the policy's own widget on.
function follow(node) {
  for (const name of ["policy", "policy.gamma"]) {
    const widget = node.widgets?.find((one) => one.name === name)
    if (!widget || widget.codeclensFollowed) continue
    widget.codeclensFollowed = true
    const { callback } = widget
    widget.callback = function () {
      const answer = callback?.apply(this, arguments)
      follow(node)
      return answer
    }
  }
  showWhereUsed(node)
}

app.registerExtension({
  name: "codeclens.gamma",

  nodeCreated(node) {
    if (node.comfyClass !== "CodecLensPlanGOP") return
    follow(node)
    const { onConfigure } = node
    node.onConfigure = function () {
      onConfigure?.apply(this, arguments)
      follow(node)
    }
  },
})
