"""``twistd udphello``: a connected-UDP client that greets, tells when nobody listens, and recovers."""

import errno
import os
from typing import Any, ClassVar, NoReturn

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.net.addresses import split_target
from udpservices.options import Row, ServiceOptions
from udpservices.runtime.client import Answered, Failed, Redialer
from udpservices.units import message, positive_duration


class Helloer(DatagramProtocol):
    """Greets the one peer that its transport is connected to, and passes on what comes back."""

    noisy = False
    transport: IUDPTransport

    def __init__(self, message: bytes, answered: Answered, failed: Failed) -> None:
        """`answered` is called with each reply, `failed` with this protocol and why its peer cannot be reached."""
        self._message = message
        self._answered = answered
        self._failed = failed

    def greet(self) -> None:
        """Send the message: a connected transport needs no address."""
        self.transport.write(self._message, None)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """A reply; the kernel lets only the peer's through."""
        self._answered(datagram)

    def connectionRefused(self) -> None:
        """The peer's host says that nobody listens there."""
        self._failed(self, ConnectionRefusedError())

    def errorReceived(self, error: OSError) -> None:
        """The network says that the peer's host cannot be reached, or that a datagram was too long for its path."""
        if error.errno != errno.EMSGSIZE:  # the next one is cut to fragments that are not
            self._failed(self, error)

    class Options(ServiceOptions):
        """A client's own; it listens nowhere."""

        optParameters: ClassVar[list[Row]] = [
            [
                "target",
                None,
                None,
                "Whom to greet: HOST:PORT, a name or an address, [::1]:9999 for IPv6.",
                split_target,
            ],
            ["message", None, "Hello!", "What to send.", message],
            ["interval", None, 1.0, "Time between greetings, and before the first new attempt.", positive_duration],
            ["max-interval", None, 60.0, "Longest time between attempts when nobody answers.", positive_duration],
            ["timeout", None, 1.0, "With --once: how long to wait for the reply.", positive_duration],
        ]
        optFlags: ClassVar[list[Row]] = [
            ["once", None, "Greet once, print how long the reply took, and exit: 0, or 1 where none came."],
        ]
        of_command_line = ServiceOptions.of_command_line | {"once", "timeout"}

        def postOptions(self) -> None:
            """There is no default target. To greet once takes no service: that is done here, and the process ends."""
            super().postOptions()
            if self["target"] is None:
                raise UsageError("--target is missing: HOST:PORT, whom to greet")
            for name in ("interval", "max-interval") if self["once"] else ("timeout",):
                if name in self.given:
                    raise UsageError(f"--{name} has no effect {'with' if self['once'] else 'without'} --once")
            if self["once"]:
                self._greet_once()
            if self["max-interval"] < self["interval"]:
                longest = f"--max-interval, which is {self['max-interval']:g}s"
                raise UsageError(f"--interval {self['interval']:g}s: must not be longer than {longest}")

        def _greet_once(self) -> NoReturn:
            from udpservices.net.exchange import NoReply, ask  # no service needs it

            host, port = self["target"]
            try:
                reply = ask(host, port, os.fsencode(self["message"]), self["timeout"])
            except NoReply as error:
                raise UsageError(str(error)) from error
            print(f"reply from {reply.peer} in {reply.seconds * 1000:.3f} ms")
            raise SystemExit(0)

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> Redialer:
        """A service that keeps greeting."""
        host, port = options["target"]
        message = os.fsencode(options["message"])

        def make(answered: Answered, failed: Failed) -> Helloer:
            return cls(message, answered, failed)

        return Redialer(label, host, port, make, options["interval"], options["max-interval"], reactor)
