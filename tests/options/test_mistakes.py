"""What a command says when an option is wrong."""

import pytest
from twisted.python import usage

from tests.options.words import refusal
from udpservices import DatagramOptions
from udpservices.services.serve import Serve


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
            ("Echo", "must be a dotted name such as package.module.Class, or module:function"),
            ("udpservices.services.echo.", "must be a dotted name such as package.module.Class, or module:function"),
            (
                "udpservices.services:echo:Echo",
                "must be a dotted name such as package.module.Class, or module:function",
            ),
            ("udpservices.services.echo.Ehco", "module udpservices.services.echo has no Ehco: did you mean Echo?"),
            ("udpservices.services.ecko.Echo", "there is no module udpservices.services.ecko"),
            ("nowhere.ecko.Echo", "there is no module nowhere"),
            (
                "udpservices.units.MAX_MESSAGE",
                "udpservices.units.MAX_MESSAGE is no class and no function: its type is int",
            ),
            ("udpservices.services:echo.Ehco", "udpservices.services.echo has no Ehco: did you mean Echo?"),
            (
                "udpservices.services.echo.Echo.rflector",
                "udpservices.services.echo.Echo has no rflector: did you mean reflector?",
            ),
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
