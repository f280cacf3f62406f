"""Options of how a service runs."""

from typing import ClassVar

from udpservices.options.base import Row, ServiceOptions


class RunOptions(ServiceOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]
