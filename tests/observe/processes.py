"""A process of services that is made up, and what it answers to those who ask for its metrics."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from twisted.internet.defer import Deferred

from udpservices.observe.collector import renderer
from udpservices.observe.snapshot import EndpointState, HealthState, Snapshot, WorkerState
from udpservices.transport.counters import Counters


def endpoint(service: str = "udpecho", number: int = 9999, **counts: int | Counter[str]) -> EndpointState:
    """One endpoint of a service, which counted so much."""
    counters = Counters()
    for name, count in counts.items():
        setattr(counters, name, count)
    return EndpointState(service, f"127.0.0.1:{number}/udp", "ipv4", counters, queued=2304, room=212992)


def worker(lane: int, state: str = "serving", restarts: int = 0) -> WorkerState:
    return WorkerState(lane, 1000 + lane, state, 0.1, restarts, 0.002)


class MadeUp:
    """A process whose snapshot is what a test makes of it."""

    def __init__(self, *endpoints: EndpointState) -> None:
        self.now = Snapshot(when=2e9, started=1e9, lag=0.001, endpoints=endpoints)

    def change(self, **fields: object) -> None:
        self.now = replace(self.now, **fields)  # type: ignore[arg-type]

    def snapshot(self) -> Snapshot:
        return self.now

    def health(self) -> "Deferred[list[HealthState]]":
        raise AssertionError("metrics do not ask for it")

    def readiness(self) -> tuple[bool, str]:
        raise AssertionError("metrics do not ask for it")


@contextmanager
def answering(body: "MadeUp | bytes", number: int = 0, status: int = 200) -> Iterator[int]:
    """A web server on loopback, on any port number for 0, that answers with the metrics of a process, or with bytes."""
    render = renderer(body) if isinstance(body, MadeUp) else lambda: (b"text/plain", body)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = render() if self.path == "/metrics" or isinstance(body, bytes) else (b"text/plain", b"")
            self.send_response(status)
            self.send_header("Content-Type", kind.decode())
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", number), Answer) as server:
        server.daemon_threads = False  # its end waits for what it answers
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
