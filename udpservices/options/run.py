"""Options of how a service runs."""

from typing import ClassVar

from udpservices.options.base import Row, ServiceOptions
from udpservices.units import duration


class ProcessOptions(ServiceOptions):
    """What holds for a whole process, and in a file stands above the first table."""

    optParameters: ClassVar[list[Row]] = [
        ["drain", None, 0.0, "Go on answering for so long after SIGTERM, before it stops.", duration],
    ]


class RunOptions(ProcessOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]
