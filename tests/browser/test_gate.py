"""Quality Gate says on itself whether it is open, also where nothing comes after it."""

import pytest
from support.workflow import load_workflow

GATED = """conditions => {
    app.graph.clear()
    const make = (kind, x) => {
        const node = LiteGraph.createNode(kind)
        node.pos = [x, 0]
        app.graph.add(node)
        return node
    }
    const video = make("CodecLensTestVideos", 0), measure = make("CodecLensMeasureVideo", 300)
    const gate = make("CodecLensGate", 600)
    video.connect(0, measure, 0)
    video.connect(0, gate, gate.findInputSlot("value"))
    measure.connect(measure.findOutputSlot("json"), gate, gate.findInputSlot("metrics"))
    gate.widgets.find(widget => widget.name === "conditions").value = conditions
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [100, 200]
}"""


@pytest.mark.parametrize(
    ("conditions", "state"), [("brightness >= 5", "open: all conditions hold"), ("flicker >= 1000", "closed: flicker")]
)
def test_a_gate_shows_its_state(page, conditions, state):
    page.load(load_workflow("plan_video.json"))
    page.page.evaluate(GATED, conditions)
    page.run()
    page.page.get_by_text(state).first.wait_for()
    assert not page.complaints
