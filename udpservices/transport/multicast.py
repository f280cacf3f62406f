"""Multicast for both families, through the protocol-independent API of RFC 3678 section 5.

Interfaces are indices there, so that one code path serves IPv4 and IPv6, any-source and source-specific joins.
"""

import socket
import struct
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, AddressFamily
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import MulticastJoinError

from udpservices.net.addresses import is_literal, is_multicast, parse_host
from udpservices.net.interfaces import interface_index, ipv4_address
from udpservices.net.resolve import resolve

# linux/in.h
MCAST_JOIN_GROUP = 42
MCAST_LEAVE_GROUP = 45
MCAST_JOIN_SOURCE_GROUP = 46
MCAST_LEAVE_SOURCE_GROUP = 47

_STORAGE = 128  # sizeof(struct sockaddr_storage)


class MulticastMethods:
    """`IMulticastTransport` for a UDP port, IPv6 included: what Twisted's own has is right for IPv4 alone.

    An interface is given by name (``"eth0"``), by index (``2``) or by one of its addresses.
    """

    addressFamily: AddressFamily
    connected: int
    reactor: Any
    socket: socket.socket

    @property
    def _level(self) -> int:
        return IPPROTO_IP if self.addressFamily == AF_INET else IPPROTO_IPV6

    def getTTL(self) -> int:
        """The TTL (IPv4) or hop limit (IPv6) of datagrams sent to groups."""
        return self.socket.getsockopt(self._level, self._ttl_option)

    def setTTL(self, ttl: int) -> None:
        """Set the TTL (IPv4) or hop limit (IPv6) of datagrams sent to groups, from 0 (this host) to 255."""
        self.socket.setsockopt(self._level, self._ttl_option, ttl)

    @property
    def _ttl_option(self) -> int:
        return socket.IP_MULTICAST_TTL if self.addressFamily == AF_INET else socket.IPV6_MULTICAST_HOPS

    def setOutgoingInterface(self, addr: str | int) -> Deferred[int]:
        """Choose the interface by which datagrams leave for groups; fires with 1 when it is done.

        The Deferred fails with OSError or ValueError where there is no such interface.
        """
        return Deferred.fromCoroutine(self._set_outgoing_interface(addr))

    async def _set_outgoing_interface(self, interface: str | int) -> int:
        resolved = await self._resolve_interface(interface)
        index = interface_index(resolved, self.addressFamily)
        if self.addressFamily == AF_INET6:
            self.socket.setsockopt(IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:  # struct ip_mreqn: the kernel reports the address back, and sends from it
            address = resolved if isinstance(resolved, str) and is_literal(resolved) else ipv4_address(index)
            self.socket.setsockopt(
                IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", bytes(4), socket.inet_aton(address), index)
            )
        return 1

    def joinGroup(self, addr: str, interface: str | int = "", source: str = "") -> Deferred[None]:
        """Join a group, or one source's share of it (RFC 4607) where a source is given.

        The Deferred fails with `MulticastJoinError` where the address is no group of this port's family, the
        interface does not exist, or the kernel refuses.
        """
        option = MCAST_JOIN_SOURCE_GROUP if source else MCAST_JOIN_GROUP
        return Deferred.fromCoroutine(self._change_membership(option, addr, interface, source))

    def leaveGroup(self, addr: str, interface: str | int = "", source: str = "") -> Deferred[None]:
        """Leave what `joinGroup` joined with the same arguments; the Deferred fails as there."""
        option = MCAST_LEAVE_SOURCE_GROUP if source else MCAST_LEAVE_GROUP
        return Deferred.fromCoroutine(self._change_membership(option, addr, interface, source))

    async def _change_membership(self, option: int, group: str, interface: str | int, source: str) -> None:
        try:
            address = await self._resolve(group)
            if not is_multicast(address):
                raise ValueError(f"{address} is no multicast group")
            index = interface_index(await self._resolve_interface(interface), self.addressFamily)
            request = struct.pack("@I0L", index) + self._storage(address)
            if source:
                request += self._storage(await self._resolve(source))
            if not self.connected:
                raise ValueError("the port was stopped")
            self.socket.setsockopt(self._level, option, request)
        except (OSError, ValueError) as error:
            raise MulticastJoinError(group, interface, *error.args) from error

    def _storage(self, address: str) -> bytes:
        """A ``struct sockaddr_storage``; the kernel ignores the port."""
        host = parse_host(address)
        if host.family != self.addressFamily:
            raise ValueError(f"{address} is an address of the other family")
        raw = socket.inet_pton(host.family, host.address)
        if host.family == AF_INET6:
            packed = struct.pack("@HHI16sI", AF_INET6, 0, 0, raw, host.socket_address(0)[3])
        else:
            packed = struct.pack("@HH4s", AF_INET, 0, raw)
        return packed.ljust(_STORAGE, b"\0")

    async def _resolve_interface(self, interface: str | int) -> str | int:
        """An interface that is an index, an address or a name as it is, and a host name looked up."""
        if isinstance(interface, int) or not interface or is_literal(interface):
            return interface
        try:
            return interface_index(interface, self.addressFamily)
        except OSError:
            return await self._resolve(interface)

    async def _resolve(self, host: str) -> str:
        """A literal as it is; a host name through the reactor's resolver, in this port's family."""
        if is_literal(host):
            return host
        found = [known for known in await resolve(self.reactor, host) if parse_host(known).family == self.addressFamily]
        if not found:
            raise ValueError(f"{host} is not known as a host of this family")
        return found[0]
