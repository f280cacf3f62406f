"""Nothing is lost of 5,000 datagrams a second while a service behind a socket unit stops, starts and changes."""

import pytest

from tests.system.conftest import install
from tests.system.guest import Guest
from tests.system.units import Unit, installed
from udpservices.transport.engine.libc import SLOTS


def test_the_first_datagram_starts_it(echo: Unit) -> None:
    assert echo.show("ActiveState") == "inactive"
    assert echo.guest.ask(b"hello") == b"hello"
    assert echo.guest.ask(b"hello", "::1") == b"hello"
    assert echo.is_served()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_stop_and_start(echo: Unit, host: str) -> None:
    with echo.guest.load(host=host) as load:
        load.keeps_up()
        for _ in range(2):
            echo.does("stop")
            load.sends(2500)
            echo.does("start")
            load.keeps_up()
        echo.does("restart")
        load.keeps_up()
        assert load.end() == 0


def test_upgrade(echo: Unit, newer: str) -> None:
    """As docs/systemd.md says: the new version is installed while the old one serves, then it takes its place."""
    with echo.guest.load() as load:
        load.keeps_up()
        install(echo.guest, newer)
        echo.does("restart")
        load.keeps_up()
        assert load.end() == 0
    assert "udpservices 99.0" in echo.guest.does("/opt/udpservices/bin/udpservices", "--version")


def test_reload(echo: Unit) -> None:
    """Its access list is another each time."""
    echo.guest.write("/etc/udpservices/allow", "127.0.0.0/8\n")
    again = "[Service]\nExecStart=\nExecStart=/opt/udpservices/bin/udpservices udpecho --listen systemd:name=udpecho"
    echo.add("allow", f"{again} --allow-file /etc/udpservices/allow\n")
    with echo.guest.load() as load:
        load.keeps_up()
        pid = echo.pid
        for networks in ("127.0.0.0/16", "127.0.0.0/8\n192.0.2.0/24"):
            echo.guest.write("/etc/udpservices/allow", f"{networks}\n")
            echo.does("reload")
            load.sends(1000)
        load.keeps_up()
        assert load.end() == 0
    assert echo.pid == pid


def test_kill(echo: Unit) -> None:
    """What was read and not answered yet is lost: at most a batch."""
    with echo.guest.load() as load:
        load.keeps_up()
        echo.does("kill", "--signal=KILL")
        load.sends(1000)
        load.keeps_up()
        assert load.end() <= SLOTS


def test_restart_without_a_socket_unit(guest: Guest) -> None:
    """What comes between the two processes finds no port."""
    with installed(guest, "udp@own", "COMMAND=udpecho\nOPTIONS=--port 9999\n") as unit:
        unit.does("start")
        with guest.load() as load:
            load.keeps_up()
            unit.does("restart")
            load.keeps_up()
            assert 0 < load.end() < load.sent


_FILE = """
[first]
command = "udpecho"
listen = "systemd:name=first"
{first}

[second]
command = "udpecho"
listen = "127.0.0.1:9998"
"""


def test_reload_of_a_file(guest: Guest) -> None:
    """A service that changes takes over the socket, which another socket unit holds; one that does not goes on."""
    with installed(guest, "udp@first") as sockets, installed(guest, "udpservices") as unit:
        sockets.add("listen", "[Socket]\nListenDatagram=127.0.0.1:9999\nService=udpservices.service\n", of="socket")
        guest.write("/etc/udpservices.toml", _FILE.format(first=""))
        sockets.does("start", of="socket")
        unit.does("start")
        with guest.load() as first, guest.load(1000, port=9998) as second:
            first.keeps_up()
            pid = unit.pid
            for option in ("burst = 1000000", "rate = 1000000", ""):
                guest.write("/etc/udpservices.toml", _FILE.format(first=option))
                unit.does("reload")
                first.sends(1000)
            first.keeps_up()
            assert (first.end(), second.end()) == (0, 0)
        assert unit.pid == pid
        with guest.load() as first:
            first.keeps_up()
            unit.does("restart")
            first.keeps_up()
            assert first.end() == 0
        unit.does("stop")
        sockets.does("stop", of="socket")
    guest.remove("/etc/udpservices.toml")
