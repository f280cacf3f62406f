"""Hosts of a test's own: network namespaces on one Ethernet (network_namespaces(7), ip-netns(8)).

::

    with Network(2) as (server, client), server.serving("udpecho", "--port", "0") as (process, port):
        assert client.ask(server.link_local, port, b"hello") == b"hello"
"""

import contextlib
import ctypes
import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import BIN, PATIENCE, Process, need_root, run, tool, wait_until
from udpservices.net.addresses import parse_host

#: What every host calls its interface on the shared Ethernet.
INTERFACE = "eth0"

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MADE = itertools.count(1)

_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*words: str, lines: str | None = None) -> str:
    """Run ip(8), or a batch of its lines; what it writes. Raises RuntimeError where it fails."""
    batch = () if lines is None else ("-batch", "-")
    done = run(tool("ip"), *words, *batch, input=lines)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """This thread, and no other, is in a network namespace meanwhile (setns(2)).

    `namespace` is its name for ip-netns(8), or the path of its file.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set(home)
    finally:
        os.close(home)


def _set(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _sysctl(name: str, value: int | str) -> None:
    """Set a sysctl of the network namespace that this thread is in."""
    Path("/proc/sys/net", *name.split(".")).write_text(str(value))


class Host:
    """A machine of its own as far as the network goes: loopback, an Ethernet interface, routes, neighbours, sysctls."""

    def __init__(self, network: str, number: int) -> None:
        """`number`, from 1, is the last part of its addresses."""
        #: Its name for ip-netns(8).
        self.namespace = f"{network}-{number}"
        self._switch = _switch(network)
        self._number = number
        self._port = f"port{number}"
        self.ipv4 = f"198.51.100.{number}"
        self.ipv6 = f"fd00:db8::{number:x}"
        #: With its scope, which is the same text on every host.
        self.link_local = f"fe80::{number:x}%{INTERFACE}"

    @property
    def addresses(self) -> tuple[str, str, str]:
        """Where its neighbours reach it."""
        return self.ipv4, self.ipv6, self.link_local

    def __repr__(self) -> str:
        return f"<Host {self.ipv4}>"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is on this host meanwhile: sockets that it opens stay there, as do processes that it starts."""
        with entered(self.namespace):
            yield

    def ip(self, *words: str) -> str:
        """Configure this host by ip(8); what it writes. Raises RuntimeError where it fails."""
        return _ip("-n", self.namespace, *words)

    def sysctl(self, name: str, value: int | str) -> None:
        """Set a sysctl of this host's network, such as ``ipv6.conf.all.disable_ipv6``."""
        with self.entered():
            _sysctl(name, value)

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end, as `tests.support.run` does."""
        return run(*self._exec, *words, **options)

    def start(self, *words: str | Path, **options: Any) -> Process:
        """Start a command here in the background, to be closed by whoever starts it."""
        return Process(*self._exec, *words, **options)

    @property
    def _exec(self) -> tuple[str, ...]:
        return (tool("ip"), "netns", "exec", self.namespace)

    @contextlib.contextmanager
    def serving(self, *words: str | Path, **options: Any) -> Iterator[tuple[Process, int]]:
        """A command of twistd that listens here, with the port number of its first socket."""
        with self.start(BIN / "twistd", "-n", "--pidfile=", *words, **options) as process:
            found = process.wait_for(r"listening on \S+:(\d+)/udp")
            yield process, int(found[1])

    def udp_socket(self, address: str, port: int = 0, timeout: float = PATIENCE) -> socket.socket:
        """A socket here, bound to an address, which may have a scope, and not waiting for ever."""
        host = parse_host(address)
        with self.entered():
            sock = socket.socket(host.family, socket.SOCK_DGRAM)
            try:
                sock.settimeout(timeout)
                sock.bind(host.socket_address(port))
            except BaseException:
                sock.close()
                raise
        return sock

    def ask(self, address: str, port: int, payload: bytes, patience: float = PATIENCE) -> bytes:
        """What a connected client here gets in answer to a datagram to an address, which may have a scope."""
        host = parse_host(address)
        with self.entered(), socket.socket(host.family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)
            sock.connect(host.socket_address(port))
            sock.send(payload)
            return sock.recv(65535)

    def processes(self) -> list[int]:
        """The processes that run here."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def plug(self) -> None:
        """Get an interface on the shared Ethernet, and `up` it; its hardware address is the same each time."""
        port = self._port
        new = ("name", INTERFACE, "netns", self.namespace, "address", f"02:00:00:00:00:{self._number:02x}")
        _ip("link", "add", *new, "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "switch", "up")
        self.sysctl(f"ipv6.conf.{INTERFACE}.addr_gen_mode", 1)  # the kernel makes up no address
        self.sysctl(f"ipv6.conf.{INTERFACE}.accept_ra", 0)  # and learns none
        self.up()

    def unplug(self) -> None:
        """Lose the interface, as when its driver is removed."""
        self.ip("link", "del", INTERFACE)

    def up(self) -> None:
        """Bring the interface up, with its addresses, which can be used at once (RFC 4862 section 5.4 is left out)."""
        lines = [
            "link set lo up",
            f"link set {INTERFACE} up",
            f"addr replace {self.ipv4}/24 broadcast + dev {INTERFACE}",
            f"addr replace {self.ipv6}/64 dev {INTERFACE} nodad",
            f"addr replace {parse_host(self.link_local).address}/64 dev {INTERFACE} nodad",
        ]
        _ip("-n", self.namespace, lines="\n".join(lines))
        wait_until(self._is_ready, f"the link of {self}")

    def _is_ready(self) -> bool:
        """Whether what leaves here arrives: both ends of a cable hear of each other a moment after they are up."""
        if "state forwarding" not in _ip("-n", self._switch, "-details", "link", "show", self._port):
            return False
        with self.entered():
            if Path(f"/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6").read_text() == "1\n":
                return True
            routes = Path("/proc/thread-self/net/ipv6_route").read_text()
        return re.search(rf"^ff0{{30}} 08 .* {INTERFACE}$", routes, re.MULTILINE) is not None

    def down(self) -> None:
        """Take the interface down: Linux forgets its IPv6 addresses."""
        self.ip("link", "set", INTERFACE, "down")


def _switch(network: str) -> str:
    return f"{network}-switch"


class Network:
    """Some hosts on one Ethernet, for as long as the context lasts; needs root."""

    def __init__(self, count: int) -> None:
        """Prepare `count` hosts; nothing is made yet."""
        self._name = f"udpservices-{os.getpid()}-{next(_MADE)}"
        self.hosts = [Host(self._name, number) for number in range(1, count + 1)]

    def __enter__(self) -> list[Host]:
        need_root()
        try:
            self._make()
        except BaseException:
            self.remove()
            raise
        return self.hosts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def _namespaces(self) -> list[str]:
        return [_switch(self._name), *(host.namespace for host in self.hosts)]

    def _make(self) -> None:
        _ip(lines="\n".join(f"netns add {namespace}" for namespace in self._namespaces))
        with entered(_switch(self._name)):
            _sysctl("ipv6.conf.default.disable_ipv6", 1)  # the switch itself says nothing
        # A bridge without a spanning tree forwards at once; without snooping it floods groups as a hub does.
        bridge = ("type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        _ip("-n", _switch(self._name), "link", "add", "switch", "up", *bridge)
        for host in self.hosts:
            host.plug()

    def remove(self) -> None:
        """Remove what was made. A process that still runs on a host keeps that host, which has no name then."""
        made = [f"netns del {namespace}" for namespace in self._namespaces if (_NAMESPACES / namespace).exists()]
        _ip("-force", lines="\n".join(made))
