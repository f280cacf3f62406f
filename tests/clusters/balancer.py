"""nginx in front of two backends, as docs/load-balancer.md has it, and clients in two networks of their own."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.clusters.recipes import follow
from tests.markdown import Page
from tests.network.hosts import INTERFACE, Host, Network
from tests.support import BIN, ROOT, Process, tool, wait_for_handlers, wait_until
from tests.system.load import Load

_PAGE = Page(ROOT / "docs" / "load-balancer.md")

PORT = 9999

#: How long anything may take on a busy machine, in seconds.
PATIENCE = 60.0

# The hosts' network for IPv6 in place of the page's; that for IPv4 is the same.
_NETWORK = ("2001:db8::", "fd00:db8::")

#: A module's place is told by Debian; the rest is what the page says of nginx.conf.
_MAIN = """\
include /etc/nginx/modules-enabled/*-mod-stream.conf;
user www-data;
worker_processes 2;
worker_rlimit_nofile 131072;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 65536; }}
"""


class Net(NamedTuple):
    """A network between the clients and nginx: in each family the addresses of both."""

    client: dict[str, str]
    nginx: dict[str, str]


#: Where clients are.
HERE = Net({"-4": "203.0.113.2", "-6": "fd00:db8:a::2"}, {"-4": "203.0.113.1", "-6": "fd00:db8:a::1"})
THERE = Net({"-4": "192.0.2.2", "-6": "fd00:db8:b::2"}, {"-4": "192.0.2.1", "-6": "fd00:db8:b::1"})


class Backend:
    """A host that serves."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[Process]:
        """It serves ``udpecho`` meanwhile."""
        words = ("udpecho", "--port", str(PORT), "--log-datagrams", *options)
        with self.host.start(BIN / "udpservices", *words) as process:
            process.wait_for(r"listening on \[::\]:", PATIENCE)
            wait_for_handlers(process)
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)  # it may hang, or drain


class Balancer:
    """nginx on a host of its own, the backends and the clients."""

    def __init__(self, hosts: list[Host], folder: Path) -> None:
        """`folder` is for nginx's files; the first host is nginx's, the last one that of the clients."""
        self.host, *others, self.clients = hosts
        self.backends = [Backend(host) for host in others]
        self.folder = folder
        for net in (HERE, THERE):
            for host, addresses in ((self.host, net.nginx), (self.clients, net.client)):
                host.ip("address", "add", f"{addresses['-4']}/24", "dev", INTERFACE)
                host.ip("address", "add", f"{addresses['-6']}/64", "dev", INTERFACE, "nodad")

    def follow(self, title: str, step: int | None = None, *, host: Host | None = None) -> None:
        """Do what a section of the page says, or one command of it, on nginx's machine or another."""
        command = f"{tool('nginx')} -c {self.folder}/nginx.conf -"
        instead = dict([("/etc/nginx", str(self.folder)), ("nginx -", command), _NETWORK])
        follow(_PAGE, title, host or self.host, self.folder, instead, step)

    @contextlib.contextmanager
    def running(self, *, transparent: bool = False, edit: tuple[str, str] | None = None) -> Iterator[Process]:
        """It balances meanwhile, with a text in the lists of backends in place of another one."""
        (self.folder / "nginx.conf").write_text(_MAIN.format(folder=self.folder))
        self.follow("Set it up")
        self.edit(*_NETWORK)
        if edit:
            self.edit(*edit)
        if transparent:
            self.follow("Hand the addresses on")
            for backend in self.backends:
                self.follow("Routes of a backend", host=backend.host)
        words = ("-c", self.folder / "nginx.conf", "-g", "daemon off;")
        with self.host.start(tool("nginx"), *words) as process:
            wait_until(self._listens, f"nginx to listen: {process.output}")
            yield process

    def _listens(self) -> bool:
        """Whether it does so in both families (proc_net(5))."""
        tables = [self.host.run("cat", f"/proc/net/{name}").stdout for name in ("udp", "udp6")]
        return all(f":{PORT:04X} " in table for table in tables)

    def edit(self, text: str, other: str) -> None:
        """Change the files that say where the backends are."""
        for path in self.folder.glob("udp-backends*.conf"):
            path.write_text(path.read_text().replace(text, other))

    @contextlib.contextmanager
    def load(self, rate: int, family: str = "-4", net: Net = HERE, *, answered: bool = True) -> Iterator[Load]:
        """A steady load of clients in a network, in datagrams a second, that is answered unless said otherwise."""
        words = ("-m", "tests.system.load", net.nginx[family], str(PORT), str(rate), "32")
        with self.clients.start(sys.executable, *words, cwd=ROOT) as process:
            load = Load(process, rate)
            if answered:
                load.keeps_up()
            else:
                load.sends(1)
            yield load


@contextlib.contextmanager
def balancer(folder: Path) -> Iterator[Balancer]:
    """Nothing runs yet; needs root and nginx."""
    tool("nginx")
    with Network(4) as hosts:
        yield Balancer(hosts, folder)
