"""From a text such as ``127.0.0.1:9999`` or ``systemd:name=echo`` to bound sockets."""

from udpservices.endpoints.base import Endpoint, EndpointError
from udpservices.endpoints.parsing import parse, parse_all
from udpservices.endpoints.systemd import DescriptorEndpoint, SystemdEndpoint
from udpservices.endpoints.udp import UDPEndpoint

#: The name that `udpservices` has for it.
parse_endpoint = parse

__all__ = [
    "DescriptorEndpoint",
    "Endpoint",
    "EndpointError",
    "SystemdEndpoint",
    "UDPEndpoint",
    "parse",
    "parse_all",
    "parse_endpoint",
]
