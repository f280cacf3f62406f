"""What udpdht says, tried without a socket."""

import itertools
from typing import Any

import pytest
from bencode2 import bdecode, bencode
from twisted.python.usage import UsageError
from udpdht import MAX_ASKED, SILENCE, TIMEOUT, UPKEEP, Node, krpc
from udpdht.table import K, Table, distance

from udpservices.testing import MemoryDatagramReactor, MemoryDatagramTransport

PEER = ("192.0.2.7", 6881)
ME = b"m" * 20
YOU = b"y" * 20
TARGET = b"t" * 20

Message = dict[bytes, Any]


class Beside:
    """A node on a transport in memory, and what a peer hears of it."""

    def __init__(self, *bootstrap: tuple[str, int], host: str = "192.0.2.1") -> None:
        self.reactor = MemoryDatagramReactor()
        self.node = Node(self.reactor, list(bootstrap), ME)
        self.transport: MemoryDatagramTransport = self.reactor.listenUDP(6881, self.node, host)

    def hears(self, message: object, addr: tuple[str, int] = PEER) -> None:
        """Let it receive a message."""
        self.node.datagramReceived(message if isinstance(message, bytes) else bencode(message), addr)

    def said(self) -> list[tuple[Message, Any]]:
        """What it has sent since this was asked before."""
        written, self.transport.written = self.transport.written, []
        return [(bdecode(datagram), addr) for datagram, addr in written]

    def answers(self, method: bytes, arguments: object, addr: tuple[str, int] = PEER) -> Message:
        """Its answer to a query."""
        self.said()
        self.hears({b"t": b"xy", b"y": b"q", b"q": method, b"a": arguments}, addr)
        (answer, to), *_ = self.said()
        assert (answer.pop(b"t"), to) == (b"xy", addr)
        return answer

    def meets(self, node: bytes, addr: tuple[str, int] = PEER) -> None:
        """Let it know somebody, who asks it and answers when it is asked."""
        self.said()
        self.hears({b"t": b"xy", b"y": b"q", b"q": b"ping", b"a": {b"id": node}}, addr)
        _, asked = self.said()
        self.answer(asked, node)

    def answer(self, asked: tuple[Message, Any], node: bytes, **values: object) -> None:
        """Let it hear an answer to what it asked."""
        query, addr = asked
        self.hears({b"t": query[b"t"], b"y": b"r", b"r": {"id": node, **values}}, addr)


def test_ping() -> None:
    assert Beside().answers(b"ping", {b"id": YOU}) == {b"y": b"r", b"r": {b"id": ME}}


def test_find_node_names_the_closest() -> None:
    """Eight of those it knows, as identities, addresses and port numbers in a row."""
    beside = Beside()
    nodes = [bytes([first]) * 20 for first in (1, 2, 3, 4, 5, 6, 7, 8, 130, 131, 132, 255)]
    for number, node in enumerate(nodes):
        beside.meets(node, ("192.0.2.9", 1000 + number))
    answer = beside.answers(b"find_node", {b"id": YOU, b"target": nodes[8]})
    found = list(krpc.unpack(answer[b"r"][b"nodes"], 4))
    assert found[0] == (nodes[8], ("192.0.2.9", 1008))
    closest = sorted(beside.node.table, key=lambda known: distance(known[0], nodes[8]))
    assert found == closest[:K]
    assert len(answer[b"r"][b"nodes"]) == 26 * K


def test_ipv6_has_addresses_of_its_own() -> None:
    """BEP 32."""
    beside = Beside(host="2001:db8::1")
    beside.meets(YOU, ("2001:db8::7", 6881))
    answer = beside.answers(b"find_node", {b"id": TARGET, b"target": TARGET}, ("2001:db8::8", 1))
    assert list(krpc.unpack(answer[b"r"][b"nodes6"], 16)) == [(YOU, ("2001:db8::7", 6881))]


@pytest.mark.parametrize(
    ("method", "arguments", "code"),
    [
        (b"ping", {}, 203),
        (b"ping", {b"id": b"short"}, 203),
        (b"ping", {b"id": 5}, 203),
        (b"ping", b"id", 203),
        (b"find_node", {b"id": YOU}, 203),
        (b"find_node", {b"id": YOU, b"target": [TARGET]}, 203),
        (b"get_peers", {b"id": YOU, b"target": TARGET}, 203),
        (b"announce_peer", {b"id": YOU, b"info_hash": TARGET, b"port": 1, b"token": b"x"}, 204),
        (b"", {b"id": YOU}, 204),
        (7, {b"id": YOU}, 204),
        ([], {b"id": YOU}, 204),
    ],
)
def test_what_is_wrong_with_a_query_is_told(method: bytes, arguments: object, code: int) -> None:
    answer = Beside().answers(method, arguments)
    assert answer[b"y"] == b"e"
    assert answer[b"e"][0] == code


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"hello",
        b"i1e",
        b"le",
        b"de",
        b"l" * 60_000,
        b"d1:ti1e1:y1:qe",
        b"d1:t2:xy",
        b"d1:t2:xye",
        b"d1:t2:xy1:y1:ee",
        b"d1:t2:xy1:y1:re",
        b"d1:rd2:id20:yyyyyyyyyyyyyyyyyyyye1:t2:xy1:y1:re",
    ],
)
def test_what_is_no_query_and_no_answer_is_ignored(datagram: bytes) -> None:
    """Nothing is sent to a source that may be forged, nothing is believed, nothing raises."""
    beside = Beside()
    beside.hears(datagram)
    assert beside.said() == []
    assert list(beside.node.table) == []


def test_who_asks_is_asked_and_known_when_it_answers() -> None:
    """A source may be forged, an answer to a transaction of four random bytes hardly."""
    beside = Beside()
    beside.hears({b"t": b"xy", b"y": b"q", b"q": b"ping", b"a": {b"id": YOU}})
    _, (asked, addr) = beside.said()
    assert (asked[b"y"], asked[b"q"], asked[b"a"], addr) == (b"q", b"ping", {b"id": ME}, PEER)
    answer = {b"t": asked[b"t"], b"y": b"r", b"r": {b"id": YOU}}
    beside.hears(answer, ("192.0.2.66", 6881))
    assert list(beside.node.table) == []
    beside.hears(answer)
    assert list(beside.node.table) == [(YOU, PEER)]
    beside.hears(answer)
    assert beside.said() == []


def test_begins_with_the_nodes_that_it_was_given() -> None:
    """By address or by name, and goes on with those whom they name."""
    beside = Beside(("192.0.2.5", 1), ("bootstrap.example", 2), ("2001:db8::1", 3))
    first, second = beside.said()
    assert [addr for _, addr in (first, second)] == [("192.0.2.5", 1), ("127.0.0.1", 2)]
    assert (first[0][b"q"], first[0][b"a"]) == (b"find_node", {b"id": ME, b"target": ME})
    named = [(YOU, PEER), (TARGET, ("224.0.0.1", 9)), (b"0" * 20, ("192.0.2.8", 0)), (ME, ("192.0.2.9", 9))]
    beside.answer(first, TARGET, nodes=krpc.pack(named))
    ((asked, addr),) = beside.said()
    assert (asked[b"q"], addr) == (b"find_node", PEER)


def test_begins_again_while_it_knows_nobody() -> None:
    beside = Beside(PEER)
    for _ in range(3):
        assert [addr for _, addr in beside.said()] == [PEER]
        beside.reactor.advance(UPKEEP)


@pytest.mark.parametrize("nodes", [b"short", b"x" * 27, 5, [b"x" * 26], {}])
def test_an_answer_that_names_nonsense(nodes: object) -> None:
    beside = Beside(PEER)
    (asked,) = beside.said()
    beside.answer(asked, YOU, nodes=nodes)
    assert list(beside.node.table) == [(YOU, PEER)]


@pytest.mark.parametrize(
    "answer", [{b"y": b"e", b"e": [201, b"no"]}, {b"y": b"e"}, {b"y": b"r"}, {b"y": b"r", b"r": {b"id": b"short"}}]
)
def test_refusals(answer: Message) -> None:
    """Who refuses, or answers with nonsense, is not known."""
    beside = Beside(PEER)
    ((asked, _),) = beside.said()
    beside.hears({b"t": asked[b"t"], **answer})
    assert list(beside.node.table) == []
    beside.reactor.advance(UPKEEP)
    assert len(beside.said()) == 1


def test_who_does_not_answer_is_forgotten() -> None:
    """The closest is asked every minute who else is near."""
    beside = Beside()
    beside.meets(YOU)
    beside.reactor.advance(UPKEEP)
    ((asked, addr),) = beside.said()
    assert (asked[b"q"], addr) == (b"find_node", PEER)
    beside.reactor.advance(TIMEOUT)
    assert list(beside.node.table) == []


def test_who_was_silent_for_long_is_asked() -> None:
    """The others are left alone until then, and stay when they answer."""
    near, far, gone = bytes([ME[0] ^ 1]) + ME[1:], bytes([ME[0] ^ 2]) + ME[1:], bytes([ME[0] ^ 4]) + ME[1:]
    places = {("192.0.2.10", 1): near, ("192.0.2.11", 1): far, ("192.0.2.12", 1): gone}
    beside = Beside()
    for addr, node in places.items():
        beside.meets(node, addr)
    pinged = []
    for _ in range(int(SILENCE / UPKEEP) + 1):
        beside.reactor.advance(UPKEEP - TIMEOUT)
        beside.reactor.advance(TIMEOUT)
        for asked in beside.said():
            if asked[0][b"q"] == b"ping":
                pinged.append(places[asked[1]])
            if places[asked[1]] != gone:
                beside.answer(asked, places[asked[1]])
    assert pinged == [far, gone]
    assert dict(beside.node.table) == {near: ("192.0.2.10", 1), far: ("192.0.2.11", 1)}


def test_queries_have_an_end() -> None:
    """Ten thousand made-up sources are answered, and few of them asked."""
    beside = Beside()
    for number in range(10_000):
        node = number.to_bytes(20)
        beside.hears({b"t": b"xy", b"y": b"q", b"q": b"ping", b"a": {b"id": node}}, ("192.0.2.7", number % 65535 + 1))
    asked = [message for message, _ in beside.said() if message[b"y"] == b"q"]
    assert len(asked) == MAX_ASKED
    beside.reactor.advance(TIMEOUT)
    beside.meets(YOU)


def test_stopping_leaves_no_timer() -> None:
    beside = Beside(PEER)
    beside.transport.stopListening()
    assert beside.reactor.getDelayedCalls() == []


def test_table_is_bounded() -> None:
    """Eight at each distance; who was first stays, and who is lost makes place."""
    table = Table(bytes(20))
    for number, bit in itertools.product(range(1, 20), range(8, 160)):
        node = ((1 << bit) + number).to_bytes(20)
        assert table.heard(node, ("192.0.2.1", bit * 100 + number), 0.0) == (number <= K)
    assert len(list(table)) == K * 152
    table.lost(("192.0.2.1", 901))
    assert table.wants(((1 << 9) + 100).to_bytes(20))


def test_a_known_identity_cannot_be_taken_by_another_address() -> None:
    table = Table(ME)
    assert table.heard(YOU, PEER, 0.0)
    assert not table.heard(YOU, ("192.0.2.66", 6881), 1.0)
    assert list(table) == [(YOU, PEER)]
    assert table.silent(0.0) == [PEER]


def test_bootstrap_is_an_option() -> None:
    options = Node.Options()
    options.parseOptions(["--bootstrap", "a.example:1", "--bootstrap", "[::1]:2"])
    assert (options["bootstrap"], options["port"]) == ([("a.example", 1), ("::1", 2)], 6881)
    with pytest.raises(UsageError, match=r"^--bootstrap a\.example: must be HOST:PORT"):
        Node.Options().parseOptions(["--bootstrap", "a.example"])
