"""Clients of a status site, which serves in the reactor that a test turns."""

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, Self, cast

from twisted.internet.task import Clock

from tests.conftest import Turning
from tests.observe.web.processes import FakeProcess
from udpservices.observe.web.server import StatusSite

METRICS = (b"text/plain; version=0.0.4; charset=utf-8", b"# HELP udpservices_up x\nudpservices_up 1\n")


class Response:
    """A whole response."""

    def __init__(self, raw: bytes, method: str = "GET") -> None:
        class Source:
            def makefile(self, *words: Any) -> io.BytesIO:
                return io.BytesIO(raw)

        read = HTTPResponse(cast("Any", Source()), method=method)
        read.begin()
        self.status = read.status
        self.headers = read.headers
        self.body = read.read()

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A connection, by bytes."""

    def __init__(self, site: "Site", room: int | None = None) -> None:
        self._site = site
        self.socket = socket.socket(socket.AF_INET)
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", site.port))
        self.received = b""
        self.is_ended = False

    def send(self, data: bytes) -> None:
        """Send a little, once the connection stands."""

        def sent() -> bool:
            try:
                self.socket.sendall(data)
            except (BlockingIOError, BrokenPipeError, OSError):
                return False
            return True

        self._site.turning.until(sent, "a connection to send by")

    def read(self) -> None:
        """What came by now."""
        try:
            while not self.is_ended:
                data = self.socket.recv(65536)
                self.received += data
                self.is_ended = not data
        except BlockingIOError:
            pass
        except OSError:
            self.is_ended = True

    def has(self, data: bytes) -> bool:
        """Whether this came."""
        self.read()
        return data in self.received

    def wait_for(self, data: bytes) -> None:
        self._site.turning.until(lambda: self.has(data), f"{data!r} in {self.received[:200]!r}")

    def wait_for_end(self) -> None:
        def ended() -> bool:
            self.read()
            return self.is_ended

        self._site.turning.until(ended, "the end of a connection")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Site:
    """A status site on loopback."""

    def __init__(self, turning: Turning, process: FakeProcess) -> None:
        self.turning = turning
        self.process = process
        self.clock = Clock()
        self.site = StatusSite(process, lambda: METRICS, self.clock)
        self.listening = turning.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = self.listening.getHost().port

    def look(self, times: int = 1) -> None:
        """Let seconds go by."""
        for _ in range(times):
            self.clock.advance(1)
            self.turning.turn(2)

    def client(self, room: int | None = None) -> Client:
        return Client(self, room)

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> Response:
        """What is answered; headers are named with underscores. The Host is localhost where no other one is given."""
        named = {name.replace("_", "-"): value for name, value in {"Host": "localhost", **headers}.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items() if value)]
        return self.send("\r\n".join([*lines, "Connection: close", "", ""]).encode(), method)

    def send(self, raw: bytes, method: str = "GET") -> Response:
        """What is answered to these bytes until the connection ends."""
        with self.client() as client:
            client.send(raw)
            client.wait_for_end()
            return Response(client.received, method)


@contextmanager
def serving_status(turning: Turning, process: FakeProcess | None = None) -> Iterator[Site]:
    """It ends without anything left."""
    site = Site(turning, process or FakeProcess())
    try:
        yield site
    finally:
        done: list[Any] = []
        site.listening.stopListening().addCallback(done.append)
        turning.until(lambda: done, "the end of the site")
        turning.turn(3)
        assert not site.site.connections
        assert not site.clock.getDelayedCalls()
