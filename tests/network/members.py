"""Members of groups on hosts of a test's own, and who asks them."""

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.network.hosts import INTERFACE, Host
from tests.support import BIN, Process, wait_until
from udpservices.services.multicast import PING, PONG

#: One IPv4 group, and IPv6 groups that stay on the link and that need not.
GROUPS = ("228.0.0.5", "ff02::5:5", "ff15::5:5")
PORT = 9999


def route(host: Host) -> None:
    """Let the host know where IPv4 groups are; for IPv6 it does by itself."""
    host.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)


def words(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


@contextmanager
def members(*started: tuple[Host, Sequence[str]]) -> Iterator[list[Process]]:
    """Members with these options, once each has joined all its groups."""
    with ExitStack() as running:
        processes = [
            running.enter_context(host.start(BIN / "twistd", "-n", "--pidfile=", "udpmulticast", *options))
            for host, options in started
        ]
        for process, (_, options) in zip(processes, started, strict=True):
            joins = max(1, options.count("--group")) * max(1, options.count("--interface"))
            process.wait_for(rf"(?s)(udpmulticast joined .*){{{joins}}}")
        yield processes
        for process in processes:
            process.stop()
            assert "Traceback" not in process.output, process.output
            assert "Unhandled" not in process.output, process.output


def asking(host: Host, group: str, interface: str = INTERFACE) -> socket.socket:
    """A client that is no member, whose datagrams to groups leave by an interface."""
    sock = host.udp_socket("::" if ":" in group else "0.0.0.0")
    with host.entered():
        index = socket.if_nametoindex(interface)
    if ":" in group:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = struct.pack("@4s4si", bytes(4), bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    return sock


def answering(host: Host, group: str, count: int, interface: str = INTERFACE, port: int = PORT) -> list[str]:
    """Who answers a ping to a group; `count` is how many are waited for."""
    with asking(host, group, interface) as sock:
        sock.sendto(PING, (group, port))
        found: list[str] = []
        while len(found) < count:
            datagram, peer = sock.recvfrom(100)
            assert datagram == PONG
            found.append(peer[0].partition("%")[0])
        return sorted(found)


def is_heard(host: Host, group: str, member: str, interface: str = INTERFACE, port: int = PORT) -> bool:
    """Whether a member answers a ping to a group.

    After that one comes another, by unicast and of another client, which it answers in any case: datagrams do not
    overtake each other here, so when that answer is there, the first one is, or never comes.
    """
    with host.entered():
        target = socket.getaddrinfo(member, port, type=socket.SOCK_DGRAM)[0][4]
    with asking(host, group, interface) as stranger:
        stranger.settimeout(0.1)
        wait_until(lambda: is_answered(stranger, target), "an answer to a neighbour, whose first datagram may be lost")
    with asking(host, group, interface) as sock, asking(host, group, interface) as other:
        sock.sendto(PING, (group, port))
        other.sendto(PING, target)
        assert other.recv(100) == PONG
        sock.setblocking(False)
        try:
            return sock.recv(100) == PONG
        except BlockingIOError:
            return False


def is_answered(sock: socket.socket, target: Any) -> bool:
    """Whether a ping by unicast is answered before the socket gives up."""
    sock.sendto(PING, target)
    try:
        return sock.recv(100) == PONG
    except TimeoutError:
        return False


@contextmanager
def joined(host: Host, group: str, port: int = 0) -> Iterator[socket.socket]:
    """A plain socket that is in a group, and reports the TTL or hop limit of what it hears."""
    ipv6 = ":" in group
    family, level = (socket.AF_INET6, socket.IPPROTO_IPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_IP)
    with host.udp_socket("::" if ipv6 else "0.0.0.0", port) as sock:
        with host.entered():
            index = socket.if_nametoindex(INTERFACE)
        address = socket.inet_pton(family, group)
        if ipv6:
            sock.setsockopt(level, socket.IPV6_JOIN_GROUP, address + struct.pack("@I", index))
            sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(level, socket.IP_ADD_MEMBERSHIP, struct.pack("@4s4si", address, bytes(4), index))
            sock.setsockopt(level, 12, 1)  # IP_RECVTTL
        yield sock
