"""Other people's protocols run unchanged on a port of ours, and their real clients see no difference."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.names.client import Resolver

from tests.conftest import Turning
from tests.foreign.protocols import ADDRESS, ADDRESS6, LONG, TEXT
from tests.support import ROOT, Process, run, serving, tool
from udpservices import DatagramReactor

Serve = Callable[[str], int]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Serves a protocol of `protocols` by ``udpserve``, once, in both families; its port number."""
    started: dict[str, tuple[Process, int]] = {}
    with ExitStack() as running:

        def start(name: str) -> int:
            if name not in started:
                words = ("udpserve", "--port", "0", "--protocol", f"tests.foreign.protocols.{name}")
                started[name] = running.enter_context(serving(*words, cwd=ROOT))
                running.callback(stopped, started[name][0])
            process, port = started[name]
            process.wait_for("")  # takes what it has logged, or a talkative one would wait for room to log more
            return port

        yield start


def stopped(process: Process) -> None:
    """It ends as it should, and nothing went wrong on the way."""
    process.stop()
    assert "Traceback" not in process.output
    assert re.search(r"udpserve stopped: (\d+) received, \1 answered, 0 dropped", process.output)


def succeeded(*words: str | Path) -> str:
    """What a client writes, which must be content."""
    ended = run(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
class TestDNS:
    """twisted.names (RFC 1035) and dig."""

    @pytest.fixture
    def dig(self, serve: Serve, host: str) -> Callable[..., list[str]]:
        once = ("+short", "+tries=1", "+timeout=20", "+notcp", "+ignore")
        return lambda *words: succeeded(
            tool("dig"), f"@{host}", "-p", str(serve("Names")), *once, *map(str, words)
        ).splitlines()

    def test_addresses(self, dig: Callable[..., list[str]]) -> None:
        assert dig("www.example.org", "A", "www.example.org", "AAAA") == [ADDRESS, ADDRESS6]

    def test_long_answer(self, dig: Callable[..., list[str]]) -> None:
        """Over two kilobytes, as EDNS lets a server answer (RFC 6891)."""
        (line,) = dig("www.example.org", "TXT", "+bufsize=4096")
        assert line == " ".join(f'"{text.decode()}"' for text in TEXT)

    def test_many_questions(self, dig: Callable[..., list[str]], tmp_path: Path) -> None:
        names = tmp_path / "names"
        names.write_text("".join(f"host{number}.example.org A\n" for number in range(200)))
        assert dig("-f", names) == [ADDRESS] * 200


def test_dns_client_on_our_port(serve: Serve, turning: Turning) -> None:
    """Twisted's resolver asks through ports of ours, one a question, and closes each."""
    reactor = DatagramReactor(turning.reactor)
    resolver = Resolver(servers=[("127.0.0.1", serve("Names"))], reactor=reactor)
    answers: list[Any] = []
    for number in range(20):
        resolver.lookupAddress(f"host{number}.example.org", timeout=[20]).addBoth(answers.append)
    turning.until(lambda: len(answers) == 20)
    assert {answer.payload.dottedQuad() for ((answer,), _, _) in answers} == {ADDRESS}
    turning.until(lambda: reactor.getDelayedCalls() == [], "the end of the questions' timers")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
class TestCoAP:
    """txThings (RFC 7252) and libcoap's client."""

    @pytest.fixture
    def coap(self, serve: Serve, host: str) -> Callable[..., str]:
        return lambda name, *words: succeeded(
            tool("coap-client-notls"), "-B", "20", *words, f"coap://{host}:{serve('Things')}/{name}"
        )[:-1]  # it ends what it writes with a newline of its own

    @pytest.mark.parametrize("kind", [(), ("-N",)], ids=["confirmable", "not confirmable"])
    def test_get(self, coap: Callable[..., str], kind: tuple[str, ...]) -> None:
        assert coap("short", *kind) == "hello"

    def test_get_in_blocks(self, coap: Callable[..., str]) -> None:
        """Each asked for when the last has come (RFC 7959)."""
        assert coap("long") == LONG.decode()

    def test_put_in_blocks(self, coap: Callable[..., str], tmp_path: Path, host: str) -> None:
        new = tmp_path / "new"
        new.write_text(f"for {host}\n" * 150)
        coap("empty", "-m", "put", "-b", "256", "-f", str(new))
        assert coap("empty") == new.read_text()


def test_sip_phones_are_registered(serve: Serve) -> None:
    """twisted.protocols.sip (RFC 3261) and sipsak: twenty users, each told for how long it is registered."""
    registrar = f"sip:phone@127.0.0.1:{serve('Registrar')}"
    contact = ("-C", "sip:phone@127.0.0.1:9", "-H", "127.0.0.1", "-x", "60")
    shown = succeeded(tool("sipsak"), "-U", "-vv", "-e", "20", *contact, "-s", registrar)
    assert "completed successful" in shown
