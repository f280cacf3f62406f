"""``udphello`` on real sockets, and as a command."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

import pytest
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.machine import free_port
from tests.services.greeting import HERE, NAME
from tests.support import Process, descriptors, logged, serving, text, twistd, udp_socket
from tests.transport.names import Names
from udpservices.runtime.client import Redialer
from udpservices.services.hello import Helloer
from udpservices.transport.reactor import DatagramReactor


class Peer:
    """A plain socket that is greeted."""

    def __init__(self, host: str = HERE, port: int = 0) -> None:
        self.socket = udp_socket(host, port)
        self.socket.setblocking(False)
        #: Who greeted last.
        self.caller: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def greeted(self) -> bool:
        try:
            _, self.caller = self.socket.recvfrom(100)
        except BlockingIOError:
            return False
        return True

    def answer(self) -> bool:
        """Answer a greeting, if there is one."""
        return self.greeted() and self.socket.sendto(b"Hello yourself!", self.caller or ("", 0)) > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.socket.close()


@contextmanager
def greeting_of(turning: Turning, host: str, port: int) -> Iterator[list[LogEvent]]:
    """The service of a command line runs on a reactor meanwhile; what it logs."""
    options = Helloer.Options()
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options.parseOptions(["--target", target, "--interval", "10ms", "--max-interval", "20ms"])
    service = Helloer.makeService("udphello", options, DatagramReactor(turning.reactor))
    with logged() as events, ExitStack() as ending:
        service.startService()
        ending.callback(stop, turning, service)
        yield events


def stop(turning: Turning, service: Redialer) -> None:
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    turning.until(lambda: stopped, "the end of the service")


def said(events: Iterable[LogEvent], words: str) -> list[str]:
    return [text(event) for event in events if words in text(event)]


def until_said(turning: Turning, events: Iterable[LogEvent], words: str, times: int = 1) -> None:
    turning.until(lambda: len(said(events, words)) == times, f"{words!r} to be said")


class TestSockets:
    """The same on real sockets, on each reactor."""

    def test_refusals_and_a_listener_that_comes_and_goes(self, turning: Turning) -> None:
        with Peer() as peer:
            host, port = peer.address
        with greeting_of(turning, host, port) as events:
            for number in (1, 2):
                until_said(turning, events, "no one listening", number)
                with Peer(host, port) as peer:
                    turning.until(peer.answer)
                    until_said(turning, events, "got", number)
        assert said(events, "no one") == [f"udphello: no one listening on {HERE}:{port}"] * 2
        assert said(events, "got") == [f"udphello got b'Hello yourself!' from {HERE}:{port}"] * 2

    @pytest.mark.parametrize("state", ["connected", "waiting", "looking up"])
    def test_stopping_leaves_no_descriptor_and_no_timer(self, epoll: Turning, state: str) -> None:
        names = Names()
        names.slow = True
        epoll.reactor.installNameResolver(names)
        before = descriptors()
        with Peer() as peer:
            host, port = (NAME, 9) if state == "looking up" else peer.address
            if state == "waiting":
                peer.socket.close()
            with greeting_of(epoll, host, port) as events:
                if state == "waiting":
                    until_said(epoll, events, "no one listening")
                elif state == "connected":
                    epoll.until(peer.greeted)
        assert descriptors() == before
        assert epoll.reactor.getDelayedCalls() == []

    def test_only_the_peer_is_heard(self, epoll: Turning) -> None:
        """On the same host, from another port number: whoever knows the client's could speak for its peer otherwise."""
        with Peer() as peer, udp_socket() as stranger, greeting_of(epoll, *peer.address) as events:
            epoll.until(peer.greeted)
            assert peer.caller is not None
            stranger.sendto(b"I am your peer", peer.caller)
            peer.socket.sendto(b"No, I am", peer.caller)
            until_said(epoll, events, "got")
            address = f"{HERE}:{peer.address[1]}"
        assert said(events, "got") == [f"udphello got b'No, I am' from {address}"]
        assert said(events, "sent, 1 received, 0 dropped")

    def test_a_black_hole(self, epoll: Turning) -> None:
        """A peer that is there and mute is complained of once, and heard when it speaks again."""
        with Peer() as peer, greeting_of(epoll, *peer.address) as events:
            callers = set()

            def greeted_by_a_third() -> bool:
                if peer.greeted():
                    callers.add(peer.caller)
                return len(callers) == 3

            epoll.until(greeted_by_a_third)
            epoll.until(lambda: peer.answer() and said(events, "got"))
            address = f"{HERE}:{peer.address[1]}"
        assert said(events, "no answer") == [f"udphello: no answer from {address}"]

    @pytest.mark.parametrize("moved", ["127.0.0.2", "::1"])
    def test_a_name_that_moves(self, epoll: Turning, moved: str) -> None:
        """To another address of this host, of either family."""
        names = Names(**{NAME: [HERE]})
        epoll.reactor.installNameResolver(names)
        with Peer() as peer:
            port = peer.address[1]
            with greeting_of(epoll, NAME, port) as events:
                epoll.until(lambda: peer.answer() and said(events, f"from {HERE}:{port}"))
                peer.socket.close()
                until_said(epoll, events, f"no one listening on {HERE}:{port}")
                names.known[NAME] = [moved]
                with Peer(moved, port) as elsewhere:
                    where = f"[{moved}]" if ":" in moved else moved
                    epoll.until(lambda: elsewhere.answer() and said(events, f"from {where}:{port}"))

    def test_every_answer_of_a_name(self, epoll: Turning) -> None:
        """The last one answers; before it is one that refuses, and one that the kernel has no way to."""
        names = Names(**{NAME: ["255.255.255.255", "::1", HERE]})
        epoll.reactor.installNameResolver(names)
        with Peer() as peer:
            port = peer.address[1]
            with greeting_of(epoll, NAME, port) as events:
                epoll.until(lambda: peer.answer() and said(events, f"from {HERE}:{port}"))
        assert said(events, ":")[:2] == [
            f"udphello: cannot reach 255.255.255.255:{port}: Permission denied",
            f"udphello: no one listening on [::1]:{port}",
        ]


def greeter(*words: str, reactor: str = "epoll", target: str) -> Process:
    return twistd(f"--reactor={reactor}", "udphello", "--target", target, "--interval", "50ms", *words)


class TestCommand:
    """What an operator sees."""

    @pytest.mark.parametrize(
        ("target", "answers_from"),
        [("127.0.0.1:{}", r"127\.0\.0\.1"), ("[::1]:{}", r"\[::1\]"), ("localhost:{}", r"(127\.0\.0\.1|\[::1\])")],
    )
    def test_greets_an_echo(self, target: str, answers_from: str) -> None:
        """By address of either family and by name; the stop line counts."""
        with ExitStack() as running:
            _, port = running.enter_context(serving("udpecho", "--port", "0"))
            process = running.enter_context(greeter("--message", "h\xe9!", target=target.format(port)))
            process.wait_for(rf"udphello got b'h\\xc3\\xa9!' from {answers_from}:{port}$")
            process.stop()
        found = re.search(r"udphello stopped: (\d+) sent, (\d+) received, 0 dropped$", process.output, re.MULTILINE)
        assert found is not None
        assert 1 <= int(found[2]) <= int(found[1])
        assert process.output.count("udphello got") == int(found[2])
        assert "Traceback" not in process.output

    @pytest.mark.parametrize("reactor", ["select", "poll", "epoll", "asyncio"])
    def test_survives_the_absence_of_its_peer(self, reactor: str) -> None:
        """Before it came, and while it restarts, on each reactor that watches descriptors."""
        host, port = HERE, free_port()
        with greeter("--max-interval", "100ms", reactor=reactor, target=f"{host}:{port}") as process:
            process.wait_for(rf"udphello: no one listening on {HERE}:{port}$")
            for number in (1, 2):
                with serving("udpecho", "--listen", f"{host}:{port}") as (echo, _):
                    process.wait_for(rf"(?s)(udphello got b'Hello!' from {HERE}:{port}\n.*){{{number}}}")
                    echo.stop()
                process.wait_for(rf"(?s)(no one listening.*){{{number + 1}}}")
            process.stop()
        assert process.output.count("no one listening") == 3
        assert "Traceback" not in process.output

    def test_what_is_no_name(self) -> None:
        """Of a name that nobody can have the resolver is not asked; the service says so and lives on."""
        with greeter(target="a..b:9") as process:
            process.wait_for(r"udphello: a\.\.b is not known as a host$")
            process.stop()
        assert "Traceback" not in process.output
