"""What operators see by systemctl and journalctl."""

import re

import pytest

from tests.support import wait_until
from tests.system.guest import Guest
from tests.system.units import ERROR, INFO, WARNING, Unit, installed

_RAISES = """
from twisted.internet.protocol import DatagramProtocol

class Raises(DatagramProtocol):
    def datagramReceived(self, datagram, address):
        if datagram == b"raise":
            1 / 0
        self.transport.write(datagram, address)
"""


def test_status_has_live_counts(echo: Unit) -> None:
    """While it runs; systemctl status shows the line."""
    with echo.guest.load(1000) as load:
        load.sends(500)
        assert load.end() == 0
    counts = f"{load.sent} received, {load.sent} answered, 0 dropped"
    wait_until(lambda: counts in echo.show("StatusText"), "all in the status")
    assert echo.show("StatusText") in echo.guest.does("systemctl", "status", "--no-pager", echo.service)


def test_lines_have_priorities_and_no_times(echo: Unit) -> None:
    assert echo.guest.ask() == b"hello"
    echo.does("stop")
    entries = {str(entry["MESSAGE"]): entry for entry in echo.journal() if entry["_SYSTEMD_UNIT"] == echo.service}
    assert entries["udpecho listening on 0.0.0.0:9999/udp"]["PRIORITY"] == str(INFO)
    assert any(re.fullmatch(r"udpecho stopped: \d+ received, \d+ answered, 0 dropped", text) for text in entries)
    assert [text for text in entries if re.search(r"\d{2}:\d{2}:\d{2}", text)] == []


def test_warnings_alone(guest: Guest) -> None:
    """One that says what is not as it was asked for is a warning; what a service does is none."""
    with installed(guest, "udp@big", "COMMAND=udpecho\nOPTIONS=--port 9999 --receive-buffer 64M\n") as unit:
        unit.does("start")
        assert guest.ask() == b"hello"
        warnings = unit.journal(WARNING)
        assert {entry["PRIORITY"] for entry in warnings} == {str(WARNING)}
        assert all("net.core.rmem_max" in entry["MESSAGE"] for entry in warnings)
        assert unit.logged("listening on", INFO)


def test_a_traceback_is_one_entry(guest: Guest) -> None:
    guest.write("/opt/raises/raises.py", _RAISES)
    options = "COMMAND=udpserve\nOPTIONS=--protocol raises.Raises --port 9999\nPYTHONPATH=/opt/raises\n"
    with installed(guest, "udp@raises", options) as unit:
        unit.does("start")
        with pytest.raises(TimeoutError):
            guest.ask(b"raise", patience=0.1)
        told = unit.wait_for("ZeroDivisionError")
        assert "Traceback (most recent call last)" in told
        assert 'File "/opt/raises/raises.py"' in told
        assert unit.logged("1 / 0", ERROR) == [told]
    guest.remove("/opt/raises")


def test_a_mistake_is_an_error_of_one_line(guest: Guest) -> None:
    """It is told before there is a log."""
    with installed(guest, "udp@wrong", "COMMAND=udpecho\nOPTIONS=--port many\n") as unit:
        assert unit.systemctl("start") == 1
        (line, *again) = unit.logged("--port many", ERROR)
        assert line == "udpecho: --port many: must be a port number from 0 to 65535"
        assert set(again) <= {line}
        unit.does("stop")
