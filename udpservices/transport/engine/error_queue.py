"""The error queue of a socket: what ICMP said of which datagram (ip(7), IP_RECVERR; ipv6(7), IPV6_RECVERR).

The option has the kernel tell more: the errors of a socket that is connected to nobody, those that may pass, and to who
sends, as ENOBUFS, what a queue of this host drops (net/ipv4/udp.c, udp_send_skb).

The kernel puts an error of ICMP into the queue and makes it the pending error of the socket besides (SO_ERROR), with
which the next call to send or to receive fails; the entry stays. To take an entry off makes the next one the pending
error, and none where it was the last (net/core/skbuff.c, sock_dequeue_err_skb). Poll says POLLERR as long as either is
there. Entries take their room from the receive buffer: a socket whose queue nobody empties soon hears nothing any more,
and where there is no room left an error is pending alone.
"""

import errno
import os
import struct
import sys
from contextlib import suppress
from socket import AF_INET6, CMSG_SPACE, IPPROTO_IP, IPPROTO_IPV6, socket
from typing import NamedTuple

from udpservices.net.addresses import SocketAddress, host_and_port
from udpservices.transport.engine import ancillary
from udpservices.transport.engine.base import NetworkError
from udpservices.transport.engine.peers import NAME_SIZE, unpack

#: How many entries one call takes off the queue, unless it is told otherwise.
SLICE = 64

# linux/in.h, linux/in6.h, linux/socket.h.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_MSG_ERRQUEUE = 0x2000
_REPORTS = frozenset({(IPPROTO_IP, _IP_RECVERR), (IPPROTO_IPV6, _IPV6_RECVERR)})

# linux/errqueue.h, struct sock_extended_err: ee_errno, ee_origin, ee_type, ee_code, ee_pad, ee_info, ee_data. The
# address of the offender comes after it (SO_EE_OFFENDER).
_EXTENDED_ERROR = struct.Struct("@IBBBxII")
_FAMILY = struct.Struct("@H")

# SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6. The others are no errors of the network: they tell when a
# datagram left (SO_EE_ORIGIN_TIMESTAMPING), that its memory is free (…_ZEROCOPY), that its time has passed (…_TXTIME).
_LOCAL = 1
_ORIGINS = frozenset({_LOCAL, 2, 3})

# The kernel writes its report after all that the socket asks for of each datagram. The 20 bytes are struct
# scm_ts_pktinfo and its padding, the 48 struct scm_timestamping, the two of 40 IP options (linux/net_tstamp.h).
_ROOM = (
    ancillary.ROOM
    + CMSG_SPACE(_EXTENDED_ERROR.size + NAME_SIZE[AF_INET6])
    + CMSG_SPACE(48)
    + CMSG_SPACE(20)
    + 2 * CMSG_SPACE(40)
)


class Reported(NamedTuple):
    """What one look at the error queue brought."""

    #: The errors of the network, oldest first.
    errors: list[NetworkError]
    #: Whether the look ended at its limit: more entries may wait.
    more: bool
    #: How many entries were taken off the queue, those that are no errors among them.
    taken: int


def report_errors(sock: socket) -> None:
    """Have the kernel put errors of the network into the socket's error queue; other systems than Linux have none.

    An IPv6 socket needs IPv4's option too, for IPv4 peers in IPv6's clothes.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError):
        sock.setsockopt(IPPROTO_IP, _IP_RECVERR, 1)
    if sock.family == AF_INET6:
        with suppress(OSError):
            sock.setsockopt(IPPROTO_IPV6, _IPV6_RECVERR, 1)


def read_errors(sock: socket, limit: int = SLICE) -> Reported:
    """Take up to `limit` entries off the error queue of a non-blocking socket, and pass over those that are no errors.

    An empty queue is no error. Raises OSError where the descriptor is closed. Who sent a datagram that this host itself
    found too long was told then, and is told again here: the errors without an offender.
    """
    errors: list[NetworkError] = []
    if not sys.platform.startswith("linux"):
        return Reported(errors, more=False, taken=0)
    for taken in range(limit):
        try:
            _, control, _, address = sock.recvmsg(0, _ROOM, _MSG_ERRQUEUE)
        except BlockingIOError:
            return Reported(errors, more=False, taken=taken)
        for level, kind, data in control:
            if (level, kind) in _REPORTS and (error := _network_error(data, address)):
                errors.append(error)
    return Reported(errors, more=True, taken=limit)


def _network_error(report: bytes, address: SocketAddress | None) -> NetworkError | None:
    """The error that the kernel reports of a datagram to an address, None where it is no error of the network."""
    if len(report) < _EXTENDED_ERROR.size:
        return None
    number, origin, _, _, info, _ = _EXTENDED_ERROR.unpack_from(report)
    if origin not in _ORIGINS:
        return None
    return NetworkError(
        number,
        os.strerror(number),
        peer=host_and_port(address) if address and address[1] else None,  # a local error may lack the port number
        offender=None if origin == _LOCAL else _offender(report[_EXTENDED_ERROR.size :]),
        path_mtu=info if number == errno.EMSGSIZE else None,
    )


def _offender(name: bytes) -> str | None:
    """The address text of the host that told; None for AF_UNSPEC."""
    if len(name) < _FAMILY.size:
        return None
    (family,) = _FAMILY.unpack_from(name)
    size = NAME_SIZE.get(family, 0)
    return host_and_port(unpack(name[:size]))[0] if 0 < size <= len(name) else None
