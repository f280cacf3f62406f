"""What the reactors have in common: they open ports of ours for applications that know Twisted alone."""

from typing import Any

from twisted.python import log
from twisted.python.failure import Failure

from udpservices.net import sockopts
from udpservices.transport.delivery import MAX_DATAGRAM
from udpservices.transport.port import DatagramPort
from udpservices.transport.reactor import OpensPorts
from udpservices.transport.served import Served

_DROPS = ("overflowed", "truncated", "stray", "withheld", "impaired", "crowded_out", "unsent")


class ForeignPort(DatagramPort):
    """A port as applications of Twisted's expect it.

    Its socket has the options that Twisted's has, or those of who opened it: an IPv6 wildcard takes IPv4 too where the
    system has it so, and who may share the port number still may. No service counts what it drops, so the port logs
    that at its end.
    """

    _settles = False

    @classmethod
    def adopt(cls, reactor: Any, descriptor: int, protocol: Served, maxPacketSize: int = MAX_DATAGRAM) -> DatagramPort:
        """As `DatagramPort.adopt`."""
        self = super().adopt(reactor, descriptor, protocol, maxPacketSize)
        if self._adopted is not None:
            sockopts.report_nothing(self._adopted)
        return self

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket, and log what was dropped."""
        was_open = not self.disconnected
        super().connectionLost(reason)
        if was_open and self.disconnected and self.counters.dropped:
            counts = [f"{count} {name}" for name in _DROPS if (count := getattr(self.counters, name))]
            log.msg(f"{self._getLogPrefix(self.protocol)} dropped datagrams: {', '.join(counts)}")

    def _say(self, text: str) -> None:
        """Log what Twisted's port does, as that does: whether or not the protocol is noisy."""
        log.msg(text)


class OpensForeignPorts(OpensPorts):
    """Makes one of Twisted's reactors, which comes after it among the bases, open our ports."""

    port_class = ForeignPort
