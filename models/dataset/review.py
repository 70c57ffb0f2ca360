"""A folder's results as one self-contained page: watch clips, mend captions, take the changed ones away as JSON.

The page loads nothing and sends nothing. Its button saves ``edits.json``: {"edits": {clip: caption}}, which
:func:`apply_edits` writes beside the clips.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..errors import InputError
from ..files import write_text

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "article{display:grid;grid-template-columns:16rem 1fr;gap:1rem;padding:1rem 0;border-top:1px solid #ccc}"
    "img{width:100%;border-radius:4px}textarea{width:100%;min-height:6rem;font:inherit;box-sizing:border-box}"
    "button{font:inherit;padding:.4rem 1rem;position:sticky;top:.5rem}.quiet{color:#777;margin:.2rem 0}"
    ".error{color:#c03}textarea.changed{outline:2px solid #e90}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}textarea{background:#222;color:#ddd}}"
)

SCRIPT = """
const areas = [...document.querySelectorAll("textarea")];
const changed = () => areas.filter((area) => area.value !== area.defaultValue);
for (const area of areas)
  area.addEventListener("input", () => area.classList.toggle("changed", area.value !== area.defaultValue));
document.querySelector("button").addEventListener("click", () => {
  const edits = Object.fromEntries(changed().map((area) => [area.dataset.clip, area.value]));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ edits }, null, 1)], { type: "application/json" }));
  link.download = "edits.json";
  link.click();
});
addEventListener("beforeunload", (event) => changed().length && event.preventDefault());
"""


def review_page(rows: Sequence[dict], pictures: dict[str, str], title: str) -> str:
    """HTML of a folder's rows; ``pictures`` are base64 JPEGs by the clip's name, where there are any."""
    parts = [_article(row, pictures.get(row["name"])) for row in rows]
    # No "</" may stand in a script; ours has none, and nothing of the rows goes into it.
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        f"<button>Save changed captions</button>\n{''.join(parts)}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _article(row: dict, picture: str | None) -> str:
    name, result = row["name"], row.get("result") or {}
    image = f'<img alt="{escape(name)}" loading="lazy" src="data:image/jpeg;base64,{picture}">' if picture else ""
    lines = [f"<h2>{escape(name)}</h2>"]
    if row.get("error"):
        lines.append(f'<p class="error">{escape(row["error"])}</p>')
    for caption in result.get("captions", ())[:1]:
        lines.append(f'<textarea data-clip="{escape(name)}" spellcheck="true">{escape(caption)}</textarea>')
    if "score" in result:
        scores = ", ".join(f"{one['name']} {one['score']:.3f}" for one in result.get("questions", ()))
        lines.append(f"<p><b>{result['score']:.3f}</b> {escape(scores)}</p>")
    if "values" in result:
        values = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in result["values"].items() if value)
        lines.append(f'<p class="quiet">{escape(values)}</p>')
    notes = [*result.get("notes", ()), *result.get("warnings", ())]
    notes += ["cut off by the limit of tokens"] if result.get("truncated") else []
    if notes:
        lines.append(f'<p class="quiet">{escape("; ".join(notes))}</p>')
    return f"<article><div>{image}</div><div>{''.join(lines)}</div></article>\n"


def read_edits(path: Path) -> dict[str, str]:
    """Captions by clip from the file that the page saves. Raises InputError where it is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        edits = data["edits"]
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in edits.items()):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f'{path} holds no edits; the page saves {{"edits": {{clip: caption}}}}') from None
    return edits


def apply_edits(folder: Path, edits: dict[str, str]) -> list[Path]:
    """Write edited captions beside their clips and return the files; they are the user's own from then on.

    No journal announces them, so that a later job leaves them alone like any file of somebody else's.

    Raises InputError before anything is written where a clip is not in the folder.
    """
    folder = Path(folder).resolve()
    paths = {}
    for name in edits:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise InputError(f"{name} is not a file under {folder}; give the folder that the page was made of")
        paths[name] = path.with_suffix(".txt")
    for name, text in edits.items():
        write_text(paths[name], f"{text.strip()}\n")
    return list(paths.values())
