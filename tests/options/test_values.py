"""What an operator may give a command, and what stands where he gives nothing."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.options.words import ECHO, SERVE, SHARED, parsed, refusal
from udpservices import DatagramOptions, DatagramServiceMaker
from udpservices.endpoints import DescriptorEndpoint, SystemdEndpoint, UDPEndpoint
from udpservices.options import (
    MemberOptions,
)
from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, LoopRules
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED
from udpservices.policy.prefixes import PrefixLengths
from udpservices.services.echo import Echo
from udpservices.services.serve import Serve

TCP = {"tcp": None, "tcp-idle": 60.0, "tcp-connections": 500}


class TestDefaults:
    """A contract: what an operator does not give stays as it is from release to release."""

    @pytest.mark.parametrize(
        ("maker", "own"),
        [(ECHO, TCP), (SERVE, {"protocol": None, "protocol-arg": [], "group": [], "share-port": 0})],
        ids=["udpecho", "udpserve"],
    )
    def test_of_each_command(self, maker: DatagramServiceMaker, own: dict[str, Any]) -> None:
        assert dict(maker.options()) == {**SHARED, **own}

    def test_of_no_words(self) -> None:
        assert dict(parsed()) == SHARED

    def test_of_a_protocol_without_options(self) -> None:
        """`DatagramOptions`, so that any class has the shared ones."""
        plain = DatagramServiceMaker("x", "twisted.internet.protocol.DatagramProtocol", "")
        assert plain.options is DatagramOptions

    def test_listens_everywhere(self) -> None:
        assert parsed().endpoints == [UDPEndpoint(9999)]


class TestValues:
    def test_long(self) -> None:
        words = ["--port", "7", "--receive-buffer=4M", "--reuse-port", "--log-datagrams"]
        assert dict(parsed(*words)) == {
            **SHARED,
            "port": 7,
            "receive-buffer": 4 << 20,
            "reuse-port": 1,
            "log-datagrams": 1,
        }

    def test_short(self) -> None:
        assert parsed("-p7", "-i", "::1")["port"] == 7
        assert parsed("-p7", "-i", "::1")["interface"] == ["::1"]
        assert parsed("-l", "9999")["listen"] == [UDPEndpoint(9999)]

    def test_prefix(self) -> None:
        """As in getopt: as much of a name as tells it from the others."""
        options = parsed("--po", "7", "--int=::1", "--reu", "--rec", "64k", "--log")
        assert (options["port"], options["interface"], options["reuse-port"]) == (7, ["::1"], 1)
        assert (options["receive-buffer"], options["log-datagrams"]) == (65536, 1)
        assert refusal("--re", "64k") == "option --re not a unique prefix"

    def test_last_one_holds(self) -> None:
        """A wrapper script can be overruled."""
        assert parsed("--port", "7", "--port", "9")["port"] == 9

    def test_repeated_options_accumulate(self) -> None:
        """In the order in which they were given."""
        interfaces = parsed("-i", "127.0.0.1", "--interface", "fe80::1%eth0", "--port", "0")
        assert interfaces["interface"] == ["127.0.0.1", "fe80::1%eth0"]
        assert interfaces.endpoints == [UDPEndpoint(0, ("127.0.0.1", "fe80::1%eth0"))]
        listen = parsed("-l", "[::1]:0", "--listen", "fd:3", "--listen", "systemd:name=echo")
        assert listen.endpoints == [UDPEndpoint(0, ("::1",)), DescriptorEndpoint(3), SystemdEndpoint("echo")]

    def test_nothing_leaks_into_the_next_instance(self) -> None:
        """Two services of a process each have their own."""
        first = parsed("-i", "::1", "-p", "7")
        assert dict(parsed()) == SHARED
        assert parsed("-l", "9999").endpoints == [UDPEndpoint(9999)]
        assert first["interface"] == ["::1"]

    def test_class_of_udpserve(self) -> None:
        assert parsed("--protocol", "udpservices.services.echo.Echo", of=Serve.Options)["protocol"] is Echo


class TestStreams:
    """What --tcp grants."""

    def test_limits(self) -> None:
        options = parsed("--tcp=0", "--tcp-idle=2m", "--tcp-connections=7", "--rate-prefix=32,64", of=Echo.Options)
        assert options.connection_limits == ConnectionLimits(120.0, 7, PrefixLengths(32, 64))

    def test_by_default(self) -> None:
        assert parsed(of=Echo.Options).connection_limits == ConnectionLimits() == ConnectionLimits(60.0, 500)

    @pytest.mark.parametrize("words", [["--tcp-idle", "0"], ["--tcp-connections", "500"]])
    def test_no_limits_without_connections(self, words: list[str]) -> None:
        """Also with the value that is the default."""
        assert refusal(*words, of=Echo.Options) == f"{words[0]} has no effect without --tcp"

    @pytest.mark.parametrize("number", ["0", "-1", "1000001", "many", "", "\u0661"])
    def test_how_many(self, number: str) -> None:
        line = refusal("--tcp=0", f"--tcp-connections={number}", of=Echo.Options)
        assert line == f"--tcp-connections {number or repr(number)}: must be a number of connections from 1 to 1000000"


class TestGuard:
    def test_lists(self, tmp_path: Path) -> None:
        """From the command line and from files, all together."""
        path = tmp_path / "networks"
        path.write_text("198.51.100.0/24\n2001:db8::/32\n")
        access = parsed("--allow", "192.0.2.0/24", "--allow-file", str(path), "--deny=192.0.2.128/25").guard.access
        assert access.sources[4].find(int(ip_address("192.0.2.1"))) is None
        assert access.sources[4].find(int(ip_address("192.0.2.129"))) == DENIED
        assert access.sources[6].find(int(ip_address("2001:db8::1"))) is None
        assert access.sources[6].find(int(ip_address("2001:db9::1"))) == NOT_ALLOWED

    @pytest.mark.parametrize(
        ("word", "rules"),
        [
            ("--allow-source-ports", LoopRules(source_ports=False)),
            ("--allow-own-ports", LoopRules(own_ports=False)),
            ("--allow-equal-ports", LoopRules(equal_ports=False)),
            ("--allow-broadcast", LoopRules(to_many=False)),
            ("--no-loop-guard", NO_LOOP_RULES),
        ],
    )
    def test_switches(self, word: str, rules: LoopRules) -> None:
        assert parsed(word).guard.loops == rules

    def test_by_default(self) -> None:
        """All of the loop guard for responders, of members what does them no harm; nobody is refused by address."""
        assert (parsed().guard.loops, bool(parsed().guard.access)) == (LoopRules(), False)
        assert (parsed(of=MemberOptions).guard.loops, bool(parsed(of=MemberOptions).guard.access)) == (HARMLESS, False)

    def test_files_without_a_network(self, tmp_path: Path) -> None:
        """Nobody refused is as it should be; nobody allowed would be everybody served."""
        path = tmp_path / "networks"
        path.write_text("# to come\n")
        assert not parsed("--deny-file", str(path)).guard.access
        line = f"--allow-file {path}: has no network in it, so everybody would be served"
        assert refusal("--allow-file", str(path)) == line

    def test_files_that_are_wrong(self, tmp_path: Path) -> None:
        path = tmp_path / "networks"
        assert refusal("--deny-file", str(path)) == f"--deny-file {path}: No such file or directory"
        path.write_text("# none\nexample.org\n")
        assert refusal("--deny-file", str(path)) == (
            f"--deny-file {path}: line 2: example.org: must be a network such as 192.0.2.0/24 or 2001:db8::/32, "
            "or an address"
        )
