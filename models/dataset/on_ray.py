"""The results of a folder job from Ray Data: a pool of actors, each with a model of its own.

The journal and the files stay with the process that started the job, so a run on Ray and one on this machine resume
each other. The clips must lie under the same paths for all. Ray is an optional package.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import InputError
from .items import Item
from .job import Results, Work, refuse
from .journal import Journal, content_hash

RETRIES = 2
"""How often a clip is tried again after the actor that had it died."""

STORE_BYTES = 200 << 20
"""Object store of a Ray that is started here: it holds names and captions, no pictures."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Where to run.

    Attributes:
        address: of a Ray cluster, such as 'auto' or 'ray://host:10001'; '' starts a Ray on this machine.
        actors: how many; 0 for one on each GPU, or one where there is none.
    """

    address: str = ""
    actors: int = 0


def on_ray(remake: Callable[[], Work], pool: Pool = Pool()) -> Callable[..., Results]:
    """What :func:`.job.run` takes as ``results``; ``remake`` makes the work anew in each actor, and can be pickled.

    A clip that fails is its sentence, whatever the error is; one whose actor dies is tried again by another one.

    Raises InputError where Ray is missing or not to be reached.
    """

    def results(items: Sequence[Item], work: Work, journal: Journal, settings: str) -> Results:
        waiting: dict[str, list[Item]] = {}
        for item in items:
            try:
                content = content_hash(item.path)
            except InputError as error:
                yield item, "", partial(refuse, error)
                continue
            if journal.result(content, settings) is None:
                waiting.setdefault(content, []).append(item)
            else:
                yield item, content, dict
        if not waiting:
            return
        # The same clip under another name takes the result that the journal holds by then.
        rows = [row_of(items[0], f"{content}.{settings}") for content, items in waiting.items()]
        for row in computed(rows, remake, pool):
            content = row["id"].partition(".")[0]
            for item in waiting.pop(content):
                yield item, content, partial(result_of, row)
        for content, left in waiting.items():
            for item in left:
                died = InputError(f"{item.name}: its worker died, {1 + RETRIES} times in all")
                yield item, content, partial(refuse, died)

    return results


def row_of(item: Item, identity: str) -> dict:
    """What an actor is sent; ``identity`` follows from the clip's content and the settings alone."""
    path = str(Path(item.path).resolve())
    return {"id": identity, "path": path, "name": item.name, "kind": item.kind, "repeats": item.repeats}


def result_of(row: dict) -> dict:
    """The result in an actor's row; raises InputError where it holds an error instead."""
    if row["__error__"]:
        raise InputError(row["__error__"])
    return json.loads(row["result"])


class Worker:
    """An actor: makes the work once and does it for one row after another. Where it cannot be made, every row says why.

    An actor whose construction fails would be started again without end.
    """

    def __init__(self, remake: Callable[[], Work]):
        self.work, self.broken = None, ""
        try:
            self.work = remake()
        except Exception as error:
            self.broken = words_of(error)

    def __call__(self, row: dict) -> dict:
        item = Item(Path(row["path"]), row["name"], row["kind"], row["repeats"])
        if self.work is None:
            return {"id": row["id"], "result": "", "__error__": f"{item.name}: {self.broken}"}
        try:
            result = json.dumps(self.work.finish(item, self.work.prepare(item)))
            return {"id": row["id"], "result": result, "__error__": ""}
        except InputError as error:
            return {"id": row["id"], "result": "", "__error__": str(error)}
        except Exception as error:
            return {"id": row["id"], "result": "", "__error__": f"{item.name}: {words_of(error)}"}


def words_of(error: Exception) -> str:
    """What an error says, with its kind where it is none of ours."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def computed(rows: list[dict], remake: Callable[[], Work], pool: Pool) -> Iterator[dict]:
    """The rows of the actors as they come, each once; those whose actors died too often are missing."""
    with connected(pool) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        found = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=[remake],
            concurrency=pool.actors or max(1, gpus),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        yield from found.iter_rows()


@contextmanager
def connected(pool: Pool) -> Iterator:
    """Ray with a connection, which is closed at the end if it was opened here."""
    # Ray reports its use to its makers unless it is switched off.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--ray needs the package ray, which is not installed; install codeclens[ray]") from None
    if ray.is_initialized():
        yield ray
        return
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    local = {"num_cpus": max(os.cpu_count() or 1, pool.actors), "object_store_memory": STORE_BYTES}
    try:
        if pool.address:
            ray.init(address=pool.address, **quiet)
        else:
            ray.init(address="local", include_dashboard=False, **local, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--ray {pool.address}: no Ray answers ({words}); give its address, or none for one here"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
