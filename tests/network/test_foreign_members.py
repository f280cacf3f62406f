"""Multicast protocols that others wrote, by ``udpserve --group`` and by what their classes say."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.members import answering, route
from tests.support import BIN, Process

#: As it stands in Twisted's documentation (docs/core/examples/udp/MulticastServer.py); and others that join nothing.
SERVER = '''
from twisted.internet.protocol import DatagramProtocol


class MulticastPingPong(DatagramProtocol):
    def startProtocol(self):
        """
        Called after protocol has started listening.
        """
        # Set the TTL>1 so multicast will cross router hops:
        self.transport.setTTL(5)
        # Join a specific multicast group:
        self.transport.joinGroup("228.0.0.5")

    def datagramReceived(self, datagram, address):
        print(f"Datagram {repr(datagram)} received from {repr(address)}")
        if datagram == b"Client: Ping" or datagram == "Client: Ping":
            # Rather than replying to the group multicast address, we send the
            # reply directly (unicast) to the originating port:
            self.transport.write(b"Server: Pong", address)


class Quiet(DatagramProtocol):
    """Leaves joining to others."""

    def datagramReceived(self, datagram, address):
        if datagram == b"Client: Ping":
            self.transport.write(b"Server: Pong", address)


class Reflecting(DatagramProtocol):
    """Answers everything."""

    reflector = True

    def datagramReceived(self, datagram, address):
        self.transport.write(b"Server: Pong", address)


class Sharing(Quiet):
    share_port = True
    groups = ("228.0.0.5", "ff15::5:5")
'''

PLUGIN = """
from udpservices import DatagramServiceMaker

udpsharing = DatagramServiceMaker("udpsharing", "server.Sharing", "Share.")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "sharing_plugins.py").write_text(PLUGIN)
    return tmp_path


@contextmanager
def running(folder: Path, *started: tuple[Host, Sequence[str]], says: str = "joined") -> Iterator[list[Process]]:
    """Services, once each has said something."""
    with ExitStack() as all_of_them:
        processes = [
            all_of_them.enter_context(
                host.start(BIN / "twistd", "-n", "--pidfile=", *words, cwd=folder, env={"PYTHONPATH": str(folder)})
            )
            for host, words in started
        ]
        for process in processes:
            process.wait_for(says)
        yield processes
        for process in processes:
            process.stop()
            assert "Traceback" not in process.output, process.output
            assert "Unhandled" not in process.output, process.output


def serve(protocol: str, *words: str) -> tuple[str, ...]:
    return ("udpserve", "--protocol", f"server.{protocol}", *words)


IPV4 = ("228.0.0.5",)
BOTH = ("228.0.0.5", "ff15::5:5")


class TestOnePort:
    """Two processes of one host, and one of another, have the port number and the group."""

    @pytest.mark.parametrize(
        ("words", "groups"),
        [
            (serve("Quiet", "--group", "228.0.0.5", "--group", "ff15::5:5"), BOTH),
            (serve("MulticastPingPong", "--group", "228.0.0.5", "--interface", INTERFACE), IPV4),
            (serve("Reflecting", "--group", "228.0.0.5", "--listen", "udp:9999:rcvbuf=1M"), IPV4),
            (("udpsharing", "--interface", INTERFACE), BOTH),
        ],
        ids=["groups", "one that it joins itself", "reflector", "plugin"],
    )
    def test_all_answer(self, hosts: Hosts, folder: Path, words: Sequence[str], groups: Sequence[str]) -> None:
        one, two, stranger = hosts(3)
        for host in (one, two):
            route(host)
        joins = f"(?s)(joined .*){{{len(groups)}}}"
        with running(folder, (one, words), (one, words), (two, words), says=joins):
            for group in groups:
                address = "ipv6" if ":" in group else "ipv4"
                assert answering(stranger, group, 3) == [getattr(host, address) for host in (one, one, two)]

    def test_unchanged_example_that_joins_by_itself(self, hosts: Hosts, folder: Path) -> None:
        """Its port number is shared, and nobody else joins anything."""
        one, two = hosts(2)
        route(one)
        words = serve("MulticastPingPong", "--share-port", "--interface", "0.0.0.0")
        with running(folder, (one, words), (one, words), says="listening on 0.0.0.0:9999") as processes:
            assert answering(two, "228.0.0.5", 2) == [one.ipv4] * 2
            for process in processes:
                assert "joined" not in process.output

    def test_in_a_file_with_workers(self, hosts: Hosts, folder: Path) -> None:
        """A member runs once, beside workers: others would answer besides."""
        one, two = hosts(2)
        route(one)
        (folder / "udp.toml").write_text(
            'workers = 2\n[echo]\ncommand = "udpecho"\nport = 7\n'
            '[member]\ncommand = "udpserve"\nprotocol = "server.Quiet"\ngroup = ["228.0.0.5"]\n'
        )
        words = ("udpservices", "--config", "udp.toml")
        with running(folder, (one, words)) as (process,):
            assert answering(two, "228.0.0.5", 1) == [one.ipv4]
        assert process.output.count("member joined") == process.output.count("member stopped") == 1
