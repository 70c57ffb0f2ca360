"""Nodes that caption, judge and measure whole folders, resumably, and one that keeps a caption beside its clip."""

import json

from comfy_api.latest import io

from ..models.code.captions import Writing
from ..models.code.modes.pictures import BATCH_PATCHES
from ..models.code.presets import list_presets, read_preset
from ..models.dataset.captioning import Captioning, caption_work, text_sidecars
from ..models.dataset.items import find_items
from ..models.dataset.job import Summary, Work, run
from ..models.dataset.journal import NAME, open_journal
from ..models.dataset.scoring import judge_work, measure_work
from ..models.dataset.sidecars import EXISTING, write_sidecar
from ..models.dataset.wording import Wording
from ..models.errors import InputError
from ..models.judge.page import rows_csv
from ..models.judge.rubric import list_rubrics, listed_rubric
from ..models.judge.scoring import expand
from ..models.qwen.generate import GREEDY
from ..models.source.reading import FrameSampling
from ..models.video.measurement import values_csv
from . import host
from .direct import config_for
from .qwen import model_input, model_or_embedded, require_vision

CATEGORY = "CodecLens/folders"

TOKENS = 16384
"""Room that is asked of the host for reading one clip; a longer one takes what there is."""


def folder_input():
    return io.String.Input(
        "folder",
        default="input",
        tooltip="A folder under ComfyUI's input or output folder, such as input/my clips, or under a folder that"
        " extra_model_paths.yaml names as datasets, such as datasets/set1. Clips already done are not done again.",
    )


def exclude_input():
    return io.String.Input(
        "exclude",
        default="",
        optional=True,
        advanced=True,
        tooltip="Patterns of names to leave out, one a line, such as old/* or draft*.",
    )


def existing_input():
    return io.Combo.Input(
        "existing",
        options=list(EXISTING),
        default="skip",
        tooltip="Caption files that somebody else wrote or edited: skip leaves them alone, overwrite replaces them,"
        " append and prepend join the caption to them.",
    )


def run_job(name: str, exclude: str, work_of, existing: str = "skip", images: bool = False) -> tuple[Summary, str]:
    """Run the work for a folder; returns its summary and the text that the node shows."""
    folder = host.dataset_folder(name)
    items = find_items(folder, exclude=[line.strip() for line in exclude.splitlines() if line.strip()], images=images)
    work: Work = work_of()
    with open_journal(folder / NAME) as journal:
        summary = run(items, work, journal, existing, host.node_progress())
    lines = [f"{name}: {summary.in_words()}", *(f"{clip}: {sentence}" for clip, sentence in summary.errors)]
    lines += [f"{path.name} is somebody else's and was left alone" for path in summary.left_alone]
    return summary, "\n".join(lines)


def results_of(summary: Summary) -> list[dict]:
    return [row["result"] for row in summary.rows if row.get("result")]


class CaptionFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensCaptionFolder",
            display_name="Caption Folder",
            category=CATEGORY,
            description="Captions every clip and image of a folder as training data: a .txt file beside each. Cancel or"
            " crash and run again: it goes on where it was, and does nothing twice.",
            search_aliases=["caption", "batch caption", "dataset", "training captions", "folder", "codec lens"],
            is_output_node=True,
            inputs=[
                model_input(),
                folder_input(),
                io.Combo.Input(
                    "preset",
                    options=list(list_presets(host.user_folder("presets"))),
                    default="plain",
                    tooltip="What to write: plain, dense, tags, or as the prompts of Wan, LTX or HunyuanVideo are.",
                ),
                existing_input(),
                io.String.Input(
                    "trigger", default="", tooltip="A word that stands first in every caption. Empty: none."
                ),
                io.String.Input(
                    "leave_out",
                    default="",
                    optional=True,
                    tooltip="Words that must not be mentioned, separated by commas. Asked for, and checked afterwards:"
                    " sentences that mention them are cut.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=512,
                    min=1,
                    max=32768,
                    advanced=True,
                    tooltip="Length of a caption at most, in tokens.",
                ),
                exclude_input(),
            ],
            outputs=[
                io.String.Output("captions", is_output_list=True, tooltip="The captions, in the order of the files."),
                io.String.Output("table", tooltip="File and caption, one a line."),
                io.String.Output("report", tooltip="How many were done, and one line for each that failed."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **others):
        return float("nan")

    @classmethod
    def execute(
        cls, folder, preset, existing, trigger, max_tokens, model=None, leave_out="", exclude=""
    ) -> io.NodeOutput:
        model = model_or_embedded(model)
        require_vision(model)
        words = tuple(word.strip() for word in leave_out.split(",") if word.strip())
        captioning = Captioning(
            config_for(model),
            read_preset(list_presets(host.user_folder("presets"))[preset]),
            Writing(GREEDY, max_tokens, False),
            Wording(trigger=trigger.strip(), leave_out=words),
            model=model.name,
        )

        def work() -> Work:
            return caption_work(model.for_both(BATCH_PATCHES, TOKENS), captioning, text_sidecars())

        summary, words = run_job(folder, exclude, work, existing, images=True)
        rows = [(row["name"], row["result"]["captions"]) for row in summary.rows if row.get("result")]
        captions = [captions[0] for _, captions in rows]
        table = "\n".join(f"{name}: {captions[0]}" for name, captions in rows)
        return io.NodeOutput(captions, table, words, ui=host.shown(f"{words}\n\n{table}", cls.hidden.unique_id))


class JudgeFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensJudgeFolder",
            display_name="Judge Folder",
            category=CATEGORY,
            description="Scores every clip of a folder by a rubric, the best first. Resumable like Caption Folder.",
            search_aliases=["judge", "rank", "score", "best clips", "dataset quality", "folder", "codec lens"],
            is_output_node=True,
            inputs=[
                model_input(),
                folder_input(),
                io.Combo.Input(
                    "rubric",
                    options=list(list_rubrics(host.user_folder("rubrics"))),
                    default="checklist",
                    tooltip="What is asked; see Judge Video.",
                ),
                io.String.Input(
                    "prompt", default="", multiline=True, optional=True, tooltip="What all clips were made from."
                ),
                exclude_input(),
            ],
            outputs=[
                io.String.Output("table", tooltip="Score and name of each clip, the best first."),
                io.String.Output("csv", tooltip="One line for each clip, a column for each question."),
                io.String.Output("report", tooltip="How many were done, and one line for each that failed."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **others):
        return float("nan")

    @classmethod
    def execute(cls, folder, rubric, model=None, prompt="", exclude="") -> io.NodeOutput:
        model = model_or_embedded(model)
        require_vision(model)
        asked = expand(model.for_reading(512), listed_rubric(rubric, host.user_folder("rubrics")), prompt)

        def work() -> Work:
            return judge_work(model.for_both(BATCH_PATCHES, TOKENS), model.name, config_for(model), asked)

        summary, words = run_job(folder, exclude, work)
        rows = sorted(results_of(summary), key=lambda row: -row["score"])
        table = "\n".join(f"{row['score']:.3f}  {row['clip']}" for row in rows)
        return io.NodeOutput(table, rows_csv(rows), words, ui=host.shown(f"{words}\n\n{table}", cls.hidden.unique_id))


class MeasureFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensMeasureFolder",
            display_name="Measure Folder",
            category=CATEGORY,
            description="Measures every clip of a folder without a model: flicker, freezes, jitter, motion and the rest"
            " of Measure Video. Resumable like Caption Folder.",
            search_aliases=["metrics", "quality", "dataset filter", "folder", "motion score", "codec lens"],
            is_output_node=True,
            inputs=[
                folder_input(),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames measured in each second; 0 measures every frame.",
                ),
                exclude_input(),
            ],
            outputs=[
                io.String.Output("csv", tooltip="One line for each clip, a column for each metric with its unit."),
                io.String.Output("report", tooltip="How many were done, and one line for each that failed."),
                io.String.Output("json", tooltip="Values, worst moments and drift curves of all clips."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **others):
        return float("nan")

    @classmethod
    def execute(cls, folder, fps, exclude="") -> io.NodeOutput:
        sampling = FrameSampling.by_fps(fps) if fps else FrameSampling.all()
        summary, words = run_job(folder, exclude, lambda: measure_work(sampling))
        rows = results_of(summary)
        table = values_csv([(row["clip"], row["values"]) for row in rows])
        return io.NodeOutput(table, words, json.dumps({"clips": rows}), ui=host.shown(words, cls.hidden.unique_id))


class SaveCaption(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensSaveCaption",
            display_name="Save Caption",
            category=CATEGORY,
            description="Writes a caption beside its clip, as trainers read it: clip.txt for clip.mp4. Files of others"
            " are left alone unless you say otherwise.",
            search_aliases=["save text", "caption file", "txt", "dataset", "codec lens"],
            is_output_node=True,
            inputs=[
                io.String.Input("text", force_input=True, tooltip="The caption, for instance from Caption Video."),
                io.String.Input(
                    "clip",
                    default="input/clip.mp4",
                    tooltip="The clip under ComfyUI's input or output folder, or under datasets.",
                ),
                existing_input(),
            ],
            outputs=[io.String.Output("path", tooltip="The file, empty where one of somebody else's was left alone.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, text, clip, existing) -> io.NodeOutput:
        folder, _, name = clip.replace("\\", "/").rpartition("/")
        path = host.dataset_folder(folder or "input") / name
        if not name or not path.is_file():
            raise InputError(f"{clip} is not a file; give a clip such as input/clip.mp4")
        beside = path.with_suffix(".txt")
        with open_journal(path.parent / NAME) as journal:
            written = write_sidecar(beside, f"{text.strip()}\n", journal, existing)
        words = str(beside) if written else f"{beside.name} is somebody else's and was left alone"
        return io.NodeOutput(str(beside) if written else "", ui=host.shown(words, cls.hidden.unique_id))


NODES = [CaptionFolder, JudgeFolder, MeasureFolder, SaveCaption]
