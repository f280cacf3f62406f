"""The journal of systemd: priorities, and entries of several lines (systemd.exec(5), sd-daemon(3))."""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence

#: Where the journal takes entries of several lines (systemd.io/JOURNAL_NATIVE_PROTOCOL).
SOCKET = "/run/systemd/journal/socket"

#: A longer line of a stream becomes several entries, in bytes (LineMax= of journald.conf(5)).
_LINE_MAX = 48 * 1024

_PRIORITIES = {"critical": 2, "error": 3, "warn": 4, "info": 6, "debug": 7}


def is_journal(fd: int = 2, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a descriptor, standard error by default, is the stream to the journal that systemd made."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def is_more_than_a_line(lines: Sequence[str]) -> bool:
    """Whether the stream cannot hold lines as one entry."""
    return len(lines) > 1 or (len(lines) == 1 and len(lines[0].encode(errors="replace")) >= _LINE_MAX)


def prefixed(level: str, lines: Iterable[str]) -> str:
    """Lines as the journal takes them from a stream: each is an entry, and begins with its priority."""
    return "".join(f"<{_PRIORITIES[level]}>{line}\n" for line in lines)


class Journal:
    """The socket for entries of several lines. It is opened here, before a chroot can hide it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()  # then nothing can be sent, and `send` says so

    def send(self, level: str, text: str, service: str) -> bool:
        """Send one entry of any number of lines; whether the journal took it. `service` may be empty."""
        fields = {"PRIORITY": str(_PRIORITIES[level]), "SYSLOG_IDENTIFIER": "udpservices"}
        if service:
            fields["UDPSERVICES_SERVICE"] = service
        try:
            self._socket.send(b"".join(_field(name, value) for name, value in {"MESSAGE": text, **fields}.items()))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
