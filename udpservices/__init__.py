"""UDP services in Twisted: any ``DatagramProtocol`` becomes a daemon with one line of plugin code.

What a service author imports stands here. Each name is resolved when it is first used (PEP 562): a plugin
imports `DatagramServiceMaker` each time that somebody runs ``twistd --help``, and that must import no reactor.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udpservices.maker import DatagramServiceMaker
    from udpservices.options import DatagramOptions
    from udpservices.runtime.datagram import DatagramService
    from udpservices.transport.batch import Batch, IBatchDatagramProtocol
    from udpservices.transport.engine.ancillary import Ancillary
    from udpservices.transport.engine.peers import Peer
    from udpservices.transport.port import DatagramPort
    from udpservices.transport.reactor import DatagramReactor

__version__ = "0.1.0"

_HOMES = {
    "Ancillary": "udpservices.transport.engine.ancillary",
    "Batch": "udpservices.transport.batch",
    "DatagramServiceMaker": "udpservices.maker",
    "DatagramOptions": "udpservices.options",
    "DatagramService": "udpservices.runtime.datagram",
    "DatagramPort": "udpservices.transport.port",
    "DatagramReactor": "udpservices.transport.reactor",
    "IBatchDatagramProtocol": "udpservices.transport.batch",
    "Peer": "udpservices.transport.engine.peers",
}

__all__ = [
    "Ancillary",
    "Batch",
    "DatagramOptions",
    "DatagramPort",
    "DatagramReactor",
    "DatagramService",
    "DatagramServiceMaker",
    "IBatchDatagramProtocol",
    "Peer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
