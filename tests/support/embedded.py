"""What the embedded model says of twenty fixed clips; ``python -m support.embedded`` records it anew."""

import json
from pathlib import Path

import numpy as np
import torch
from codeclens.models.code.conversation import converse
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import sampled_frames
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.questions import write_caption, write_questions
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import SPLITS, sample_clip
from codeclens.models.weights import FPS, MODE, SIDE, embedded_pair

RECORDED = Path(__file__).parents[1] / "models" / "weights" / "answers.json"
CLIPS = 20
QUESTIONS = 3


def said_and_true(number: int, model) -> list[dict]:
    """Questions about a clip of the test split, with the model's answers and the true ones; the caption comes first."""
    clip = sample_clip(SPLITS["test"][0] + 5000 + number, seconds=2.5, fps=8)
    truth = truth_of(clip, sampled_frames(clip, FPS))
    kinds = {}
    for question in write_questions(clip, truth):
        kinds.setdefault(question.kind, question)
    pictures = np.stack(list(render(clip, (SIDE, SIDE))))
    source = VideoSource.from_images(torch.from_numpy(pictures).float() / 255, clip.fps)
    code = watch(source, model, CodeConfig(mode=MODE, sampling=FrameSampling.by_fps(FPS), area=SIDE**2))
    reading = converse(model, code)
    reading.read()
    asked = [("Describe the video.", write_caption(clip, truth))]
    asked += [(question.question, question.answer) for question in list(kinds.values())[:QUESTIONS]]
    return [
        {
            "clip": number,
            "question": question,
            "truth": true,
            "answer": reading.fork().ask(question, sampling=GREEDY, max_tokens=80).text,
        }
        for question, true in asked
    ]


def load():
    """The embedded model in float32, so that any machine rounds alike."""
    return load_qwen3vl(*embedded_pair(), dtype=torch.float32)


if __name__ == "__main__":
    model = load()
    rows = [row for number in range(CLIPS) for row in said_and_true(number, model)]
    RECORDED.write_text(json.dumps(rows, indent=1) + "\n")
    print(RECORDED, sum(row["answer"] == row["truth"] for row in rows), "of", len(rows), "are true")
