"""What the pack adds to the page: colours of types, gamma_value where it is used, errors in words, steady prompts."""

import pytest
from support.workflow import load_workflow

PLAN = "app.graph.nodes.find(node => node.type === 'CodecLensPlanGOP')"
SET_GAMMA = f"""value => {{
    const widget = {PLAN}.widgets.find(widget => widget.name === "policy.gamma")
    widget.value = value
    widget.callback?.(value)
}}"""
NUMBER = f"{PLAN}.widgets.find(widget => widget.name === 'policy.gamma_value')"


@pytest.fixture
def planned(page):
    page.load(load_workflow("plan_video.json"))
    return page


def test_types_have_colours_of_their_own(planned):
    types = "['SAMPLED_VIDEO', 'PRIMITIVES', 'GOP_PLAN', 'QWEN3VL', 'VISUAL_CODE', 'GVC_STREAM']"
    colours = planned.page.evaluate(f"{types}.map(type => LGraphCanvas.link_type_colors['CODECLENS_' + type])")
    assert all(colour.startswith("#") for colour in colours) and len(set(colours)) == 6
    assert not planned.complaints


def test_gamma_value_is_there_where_it_is_used(planned):
    assert planned.page.evaluate(f"{NUMBER}.hidden") is True
    planned.page.evaluate(SET_GAMMA, "value")
    assert planned.page.evaluate(f"{NUMBER}.hidden") is False
    planned.page.evaluate(SET_GAMMA, "auto")
    assert planned.page.evaluate(f"{NUMBER}.hidden") is True
    assert not planned.complaints


def test_an_error_of_ours_is_said_in_a_toast(planned):
    planned.choose_video("not there.mp4")
    planned.page.evaluate(
        """() => {
            const detail = {
                exception_type: "codeclens.InputError", exception_message: "clip.mp4 holds no video\\n",
                node_id: app.graph.nodes[0].id, node_type: "CodecLensPlanGOP", executed: [], traceback: [],
                current_inputs: {}, current_outputs: [], prompt_id: "1", timestamp: 1,
            }
            const { api } = window.comfyAPI.api
            api.dispatchEvent(new CustomEvent("execution_error", { detail }))
        }"""
    )
    planned.page.get_by_text("clip.mp4 holds no video", exact=True).first.wait_for()


def test_the_preview_of_load_video_is_no_input(planned, comfyui, demo_clip):
    planned.choose_video(comfyui.put_input(demo_clip))
    planned.settle()
    sent = planned.page.evaluate(
        """async () => {
            for (const node of app.graph.nodes) for (const widget of node.widgets ?? []) widget.beforeQueued?.({})
            const { output } = await app.graphToPrompt()
            return Object.values(output).find(node => node.class_type === "LoadVideo").inputs
        }"""
    )
    assert "video-preview" not in sent and sent["file"] == demo_clip.name
