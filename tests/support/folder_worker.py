"""A folder job with quick work, to be killed: ``python folder_worker.py FOLDER``."""

import sys
import time
from pathlib import Path

from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.job import Work, run
from codeclens.models.dataset.journal import NAME, open_journal
from codeclens.models.errors import InputError


def prepare(item):
    text = item.path.read_text()
    if text.startswith("broken"):
        raise InputError(f"{item.name} is no video")
    return text


def finish(item, prepared):
    time.sleep(0.02)
    return {"text": f"a caption of {prepared}"}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = Work("caption", {}, prepare, finish, lambda item, r: [(item.path.with_suffix(".txt"), r["text"] + "\n")])
    with open_journal(folder / NAME) as journal:
        run(find_items(folder), work, journal)
