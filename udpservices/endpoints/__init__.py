"""From a text such as ``127.0.0.1:9999`` or ``systemd:name=echo`` to bound sockets."""

from udpservices.endpoints.udp import (
    DescriptorEndpoint,
    Endpoint,
    EndpointError,
    SystemdEndpoint,
    UDPEndpoint,
    parse,
)

__all__ = ["DescriptorEndpoint", "Endpoint", "EndpointError", "SystemdEndpoint", "UDPEndpoint", "parse"]
