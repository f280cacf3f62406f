"""``twistd udpserve``: serves any datagram protocol, or a function, named on the command line."""

import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.protocol import AbstractDatagramProtocol, DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.aio.kind import speaks_asyncio
from udpservices.options import GroupOptions, Row, repeated
from udpservices.runtime.protocols.arguments import Argument, argument
from udpservices.runtime.protocols.handlers import is_handler
from udpservices.runtime.protocols.lookup import named
from udpservices.runtime.protocols.making import check, made, options_of, protocol_of, usable

_CURE = "--protocol-arg {}=VALUE"


def _named_protocol(name: str) -> Any:
    """What a name stands for, looking in the current folder last: twistd by itself does not look there."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return usable(named(name), name)


class Serve(DatagramProtocol):
    """Stands for the protocol that the user names."""

    class Options(GroupOptions):
        """What to serve."""

        optParameters: ClassVar[list[Row]] = [
            [
                "protocol",
                None,
                None,
                "What to serve, as package.module.Class or module:function; may be in the current folder.",
                _named_protocol,
            ],
        ]

        opt_protocol_arg = repeated(
            "protocol-arg", argument, "An argument of what is served, as NAME=VALUE; may repeat."
        )

        def __init__(self) -> None:
            super().__init__()
            self["protocol-arg"] = []

        def postOptions(self) -> None:
            """There is no default protocol."""
            super().postOptions()
            if self["protocol"] is None:
                raise UsageError("--protocol package.module.Class is missing")

        @property
        def served(self) -> tuple[Any, list[Argument]]:
            """What makes the protocols, and with which arguments. Raises Mistake."""
            found, given = self["protocol"], self["protocol-arg"]
            return protocol_of(found, given, _CURE), [] if is_handler(found, given) else given

        def check_protocol(self, protocol: Any) -> None:
            """The protocol is the one that the user names. Raises Mistake besides."""
            protocol, given = self.served
            options_of(protocol)
            check(protocol, given, _CURE)
            super().check_protocol(protocol)

    @classmethod
    def wants_loop(cls, options: Any) -> bool:
        """Whether what was named is asyncio's, and may want its event loop."""
        return speaks_asyncio(options["protocol"])

    @classmethod
    def served(cls, options: Any) -> Any:
        """What makes the protocols."""
        return options.served[0]

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> AbstractDatagramProtocol:
        """A protocol of what was named. Its own options, where it has some, stand at their defaults."""
        protocol, given = options.served
        own = options_of(protocol)()
        own.update(options)
        found: AbstractDatagramProtocol = made(protocol, own, reactor, given, _CURE)
        return found
