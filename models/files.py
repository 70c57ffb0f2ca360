"""Files written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it is renamed to ``path`` when the block ends well.

    When the block raises, the temporary file is removed and ``path`` is as it was. The temporary name does not keep
    the extension, so writers that choose a format by extension must be given the format.

    Raises:
        InputError: the operating system refuses the file.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}.part")  # the longest names leave no room
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; raises InputError like :func:`writing`."""
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8")
