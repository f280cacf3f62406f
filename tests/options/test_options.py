"""What an operator may give a command, and what it says when that is wrong."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.python import usage

import twisted
import udpservices
from udpservices import DatagramOptions, DatagramServiceMaker
from udpservices.endpoints import DescriptorEndpoint, SystemdEndpoint, UDPEndpoint
from udpservices.options import (
    ImpairmentOptions,
    ListenOptions,
    LoopGuardOptions,
    MemberOptions,
    RateOptions,
    Row,
    RunOptions,
    ServiceOptions,
    repeated,
)
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, LoopRules
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED
from udpservices.services.echo import Echo
from udpservices.services.serve import Serve
from udpservices.units import port_number, size

#: What every responder takes, and what it does when nobody says otherwise.
SHARED = {
    "port": 9999,
    "interface": [],
    "listen": [],
    "receive-buffer": None,
    "reuse-port": 0,
    "log-datagrams": 0,
    "allow": [],
    "deny": [],
    "allow-file": [],
    "deny-file": [],
    "no-loop-guard": 0,
    "allow-source-ports": 0,
    "allow-own-ports": 0,
    "allow-equal-ports": 0,
    "allow-broadcast": 0,
    "rate": None,
    "burst": None,
    "rate-prefix": (24, 56),
    "rate-dry-run": 0,
    "drop": 0.0,
    "duplicate": 0.0,
    "reorder": 0.0,
    "delay": 0.0,
    "seed": None,
}

ECHO = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "")
SERVE = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "")


def parsed(*words: str, of: Any = DatagramOptions) -> Any:
    options = of()
    options.parseOptions(words)
    return options


def refusal(*words: str, of: Any = DatagramOptions) -> str:
    """Why these words are refused; one line."""
    with pytest.raises(usage.UsageError) as error:
        parsed(*words, of=of)
    line = str(error.value)
    assert line.isprintable()
    return line


def declared(*rows: Sequence[Any], flags: Sequence[Sequence[Any]] = (), **attributes: Any) -> type[DatagramOptions]:
    """A class of options as a service author writes it."""
    return type("Options", (DatagramOptions,), {"optParameters": [*rows], "optFlags": [*flags], **attributes})


class TestDefaults:
    """A contract: what an operator does not give stays as it is from release to release."""

    @pytest.mark.parametrize(
        ("maker", "own"), [(ECHO, {"tcp": None}), (SERVE, {"protocol": None})], ids=["udpecho", "udpserve"]
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


class TestMistakes:
    """A UsageError that names the option, its value and what would be right."""

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--port", "65536"], "--port 65536: must be a port number from 0 to 65535"),
            (["--port", "-1"], "--port -1: must be a port number from 0 to 65535"),
            (["--port="], "--port '': must be a port number from 0 to 65535"),
            (["-p", "http"], "--port http: must be a port number from 0 to 65535"),
            (["--po", "http"], "--port http: must be a port number from 0 to 65535"),
            (["--port", "9\n9"], r"--port 9\n9: must be a port number from 0 to 65535"),
            (["--port", "\udcff"], r"--port \udcff: must be a port number from 0 to 65535"),
            (
                ["--receive-buffer", "much"],
                "--receive-buffer much: must be a size in bytes, such as 65536, 64k or 4M",
            ),
            (["--receive-buffer", "0"], "--receive-buffer 0: must be a size in bytes, such as 65536, 64k or 4M"),
            (["--interface", "localhost"], "--interface localhost: 'localhost' is not an IPv4 or IPv6 address"),
            (["-i", "[::1]"], "--interface [::1]: '[::1]' is not an IPv4 or IPv6 address"),
            (
                ["--interface", "127.0.0.1%lo"],
                "--interface 127.0.0.1%lo: '127.0.0.1%lo' is not an address with a scope such as fe80::1%eth0",
            ),
            (["--listen", "fd:x"], "--listen fd:x: descriptor 'x' must be a number of at most nine digits"),
            (
                ["-l", "udp:9999:rcvbuf=4M:rcvbuf=8M"],
                "--listen udp:9999:rcvbuf=4M:rcvbuf=8M: rcvbuf= is given twice",
            ),
            (["--reuse-port=1"], "option --reuse-port must not have an argument"),
            (["--port"], "option --port requires argument"),
            (["-p"], "option -p requires argument"),
            (["-x"], "option -x not recognized"),
        ],
    )
    def test_named(self, words: list[str], line: str) -> None:
        assert refusal(*words) == line

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("Echo", "must be a dotted name such as package.module.Class"),
            ("udpservices.services.echo.", "must be a dotted name such as package.module.Class"),
            ("udpservices.services.echo.Ehco", "module udpservices.services.echo has no Ehco: did you mean Echo?"),
            ("udpservices.services.ecko.Echo", "there is no module udpservices.services.ecko"),
            ("nowhere.ecko.Echo", "there is no module nowhere"),
            ("udpservices.units.size", "udpservices.units.size is no class"),
            ("pathlib.Path", "pathlib.Path is no subclass of twisted.internet.protocol.DatagramProtocol"),
        ],
    )
    def test_class_of_udpserve(self, name: str, why: str) -> None:
        line = refusal("--protocol", name, of=Serve.Options)
        assert line == f"--protocol {name}: {why}"

    def test_no_class_for_udpserve(self) -> None:
        assert refusal(of=Serve.Options) == "--protocol package.module.Class is missing"

    @pytest.mark.parametrize(
        ("word", "meant"),
        [
            ("--prot", "--port"),
            ("--recieve-buffer", "--receive-buffer"),
            ("--listne", "--listen"),
            ("--hepl", "--help"),
        ],
    )
    def test_unknown_option_has_a_suggestion(self, word: str, meant: str) -> None:
        assert refusal(word, "1") == f"option {word} not recognized: did you mean {meant}?"

    def test_unknown_option_like_no_other(self) -> None:
        """A suggestion that helps nobody is worse than none."""
        assert refusal("--zzz") == "option --zzz not recognized"
        assert refusal("--z\nz") == r"option --z\nz not recognized"

    def test_own_options_are_suggested_too(self) -> None:
        assert refusal("--protcol", "x.Y", of=Serve.Options).endswith("did you mean --protocol?")

    def test_positional_words(self) -> None:
        """``udpecho 9999`` would else serve another port than it seems to say."""
        assert refusal("9999") == "'9999' is not expected: give options, such as --port 9999"
        assert refusal("--reuse-port", "1") == "'1' is not expected: give options, such as --port 9999"

    @pytest.mark.parametrize("other", [["--port", "9999"], ["-p0"], ["--interface", "::1"]])
    def test_two_spellings_of_one_thing(self, other: list[str]) -> None:
        """Also with the value that is the default."""
        name = "interface" if "::1" in other else "port"
        line = f"--{name} and --listen are two spellings of one thing: give one of them"
        assert refusal("--listen", "9999", *other) == line
        assert refusal(*other, "--listen", "9999") == line

    def test_under_twistd_the_same_line_ends_the_process(self) -> None:
        """SystemExit with a text is what reaches standard error with status 1, and no traceback."""
        options = DatagramOptions()
        options.parent = usage.Options()
        options.parent.subCommand = "udpecho"
        with pytest.raises(SystemExit) as end:
            options.parseOptions(["--port", "9\n9"])
        assert end.value.code == r"udpecho: --port 9\n9: must be a port number from 0 to 65535"


class TestHelp:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            parsed("--version")
        assert end.value.code == 0
        assert capsys.readouterr().out == f"udpservices {udpservices.__version__}, Twisted {twisted.__version__}\n"

    @pytest.mark.parametrize("maker", [ECHO, SERVE], ids=lambda maker: maker.tapname)
    def test_help(self, maker: DatagramServiceMaker, capsys: pytest.CaptureFixture[str]) -> None:
        """Every option is there once, with what it is for."""
        with pytest.raises(SystemExit) as end:
            parsed("--help", of=maker.options)
        assert end.value.code == 0
        shown = capsys.readouterr().out
        for name in dict(maker.options()):
            assert len(re.findall(rf"^ +(?:-\w, )?--{name}=? +\S", shown, re.MULTILINE)) == 1, name
        assert "[default: 9999]" in shown


class TestRedeclared:
    """A shared option may have another default, and nothing else of its own: an operator learns it once."""

    def test_default(self) -> None:
        changed = declared(["port", None, 7])
        assert changed()["port"] == 7
        assert parsed("-p", "9", of=changed)["port"] == 9
        assert parsed("--po", "9", of=changed)["port"] == 9
        assert refusal("--port", "x", of=changed) == "--port x: must be a port number from 0 to 65535"
        shown = str(changed())
        assert shown.count("--port=") == 1
        assert "-p, --port=" in shown
        assert "UDP port number to listen on" in shown
        assert "[default: 7]" in shown
        assert "9999]" not in shown

    def test_default_and_all_the_rest_as_it_was(self) -> None:
        """Copied whole, it is no other option."""
        (row,) = [row for row in ListenOptions.optParameters if row[0] == "port"]
        assert row[4] is port_number
        assert declared([*row[:2], 7, *row[3:]])()["port"] == 7

    def test_default_of_a_default(self) -> None:
        """A class of options can be the base of another one."""
        base = declared(["port", None, 7], ["greeting", "g", "hello", "What to answer."])
        derived = type("Options", (base,), {"optParameters": [["port", None, 8], ["greeting", None, "bye"]]})
        assert (derived()["port"], derived()["greeting"]) == (8, "bye")
        assert (base()["port"], DatagramOptions()["port"]) == (7, 9999)

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (declared(["port", None, 7, "The port."]), "--port"),
            (declared(["port", "P", 7]), "--port"),
            (declared(["port", None, 7, None, int]), "--port"),
            (declared(["receive-buffer", "r", None, None, size]), "--receive-buffer"),
            (declared(["reuse-port", None, None, "A flag."]), "--reuse-port"),
            (declared(["listen", None, None, "Repeatable."]), "--listen"),
            (declared(["peer", "p", None, "Who."]), "-p"),
            (declared(["i", None, None, "Another letter."]), "-i"),
            (declared(flags=[["port", None, "A flag."]]), "--port"),
            (declared(flags=[["reuse-port", None, "The same flag."]]), "--reuse-port"),
            (declared(flags=[["loud", "l", "A letter."]]), "-l"),
            (declared(opt_port=lambda self, value: None), "--port"),
            (declared(opt_receive_buffer=lambda self, value: None), "--receive-buffer"),
            (declared(opt_interface=repeated("interface", str, "Another.")), "--interface"),
            (declared(opt_p=lambda self, value: None), "-p"),
        ],
    )
    def test_anything_else_is_a_programming_error(self, options: type[DatagramOptions], name: str) -> None:
        """Told when the class is first used, so that its author sees it before any operator."""
        with pytest.raises(TypeError) as error:
            options()
        assert str(error.value) == f"Options: {name} is a shared option; only its default may change"

    def test_own_options(self) -> None:
        """Parameters, flags, repeated ones and their letters, next to the shared ones."""

        class Own(DatagramOptions):
            optParameters: ClassVar[list[Row]] = [["greeting", "g", "hello", "What to answer."]]
            optFlags: ClassVar[list[Row]] = [["loud", None, "In capitals."]]
            opt_group = repeated("group", str, "May repeat.")

            def __init__(self) -> None:
                super().__init__()
                self["group"] = []

        options = parsed("-g", "bye", "--loud", "--group", "a", "--group", "b", "-p", "7", of=Own)
        assert dict(options) == {**SHARED, "greeting": "bye", "loud": 1, "group": ["a", "b"], "port": 7}

    def test_groups_are_mixins(self) -> None:
        """A command takes the groups that it can use, in any order."""

        class Some(RunOptions, ServiceOptions):
            pass

        assert dict(Some()) == {"log-datagrams": 0}

        class All(RunOptions, LoopGuardOptions, RateOptions, ListenOptions, ImpairmentOptions):
            pass

        assert dict(All()) == SHARED


class TestMaker:
    """A command's options are its protocol's."""

    def test_attribute_of_the_protocol(self) -> None:
        assert SERVE.options is Serve.Options

    def test_protocol_that_cannot_be_found(self) -> None:
        """One line, because that is what somebody who installs half a package sees."""
        maker = DatagramServiceMaker("udpnone", "udpservices.services.none.None_", "")
        with pytest.raises(SystemExit) as end:
            _ = maker.options
        assert end.value.code == (
            "udpnone: protocol udpservices.services.none.None_: there is no module udpservices.services.none"
        )

    def test_protocol_that_is_none(self) -> None:
        assert not issubclass(DatagramOptions, DatagramProtocol)
        with pytest.raises(SystemExit, match="is no subclass of"):
            _ = DatagramServiceMaker("udpnone", "udpservices.options.DatagramOptions", "").options
