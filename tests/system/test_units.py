"""The units run as they are: rated by systemd, with every restriction that they name, whatever they run."""

import re
from pathlib import Path

import pytest

from tests.support import run, tool, wait_until
from tests.system.guest import Guest
from tests.system.units import ERROR, UNITS, WARNING, Unit, installed

#: The most that ``systemd-analyze security`` may rate a unit at.
_EXPOSURE = 1.0


@pytest.mark.parametrize("name", ["udpecho", "udp@udptime", "udpservices"])
def test_accepted_and_rated(guest: Guest, name: str) -> None:
    with installed(guest, name) as unit:
        verified = guest.run("systemd-analyze", "verify", unit.service)
        assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
        rated = guest.does("systemd-analyze", "security", "--no-pager", unit.service)
        exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated)
        assert exposure, rated
        assert float(exposure[1]) <= _EXPOSURE, rated


def test_each_unit_is_tried() -> None:
    assert {path.name for path in UNITS.glob("*.service")} == {"udpecho.service", "udp@.service", "udpservices.service"}


def _status_of(unit: Unit) -> dict[str, str]:
    """What the kernel says of the service's process (proc_pid_status(5))."""
    text = unit.guest.does("cat", f"/proc/{unit.pid}/status")
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def _is_quiet(unit: Unit) -> None:
    """It has logged nothing but what it does; how large a buffer it may have, this machine says."""
    assert [text for text in unit.logged("", WARNING) if "net.core.rmem_max" not in text] == []


def test_restrictions(echo: Unit) -> None:
    """They hold for the process that serves, which has no wish that is refused."""
    assert echo.guest.ask() == b"hello"
    status = _status_of(echo)
    assert (status["NoNewPrivs"], status["Seccomp"], status["CapBnd"]) == ("1", "2", "0" * 16)
    assert int(status["Uid"].split()[0]) >= 61184  # of those that DynamicUser= takes (systemd.exec(5))
    networks = [echo.guest.does("readlink", f"/proc/{pid}/ns/net") for pid in (1, echo.pid)]
    assert networks[0] != networks[1]
    _is_quiet(echo)


def test_answers_leave_from_the_address_that_was_asked(echo: Unit) -> None:
    """Also though the process is in another network than its sockets."""
    for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"):
        assert echo.guest.ask(host=host) == b"hello"


def test_buffer_of_a_socket_unit_stays(echo: Unit) -> None:
    """The service asks for less by default."""
    assert echo.guest.ask() == b"hello"
    told = run(*echo.guest.networked(tool("ss"), "-Hulnm", "sport = :9999")).stdout
    assert re.findall(r"\brb(\d+)", told) == [str(2 * 8 << 20)] * 2  # the kernel doubles it (socket(7))


def test_template(guest: Guest) -> None:
    """By default the instance's name is the command's; it opens its own sockets."""
    with installed(guest, "udp@udplength") as unit:
        unit.does("start")
        assert guest.ask(port=1060) == b"Your data was 5 bytes long"


def test_template_with_options(guest: Guest) -> None:
    with installed(guest, "udp@short", "COMMAND=udplength\nOPTIONS=--port 9999 --interface ::1\n") as unit:
        unit.does("start")
        assert guest.ask(host="::1") == b"Your data was 5 bytes long"
        assert unit.logged("listening on") == ["udplength listening on [::1]:9999/udp"]


def test_template_with_workers(guest: Guest) -> None:
    """Processes of a service's own are restricted as it is, and end with it, however that ends."""
    with installed(guest, "udp@many", "COMMAND=udpecho\nOPTIONS=--port 9999 --workers 2\n") as unit:
        unit.does("start")
        assert guest.ask() == b"hello"
        unit.does("kill", "--signal=KILL", "--kill-who=main")
        assert guest.ask() == b"hello"
        assert unit.logged("", ERROR) == []


_SOCKETS_ALONE = """
[Service]
PrivateNetwork=yes
RestrictAddressFamilies=
RestrictAddressFamilies=AF_UNIX
"""


def test_template_with_sockets(guest: Guest) -> None:
    """The first datagram starts it; it needs no network, as docs/systemd.md says."""
    with installed(guest, "udp@echoes", "COMMAND=udpecho\nOPTIONS=--listen systemd:name=echoes\n") as unit:
        unit.add("sockets", _SOCKETS_ALONE)
        unit.add("listen", "[Socket]\nListenDatagram=0.0.0.0:9999\nListenDatagram=[::]:9999\n", of="socket")
        unit.does("start", of="socket")
        assert guest.ask() == b"hello"
        assert guest.ask(host="::1") == b"hello"
        assert unit.is_served()
        _is_quiet(unit)


def test_networks_that_may_be_served(guest: Guest) -> None:
    """The kernel drops the rest."""
    with installed(guest, "udp@few", "COMMAND=udpecho\nOPTIONS=--port 9999\n") as unit:
        unit.does("start")
        assert guest.ask() == b"hello"
        unit.add("few", "[Service]\nIPAddressAllow=\nIPAddressAllow=::1\n")
        unit.does("restart")
        assert guest.ask(host="::1") == b"hello"
        with pytest.raises(TimeoutError):
            guest.ask(patience=0.1)


def test_template_of_a_client(guest: Guest, echo: Unit) -> None:
    """It needs a name to be looked up, and a socket."""
    with installed(guest, "udp@udphello", "OPTIONS=--target localhost:9999\n") as unit:
        unit.does("start")
        unit.wait_for("Hello!")
        _is_quiet(unit)


def test_template_of_a_member(guest: Guest) -> None:
    """It looks at interfaces and memberships."""
    with installed(guest, "udp@udpmulticast", "OPTIONS=--interface lo\n") as unit:
        unit.does("start")
        memberships = Path(f"/proc/{guest.pid}/net/igmp")
        wait_until(lambda: "050000E4" in memberships.read_text(), "its membership in 228.0.0.5")
        _is_quiet(unit)


_EVERYTHING = """
[udpecho]
port = 9999
tcp = "9999"
deny = "192.0.2.0/24"

[udptime]
port = 3737
rate = 100

[greeter]
command = "udphello"
target = "127.0.0.1:9999"
"""


def test_file_of_services(guest: Guest) -> None:
    guest.write("/etc/udpservices.toml", _EVERYTHING)
    with installed(guest, "udpservices") as unit:
        unit.does("enable", "--now")
        assert guest.ask() == b"hello"
        assert len(guest.ask(b"", port=3737)) == 4
        unit.wait_for("^greeter .*Hello!")
    guest.remove("/etc/udpservices.toml")


def test_log_of_a_tree_that_is_read_only(echo: Unit) -> None:
    """Twisted keeps a list of plugins where it may write, and the service may not; it was written at installation."""
    assert echo.guest.ask() == b"hello"
    assert echo.logged("plugin cache") == []
