"""Answers in capitals."""


def answer(datagram: bytes, peer: tuple[str, int]) -> bytes:
    return datagram.upper()
