"""Answers with the quote of the day, or another one (RFC 865)."""

from datetime import date
from pathlib import Path

from udpservices import Protocol


class Quote(Protocol):
    reflector = True
    default_rate = 10

    def __init__(self, file: Path) -> None:
        self.quotes = [line for line in file.read_bytes().splitlines() if line]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        quote = self.quotes[date.today().toordinal() % len(self.quotes)]
        self.transport.write(quote[:510] + b"\r\n", addr)
