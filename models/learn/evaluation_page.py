"""The paired evaluation as one self-contained HTML page: nothing is loaded from anywhere."""

from html import escape

from .evaluation import BASELINE

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;text-align:right;"
    "border-bottom:1px solid #ddd}th:first-child,td:first-child,td.words{text-align:left}details{margin:.5rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}}"
)


def evaluation_page(summary: dict, title: str) -> str:
    """HTML of what :func:`.evaluation.summarise` returned."""
    modes = summary["modes"]
    head = (
        f"<p>{summary['questions']} questions on {summary['clips']} clips, answered by the likeliest choice, or by an "
        f"exact match where there are none; a guesser has {_percent(summary['chance'])}. Intervals: 95 %, bootstrap "
        "over clips of paired differences.</p>"
    )
    parts = [f"<h1>{escape(title)}</h1>", head, _modes(modes)]
    for key, name in (("by_kind", "kind of question"), ("by_content", "content")):
        parts.append(_groups(modes, key, name))
    for mode, row in modes.items():
        if "against_rgb" in row:
            parts.append(_lost(mode, row["against_rgb"]["lost"]))
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _modes(modes: dict) -> str:
    names = ["mode", "right", f"against {BASELINE}", "interval", "answers that differ", "tokens a clip", "seconds", ""]
    rows = []
    for mode, row in modes.items():
        tokens = row["tokens"]
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
        rows.append([mode, _percent(row["accuracy"]), *against, spread, f"{row['seconds']:.2f}", row["what"]])
    return _table(names, rows)


def _groups(modes: dict, key: str, name: str) -> str:
    """Accuracy of every mode for each group; '' where the questions name none."""
    groups = {group: found["questions"] for row in modes.values() for group, found in row[key].items()}
    if not groups:
        return ""
    rows = [
        [group, str(count), *(_percent(row[key][group]["accuracy"]) for row in modes.values())]
        for group, count in groups.items()
    ]
    return f"<h2>By {name}</h2>" + _table([name, "questions", *modes], rows)


def _lost(mode: str, lost: list[dict]) -> str:
    names = ["clip", "kind", "question", "answer", "chosen"]
    rows = [[row[name] for name in names] for row in lost]
    return (
        f"<details><summary>{len(lost)} questions that {escape(mode)} loses and {BASELINE} wins</summary>"
        f"{_table(names, rows, words=True)}</details>"
    )


def _table(names: list[str], rows: list[list[str]], words: bool = False) -> str:
    kind = ' class="words"' if words else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = ["<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
