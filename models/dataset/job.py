"""A job over a folder: every clip once, resumable after any crash, the next clip prepared while the model works.

What is written for a clip is announced in the journal before it is written and confirmed after: whenever the process
dies, the next run knows which files are its own. An error of one clip is a row with its sentence; that clip is tried
again the next time. Between two clips a cancelled job stops at once and leaves what it finished.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..progress import Progress, no_progress
from .items import Item
from .journal import Journal, JournalError, content_hash, fingerprint
from .sidecars import remove_leftovers, write_sidecar


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with each clip, in two steps, so that the first can run ahead.

    Attributes:
        kind: 'caption', 'judge' or 'measure'.
        settings: everything that decides the result, as JSON values.
        prepare: reads and plans a clip; called in a second thread, without the model.
        finish: makes the result, a JSON object, of what was prepared.
        sidecars: the files that a result becomes, path and text each; none for work that keeps its rows alone.
    """

    kind: str
    settings: dict
    prepare: Callable[[Item], object]
    finish: Callable[[Item, object], dict]
    sidecars: Callable[[Item, dict], list[tuple[Path, str]]] = lambda item, result: []


@dataclass(slots=True)
class Summary:
    """What a run came to.

    Attributes:
        done, kept, failed: clips done now, done before with the same settings, and failed.
        left_alone: files of somebody else's that were not touched.
        errors: (clip, sentence).
        rows: the row of every clip, in order; those that failed among them.
    """

    done: int = 0
    kept: int = 0
    failed: int = 0
    left_alone: list[Path] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)

    def in_words(self) -> str:
        parts = [f"{self.done} done", f"{self.kept} done before"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.left_alone:
            parts.append(f"{len(self.left_alone)} files of others left alone")
        return ", ".join(parts)


Results = Iterator[tuple[Item, str, Callable[[], dict]]]
"""For each item, in any order: its content hash, '' where it cannot be read, and a call that gives its result."""


def run(
    items: Sequence[Item],
    work: Work,
    journal: Journal,
    existing: str = "skip",
    progress: Progress = no_progress,
    on_row: Callable[[Item, dict], None] = lambda item, row: None,
    results: Callable[[Sequence[Item], Work, Journal, str], Results] | None = None,
) -> Summary:
    """Do ``work`` for every item that was not done with the same settings.

    Args:
        existing: what happens to files that somebody else wrote (:func:`.sidecars.write_sidecar`).
        progress: called with clips done and clips in all.
        on_row: called with each clip's row when it is finished, kept or failed.
        results: where the results come from, given the fingerprint of the settings: :func:`in_this_process` where it
            is not given, or :func:`.on_ray.on_ray`. The journal and the files are written here all the same.

    Raises:
        InputError: the journal cannot be written, or nothing can be written beside the clips (a full disk, say).
    """
    remove_leftovers(journal)
    settings, summary, claimed = fingerprint(work.settings | {"kind": work.kind}), Summary(), {}
    for number, (item, content, result) in enumerate((results or in_this_process)(items, work, journal, settings)):
        progress(number, len(items))
        try:
            row = _one(item, content, result, work, settings, journal, existing, claimed, summary)
        except JournalError:
            raise
        except InputError as error:
            row = {"name": item.name, "hash": content, "settings": settings, "error": str(error)}
            journal.append(row)
            summary.failed += 1
            summary.errors.append((item.name, str(error)))
        summary.rows.append(row)
        on_row(item, row)
    progress(len(items), len(items))
    order = {item.name: number for number, item in enumerate(items)}
    summary.rows.sort(key=lambda row: order[row["name"]])
    return summary


def _one(item, content, produce, work: Work, settings, journal: Journal, existing, claimed, summary) -> dict:
    began = time.perf_counter()
    known = journal.done(content, settings, item.name)
    result = known["result"] if known else journal.result(content, settings)
    fresh = result is None
    if fresh:
        result = produce()
    files = work.sidecars(item, result)
    for path, _ in files:
        if claimed.setdefault(path, item.name) != item.name:
            raise InputError(f"{path.name} is the file of {claimed[path]} as well; rename {item.name}")
    left = [path for path, text in files if not write_sidecar(path, text, journal, existing)]
    summary.left_alone += left
    if known and not fresh:
        summary.kept += 1
        return known
    row = {"name": item.name, "hash": content, "settings": settings, "kind": work.kind, "result": result}
    journal.append(row | {"seconds": round(time.perf_counter() - began, 3)})
    summary.done += 1
    return row


def in_this_process(items: Sequence[Item], work: Work, journal: Journal, settings: str) -> Results:
    """The results one after the other, each item prepared while the one before it is finished."""

    def prepare(item: Item):
        content = content_hash(item.path)
        if journal.result(content, settings) is not None:
            return content, None
        return content, work.prepare(item)

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(prepare, item) for item in items[:1]]
        try:
            for number, item in enumerate(items):
                future = waiting.pop()
                if number + 1 < len(items):
                    waiting.append(pool.submit(prepare, items[number + 1]))
                try:
                    content, prepared = future.result()
                    yield item, content, partial(work.finish, item, prepared)
                except InputError as error:
                    yield item, "", partial(refuse, error)
        finally:
            for future in waiting:
                future.cancel()


def refuse(error: InputError) -> dict:
    """The result of an item that has none."""
    raise error
