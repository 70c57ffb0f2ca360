"""Judging and measuring as work for a folder job; results are rows of the journal, with a picture for the page."""

from ..code.pipeline import CodeConfig, encode_planned, plan_source
from ..errors import InputError
from ..judge.judging import judge_code, rubric_reserve
from ..judge.page import page_row
from ..judge.rubric import Rubric
from ..source.reading import FrameSampling, VideoSource
from ..video.measurement import measure
from .captioning import jsonable
from .items import Item
from .job import Work


def judge_work(model, name: str, config: CodeConfig, rubric: Rubric, fits=None, **wanted: bool) -> Work:
    """The work of judging clips by a rubric, its prompt filled in; ``name`` is what the model is called.

    ``wanted`` are ``with_moments``, ``with_metrics`` and ``with_reason`` of :func:`..judge.judging.judge_code`.
    """
    settings = {"model": name, "config": jsonable(config), "rubric": rubric.to_json(), "fits": jsonable(fits or {})}
    settings["moments"] = wanted.get("with_moments", False)
    settings |= {key: True for key in ("with_metrics", "with_reason") if wanted.get(key)}

    def finish(item: Item, planned) -> dict:
        code = encode_planned(planned, model, config, reserve=rubric_reserve(model.tokenizer, rubric))
        found = judge_code(code, model, rubric, fits=fits, **wanted)
        return page_row(found, code.plan.video.source) | {"clip": item.name}

    return Work("judge", settings, lambda item: plan_source(clip_of(item), config), finish)


def measure_work(sampling: FrameSampling | None = None) -> Work:
    """The work of measuring clips; a row keeps the values of the clip, not of every frame."""
    sampling = sampling or FrameSampling.all()

    def finish(item: Item, source: VideoSource) -> dict:
        found = measure(source, sampling).to_json()
        return {"clip": item.name} | {key: found[key] for key in ("values", "worst", "drift_curve", "warnings")}

    return Work("measure", {"sampling": jsonable(sampling)}, clip_of, finish)


def clip_of(item: Item) -> VideoSource:
    """The source of a clip. Raises InputError for an image, which has no motion."""
    if item.kind == "image":
        raise InputError(f"{item.name} is an image; a video is needed")
    return VideoSource.open(item.path)
