"""What the network brings: no datagram, address or control message ends more than itself."""

import contextlib
import ctypes
import functools
import os
import struct
from collections.abc import Callable
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, SOCK_DGRAM, AddressFamily, inet_ntop, socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from tests.fuzz import Target
from udpservices.net import sockopts
from udpservices.policy.access import AccessList
from udpservices.policy.guard.guard import GuardRules
from udpservices.policy.limits import RateLimit, RateLimiter
from udpservices.services.broadcast import Broadcast
from udpservices.services.discard import Discard
from udpservices.services.echo import Echo
from udpservices.services.hello import Helloer
from udpservices.services.length import Length
from udpservices.services.multicast import PING, MulticastPingPong
from udpservices.services.timeservice import Time
from udpservices.testing import connect
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine import gso, libc
from udpservices.transport.engine import peers
from udpservices.transport.engine.peers import NAME_SIZE, PeersByName
from udpservices.transport.engine.receive_slots import Arrays
from udpservices.transport.sending import Sender

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_CLONE_NEWUSER = 0x10000000

#: Each command's protocol.
PROTOCOLS: dict[str, Callable[[], Any]] = {
    "udpecho": Echo,
    "udptime": lambda: Time(Clock().seconds),
    "udplength": Length,
    "udpdiscard": Discard,
    "udpmulticast": MulticastPingPong,
    "udpbroadcast": lambda: Broadcast("255.255.255.255", b"hello", 1.0, Clock()),
    "udphello": lambda: Helloer(b"Hello!", lambda datagram: None, lambda protocol, error: None),
}


def _address(data: bytes) -> tuple[str, int]:
    """Any address of either family, with a scope or without."""
    data = data.ljust(19, b"\0")
    port = int.from_bytes(data[:2], "big")
    if data[18] & 1:
        return inet_ntop(AF_INET, data[2:6]), port
    scope = f"%{data[18]}" if data[18] & 2 else ""
    return inet_ntop(AF_INET6, data[2:18]) + scope, port


def protocol(data: bytes) -> None:
    """Every protocol gets every datagram; none raises, and each answers once at most, and whoever asked."""
    addr, datagram = _address(data[:19]), data[19:]
    for name, make in PROTOCOLS.items():
        if name == "udpbroadcast" and ":" in addr[0]:  # which IPv6 has not
            continue
        made: DatagramProtocol = make()
        transport = connect(made, "2001:db8::1" if ":" in addr[0] else "192.0.2.1")
        transport.written.clear()  # a beacon goes out at once
        made.datagramReceived(datagram, addr)
        written = transport.written
        assert len(written) <= 1, name
        assert all(target == addr for _, target in written), name


def control(data: bytes) -> None:
    """Control messages and names of any length and content become an answer that the kernel can judge, or nothing."""
    for raw in (data, data[:32], data[:40].ljust(40, b"\0")):
        answered = sockopts.answer_control(raw)
        assert len(answered) in (0, len(raw))
        for level, kind, content in sockopts.parse_control(answered):
            assert len(content) <= len(answered)
            assert isinstance(level, int)
            assert isinstance(kind, int)
        sockopts.parse_control(raw)
    for name in (data, data[:16], data[:28].ljust(28, b"\0")):
        try:
            found = peers.unpack(name)
        except ValueError:
            assert len(name) not in NAME_SIZE.values()
            continue
        assert peers.unpack(peers.pack(found)) == found
        assert peers.peer(found, data).socket_address == found


@functools.cache
def nowhere(family: AddressFamily) -> socket | None:
    """A socket that reaches nobody, whatever is sent to whomever; None where none can be made."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
            return None
        try:
            sock = socket(family, SOCK_DGRAM)
            sock.setblocking(False)
            return sock
        finally:
            libc.setns(home, _CLONE_NEWNET)
    finally:
        os.close(home)


def _sender(family: AddressFamily, control_size: int) -> tuple[Sender, Counters]:
    sock, counters = nowhere(family), Counters()
    port = SimpleNamespace(
        counters=counters,
        connected=sock is not None,
        has_socket=sock is not None,
        addressFamily=family,
        peer=None,
        socket=sock,
        fileno=sock.fileno if sock else None,
        log_fault=lambda doing, error: None,
    )
    return Sender(port, control_size), counters  # type: ignore[arg-type]


def batch(data: bytes) -> None:
    """Arrays that are full of anything: every datagram is sent, or counted as unsent."""
    header, rest = data[:4].ljust(4, b"\0"), data[4:] or b"\0"
    family = (AF_INET, AF_INET6)[header[0] & 1]
    count = header[1] % libc.SLOTS + 1
    size = sockopts.CONTROL_SIZE[family] if header[0] & 2 else 0
    flows = bool(header[0] & 16)
    arrays, idle = _arrays(family, size, gso.SEGMENT_SPACE * flows), []  # type: ignore[var-annotated]
    _fill(arrays.names, rest)
    coalesced = (gso.COALESCED_HEADER + rest[:4]).ljust(gso.SEGMENT_SPACE, b"\0") * flows
    _fill(arrays.controls, rest[::-1] if header[0] & 4 else coalesced + _destinations(size, rest))
    for slot in range(count):
        arrays._lengths[slot] = rest[slot % len(rest)] * (header[2] % 3)
        if arrays._control_lengths is not None:
            arrays._control_lengths[slot] = arrays._stride if header[3] & 1 else rest[slot % len(rest)] % arrays._stride
    sender, counters = _sender(family, size)
    sender.gathering = bool(header[0] & 8)
    got = Batch.of(arrays, count, sender, PeersByName(), idle)
    arrays.answer_from_destinations(count)
    assert [len(payload) for payload in got.payloads] == list(got.lengths)
    assert sum(got.lengths) == sum(arrays.lengths(count))
    datagrams = len(got)
    assert len(got.peers) == len(got.names) == datagrams >= count
    got.reflect()
    for payload, peer in got:
        with contextlib.suppress(MessageLengthError):
            sender.write(payload, peer)
    got.keep(index for index in range(datagrams) if index % 2)
    got.reflect()
    sender.flush()
    got.close()
    assert idle == [arrays]
    assert counters.sent + counters.unsent == 2 * datagrams + datagrams // 2


@functools.cache
def _arrays(family: AddressFamily, control_size: int, room: int = 0) -> Arrays:
    return Arrays(NAME_SIZE[family], control_size, room)


def _fill(memory: Any, data: bytes) -> None:
    memory[:] = (data * (len(memory) // len(data) + 1))[: len(memory)]


def _destinations(size: int, data: bytes) -> bytes:
    """Control messages that are nearly right: a header whose length, level or type is another one, now and then."""
    if not size:
        return b"\0"
    family = AF_INET if size == sockopts.CONTROL_SIZE[AF_INET] else AF_INET6
    content = {AF_INET: 12, AF_INET6: 20}[family]
    level, kind = {AF_INET: (0, sockopts.IP_PKTINFO), AF_INET6: (41, 50)}[family]
    length = 16 + content if data[0] & 1 else int.from_bytes(data[:8].ljust(8, b"\0"), "little")
    return (struct.pack("@Nii", length, level ^ (data[0] & 2), kind ^ (data[0] & 4)) + data).ljust(size, b"\0")[:size]


def policies(data: bytes) -> None:
    """Whatever a name says, guard and limit take the datagram or count it, and what the guard took it takes again."""
    header, rest = data[:5].ljust(5, b"\0"), data[5:] or b"\0"
    family = (AF_INET, AF_INET6)[header[0] & 1]
    count = header[1] % libc.SLOTS + 1
    arrays, clock = _arrays(family, 0), Clock()
    _fill(arrays.names, rest)
    for slot in range(count):
        arrays._lengths[slot] = rest[slot % len(rest)] * (header[2] % 3)
    host, number = _bound(family).getsockname()[:2]
    port: Any = SimpleNamespace(
        counters=Counters(),
        socket=_bound(family),
        reactor=clock,
        protocol=SimpleNamespace(reflector=bool(header[0] & 2)),
        getHost=lambda: SimpleNamespace(host=host, port=number),
    )
    deny = [ip_network((rest[:4].ljust(4, b"\1"), header[3] % 33), strict=False), ip_network("2000::/3")]
    rules = GuardRules(access=AccessList(deny=deny if header[0] & 4 else ()))
    guard, limiter = rules.policy(port), RateLimiter(RateLimit(burst=header[4] + 1), port, 1)
    got = Batch.of(arrays, count, _sender(family, 0)[0], PeersByName(), [])
    try:
        for policy in (guard, guard, limiter):
            policy(got)
            clock.advance(header[4])
            if policy is guard:
                kept = len(got)
                assert kept + port.counters.refused.total() == count
        assert len(got) + port.counters.refused.total() == count
        assert kept - len(got) == port.counters.refused["rate"]
    finally:
        got.close()
        guard.close()
        limiter.close()


@functools.cache
def _bound(family: AddressFamily) -> socket:
    sock = socket(family, SOCK_DGRAM)
    sock.bind(("::1" if family == AF_INET6 else "127.0.0.1", 0))
    return sock


_NAME4 = struct.pack("=H", AF_INET) + bytes.fromhex("270f 7f000001 0000000000000000")
_NAME6 = struct.pack("=H", AF_INET6) + bytes.fromhex("270f 00000000 fe80000000000000 0000000000000001 02000000")
_WORDS = [_NAME4, _NAME6, bytes(8), b"\xff" * 8, b"\x1c\0\0\0\0\0\0\0", b"\x24\0\0\0\0\0\0\0", b"\xfe\x80", b"\xff\x02"]

TARGETS = {
    "protocol": Target(
        protocol,
        [_NAME4[2:8].ljust(18, b"\0") + b"\1" + PING, _NAME6[2:].ljust(19, b"\2")[:19] + b"hello #1f0c5a3e", b""],
        [PING, b"\r\n", b" #", b"%s", b"{}"],
    ),
    "control": Target(
        control,
        [
            sockopts.pack_control((0, sockopts.IP_PKTINFO, bytes(12))),
            sockopts.pack_control((41, 50, b"\xfe\x80" + bytes(18))),
            sockopts.pack_control((41, 50, b"\xff\x02" + bytes(18))),
            sockopts.pack_control((1, 29, bytes(16))),
            *(b"", bytes(15), bytes(16), b"\xff" * 16, b"\xff" * 32, bytes(32), bytes(40)),
            _NAME4,
            _NAME6,
        ],
        _WORDS,
    ),
    "policies": Target(
        policies,
        [
            bytes([kind, count, 1, 8, burst]) + name + name[:2] + bytes(40)
            for kind in range(8)
            for count, burst in ((0, 0), (63, 3))
            for name in (_NAME4, _NAME6)
        ],
        [*_WORDS, b"\0\7", b"\0\0\xff\xff\x7f", b"\xff\xff\xff\xff", b"\xe0\0\0\1"],
    ),
    "batch": Target(
        batch,
        [
            bytes([kind, count, 1, 1]) + start
            for kind in range(32)
            for count in (0, 63)
            for start in (_NAME4, _NAME6, b"\3\0\0\0" + _NAME4)
        ],
        _WORDS,
    ),
}
