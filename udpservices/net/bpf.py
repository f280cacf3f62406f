"""Classic BPF: programs that the kernel runs on each datagram before it queues it (socket(7), SO_ATTACH_FILTER).

A program is a list of instructions and labels, and `assemble` makes what the kernel takes of it. Numbers are those of
``linux/filter.h`` and ``linux/bpf_common.h``. In a filter of a UDP socket, offset 0 is the UDP header (source port
number, destination port number, length, checksum: 16 bits each). No privileges are needed.
"""

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

#: Instructions that a program may have (BPF_MAXINSNS).
MAX_INSTRUCTIONS = 4096

#: Where the IP header starts (SKF_NET_OFF), and what is known besides the datagram itself (SKF_AD_OFF + SKF_AD_…).
IP_HEADER = -0x100000
PACKET_TYPE = -0x1000 + 4
INTERFACE_INDEX = -0x1000 + 8
RANDOM = -0x1000 + 56

#: Packet types (linux/if_packet.h): a neighbour's link-layer broadcast, and the looped copy of one's own or a group's.
TYPE_BROADCAST = 1
TYPE_LOOPBACK = 5

#: What a program returns, the bytes to keep. The kernel keeps the UDP header of whatever it keeps: what is `CUT`
#: arrives, with its source, as an empty datagram.
KEEP = 0xFFFFFFFF
CUT = 8
DROP = 0

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_GET_FILTER = 26

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_LOAD = {1: 0x30, 2: 0x28, 4: 0x20}  # BPF_LD | BPF_ABS, by bytes
_JUMP = 0x05
_IF_EQUAL = 0x15
_CONSTANT = 0x00
_IF_AT_LEAST = 0x35
_RETURN = 0x06

# A conditional jump has eight bits, a plain one 32. One less than 255: a plain jump may yet come in between.
_REACH = 254


_libc = ctypes.CDLL(None, use_errno=True)


class Label:
    """A place in a program: the instruction that follows it."""


class Instruction(NamedTuple):
    """One instruction, its jumps by label; None is the next instruction."""

    code: int
    value: int
    true: Label | None = None
    false: Label | None = None


Program = Iterable[Instruction | Label]


class ProgramTooLong(ValueError):
    """A program of more instructions than the kernel takes."""


def load(offset: int, size: int = 4) -> Instruction:
    """Load 1, 2 or 4 bytes as a number; a datagram that has none at the offset is dropped."""
    return Instruction(_LOAD[size], offset & 0xFFFFFFFF)


def constant(number: int) -> Instruction:
    """Load a number that the program itself has."""
    return Instruction(_CONSTANT, number & 0xFFFFFFFF)


def if_equal(number: int, true: Label | None, false: Label | None = None) -> Instruction:
    """Go on at one label where what was loaded equals the number, and at the other where not."""
    return Instruction(_IF_EQUAL, number, true, false)


def if_at_least(number: int, true: Label | None, false: Label | None = None) -> Instruction:
    """Go on at one label where what was loaded is not less than the number, and at the other where it is."""
    return Instruction(_IF_AT_LEAST, number, true, false)


def jump(label: Label) -> Instruction:
    """Go on at a label."""
    return Instruction(_JUMP, 0, label)


def end(result: int) -> Instruction:
    """Return `KEEP`, `CUT` or `DROP`."""
    return Instruction(_RETURN, result)


def assemble(program: Program) -> bytes:
    """The program as the kernel takes it, an array of ``struct sock_filter``.

    Jumps go forward only, any way: a far one goes by a plain jump, which later ones to the same label share. Raises
    ProgramTooLong.
    """
    # From the end to the start, so that the length of every jump is known when it is made.
    done: list[bytes] = []
    places: dict[Label, int] = {}  # how many instructions there are from the label to the end

    def far(label: Label) -> None:
        done.append(_INSTRUCTION.pack(_JUMP, 0, 0, len(done) - places[label]))
        places[label] = len(done)

    for item in reversed(list(program)):
        if isinstance(item, Label):
            places[item] = len(done)
            continue
        if item.code == _JUMP and item.true is not None:
            done.append(_INSTRUCTION.pack(_JUMP, 0, 0, len(done) - places[item.true]))
            continue
        following = len(done)
        for label in (item.false, item.true):
            if label is not None and len(done) - places[label] > _REACH:
                far(label)
        true, false = (len(done) - (following if label is None else places[label]) for label in (item.true, item.false))
        jumps = item.code in (_IF_EQUAL, _IF_AT_LEAST)
        done.append(_INSTRUCTION.pack(item.code, true * jumps, false * jumps, item.value))
    if len(done) > MAX_INSTRUCTIONS:
        raise ProgramTooLong(f"{len(done)} instructions, and the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join(reversed(done))


def is_available() -> bool:
    """Whether this system has filters as they are made here: Linux has."""
    return sys.platform.startswith("linux") and not os.environ.get("UDPSERVICES_NO_FILTERS")


def attach(sock: socket.socket, program: bytes) -> None:
    """Have a program decide on all datagrams that arrive from now on, in the place of the one before.

    What is queued already stays. Raises OSError: ENOMEM where both do not fit net.core.optmem_max, EPERM where
    somebody locked the filter.
    """
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    fprog = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def attached(sock: socket.socket) -> bytes | None:
    """The program that decides now, as `attach` had it: empty where none does, None where the kernel keeps it secret.

    Secret are programs of extended BPF (bpf(2)). The kernel counts the room in instructions, not in bytes, and fills it
    so: `socket.getsockopt` cannot be used.
    """
    room = ctypes.create_string_buffer(MAX_INSTRUCTIONS * _INSTRUCTION.size)
    count = ctypes.c_uint32(MAX_INSTRUCTIONS)
    if _libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, _SO_GET_FILTER, room, ctypes.byref(count)):
        return None
    return room.raw[: count.value * _INSTRUCTION.size]


def leading_constants(program: bytes, count: int) -> tuple[int, ...]:
    """The numbers that a program begins with, each by `constant`; fewer where it begins otherwise."""
    found: list[int] = []
    for code, _, _, value in islice(_INSTRUCTION.iter_unpack(program), count):
        if code != _CONSTANT:
            break
        found.append(value)
    return tuple(found)


def detach(sock: socket.socket) -> None:
    """Take back what `attach` did; no matter where there is nothing to take back."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
