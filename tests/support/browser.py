"""ComfyUI's page in a real Chromium, driven by Playwright."""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager

from .comfyui import ComfyServer

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

PATIENCE = 300
"""Seconds to wait for what must come: a slow machine only takes longer."""

STEADY = """async () => {
    const boxes = () => JSON.stringify([app.canvas.ds.scale, ...app.canvas.ds.offset,
        ...[...document.querySelectorAll("canvas, [data-node-id], [class^=codeclens-], [class^=codeclens-] .plot")]
            .map(element => element.getBoundingClientRect())])
    await new Promise(done => setTimeout(done, 600))
    for (let left = 600, same = 0, last = ""; left && same < 8; left--) {
        await new Promise(requestAnimationFrame)
        const now = boxes()
        same = now === last ? same + 1 : 0
        last = now
    }
}"""
"""What is due within 600 ms (timers of the pack and of the host), then eight frames in a row of the same layout."""


def find_chromium() -> str | None:
    """$CHROMIUM, else the first Chromium or Chrome on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


def why_no_browser() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return None if find_chromium() else "no Chromium on the path: install it or set CHROMIUM"


class ComfyPage:
    """The open page.

    Attributes:
        page: Playwright's page.
        complaints: console errors and uncaught exceptions that name the pack or one of its files.
    """

    def __init__(self, page, server: ComfyServer, vue: bool):
        self.page, self.server = page, server
        self.complaints: list[str] = []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda message: message.type == "error" and self.hear(message.text, message.location["url"]))
        page.on("pageerror", lambda error: self.hear(str(error), error.stack or ""))
        page.route("**/releases**", lambda route: route.fulfill(json=[]))
        settings = {
            "Comfy.TutorialCompleted": True,
            "Comfy.Minimap.Visible": False,
            "Comfy.VueNodes.Enabled": vue,
        }
        server.post("/settings", settings)
        page.goto(f"http://{server.address}/")
        self.wait_until_ready()
        assert page.evaluate("LiteGraph.vueNodesMode") is vue, "the renderer asked for is the one that runs"

    def wait_until_ready(self) -> None:
        """Wait until the host has restored what it opens with: a workflow loaded before that would be replaced."""
        self.wait_for("window.app?.vueAppReady && app.extensionManager?.spinner === false && app.graph")
        self.page.wait_for_selector(".p-blockui-mask", state="hidden")

    def wait_for(self, condition: str, argument=None) -> None:
        """Wait until a JavaScript expression or function of ``argument`` is true."""
        self.page.wait_for_function(condition, arg=argument)

    def settle(self) -> None:
        """Wait until timers have run and the layout stands still."""
        self.page.evaluate(STEADY)

    def hear(self, words: str, where: str) -> None:
        if "codeclens" in (words + where).lower():
            self.complaints.append(f"{words} ({where})")

    def load(self, workflow: dict) -> None:
        """Open a workflow as the Open menu does."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.wait_for("count => app.graph.nodes.length === count", len(workflow["nodes"]))

    def choose_video(self, name: str) -> None:
        """Choose a clip on Load Video, which comes in the place of Test Videos where there is none yet."""
        self.page.evaluate(
            """name => {
                const of = type => app.graph.nodes.find(node => node.type === type)
                let load = of("LoadVideo")
                if (!load) {
                    load = LiteGraph.createNode("LoadVideo")
                    app.graph.add(load)
                    const test = of("CodecLensTestVideos"), sample = of("CodecLensSampleVideo")
                    load.pos = [...(test ?? sample).pos]
                    const links = (test?.outputs[0].links ?? []).map(id => app.graph.getLink(id))
                    const ends = links.map(link => [app.graph.getNodeById(link.target_id), link.target_slot])
                    if (!ends.length) ends.push([sample, sample.findInputSlot("video")])
                    for (const [node, slot] of ends) load.connect(0, node, slot)
                    if (test) app.graph.remove(test)
                }
                load.widgets[0].value = name
                load.widgets[0].callback?.(name)
            }""",
            name,
        )

    def run(self) -> None:
        self.page.evaluate("app.queuePrompt(0)")


def eventually(read: Callable[[], object], holds: Callable[[object], bool]) -> None:
    """Read until ``holds`` is true of what was read; fail with the last of it."""
    end = time.monotonic() + PATIENCE
    while not holds(found := read()):
        assert time.monotonic() < end, f"still {found!r} after {PATIENCE} s"
        time.sleep(0.1)


@contextmanager
def open_page(server: ComfyServer, vue: bool):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield ComfyPage(browser.new_page(viewport={"width": 1760, "height": 900}), server, vue)
        finally:
            browser.close()
