"""The log of our own command, and what SIGUSR1 can do for twistd's."""

from udpservices.runtime.log.log import FORMATS, Log
from udpservices.runtime.log.twistd import reopener

__all__ = ["FORMATS", "Log", "reopener"]
