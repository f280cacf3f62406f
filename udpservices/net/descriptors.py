"""How many descriptors this process may have open (getrlimit(2), RLIMIT_NOFILE)."""

import errno
import resource
import socket

#: Descriptors that a process needs besides its sockets: its log, its resolver's, some connections.
MARGIN = 50

#: Descriptors have numbers below this where select(2) is to watch them; it fails for all of them where one has not.
FD_SETSIZE = 1024


class TooFewDescriptors(ValueError):
    """The limit is too low for what is to be opened; the text is one line that names it and says how to raise it."""


def has_descriptor_to_spare() -> bool:
    """Whether this process, and its system, can open something now (RLIMIT_NOFILE; fs.file-max)."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def make_room(sockets: int, *, reads_by_select: bool = False) -> None:
    """Raise the soft limit, where it is too low for so many sockets more.

    Raises TooFewDescriptors where the hard limit, which only root may raise, does not let them be opened either, or
    where they are `reads_by_select` and select(2) could not watch them all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _lowest_free(soft) + sockets + MARGIN
    wanted = "1 socket needs" if sockets == 1 else f"{sockets} sockets need"
    if reads_by_select and needed > FD_SETSIZE:
        raise TooFewDescriptors(
            f"{wanted} {needed} descriptors, and select(2) watches {FD_SETSIZE}: choose another --reactor"
        )
    if not sockets or _allows(soft, needed):
        return
    if not _allows(hard, needed):
        raise TooFewDescriptors(
            f"{wanted} a limit of {needed} open files (RLIMIT_NOFILE), and it is {hard}: "
            f"raise it with ulimit -n {needed} as root, or with LimitNOFILE={needed} in the unit"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _allows(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed


def _lowest_free(limit: int) -> int:
    """The number that the next descriptor gets, which is what the limit is for; all below it are open."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return sock.fileno()
    except OSError as error:
        return limit if error.errno == errno.EMFILE else 0
