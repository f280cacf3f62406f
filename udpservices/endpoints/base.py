"""What every endpoint is: where a service listens."""

import socket
from typing import ClassVar, Protocol

from udpservices.endpoints.held import Held
from udpservices.units import one_line


class EndpointError(ValueError):
    """What is wrong with an endpoint, in one line that names the part."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class Endpoint(Protocol):
    """Where a service listens. ``str()`` writes it as `udpservices.endpoints.parse` reads it."""

    #: Whether somebody else opened the sockets, and may use them afterwards.
    inherited: ClassVar[bool]

    def count(self) -> int:
        """How many sockets `open` opens, fewer where the host lacks a family; 0 where it will raise."""

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """Open bound, non-blocking UDP sockets, which the caller closes; of those that are `held`, a duplicate.

        With `reuse_port` processes of the same user may share the port. `receive_buffer` is in bytes, at least
        so many where it is `udpservices.net.sockets.AtLeast`, and where the kernel grants less, that. Raises
        EndpointError, and leaves no socket open then.
        """
