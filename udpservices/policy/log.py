"""``--log-datagrams``."""

from twisted.logger import Logger

from udpservices.net.addresses import endpoint_text
from udpservices.transport.batch import Batch
from udpservices.transport.engine.peers import Peer
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName

_log = Logger()

#: Bytes of a payload that are logged.
LOGGED = 64


class DatagramLog(Policy):
    """Logs each datagram and who sent it."""

    judges_one = True

    def __init__(self, name: PortName) -> None:
        """`name` is what the log calls the port."""
        self._name = name

    def __call__(self, batch: Batch) -> None:
        for payload, peer in batch:
            self.passes(payload, peer)

    def passes(self, payload: bytes, peer: Peer) -> bool:
        _log.info(
            "{label} on {endpoint} received {payload!r} from {peer}",
            **self._name._asdict(),
            payload=payload[:LOGGED],
            peer=endpoint_text(*peer),
        )
        return True


def log_datagrams(port: DatagramPort) -> Policy:
    """A policy for one port."""
    return DatagramLog(port.log_name)
