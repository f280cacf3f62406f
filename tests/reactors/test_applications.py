"""Whole applications that know Twisted alone open our ports, by one flag."""

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import BIN, ROOT, Process, ask, run, tool, twistd, udp_socket

APPLICATION = Path(__file__).with_name("application.py")

#: The classes that stand behind the names.
REACTORS = {
    "udpepoll": "udpservices.reactors.epoll.EPollReactor",
    "udppoll": "udpservices.reactors.poll.PollReactor",
    "udpselect": "udpservices.reactors.select.SelectReactor",
    "udpasyncio": "udpservices.reactors.asyncio.AsyncioSelectorReactor",
    "udpuvloop": "udpservices.reactors.asyncio.AsyncioSelectorReactor",
}

KINDS = ("plain", "short", "both", "group", "adopted")


@contextmanager
def running(reactor: str) -> Iterator[tuple[Process, dict[str, int]]]:
    """The application, and the port number of each of its ports."""
    if reactor == "udpuvloop":
        pytest.importorskip("uvloop")
    with twistd(f"--reactor={reactor}", "-y", APPLICATION) as process:
        ports = {kind: int(process.wait_for(rf"{kind}: \S+, port (\d+)")[1]) for kind in KINDS}
        process.wait_for("it runs")
        yield process, ports
        process.stop()
        assert "Traceback" not in process.output


@pytest.mark.parametrize("reactor", REACTORS)
def test_each_method_opens_a_port_of_ours(reactor: str) -> None:
    """And it behaves as Twisted's: its socket has Twisted's options, or those of who opened it."""
    with running(reactor) as (process, ports):
        assert f"reactor class: {REACTORS[reactor]}.\n" in process.output
        for kind, number in ports.items():
            assert f"{kind}: udpservices.reactors.ports, port {number}" in process.output
            assert ask("::1" if kind == "both" else "127.0.0.2", number, b"hello").split()[0] == b"5"
        assert re.search(r"plain: .*broadcast False, shared False", process.output)
        assert re.search(r"adopted: .*broadcast True, shared True", process.output)
        assert ask("127.0.0.1", ports["both"], b"hello") == b"5 ::ffff:127.0.0.1"  # an IPv6 wildcard takes both


def test_long_datagrams_are_whole_or_dropped() -> None:
    """Unless an application asks for less, any length is taken; what is longer is not passed off as shorter."""
    with running("udpepoll") as (process, ports):
        assert ask("127.0.0.1", ports["plain"], bytes(65507)) == b"65507 127.0.0.1"
        with udp_socket() as client:
            client.connect(("127.0.0.1", ports["short"]))
            for length in (8193, 8192):
                client.send(bytes(length))
            assert client.recv(100) == b"8192 127.0.0.1"
    assert re.search(r"\[-\] Lengths dropped datagrams: 1 truncated$", process.output, re.MULTILINE)


def test_the_log_is_twisteds() -> None:
    """Whether or not its protocol is noisy."""
    with running("udpepoll") as (process, ports):
        assert re.search(rf"^\S+ \[-\] Lengths starting on {ports['plain']}$", process.output, re.MULTILINE)
    assert re.search(rf"^\S+ \[-\] \(UDP Port {ports['plain']} Closed\)$", process.output, re.MULTILINE)
    assert "dropped" not in process.output


ZONE = """
zone = [
    SOA("example.org", mname="ns.example.org", rname="hostmaster.example.org", serial=1, refresh="1H", retry="1H",
        expire="1H", minimum="1H"),
    NS("example.org", "ns.example.org"),
    A("www.example.org", "192.0.2.7"),
    AAAA("www.example.org", "2001:db8::7"),
    *[TXT("long.example.org", b"%03d " % number + b"text " * 30) for number in range(60)],
]
"""


@pytest.mark.parametrize("runner", ["twistd", "twist", "udpservices"])
def test_dns_answers_dig(runner: str, tmp_path: Path) -> None:
    """``twistd dns``, and the same under Twisted's other runner and our own."""
    (tmp_path / "zone.py").write_text(ZONE)
    before = {"twistd": ["twistd", "-n", "--pidfile="], "twist": ["twist", "--log-format=text"]}.get(runner, [runner])
    words = ["--reactor=udpepoll", "dns", "--port", "0", "--pyzone", "zone.py"]
    with Process(BIN / before[0], *before[1:], *words, cwd=tmp_path) as process:
        number = process.wait_for(r"DNSDatagramProtocol starting on (\d+)")[1]
        once = (tool("dig"), "-p", number, "+short", "+tries=1", "+timeout=20", "+notcp", "+ignore")
        asked = run(*once, "@127.0.0.2", "www.example.org", "A", "www.example.org", "AAAA")
        assert asked.stdout.split() == ["192.0.2.7", "2001:db8::7"]
        asked = run(*once, "@127.0.0.1", "long.example.org", "TXT", "+bufsize=12000")
        assert len(asked.stdout.splitlines()) == 60
        process.stop()
        assert "Traceback" not in process.output


def test_our_own_commands_run_on_it() -> None:
    """With all that a service has, on top of it."""
    with twistd("--reactor=udpepoll", "udpecho", "--port", "0", "--deny", "127.0.0.2") as process:
        number = int(process.wait_for(r"udpecho listening on 0.0.0.0:(\d+)/udp")[1])
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        with udp_socket("127.0.0.2") as refused:
            refused.sendto(b"hello", ("127.0.0.1", number))
        process.stop()
        process.wait_for(r"udpecho stopped: 2 received, 1 answered, 1 dropped$")


@pytest.mark.parametrize("runner", [["twistd", "-n"], ["twist"], ["udpservices"]], ids=lambda words: words[0])
def test_no_uvloop_is_one_line(runner: list[str], tmp_path: Path) -> None:
    """Which names it."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('none here')")
    ended = run(BIN / runner[0], *runner[1:], "--reactor=udpuvloop", "dns", env={"PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "--reactor=udpuvloop: uvloop is not installed: pip install uvloop\n"


@pytest.mark.parametrize("name", ["epoll", "poll", "select", "asyncio", "uvloop"])
def test_programs_install_it(name: str) -> None:
    """As they do Twisted's, before anything imports the reactor."""
    if name == "uvloop":
        pytest.importorskip("uvloop")
    program = f"""
from udpservices.reactors import {name}
{name}.install()
from twisted.internet import error, protocol, reactor
from udpservices import DatagramPort, DatagramReactor
assert isinstance(reactor.listenUDP(0, protocol.DatagramProtocol()), DatagramPort)
assert isinstance(DatagramReactor(reactor).listenUDP(0, protocol.DatagramProtocol()), DatagramPort)
try:
    {name}.install()
except error.ReactorAlreadyInstalledError:
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    print(type(reactor).__module__)
"""
    ended = run(sys.executable, "-c", program, cwd=ROOT)
    kind = REACTORS[f"udp{name}"]
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, kind.rpartition(".")[0] + "\n", "")


def test_two_applications_share_a_group() -> None:
    """As SSDP and mDNS want it: with `listenMultiple` another program may have the port number, too."""
    with running("udpepoll") as (_, ports):
        for kind in ("group", "adopted"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("0.0.0.0", ports[kind]))
