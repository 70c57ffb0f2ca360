"""Nodes that judge videos with the model: score by a rubric, compare, rank, keep the best, let through."""

import json
from pathlib import Path

from comfy_api.latest import io

from ..models.code.layout import prompt_tokens, question_tokens
from ..models.code.visual_code import VisualCode
from ..models.errors import InputError
from ..models.judge.calibration import calibration_file, read_calibration
from ..models.judge.comparison import compare
from ..models.judge.conditions import failing, parse_conditions, values_in
from ..models.judge.judging import Judgement, judge_code, rubric_reserve
from ..models.judge.page import judgement_view, thumbnail_jpeg, worst_frames
from ..models.judge.ranking import Ranking, knock_out, rank_by_metrics, rank_by_pairs, rank_by_score
from ..models.judge.rubric import Rubric, list_rubrics, listed_rubric, parse_rubric
from ..models.judge.scoring import expand
from ..models.qwen.branches import ROWS
from ..models.source.reading import FrameSampling, VideoSource
from ..models.video.measurement import measure
from . import host
from .qwen import model_input, model_or_embedded
from .visual_code import code_input

CATEGORY = "CodecLens/judge"

SHOWN_VIDEOS = 4
"""Videos of which Best of N and Rank Videos show a picture."""

GENERATED = 512
"""Tokens in which the model splits a prompt into statements at most."""


def prompt_text(tooltip: str):
    return io.String.Input("prompt", default="", multiline=True, optional=True, tooltip=tooltip)


def rubric_input(tooltip: str):
    return io.Combo.Input(
        "rubric", options=list(list_rubrics(host.user_folder("rubrics"))), default="checklist", tooltip=tooltip
    )


def rubric_file(name: str) -> Path:
    return list_rubrics(host.user_folder("rubrics"))[name]


def rubric_of(name: str, custom: str = "") -> Rubric:
    """The rubric that a node was given: the custom one where there is one."""
    if custom.strip():
        return parse_rubric(custom, "the custom rubric", "custom", yaml=not custom.lstrip().startswith("{"))
    return listed_rubric(name, host.user_folder("rubrics"))


def ready_for(model, code, tokens: int):
    """The model with its text half loaded, and memory for ``code`` and ``tokens`` more."""
    return model.for_reading(prompt_tokens(code, model.model.tokenizer) + tokens)


def verdict_ui(words: str, shown: dict) -> dict:
    """What a node that judges shows: ``words`` for who reads them elsewhere, and bars."""
    return {"text": (words,), "codeclens_verdict": [shown]}


def judged_data(found: Judgement, worst) -> dict:
    """A judgement as bars; ``worst`` is a frame uint8 [H, W, 3] of its lowest moment."""
    verdict, moment = found.verdict, found.worst_moment
    when = f"lowest: {moment.seconds[0]:.2f} s, {moment.verdict.score:.3f}" if moment else "a frame of the video"
    return {
        "kind": "judged",
        "clip": found.name,
        "title": verdict.rubric.title,
        "lowest": verdict.worst.question.name,
        **verdict.to_json(),
        "moments": [one.to_json() for one in found.moments],
        "reason": found.reason,
        "worst": {"picture": host.keep_for_page(thumbnail_jpeg(worst), ".jpg"), "words": when},
    }


def middle_picture(source: VideoSource) -> str:
    """The name of a small picture of the frame in the middle of a video, for the page."""
    first, last = source.window()
    middle = source.timeline().pts[(first + last) // 2]
    frame = source.read(FrameSampling.at_times([middle])).rgb[0]
    return host.keep_for_page(thumbnail_jpeg(frame), ".jpg")


class JudgeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensJudgeVideo",
            display_name="Judge Video",
            category=CATEGORY,
            description="Scores an encoded video by a rubric of questions. Scores are read from the probabilities of"
            " the replies, so they are the same every time; the video is read once for the whole rubric.",
            search_aliases=[
                "judge",
                "score",
                "rank",
                "rate video",
                "video quality",
                "reward",
                "vqascore",
                "codec lens",
            ],
            is_output_node=True,
            inputs=[
                model_input(),
                code_input(),
                rubric_input(
                    "What is asked. vqascore, unifiedreward and prompt_adherence need the prompt. Your own"
                    " rubrics are .json or .yaml files in the user folder codeclens/rubrics."
                ),
                prompt_text("What the video was made from, for rubrics that ask whether it shows that."),
                io.Boolean.Input(
                    "moments",
                    default=False,
                    tooltip="Judge each group of pictures on its own as well, to see when the fault is. Takes about as"
                    " long again as the whole video.",
                ),
                io.Boolean.Input(
                    "reason",
                    default=False,
                    advanced=True,
                    tooltip="Let the model name the greatest fault in a sentence. No score is read from it.",
                ),
                io.String.Input(
                    "custom_rubric",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="A rubric as JSON or YAML, used instead of the one chosen. The output rubric_json of a run"
                    " is a start: edit it and put it here.",
                ),
                io.Boolean.Input(
                    "metrics",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Measure every frame as well, into the JSON (see Measure Video); reads it once more.",
                ),
            ],
            outputs=[
                io.Float.Output("score", tooltip="0 to 1, the weighted mean of the questions."),
                io.String.Output("report", tooltip="One line for each question, the lowest marked."),
                io.Image.Output("picture", tooltip="The scores as bars, over time where moments is on."),
                io.Image.Output("worst", tooltip="Frames of the moment with the lowest score; of the video otherwise."),
                io.String.Output("json", tooltip="Scores, probabilities, off-list mass, both corrections, moments."),
                io.String.Output("rubric_json", tooltip="The rubric as it was asked, prompt and statements filled in."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, rubric, custom_rubric="", **others):
        return custom_rubric or rubric_file(rubric).read_text(encoding="utf-8")

    @classmethod
    def execute(
        cls, code, rubric, moments, reason, model=None, prompt="", custom_rubric="", metrics=False
    ) -> io.NodeOutput:
        model = model_or_embedded(model)
        video, progress = code.code, host.node_progress()
        asked = expand(model.for_reading(GENERATED), rubric_of(rubric, custom_rubric), prompt, progress)
        reserve = rubric_reserve(model.model.tokenizer, asked) + ROWS
        reading = code.readings.reading(model, video, reserve, progress)
        path = rubric_file(rubric)
        fits = {} if custom_rubric.strip() else read_calibration(calibration_file(path), model.name)
        found = judge_code(
            video, model.model, asked, fits=fits, with_moments=moments, with_metrics=metrics, with_reason=reason,
            reading=reading,
            progress=progress,
        )  # fmt: skip
        source = video.plan.video.source
        words = found.verdict.in_words() + (f"\n{found.reason}" if found.reason else "")
        worst = worst_frames(found, source)
        return io.NodeOutput(
            found.verdict.score,
            words,
            host.image(judgement_view(found, source)),
            host.images(worst),
            json.dumps(found.to_json(), indent=1),
            json.dumps(asked.to_json(), indent=1),
            ui=verdict_ui(words, judged_data(found, worst[len(worst) // 2])),
        )


class CompareVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensCompareVideos",
            display_name="Compare Two Videos",
            category=CATEGORY,
            description="Asks which of two encoded videos is better, in both orders, so that a liking for the first one"
            " cancels. Says how far the two orders disagree.",
            search_aliases=["judge", "rank", "a or b", "preference", "which is better", "pairwise", "codec lens"],
            is_output_node=True,
            inputs=[
                model_input(),
                code_input("code_a"),
                code_input("code_b"),
                prompt_text("What both were made from; the question then is which one shows it better."),
                io.String.Input(
                    "question",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Asked instead of the default question. The replies are A, B and Equal; say so in it.",
                ),
            ],
            outputs=[
                io.String.Output("winner", tooltip="a, b or equal."),
                io.Float.Output("probability", tooltip="0 to 1: that a is the better one; an equal pair counts half."),
                io.String.Output("report", tooltip="The result in words."),
                io.String.Output("json", tooltip="Both orders' log-odds, inconsistency and off-list mass."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, code_a, code_b, model=None, prompt="", question="") -> io.NodeOutput:
        model = model_or_embedded(model)
        a, b = code_a.code, code_b.code
        ready = ready_for(model, [*a, *b], 512 + question_tokens(model.model.tokenizer, prompt + question))
        found = compare(ready, a, b, prompt, question, host.node_progress())
        names = {"a": f"a ({a.name})", "b": f"b ({b.name})", "equal": "neither"}
        words = (
            f"better: {names[found.winner]}\nP(a is better) {found.probability:.3f}, equal {found.equal:.3f}\n"
            f"the two orders disagree by {found.inconsistency:.3f}"
        )
        report = json.dumps({"a": a.name, "b": b.name, **found.to_json()}, indent=1)
        shown = {
            "kind": "compared",
            "a": {"name": a.name, "picture": middle_picture(a.plan.video.source)},
            "b": {"name": b.name, "picture": middle_picture(b.plan.video.source)},
            "winner": found.winner,
            "probability": found.probability,
            "equal": found.equal,
            "inconsistency": found.inconsistency,
            "off_list": found.off_list,
        }
        return io.NodeOutput(found.winner, found.probability, words, report, ui=verdict_ui(words, shown))


class RankVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensRankVideos",
            display_name="Rank Videos",
            category=CATEGORY,
            description="Puts encoded videos in order by comparing them in pairs (Bradley-Terry strengths with 95 %"
            " intervals), by a winners' tournament, or by metrics. For an order by a rubric's score use Best of N.",
            search_aliases=[
                "rank",
                "score",
                "judge",
                "sort videos",
                "best video",
                "tournament",
                "bradley terry",
                "codec lens",
            ],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                model_input(),
                code_input(),
                io.Combo.Input(
                    "by",
                    options=["pairs", "knock-out", "metrics"],
                    default="pairs",
                    tooltip="pairs compares all with all, n (n - 1) / 2 comparisons. knock-out lets winners meet"
                    " winners, n - 1 comparisons: sure of the winner alone. metrics asks no model: flicker, freezes,"
                    " sudden changes and jitter of Measure Video.",
                ),
                prompt_text("What the videos were made from; the question then is which one shows it better."),
            ],
            outputs=[
                io.Int.Output("order", is_output_list=True, tooltip="Positions in the list, from 0, the best first."),
                io.String.Output("table", tooltip="Rank, strength with its interval, and name of each video."),
                io.String.Output("json", tooltip="The table as JSON, with the mean disagreement of both orders."),
            ],
        )

    @classmethod
    def execute(cls, code, by, model=None, prompt=("",)) -> io.NodeOutput:
        codes, prompt = [one.code for one in code], prompt[0]
        if by[0] == "metrics":
            progress = host.node_progress()
            measured = [measure(one.plan.video.source, progress=progress).clip for one in codes]
            return cls.output(rank_by_metrics(measured), codes, by[0])
        model = model_or_embedded(model)
        longest = sorted(codes, key=lambda one: -one.token_count)[:2]
        segments = [segment for one in longest for segment in one]
        ready = ready_for(model, segments, 512 + question_tokens(model.model.tokenizer, prompt))
        rank = rank_by_pairs if by[0] == "pairs" else knock_out
        progress, done = host.node_progress(), 0
        total = len(codes) * (len(codes) - 1) // 2 if by[0] == "pairs" else len(codes) - 1

        def against(a: int, b: int):
            nonlocal done
            found = compare(ready, codes[a], codes[b], prompt)
            done += 1
            progress(done, total)
            return found

        return cls.output(rank(len(codes), against), codes, by[0])

    @classmethod
    def output(cls, ranking: Ranking, codes: list[VisualCode], by: str) -> io.NodeOutput:
        rows = ranking.to_json([code.name for code in codes])
        table = "\n".join(
            f"{row['rank']}. {row['video']}   {row['strength']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
            for row in rows
        )
        report = json.dumps({"by": by, "inconsistency": ranking.inconsistency, "ranking": rows}, indent=1)
        shown = {
            "kind": "strengths",
            "title": f"by {by}",
            "unit": "fraction of the others beaten" if by == "metrics" else "log-odds, with 95 % intervals",
            "rows": [
                {
                    **row,
                    "name": f"video {at + 1}: {row['video']}",
                    "picture": middle_picture(codes[at].plan.video.source) if row["rank"] <= SHOWN_VIDEOS else "",
                }
                for row, at in zip(rows, ranking.order, strict=True)
            ],
        }
        return io.NodeOutput(list(ranking.order), table, report, ui=verdict_ui(table, shown))


class BestOfN(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensBestOfN",
            display_name="Best of N Videos",
            category=CATEGORY,
            description="Keeps the best of a list of videos by their scores, for instance from Judge Video: after a"
            " batch, a list or a loop. Says why the others were left out.",
            search_aliases=["best of n", "pick best", "select best video", "choose", "rank", "score", "codec lens"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Video.Input("videos", tooltip="The list of videos."),
                io.Float.Input(
                    "scores",
                    force_input=True,
                    tooltip="One score for each video, in the same order, for instance from Judge Video.",
                ),
                io.Int.Input("keep", default=1, min=1, max=1000, tooltip="How many of the best are kept."),
                io.String.Input(
                    "reports",
                    force_input=True,
                    optional=True,
                    tooltip="Reports of the videos, in the same order: shown with each one as the reason.",
                ),
            ],
            outputs=[
                io.Video.Output("best", is_output_list=True, tooltip="The best videos, the best first."),
                io.Float.Output("kept_scores", is_output_list=True, tooltip="Their scores."),
                io.String.Output("table", tooltip="All videos in order, with scores and reasons."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, videos, scores, keep, reports=()) -> io.NodeOutput:
        if len(scores) != len(videos):
            raise InputError(f"there are {len(videos)} videos and {len(scores)} scores; give one score for each video")
        order, count = rank_by_score(scores).order, min(keep[0], len(videos))
        lines = []
        for rank, at in enumerate(order, 1):
            mark = "kept" if rank <= count else "left out"
            reason = f"\n{reports[at]}" if at < len(reports) else ""
            lines.append(f"{rank}. video {at + 1}: {scores[at]:.3f}, {mark}{reason}")
        table = "\n".join(lines)
        best = [videos[at] for at in order[:count]]
        rows = [
            {
                "rank": rank,
                "name": f"video {at + 1}",
                "score": scores[at],
                "kept": rank <= count,
                "words": "kept" if rank <= count else "left out",
                "picture": middle_picture(host.video_source(videos[at])[0]) if rank <= SHOWN_VIDEOS else "",
            }
            for rank, at in enumerate(order, 1)
        ]
        shown = {"kind": "ranked", "title": f"{count} of {len(videos)} kept", "rows": rows}
        return io.NodeOutput(best, [scores[at] for at in order[:count]], table, ui=verdict_ui(table, shown))


class Gate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        passed = io.MatchType.Template("passed")
        return io.Schema(
            node_id="CodecLensGate",
            display_name="Quality Gate",
            category=CATEGORY,
            description="Lets something through only if metrics and scores meet your conditions. Where they do not,"
            " what comes after does not run, and what only the gate needs is not computed.",
            search_aliases=["gate", "score", "filter", "threshold", "reject", "if", "stop bad videos", "codec lens"],
            is_output_node=True,
            inputs=[
                io.MatchType.Input(
                    "value", template=passed, lazy=True, tooltip="What is let through, a video or any other."
                ),
                io.String.Input(
                    "conditions",
                    default="score >= 0.5",
                    multiline=True,
                    tooltip="One a line, such as 'flicker <= 3', 'longest_freeze <= 0.5', 'score >= 0.6'. Names are"
                    " those of Measure Video's metrics, the rubric's questions, score and pass_fraction.",
                ),
                io.String.Input("metrics", force_input=True, optional=True, tooltip="The JSON of Measure Video."),
                io.String.Input("verdict", force_input=True, optional=True, tooltip="The JSON of Judge Video."),
            ],
            outputs=[
                io.MatchType.Output(passed, "output", display_name="through"),
                io.Boolean.Output("passed", tooltip="Whether all conditions hold."),
                io.String.Output("reason", tooltip="The conditions that do not hold; empty where all do."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def _failing(cls, conditions, metrics, verdict) -> list[str]:
        return failing(parse_conditions(conditions), values_in(*(text for text in (metrics, verdict) if text)))

    @classmethod
    def check_lazy_status(cls, conditions, value=None, metrics=None, verdict=None):
        return [] if cls._failing(conditions, metrics, verdict) else ["value"]

    @classmethod
    def execute(cls, conditions, value=None, metrics=None, verdict=None) -> io.NodeOutput:
        reasons = cls._failing(conditions, metrics, verdict)
        words = "; ".join(reasons)
        state = f"closed: {words}" if reasons else "open: all conditions hold"
        shown = host.shown(state, cls.hidden.unique_id)
        return io.NodeOutput(host.blocked() if reasons else value, not reasons, words, ui=shown)


NODES = [JudgeVideo, CompareVideos, RankVideos, BestOfN, Gate]
