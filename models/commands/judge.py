"""Commands that judge videos: judge, compare, rank."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..code.pipeline import CodeConfig, watch
from ..code.visual_code import VisualCode
from ..dataset.items import Item
from ..dataset.job import Summary, Work
from ..dataset.scoring import judge_work
from ..errors import InputError
from ..files import make_folder, write_text
from ..judge.calibration import Fit, calibrate, calibration_file, read_calibration, read_labels, write_calibration
from ..judge.comparison import compare
from ..judge.judging import Judgement, judge_clip
from ..judge.page import judge_csv, judge_page, judgement_view, page_row, rows_csv
from ..judge.ranking import Ranking, knock_out, rank_by_both, rank_by_metrics, rank_by_pairs, rank_by_score
from ..judge.rubric import Rubric, find_rubric, list_rubrics
from ..judge.scoring import expand
from ..progress import TerminalProgress
from ..source.reading import VideoSource
from ..video.measurement import measure
from .costs import pricing
from .folders import add_folder_options, device_of_work, dry_run, is_folder, items_of, run_folder
from .model import files_of, load_model, model_name
from .talk import add_code_options, config_of
from .video import check_folders, save_picture, warn, write_json

COMPARE_RESERVE = 256
"""Tokens of the model's context that the question of a comparison takes at most, without the prompt."""


DEFAULT_RUBRIC = "default checklist; for the embedded model faults, in the words that it knows"


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    rubrics = ", ".join(list_rubrics())
    judge = commands.add_parser("judge", help="score videos by a rubric, from the probabilities of the replies")
    judge.add_argument("clips", nargs="*", metavar="CLIP", help="video files, or one folder of clips")
    judge.add_argument("--rubric", metavar="R", help=f"{rubrics}; or a .json or .yaml file ({DEFAULT_RUBRIC})")
    judge.add_argument("--prompt", default="", help="what the clips were made from, for rubrics that ask about it")
    judge.add_argument("--moments", action="store_true", help="judge each group of pictures on its own, too")
    judge.add_argument("--metrics", action="store_true", help="measure the clips as well")
    judge.add_argument("--reason", action="store_true", help="let the model say the greatest fault in a sentence")
    judge.add_argument(
        "--calibrate", metavar="F.jsonl", help="fit the rubric to your verdicts: lines of clip, question, good"
    )
    judge.add_argument("--csv", metavar="F", help="write one line for each clip")
    judge.add_argument("--html", metavar="F", help="write a page with a picture of each clip and all scores")
    judge.add_argument("--png", metavar="F", help="draw the scores; a folder where several clips are given")
    add_code_options(judge)
    add_folder_options(judge)
    judge.set_defaults(run=run_judge)

    pair = commands.add_parser("compare", help="which of two videos is better, asked in both orders")
    pair.add_argument("clips", nargs=2, metavar="CLIP")
    pair.add_argument("--prompt", default="", help="what both were made from")
    pair.add_argument("--question", default="", help="asked instead; the replies are A, B and Equal")
    add_code_options(pair)
    pair.set_defaults(run=run_compare)

    rank = commands.add_parser("rank", help="put videos in order, the best first")
    rank.add_argument("clips", nargs="+", metavar="CLIP")
    rank.add_argument(
        "--by", choices=("score", "metrics", "both", "pairs", "knock-out"), default="score",
        help="score: by the rubric (default); metrics: without a model; both: the mean of these two orders; pairs: all "
        "pairs compared; knock-out: winners meet winners",
    )  # fmt: skip
    rank.add_argument("--rubric", metavar="R", help=f"for score: {rubrics}; or a file ({DEFAULT_RUBRIC})")
    rank.add_argument("--prompt", default="", help="what the clips were made from")
    add_code_options(rank)
    rank.set_defaults(run=run_rank)


def run_judge(arguments: argparse.Namespace) -> int:
    """Judge each clip; one that cannot be read is one line on standard error and exit code 2 at the end."""
    check_folders(arguments.json, arguments.csv, arguments.html, arguments.png)
    arguments.rubric = rubric_of(arguments)
    rubric = find_rubric(arguments.rubric)
    if arguments.calibrate:
        return run_calibrate(arguments, rubric)
    if not arguments.clips:
        raise InputError("there is no clip to judge; give at least one")
    if is_folder(arguments):
        return judge_folder(arguments, rubric)
    config, model = config_of(arguments), load_model(arguments)
    rubric = expand(model, rubric, arguments.prompt)
    fits = read_calibration(_calibration_path(arguments.rubric), model_name(arguments))
    found: list[Judgement] = []
    rows, failed = [], 0
    for clip in arguments.clips:
        try:
            source = VideoSource.open(clip)
            one = judge_clip(
                source, model, config, rubric, fits=fits, with_moments=arguments.moments,
                with_metrics=arguments.metrics, with_reason=arguments.reason, progress=TerminalProgress(clip),
            )  # fmt: skip
            if arguments.html:
                rows.append(page_row(one, source))
            _draw(one, source, arguments)
        except InputError as error:
            warn([str(error)])
            failed += 1
            continue
        warn(one.code.warnings)
        found.append(one)
        if arguments.json != "-":
            print(f"{one.name}\n{one.verdict.in_words()}", flush=True)
            if one.reason:
                print(f"  {one.reason}", flush=True)
    if arguments.json:
        values = [one.to_json() for one in found]
        write_json(values[0] if len(arguments.clips) == 1 and values else {"clips": values}, arguments.json)
    if arguments.csv:
        write_text(arguments.csv, judge_csv(found))
    if arguments.html:
        write_text(arguments.html, judge_page(rows, f"Judged by {rubric.title}"))
    return 2 if failed else 0


def rubric_of(arguments: argparse.Namespace) -> str:
    """The rubric's name or file; by default one that suits the model."""
    return arguments.rubric or ("faults" if arguments.model is None else "checklist")


def judge_folder(arguments: argparse.Namespace, rubric: Rubric) -> int:
    """Judge every clip of a folder, resumably."""
    if arguments.png:
        raise InputError("--png draws single clips; give clips, or --html for a page of the folder")
    folder, items = items_of(arguments, images=False)
    if arguments.dry_run:
        return dry_judge(arguments, folder, items, rubric)
    model = load_model(arguments, device=device_of_work(arguments))
    rubric = expand(model, rubric, arguments.prompt)
    fits = read_calibration(_calibration_path(arguments.rubric), model_name(arguments))
    remake = partial(remade_work, rubric=rubric, fits=fits)
    return finish_folder(arguments, *run_folder(arguments, folder, items, remake(arguments, model=model), remake))


def dry_judge(arguments: argparse.Namespace, folder: Path, items: Sequence[Item], rubric: Rubric) -> int:
    """Say what judging a folder would take; of a rubric that the model makes for a prompt, without that."""
    if not rubric.decompose:
        rubric = rubric.for_prompt(arguments.prompt)
    # All questions after one reading cost what one as long as all of them does.
    questions = " ".join(text for one in rubric.questions for text in (one.question, one.negated))
    model, price = pricing(files_of(arguments), config_of(arguments), questions, 0)
    fits = read_calibration(_calibration_path(arguments.rubric), model_name(arguments))
    return dry_run(folder, items, remade_work(arguments, rubric, fits, model), price)


def remade_work(arguments: argparse.Namespace, rubric: Rubric, fits: dict[str, Fit], model=None) -> Work:
    """The work of judging a folder, with ``model`` or the one that the arguments name."""
    model = model or load_model(arguments)
    return judge_work(
        model, model_name(arguments), config_of(arguments), rubric, fits,
        with_moments=arguments.moments, with_metrics=arguments.metrics, with_reason=arguments.reason,
    )  # fmt: skip


def finish_folder(arguments: argparse.Namespace, summary: Summary, code: int) -> int:
    """Write a folder's rows as JSON, CSV and HTML, the highest score first in words."""
    rows = [row["result"] for row in summary.rows if row.get("result")]
    if arguments.json:
        shown = [{key: value for key, value in row.items() if key != "picture"} for row in rows]
        write_json({"clips": shown}, arguments.json)
    if arguments.csv:
        write_text(arguments.csv, rows_csv(rows))
    if arguments.html:
        failed = [row for row in summary.rows if row.get("error")]
        write_text(arguments.html, judge_page([*rows, *failed], f"{Path(arguments.clips[0]).resolve().name}: judged"))
    if arguments.json != "-":
        for row in sorted(rows, key=lambda row: -row["score"]):
            print(f"{row['score']:.3f}  {row['clip']}")
    return code


def _draw(one: Judgement, source: VideoSource, arguments) -> None:
    if not arguments.png:
        return
    path = Path(arguments.png)
    if len(arguments.clips) > 1:
        make_folder(path)
        path = path / f"{Path(source.info.name).stem}.png"
    save_picture(judgement_view(one, source), path)


def run_calibrate(arguments: argparse.Namespace, rubric: Rubric) -> int:
    """Judge the labelled clips, fit the rubric's questions and keep the fits beside the rubric."""
    labels, config, model = read_labels(Path(arguments.calibrate)), config_of(arguments), load_model(arguments)
    rubric, folder = expand(model, rubric, arguments.prompt), Path(arguments.calibrate).parent
    verdicts = {}
    for clip in dict.fromkeys(row["clip"] for row in labels):
        source = VideoSource.open(folder / clip)
        verdicts[clip] = judge_clip(source, model, config, rubric, progress=TerminalProgress(clip)).verdict
    fits = calibrate(rubric, verdicts, labels)
    path = _calibration_path(arguments.rubric)
    write_calibration(path, model_name(arguments), fits)
    for name, fit in fits.items():
        print(
            f"{name}: {fit.verdicts} verdicts, AUC {fit.auc:.3f}, calibration error {fit.error_before:.3f} -> "
            f"{fit.error_after:.3f} (cross-validated)"
        )
    print(f"kept in {path}")
    return 0


def _calibration_path(rubric: str) -> Path:
    """Beside the user's rubric file; in the folder where the command runs for a rubric of the pack."""
    return calibration_file(Path(rubric)) if Path(rubric).is_file() else Path(f"{rubric}.calibration.json")


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare two clips in both orders."""
    check_folders(arguments.json)
    config = config_of(arguments)
    sources = [VideoSource.open(clip) for clip in arguments.clips]
    model = load_model(arguments)
    a, b = encoded(sources, model, config, arguments.prompt + arguments.question, shown=2)
    found = compare(model, a, b, arguments.prompt, arguments.question)
    if arguments.json:
        write_json({"a": a.name, "b": b.name, **found.to_json()}, arguments.json)
    if arguments.json != "-":
        names = {"a": a.name, "b": b.name, "equal": "neither"}
        print(
            f"better: {names[found.winner]}   (P({a.name}) {found.probability:.3f}, equal {found.equal:.3f}, "
            f"disagreement of both orders {found.inconsistency:.3f})"
        )
    return 0


def run_rank(arguments: argparse.Namespace) -> int:
    """Rank clips by score or by pairs."""
    check_folders(arguments.json)
    config = config_of(arguments)
    sources = [VideoSource.open(clip) for clip in arguments.clips]
    if arguments.by == "metrics":
        ranking = rank_by_metrics(measured(sources))
    else:
        ranking = ranking_of(
            sources, load_model(arguments), config, arguments.by, rubric_of(arguments), arguments.prompt
        )
    rows = ranking.to_json([source.info.name for source in sources])
    if arguments.json:
        write_json({"by": arguments.by, "inconsistency": ranking.inconsistency, "ranking": rows}, arguments.json)
    if arguments.json != "-":
        for row in rows:
            interval = (
                "" if arguments.by in ("score", "metrics", "both") else f"  ({row['low']:+.2f} to {row['high']:+.2f})"
            )
            print(f"{row['rank']:>3}  {row['strength']:+.3f}{interval}  {row['video']}")
    return 0


def ranking_of(sources, model, config: CodeConfig, by: str, rubric: str, prompt: str) -> Ranking:
    """Rank the clips of ``sources`` by a rubric's score, by it and their metrics, by all pairs or by a knock-out."""
    if by in ("score", "both"):
        asked = expand(model, find_rubric(rubric), prompt)
        scores = [
            judge_clip(source, model, config, asked, progress=TerminalProgress(source.info.name)).verdict.score
            for source in sources
        ]
        return rank_by_score(scores) if by == "score" else rank_by_both(scores, measured(sources))
    codes = encoded(sources, model, config, prompt, shown=2)
    rank = rank_by_pairs if by == "pairs" else knock_out
    return rank(len(codes), lambda a, b: compare(model, codes[a], codes[b], prompt))


def measured(sources) -> list[dict[str, float]]:
    """The metrics of each clip."""
    return [measure(source, progress=TerminalProgress(source.info.name)).clip for source in sources]


def encoded(sources, model, config: CodeConfig, asked: str, shown: int) -> list[VisualCode]:
    """Codes of all clips, each short enough that ``shown`` of them fit the model's context with the question."""
    context = model.config.text.context_length
    reserve = COMPARE_RESERVE + len(model.tokenizer.encode(asked))
    reserve += (context - reserve) * (shown - 1) // shown
    return [
        watch(source, model, config, reserve=reserve, progress=TerminalProgress(source.info.name)) for source in sources
    ]
