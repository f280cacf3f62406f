"""Which address an answer leaves from: the one that was asked (ip(7), IP_PKTINFO; RFC 3542 section 6.1).

A wildcard socket otherwise answers from the primary address of the outgoing interface, and a client that asked another
one never hears that. So the control message that tells a datagram's destination becomes the one that gives its answer's
source: of the same size, in the same place.
"""

import mmap
import socket
import struct
import sys
from collections.abc import Sequence
from itertools import islice
from socket import AF_INET, AF_INET6, CMSG_LEN, CMSG_SPACE, IPPROTO_IP, IPPROTO_IPV6

from udpservices.net.addresses import MAPPED_PREFIX
from udpservices.net.cmsg import CONTROL_HEADER, ControlMessage, pack_control, split_control
from udpservices.net.sockopts import IP_PKTINFO
from udpservices.transport.engine.strides import unpacker

#: What tells a destination, as level and type (linux/in.h, IP_PKTINFO; linux/in6.h, IPV6_PKTINFO).
DESTINATION = {AF_INET: (IPPROTO_IP, IP_PKTINFO), AF_INET6: (IPPROTO_IPV6, socket.IPV6_PKTINFO)}

#: The size of that control message (``struct in_pktinfo``, ``struct in6_pktinfo``).
CONTROL_SIZE = {AF_INET: CMSG_SPACE(12), AF_INET6: CMSG_SPACE(20)}

# How they begin, by that size.
_HEADERS = {
    CONTROL_SIZE[AF_INET]: CONTROL_HEADER.pack(CMSG_LEN(12), *DESTINATION[AF_INET]),
    CONTROL_SIZE[AF_INET6]: CONTROL_HEADER.pack(CMSG_LEN(20), *DESTINATION[AF_INET6]),
}
_DATA = CONTROL_HEADER.size
_ANY_IPV4 = bytes(4)
_ANY_IPV6 = bytes(16)
_BROADCAST = (b"\xff" * 4, b"\x7f\xff\xff\xff")

# Of every network namespace (network_namespaces(7)).
_LOOPBACK_INTERFACE = 1

# The first byte of its addresses (RFC 1122 section 3.2.1.3).
_LOOPBACK_NETWORK = 127


def leave_by(index: int) -> bytes:
    """A control message that has an IPv4 datagram leave by this interface; 0 is no interface."""
    return pack_control((IPPROTO_IP, IP_PKTINFO, struct.pack("@i8x", index)))


def answer_control(raw: bytes) -> bytes:
    """Turn the destination of a received datagram into the source of its answer.

    The interface is forgotten, so that routing decides, except where IPv6 needs it: link-local addresses and groups.
    What is no destination, whole and alone, becomes one of the same size that leaves the source to the kernel, and
    nothing where no destination has that size.
    """
    header = _HEADERS.get(len(raw))
    if header is None:
        return b""
    if raw[:_DATA] != header:
        return header.ljust(len(raw), b"\0")
    if len(raw) == CONTROL_SIZE[AF_INET]:  # int ifindex; in_addr spec_dst, addr
        own, asked = raw[_DATA + 4 : _DATA + 8], raw[_DATA + 8 : _DATA + 12]
        if not any(own) and not _is_many(asked):  # it was queued before the kernel was asked to tell
            own = asked
        return raw[:_DATA] + bytes(4) + own + raw[_DATA + 8 :]
    if raw[_DATA] == 0xFF:  # in6_addr addr; unsigned ifindex: a group is nobody's source address
        return raw[:_DATA] + _ANY_IPV6 + raw[_DATA + 16 :]
    if raw[_DATA] == 0xFE and raw[_DATA + 1] & 0xC0 == 0x80:
        return raw
    return raw[: _DATA + 16] + bytes(len(raw) - _DATA - 16)


def answer_message(raw: bytes) -> tuple[ControlMessage, ...]:
    """What `answer_control` made, as `socket.sendmsg` takes it; nothing where it is nothing."""
    return tuple(islice(split_control(raw), 1))


def reply_address(raw: bytes) -> str:
    """The address that an answer leaves from by what `answer_control` made; nothing where the kernel chooses it, or for
    a link-local one, which means something on its link alone.
    """
    if len(raw) == CONTROL_SIZE[AF_INET]:
        own = raw[_DATA + 4 : _DATA + 8]
        return socket.inet_ntop(AF_INET, own) if any(own) else ""
    if len(raw) == CONTROL_SIZE[AF_INET6] and any(raw[_DATA : _DATA + 16]) and raw[_DATA] != 0xFE:
        return socket.inet_ntop(AF_INET6, raw[_DATA : _DATA + 16])
    return ""


def was_sent_to_many(raw: bytes) -> bool:
    """Whether a datagram was sent to a group or a broadcast address, by what `answer_control` made of its destination.

    An IPv4 socket tells a subnet's broadcast address too: the kernel would answer from another one. That it cannot say
    of what was queued before it was asked to; then only the address itself tells. A destination that the kernel did not
    tell, because another process turned that off, may be one of many: it counts as such.
    """
    if len(raw) not in _HEADERS:
        return False
    if len(raw) == CONTROL_SIZE[AF_INET]:
        own, asked = raw[_DATA + 4 : _DATA + 8], raw[_DATA + 8 : _DATA + 12]
        return asked == _ANY_IPV4 or (own != asked and (own != _ANY_IPV4 or _is_many(asked)))
    address = raw[_DATA : _DATA + 16]
    if address[:12] == MAPPED_PREFIX:
        return _is_many(address[12:])
    return address == _ANY_IPV6


def came_by(raw: bytes) -> int:
    """The interface that a control message names, 0 for none."""
    header = _HEADERS.get(len(raw))
    if header is None or raw[:_DATA] != header:
        return 0
    at = 4 * _INTERFACE_WORD[len(raw)]
    return int.from_bytes(raw[at : at + 4], sys.byteorder)


def went_to_loopback(raw: bytes) -> bool:
    """Whether a destination is an IPv4 address of loopback: what a local client sends there comes by loopback."""
    if len(raw) == CONTROL_SIZE[AF_INET]:
        return raw[_DATA + 8] == _LOOPBACK_NETWORK
    address = raw[_DATA : _DATA + 16]
    return address[:12] == MAPPED_PREFIX and address[12] == _LOOPBACK_NETWORK


def is_of_other_family(is_mapped: bool, raw: bytes) -> bool:
    """Whether a destination is of another version of IP than its datagram's source, which is mapped or not.

    IPv4 headers give an IPv6 socket two mapped addresses. A mapped source with an IPv6 destination stood in an IPv6
    header, where nobody has it.
    """
    address = raw[_DATA : _DATA + 16]
    if len(raw) != CONTROL_SIZE[AF_INET6] or address == _ANY_IPV6:
        return False
    return (address[:12] == MAPPED_PREFIX) != is_mapped


def _is_many(address: bytes) -> bool:
    """Whether an IPv4 address is a group, or a broadcast address on any network."""
    return 224 <= address[0] <= 239 or address in _BROADCAST


# The word of the interface in each control message, by its size.
_INTERFACE_WORD = {CONTROL_SIZE[AF_INET]: 4, CONTROL_SIZE[AF_INET6]: 8}
_PLAIN = frozenset(range(0xFE))  # first bytes of addresses that are neither link-local nor groups


class ReplySources:
    """The control messages of many datagrams, at equal distances in memory, turned where they lie."""

    def __init__(self, memory: mmap.mmap, size: int, stride: int, slots: int) -> None:
        """`size` is that of one, `stride` their distance, in bytes."""
        self._memory = memory
        self._size = size
        self._stride = stride
        words = memoryview(memory).cast("I")
        self._interfaces = words[_INTERFACE_WORD[size] :: stride // 4]
        self._zeros = memoryview(bytes(slots * 4)).cast("I")
        self._is_ipv4 = size == CONTROL_SIZE[AF_INET]
        if self._is_ipv4:  # an address to answer from, and the one that was asked
            self._own, self._asked = (words[at :: stride // 4] for at in (5, 6))
        #: Whether the kernel told a destination of each that was turned last, and an address to answer from.
        self._all_told = False

    def turn(self, count: int) -> None:
        """Turn the first `count`, as `answer_control` does with one."""
        size, stride, memory = self._size, self._stride, self._memory
        if self._is_ipv4:
            # Else some were queued before the kernel was asked to tell.
            plain = self._all_told = 0 not in self._own[:count].tolist()
        else:
            plain = _PLAIN.issuperset(memory[_DATA : count * stride : stride])
        if plain:
            self._interfaces[:count] = self._zeros[:count]
            return
        for at in range(0, count * stride, stride):
            memory[at : at + size] = answer_control(memory[at : at + size])

    def elsewhere(self, count: int) -> list[int]:
        """Which of the first `count` came by another interface than loopback's: before `turn`."""
        if self._interfaces[:count].tolist().count(_LOOPBACK_INTERFACE) == count:
            return []
        return [slot for slot, raw in enumerate(self.taken(count)) if came_by(raw) not in (0, _LOOPBACK_INTERFACE)]

    def forget(self, slot: int) -> None:
        """The kernel told no destination of this one: an older one still lies there."""
        start = slot * self._stride
        self._memory[start : start + self._size] = answer_control(bytes(self._size))

    def taken(self, count: int) -> tuple[bytes, ...]:
        """The first `count`, taken out."""
        return unpacker(self._size, count, self._stride)(self._memory)

    def are_one(self, count: int) -> bool:
        """Whether the first `count` are all the same."""
        span = count * self._stride
        if self._memory[:span] == self._memory[: self._stride] * count:
            return True
        return self._size < self._stride and len(set(self.taken(count))) == 1

    def sent_to_many(self, count: int) -> list[int]:
        """Of which of the first `count` `was_sent_to_many` holds."""
        if self._is_ipv4:
            if self._all_told and self._own[:count] == self._asked[:count]:
                return []
        elif 0 not in self._memory[_DATA : count * self._stride : self._stride]:
            return []
        return [slot for slot, control in enumerate(self.taken(count)) if was_sent_to_many(control)]


def told(messages: Sequence[ControlMessage], family: int) -> bytes:
    """What an answer must carry, by the control messages of one datagram (`socket.recvmsg`); it may be nothing."""
    return answer_control(_destination(messages, family))


def came_elsewhere(messages: Sequence[ControlMessage], family: int) -> bool:
    """Whether these control messages name another interface than loopback's."""
    return came_by(_destination(messages, family)) not in (0, _LOOPBACK_INTERFACE)


def _destination(messages: Sequence[ControlMessage], family: int) -> bytes:
    wanted = DESTINATION[AF_INET6 if family == AF_INET6 else AF_INET]
    for message in messages:
        if message[:2] == wanted:
            return pack_control(message)
    return b""
