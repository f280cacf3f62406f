"""What a worker is to serve, in words that another process understands: the command and its options, as they were read.

The options' values travel, not the words of the command line: a file of networks that they name may be another one by
now, or one that this user may not read.
"""

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from udpservices.runtime.process.reload import Entry


class Task(NamedTuple):
    """One service of a job."""

    name: str
    #: The service's number in its process group: a changed one has another.
    number: int
    #: What makes it, an IServiceMaker, and how its options are made anew.
    maker: Any
    values: dict[str, Any]
    label: str | None
    given: frozenset[str]
    #: Whether all workers read from the same sockets.
    shares_sockets: bool


def task_of(name: str, number: int, maker: Any, options: Any, shares_sockets: bool) -> bytes:
    """A task, as bytes. Raises ValueError where an option has a value that no other process can have."""
    values = {**options, "tcp": None} if "tcp" in options else dict(options)  # streams are the parent's
    task = Task(name, number, maker, values, options.label, frozenset(options.given), shares_sockets)
    try:
        return pickle.dumps(task)
    except Exception as error:
        raise ValueError(f"--workers: an option has a value that cannot be handed on: {error}") from error


def entries_of(tasks: Sequence[bytes]) -> list[Entry]:
    """What tasks describe. Raises what importing a protocol raises."""
    return [_entry(pickle.loads(task)) for task in tasks]  # noqa: S301 - of our parent


def _entry(task: Task) -> Entry:
    options = task.maker.options()
    options.update(task.values)
    options.label = task.label
    options.given = set(task.given)

    def make(reactor: Any) -> Any:
        service = task.maker.unbound(options, reactor)
        service.number = task.number
        service.shares_sockets = task.shares_sockets
        return service

    return Entry(task.name, task.number, make, maker=task.maker, options=options)
