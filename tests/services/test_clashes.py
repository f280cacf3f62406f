"""``udpservices --config``: two tables that want the same place, of which the second one could not listen."""

import pytest

from tests.machine import free_port
from tests.services.bundles import Write
from tests.services.commands import parsed, refusal
from tests.support import BIN, run, serving
from udpservices.options import Mistakes


def said(write: Write, one: str, two: str) -> list[str]:
    """The errors about two tables, both of udpecho unless they say otherwise, without the name of the file."""
    commands = ["" if "command" in keys else 'command = "udpecho"\n' for keys in (one, two)]
    path = write(f"[one]\n{commands[0]}{one}\n[two]\n{commands[1]}{two}\n")
    try:
        parsed("udpservices", "--config", str(path))
    except Mistakes as error:
        return [line.removeprefix(f"{path}: ") for line in error.lines]
    return []


@pytest.mark.parametrize(
    ("one", "two", "what"),
    [
        ("", "", "0.0.0.0:9999/udp is taken by [one]"),
        ("port = 7", "port = 7\ncommand = 'udptime'", "0.0.0.0:7/udp is taken by [one]"),
        ("port = 7", "listen = '[::]:7'", "[::]:7/udp is taken by [one]"),
        ("port = 7", "listen = '127.0.0.1:7'", "127.0.0.1:7/udp is taken by [one], as 0.0.0.0:7/udp"),
        ("listen = '[::1]:7'", "port = 7", "[::]:7/udp is taken by [one], as [::1]:7/udp"),
        ("listen = '[0::1]:7'", "listen = '[::1]:7'", "[::1]:7/udp is taken by [one], as [0::1]:7/udp"),
        ("listen = ['127.0.0.2:7', '127.0.0.1:7']", "interface = '127.0.0.1'\nport = 7", "127.0.0.1:7/udp is taken by"),
        ("port = 7", "listen = 'udp:7:device=lo'", "0.0.0.0:7/udp on lo is taken by [one], as 0.0.0.0:7/udp"),
        ("listen = 'udp:7:device=lo'", "listen = 'udp:7:device=lo'", "0.0.0.0:7/udp on lo is taken by [one]"),
        (
            "listen = '[fe80::1%1]:7'",
            "listen = '[fe80::1%lo]:7'",
            "[fe80::1%lo]:7/udp is taken by [one], as [fe80::1%1]:7",
        ),
        ("listen = '[fe80::1%lo]:7'", "listen = '[::]:7'", "[::]:7/udp is taken by [one], as [fe80::1%lo]:7/udp"),
        ("port = 7\nreuse-port = true", "port = 7", "0.0.0.0:7/udp is taken by [one]"),
        ("port = 7", "command = 'udpmulticast'\nport = 7", "0.0.0.0:7/udp is taken by [one]"),
        ("port = 0\ntcp = 7", "port = 0\ntcp = 'tcp:7'", "0.0.0.0:7/tcp is taken by [one], as 127.0.0.1:7/tcp"),
        ("port = 0\ntcp = '[::1]:7'", "port = 0\ntcp = 'tcp6:7'", "[::]:7/tcp is taken by [one], as [::1]:7/tcp"),
        ("listen = 'fd:3'", "listen = 'fd:3'", "fd:3 is taken by [one]"),
        ("listen = 'fd:5'", "listen = 'systemd:index=2'", "systemd:index=2 is taken by [one], as fd:5"),
        ("listen = 'systemd:name=a'", "listen = ['9', 'systemd:name=a']", "systemd:name=a is taken by [one]"),
        (
            "port = 0\ntcp = 'systemd:domain=INET:index=0'",
            "listen = 'fd:3'",
            "fd:3 is taken by [one], as systemd:index=0",
        ),
    ],
)
def test_same_place(write: Write, one: str, two: str, what: str) -> None:
    (line,) = said(write, one, two)
    assert line.startswith(f"[two]: {what}")
    inherited = "fd:" in line or "systemd:" in line
    assert line.endswith(f": give one of them another {'socket' if inherited else 'port number'}")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("port = 7", "port = 8"),
        ("port = 0", "port = 0"),
        ("listen = '0.0.0.0:7'", "listen = '[::]:7'"),
        ("listen = '127.0.0.1:7'", "listen = '127.0.0.2:7'"),
        ("listen = 'udp:7:device=lo'", "listen = 'udp:7:device=eth7'"),
        ("listen = '[fe80::1%lo]:7'", "listen = '[fe80::1%eth7]:7'"),
        ("port = 7\nreuse-port = true", "listen = '127.0.0.1:7'\nreuse-port = true"),
        ("command = 'udpmulticast'\nport = 7", "command = 'udpbroadcast'\nport = 7"),
        ("port = 7\nreuse-port = true", "command = 'udpmulticast'\nport = 7"),
        ("port = 7", "port = 8\ntcp = 7"),
        ("port = 0\ntcp = 0", "port = 0\ntcp = 0"),
        ("port = 0\ntcp = 'unix:7'", "port = 0\ntcp = 'unix:7'"),
        ("port = 0\ntcp = 'tcp:x'", "port = 0\ntcp = 'tcp:x'"),
        ("listen = 'fd:3'", "listen = 'fd:4'"),
        ("listen = 'systemd:name=a'", "listen = 'systemd:name=b'"),
        ("listen = 'systemd:name=a'", "port = 0\ntcp = 'systemd:domain=INET:name=a'"),
        ("command = 'dns'\nport = 7", "command = 'dns'\nport = 7"),
        ("command = 'udphello'\ntarget = '127.0.0.1:7'", "port = 7"),
        ("listen = ['127.0.0.1:7', '7']", "port = 8"),
    ],
)
def test_places_of_their_own(write: Write, one: str, two: str) -> None:
    """Where both may be, where that cannot be known before they are, and in one table, which says so when it binds."""
    assert said(write, one, two) == []


def test_a_line_for_each_table(write: Write) -> None:
    """Of a hundred that want one place, each is told of once."""
    path = write("".join(f"[t{number}]\ncommand = 'udpecho'\n" for number in range(100)))
    with pytest.raises(Mistakes) as error:
        parsed("udpservices", "--config", str(path))
    assert list(error.value.lines) == [
        f"{path}: [t{number}]: 0.0.0.0:9999/udp is taken by [t0]: give one of them another port number"
        for number in range(1, 100)
    ]


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_is_said_before_anything_opens(write: Write, check: list[str]) -> None:
    number = free_port()
    path = write(f"[udpecho]\nport = {number}\n[other]\ncommand = 'udptime'\nport = {number}\n")
    assert refusal("udpservices", *check, "--config", path.name, cwd=path.parent) == (
        f"udpservices: services.toml: [other]: 0.0.0.0:{number}/udp is taken by [udpecho]: "
        "give one of them another port number"
    )


def test_kernel_agrees(write: Write) -> None:
    """What may share is bound, whoever comes first; what does not is refused."""
    number = free_port()
    sharing = f"port = {number}\nreuse-port = true\ncommand = 'udpecho'\n"
    group = f"port = {number}\ncommand = 'udpmulticast'\n"
    path = write(f"[one]\n{sharing}[two]\n{group}[three]\n{sharing}[four]\n{group}")
    with serving("udpservices", "--config", path) as (process, _):
        process.wait_for(rf"one listening on \[::\]:{number}/udp")
        process.wait_for(rf"three listening on \[::\]:{number}/udp")
        alone = run(BIN / "twistd", "-n", "--pidfile=", "udpecho", "--port", str(number))
        assert alone.stderr == f"udpecho: cannot listen on 0.0.0.0:{number}/udp: the address is already in use\n"
