"""The project's units in a guest, one at a time."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import ROOT, wait_until
from tests.system.guest import Guest

UNITS = ROOT / "config" / "systemd"

#: For systemd 254 or later.
NEWER = UNITS / "systemd-254.conf"

#: Where a guest has units of its own.
SYSTEM = "/etc/systemd/system"

#: Priorities of the journal (syslog(3)).
ERROR, WARNING, INFO = 3, 4, 6
_DEBUG = 7

#: Within this time of what kept a service from its clients, it serves them again, in seconds.
SOON = 5.0


class Unit:
    """A service, and the socket unit that it may have."""

    def __init__(self, guest: Guest, name: str) -> None:
        """`name` is that of the files, or of an instance of them, without what follows the dot."""
        self.guest = guest
        self.name = name
        self.service = f"{name}.service"
        self.socket = f"{name}.socket"
        self._before = guest.does("journalctl", "--quiet", "--show-cursor", "-n0").rpartition("cursor: ")[2].strip()

    def systemctl(self, *words: str, of: str = "service") -> int:
        """``systemctl WORDS`` of the service, or of the socket unit; the exit status."""
        return self.guest.run("systemctl", *words, f"{self.name}.{of}", timeout=60).returncode

    def does(self, *words: str, of: str = "service") -> None:
        """The same, which must succeed."""
        self.guest.does("systemctl", *words, f"{self.name}.{of}", timeout=60)

    def show(self, name: str, of: str = "service") -> str:
        """A property of the service, or of the socket unit."""
        return self.guest.does("systemctl", "show", "--value", "-p", name, f"{self.name}.{of}").removesuffix("\n")

    @property
    def pid(self) -> int:
        """The service's process, as the guest numbers it; 0 where there is none."""
        return int(self.show("MainPID"))

    def is_served(self) -> bool:
        """Whether both are as they should be."""
        return (self.show("SubState"), self.show("ActiveState", "socket")) == ("running", "active")

    def add(self, name: str, text: str, of: str = "service") -> None:
        """A drop-in file."""
        self.guest.write(f"{SYSTEM}/{self.name}.{of}.d/{name}.conf", text)
        self.guest.does("systemctl", "daemon-reload")

    def remove(self, name: str, of: str = "service") -> None:
        """A drop-in file that was added."""
        self.guest.remove(f"{SYSTEM}/{self.name}.{of}.d/{name}.conf")
        self.guest.does("systemctl", "daemon-reload")

    def journal(self, least: int = _DEBUG) -> list[dict[str, Any]]:
        """What it logged, and systemd of it, since this object was made, of this priority or a more urgent one.

        journalctl of systemd 252 itself leaves out an entry when it selects some after a cursor.
        """
        lines = self.guest.does("journalctl", "--quiet", "-o", "json", "--after-cursor", self._before).splitlines()
        entries = [json.loads(line) for line in lines]
        own = [entry for entry in entries if self.service in (entry.get("UNIT"), entry.get("_SYSTEMD_UNIT"))]
        return [entry for entry in own if int(entry["PRIORITY"]) <= least]

    def logged(self, pattern: str, least: int = _DEBUG) -> list[str]:
        """The messages of these that match."""
        return [text for entry in self.journal(least) if re.search(pattern, text := str(entry["MESSAGE"]))]

    def wait_for(self, pattern: str) -> str:
        """Wait for an entry of the journal that matches."""
        found: list[str] = wait_until(lambda: self.logged(pattern), f"{pattern!r} in the journal of {self.service}")
        return found[0]


def _files(name: str) -> list[Path]:
    """The files of a unit, or of the template that it is an instance of."""
    stem = re.sub("@.*", "@", name)
    return [path for path in (UNITS / f"{stem}.service", UNITS / f"{stem}.socket") if path.exists()]


@contextmanager
def installed(guest: Guest, name: str, options: str | None = None) -> Iterator[Unit]:
    """A unit, as docs/systemd.md installs it, not started; gone in the end.

    `options` is what stands in an instance's file of options.
    """
    unit = Unit(guest, name)
    for path in _files(name):
        guest.copy(path, f"{SYSTEM}/{path.name}")
    if guest.systemd >= 254:
        guest.copy(NEWER, f"{SYSTEM}/{unit.service}.d/{NEWER.name}")
    if options is not None:
        guest.write(f"/etc/udpservices/{name.partition('@')[2]}.env", options)
    guest.does("systemctl", "daemon-reload")
    try:
        yield unit
    finally:
        for one in (unit.socket, unit.service):  # a template's socket unit may be there and lack its sockets
            guest.run("systemctl", "disable", one)
            guest.run("systemctl", "stop", one, timeout=60)
        guest.run("systemctl", "reset-failed")
        for file in _files(name):
            guest.remove(f"{SYSTEM}/{file.name}")
        for folder in (f"{SYSTEM}/{unit.service}.d", f"{SYSTEM}/{unit.socket}.d", "/etc/udpservices"):
            guest.remove(folder)
        guest.does("systemctl", "daemon-reload")
