"""Judged clips as a picture, a table, and one self-contained HTML page that loads nothing and escapes everything."""

import base64
import csv
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from ..drawing.scores import Bar, Span, draw_scores
from ..source.reading import FrameSampling, VideoSource
from .judging import Judgement

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}article{border-top:1px solid #ccc;padding:1rem 0;display:grid;grid-template-columns:16rem 1fr;"
    "gap:1rem}img{width:100%;border-radius:4px}table{border-collapse:collapse}td,th{padding:.15rem .6rem .15rem 0;"
    "text-align:left;vertical-align:top}meter{width:9rem}svg{width:100%;height:.8rem}.low{font-weight:600;color:#c03}.quiet{color:#777}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}article{border-color:#444}}"
)
PLAN_COLOURS = {"I": "#e8a33d", "P": "#4b8fd6", "-": "#9993"}
SHOWN_METRICS = (
    "flicker", "longest_freeze", "sudden_change", "jitter", "warping_error", "drift", "sharpness", "motion", "cuts",
)  # fmt: skip


def judgement_view(judgement: Judgement, source: VideoSource) -> Image.Image:
    """The scores as a picture, with a frame of the worst moment from ``source``, which was judged."""
    verdict, worst = judgement.verdict, judgement.worst_moment
    bars = []
    for score in verdict.scores:
        other = f", other {score.off_list:.0%}" if score.off_list >= 0.005 else ""
        bars.append(Bar(score.question.name, score.value, f"{score.best} {score.probabilities[score.best]:.0%}{other}"))
    spans = [Span(*moment.seconds, moment.verdict.score) for moment in judgement.moments]
    words = f"{verdict.rubric.title}; {verdict.pass_fraction:.0%} of {len(verdict.scores)} questions passed"
    frame = worst_frames(judgement, source, 1)[0] if worst else None
    return draw_scores(f"{judgement.name}: {verdict.score:.3f}", words, bars, spans, frame)


def worst_frames(judgement: Judgement, source: VideoSource, most: int = 8):
    """uint8 [n, H, W, 3]: up to ``most`` frames of the worst moment, or of the whole clip where none was asked."""
    worst = judgement.worst_moment
    plan = judgement.code.plan
    inside = np.isin(plan.index, worst.frames) if worst else plan.keep
    times = plan.pts[inside]
    chosen = times[np.unique(np.linspace(0, len(times) - 1, min(most, len(times))).round().astype(int))]
    return source.read(FrameSampling.at_times(chosen)).rgb


def judge_page(rows: Sequence[dict], title: str = "Judged clips") -> str:
    """HTML of judged clips, the highest score first.

    ``rows`` are the JSON of judgements, each with 'picture', a base64 JPEG, where there is one; or a clip's 'name' and
    the 'error' that kept it from being judged.
    """
    judged = sorted((row for row in rows if "score" in row), key=lambda row: -row["score"])
    parts = [_article(rank, row) for rank, row in enumerate(judged, 1)]
    for row in rows:
        if row.get("error"):
            parts.append(f'<p class="low">{escape(row["name"])}: {escape(row["error"])}</p>')
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _article(rank: int, row: dict) -> str:
    image, questions = "", row["questions"]
    if row.get("picture"):
        image = f'<img alt="a frame of {escape(row["clip"])}" src="data:image/jpeg;base64,{escape(row["picture"])}">'
    lowest = min(questions, key=lambda one: one["score"]) if len(questions) > 1 else None
    cells = []
    for one in questions:
        low = ' class="low"' if one is lowest else ""
        shown = ", ".join(f"{option} {p:.0%}" for option, p in one["probabilities"].items())
        cells.append(
            f"<tr{low}><td>{escape(one['name'])}</td>"
            f'<td><meter min="0" max="1" value="{one["score"]:.4f}"></meter> {one["score"]:.3f}</td>'
            f'<td class="quiet">{escape(shown)}; other replies {one["off_list"]:.0%}</td></tr>'
        )
    lines = [_plan_strip(row["plan"]), f"<table>{''.join(cells)}</table>"]
    if row.get("reason"):
        lines.append(f"<p>{escape(row['reason'])}</p>")
    if len(moments := row.get("moments", ())) > 1:
        worst = min(moments, key=lambda moment: moment["score"])
        begin, end = worst["seconds"]
        lines.append(
            f"<p>Lowest moment: {begin:.2f} s to {end:.2f} s, {worst['score']:.3f}, {escape(worst['lowest'])}</p>"
        )
    if row.get("metrics"):
        known = [(name, row["metrics"].get(name)) for name in SHOWN_METRICS]
        values = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in known if value is not None)
        lines.append(f'<p class="quiet">{values}</p>')
    head = f"<h2>{rank}. {escape(row['clip'])}: {row['score']:.3f}</h2>"
    return f"<article><div>{image}</div><div>{head}{''.join(lines)}</div></article>"


def _plan_strip(letters: str) -> str:
    """The plan as a strip of frames: amber whole, blue predicted, grey not shown."""
    bars = "".join(
        f'<rect x="{at}" y="0" width="0.9" height="1" fill="{PLAN_COLOURS[letter]}"/>'
        for at, letter in enumerate(letters)
    )
    words = f"{letters.count('I')} of {len(letters)} frames whole, {letters.count('P')} predicted"
    return (
        f'<svg role="img" aria-label="{words}" viewBox="0 0 {len(letters)} 1" preserveAspectRatio="none">'
        f"<title>{words}</title>{bars}</svg>"
    )


def judge_csv(judgements: Sequence[Judgement]) -> str:
    """One line for each clip: score, pass fraction, and a column for each question of their rubrics."""
    return rows_csv([one.to_json() for one in judgements])


def rows_csv(rows: Sequence[dict]) -> str:
    """What :func:`judge_csv` gives, from the JSON of judgements."""
    names = list(dict.fromkeys(question["name"] for row in rows for question in row["questions"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "rubric", "score", "pass_fraction", *names])
    for row in rows:
        values = {question["name"]: f"{question['score']:.6f}" for question in row["questions"]}
        head = [row["clip"], row["rubric"], f"{row['score']:.6f}", f"{row['pass_fraction']:.6f}"]
        writer.writerow(head + [values.get(name, "") for name in names])
    return text.getvalue()


def page_row(judgement: Judgement, source: VideoSource) -> dict:
    """The JSON of a judgement with a frame of its worst moment, or of ``source``, which was judged, as 'picture'."""
    frame = worst_frames(judgement, source, 1)[0]
    return judgement.to_json() | {"picture": thumbnail_base64(frame)}


def thumbnail_base64(rgb) -> str:
    """Base64 of :func:`thumbnail_jpeg`."""
    return base64.b64encode(thumbnail_jpeg(rgb)).decode("ascii")


def thumbnail_jpeg(rgb, width: int = 320) -> bytes:
    """JPEG of a frame uint8 [H, W, 3], ``width`` pixels wide at most."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((width, 4 * width))
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=80)
    return held.getvalue()
