"""``udpservices --config``: what is wrong with a file is said in one line that names file, table and key."""

import json
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError

from tests.conftest import Turning
from tests.machine import free_port
from tests.runners import RUNNERS
from tests.services.bundles import COMMANDS, Write
from tests.services.commands import maker, parsed, refusal, refused
from tests.support import BIN, descriptors, run, udp_socket
from udpservices.options import Mistakes
from udpservices.services.tables import read


class TestCheck:
    @pytest.mark.parametrize(
        ("text", "services"),
        [("[udpecho]", "1 service"), ("[udpecho]\n[udptime]\n[more]\ncommand = 'udpecho'\nport = 1", "3 services")],
    )
    @pytest.mark.parametrize("runner", ["twistd", "twist"])
    def test_right(self, write: Write, text: str, services: str, runner: str) -> None:
        """It says so and ends, and opens nothing: all of these have the same default port number."""
        path = write(text)
        done = run(BIN / runner, "udpservices", "--config", path.name, "--check", cwd=path.parent)
        said = f"services.toml: {services}, all options right\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")

    def test_wrong(self, write: Write) -> None:
        path = write("[udpecho]\nport = 99999\n")
        for check in ([], ["--check"]):
            assert refusal("udpservices", *check, "--config", path.name, cwd=path.parent) == (
                "udpservices: services.toml: [udpecho] port = 99999: must be a port number from 0 to 65535"
            )

    def test_what_has_no_effect_on_its_protocol(self, write: Write) -> None:
        """No protocol is made to find that out, and no socket opened."""
        path = write("[udpecho]\nburst = 5\n[udpdiscard]\nburst = 5\n")
        with pytest.raises(UsageError) as error:
            parsed("udpservices", "--check", "--config", str(path))
        assert str(error.value) == f"{path}: [udpdiscard]: --burst has no effect without --rate: there is no limit then"

    def test_wrong_under_twist(self, write: Write) -> None:
        """The same line and the same status."""
        path = write("[udpecho]\nprt = 1\n")
        done = run(BIN / "twist", "udpservices", "--config", path.name, cwd=path.parent)
        line = "udpservices: services.toml: [udpecho]: there is no key 'prt': did you mean 'port'?\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


class TestMistakes:
    """One line that names the file, the table and the key, status 1, no traceback."""

    def test_no_file_is_named(self) -> None:
        assert refusal("udpservices") == "udpservices: --config FILE.toml is missing"

    @pytest.mark.parametrize(
        ("name", "why"),
        [("nowhere.toml", "No such file or directory"), (".", "Is a directory"), ("f/x", "Not a directory")],
    )
    def test_no_such_file(self, tmp_path: Path, name: str, why: str) -> None:
        (tmp_path / "f").touch()
        assert refusal("udpservices", "--config", name, cwd=tmp_path) == f"udpservices: --config {name}: {why}"

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            # The file
            (b'[udpecho]\nport = "\xff"\n', "'utf-8' codec can't decode byte 0xff in position 18: invalid start byte"),
            ("[udpecho]\nport 9\n", "Expected '=' after a key in a key/value pair (at line 2, column 6)"),
            ("[udpecho]\nport = 1\nport = 2\n", "Cannot overwrite a value (at line 3, column 9)"),
            ("[udpecho]\n[udpecho]\n", "Cannot declare ('udpecho',) twice (at line 2, column 9)"),
            ("[udpecho]\nport = " + "[" * 3000, "has lists in lists without end"),
            ("[udpecho]\nport = " + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion"),
            ("", "there is no table, so there is nothing to serve"),
            ("# later\n", "there is no table, so there is nothing to serve"),
            ("port = 9\n[udpecho]\n", "port stands outside of any table: write [NAME] above it"),
            ("list = []\n", "list stands outside of any table: write [NAME] above it"),
            # Above the tables
            ("drain = '5x'\n[udpecho]\n", 'drain = "5x": must be a duration, such as 10ms, 1.5s or 2m'),
            ("drain = [5]\n[udpecho]\n", "drain = [5]: must be one value, not a list"),
            (
                "drian = 5\n[udpecho]\n",
                "drian stands outside of any table: write [NAME] above it: did you mean 'drain'?",
            ),
            ("drain = 5\n", "there is no table, so there is nothing to serve"),
            ("help = true\n", "help stands outside of any table: write [NAME] above it"),
            (
                "[udpecho]\ndrain = 5\n",
                "[udpecho] drain = 5: is a key of the whole file: write it above the first table",
            ),
            ("[udphello]\ndrain = 5\n", "[udphello] drain = 5: is a key of the whole file: write it above the first "),
            # The table
            ("[[udpecho]]\nport = 9\n", "[[udpecho]]: write [udpecho], and another name for another service"),
            ("[udpecho.second]\nport = 9\n", "[udpecho] second: is a table in a table; a name with a dot is quoted, "),
            ("[udpecho]\nport = {number = 9}\n", "[udpecho] port: is a table in a table; "),
            ('["two\\nlines"]\ncommand = "udpecho"\n', '"two\\nlines" is no name for a table'),
            ('[""]\ncommand = "udpecho"\n', '"" is no name for a table'),
            # The command
            ("[udpehco]\n", "[udpehco]: there is no command 'udpehco': did you mean 'udpecho'?"),
            ("[x]\ncommand = 'zzz'\n", "[x]: there is no command 'zzz'"),
            ("[x]\ncommand = 7\n", "[x] command = 7: must be the name of a command"),
            ("[x]\ncommand = ['udpecho']\n", '[x] command = ["udpecho"]: must be the name of a command'),
            ("[x]\ncommand = true\n", "[x] command = true: must be the name of a command"),
            ("[udpservices]\nconfig = 'x'\n", "[udpservices]: udpservices runs other commands, not itself"),
            ("[x]\ncommand = 'udpservices'\n", "[x]: udpservices runs other commands, not itself"),
            ("[udpservice]\n", "[udpservice]: there is no command 'udpservice'"),
            # The key
            ("[udpecho]\nprt = 9\n", "[udpecho]: there is no key 'prt': did you mean 'port'?"),
            ("[udpecho]\nPORT = 9\n", "[udpecho]: there is no key 'PORT'"),
            ("[udpecho]\n'--port' = 9\n", "[udpecho]: there is no key '--port': did you mean 'port'?"),
            ("[udpecho]\np = 9\n", "[udpecho]: there is no key 'p'"),
            ("[udpecho]\npor = 9\n", "[udpecho]: there is no key 'por': did you mean 'port'?"),
            ("[udpecho]\nreceive_buffer = 9\n", "[udpecho]: there is no key 'receive_buffer': did you mean "),
            ("[udpecho]\n'port=9' = 9\n", "[udpecho]: there is no key 'port=9'"),
            ("[udpecho]\nhelp = true\n", "[udpecho] help = true: is for the command line alone"),
            ("[udpecho]\nversion = true\n", "[udpecho] version = true: is for the command line alone"),
            ("[udpecho]\nepoch = 'unix'\n", "[udpecho]: there is no key 'epoch'"),
            # The value's type
            ("[udpecho]\nport = true\n", "[udpecho] port = true: must be a text or a number, or a list of them"),
            ("[udpecho]\nport = 2000-01-01\n", "[udpecho] port = 2000-01-01: must be a text or a "),
            ("[udpecho]\nport = [9]\n", "[udpecho] port = [9]: must be one value, not a list"),
            ("[udpecho]\nport = 10:20:30\n", "[udpecho] port = 10:20:30: must be a text or a number"),
            ("[udpecho]\nport = 2000-01-01T01:02:03Z\n", "[udpecho] port = 2000-01-01T01:02:03+00:00: must be a text "),
            ('[udpecho]\nport = "\\u007f\\t\\"\\\\"\n', '[udpecho] port = "\\u007F\\t\\"\\\\": must be a port number'),
            (
                "[udpecho]\nport = [1.50, 'x', [1, {y = 2}]]\n",
                '[udpecho] port = [1.50, "x", [1, {y = 2}]]: must be one ',
            ),
            ("[udpecho]\nport = [[[[[]]]]]\n", "[udpecho] port = [[[…]]]: must be one value, not a list"),
            (f"[udpecho]\nport = '{'x' * 200}'\n", f'[udpecho] port = "{"x" * 98}…: must be a port number'),
            (f"[udpecho]\nport = 0x{'f' * 5000}\n", f"[udpecho] port = 0x{'f' * 97}…: Exceeds the limit"),
            ("[udpecho]\nlisten = []\n", "[udpecho] listen = []: is empty: leave the key out"),
            ("[udpecho]\nallow = []\n", "[udpecho] allow = []: allows nobody: leave it out to serve everybody"),
            ("[udpecho]\nlisten = [[9]]\n", "[udpecho] listen = [9]: must be a text or a number, or a list of them"),
            ("[udpecho]\nlog-datagrams = 1\n", "[udpecho] log-datagrams = 1: must be true or false"),
            ("[udpecho]\nlog-datagrams = 'yes'\n", '[udpecho] log-datagrams = "yes": must be true or false'),
            ("[udpecho]\nlog-datagrams = [true]\n", "[udpecho] log-datagrams = [true]: must be one value, not a list"),
            # The value
            ("[udpecho]\nport = -1\n", "[udpecho] port = -1: must be a port number from 0 to 65535"),
            ("[udpecho]\nport = '9 9'\n", '[udpecho] port = "9 9": must be a port number from 0 to 65535'),
            ('[udpecho]\nport = "9\\n9"\n', '[udpecho] port = "9\\n9": must be a port number from 0 to 65535'),
            ("[udpecho]\nport = 9.0\n", "[udpecho] port = 9.0: must be a port number from 0 to 65535"),
            ("[udpecho]\ndrop = 1.5\n", "[udpecho] drop = 1.5: must be a probability from 0 to 1, such as 0.05 or 5%"),
            ("[udpecho]\ndrop = inf\n", "[udpecho] drop = inf: must be a probability from 0 to 1, such as 0.05 or 5%"),
            ("[udpecho]\ninterface = ['::1', 'x']\n", '[udpecho] interface = "x": '),
            ("[a]\ncommand = 'udptime'\nepoch = 1970\n", "[a] epoch = 1970: must be 1900 (RFC 868) or unix"),
            ("[udpecho]\ntcp = 'udp:7'\n", '[udpecho] tcp = "udp:7": must be a port number from 0 to 65535 (on loop'),
            ("[udpmulticast]\ngroup = ['192.0.2.1']\n", '[udpmulticast] group = "192.0.2.1": is no multicast group'),
            # All of them together
            ("[udpserve]\nport = 9\n", "[udpserve]: --protocol package.module.Class is missing"),
            ("[greet]\ncommand = 'udphello'\n", "[greet]: --target is missing"),
            ("[udpecho]\nport = 9\nlisten = '9'\n", "[udpecho]: --port and --listen are two spellings of one thing"),
            # Of the table and its command's protocol
            ("[udpdiscard]\nburst = 5\n", "[udpdiscard]: --burst has no effect without --rate: there is no limit then"),
            (
                '[x]\ncommand = "udpserve"\nprotocol = "udpservices.services.discard.Discard"\nrate-dry-run = true\n',
                "[x]: --rate-dry-run has no effect without --rate",
            ),
            # When the sockets are opened
            ("[a]\ncommand = 'udpecho'\nlisten = '192.0.2.77:0'\n", "[a]: cannot listen on 192.0.2.77:0/udp: "),
            ("[a]\ncommand = 'udpecho'\nlisten = 'fd:0'\n", "[a]: fd:0: descriptor 0 is no socket"),
            ("[a]\ncommand = 'udpecho'\nport = 0\ntcp = 'x:1'\n", "[a]: --tcp x:1: Unknown endpoint type: 'x'"),
        ],
    )
    def test_in_the_file(
        self, write: Write, epoll: Turning, monkeypatch: pytest.MonkeyPatch, text: str | bytes, why: str
    ) -> None:
        monkeypatch.chdir(write(text).parent)
        line = refused(epoll.reactor, "udpservices", "--config", "services.toml")
        assert line.startswith(f"udpservices: services.toml: {why}")
        assert line.isprintable()

    def test_second_table_wants_the_port_of_the_first(self, write: Write) -> None:
        number = free_port()
        path = write(
            f'[udpecho]\nlisten = "127.0.0.1:{number}"\n[other]\ncommand = "udptime"\nlisten = "127.0.0.1:{number}"\n'
        )
        assert refusal("udpservices", "--config", path.name, cwd=path.parent) == (
            "udpservices: services.toml: [other]: "
            f"127.0.0.1:{number}/udp is taken by [udpecho]: give one of them another port number"
        )

    def test_all_sockets_are_closed_when_a_later_table_fails(self, write: Write, epoll: Turning) -> None:
        """UDP, TCP, groups and a client are ready when the last table cannot listen; all of it is taken back."""
        with udp_socket() as taken:
            path = write(
                f"""
                [udpecho]
                listen = ["127.0.0.1:0", "[::1]:0"]
                tcp = 0

                [greeter]
                command = "udphello"
                target = "127.0.0.1:9"

                [wait]
                command = "portforward"
                port = "tcp:0:interface=127.0.0.1"

                [last]
                command = "udptime"
                listen = ["127.0.0.1:0", "127.0.0.1:{taken.getsockname()[1]}"]
                """
            )
            options = parsed("udpservices", "--config", str(path))
            before = descriptors()
            with pytest.raises(SystemExit, match=r"^udpservices: .*: \[last\]: cannot listen on "):
                maker("udpservices").makeService(options, epoll.reactor)
            epoll.until(lambda: descriptors() == before, "the sockets to be closed")
            assert not epoll.reactor.getDelayedCalls()


class TestAllAtOnce:
    """A file's mistakes are all shown: who corrects one need not start again to hear of the next."""

    WRONG = """
    drain = "long"
    seed = 1

    [udpecho]
    prt = 9
    port = 99999
    interface = ["x", "127.0.0.1", "y"]
    log-datagrams = 1
    drop = 0.5

    [[udptime]]

    [lossy]
    command = "udpecho"
    drop = 2
    second = {a = 1}

    [greeter]
    command = "udphello"

    [right]
    command = "udplength"
    port = 0

    [no]
    command = "no"
    """
    LINES = (
        'drain = "long": must be a duration, such as 10ms, 1.5s or 2m',
        "seed stands outside of any table: write [NAME] above it",
        "[udpecho]: there is no key 'prt': did you mean 'port'?",
        "[udpecho] port = 99999: must be a port number from 0 to 65535",
        "[udpecho] interface = \"x\": 'x' is not an IPv4 or IPv6 address",
        "[udpecho] interface = \"y\": 'y' is not an IPv4 or IPv6 address",
        "[udpecho] log-datagrams = 1: must be true or false",
        "[[udptime]]: write [udptime], and another name for another service",
        "[lossy] drop = 2: must be a probability from 0 to 1, such as 0.05 or 5%",
        '[lossy] second: is a table in a table; a name with a dot is quoted, ["lossy.second"]',
        "[greeter]: --target is missing: HOST:PORT, whom to greet",
        "[no]: there is no command 'no'",
    )

    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.parametrize("check", [[], ["--check"]])
    def test_a_line_each(self, write: Write, runner: str, check: list[str]) -> None:
        """On standard error, status 1, and every line says whose it is."""
        path = write(textwrap.dedent(self.WRONG))
        done = run(*RUNNERS[runner], "udpservices", *check, "--config", path.name, cwd=path.parent)
        assert done.stderr.splitlines() == [f"udpservices: services.toml: {line}" for line in self.LINES]
        assert (done.returncode, done.stdout) == (1, "")

    def test_in_a_program(self, write: Write) -> None:
        """An error that has the lines."""
        path = write(textwrap.dedent(self.WRONG))
        with pytest.raises(Mistakes) as error:
            read(path)
        assert error.value.lines == tuple(f"{path}: {line}" for line in self.LINES)
        assert str(error.value).splitlines() == list(error.value.lines)

    def test_a_key_that_is_missing_is_no_mistake_of_another(self, write: Write) -> None:
        """A wrong target is one mistake: that there is none would be a second one, and not so."""
        path = write("[udphello]\ntarget = 'nowhere'\ninterval = '5 s'\nmessage = 7\n")
        with pytest.raises(Mistakes) as error:
            read(path)
        assert [line.partition("] ")[2] for line in error.value.lines] == [
            'target = "nowhere": must be HOST:PORT, or [ADDRESS]:PORT for IPv6',
            'interval = "5 s": must be a duration, such as 10ms, 1.5s or 2m',
        ]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
likely = st.sampled_from(
    ["", "0", "127.0.0.1", "::1", "[::1]:9", "224.0.0.1", "fd:3", "tcp:0", "5%", "1s", "64k", "a:1"]
)
scalars = st.one_of(st.booleans(), st.integers(-2, 70_000), st.floats(allow_nan=False), likely, texts)
values = st.one_of(scalars, st.lists(scalars, max_size=3))


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A command and keys that it knows, or not, with values of all types, right and wrong."""
    command = draw(st.sampled_from(COMMANDS))
    keys = st.one_of(st.sampled_from([option.rstrip("=") for option in maker(command).options().longOpt]), texts)
    return command, draw(st.dictionaries(keys, values, max_size=3))


@given(st.dictionaries(texts, tables(), max_size=3))
def test_whatever_the_file_says(file: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """It is right, or a ValueError that names the file says what is not."""
    lines = []
    for name, (command, keys) in file.items():
        lines += [f"[{json.dumps(name)}]", f'"command" = "{command}"']
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in keys.items() if key != "command"]
    with tempfile.NamedTemporaryFile(suffix=".toml") as written:
        Path(written.name).write_text("\n".join(lines).replace("Infinity", "inf").replace("\x7f", "\\u007f"))
        names, wrong = list(file), tuple[str, ...]()
        try:
            names = [table.name for table in parsed("udpservices", "--config", written.name).tables]
        except Mistakes as error:
            wrong = error.lines
        assert names == list(file)
        assert all(line.startswith(f"{written.name}: ") and line.isprintable() for line in wrong)
