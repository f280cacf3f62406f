"""``twistd udpserve``: serves any datagram protocol, named on the command line."""

import sys
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.internet.protocol import AbstractDatagramProtocol, DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.options import DatagramOptions, Row
from udpservices.runtime.lookup import protocol_class


def _named_protocol(name: str) -> type[AbstractDatagramProtocol]:
    """As `protocol_class`, looking in the current folder last: twistd by itself does not look there."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return protocol_class(name)


class Serve(DatagramProtocol):
    """Stands for the protocol that the user names."""

    class Options(DatagramOptions):
        """What to serve."""

        optParameters: ClassVar[list[Row]] = [
            [
                "protocol",
                None,
                None,
                "The DatagramProtocol to serve, as package.module.Class; may be in the current folder.",
                _named_protocol,
            ],
        ]

        def postOptions(self) -> None:
            """There is no default protocol."""
            super().postOptions()
            if self["protocol"] is None:
                raise UsageError("--protocol package.module.Class is missing")

        def check_protocol(self, protocol: Any) -> None:
            """The protocol is the one that the user names."""
            super().check_protocol(self["protocol"])

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> AbstractDatagramProtocol:
        """An instance of the class that was named. Its own options, where it has some, stand at their defaults."""
        protocol: Any = options["protocol"]
        if hasattr(protocol, "fromOptions"):
            own = getattr(protocol, "Options", DatagramOptions)()
            own.update(options)
            return cast("AbstractDatagramProtocol", protocol.fromOptions(own, reactor))
        try:
            return cast("AbstractDatagramProtocol", protocol())
        except TypeError as error:
            raise ValueError(f"--protocol {protocol.__module__}.{protocol.__qualname__}: {error}") from error
