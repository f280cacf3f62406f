"""The status page of a real service, in a process of its own."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import BIN, PATIENCE, Process, ask, wait_for_handlers, wait_until
from udpservices.observe.web.server import MOST


@dataclass
class Echo:
    process: Process
    port: int
    web: int

    def get(self, path: str, host: str = "localhost") -> tuple[int, str]:
        """The status and the body; asked again where too many others ask at a time."""

        def answered() -> tuple[int, str] | None:
            connection = http.client.HTTPConnection("127.0.0.1", self.web, timeout=PATIENCE)
            try:
                connection.request("GET", path, headers={"Host": host, "Connection": "close"})
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (ConnectionError, http.client.HTTPException):
                return None
            finally:
                connection.close()

        found: tuple[int, str] = wait_until(answered, f"an answer to {path}")
        return found

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture
def echo() -> Iterator[Echo]:
    words = ("udpecho", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with Process(BIN / "udpservices", *words) as process:
        port = int(process.wait_for(r"udpecho listening on \S+:(\d+)/udp")[1])
        web = int(process.wait_for(r"metrics listening on \S+:(\d+)/tcp")[1])
        wait_for_handlers(process)
        yield Echo(process, port, web)


def test_what_it_shows_is_what_it_did(echo: Echo) -> None:
    for number in range(7):
        ask("127.0.0.1", echo.port, b"%d" % number)
    status, body = echo.get("/status.json")
    (service,) = json.loads(body)["services"]
    assert (status, service["name"]) == (200, "udpecho")
    totals = {kind: service[kind]["total"] for kind in ("received", "answered", "dropped")}
    assert totals == {"received": 7, "answered": 7, "dropped": 0}
    page = echo.get("/")[1]
    assert f"127.0.0.1:{echo.port}/udp" in page
    assert 'data-path="services.0.endpoints.0.received.total" data-as="count" class="number">7</td>' in page
    assert echo.get("/healthz") == (200, f"ok\n{echo.get('/healthz')[1].splitlines()[1]}\n")
    assert echo.get("/readyz") == (200, "ready\n")
    assert echo.get("/", host="evil.example")[0] == 421


@pytest.mark.usefixtures("descriptors")
def test_a_thousand_slow_clients_keep_nobody_from_an_answer(echo: Echo) -> None:
    """The service answers, the page is served, and the process has no more descriptors than it may have clients."""
    before = echo.open_files()
    with ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", echo.web))
            client.send(b"GET / HTTP/1.1\r\nX: ")
            if number % 25 == 0:
                assert ask("127.0.0.1", echo.port, b"%d" % number) == b"%d" % number
                assert echo.get("/readyz") == (200, "ready\n")
        assert echo.open_files() <= before + MOST + 40
    wait_until(lambda: echo.open_files() <= before + 8, "the end of all connections")
    assert echo.get("/readyz") == (200, "ready\n")
    assert echo.process.stop() == 0
    assert "Traceback" not in echo.process.output


def test_a_page_that_is_open_keeps_no_service_from_ending(echo: Echo) -> None:
    with socket.create_connection(("127.0.0.1", echo.web), timeout=PATIENCE) as stream:
        stream.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b"data: " not in stream.recv(65536):
            pass
        assert echo.process.stop() == 0
        with suppress(ConnectionResetError):
            while stream.recv(65536):
                pass
