"""Options that are shared, and a command's own beside them; what --help and --version show."""

import re
from typing import ClassVar

import pytest

import twisted
import udpservices
from tests.options.words import ECHO, SERVE, SHARED, declared, parsed, refusal
from udpservices import DatagramOptions, DatagramServiceMaker
from udpservices.options import (
    ImpairmentOptions,
    ListenOptions,
    LoopGuardOptions,
    RateOptions,
    Row,
    RunOptions,
    ServiceOptions,
    SessionOptions,
    WorkerOptions,
    repeated,
)
from udpservices.units import port_number, size


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

        assert dict(Some()) == {"drain": 0.0, "metrics": None, "log-datagrams": 0}

        class All(
            RunOptions,
            WorkerOptions,
            SessionOptions,
            LoopGuardOptions,
            RateOptions,
            ListenOptions,
            ImpairmentOptions,
        ):
            pass

        assert dict(All()) == SHARED
