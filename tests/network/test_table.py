"""Which command works on which socket: each cell works, or is refused in one line. None does nothing in silence."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import product
from typing import Any, NamedTuple

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from tests.conftest import Turning
from tests.network.hosts import INTERFACE, Host, Network
from tests.network.members import asking, joined, route
from tests.support import logged, text
from udpservices.endpoints import parse, systemd
from udpservices.endpoints.systemd import Inherited
from udpservices.maker import DatagramServiceMaker
from udpservices.runtime.datagram import DatagramService
from udpservices.runtime.member import own_group
from udpservices.services.multicast import PING, PONG

PORT = 9999
GROUPS = {4: "228.0.0.5", 6: "ff15::5:5"}

#: The same in another spelling, by which nothing changes.
SPELLED = {4: "228.0.0.5", 6: "ff15:0::5:5"}

COMMANDS = {
    "udpmulticast": "udpservices.services.multicast.MulticastPingPong",
    "udpbroadcast": "udpservices.services.broadcast.Broadcast",
    "udpecho": "udpservices.services.echo.Echo",
    "udpdiscard": "udpservices.services.discard.Discard",
}


class Kind(NamedTuple):
    """A bound socket: its family and address, and the versions of IP and the groups that reach it."""

    address: str
    only_ipv6: bool
    versions: frozenset[int]
    groups: frozenset[int]

    def open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self.only_ipv6)
            sock.bind((self.address, PORT))
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def written(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address


FOUR, SIX, BOTH, NONE = frozenset({4}), frozenset({6}), frozenset({4, 6}), frozenset[int]()

KINDS = {
    "ipv4": Kind("0.0.0.0", False, FOUR, FOUR),
    "ipv6": Kind("::", True, SIX, SIX),
    "ipv4-address": Kind("198.51.100.1", False, FOUR, NONE),
    "ipv6-address": Kind("fd00:db8::1", True, SIX, NONE),
    "ipv4-group": Kind(GROUPS[4], False, FOUR, FOUR),
    "ipv6-group": Kind(GROUPS[6], True, SIX, SIX),
    "another-group": Kind("239.1.1.1", False, FOUR, NONE),
}

#: Those that only somebody else opens.
INHERITED = {
    "dual": Kind("::", False, BOTH, BOTH),
    "dual-address": Kind("fd00:db8::1", False, SIX, NONE),
    "mapped": Kind("::ffff:0.0.0.0", False, FOUR, FOUR),
    "mapped-address": Kind("::ffff:198.51.100.1", False, FOUR, NONE),
    "subnet": Kind("198.51.100.255", False, FOUR, NONE),
}

WILDCARDS = ("0.0.0.0", "::", "::ffff:0.0.0.0")

OPENED = [*product(["listen", "udp"], KINDS), *product(["fd", "systemd"], KINDS | INHERITED)]


@pytest.fixture(scope="module")
def link() -> Iterator[list[Host]]:
    with Network(2) as hosts:
        yield hosts


class Cell:
    """A command on a socket, on the first of two hosts."""

    def __init__(self, turning: Turning, link: list[Host], monkeypatch: pytest.MonkeyPatch) -> None:
        self.turning = turning
        self.one, self.two = link
        self._monkeypatch = monkeypatch
        self.events: list[Any] = []

    def words(self, way: str, kind: Kind, running: ExitStack) -> list[str]:
        """What opens such a socket in this way."""
        if way == "listen":
            return ["--listen", f"{kind.written}:{PORT}"]
        if way == "udp":
            escaped = kind.address.replace(":", "\\:")
            return ["--listen", f"udp:{PORT}:interface={escaped}"]
        descriptor = running.enter_context(closing(kind.open())).fileno()
        if way == "fd":
            return ["--listen", f"fd:{descriptor}"]
        self._monkeypatch.setattr(systemd, "inherited_descriptors", lambda: (Inherited(descriptor, "some"),))
        return ["--listen", "systemd:name=some"]

    def run(self, command: str, way: str, kind: Kind | None, words: list[str], works: Any) -> str:
        """The one line by which the cell is refused, or nothing once it is seen to work."""
        with self.one.entered(), logged() as self.events, ExitStack() as running:
            opening = ["--port", str(PORT)] if kind is None else self.words(way, kind, running)
            maker = DatagramServiceMaker(command, COMMANDS[command], "")
            try:
                options = maker.options()
                options.parseOptions([*opening, *words])
                service: Any = maker.makeService(options, self.turning.reactor)
            except (SystemExit, UsageError) as error:
                line = str(error)
                assert line
                assert line.isprintable()
                return line
            try:
                service.privilegedStartService()
                service.startService()
                works()
            finally:
                stopped: list[None] = []
                service.stopService().addCallback(stopped.append)
                self.turning.until(lambda: stopped, "the end of the service")
        assert not any("Traceback" in text(event) or "log_failure" in event for event in self.events)
        return ""

    def until_answered(self, sock: socket.socket, answer: bytes) -> None:
        sock.setblocking(False)

        def answered() -> bool:
            try:
                return sock.recv(100).startswith(answer)
            except BlockingIOError:
                return False

        self.turning.until(answered, "an answer")


@pytest.fixture
def cell(epoll: Turning, link: list[Host], monkeypatch: pytest.MonkeyPatch) -> Cell:
    return Cell(epoll, link, monkeypatch)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("way", "name"), [("port", ""), *OPENED])
def test_multicast(cell: Cell, way: str, name: str, version: int) -> None:
    kind = (KINDS | INHERITED).get(name)
    group = GROUPS[version]

    def works() -> None:
        with asking(cell.two, group) as sock:
            sock.sendto(PING, (group, PORT))
            cell.until_answered(sock, PONG)

    line = cell.run("udpmulticast", way, kind, ["--group", SPELLED[version], "--interface", INTERFACE], works)
    assert (not line) == (kind is None or (version in kind.groups and kind.address in (group, *WILDCARDS)))
    if line and way in ("fd", "systemd"):
        assert f"--group {group}: " in line


@pytest.mark.parametrize(("way", "name"), [("port", ""), *OPENED])
def test_broadcast(cell: Cell, way: str, name: str) -> None:
    kind = (KINDS | INHERITED).get(name)

    def works() -> None:
        with cell.two.udp_socket("0.0.0.0", PORT) as sock:
            cell.until_answered(sock, b"hello #")

    words = ["--interval", "10ms"]
    words += ["--address", "198.51.100.255"] if name == "subnet" else ["--interface", INTERFACE]
    line = cell.run("udpbroadcast", way, kind, words, works)
    assert (not line) == (name in ("", "ipv4", "dual", "mapped", "subnet"))


@pytest.mark.parametrize(("way", "name"), [("port", ""), *OPENED])
def test_responder(cell: Cell, way: str, name: str) -> None:
    """At an address it answers; at a group it hears what any socket of the host joined."""
    kind = (KINDS | INHERITED).get(name)
    versions = BOTH if kind is None else kind.versions
    if name.endswith("group") or name == "subnet":
        assert kind is not None
        group = kind.address

        def hears() -> None:
            with asking(cell.two, group) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.sendto(b"hi", (group, PORT))
                cell.turning.until(lambda: any("b'hi'" in text(event) for event in cell.events), "the datagram")

        with ExitStack() as running:
            if name != "subnet":
                running.enter_context(joined(cell.one, group))
            assert cell.run("udpdiscard", way, kind, ["--log-datagrams"], hears) == ""
        return

    def answers() -> None:
        for version in versions:
            address = cell.one.ipv4 if version == 4 else cell.one.ipv6
            with cell.two.udp_socket("0.0.0.0" if version == 4 else "::") as sock:
                sock.sendto(b"hello", (address, PORT))
                cell.until_answered(sock, b"hello")

    assert cell.run("udpecho", way, kind, [], answers) == ""


@pytest.mark.parametrize("version", [4, 6])
def test_a_group_that_nobody_joined(cell: Cell, version: int) -> None:
    """A responder that is bound to a group joins it, where the system would send to it."""
    kind = KINDS[f"ipv{version}-group"]
    if version == 4:
        route(cell.one)
    received: list[bytes] = []

    class Listening(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram: bytes, addr: object) -> None:
            received.append(datagram)

    with cell.one.entered(), logged() as events, closing(kind.open()) as sock:
        endpoint = parse(f"fd:{sock.fileno()}")
        companions = [lambda port: own_group("listening", port)]
        service = DatagramService("listening", [endpoint], Listening, cell.turning.reactor, companions=companions)
        service.startService()
        assert f"listening joined {kind.address} on {INTERFACE}" in [text(event) for event in events]
        with asking(cell.two, kind.address) as client:
            client.sendto(b"hi", (kind.address, PORT))
            cell.turning.until(lambda: received, "the datagram")
        service.stopService()
        cell.turning.turn(2)
    if version == 4:
        cell.one.ip("route", "del", "224.0.0.0/4", "dev", INTERFACE)
