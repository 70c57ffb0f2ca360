"""The node that compares how videos are shown to Qwen3-VL, on the user's own questions."""

import json
import os
from pathlib import Path

from comfy_api.latest import io

from ..models.code.modes.pictures import BATCH_PATCHES
from ..models.code.pipeline import CodeConfig
from ..models.errors import InputError
from ..models.evaluation.paired import LEARNED, MODES, check_modes, evaluate, read_tasks
from ..models.evaluation.report import evaluation_page, lost_plans
from ..models.evaluation.router import route
from ..models.evaluation.statistics import summarise, table
from ..models.files import write_text
from ..models.source.reading import FrameSampling
from . import host
from .learned import LearnedCodeSocket
from .qwen import model_input, model_or_embedded, require_vision

TOKENS = 16384
"""Room that is asked of the host for reading one video; a longer one takes what there is."""


class EvaluateModes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        described = "; ".join(f"{name}: {what}" for name, what in (MODES | LEARNED).items())
        return io.Schema(
            node_id="CodecLensEvaluateModes",
            display_name="Evaluate Modes",
            category="CodecLens/code",
            description="Asks the same questions about the same videos in several modes, and says which modes answer as"
            " well as native frame pairs, at how many tokens: accuracy with intervals, losses by kind of question, and"
            " a page with the plan of every video where something was lost.",
            search_aliases=["benchmark", "compare", "accuracy", "token budget", "codec lens"],
            inputs=[
                model_input(),
                io.String.Input(
                    "tasks",
                    default="tasks.jsonl",
                    tooltip="A .jsonl file in the input folder. It and its videos must lie in input, output or models."
                    " One line for each video:"
                    ' {"clip": "a.mp4", "questions": [{"question": "...", "answer": "...", "choices": ["...", "..."]}]}'
                    " with the clip's path beside the file. Without choices the written answer must match.",
                ),
                io.String.Input(
                    "modes",
                    default="rgb, thumbnail, keyframes, sparse",
                    tooltip=f"What to compare: names with commas between. {described}. With rgb and thumbnail both, a"
                    " router between them is learned and judged too.",
                ),
                io.Float.Input(
                    "fps",
                    default=2.0,
                    min=0.0,
                    max=60.0,
                    step=0.5,
                    tooltip="Frames sampled each second, in every mode. 0 samples all.",
                ),
                io.Int.Input(
                    "side",
                    default=512,
                    min=64,
                    max=2048,
                    step=32,
                    tooltip="Whole pictures have about side x side pixels, in the video's shape: 512 makes 256 tokens.",
                ),
                io.Int.Input(
                    "limit",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Only the first so many videos, to try things out. 0 takes all.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="codeclens/evaluation",
                    tooltip="Where under the output folder the page and the numbers go, without their extensions.",
                ),
                LearnedCodeSocket.Input(
                    "learned",
                    optional=True,
                    tooltip="From Load Learned Code or Train Learned Code, to compare its mode, ptoken or delta, too.",
                ),
            ],
            outputs=[
                io.String.Output("table", tooltip="A line for each mode."),
                io.String.Output("report", tooltip="Everything as JSON, the questions that each mode loses too."),
                io.String.Output("page", tooltip="Path of the HTML page; it needs nothing but a browser."),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, tasks, **others):
        return os.path.getmtime(_tasks_path(tasks))

    @classmethod
    def execute(cls, tasks, modes, fps, side, limit, filename_prefix, model=None, learned=None) -> io.NodeOutput:
        model = model_or_embedded(model)
        require_vision(model)
        chosen = modes.replace(",", " ").split()
        check_modes(chosen)
        path = _tasks_path(tasks)
        asked = read_tasks(path, limit or None)
        for clip in {task.clip for task in asked}:
            host.inside(clip, f"a clip of {path.name}")
        config = CodeConfig(sampling=FrameSampling.by_fps(fps) if fps else FrameSampling.all(), area=side**2)
        ready = model.for_both(max(BATCH_PATCHES, side**2 // 256), TOKENS)
        code = None if learned is None else learned.for_model(ready)
        codes = {} if code is None else {code.header.mode: code}
        found = evaluate(asked, ready, chosen, config, host.node_progress(), codes=codes)
        summary = summarise(found.outcomes, route(found.outcomes, found.plans))
        page = evaluation_page(summary, f"Modes on {path.name}", lost_plans(summary, found.plans, host.node_progress()))
        report, text = json.dumps(summary, indent=1), table(summary)
        written = _save(filename_prefix, {".html": page, ".json": report})
        return io.NodeOutput(text, report, str(written), ui={"text": (text,)})


def _tasks_path(tasks: str) -> Path:
    """The path of a tasks file, by its name in the input folder, or in full where the host may read it."""
    path = host.inside(host.input_folder() / tasks.strip(), "tasks")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the name of a .jsonl file in the input folder")
    return path


def _save(prefix: str, texts: dict[str, str]) -> Path:
    """Write ``texts`` by their extensions under the next free name and return the first one's path."""
    paths = host.next_output(prefix, *texts)
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths[0]


NODES = [EvaluateModes]
