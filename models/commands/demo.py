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
from ..weights import FPS, MODE, NAME, SIDE, embedded_pair
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
    code, native = (watch(source, model, config_for(mode)) for mode in (MODE, "rgb"))
    picture = folder / "demo_plan.png"
    save_picture(timeline_view(code.plan, source, cuts_of(source)), picture)
    print(f"clip     {path}, {clip.frames / clip.fps:.1f} s, never seen in training; --seed {number} makes it again")
    print(_plan_line(code, native))
    print(f"picture  {picture}\n")
    talk(converse(model, code), converse(model, native), caption, questions)
    print(f"\n{NAME} answered. It knows only clips like this one; for your own, give caption and ask a --model.")
    return 0


def config_for(mode: str) -> CodeConfig:
    """How the embedded model is shown a clip."""
    return CodeConfig(mode=mode, sampling=FrameSampling.by_fps(FPS), area=SIDE**2)


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


def _plan_line(code: VisualCode, native: VisualCode) -> str:
    whole = int(code.plan.kind.sum())
    spent = f"{100 * code.prompt_tokens / native.prompt_tokens:.0f} % of native pairs' {native.prompt_tokens}"
    visual = f"{code.token_count} and {native.token_count} of them visual"
    return (
        f"plan     {len(code.plan)} frames: {whole} whole, {len(code.plan) - whole} predicted\n"
        f"tokens   {code.prompt_tokens} in the prompt, {spent}; {visual}"
    )


def talk(reading: Conversation, native: Conversation, caption: str, questions: list[Question]) -> None:
    """Print the model's caption and answers beside the true ones, and what it says from native pairs."""
    reading.read()
    native.read()
    for name, one in ((MODE, reading), ("pairs", native)):
        print(f"{name:<8} {answer_to(one, DESCRIBE[0], 160)}")
    print(f"truth    {caption}\n")
    width = max(len(question.question) for question in questions)
    print(f"{'':<{width}}  {'from ' + MODE:<24} {'':<8} from native pairs")
    for question in questions:
        found = [answer_to(one, question.question) for one in (reading, native)]
        marks = ["right" if plain(answer) == plain(question.answer) else "wrong" for answer in found]
        truth = "" if marks == ["right"] * 2 else f"   truth: {question.answer}"
        print(f"{question.question:<{width}}  {found[0]:<24} {marks[0]:<8} {found[1]:<24} {marks[1]}{truth}")


def answer_to(reading: Conversation, question: str, max_tokens: int = 40) -> str:
    """The likeliest answer; the conversation stays as it is."""
    return reading.fork().ask(question, sampling=GREEDY, max_tokens=max_tokens).text


def _measure_painted(folder: Path) -> int:
    clip = write_demo(folder / "painted.mp4", TerminalProgress("painting painted.mp4"))
    parser = argparse.ArgumentParser()
    add_video_commands(parser.add_subparsers())
    plan, motion = str(folder / "painted_plan.png"), str(folder / "painted_motion.png")
    for words in (["plan", str(clip), "--png", plan], ["motion", str(clip), "--fps", "4", "--png", motion]):
        parsed = parser.parse_args(words)
        parsed.run(parsed)
    return 0
