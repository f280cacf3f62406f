"""UDP services in Twisted: any ``DatagramProtocol`` becomes a daemon with one line of plugin code.

What a service author imports stands here, and in `udpservices.options`, `udpservices.net` and `udpservices.testing`,
under ``__all__``. Each name is resolved when it is first used (PEP 562): a plugin imports `DatagramServiceMaker` each
time that somebody runs ``twistd --help``, and that must import no reactor.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udpservices.endpoints import EndpointError, UDPEndpoint, parse_endpoint
    from udpservices.maker import DatagramServiceMaker
    from udpservices.options import DatagramOptions
    from udpservices.policy.access import AccessList
    from udpservices.policy.circulation import LoopBreaking
    from udpservices.policy.guard.guard import GuardRules
    from udpservices.policy.guard.loop_rules import LoopRules
    from udpservices.policy.impairment import Impairment
    from udpservices.policy.limits import RateLimit
    from udpservices.policy.standard import standard_policies
    from udpservices.protocol import Protocol, handler
    from udpservices.runtime.datagram import DatagramService
    from udpservices.transport.batch import Batch, IBatchDatagramProtocol
    from udpservices.transport.engine.ancillary import Ancillary
    from udpservices.transport.engine.peers import Peer
    from udpservices.transport.policy import Policy
    from udpservices.transport.port import DatagramPort
    from udpservices.transport.reactor import DatagramReactor

__version__ = "0.2.0"

_HOMES = {
    "AccessList": "udpservices.policy.access",
    "Ancillary": "udpservices.transport.engine.ancillary",
    "Batch": "udpservices.transport.batch",
    "DatagramServiceMaker": "udpservices.maker",
    "DatagramOptions": "udpservices.options",
    "DatagramService": "udpservices.runtime.datagram",
    "DatagramPort": "udpservices.transport.port",
    "DatagramReactor": "udpservices.transport.reactor",
    "EndpointError": "udpservices.endpoints",
    "GuardRules": "udpservices.policy.guard.guard",
    "IBatchDatagramProtocol": "udpservices.transport.batch",
    "Impairment": "udpservices.policy.impairment",
    "LoopBreaking": "udpservices.policy.circulation",
    "LoopRules": "udpservices.policy.guard.loop_rules",
    "Peer": "udpservices.transport.engine.peers",
    "Protocol": "udpservices.protocol",
    "handler": "udpservices.protocol",
    "Policy": "udpservices.transport.policy",
    "RateLimit": "udpservices.policy.limits",
    "UDPEndpoint": "udpservices.endpoints",
    "parse_endpoint": "udpservices.endpoints",
    "standard_policies": "udpservices.policy.standard",
}

__all__ = [
    "AccessList",
    "Ancillary",
    "Batch",
    "DatagramOptions",
    "DatagramPort",
    "DatagramReactor",
    "DatagramService",
    "DatagramServiceMaker",
    "EndpointError",
    "GuardRules",
    "IBatchDatagramProtocol",
    "Impairment",
    "LoopBreaking",
    "LoopRules",
    "Peer",
    "Policy",
    "Protocol",
    "RateLimit",
    "UDPEndpoint",
    "handler",
    "parse_endpoint",
    "standard_policies",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
