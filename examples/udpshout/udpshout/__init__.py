"""``twistd udpshout``: answers each datagram in capitals."""

from typing import ClassVar, Self

from udpservices import DatagramOptions, Protocol
from udpservices.options import Row


class Shout(Protocol):
    """Sends back in capitals what it receives."""

    noisy = False
    reflector = True  # answers whatever it gets

    class Options(DatagramOptions):
        """What udpshout adds to the options that every service has."""

        optParameters: ClassVar[list[Row]] = [
            ["suffix", None, "", "Text to put after each answer."],
        ]

    def __init__(self, suffix: bytes = b"") -> None:
        self._suffix = suffix

    @classmethod
    def fromOptions(cls, options: Options, reactor: object) -> Self:
        """Make one from the command line; called once a socket."""
        return cls(options["suffix"].encode())

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back in capitals."""
        self.transport.write(datagram.upper() + self._suffix, addr)
