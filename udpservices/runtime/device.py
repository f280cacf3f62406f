"""Sockets that are bound to a device: which interfaces they hear, and that they follow it by name."""

import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.net.addresses import endpoint_text, host_and_port, parse_host
from udpservices.net.groups import hears
from udpservices.net.interfaces import find_interface, is_part_of
from udpservices.net.sockopts import bound_device, families, follow_device
from udpservices.transport.port import DatagramPort
from udpservices.units import one_line

#: Seconds between two looks at which interface has the device's name.
LOOK_INTERVAL = 2.0


def where(sock: socket.socket) -> str:
    """The address of a socket, as an error shows it."""
    return endpoint_text(*host_and_port(sock.getsockname()))


def check_interfaces(sockets: Sequence[socket.socket], interfaces: Collection[str]) -> None:
    """Raise ValueError for an interface by which a socket that is bound to another hears and sends nothing."""
    for sock in sockets:
        device = bound_device(sock)
        for interface in interfaces if device else ():
            with suppress(OSError):  # one that is not there yet
                if not is_within(find_interface(interface), device):
                    raise ValueError(f"--interface {interface}: the socket on {where(sock)} is bound to {device}")


def families_of(groups: Iterable[str]) -> set[socket.AddressFamily]:
    """The families of some groups."""
    return {parse_host(group).family for group in groups}


def check_groups(sockets: Sequence[socket.socket], groups: Sequence[str], interfaces: Sequence[str]) -> None:
    """Raise ValueError for a group that no socket can hear, and for an interface that a socket is not bound to."""
    for group in groups:
        if any(hears(sock, group) for sock in sockets):
            continue
        there = " and ".join(where(sock) for sock in sockets)
        if not any(families_of([group]) & families(sock) for sock in sockets):
            family = "IPv6" if ":" in group else "IPv4"
            raise ValueError(f"--group {group}: needs a socket for {family}, and there is {there} alone")
        raise ValueError(f"--group {group}: what is sent to it does not reach a socket on {there}")
    check_interfaces(sockets, interfaces)


def is_within(index: int, device: str) -> bool:
    """Whether a socket that is bound to a device hears an interface: that one, or a port of it. Raises OSError."""
    whole = socket.if_nametoindex(device)
    return index in (0, whole) or is_part_of(index, whole)


class DeviceKeeper:
    """Keeps a port on its device, by name: the kernel has it on an interface that may go and come back as another."""

    _log = Logger()

    def __init__(self, label: str, port: DatagramPort) -> None:
        """For a port that is open."""
        self._label = label
        self._port = port
        self.device = bound_device(port.socket)
        self._complained = False
        self._loop = LoopingCall(self.look)
        self._loop.clock = port.reactor

    def start(self) -> None:
        """Look now and then."""
        if self.device:
            self._loop.start(LOOK_INTERVAL, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Bind the port's socket again where its device is another interface than before."""
        if not self.device or not self._port.connected:
            return
        try:
            follow_device(self._port.socket, self.device)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "{label} hears nothing on {device}, which has come back as another interface: {why}; start again",
                    label=self._label,
                    device=one_line(self.device),
                    why=error.args[-1],
                )
        else:
            self._complained = False
