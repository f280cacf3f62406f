"""What has become of memberships, as the kernel says it at one time."""

import socket
from contextlib import suppress
from typing import NamedTuple

from udpservices.net.addresses import parse_host
from udpservices.net.groups import KernelGroups, kernel_groups
from udpservices.net.netlink import Assigned, assigned_addresses


class Place(NamedTuple):
    """A membership as the kernel has it; the index is 0 where the kernel chose the interface."""

    group: str
    interface_index: int


class Joined:
    """What is known of a membership that the socket has."""

    def __init__(self, stamp: frozenset[Assigned]) -> None:
        #: Who is heard; an empty text is everybody.
        self.sources: set[str] = set()
        #: Whether the kernel's list had it once; else the list may be of another network namespace.
        self.listed = False
        #: The interface's addresses, and when it got them.
        self.stamp = stamp


class KernelLook:
    """What the kernel says at one time."""

    def __init__(self) -> None:
        self._groups: dict[socket.AddressFamily, KernelGroups | None] = {}
        self._assigned: frozenset[Assigned] | None = None

    def groups(self, group: str) -> KernelGroups | None:
        """The groups that are joined, of a group's family."""
        family = parse_host(group).family
        if family not in self._groups:
            self._groups[family] = kernel_groups(family)
        return self._groups[family]

    def stamp(self, place: Place) -> frozenset[Assigned]:
        """The addresses of a place's interface; none where the kernel does not tell."""
        if self._assigned is None:
            self._assigned = frozenset()
            with suppress(OSError):
                self._assigned = assigned_addresses()
        return frozenset(one for one in self._assigned if one.interface == place.interface_index)

    def has_lost(self, place: Place, state: Joined) -> bool:
        """Whether the interface is in a group no more that the socket believes to be in.

        Where the kernel does not tell what it has joined, it tells when the interface got its addresses: they go with
        what it has joined.
        """
        groups = self.groups(place.group)
        if groups is not None and not groups.has(place.interface_index, place.group):
            return state.listed
        lacks: bool | None = None
        if groups is not None:
            state.listed = True
            if "" in state.sources:
                return False
            lacks = groups.lacks_sources(place.interface_index, place.group, state.sources)
        return self._was_renewed(place, state) if lacks is None else lacks

    def _was_renewed(self, place: Place, state: Joined) -> bool:
        """Whether the interface has lost an address since it was joined. New ones do not count: they come late."""
        now = self.stamp(place)
        if not state.stamp <= now:
            return True
        state.stamp = now
        return False

    def is_blind(self, place: Place) -> bool:
        """Whether the kernel tells nothing by which the loss of a membership could be seen."""
        return self.groups(place.group) is None and not self.stamp(place)

    def is_held(self, place: Place) -> bool:
        """Whether some socket has the interface in the group."""
        groups = self.groups(place.group)
        return groups is not None and groups.has(place.interface_index, place.group)
