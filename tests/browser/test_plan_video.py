"""The shipped workflow as a user meets it: it opens, runs, and the timeline on Plan GOP shows the plan."""

import io

import numpy as np
import pytest
from PIL import Image
from support.browser import eventually
from support.workflow import load_workflow

TIMELINE = ".codeclens-timeline"
FILLED = f"(document.querySelector('{TIMELINE}')?.dataset.kind ?? '') !== ''"


@pytest.fixture(scope="module")
def demo(comfyui, demo_clip):
    return comfyui.put_input(demo_clip)


def timeline_pixels(page):
    return np.asarray(Image.open(io.BytesIO(page.page.locator(TIMELINE).first.screenshot())).convert("RGB")).astype(int)


def amber(pixels):
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return int(np.sum((red > 170) & (green > 110) & (green < 200) & (blue < 120)))


def test_workflow_opens_runs_and_shows_the_plan(page, demo):
    workflow = load_workflow("plan_video.json")
    page.load(workflow)
    ours = [node["type"] for node in workflow["nodes"] if node["type"].startswith("CodecLens")]
    assert page.page.evaluate("types => types.filter(t => !LiteGraph.registered_node_types[t])", ours) == []
    page.page.wait_for_selector(TIMELINE, state="visible")
    assert amber(timeline_pixels(page)) == 0, "nothing is shown before the first run"
    page.choose_video(demo)
    page.run()
    page.wait_for(FILLED)
    kind = page.page.eval_on_selector(TIMELINE, "element => element.dataset.kind")
    assert kind[0] == kind[10] == "I", "the first frame and the cut at 5 s"
    cut_named = f"document.querySelector('{TIMELINE} .legend').innerText.includes('cut')"
    page.wait_for(cut_named)
    eventually(lambda: amber(timeline_pixels(page)), lambda drawn: drawn > 100)
    assert not page.complaints


def test_pointing_at_the_timeline_tells_about_the_frame(page, demo):
    page.load(load_workflow("plan_video.json"))
    page.choose_video(demo)
    page.run()
    page.wait_for(FILLED)
    page.settle()
    box = page.page.locator(f"{TIMELINE} .plot").first.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 5.1 / 13, box["y"] + box["height"] * 0.5)
    page.page.locator(TIMELINE).first.get_by_text("5.00 s, frame 120: whole picture").wait_for()
    assert not page.complaints


def test_saving_keeps_the_timeline_out_of_the_file_and_reloading_keeps_the_settings(page, demo):
    page.load(load_workflow("plan_video.json"))
    before = page.page.evaluate("app.graph.serialize().nodes.map(node => [node.type, node.widgets_values ?? null])")
    page.load(page.page.evaluate("app.graph.serialize()"))
    after = page.page.evaluate("app.graph.serialize().nodes.map(node => [node.type, node.widgets_values ?? null])")
    assert sorted(map(str, before)) == sorted(map(str, after))
    (plan,) = [values for kind, values in after if kind == "CodecLensPlanGOP"]
    assert plan == ["adaptive", "auto", 31457280, 16, "thumbnail", False, True, ""]
    assert not page.complaints


def test_cached_plan_is_shown_again_on_a_fresh_page(page, demo):
    for _ in range(2):
        page.load(load_workflow("plan_video.json"))
        page.choose_video(demo)
        page.run()
        page.wait_for(FILLED)
        page.page.reload()
        page.wait_until_ready()
    assert not page.complaints
