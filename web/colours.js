// A colour for each of the pack's own types, on links and slots, in both renderers and every palette.
import { app } from "../../scripts/app.js"

const COLOURS = {
  CODECLENS_SAMPLED_VIDEO: "#8fb8de",
  CODECLENS_PRIMITIVES: "#b39ddb",
  CODECLENS_GOP_PLAN: "#ffb74d",
  CODECLENS_QWEN3VL: "#e57399",
  CODECLENS_VISUAL_CODE: "#4db6ac",
  CODECLENS_LEARNED_CODE: "#7fb069",
  CODECLENS_GVC_STREAM: "#c5b358",
}

function paint() {
  for (const [type, colour] of Object.entries(COLOURS)) {
    app.canvas.default_connection_color_byType[type] = colour
    LGraphCanvas.link_type_colors[type] = colour
    document.documentElement.style.setProperty(`--color-datatype-${type}`, colour)
  }
  app.canvas.setDirty(true, true)
}

app.registerExtension({
  name: "codeclens.colours",

  afterConfigureGraph: paint,

  setup() {
    paint()
    // A palette clears the types it does not name when it is loaded, a moment after it was chosen.
    app.ui.settings.addEventListener("Comfy.ColorPalette.change", () => setTimeout(paint, 300))
  },
})
