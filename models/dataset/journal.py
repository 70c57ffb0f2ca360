"""What a folder job has done: an append-only JSONL file that survives being killed at any moment.

A line is one of two objects: the result (or the error) of one clip with one set of settings, or the announcement of a
file that is about to be written. A line counts once its newline is there: a line that a crash cut off is the last one,
is dropped when the journal is opened, and its clip is done again. Any other line that cannot be read stops the job: a
journal is never taken for empty and never overwritten. One process at a time holds it, by a lock that the operating
system gives back with the process.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

NAME = ".codeclens-journal.jsonl"
CHUNK = 1 << 20

RESULT_KEYS = {"name": str, "hash": str, "settings": str}
FILE_KEYS = {"file": str, "sha256": str}


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises InputError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint(settings: dict) -> str:
    """A short hash of JSON settings; equal settings in any order have the same."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """The rows of a job, in memory and on disk. Make it with :func:`open_journal`.

    Attributes:
        path: the file.
        rows: all whole rows, in the order in which they were written.
    """

    def __init__(self, path: Path, rows: list[dict], descriptor: int):
        self.path, self.rows = path, rows
        self._descriptor = descriptor
        self._done: dict[tuple[str, str], dict[str, dict]] = {}
        self._files: dict[str, list[dict]] = {}
        for row in rows:
            self._index(row)

    def _index(self, row: dict) -> None:
        if "file" in row:
            self._files.setdefault(row["file"], []).append(row)
        elif row.get("error") is None:
            self._done.setdefault((row["hash"], row["settings"]), {})[row["name"]] = row

    def done(self, content: str, settings: str, name: str) -> dict | None:
        """The row of the clip ``name`` that was done with these settings; None where it was not, or failed."""
        return self._done.get((content, settings), {}).get(name)

    def result(self, content: str, settings: str) -> dict | None:
        """The result of any clip with this content and these settings."""
        return next((row["result"] for row in self._done.get((content, settings), {}).values()), None)

    def written(self, path: Path, text: str) -> dict | None:
        """The announcement of ``text`` at ``path``: None where the file was written, or edited, by somebody else."""
        digest = text_hash(text)
        return next((row for row in reversed(self._files.get(self._name(path), ())) if row["sha256"] == digest), None)

    def announced(self) -> list[Path]:
        """All files that were announced, each once."""
        return [self.path.parent / name for name in self._files]

    def announce(self, path: Path, text: str, original: str | None, joined: str) -> None:
        """Say that ``text`` will be at ``path``; ``original`` is what somebody else wrote there, ``joined`` how."""
        row = {"file": self._name(path), "sha256": text_hash(text)}
        self.append(row if original is None else row | {"original": original, "joined": joined})

    def append(self, row: dict) -> None:
        """Write a row and make sure that it is on disk. Raises InputError, which stops the job, where it is not."""
        line = json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n"
        try:
            _write_all(self._descriptor, line.encode())
            os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}") from None
        self.rows.append(row)
        self._index(row)

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.path.parent)).as_posix()


class JournalError(InputError):
    """The journal cannot be written: nothing that a job does from here on would be known to the next run."""


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open or begin the journal at ``path`` and hold it until the block ends.

    Raises:
        InputError: another process holds it, a line but the last cannot be read, or the file cannot be opened.
    """
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        if not _lock(descriptor):
            raise InputError(f"{path} is in use by another job; wait for it, or stop it")
        data = path.read_bytes()
        rows, whole = parse_rows(path, data)
        if whole < len(data):
            # What a crash left of a line would run together with the next one.
            os.ftruncate(descriptor, whole)
        yield Journal(path, rows, descriptor)
    finally:
        empty = os.fstat(descriptor).st_size == 0
        os.close(descriptor)
        if empty:
            # Nothing was done, or the disk is full.
            with contextlib.suppress(OSError):
                path.unlink()


def journal_keys(path: Path) -> set[tuple[str, str]]:
    """(content hash, settings) of all that a journal has results of, without holding it; none where there is none.

    Raises InputError where a line but the last cannot be read.
    """
    rows = parse_rows(path, path.read_bytes())[0] if path.is_file() else []
    return {(row["hash"], row["settings"]) for row in rows if "result" in row}


def parse_rows(path: Path, data: bytes) -> tuple[list[dict], int]:
    """The rows in a journal's bytes, and the bytes up to the end of the last whole line.

    Raises InputError naming the first line that is no row.
    """
    whole = data.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
            keys = FILE_KEYS if "file" in row else RESULT_KEYS
            if not all(isinstance(row[key], kind) for key, kind in keys.items()):
                raise ValueError
            if "file" not in row and row.get("error") is None and not isinstance(row["result"], dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(
                f"{path}, line {number} is not a row of a journal; move the file away to begin anew, or mend the line"
            ) from None
        rows.append(row)
    return rows, whole


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; what a full disk left of it is taken back."""
    size = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file without waiting."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
