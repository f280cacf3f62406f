"""Options of how a service runs, and its process."""

import os
import re
from typing import ClassVar

from twisted.python import usage

from udpservices.options.base import Row, ServiceOptions
from udpservices.options.stream import stream
from udpservices.units import duration

#: More than any host has cores that one port keeps busy.
MAX_WORKERS = 256


def _workers(text: str) -> int:
    if re.fullmatch("[0-9]{1,3}", text, re.ASCII) is None or int(text) > MAX_WORKERS:
        raise ValueError(f"must be a number of processes from 1 to {MAX_WORKERS}, or 0 for one a core")
    return int(text)


class DrainOptions(ServiceOptions):
    """How a process ends."""

    optParameters: ClassVar[list[Row]] = [
        ["drain", None, 0.0, "Go on answering for so long after SIGTERM, before it stops.", duration],
    ]


class WorkerOptions(ServiceOptions):
    """How many processes serve."""

    optParameters: ClassVar[list[Row]] = [
        [
            "workers",
            None,
            1,
            "Processes that serve, each with sockets of its own on the same ports; 0: one a core.",
            _workers,
        ],
    ]
    optFlags: ClassVar[list[Row]] = [
        ["share-socket", None, "Have all workers read from one socket: for few clients; costs more a datagram."],
    ]

    def postOptions(self) -> None:
        """What shapes workers needs them, and they need the files of this system."""
        super().postOptions()
        self.check_workers()

    def check_workers(self) -> None:
        """Refuse what does not go with workers. Raises UsageError."""
        if self["share-socket"] and self["workers"] == 1:
            raise usage.UsageError("--share-socket has no effect without --workers")
        if self["workers"] != 1 and (self.parent or self).get("chroot"):
            raise usage.UsageError("--workers and --chroot: a worker is started anew, which another root cannot do")

    @property
    def workers(self) -> int:
        """How many processes are to serve."""
        return self["workers"] or len(os.sched_getaffinity(0))


class MetricsOptions(ServiceOptions):
    """How a process is watched."""

    optParameters: ClassVar[list[Row]] = [
        [
            "metrics",
            None,
            None,
            "Serve metrics, health and a status page over HTTP: 9190 (on loopback), 192.0.2.1:9190 or tcp:9190, say.",
            stream,
        ],
    ]


class ProcessOptions(DrainOptions, WorkerOptions, MetricsOptions):
    """What holds for a whole process, and in a file stands above the first table."""


class RunOptions(DrainOptions, MetricsOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]
