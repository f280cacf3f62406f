"""Options of protocols that are served over TCP too."""

import re
from typing import TYPE_CHECKING, ClassVar

from twisted.python import usage

from udpservices.endpoints.stream import stream_description
from udpservices.options.base import Row, ServiceOptions
from udpservices.policy.prefixes import PrefixLengths
from udpservices.units import duration

if TYPE_CHECKING:  # as in `guard`
    from udpservices.policy.connection_limits import ConnectionLimits

#: More than the kernel lets one process have open unless it is told otherwise (fs.nr_open).
MAX_CONNECTIONS = 1_000_000


def stream(text: str) -> str:
    """Where a stream listener is to be, as the user wrote it. Raises ValueError where that cannot be read."""
    stream_description(text)
    return text


def _connections(text: str) -> int:
    if re.fullmatch("[0-9]{1,7}", text, re.ASCII) is None or not 1 <= int(text) <= MAX_CONNECTIONS:
        raise ValueError(f"must be a number of connections from 1 to {MAX_CONNECTIONS}")
    return int(text)


class StreamOptions(ServiceOptions):
    """For protocols that are served over TCP too."""

    optParameters: ClassVar[list[Row]] = [
        [
            "tcp",
            None,
            None,
            "Serve TCP too: at a port number (on loopback), 192.0.2.1:7, [::1]:7 or a Twisted endpoint such as tcp:7.",
            stream,
        ],
        ["tcp-idle", None, 60.0, "End connections that are idle for so long, 0: never.", duration],
        [
            "tcp-connections",
            None,
            500,
            "Connections at a time. For one more, one ends of the source prefix that has most.",
            _connections,
        ],
    ]

    def postOptions(self) -> None:
        """What shapes TCP needs it."""
        super().postOptions()
        for name in ("tcp-idle", "tcp-connections"):
            if name in self.given and self["tcp"] is None:
                raise usage.UsageError(f"--{name} has no effect without --tcp")

    @property
    def connection_limits(self) -> "ConnectionLimits":
        """What clients over TCP are granted."""
        from udpservices.policy.connection_limits import ConnectionLimits

        return ConnectionLimits(self["tcp-idle"], self["tcp-connections"], self.get("rate-prefix", PrefixLengths()))
