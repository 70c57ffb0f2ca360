"""What the first command of a newcomer says: answers and caption sentences that are true, from cells and from pairs.

    python tests/bench/demo.py [--seeds 100] [--first 0] [--folder CACHE]

For each of the clips that ``codeclens demo --seed N`` shows: the questions it asks, answered from cells and from
native pairs of the same frames, and the sentences of both captions that stand in the true caption word for word.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens.models.code.conversation import converse
from codeclens.models.code.pipeline import watch
from codeclens.models.commands.demo import RENDERED, answer_to, config_for, fresh_clip
from codeclens.models.evaluation.paired import plain
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import VideoSource
from codeclens.models.synthetic.clip_files import seeds_of, write_clip
from codeclens.models.training.examples import DESCRIBE
from codeclens.models.weights import MODE, embedded_pair
from support.machine import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first clip in the test split")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "codeclens-demo"))
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = load_placed(*embedded_pair())
    counted = {mode: Counts() for mode in (MODE, "rgb")}
    for seed in seeds_of("test", arguments.first, arguments.seeds):
        clip, questions, caption = fresh_clip(seed)
        path = folder / f"{seed}.mp4"
        if not path.exists():
            write_clip(path, clip, RENDERED)
        for mode, counts in counted.items():
            counts.add(watch(VideoSource.open(path), model, config_for(mode)), model, questions, caption)
    native = counted["rgb"].prompt
    for mode, counts in counted.items():
        print(f"{mode:<8}{counts}, {100 * counts.prompt / native:.0f} % of native pairs' prompt tokens")


class Counts:
    """Right answers and true caption sentences, of how many, and prompt tokens in all."""

    def __init__(self):
        self.right = self.asked = self.true = self.said = self.prompt = 0

    def add(self, code, model, questions, caption: str) -> None:
        reading = converse(model, code)
        reading.read()
        for question in questions:
            self.right += plain(answer_to(reading, question.question)) == plain(question.answer)
            self.asked += 1
        said = sentences(answer_to(reading, DESCRIBE[0], 160))
        self.true += sum(sentence in sentences(caption) for sentence in said)
        self.said += len(said)
        self.prompt += code.prompt_tokens

    def __str__(self) -> str:
        answers = f"{self.right} of {self.asked} answers right ({100 * self.right / self.asked:.1f} %)"
        return f"{answers}, {self.true} of {self.said} caption sentences true ({100 * self.true / self.said:.1f} %)"


def sentences(text: str) -> list[str]:
    return [plain(part) for part in text.split(". ") if plain(part)]


if __name__ == "__main__":
    main()
