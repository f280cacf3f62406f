"""``twistd udpbroadcast``: its protocol and its options; what it does on a network is in tests/network."""

import os
import re

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.python.usage import UsageError

from tests.services.commands import refusal
from tests.support import logged, text
from udpservices.endpoints import UDPEndpoint
from udpservices.services.broadcast import MAX_KNOWN, MAX_REPORTS, SILENT_INTERVALS, Broadcast
from udpservices.testing import MemoryDatagramTransport, connect
from udpservices.transport.log_throttle import LOG_INTERVAL

PEER = ("192.0.2.7", 9999)
ADDRESS = "192.0.2.255"
INTERVAL = 10.0


class Beaconing:
    """A beacon that was started, whose time is turned by hand."""

    def __init__(self, *interfaces: str, interval: float = INTERVAL) -> None:
        self.clock = Clock()
        self.protocol = Broadcast(ADDRESS, b"hello", interval, self.clock, interfaces)
        self.transport: MemoryDatagramTransport = connect(self.protocol, port=4321)

    @property
    def beacons(self) -> list[bytes]:
        return [datagram for datagram, _ in self.transport.written]

    def heard(self, datagram: bytes, peer: tuple[str, int] = PEER) -> list[str]:
        """What is logged of a datagram."""
        with logged() as events:
            self.protocol.datagramReceived(datagram, peer)
        return lines(events)


def lines(events: list[LogEvent]) -> list[str]:
    return [text(event) for event in events]


class TestSending:
    def test_at_once_and_every_interval(self) -> None:
        """To the port number that it listens on, where the others listen too."""
        beaconing = Beaconing()
        for _ in range(4):
            beaconing.clock.advance(INTERVAL)
        assert [peer for _, peer in beaconing.transport.written] == [(ADDRESS, 4321)] * 5
        assert len(set(beaconing.beacons)) == 1
        assert beaconing.transport.getBroadcastAllowed()

    def test_message_and_a_mark(self) -> None:
        """No two processes have the same mark."""
        beacons = [Beaconing().beacons[0] for _ in range(100)]
        assert all(re.fullmatch(rb"hello #[0-9a-f]{8}", beacon) for beacon in beacons)
        assert len(set(beacons)) == 100

    def test_no_more_after_the_end(self) -> None:
        beaconing = Beaconing()
        beaconing.transport.stopListening()
        assert beaconing.clock.getDelayedCalls() == []
        beaconing.transport.startListening()
        assert len(beaconing.beacons) == 2

    def test_an_interface_in_two_spellings_is_one(self) -> None:
        assert len(Beaconing("lo", "127.0.0.1", "lo").beacons) == 1

    def test_an_interface_that_is_not_there(self) -> None:
        """That is said once; the other interfaces have their beacons."""
        with logged() as events:
            beaconing = Beaconing("nowhere", "lo")
            for _ in range(4):
                beaconing.clock.advance(INTERVAL)
        assert len(beaconing.beacons) == 5
        assert lines(events) == ["Broadcast sends no beacon by nowhere yet: there is no interface 'nowhere'"]


class TestHearing:
    def test_its_own_is_not_reported(self) -> None:
        """Whatever address it comes back from."""
        beaconing = Beaconing()
        own = beaconing.beacons[0]
        assert beaconing.heard(own) == []
        assert beaconing.heard(own, ("127.0.0.1", 4321)) == []
        assert beaconing.transport.counters.own == 2

    def test_others_are_reported_once(self) -> None:
        """Several on one host have one address; their marks tell them apart."""
        beaconing = Beaconing()
        for mark in ("#00000001", "#00000002"):
            beacon = f"hello {mark}".encode()
            assert beaconing.heard(beacon) == [f"Broadcast heard {beacon!r} from 192.0.2.7:9999"]
            for _ in range(10):
                assert beaconing.heard(beacon) == []

    def test_anybody(self) -> None:
        """A program that knows nothing of marks is reported as well."""
        assert Beaconing().heard(b"hi", ("192.0.2.9", 5000)) == ["Broadcast heard b'hi' from 192.0.2.9:5000"]

    def test_again_after_a_silence(self) -> None:
        beaconing = Beaconing()
        silence = SILENT_INTERVALS * INTERVAL
        assert beaconing.heard(b"hi")
        for _ in range(10):
            beaconing.clock.advance(silence)
            assert not beaconing.heard(b"hi")
        beaconing.clock.advance(silence + 1)
        assert beaconing.heard(b"hi")

    def test_who_was_silent_makes_place(self) -> None:
        hour = 3600.0
        beaconing = Beaconing(interval=hour)
        for number in range(MAX_KNOWN):
            if number and number % MAX_REPORTS == 0:
                beaconing.clock.advance(LOG_INTERVAL)
            assert beaconing.heard(b"hi", ("192.0.2.7", number))
        beaconing.clock.advance(SILENT_INTERVALS * hour - beaconing.clock.seconds())
        for number in range(1, MAX_KNOWN):
            assert not beaconing.heard(b"hi", ("192.0.2.7", number))
        beaconing.clock.advance(1)
        assert beaconing.heard(b"hi", ("192.0.2.8", 9999))
        assert not beaconing.heard(b"hi", ("192.0.2.9", 9999))

    def test_a_flood_of_strangers_fills_neither_memory_nor_log(self) -> None:
        """Addresses and contents can be made up; who was known before is known still."""
        beaconing = Beaconing(interval=3600)
        assert beaconing.heard(b"hi")
        minutes = 20
        with logged() as events:
            for number in range(minutes * MAX_KNOWN):
                beaconing.protocol.datagramReceived(os.urandom(8), ("192.0.2.66", number % 65536))
                beaconing.clock.advance(LOG_INTERVAL / MAX_KNOWN)
        reports = [line for line in lines(events) if " heard b" in line]
        assert len(reports) == MAX_KNOWN - 1
        assert len(events) - len(reports) <= minutes
        assert len(beaconing.protocol._known) == MAX_KNOWN
        assert not beaconing.heard(b"hi")

    @pytest.mark.parametrize("interval", [0.01, 1.0, 3600.0])
    def test_no_more_than_so_many_reports_in_any_minute(self, interval: float) -> None:
        """A forger is new with each datagram, whatever the interval; the others are one line a minute."""
        beaconing = Beaconing(interval=interval)
        reports, sums = [], []
        count = 0
        with logged() as events:
            for number in range(4500):
                beaconing.protocol.datagramReceived(b"%d" % number, PEER)
                beaconing.clock.advance(0.04)
                new, count = events[count:], len(events)
                reports += [beaconing.clock.seconds()] * sum("heard b" in line for line in lines(new))
                sums += [line for line in lines(new) if "heard b" not in line]
            beaconing.transport.stopListening()
        sums += lines(events[count:])
        assert all(
            later - earlier >= LOG_INTERVAL - 0.04
            for earlier, later in zip(reports, reports[MAX_REPORTS:], strict=False)
        )
        found = [
            re.fullmatch(r"Broadcast heard (\d+) more datagrams of newcomers in the last (\d+) s", line)
            for line in sums
        ]
        assert 3 <= len(found) <= 4
        assert sum(int(one[1]) for one in found if one) + len(reports) == 4500

    def test_who_was_only_counted_is_reported_when_there_is_room(self) -> None:
        """Three hundred that begin together are all reported, the last in the third minute."""
        beaconing = Beaconing()
        reported = []
        for _ in range(20):
            for number in range(300):
                reported += beaconing.heard(b"hi", ("192.0.2.7", number))
            beaconing.clock.advance(INTERVAL)
        assert len(set(reported)) == len(reported) == 300

    def test_of_a_long_one_the_start_is_logged(self) -> None:
        beaconing = Beaconing()
        (line,) = beaconing.heard(b"x" * 60_000)
        assert line == f"Broadcast heard {b'x' * 64!r} from 192.0.2.7:9999"


def parsed(*words: str) -> Broadcast.Options:
    options = Broadcast.Options()
    options.parseOptions(words)
    return options


class TestOptions:
    def test_defaults(self) -> None:
        options = parsed()
        own = {key: options[key] for key in ("port", "address", "message", "interval", "interface")}
        assert own == {"port": 9999, "address": "255.255.255.255", "message": "hello", "interval": 1.0, "interface": []}

    @pytest.mark.parametrize("words", [[], ["--listen", "9999"], ["--interface", "eth0", "--interface", "eth1"]])
    def test_one_socket_on_every_ipv4_address(self, words: list[str]) -> None:
        """IPv6 has no broadcast, and a socket with an address of its own hears none."""
        assert parsed(*words).endpoints == [UDPEndpoint(9999, ("0.0.0.0",), shared=True)]

    def test_the_name_that_python_has_for_it(self) -> None:
        assert parsed("--address", "<broadcast>")["address"] == "255.255.255.255"

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (
                ["--address", "ff02::1"],
                "--address ff02::1: IPv6 has no broadcast: use udpmulticast with a group such as ff02::1",
            ),
            (
                ["--address", "fe80::1%eth0"],
                "--address fe80::1%eth0: IPv6 has no broadcast: use udpmulticast with a group such as ff02::1",
            ),
            (["--address", "228.0.0.5"], "--address 228.0.0.5: is a multicast group: use udpmulticast"),
            (["--address", "everybody"], "--address everybody: 'everybody' is not an IPv4 or IPv6 address"),
            (["--interval", "0"], "--interval 0: must be a duration above 0, such as 10ms, 1.5s or 2m"),
            (
                ["--listen", "[::]:9999"],
                "--listen [::]:9999: IPv6 has no broadcast: use udpmulticast with a group such as ff02::1",
            ),
            (
                ["--listen", "239.1.1.1:9999"],
                "--listen 239.1.1.1:9999: hears one group and no broadcast: use udpmulticast",
            ),
            (
                ["--listen", "127.0.0.1:9999"],
                "--listen 127.0.0.1:9999: hears no group and no broadcast: choose the interface with --interface",
            ),
        ],
    )
    def test_mistakes(self, words: list[str], why: str) -> None:
        """Each names the option and its value, and says what would be right."""
        with pytest.raises(UsageError) as caught:
            parsed(*words)
        assert str(caught.value) == why

    def test_message_that_fits_no_datagram(self) -> None:
        with pytest.raises(UsageError, match="must not be longer than 65000 bytes"):
            parsed("--message", "x" * 65_001)

    @pytest.mark.parametrize(
        ("address", "why"),
        [("ff02::1", "IPv6 has no broadcast"), ("224.0.0.1", "is a multicast group")],
    )
    def test_a_mistake_is_one_line_and_status_1(self, address: str, why: str) -> None:
        line = refusal("udpbroadcast", "--address", address)
        assert line.startswith(f"udpbroadcast: --address {address}: {why}: use udpmulticast")
