"""Answers with the date and the time, for people to read (RFC 867)."""

from datetime import UTC, datetime


def answer(datagram: bytes, peer: tuple[str, int]) -> bytes:
    return datetime.now(UTC).strftime("%A, %B %d, %Y %H:%M:%S-%Z\r\n").encode()
