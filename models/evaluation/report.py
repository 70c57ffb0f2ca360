"""The paired evaluation as one self-contained HTML page: nothing is loaded from anywhere."""

import base64
import io
from collections.abc import Mapping
from html import escape

from ..drawing.curve import CurvePoint, accuracy_curve
from ..drawing.views import timeline_view
from ..progress import Progress, no_progress
from ..source.reading import VideoSource
from ..video.gop import GopPlan
from .controls import ABLATIONS, CONTROLS
from .paired import BASELINE
from .statistics import clip_names

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .55rem;text-align:right;"
    "border-bottom:1px solid #ddd}img,svg{max-width:100%;height:auto;display:block;margin-top:1rem}"
    "td{white-space:nowrap}th:first-child,td:first-child,td.words{text-align:left}td.words{white-space:normal}"
    "details{margin:.5rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}}"
)

MOST_PICTURES = 60
"""Plans drawn on one page at most, of the clips where most is lost: each is some 50 kB."""


def lost_plans(summary: dict, plans: Mapping[str, GopPlan], progress: Progress = no_progress) -> dict[str, bytes]:
    """JPEGs of the plans of the clips where modes lose questions, by the clips' names; ``plans`` by their paths."""
    lost: dict[str, int] = {}
    for row in summary["modes"].values():
        for question in row.get("against_rgb", {}).get("lost", ()):
            lost[question["clip"]] = lost.get(question["clip"], 0) + 1
    paths = {name: path for path, name in clip_names(plans).items()}
    worst = sorted(lost, key=lambda name: -lost[name])[:MOST_PICTURES]
    pictures = {}
    for number, name in enumerate(worst):
        progress(number, len(worst))
        held = io.BytesIO()
        timeline_view(plans[paths[name]], VideoSource.open(paths[name]), width=1000).save(held, "JPEG", quality=70)
        pictures[name] = held.getvalue()
    progress(len(worst), len(worst))
    return pictures


def evaluation_page(summary: dict, title: str, pictures: Mapping[str, bytes] | None = None) -> str:
    """HTML of what :func:`.statistics.summarise` returned.

    Args:
        pictures: JPEG of a clip's plan by the clip's name, shown beside the questions lost there.
    """
    modes = summary["modes"]
    head = (
        f"<p>{summary['questions']} questions on {summary['clips']} clips, answered by the likeliest choice, or by an "
        f"exact match where there are none; a guesser has {_percent(summary['chance'])}. Intervals: 95 %, bootstrap "
        "over clips of paired differences.</p>"
    )
    parts = [f"<h1>{escape(title)}</h1>", head, curve_of(summary), _modes(modes)]
    for key, name, measure in (
        ("by_kind", "kind of question", "accuracy"),
        ("by_content", "content", "accuracy"),
        ("by_topic", "yes against no, by topic (area under the ROC curve)", "auc"),
    ):
        parts.append(_groups(modes, key, name, measure))
    for mode, row in modes.items():
        if "against_rgb" in row:
            parts.append(_lost(mode, row["against_rgb"]["lost"], pictures or {}))
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def curve_of(summary: dict) -> str:
    """SVG of right answers against prompt tokens, of every mode but the controls and ablations.

    The interval of a mode is that of its difference to native pairs, about its own accuracy.
    """
    curves: dict[str, list[CurvePoint]] = {}
    for way, row in summary["modes"].items():
        name, *details = way.split(" ")
        if not {*CONTROLS, *ABLATIONS}.intersection(details):
            right, pair = row["accuracy"], row.get("against_rgb", {"difference": 0.0, "interval": (0.0, 0.0)})
            span = tuple(right + bound - pair["difference"] for bound in pair["interval"])
            curves.setdefault(name, []).append(CurvePoint(row["prompt_tokens"]["mean"], right, span))
    return accuracy_curve(curves)


def _modes(modes: dict) -> str:
    names = [
        "mode",
        "right",
        f"against {BASELINE}",
        "interval",
        "answers that differ",
        "prompt tokens",
        "visual tokens",
        "seconds",
        "",
    ]
    rows = []
    for mode, row in modes.items():
        tokens, visual = row["prompt_tokens"], f"{row['tokens']['mean']:.0f}"
        spread = f"{tokens['mean']:.0f} ({tokens['min']} to {tokens['max']})"
        pair = row.get("against_rgb")
        against = ["", "", ""]
        if pair:
            low, high = pair["interval"]
            against = [
                f"{100 * pair['difference']:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
                _percent(pair["drift"]),
            ]
        rows.append([mode, _percent(row["accuracy"]), *against, spread, visual, f"{row['seconds']:.2f}", row["what"]])
    return _table(names, rows, words=1)


def _groups(modes: dict, key: str, name: str, measure: str) -> str:
    """A measure of every mode for each group; '' where there are no groups."""
    groups = {group: found["questions"] for row in modes.values() for group, found in row[key].items()}
    if not groups:
        return ""
    rows = [
        [group, str(count), *(_percent(row[key][group][measure]) for row in modes.values())]
        for group, count in groups.items()
    ]
    return f"<h2>By {name}</h2>" + _table([name.partition(" (")[0], "questions", *modes], rows, words=0)


def _lost(mode: str, lost: list[dict], pictures: Mapping[str, bytes]) -> str:
    """Every lost question under its clip, with the clip's plan and the times of its whole pictures."""
    clips: dict[str, list[dict]] = {}
    for row in lost:
        clips.setdefault(row["clip"], []).append(row)
    parts = [f"<details><summary>{len(lost)} questions that {escape(mode)} loses and {BASELINE} wins</summary>"]
    for clip, rows in clips.items():
        times = ", ".join(f"{time:.2f}" for time in rows[0]["whole_at"])
        parts.append(f"<h3>{escape(clip)}</h3>")
        if times:
            parts.append(f"<p>whole pictures at {times} s</p>")
        if clip in pictures:
            data = base64.b64encode(pictures[clip]).decode("ascii")
            parts.append(f'<img alt="plan of {escape(clip)}" loading="lazy" src="data:image/jpeg;base64,{data}">')
        names = ["kind", "question", "answer", "chosen"]
        parts.append(_table(names, [[row[name] for name in names] for row in rows], words=4))
    return "".join(parts) + "</details>"


def _table(names: list[str], rows: list[list[str]], words: int) -> str:
    """A table whose last ``words`` columns are text and may break; all others are numbers."""
    kinds = ["<td>"] * (len(names) - words) + ['<td class="words">'] * words
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [
        "<tr>" + "".join(f"{kind}{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
