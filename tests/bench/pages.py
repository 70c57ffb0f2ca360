"""Remake the pictures of templates (workflows/*.jpg) and of nodes in the help from the real host, after a run.

    python tests/bench/pages.py --only plan_video CodecLensGate

Without --only, all that are listed here: templates whose models must be downloaded are not.
Open each result and check it.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.browser import ComfyPage, eventually, open_page
from support.comfyui import ROOT, ComfyServer
from support.workflow import load_workflow

CARDS = {
    "plan_video": ("CodecLensDrawPlan", "CodecLensPlanGOP"),
    "split_at_cuts": ("CodecLensSplitAtCuts", "SaveVideo"),
}
"""Templates and the nodes in the middle of their pictures."""

HELP = {
    "CodecLensGate": ("best_of_n", "CodecLensGate"),
}
"""Pages of the help, and the template and its node that they show."""

LEFT, TOP, SIDE, CARD = 370, 90, 860, 640

SHOW = """([types, left, top, side, square]) => {
    const boxes = app.graph.nodes.filter(node => types.includes(node.type)).map(node => node.boundingRect)
    const l = Math.min(...boxes.map(box => box[0])) - 14, t = Math.min(...boxes.map(box => box[1])) - 14
    const r = Math.max(...boxes.map(box => box[0] + box[2])) + 14
    const b = Math.max(...boxes.map(box => box[1] + box[3])) + 14
    const scale = Math.min(square ? Infinity : 1, side / Math.max(r - l, b - t))
    const [wide, high] = square ? [side, side] : [(r - l) * scale, (b - t) * scale]
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [(left + wide / 2) / scale - (l + r) / 2, (top + high / 2) / scale - (t + b) / 2]
    app.canvas.setDirty(true, true)
    return { x: left, y: top, width: wide, height: high }
}"""
"""Move the nodes of some types into the part of the window that is returned: a square, or as large as they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*CARDS, *HELP], default=[*CARDS, *HELP])
    wanted = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(Path(folder) / "host")
        server.start()
        try:
            with open_page(server, vue=False) as page:
                page.page.set_viewport_size({"width": 1600, "height": 1000})
                for name in wanted:
                    if name in CARDS:
                        file, template, types = ROOT / "workflows" / f"{name}.jpg", name, CARDS[name]
                    else:
                        file, (template, *types) = ROOT / "web" / "docs" / f"{name}.jpg", HELP[name]
                    photograph(page, template, types, name in CARDS).save(file, quality=85)
                    print(file.relative_to(ROOT))
        finally:
            server.stop()


def photograph(page: ComfyPage, template: str, types, square: bool) -> Image.Image:
    """The nodes of ``types`` in a template that has run."""
    page.load(load_workflow(f"{template}.json"))
    page.settle()
    page.run()
    eventually(lambda: page.server.get("/queue"), lambda queue: not any(queue.values()))
    page.settle()
    part = page.page.evaluate(SHOW, [list(types), LEFT, TOP, SIDE, square])
    page.settle()
    picture = Image.open(io.BytesIO(page.page.screenshot(clip=part))).convert("RGB")
    return picture.resize((CARD, CARD), Image.Resampling.LANCZOS) if square else picture


if __name__ == "__main__":
    main()
