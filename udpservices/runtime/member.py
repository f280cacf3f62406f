"""Members of groups: services whose port number others on this host may share, and the groups that they are in."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import MulticastJoinError
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.net.addresses import is_wildcard, parse_host
from udpservices.net.descriptors import has_descriptor_to_spare
from udpservices.net.interfaces import find_interface, outgoing_interface
from udpservices.net.sockopts import copy_settings, is_shared, leave_port_group, share_group_port
from udpservices.runtime.datagram import DatagramService
from udpservices.transport.port import DatagramPort

#: Seconds between two looks at whether an interface has come, or come back.
REJOIN_INTERVAL = 2.0


class SharedDatagramService(DatagramService):
    """Serves on port numbers that other processes of this host may open too.

    What `bind` opens on a wildcard reserves it, so that an error is early. The port itself comes from
    `listenMulticast`, while the process may still bind low port numbers. What the process inherited is adopted.
    """

    def privilegedStartService(self) -> None:
        """Bind, and open the ports."""
        super().privilegedStartService()
        self._open_ports()

    def _listen(self, sock: socket.socket, protocol: AbstractDatagramProtocol) -> DatagramPort:
        host, number = sock.getsockname()[:2]
        if is_wildcard(host) and is_shared(sock):
            port = self._reactor.listenMulticast(number, protocol, interface=host, listenMultiple=True)
            copy_settings(sock, port.socket)
        else:
            port = super()._listen(sock, protocol)
            share_group_port(port.socket)
        if not self._reuse_port:
            leave_port_group(port.socket)
        return port


class _Wanted(NamedTuple):
    """A membership as the user asks for it."""

    group: str
    interface: str
    source: str


class _Joined(NamedTuple):
    """A membership as the kernel has it."""

    group: str
    interface_index: int
    source: str
    interface: str


class Memberships:
    """Keeps a port in groups: joins them on interfaces that are late, and again on those that come back."""

    _log = Logger()

    def __init__(
        self, label: str, port: DatagramPort, groups: Sequence[str], interfaces: Sequence[str], sources: Sequence[str]
    ) -> None:
        """Those groups and sources that are of the port's family, on each interface (name, index or address).

        Without interfaces it is the one by which the kernel would send to the group; without sources everybody is
        heard.
        """
        self._label = label
        self._port = port
        family = port.addressFamily
        self._wanted = [
            _Wanted(group, interface, source)
            for group in groups
            if parse_host(group).family == family
            for interface in interfaces or [""]
            for source in [source for source in sources if parse_host(source).family == family] or [""]
        ]
        self._joined: set[_Joined] = set()
        self._complaints: dict[_Wanted, str] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = port.reactor

    def start(self) -> None:
        """Join, and keep looking."""
        self._loop.start(REJOIN_INTERVAL)

    def stop(self) -> None:
        """Look no more; the socket's end is the memberships' end."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._keep())

    async def _keep(self) -> None:
        if not has_descriptor_to_spare():  # then no interface can be found, and nothing follows from that
            return
        possible: dict[_Joined, _Wanted] = {}
        for wanted in self._wanted:
            try:
                # A membership of a socket is one of an interface: where that is gone, the membership is dead, but it
                # still counts (igmp_max_memberships), and for IPv6 it is in the way of a join that names none.
                index = find_interface(wanted.interface) or outgoing_interface(wanted.group)
                found = _Joined(wanted.group, index, wanted.source, socket.if_indextoname(index))
            except OSError as error:
                self._complain(wanted, error)
            else:
                possible[found] = wanted
        for lost in self._joined - possible.keys():
            self._joined.remove(lost)
            with suppress(MulticastJoinError):
                await self._port.leaveGroup(lost.group, lost.interface_index, lost.source)
        for found, wanted in possible.items():
            if found not in self._joined:
                await self._join(found, wanted)

    async def _join(self, found: _Joined, wanted: _Wanted) -> None:
        try:
            await self._port.joinGroup(found.group, found.interface_index, found.source)
        except MulticastJoinError as error:
            self._complain(wanted, error)
        else:
            self._joined.add(found)
            self._complaints.pop(wanted, None)
            self._log.info("{label} joined {what}", label=self._label, what=_describe(found))

    def _complain(self, wanted: _Wanted, error: Exception) -> None:
        """Say it once, until it is something else."""
        why = str(error.args[-1])
        if self._complaints.get(wanted) != why:
            self._complaints[wanted] = why
            what = _describe(wanted)
            self._log.warn("{label} cannot join {what} yet: {why}", label=self._label, what=what, why=why)


def _describe(what: _Wanted | _Joined) -> str:
    interface = f" on {what.interface}" if what.interface else ""
    return f"{what.group}{interface}" + (f" from {what.source}" if what.source else "")
