"""Multicast for both families, through the protocol-independent API of RFC 3678 section 5.

Interfaces are indices there, so that one code path serves IPv4 and IPv6, any-source and source-specific joins.
"""

import socket
import struct
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, AddressFamily
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import MulticastJoinError

from udpservices.net.addresses import Host, is_literal, is_multicast, is_wildcard, parse_host
from udpservices.net.groups import (
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
    MCAST_LEAVE_GROUP,
    MCAST_LEAVE_SOURCE_GROUP,
    change_membership,
)
from udpservices.net.interfaces import interface_index, ipv4_address
from udpservices.net.resolve import resolve
from udpservices.net.sockopts import families, forget_other_groups


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
        ipv4 = self.addressFamily == AF_INET
        return self.socket.getsockopt(self._level, socket.IP_MULTICAST_TTL if ipv4 else socket.IPV6_MULTICAST_HOPS)

    def setTTL(self, ttl: int) -> None:
        """Set the TTL (IPv4) or hop limit (IPv6) of datagrams sent to groups, from 0 (this host) to 255."""
        self._set(socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS, ttl)

    def setLoopbackMode(self, mode: int) -> None:
        """Whether this host hears what is sent to groups, too."""
        self._set(socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP, int(bool(mode)))

    def _set(self, ipv4_option: int, ipv6_option: int, value: int) -> None:
        """Set an option of each family of this port: a socket for both has two."""
        for family in families(self.socket) | {self.addressFamily}:
            level, option = (IPPROTO_IP, ipv4_option) if family == AF_INET else (IPPROTO_IPV6, ipv6_option)
            self.socket.setsockopt(level, option, value)

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
        if AF_INET in families(self.socket):  # struct ip_mreqn: the kernel reports the address back, and sends from it
            address = resolved if isinstance(resolved, str) and is_literal(resolved) else ipv4_address(index)
            self.socket.setsockopt(
                IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", bytes(4), socket.inet_aton(address), index)
            )
        return 1

    def joinGroup(self, addr: str, interface: str | int = "", source: str = "") -> Deferred[None]:
        """Join a group, or one source's share of it (RFC 4607) where a source is given.

        From then on a port on a wildcard receives the groups that it joined and no others. A port of IPv6 that takes
        IPv4 too joins groups of both. The Deferred fails with `MulticastJoinError` where the address is no group of
        this port's families, the interface does not exist, or the kernel refuses.
        """
        option = MCAST_JOIN_SOURCE_GROUP if source else MCAST_JOIN_GROUP
        return Deferred.fromCoroutine(self._change_membership(option, addr, interface, source))

    def leaveGroup(self, addr: str, interface: str | int = "", source: str = "") -> Deferred[None]:
        """Leave what `joinGroup` joined with the same arguments; the Deferred fails as there.

        Without a source it leaves all sources' shares.
        """
        option = MCAST_LEAVE_SOURCE_GROUP if source else MCAST_LEAVE_GROUP
        return Deferred.fromCoroutine(self._change_membership(option, addr, interface, source))

    async def _change_membership(self, option: int, group: str, interface: str | int, source: str) -> None:
        try:
            host = parse_host(await self._resolve(group))
            if not is_multicast(host.address):
                raise ValueError(f"{host.address} is no multicast group")
            index = interface_index(await self._resolve_interface(interface), host.family)
            only = parse_host(await self._resolve(source)) if source else None
            if not self.connected:
                raise ValueError("the port was stopped")
            self._check_family(host, host.family)
            if only is not None:
                self._check_family(only, host.family)
            change_membership(self.socket, option, index, host, only)
            if is_wildcard(self.socket.getsockname()[0]):
                forget_other_groups(self.socket)
        except (OSError, ValueError) as error:
            raise MulticastJoinError(group, interface, *error.args) from error

    def _check_family(self, host: Host, family: AddressFamily) -> None:
        if host.family != family or family not in families(self.socket):
            raise ValueError(f"{host.address} is an address of the other family")

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
