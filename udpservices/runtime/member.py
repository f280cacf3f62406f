"""Members of groups: services whose port number others on this host may share, and the groups that they are in."""

import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import MulticastJoinError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.endpoints.held import Held
from udpservices.net.addresses import is_multicast, is_wildcard, parse_host
from udpservices.net.descriptors import has_descriptor_to_spare
from udpservices.net.groups import held
from udpservices.net.interfaces import find_interface, interface_name, outgoing_interface
from udpservices.net.sockopts import (
    bound_device,
    copy_settings,
    families,
    forget_other_groups,
    is_on_device,
    is_shared,
    leave_port_group,
    share_group_port,
)
from udpservices.runtime.datagram import DatagramService, MakeCompanion
from udpservices.runtime.device import DeviceKeeper, is_within
from udpservices.runtime.kernel_look import Joined, KernelLook, Place
from udpservices.transport.port import DatagramPort
from udpservices.transport.served import Served
from udpservices.units import one_line

#: Seconds between two looks at what has become of interfaces and of the memberships on them.
REJOIN_INTERVAL = 2.0


class SharedDatagramService(DatagramService):
    """Serves on port numbers that other processes of this host may open too.

    What `bind` opens on a wildcard reserves it, so that an error is early. The port itself comes from
    `listenMulticast`, while the process may still bind low port numbers. What is bound to a device is adopted, as is
    what the process inherited.
    """

    #: Looks at what `bind` opened, and raises ValueError where that cannot do what the options ask for.
    check: Callable[[Sequence[socket.socket]], None] | None = None

    def bind(self, held: Held | None = None) -> None:
        """Open the sockets, and look at them. Raises as `DatagramService.bind` and `check` do."""
        if self._bound or self.ports:
            return
        super().bind(held)
        try:
            if self.check is not None:
                self.check([one.sock for one in self._bound])
        except BaseException:
            for one in self._bound:
                one.sock.close()
            self._bound = []
            raise

    def privilegedStartService(self) -> None:
        """Bind, and open the ports."""
        super().privilegedStartService()
        self._open_ports()

    def _listen(self, sock: socket.socket, protocol: Served) -> DatagramPort:
        host, number = sock.getsockname()[:2]
        # A protocol may send as soon as it has a port, and that must leave by the device already.
        if is_wildcard(host) and is_shared(sock) and not bound_device(sock):
            port = self._reactor.listenMulticast(
                number, protocol, interface=host, listenMultiple=True, label=self._label
            )
            copy_settings(sock, port.socket)
        else:
            port = super()._listen(sock, protocol)
            share_group_port(port.socket)
            forget_other_groups(port.socket)
        if not self._reuse_port:
            leave_port_group(port.socket)
        return port


class _Wanted(NamedTuple):
    """A membership as the user asks for it."""

    group: str
    interface: str


# What the kernel says to who joins a group that the socket is in already, for everybody or for other sources.
_ALREADY = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL})


class Memberships:
    """Keeps a port in groups: joins them on interfaces that are late, and again on those that come back.

    Each look asks the kernel what its interfaces have joined, since it drops that without a word to the socket.
    """

    _log = Logger()

    def __init__(
        self, label: str, port: DatagramPort, groups: Sequence[str], interfaces: Sequence[str], sources: Sequence[str]
    ) -> None:
        """Those groups and sources that are of the port's families, on each interface (name, index or address).

        Without interfaces it is the device that the port is bound to, or the interface by which the kernel would send
        to the group; without sources everybody is heard.
        """
        self._label = label
        self._port = port
        self._device = bound_device(port.socket)
        taken = families(port.socket)
        self._wanted = [
            _Wanted(group, interface)
            for group in groups
            if parse_host(group).family in taken
            for interface in interfaces or [""]
        ]
        self._groups = groups
        self._sources = sources
        self._joined: dict[Place, Joined] = {}
        self._complaints: dict[tuple[str, ...], str] = {}
        self._is_blind = False
        self._loop = LoopingCall(self._look)
        self._loop.clock = port.reactor

    def start(self) -> None:
        """Join, and keep looking."""
        if not self._wanted and self._groups:
            self._log.warn(
                "{label} joins no group on {endpoint}: there is no --group of its family",
                **self._port.log_name._asdict(),
            )
        if self._wanted:
            self._loop.start(REJOIN_INTERVAL)

    def stop(self) -> None:
        """Look no more; the socket's end is the memberships' end."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._keep()).addErrback(
            lambda failure: self._log.failure("{label} cannot look at its memberships", failure, label=self._label)
        )

    async def _keep(self) -> None:
        if not has_descriptor_to_spare():  # then no interface can be found, and nothing follows from that
            return
        possible = self._possible()
        look = KernelLook()
        for place in self._joined.keys() - possible.keys():
            # It is dead where its interface has gone, but it still counts (igmp_max_memberships), and for IPv6 it is in
            # the way of a join that names none.
            await self._leave(place)
        dropped = [place for place, state in self._joined.items() if look.has_lost(place, state)]
        for place in dropped:
            # Another socket may have the interface in the group by now: leaving must not take it out again.
            with held(*place) if look.is_held(place) else nullcontext():
                await self._leave(place)
                await self._join_all(place, possible[place], look, " again")
        for place, wanted in possible.items():
            await self._join_all(place, wanted, look)
        self._look_again()

    def _look_again(self) -> None:
        """See which of the new memberships are in the kernel's list."""
        look = KernelLook()
        for place, state in self._joined.items():
            state.listed = state.listed or look.is_held(place)
        if not self._is_blind and any(map(look.is_blind, self._joined)):
            self._is_blind = True
            self._log.warn(
                "{label} cannot see whether its memberships last: this process has neither /proc/net nor AF_NETLINK",
                label=self._label,
            )

    def _possible(self) -> dict[Place, _Wanted]:
        """What can be joined now."""
        possible: dict[Place, _Wanted] = {}
        for wanted in self._wanted:
            try:
                possible[Place(wanted.group, self._index(wanted))] = wanted
            except (OSError, ValueError) as error:
                for source in self._sources_of(wanted.group):
                    self._complain(wanted, source, error)
        return possible

    def _index(self, wanted: _Wanted) -> int:
        """The interface to join on; 0 leaves it to the kernel. Raises OSError, or ValueError for a wrong one."""
        if not self._device:
            return find_interface(wanted.interface) or outgoing_interface(wanted.group)
        index = find_interface(wanted.interface or self._device)
        if not is_on_device(self._port.socket, self._device):
            raise ValueError(f"the socket is bound to an interface {self._device} that has gone")
        if not is_within(index, self._device):
            raise ValueError(f"the socket is bound to {self._device}")
        return index

    def _sources_of(self, group: str) -> list[str]:
        family = parse_host(group).family
        return [source for source in self._sources if parse_host(source).family == family] or [""]

    async def _leave(self, place: Place) -> None:
        self._joined.pop(place, None)
        with suppress(MulticastJoinError):
            await self._port.leaveGroup(place.group, place.interface_index or "")

    async def _join_all(self, place: Place, wanted: _Wanted, look: KernelLook, again: str = "") -> None:
        for source in self._sources_of(place.group):
            state = self._joined.get(place)
            if state is None or source not in state.sources:
                await self._join(place, wanted, source, look, again)

    async def _join(self, place: Place, wanted: _Wanted, source: str, look: KernelLook, again: str) -> None:
        try:
            await self._join_once(place, source)
        except MulticastJoinError as error:
            self._complain(wanted, source, error)
            return
        state = self._joined.setdefault(place, Joined(look.stamp(place)))
        state.sources.add(source)
        self._complaints.pop((*wanted, source), None)
        name = ""
        with suppress(OSError):  # it has gone this moment
            name = interface_name(place.interface_index)
        what = _describe(place.group, name, source) + again
        self._log.info("{label} joined {what}", label=self._label, what=what)

    async def _join_once(self, place: Place, source: str) -> None:
        """Raises MulticastJoinError."""
        group, interface = place.group, place.interface_index or ""
        try:
            await self._port.joinGroup(group, interface, source)
        except MulticastJoinError as error:
            why = error.__cause__
            if not isinstance(why, OSError) or why.errno not in _ALREADY or place in self._joined:
                raise
            # Whoever opened the socket joined for it, or it is there since before the interface went.
            with suppress(MulticastJoinError):
                await self._port.leaveGroup(group, interface)
            await self._port.joinGroup(group, interface, source)

    def _complain(self, wanted: _Wanted, source: str, error: Exception) -> None:
        """Say it once, until it is something else."""
        why = one_line(str(error.args[-1]))
        if self._complaints.get((*wanted, source)) != why:
            self._complaints[(*wanted, source)] = why
            what = _describe(*wanted, source)
            self._log.warn("{label} cannot join {what} yet: {why}", label=self._label, what=what, why=why)


def _describe(group: str, interface: str, source: str) -> str:
    return one_line(group + (f" on {interface}" if interface else "") + (f" from {source}" if source else ""))


def own_group(label: str, port: DatagramPort) -> Memberships:
    """Keeps a port in the group that it is bound to; does nothing for a port that is bound to another address.

    It also hears the group by other interfaces, where another program has joined it.
    """
    host = parse_host(port.socket.getsockname()[0])
    return Memberships(label, port, [host.address] if is_multicast(host.address) else [], [], [])


def keepers(label: str) -> list[MakeCompanion]:
    """What keeps a responder's ports where they were opened: on their device, and in the group of their address."""
    return [partial(DeviceKeeper, label), partial(own_group, label)]


def group_keepers(label: str, groups: Sequence[str], interfaces: Sequence[str]) -> list[MakeCompanion]:
    """What keeps a member's ports on their device, and in groups, from every source."""
    return [partial(DeviceKeeper, label), lambda port: Memberships(label, port, groups, interfaces, [])]
