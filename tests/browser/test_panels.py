"""Answers and verdicts stand in their nodes: written live, copied, linked to the timeline, drawn as bars."""

from support.workflow import load_workflow

ANSWERS, VERDICT = ".codeclens-answers", ".codeclens-verdict"


def node_of(kind):
    return f"app.graph.nodes.find(node => node.comfyClass === '{kind}')"


def root_of(kind):
    return f"{node_of(kind)}.codeclens.view.root"


def test_a_caption_is_written_live_with_its_rate(page):
    page.load(load_workflow("caption_a_video.json"))
    page.page.evaluate(
        f"""() => {{ const view = {node_of("CodecLensCaptionAVideo")}.codeclens.view
        const stream = view.stream.bind(view); view.seen = []
        view.stream = event => {{ stream(event); view.seen.push(view.root.innerText) }}
        // Another clip for each renderer: what the host has cached is not written again.
        const seed = {node_of("CodecLensTestVideos")}.widgets.find(one => one.name === "seed")
        seed.value += Number(LiteGraph.vueNodesMode) }}"""
    )
    page.run()
    page.page.wait_for_selector(f"{ANSWERS}[data-state=done]", state="attached")
    shown = page.page.locator(ANSWERS).first.inner_text()
    assert "visual tokens" in shown and "tokens/s" in shown and "plain" in shown and "copy" in shown
    text = page.page.locator(f"{ANSWERS} .text").first.inner_text()
    assert len(text) > 10
    seen = page.page.evaluate(f"{node_of('CodecLensCaptionAVideo')}.codeclens.view.seen")
    assert len(seen) >= 2 and "reading" in seen[0] and text in seen[-1]
    assert not page.complaints


def test_judged_and_ranked_videos_are_bars_with_pictures(page):
    page.load(load_workflow("best_of_n.json"))
    page.run()
    for kind in ("CodecLensJudgeAVideo", "CodecLensBestOfN"):
        page.wait_for(f"{node_of(kind)}.codeclens.view.root.dataset.state === 'done'")
    found = page.page.evaluate(
        f"""() => {{ const {{ verdicts, root }} = {node_of("CodecLensJudgeAVideo")}.codeclens.view
        return [verdicts.map(one => one.questions.length), root.querySelectorAll('.row').length, root.innerText] }}"""
    )
    assert len(found[0]) == 4 and found[1] == sum(found[0]) and "other replies" in found[2]
    scores = page.page.evaluate(
        f"[...{root_of('CodecLensBestOfN')}.querySelectorAll('.row')].map(row => Number(row.dataset.value))"
    )
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    page.wait_for(f"[...{root_of('CodecLensBestOfN')}.querySelectorAll('img')].every(one => one.naturalWidth > 0)")
    assert not page.complaints


TIMES = """() => {
    const place = kind => { const node = LiteGraph.createNode(kind); app.graph.add(node); return node.codeclens.view }
    const kinds = ["PlanGOP", "EncodeVideo", "AskVideo", "CompareVideos", "RankVideos"]
    const [timeline, encoded, answers, compared, ranked] = kinds.map(kind => place(`CodecLens${kind}`))
    const pts = [0, 1, 2, 3, 4, 5]
    const plan = { name: "a.mp4", pts, index: pts, pcost: [null, 1, 2, 3, 4, 5], kind: "IPPPPP", i_frames: [0],
        why: ["first"], gamma: null, tokens_per_frame: [4, 1, 1, 1, 1, 1], tokens: 9, prompt_tokens: 20, warnings: [],
        rgb_per_frame: 24, rgb_paired: 12, cuts: [], unclear: [], modes: {}, gammas: {},
        marks: [["cut", 2.4, 2.4], ["fade", 3, 4.2]] }
    timeline.show([plan])
    encoded.show([plan])
    answers.show([{ clip: "a.mp4", seen: "6 frames", turns: [{ question: "When?", text: "At 4.0 seconds <b>.",
        tokens: 3, seconds: 1.5, mentions: [{ text: "4.0 seconds", seconds: [4.0] }] }] }])
    answers.root.querySelector("a").click()
    compared.show([{ kind: "compared", a: { name: "x", picture: "" }, b: { name: "y", picture: "" }, winner: "b",
        probability: 0.25, equal: 0.1, inconsistency: 0.02, off_list: 0.3 }])
    const row = (rank, strength, low, high) => ({ rank, name: `video ${rank}`, strength, low, high, picture: "" })
    const rows = [row(1, 1, 0.5, 1.5), row(2, -1, -2, 0)]
    ranked.show([{ kind: "strengths", title: "by pairs", unit: "log-odds", rows }])
    for (const view of [timeline, encoded]) view.write()
    return { cursor: timeline.cursor, legend: timeline.legend.textContent, notes: encoded.notes.textContent,
        bars: [...ranked.root.querySelectorAll(".bar i")].map(bar => bar.style.left),
        strengths: [...ranked.root.querySelectorAll(".row")].map(row => row.dataset.value),
        text: answers.root.querySelector(".text").textContent,
        foot: answers.root.querySelector(".foot").textContent, title: compared.root.querySelector(".title").textContent,
        figures: compared.root.querySelectorAll("figure").length, won: compared.root.querySelector(".won").textContent }
}"""


def test_a_time_in_an_answer_moves_the_timeline_and_videos_stand_side_by_side_or_in_order(page):
    page.load(load_workflow("plan_video.json"))
    found = page.page.evaluate(TIMES)
    assert found["cursor"] == 4 and found["text"] == "At 4.0 seconds <b>."
    assert "3 tokens, 1.5 s, 2.0 tokens/s" in found["foot"]
    assert found["legend"].endswith("cut, fadeclick a frame: whole, predicted, automatic")
    assert "pinned and gamma is set on Plan GOP" in found["notes"]
    assert found["strengths"] == ["1.0000", "-1.0000"]
    assert found["bars"] == ["57.1%", "71.4%", "28.6%", "0%"], (
        "both bars start from 0 or end there, with their intervals"
    )
    assert found["title"] == "better: B (y)" and found["figures"] == 2 and found["won"] == "B: y"
    assert not page.complaints
