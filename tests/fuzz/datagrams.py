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
from udpservices.net.cmsg import pack_control
from udpservices.net.routes import Unknown
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
from udpservices.transport.engine import gso, libc, peers, reply_source
from udpservices.transport.engine.base import Connection
from udpservices.transport.engine.mmsg import MmsgEngine
from udpservices.transport.engine.peers import NAME_SIZE, PeersByName
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.engine.pool import SlotPool
from udpservices.transport.engine.receive_slots import ReceiveSlots
from udpservices.transport.engine.received import InPlace
from udpservices.transport.fault_reporter import FaultReporter
from udpservices.transport.port_name import PortName
from udpservices.transport.writer import Writer

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_CLONE_NEWUSER = 0x10000000

_POOL = SlotPool()

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
        answered = reply_source.answer_control(raw)
        assert len(answered) in (0, len(raw))
        for level, kind, content in reply_source.answer_message(answered):
            assert len(content) <= len(answered)
            assert isinstance(level, int)
            assert isinstance(kind, int)
        reply_source.answer_message(raw)
    for name in (data, data[:16], data[:28].ljust(28, b"\0")):
        try:
            found = peers.unpack(name)
        except ValueError:
            assert len(name) not in NAME_SIZE.values()
            continue
        assert peers.unpack(peers.pack(found)) == found
        assert peers.peer_at(found, data).socket_address == found


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


def _writer(family: AddressFamily, reply_size: int) -> tuple[Writer, Counters]:
    """What sends to nobody, and counts that; without a socket for it a closed one."""
    with_socket = nowhere(family)
    sock = with_socket or _bound(family)
    counters, connection, clock = Counters(), Connection(), Clock()
    plain = PlainEngine(sock, connection, bool(reply_size), frozenset(), Unknown())
    many = MmsgEngine(sock, connection, plain, _POOL, bool(reply_size), frozenset())
    faults = FaultReporter(PortName("fuzzed", "port"), DatagramProtocol(), connection, counters, clock)
    writer = Writer(plain, many, family, reply_size, connection, counters, faults, faults.network_failed)
    if with_socket is None:
        writer.close()
    return writer, counters


def batch(data: bytes) -> None:
    """Slots that are full of anything: every datagram is sent, or counted as unsent."""
    header, rest = data[:4].ljust(4, b"\0"), data[4:] or b"\0"
    family = (AF_INET, AF_INET6)[header[0] & 1]
    count = header[1] % libc.SLOTS + 1
    size = reply_source.CONTROL_SIZE[family] if header[0] & 2 else 0
    flows = bool(header[0] & 16)
    slots = _slots(family, size, gso.SEGMENT_SPACE * flows)
    idle: list[ReceiveSlots] = []
    _fill(slots.names, rest)
    coalesced = (gso.COALESCED_HEADER + rest[:4]).ljust(gso.SEGMENT_SPACE, b"\0") * flows
    _fill(slots._controls, rest[::-1] if header[0] & 4 else coalesced + _destinations(size, rest))
    for slot in range(count):
        slots._received.lengths[slot] = rest[slot % len(rest)] * (header[2] % 3)
        if slots._stride:
            slots._received.control_lengths[slot] = (
                slots._stride if header[3] & 1 else rest[slot % len(rest)] % slots._stride
            )
    writer, counters = _writer(family, size)
    received = InPlace(slots, count, PeersByName(), idle)
    got = Batch(received, writer)
    if header[0] & 8:
        writer.gather(received)
    assert [len(payload) for payload in got.payloads] == list(got.lengths)
    assert sum(got.lengths) == sum(slots.lengths(count))
    datagrams = len(got)
    lengths = got.lengths
    assert len(got.peers) == len(got.names) == datagrams >= count
    assert got.from_loopback() == sum(peer.is_loopback for peer in got.peers)
    assert list(got.sent_to_many()) == [index for index, peer in enumerate(got.peers) if peer.sent_to_many]
    assert list(got.not_from_loopback()) == [index for index, peer in enumerate(got.peers) if not peer.is_loopback]
    assert list(got.forged()) == [index for index, peer in enumerate(got.peers) if peer.is_forged]
    got.reflect()
    for payload, peer in got:
        with contextlib.suppress(MessageLengthError):
            writer.write(payload, peer)
    got.keep(index for index in range(datagrams) if index % 2)
    assert idle == [slots]
    got.reflect()
    writer.flush()
    got.close()
    assert idle == [slots]
    assert counters.sent + counters.unsent == 2 * datagrams + datagrams // 2
    if not counters.unsent:
        assert counters.sent_bytes == 2 * sum(lengths) + sum(lengths[1::2])


@functools.cache
def _slots(family: AddressFamily, reply_size: int, room: int = 0) -> ReceiveSlots:
    return ReceiveSlots(NAME_SIZE[family], reply_size, room)


def _fill(memory: Any, data: bytes) -> None:
    memory[:] = (data * (len(memory) // len(data) + 1))[: len(memory)]


def _destinations(size: int, data: bytes) -> bytes:
    """Control messages that are nearly right: a header whose length, level or type is another one, now and then."""
    if not size:
        return b"\0"
    family = AF_INET if size == reply_source.CONTROL_SIZE[AF_INET] else AF_INET6
    content = {AF_INET: 12, AF_INET6: 20}[family]
    level, kind = {AF_INET: (0, sockopts.IP_PKTINFO), AF_INET6: (41, 50)}[family]
    length = 16 + content if data[0] & 1 else int.from_bytes(data[:8].ljust(8, b"\0"), "little")
    return (struct.pack("@Nii", length, level ^ (data[0] & 2), kind ^ (data[0] & 4)) + data).ljust(size, b"\0")[:size]


def policies(data: bytes) -> None:
    """Whatever a name says, guard and limit take the datagram or count it, and what the guard took it takes again."""
    header, rest = data[:5].ljust(5, b"\0"), data[5:] or b"\0"
    family = (AF_INET, AF_INET6)[header[0] & 1]
    count = header[1] % libc.SLOTS + 1
    slots, clock = _slots(family, 0), Clock()
    _fill(slots.names, rest)
    for slot in range(count):
        slots._received.lengths[slot] = rest[slot % len(rest)] * (header[2] % 3)
    host, number = _bound(family).getsockname()[:2]
    port: Any = SimpleNamespace(
        counters=Counters(),
        socket=_bound(family),
        reactor=clock,
        protocol=SimpleNamespace(reflector=bool(header[0] & 2)),
        getHost=lambda: SimpleNamespace(host=host, port=number),
        log_name=PortName("fuzzed", "port"),
        is_shared=bool(header[0] & 8),
    )
    deny = [ip_network((rest[:4].ljust(4, b"\1"), header[3] % 33), strict=False), ip_network("2000::/3")]
    rules = GuardRules(access=AccessList(deny=deny if header[0] & 4 else ()))
    guard = rules.policy(port)
    limiter = RateLimiter(RateLimit(burst=header[4] + 1), 1, port.counters, clock, port.log_name)
    got = Batch(InPlace(slots, count, PeersByName(), []), _writer(family, 0)[0])
    try:
        for policy in (guard, guard, limiter):
            policy(got)
            clock.advance(header[4])
            if policy is guard:
                kept = len(got)
                assert kept + port.counters.refused.total() == count
                assert all(guard.passes(payload, peer) for payload, peer in got), "one by one as together"
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
            pack_control((0, sockopts.IP_PKTINFO, bytes(12))),
            pack_control((41, 50, b"\xfe\x80" + bytes(18))),
            pack_control((41, 50, b"\xff\x02" + bytes(18))),
            pack_control((1, 29, bytes(16))),
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
