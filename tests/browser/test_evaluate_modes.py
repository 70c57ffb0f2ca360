"""Evaluate Modes as it is dropped on an empty canvas: its modes are drawn and reach the prompt."""

from support.workflow import load_workflow

PLACED = """async () => {
    const node = LiteGraph.createNode("CodecLensEvaluateModes")
    app.graph.add(node)
    const { output } = await app.graphToPrompt()
    return [output[node.id].inputs.modes, node.widgets.map(widget => widget.name)]
}"""


def test_the_modes_as_shipped_reach_the_prompt(page):
    page.load(load_workflow("plan_video.json"))
    modes, widgets = page.page.evaluate(PLACED)
    assert modes == "rgb, thumbnail, keyframes, sparse" and "modes" in widgets
    assert not page.complaints
