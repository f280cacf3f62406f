"""What a service says in the log when it starts and stops."""

import re
from typing import Any, cast

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread

from tests.runtime.running import answer, lines, maker, on_reactor, running, service_of, until
from tests.support import logged, text, udp_socket
from udpservices import DatagramService
from udpservices.endpoints import parse
from udpservices.services.echo import Echo


class Unsendable(DatagramProtocol):
    """Answers to where nobody can be."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        cast("Any", self.transport).write(datagram, (addr[0], 0))


class TestLog:
    @pytest.mark.parametrize(
        ("words", "does"),
        [
            (["--deny", "192.0.2.0/24"], "serves"),
            (["--deny", "192.0.2.0/24", "--allow", "192.0.2.9"], "serves"),
            (["--allow", "192.0.2.0/24"], "refuses"),
            (["--allow", "192.0.2.9", "--deny", "192.0.2.9"], "refuses"),
            (["--deny-file", "/dev/null"], "serves"),
            ([], None),
        ],
    )
    @on_reactor
    async def test_whether_everybody_else_is_served(self, words: list[str], does: str | None) -> None:
        """Which is not plain to see from a few lists: once a service, of two sockets here."""
        with logged() as events:
            async with running(service_of("--port", "0", *words)):
                pass
        said = [line for line in map(text, events) if "neither" in line]
        assert said == ([f"udpecho {does} whom neither --allow nor --deny names"] if does else [])

    @on_reactor
    async def test_one_line_a_socket_and_one_in_the_end(self) -> None:
        """With the real port number, and the counts of all sockets together."""
        with logged() as events:
            async with running(service_of("--port", "0")) as (number, _):
                assert lines(events, "udpecho") == [
                    f"udpecho listening on 0.0.0.0:{number}/udp",
                    f"udpecho listening on [::]:{number}/udp",
                ]
                for host in ("127.0.0.1", "::1", "::1"):
                    await answer(host, number)
        assert lines(events, "udpecho")[2:] == ["udpecho stopped: 3 received, 3 answered, 0 dropped"]

    @on_reactor
    async def test_each_address_as_it_can_be_given(self) -> None:
        """`--listen` takes what the start line prints."""
        with logged() as events:
            async with running(service_of("-i", "127.0.0.1", "-i", "::1", "--port", "0")):
                pass
        where = [re.fullmatch(r"udpecho listening on (\S+)/udp", line) for line in lines(events, "udpecho")[:2]]
        assert [match and str(parse(match[1])) for match in where] == [match and match[1] for match in where]

    @on_reactor
    async def test_nothing_happened(self) -> None:
        with logged() as events:
            async with running(service_of("--listen", "127.0.0.1:0")):
                pass
        assert lines(events, "udpecho")[1:] == ["udpecho stopped: 0 received, 0 answered, 0 dropped"]

    @on_reactor
    async def test_what_was_not_sent_is_dropped(self) -> None:
        with logged() as events, udp_socket() as client:
            service = service_of("--listen", "127.0.0.1:0", of=maker(Unsendable))
            async with running(service) as (number,):
                for _ in range(3):
                    client.sendto(b"hello", ("127.0.0.1", number))
                await until(lambda: service.ports[0].counters.received == 3)
        assert lines(events, "udptest")[-1] == "udptest stopped: 3 received, 0 answered, 3 dropped"

    @on_reactor
    async def test_each_start_counts_anew(self) -> None:
        with udp_socket() as inherited, logged() as events:
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            for _ in range(2):
                async with running(service) as (number,):
                    await answer("127.0.0.1", number)
        stopped = [line for line in lines(events, "echo") if "stopped" in line]
        assert stopped == ["echo stopped: 1 received, 1 answered, 0 dropped"] * 2

    @on_reactor
    async def test_log_datagrams(self) -> None:
        """Who sent what, the payload cut at 64 bytes; without the option not a word."""
        payload = bytes(range(100))
        for words, logs in (["--log-datagrams"], True), ([], False):
            with logged() as events, udp_socket() as client:
                async with running(service_of("--listen", "127.0.0.1:0", *words)) as (number,):
                    client.connect(("127.0.0.1", number))
                    for datagram in (payload, b"", payload[:64]):
                        client.send(datagram)
                        assert await deferToThread(client.recv, 1000) == datagram
                peer = client.getsockname()
            received = [line for line in map(text, events) if "received b" in line]
            where = f"udpecho on 127.0.0.1:{number}/udp"
            shown = [
                f"{where} received {datagram!r} from 127.0.0.1:{peer[1]}"
                for datagram in (payload[:64], b"", payload[:64])
            ]
            assert received == (shown if logs else [])
