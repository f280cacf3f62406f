"""What `write` takes, what it returns, and what it says of whom nobody can be sent to."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import InvalidAddressError
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.transport.peers import Echoing, Recorder
from udpservices import DatagramPort, DatagramReactor


class Quiet(DatagramProtocol):
    noisy = False


@pytest.fixture
def ports(epoll: Turning) -> Iterator[tuple[DatagramPort, DatagramPort]]:
    """A port of each family."""
    found = [DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), host) for host in ("127.0.0.1", "::1")]
    yield found[0], found[1]
    for port in found:
        port.stopListening()
    epoll.until(lambda: all(port.disconnected for port in found))


Ports = tuple[DatagramPort, DatagramPort]


def test_returns_how_much_was_sent(ports: Ports) -> None:
    """As Twisted's own port does."""
    ipv4, ipv6 = ports
    view: Any = memoryview(b"hello!")
    assert ipv4.write(b"hello", ("127.0.0.1", 9)) == 5
    assert ipv6.write(view, ("::1", 9)) == 6
    assert ipv4.write(b"", ("127.0.0.1", 9)) == 0
    assert ipv4.counters.unsent == 0


def test_returns_nothing_where_nothing_was_sent(ports: Ports, epoll: Turning) -> None:
    ipv4, _ = ports
    assert ipv4.write(b"hello", ("127.0.0.1", 0)) == 0
    ipv4.stopListening()
    epoll.until(lambda: ipv4.disconnected)
    assert ipv4.write(b"hello", ("127.0.0.1", 9)) == 0
    assert ipv4.counters.unsent == 2


class TestFour:
    """IPv6's tuple of four, as `socket` and asyncio have it."""

    def test_is_taken(self, ports: Ports, epoll: Turning) -> None:
        _, ipv6 = ports
        echo = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), "::1")
        whom: Any = ("::1", echo.getHost().port, 0, 0)
        assert ipv6.write(b"hello", whom) == 5
        protocol: Any = ipv6.protocol
        epoll.until(lambda: protocol.received)
        assert protocol.received == [(b"hello", whom[:2])]
        ipv6.connect(*whom[:2])
        assert ipv6.write(b"again", whom) == 5
        with pytest.raises(InvalidAddressError):
            ipv6.write(b"x", ("::1", 9, 0, 0))
        echo.stopListening()
        epoll.until(lambda: echo.disconnected)

    def test_scope(self, ports: Ports) -> None:
        """A number, which the kernel looks up."""
        _, ipv6 = ports
        assert ipv6.writer is not None
        assert ipv6.writer.whom(("fe80::1", 9, 0, 1)).socket_address == ("fe80::1", 9, 0, 1)
        assert ipv6.writer.whom(("fe80::1", 9, 0, 0)).socket_address == ("fe80::1", 9, 0, 0)

    @pytest.mark.parametrize("addr", [("::1", 9, "0", "lo"), ("::1", 9, 0), ("::1",)])
    def test_that_is_none(self, ports: Ports, addr: Any) -> None:
        with pytest.raises(InvalidAddressError):
            ports[1].write(b"x", addr)


@pytest.mark.parametrize(
    ("addr", "why"),
    [
        ("127.0.0.1:9", "takes a pair of a host and a port number, not '127.0.0.1:9'"),
        ((b"127.0.0.1", 9), "takes a host that is a str, not b'127.0.0.1'"),
        ((None, 9), "takes a host that is a str, not None"),
        (("127.0.0.1", "9"), "takes a port number that is an int, not '9'"),
        (("127.0.0.1", 9.0), "takes a port number that is an int, not 9.0"),
        (("127.0.0.1", True), "takes a port number that is an int, not True"),
        (("localhost", 9), "only accepts IP addresses, not hostnames"),
        (("127.0.0.1", 65536), "a port number is between 0 and 65535, not 65536"),
        (("::1", 9), "of a port of IPv4 called with an address of IPv6"),
        (("127.0.0.1", 9, 0, 0), "takes four values for IPv6 alone, the last two of them numbers"),
    ],
)
def test_says_what_is_wrong(ports: Ports, addr: Any, why: str) -> None:
    with pytest.raises(InvalidAddressError) as error:
        ports[0].write(b"x", addr)
    assert error.value.message.removeprefix("write() ") == why
