"""What the log calls a port."""

from typing import NamedTuple


class PortName(NamedTuple):
    """Two fields that each event of a port has, and each line of the log about it begins with."""

    #: The service's.
    label: str
    #: Where the port listens, such as ``127.0.0.1:9999/udp``.
    endpoint: str
