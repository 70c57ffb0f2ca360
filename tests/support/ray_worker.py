"""The work of a test on Ray: each try of a clip is a line of a log; a clip may fail, raise or wait."""

import os
import time
from pathlib import Path

from codeclens.models.dataset.job import Work
from codeclens.models.errors import InputError


def logging_work(log: str, seconds: float = 0.0) -> Work:
    """Captions clips that are text files; the log's lines are the process, 'begin' or 'end', and the clip's name."""

    def write(word, item):
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {word} {item.name}\n")

    def prepare(item):
        return item.path.read_text()

    def finish(item, text):
        write("begin", item)
        time.sleep(seconds)
        if text.startswith("broken"):
            raise InputError(f"{item.name} is no video")
        if text.startswith("raises"):
            raise ZeroDivisionError("by nothing")
        if text.startswith("deadly"):
            os._exit(1)
        write("end", item)
        return {"text": f"a caption of {text}"}

    def sidecars(item, result):
        return [(Path(item.path).with_suffix(".txt"), result["text"] + "\n")]

    return Work("caption", {}, prepare, finish, sidecars)
