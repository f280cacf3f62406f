"""Whatever keeps a service from its clients: soon after it ends they are served again, and nobody has to come."""

import time
from functools import partial

import pytest

from tests.support import wait_until
from tests.system.guest import Guest
from tests.system.units import SOON, Unit, installed

_WRONG = """
[Service]
ExecStart=
ExecStart=/opt/udpservices/bin/udpservices udpecho --listen systemd:name=udpecho --rate no
"""


def _served_soon(unit: Unit, since: float) -> None:
    assert unit.guest.ask(patience=SOON) == b"hello"
    assert time.monotonic() - since < SOON
    assert unit.is_served()


def _another(unit: Unit, pid: int) -> int:
    """The service's process, where it is not this one."""
    return new if (new := unit.pid) != pid else 0


def test_ten_crashes(echo: Unit) -> None:
    """As soon as it is there again it is killed again, under load."""
    with echo.guest.load() as load:
        load.keeps_up()
        killed = 0
        for _ in range(10):
            killed = wait_until(partial(_another, echo, killed), "another process")
            echo.does("kill", "--signal=KILL")
        _served_soon(echo, time.monotonic())
        load.keeps_up()


def test_wrong_option(echo: Unit) -> None:
    """A restart says that it failed, and why is in the journal; once it is corrected nobody need start anything."""
    with echo.guest.load() as load:
        load.keeps_up()
        echo.add("wrong", _WRONG)
        assert echo.systemctl("restart") == 1
        assert echo.wait_for("--rate no: must be a whole number of datagrams a second").startswith("udpecho: ")
        wait_until(lambda: int(echo.show("NRestarts")) >= 4, "some more attempts")
        assert echo.show("ActiveState", "socket") == "active"
        echo.remove("wrong")
        _served_soon(echo, time.monotonic())
        load.keeps_up()


def test_flood_while_it_is_stopped(echo: Unit) -> None:
    """Each time it is stopped, datagrams start it again; that may cancel what stops it."""
    with echo.guest.load(20000) as load:
        for _ in range(30):
            echo.systemctl("stop")
        _served_soon(echo, time.monotonic())
        load.end()


def test_program_that_is_not_there(echo: Unit) -> None:
    """As between two steps of an upgrade."""
    with echo.guest.load(1000) as load:
        load.keeps_up()
        echo.guest.does("mv", "/opt/udpservices", "/opt/elsewhere")
        assert echo.systemctl("restart") == 1
        wait_until(lambda: int(echo.show("NRestarts")) >= 2, "some more attempts")
        echo.guest.does("mv", "/opt/elsewhere", "/opt/udpservices")
        _served_soon(echo, time.monotonic())
        load.end()


def test_service_that_is_never_tried(echo: Unit) -> None:
    """What would keep systemd busy for ever is all that closes the socket unit."""
    echo.add("never", "[Unit]\nConditionPathExists=/nowhere\n")
    with echo.guest.load(1000):
        wait_until(lambda: echo.show("Result", "socket") == "trigger-limit-hit", "the socket unit's limit")


def test_bad_file(guest: Guest) -> None:
    """A reload with it changes nothing, and says why; a restart fails, until it is corrected."""
    right = '[udpecho]\nlisten = "127.0.0.1:9999"\n'
    guest.write("/etc/udpservices.toml", right)
    with installed(guest, "udpservices") as unit:
        unit.does("start")
        pid = unit.pid
        guest.write("/etc/udpservices.toml", f"{right}rate = 'no'\n")
        unit.systemctl("reload")
        assert "rate" in unit.wait_for("nothing is reloaded: ")
        assert (guest.ask(), unit.pid) == (b"hello", pid)
        assert unit.systemctl("restart") == 1
        guest.write("/etc/udpservices.toml", right)
        assert guest.ask(patience=SOON) == b"hello"
    guest.remove("/etc/udpservices.toml")


def test_watchdog(echo: Unit) -> None:
    """A process that stands still is ended and started again."""
    echo.add("watchdog", "[Service]\nWatchdogSec=1s\n")
    assert echo.guest.ask() == b"hello"
    hung = echo.pid
    echo.does("kill", "--signal=STOP")
    echo.wait_for(r"Watchdog timeout \(limit 1s\)!")
    _served_soon(echo, time.monotonic())
    assert echo.pid not in (0, hung)


def test_watchdog_under_a_flood(echo: Unit) -> None:
    """A process that has more to read than it can is not taken for one that hangs."""
    echo.add("watchdog", "[Service]\nWatchdogSec=1s\n")
    assert echo.guest.ask() == b"hello"
    busy = echo.pid
    with echo.guest.load(100_000) as load:
        load.sends(200_000)
    assert echo.pid == busy
    assert echo.logged("Watchdog timeout") == []


_HANGS = """
from threading import Event
from twisted.internet.protocol import DatagramProtocol

class Hangs(DatagramProtocol):
    def datagramReceived(self, datagram, address):
        if datagram == b"hang":
            self.never()
        self.transport.write(datagram, address)

    def never(self):
        Event().wait()
"""


def test_watchdog_of_a_handler_that_does_not_return(guest: Guest) -> None:
    """Python says where it was."""
    guest.write("/opt/hangs/hangs.py", _HANGS)
    options = "COMMAND=udpserve\nOPTIONS=--protocol hangs.Hangs --port 9999\nPYTHONPATH=/opt/hangs\n"
    with installed(guest, "udp@hangs", options) as unit:
        unit.add("watchdog", "[Service]\nWatchdogSec=1s\n")
        unit.does("start")
        assert guest.ask() == b"hello"
        with pytest.raises(TimeoutError):
            guest.ask(b"hang", patience=0.1)
        unit.wait_for(r"Watchdog timeout \(limit 1s\)!")
        assert unit.wait_for('File "/opt/hangs/hangs.py", line .* in never')
        wait_until(lambda: unit.show("SubState") == "running", "the next process")
        assert guest.ask() == b"hello"
    guest.remove("/opt/hangs")
