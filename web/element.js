// Small parts of a page: elements, colours of the host's theme, and its files.
import { api } from "../../scripts/api.js"

export const COLOURS = {
  I: "#e8973a",
  P: "#4f97c7",
  ".": "#8a909c",
  gamma: "#e0455a",
  cut: "#9a6be0",
  budget: "#2fa36b",
}

/** An element with properties and children; `class`, `style` and `data` are set as such. */
export function make(tag, { class: className, style, data, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  if (className) element.className = className
  if (style) element.style.cssText = style
  Object.assign(element.dataset, data)
  element.append(...children)
  return element
}

/** A colour of the host's theme, as it is where `element` stands. */
export function themeColour(element, name, fallback) {
  return getComputedStyle(element).getPropertyValue(name).trim() || fallback
}

/** The address of a file in the host's temp folder. */
export function temporaryFile(name) {
  return api.apiURL(`/view?filename=${encodeURIComponent(name)}&type=temp`)
}

/** Seconds as people write them: 3.50 s, 1:03.50, 1:02:03.50. */
export function clock(seconds, digits = 2) {
  if (seconds < 60) return `${seconds.toFixed(digits)} s`
  const width = digits ? 3 + digits : 2
  const rest = (seconds % 60).toFixed(digits).padStart(width, "0")
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}:${rest}`
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`
}

/** A cost or a number of tokens in few letters. */
export function amount(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(2)} M`
  return number >= 1e4 ? `${(number / 1e3).toFixed(1)} k` : String(Math.round(number))
}

/** A DOM widget that the host shows in both renderers and does not save. */
export function addPanel(node, name, root, height) {
  const widget = node.addDOMWidget(name, name.replace("_", "."), root, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    getMinHeight: () => height,
    getValue: () => "",
    setValue: () => {},
  })
  widget.serialize = false
  return widget
}

/** Make a node at least this wide, and as high as its widgets need, after they were added. */
export function growNode(node, width) {
  const [wide, high] = node.size
  const least = node.computeSize()
  node.setSize([Math.max(wide, width, least[0]), Math.max(high, least[1])])
}
