"""Files beside the clips of a folder: written whole or not at all, and never over what somebody else wrote.

A file is ours where the journal announced exactly the text that lies there. Anything else was written, or edited, by
somebody else, and is left alone unless the user says what to do with it.
"""

import contextlib
import glob
from pathlib import Path

from ..errors import InputError
from ..files import write_text
from .journal import Journal

EXISTING = ("skip", "overwrite", "append", "prepend")
"""What happens to a file of somebody else's: left alone, replaced, or joined with the new text after or before it."""


def write_sidecar(path: Path, text: str, journal: Journal, existing: str = "skip") -> bool:
    """Write ``text`` to ``path``; False where a file of somebody else's was left alone.

    A file that was joined to somebody else's text is joined to the same text again when the result changes.
    Raises InputError where what lies there is no text, or the file cannot be written.
    """
    old, original, joining = held(path), None, existing
    if old is not None:
        announced = journal.written(path, old)
        if announced is None and existing == "skip":
            return False
        original = old if announced is None else announced.get("original")
        joining = existing if existing != "skip" else (announced or {}).get("joined", existing)
    if original is not None and joining in ("append", "prepend"):
        text = joined(original, text, joining)
    else:
        original = None
    if text != old:
        journal.announce(path, text, original, joining)
        write_text(path, text)
    return True


def remove_leftovers(journal: Journal) -> None:
    """Remove the temporary files of announced writes that a killed job did not finish."""
    for path in journal.announced():
        # models/files.py cuts long names at 40 characters.
        for leftover in path.parent.glob(f".{glob.escape(path.name[:40])}.*.part"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def held(path: Path) -> str | None:
    """The text that lies at ``path``, None where there is nothing. Raises InputError where it is no text."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def joined(old: str, text: str, joining: str) -> str:
    """``text`` after ('append') or before ('prepend') ``old``, with a comma between, and a newline at the end."""
    kept, new = old.strip(), text.strip()
    if not kept or not new:
        return f"{kept or new}\n"
    first, second = (kept, new) if joining == "append" else (new, kept)
    return f"{first.rstrip(', ')}, {second}\n"
