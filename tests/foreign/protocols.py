"""Protocols that nobody here wrote, as their own authors have them: only their constructors' arguments are filled in.

Each is what somebody would name to ``udpserve --protocol``.
"""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.protocols import sip
from txthings import coap, resource

#: What the DNS server knows: every name has these.
ADDRESS = "192.0.2.7"
ADDRESS6 = "2001:db8::7"
TEXT = [b"%03d " % number + b"text " * 30 for number in range(20)]

#: What the CoAP server has below ``/long``: it takes several blocks (RFC 7959).
LONG = b"".join(b"line %d of a long resource\n" % number for number in range(90))


class _Zone:
    """Answers every question."""

    def query(self, query: dns.Query, timeout: Any = None) -> Deferred[Any]:
        records = {dns.A: dns.Record_A(ADDRESS), dns.AAAA: dns.Record_AAAA(ADDRESS6), dns.TXT: dns.Record_TXT(*TEXT)}
        header = dns.RRHeader(query.name.name, type=query.type, payload=records[query.type])
        return succeed(([header], [], []))


class Names(dns.DNSDatagramProtocol):
    """Twisted's DNS server."""

    def __init__(self) -> None:
        super().__init__(DNSServerFactory(clients=[_Zone()]))


class Registrar(sip.RegisterProxy):
    """Twisted's SIP registrar and proxy."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1")
        registry: Any = sip.InMemoryRegistry("127.0.0.1")
        self.registry = self.locator = registry


class _Kept(resource.CoAPResource):  # type: ignore[misc]  # txThings has no types
    """Gives what was put."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.visible = True
        self.payload = payload

    def render_GET(self, request: Any) -> Deferred[Any]:
        return succeed(coap.Message(code=coap.CONTENT, payload=self.payload))

    def render_PUT(self, request: Any) -> Deferred[Any]:
        self.payload = request.payload
        return succeed(coap.Message(code=coap.CHANGED))


class Things(coap.Coap):  # type: ignore[misc]  # txThings has no types
    """txThings' CoAP server (RFC 7252)."""

    def __init__(self) -> None:
        root = resource.CoAPResource()
        for name, payload in {b"short": b"hello", b"long": LONG, b"empty": b""}.items():
            root.putChild(name, _Kept(payload))
        super().__init__(resource.Endpoint(root))
