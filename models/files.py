"""Files written whole or not at all."""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .errors import InputError


@contextmanager
def refusals_of(path: str | os.PathLike) -> Iterator[None]:
    """Turn what the operating system refuses in the block, which writes ``path``, into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be written: {reason}; give a folder with room for it") from None


def append_row(path: str | os.PathLike, row: dict) -> None:
    """Add ``row`` as a line of JSON to a log; raises InputError where the operating system refuses it."""
    with refusals_of(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it is renamed to ``path`` when the block ends well.

    When the block raises, the temporary file is removed and ``path`` is as it was. The temporary name does not keep
    the extension, so writers that choose a format by extension must be given the format. It is another one each time,
    so that several may write at once. A link is written through, and an old file's permissions are kept.

    Raises:
        InputError: ``path`` is there and no regular file, or the operating system refuses the file.
    """
    path = Path(path)
    partial = None
    try:
        with refusals_of(path):
            target = Path(os.path.realpath(path))
            if target.exists() and not target.is_file():
                raise InputError(f"{path} cannot be written: it is a folder or a device; give the name of a file")
            # The longest names leave no room for more.
            partial = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
            yield partial
            if target.is_file():
                shutil.copymode(target, partial)
            os.replace(partial, target)
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; raises InputError like :func:`writing`.

    Half of a surrogate pair, which UTF-8 has no bytes for, is written as its escape.
    """
    with writing(path) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def make_folder(path: str | os.PathLike) -> Path:
    """Make the folder ``path`` and those that it lies in, where they are not there; raises InputError if refused."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be made a folder: {reason}; give another one") from None
    return path
