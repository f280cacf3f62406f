"""``twistd udptime``: answers each datagram with the time, in seconds, in 32 bits (RFC 868)."""

import struct
from collections.abc import Callable
from typing import Any, ClassVar, Self

from twisted.internet.interfaces import ITransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.protocols import wire

from udpservices.options import DatagramOptions, Row, StreamOptions

#: Seconds from 1900-01-01, where RFC 868 starts to count, to 1970-01-01, where Unix does.
SINCE_1900 = 2_208_988_800

_EPOCHS = {"1900": SINCE_1900, "unix": 0}


def _epoch(text: str) -> str:
    if text not in _EPOCHS:
        raise ValueError("must be 1900 (RFC 868) or unix (for clients that expect 1970)")
    return text


def time_datagram(seconds: float, epoch: int) -> bytes:
    """Four bytes, the most significant first: Unix time counted from another epoch, modulo 2**32 (wraps in 2036)."""
    return struct.pack("!I", (int(seconds) + epoch) % (1 << 32))


class Time(DatagramProtocol):
    """Answers with the time, whatever is asked: RFC 868 asks with an empty datagram."""

    noisy = False
    reflector = True
    health_question = b""
    transport: IUDPTransport

    class Options(DatagramOptions, StreamOptions):
        """``--tcp`` also serves RFC 868's other half."""

        optParameters: ClassVar[list[Row]] = [
            ["port", None, 3737],
            ["epoch", None, "1900", "Count from 1900 (RFC 868) or, as clients that expect 1970 do, unix.", _epoch],
        ]

    def __init__(self, seconds: Callable[[], float], epoch: int = SINCE_1900) -> None:
        """`seconds` gives Unix time; `epoch` is what to add to it."""
        self._seconds = seconds
        self._epoch = epoch

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Self:
        """With the reactor's time of day."""
        return cls(time_of_day(reactor), _EPOCHS[options["epoch"]])

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer with the time."""
        self.transport.write(time_datagram(self._seconds(), self._epoch), addr)

    @staticmethod
    def is_healthy_answer(_: bytes, answer: bytes) -> bool:
        """Whether it is a time: four bytes."""
        return len(answer) == struct.calcsize("!I")

    @classmethod
    def streamFromOptions(cls, options: Any, reactor: Any) -> wire.Time:
        """The same over TCP; Twisted's own counts from 1970 and ends in 2038."""
        return TimeStream(time_of_day(reactor), _EPOCHS[options["epoch"]])


def time_of_day(reactor: Any) -> Callable[[], float]:
    """A reactor's clock, or what `runtime.process.clock.keep_time` left it beside one for timers."""
    clock: Callable[[], float] = getattr(reactor, "time_of_day", reactor.seconds)
    return clock


class TimeStream(wire.Time):
    """Sends the time and closes."""

    transport: ITransport

    def __init__(self, seconds: Callable[[], float], epoch: int) -> None:
        self._seconds = seconds
        self._epoch = epoch

    def connectionMade(self) -> None:
        """The client need not ask."""
        self.transport.write(time_datagram(self._seconds(), self._epoch))
        self.transport.loseConnection()
