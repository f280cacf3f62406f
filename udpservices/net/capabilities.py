"""What root may do, one by one: Linux's capabilities (capabilities(7))."""

import ctypes
import os

# _LINUX_CAPABILITY_VERSION_3 (capget(2)): two words for each of three sets.
_VERSION = 0x20080522
_WORDS = 6

_libc = ctypes.CDLL(None, use_errno=True)


def drop_capabilities() -> None:
    """Leave this thread none, for good. Raises OSError."""
    header, held = (ctypes.c_uint32 * 2)(_VERSION), (ctypes.c_uint32 * _WORDS)()
    if _libc.capget(header, held):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # A sandbox that refuses the second call need not let those keep any who have none.
    if any(held) and _libc.capset(header, (ctypes.c_uint32 * _WORDS)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
