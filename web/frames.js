// Small pictures and motion of the frames of a clip, loaded when they are first wanted.
import { temporaryFile } from "./element.js"

export class FrameStore {
  /** `strip` and `motion` are what nodes send; `loaded` is called when something more can be drawn. */
  constructor(strip, motion, loaded) {
    this.strip = strip
    this.motion = motion
    this.loaded = loaded
    this.sheets = new Map()
    this.vectors = null
  }

  get aspect() {
    return this.strip ? this.strip.width / this.strip.height : 16 / 9
  }

  /** Draw the frame at `position`; false where its sheet is not there yet. */
  draw(pen, position, x, y, width, height) {
    if (!this.strip) return false
    const { columns, rows, width: wide, height: high } = this.strip
    const sheet = this.sheet(Math.floor(position / (columns * rows)))
    if (!sheet?.complete || !sheet.naturalWidth) return false
    const at = position % (columns * rows)
    pen.drawImage(sheet, (at % columns) * wide, Math.floor(at / columns) * high, wide, high, x, y, width, height)
    return true
  }

  /** {rows, columns, at(row, column) -> [dx, dy] as a fraction of 64 pixels} of a frame, or null. */
  motionOf(position) {
    if (!this.motion) return null
    if (!this.vectors) {
      this.load()
      return null
    }
    const { rows, columns } = this.motion
    const start = position * rows * columns * 2
    if (start + rows * columns * 2 > this.vectors.length) return null
    const at = (row, column) => {
      const index = start + 2 * (row * columns + column)
      return [this.vectors[index] / 127, this.vectors[index + 1] / 127]
    }
    return { rows, columns, at }
  }

  sheet(number) {
    if (number >= this.strip.files.length) return null
    if (!this.sheets.has(number)) {
      const picture = new Image()
      picture.onload = () => this.loaded()
      picture.src = temporaryFile(this.strip.files[number])
      this.sheets.set(number, picture)
    }
    return this.sheets.get(number)
  }

  async load() {
    if (this.loading) return
    this.loading = true
    const answer = await fetch(temporaryFile(this.motion.file))
    if (!answer.ok) return
    this.vectors = new Int8Array(await answer.arrayBuffer())
    this.loaded()
  }
}
