"""The command that shows a newcomer the main job: demo."""

import argparse
import random
from pathlib import Path

from ..code.conversation import Conversation, converse
from ..code.pipeline import CodeConfig, watch
from ..code.visual_code import VisualCode
from ..drawing.views import timeline_view
from ..evaluation.paired import plain
from ..files import make_folder
from ..progress import TerminalProgress
from ..qwen.generate import GREEDY
from ..qwen.placement import load_placed
from ..source.reading import FrameSampling, VideoSource
from ..synthetic.clip_files import sampled_frames, seeds_of, write_clip
from ..synthetic.ground_truth import truth_of
from ..synthetic.painted_clip import write_demo
from ..synthetic.questions import Question, write_caption, write_questions
from ..synthetic.scenes import Clip, sample_clip
from ..training.examples import DESCRIBE
from ..video.cuts import cuts_of
from ..weights import FPS, NAME, SIDE, embedded_pair
from .arguments import whole
from .video import add_commands as add_video_commands
from .video import save_picture

RENDERED = (256, 256)
QUESTIONS = 3


def add_commands(commands) -> None:
    """Add the family's parser to ``commands``."""
    demo = commands.add_parser(
        "demo", help="render a fresh clip, plan it, caption it, ask about it, and compare with the truth"
    )
    demo.add_argument("folder", nargs="?", default="output", help="where clip and pictures go (default: output)")
    demo.add_argument("--seed", type=whole(0), metavar="S", help="number of the clip; default: another one every time")
    demo.add_argument(
        "--painted", action="store_true", help="paint the README's clip instead, plan it, draw its plan and its motion"
    )
    demo.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """Show the job on a clip that was never used before, or measure the painted one."""
    folder = Path(arguments.folder)
    make_folder(folder)
    if arguments.painted:
        return _measure_painted(folder)
    number = random.SystemRandom().randrange(1 << 16) if arguments.seed is None else arguments.seed
    clip, questions, caption = fresh_clip(seeds_of("test", number, 1)[0])
    path = folder / "demo.mp4"
    write_clip(path, clip, RENDERED, TerminalProgress(f"rendering {path.name}"))
    model = load_placed(*embedded_pair())
    source = VideoSource.open(path)
    code = watch(source, model, CodeConfig(sampling=FrameSampling.by_fps(FPS), area=SIDE**2))
    picture = folder / "demo_plan.png"
    save_picture(timeline_view(code.plan, source, cuts_of(source)), picture)
    print(f"clip     {path}, {clip.frames / clip.fps:.1f} s, never seen in training; --seed {number} makes it again")
    print(_plan_line(code))
    print(f"picture  {picture}\n")
    talk(converse(model, code), caption, questions)
    print(f"\n{NAME} answered. It knows only clips like this one; for your own, give caption and ask a --model.")
    return 0


def fresh_clip(seed: int) -> tuple[Clip, list[Question], str]:
    """A clip of a seed with questions of three kinds and its true caption, as ``FPS`` frames a second show it.

    Open questions come first, then those with choices.
    """
    clip = sample_clip(seed)
    truth = truth_of(clip, sampled_frames(clip, FPS))
    kinds: dict[str, Question] = {}
    for question in sorted(write_questions(clip, truth), key=lambda question: question.form != "open"):
        kinds.setdefault(question.kind, question)
    return clip, list(kinds.values())[:QUESTIONS], write_caption(clip, truth)


def _plan_line(code: VisualCode) -> str:
    totals, whole = code.plan.totals, int(code.plan.kind.sum())
    every, pairs = totals["rgb_per_frame"], totals["rgb_paired"]
    few, fewer = (100 - 100 * code.token_count / baseline for baseline in (every, pairs))
    return (
        f"plan     {len(code.plan)} frames: {whole} whole, {len(code.plan) - whole} predicted\n"
        f"tokens   {code.token_count}, {few:.0f} % fewer than every frame whole ({every}), {fewer:.0f} % fewer than"
        f" native pairs ({pairs})"
    )


def talk(reading: Conversation, caption: str, questions: list[Question]) -> None:
    """Print the model's caption and answers beside the true ones."""
    reading.read()
    said = reading.fork().ask(DESCRIBE[0], sampling=GREEDY, max_tokens=160).text
    print(f"caption  {said}\ntruth    {caption}\n")
    width = max(len(question.question) for question in questions)
    for question in questions:
        answer = reading.fork().ask(question.question, sampling=GREEDY, max_tokens=40).text
        mark = "right" if plain(answer) == plain(question.answer) else f"wrong: {question.answer}"
        print(f"{question.question:<{width}}  {answer:<24} {mark}")


def _measure_painted(folder: Path) -> int:
    clip = write_demo(folder / "painted.mp4", TerminalProgress("painting painted.mp4"))
    parser = argparse.ArgumentParser()
    add_video_commands(parser.add_subparsers())
    plan, motion = str(folder / "painted_plan.png"), str(folder / "painted_motion.png")
    for words in (["plan", str(clip), "--png", plan], ["motion", str(clip), "--fps", "4", "--png", motion]):
        parsed = parser.parse_args(words)
        parsed.run(parsed)
    return 0
