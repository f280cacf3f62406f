"""examples/gallery: docs/gallery.md shows each file, and tests/test_docs.py runs it; here is what that cannot show."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import Page
from tests.support import BIN, ROOT, Process, ask, serving, udp_socket
from udpservices.testing import connect

EXAMPLES = ROOT / "examples" / "gallery"
PAGE = Page(ROOT / "docs" / "gallery.md")

PEER = ("192.0.2.7", 5000)


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_shows_the_files() -> None:
    """All of them, to the letter, but for the line with the file's name."""
    shown = {block.file_name: block.text.partition("\n")[2] for block in PAGE.blocks if block.file_name}
    assert shown == {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}


def test_each_section_has_a_line_and_a_pitfall() -> None:
    programs = [section for section in PAGE.sections if ": " in section.title]
    assert all("console" in [block.language for block in section.blocks] for section in programs)
    assert PAGE.prose.count("**Pitfalls.**") == len(programs)


@pytest.mark.parametrize(("name", "of"), [("basic", "Echo"), ("asyncio_echo", "Echo"), ("quote", "Quote")])
def test_what_sends_back_is_a_reflector(name: str, of: str) -> None:
    assert getattr(load(name), of).reflector


def test_who_asks_in_other_words_is_not_answered() -> None:
    protocol = load("multicast").Pong()
    transport = connect(protocol)
    for datagram in (b"Server: Pong", b"", b"Client: Ping"):
        protocol.datagramReceived(datagram, PEER)
    assert transport.written == [(b"Server: Pong", PEER)]


def test_long_datagrams_arrive_whole() -> None:
    """Where socketserver cuts them at 8,192 bytes, and the listener's buffer has 100."""
    with serving("udpserve", "--protocol", "upper:answer", "--listen", "127.0.0.1:0", cwd=EXAMPLES) as (_, port):
        assert ask("127.0.0.1", port, b"x" * 20_000) == b"X" * 20_000


def test_beacons_of_a_flood_are_not_all_kept() -> None:
    beacon = load("broadcast").Beacon(None, "one")
    for number in range(2000):
        beacon.datagramReceived(str(number).encode(), PEER)
    assert len(beacon.heard) == 1000


def test_a_quote_is_short_and_of_the_day(tmp_path: Path) -> None:
    """RFC 865: less than 512 characters."""
    (tmp_path / "quotes").write_bytes(b"x" * 2000 + b"\n\n" + b"x" * 3000)
    protocol = load("quote").Quote(tmp_path / "quotes")
    transport = connect(protocol)
    protocol.datagramReceived(b"", PEER)
    assert transport.written == [(b"x" * 510 + b"\r\n", PEER)]


def test_daytime_is_for_people() -> None:
    """In the words of RFC 867's first example."""
    answer = load("daytime").answer(b"", PEER)
    assert re.fullmatch(rb"[A-Z][a-z]+day, [A-Z][a-z]+ \d\d, 20\d\d \d\d:\d\d:\d\d-UTC\r\n", answer)


def test_a_name_without_ipv4_is_told() -> None:
    words = ("udpserve", "--protocol", "lookup.HelloByName", "--protocol-arg", "host=::1", "--listen", "127.0.0.1:0")
    with Process(BIN / "udpservices", *words, cwd=EXAMPLES) as process:
        process.wait_for("::1 has no IPv4 address")


def test_a_blocking_socket_serves() -> None:
    """What `adopted.py` hands over blocks, as Python makes sockets."""
    with udp_socket(timeout=None) as sock:  # type: ignore[arg-type]
        number = sock.fileno()
        words = ("udpserve", "--protocol", "basic.Echo", "--listen", f"fd:{number}")
        with serving(*words, cwd=EXAMPLES, pass_fds=(number,)) as (_, port):
            assert ask("127.0.0.1", port, b"hello") == b"hello"
