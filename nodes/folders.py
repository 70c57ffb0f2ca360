"""Nodes that caption, judge and measure whole folders, resumably, and one that keeps a caption beside its clip."""

import json
from collections.abc import Sequence

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
from ..models.dataset.text_encoders import token_counter
from ..models.dataset.wording import Wording
from ..models.errors import InputError
from ..models.files import write_text
from ..models.judge.page import judge_page, rows_csv
from ..models.judge.scoring import expand
from ..models.qwen.generate import GREEDY
from ..models.source.reading import FrameSampling
from ..models.video.measurement import values_csv
from . import host
from .direct import config_for
from .judge import GENERATED, prompt_text, rubric_input, rubric_of
from .measure import measured_fps
from .qwen import model_input, model_or_embedded, require_vision

CATEGORY = "CodecLens/folders"

OWN_TOKENIZER = "the captioning model's"

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


def failures_of(summary: Summary) -> list[dict]:
    return [row for row in summary.rows if row.get("error")]


def counted_by(tokenizer: str, own) -> dict:
    """How a Wording counts: by a tokenizer that :func:`host.text_tokenizers` lists, else by the model's ``own``."""
    listed = host.text_tokenizers()
    if tokenizer in ("", OWN_TOKENIZER):
        return {"count_tokens": lambda text: len(own.encode(text))}
    if tokenizer not in listed:
        raise InputError(f"tokenizer {tokenizer!r} is not one of {', '.join(listed) or 'those that are here: none is'}")
    return {"count_tokens": token_counter(listed[tokenizer]), "counted_by": tokenizer}


class FolderNode(io.ComfyNode):
    """What the nodes that work through a folder have in common."""

    @classmethod
    def schema(
        cls, kind: str, description: str, aliases: list[str], inputs: list, outputs: list, later: Sequence = ()
    ) -> io.Schema:
        """The schema of the node that ``kind`` names, such as 'Caption'.

        Inputs that came later stand last: saved workflows hold the values of widgets by their order.
        """
        return io.Schema(
            node_id=f"CodecLens{kind}Folder",
            display_name=f"{kind} Folder",
            category=CATEGORY,
            description=description,
            search_aliases=[*aliases, "folder", "codec lens"],
            is_output_node=True,
            inputs=[*inputs, exclude_input(), *later],
            outputs=outputs,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **others):
        # What lies in the folder may have changed.
        return float("nan")


def report_output():
    return io.String.Output("report", tooltip="How many were done, and one line for each that failed.")


class CaptionFolder(FolderNode):
    @classmethod
    def define_schema(cls):
        return cls.schema(
            "Caption",
            "Captions every clip and image of a folder as training data: a .txt file beside each. Cancel or"
            " crash and run again: it goes on where it was, and does nothing twice.",
            ["caption", "batch caption", "dataset", "training captions"],
            [
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
            ],
            [
                io.String.Output("captions", is_output_list=True, tooltip="The captions, in the order of the files."),
                io.String.Output("table", tooltip="File and caption, one a line."),
                report_output(),
            ],
            [
                io.Int.Input(
                    "longest",
                    default=0,
                    min=0,
                    max=32768,
                    optional=True,
                    advanced=True,
                    tooltip="Tokens at most that the video model's text encoder may get; a longer caption is cut at the"
                    " end of a sentence, or of a clause. 0 for any length.",
                ),
                io.Combo.Input(
                    "tokenizer",
                    options=[OWN_TOKENIZER, *host.text_tokenizers()],
                    default=OWN_TOKENIZER,
                    optional=True,
                    advanced=True,
                    tooltip="Whose tokens longest counts: the captioning model's own, one that comes with ComfyUI (sd1"
                    " is CLIP's), or a text encoder's file that carries its tokenizer, as umt5 for Wan does.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, folder, preset, existing, trigger, max_tokens, model=None, leave_out="", longest=0,
        tokenizer="", exclude="",
    ) -> io.NodeOutput:  # fmt: skip
        model = model_or_embedded(model)
        require_vision(model)
        words = tuple(word.strip() for word in leave_out.split(",") if word.strip())
        counting = {}
        if longest:
            counting = counted_by(tokenizer, model.model.tokenizer)
        captioning = Captioning(
            config_for(model),
            read_preset(list_presets(host.user_folder("presets"))[preset]),
            Writing(GREEDY, max_tokens, False),
            Wording(trigger=trigger.strip(), leave_out=words, longest=longest, **counting),
            model=model.name,
        )

        def work() -> Work:
            return caption_work(model.for_both(BATCH_PATCHES, TOKENS), captioning, text_sidecars())

        summary, words = run_job(folder, exclude, work, existing, images=True)
        rows = [(row["name"], row["result"]["captions"]) for row in summary.rows if row.get("result")]
        captions = [captions[0] for _, captions in rows]
        table = "\n".join(f"{name}: {captions[0]}" for name, captions in rows)
        return io.NodeOutput(captions, table, words, ui=host.shown(f"{words}\n\n{table}", cls.hidden.unique_id))


class JudgeFolder(FolderNode):
    @classmethod
    def define_schema(cls):
        return cls.schema(
            "Judge",
            "Scores every clip of a folder by a rubric, the best first, and writes a page with pictures, plans, scores"
            " and reasons. Resumable like Caption Folder.",
            ["judge", "rank", "score", "best clips", "dataset quality"],
            [
                model_input(),
                folder_input(),
                rubric_input("What is asked; see Judge Video."),
                prompt_text("What all clips were made from."),
            ],
            [
                io.String.Output("table", tooltip="Score and name of each clip, the best first."),
                io.String.Output("csv", tooltip="One line for each clip, a column for each question."),
                report_output(),
                io.String.Output("page", tooltip="The HTML page under ComfyUI's output folder; opens from disk."),
            ],
            [
                io.Boolean.Input(
                    "metrics",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Measure every clip as well (see Measure Video); reads each one once more.",
                ),
                io.Boolean.Input(
                    "reason",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Let the model name the greatest fault of each clip in a sentence, for the page.",
                ),
            ],
        )

    @classmethod
    def execute(cls, folder, rubric, model=None, prompt="", metrics=False, reason=False, exclude="") -> io.NodeOutput:
        model = model_or_embedded(model)
        require_vision(model)
        asked = expand(model.for_reading(GENERATED), rubric_of(rubric), prompt)

        def work() -> Work:
            ready = model.for_both(BATCH_PATCHES, TOKENS)
            return judge_work(ready, model.name, config_for(model), asked, with_metrics=metrics, with_reason=reason)

        summary, words = run_job(folder, exclude, work)
        rows = sorted(results_of(summary), key=lambda row: -row["score"])
        table = "\n".join(f"{row['score']:.3f}  {row['clip']}" for row in rows)
        (page,) = host.next_output("codeclens/judged", "html")
        write_text(page, judge_page([*rows, *failures_of(summary)], f"{folder}: {asked.title}"))
        words = f"{words}\n{page}"
        shown = host.shown(f"{words}\n\n{table}", cls.hidden.unique_id)
        return io.NodeOutput(table, rows_csv(rows), words, str(page), ui=shown)


class MeasureFolder(FolderNode):
    @classmethod
    def define_schema(cls):
        return cls.schema(
            "Measure",
            "Measures every clip of a folder without a model: flicker, freezes, jitter, motion and the rest"
            " of Measure Video. Resumable like Caption Folder.",
            ["metrics", "quality", "dataset filter", "motion score"],
            [
                folder_input(),
                measured_fps("Frames measured in each second; 0 measures every frame."),
            ],
            [
                io.String.Output("csv", tooltip="One line for each clip, a column for each metric with its unit."),
                report_output(),
                io.String.Output("json", tooltip="Values, worst moments and drift curves of all clips."),
            ],
        )

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
