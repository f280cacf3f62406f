"""Two nodes with one address behind a BIRD router, as docs/anycast.md has them, and a client."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from tests.clusters.recipes import follow, variables
from tests.markdown import Page
from tests.network.hosts import INTERFACE, Host, Network
from tests.support import BIN, ROOT, tool, wait_for_handlers, wait_until
from tests.system.load import Load

BGP = ROOT / "config" / "bgp"
_NAMES = variables(BGP / "anycast.env")
_PAGE = Page(ROOT / "docs" / "anycast.md")

#: The service's addresses, by ip(8)'s option for their family.
ANYCAST = {"-4": _NAMES["ANYCAST4"], "-6": _NAMES["ANYCAST6"]}

PORT = 9999

#: The service's options on a node.
OPTIONS = ("--port", str(PORT), "--metrics", "127.0.0.1:9990", "--drain", "10s")

# How long the router may take to hear of a change, in seconds: the hold time at the longest, on a busy machine.
_PATIENCE = 60.0

# As exabgp.service has it; the nobody that it would become need not have the right to look into this environment.
_SPEAKER = {"exabgp_api_cli": "false", "exabgp_log_statistics": "false", "exabgp_daemon_user": "root"}


def _write_names(folder: Path, names: Mapping[str, str]) -> None:
    (folder / "anycast.env").write_text("".join(f"{name}={value}\n" for name, value in names.items()))


class Node:
    """A host that serves the addresses, and tells the router so."""

    def __init__(self, host: Host, router: Host, folder: Path) -> None:
        """`folder`, which is made, is for its files."""
        self.host = host
        self.folder = folder
        own = {"NODE4": host.ipv4, "NODE6": host.ipv6, "ROUTER4": router.ipv4, "ROUTER6": router.ipv6}
        self._names = _NAMES | own | {"EXABGP": str(BIN.parent), "CONFIG": str(folder)}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir()
        _write_names(self.folder, self._names)
        follow(_PAGE, "A node", self.host, self.folder, {"/etc/exabgp": str(self.folder)})
        self.speak()
        return self

    def __exit__(self, *_: object) -> None:
        for (
            process
        ) in self.host.processes():  # a drain takes its time, and exabgp's check outlives an exabgp that is killed
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._open.close()

    def speak(self) -> None:
        """Start exabgp."""
        words = (BIN / "exabgp", "server", self.folder / "exabgp.conf")
        self.speaker = self._open.enter_context(self.host.start(*words, cwd=self.folder, env=_SPEAKER))

    def serve(self, *words: str | Path) -> None:
        """Start the service, by default ``udpecho``."""
        command = self.host.start(BIN / "udpservices", *(words or ("udpecho",)), *OPTIONS, cwd=self.folder)
        self.service = self._open.enter_context(command)
        self.service.wait_for(r"listening on \[::\]:", _PATIENCE)
        wait_for_handlers(self.service)

    def signal(self, number: int) -> None:
        """Send the service a signal."""
        os.kill(self.service.pid, number)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The addresses are withdrawn by hand meanwhile."""
        file = self.folder / "disabled"
        file.touch()
        yield
        file.unlink()

    def arrived(self) -> int:
        """How many frames it has received."""
        return int(self.host.run("cat", f"/sys/class/net/{INTERFACE}/statistics/rx_packets").stdout)


class Router:
    """A host that runs BIRD."""

    def __init__(self, host: Host, nodes: list[Host], folder: Path) -> None:
        """`folder`, which is made, is for its files."""
        self.host = host
        self._folder = folder
        self._names = _NAMES | {"ROUTER4": host.ipv4, "ROUTER6": host.ipv6}
        for number, node in enumerate(nodes, 1):
            self._names |= {f"NODE{number}_4": node.ipv4, f"NODE{number}_6": node.ipv6}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """It routes meanwhile."""
        self._folder.mkdir()
        _write_names(self._folder, self._names)
        instead = dict.fromkeys(("/etc/bird", "/etc/sysctl.d"), str(self._folder))
        follow(_PAGE, "The router", self.host, self._folder, instead)
        for interface in ("all", INTERFACE):  # its client is on the same Ethernet, and shall not learn that
            self.host.sysctl(f"ipv4.conf.{interface}.send_redirects", 0)
        words = ("-d", "-c", self._folder / "bird.conf", "-s", self._folder / "bird.ctl")
        with self.host.start(tool("bird"), *words):
            yield

    def paths(self, family: str) -> set[str]:
        """The next hops of the service's address that the kernel has, by ip(8)'s option for the family."""
        return set(re.findall(r"via (\S+)", self.host.ip(family, "route", "show", ANYCAST[family])))


class Site:
    """The nodes, the router and a client."""

    def __init__(self, client: Host, router: Router, nodes: list[Node]) -> None:
        self.client = client
        self.router = router
        self.nodes = nodes

    def serve(self) -> None:
        """Have both nodes serve, and the router know."""
        for node in self.nodes:
            node.serve()
        self.wait_for(*self.nodes)

    def wait_for(self, *nodes: Node) -> None:
        """Wait until these nodes are all that the router sends to."""
        expected = {"-4": {node.host.ipv4 for node in nodes}, "-6": {node.host.ipv6 for node in nodes}}

        def are_all() -> bool:
            for node in self.nodes:
                node.speaker.says("$")  # one that nobody hears stands still in the end
            return all(self.router.paths(family) == expected[family] for family in ANYCAST)

        wait_until(are_all, f"the paths {expected}", _PATIENCE)

    @contextlib.contextmanager
    def load(self, family: str, rate: int = 1000, flows: int = 64) -> Iterator[Load]:
        """A steady load of the client's, in datagrams a second, that is answered."""
        words = ("-m", "tests.system.load", ANYCAST[family], str(PORT), str(rate), str(flows))
        with self.client.start(sys.executable, *words, cwd=ROOT) as process:
            load = Load(process, rate)
            load.keeps_up()
            yield load


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """All of that, with nothing served yet; needs root, bird and curl."""
    tool("curl")
    with contextlib.ExitStack() as opened:
        hosts = opened.enter_context(Network(4))
        router, client = Router(hosts[0], hosts[1:3], folder / "router"), hosts[3]
        opened.enter_context(router.running())
        nodes = [Node(host, router.host, folder / f"node{number}") for number, host in enumerate(hosts[1:3], 1)]
        for node in nodes:
            opened.enter_context(node)
        client.sysctl(f"ipv6.conf.{INTERFACE}.accept_redirects", 0)
        client.ip("route", "add", ANYCAST["-4"], "via", router.host.ipv4)
        client.ip("route", "add", ANYCAST["-6"], "via", router.host.ipv6)
        yield Site(client, router, nodes)
