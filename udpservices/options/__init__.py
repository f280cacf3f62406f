"""Option groups as mixins, and the one line that a user sees when an option is wrong.

A command's options are a class of groups, most often `DatagramOptions`, which has all that work for responders::

    class Options(DatagramOptions):
        optParameters = [
            ["port", None, 7],  # a shared option may have another default, and nothing else of its own
            ["greeting", "g", "hello", "what to answer"],
        ]

Options are Twisted's own (`twisted.python.usage.Options`), with one difference: what is wrong is one line that
names the option and its value.
"""

from udpservices.options.base import Mistakes, Row, ServiceOptions, coerced, repeated
from udpservices.options.group import GroupOptions
from udpservices.options.guard import AccessOptions, LoopGuardOptions
from udpservices.options.impairment import ImpairmentOptions
from udpservices.options.limits import RateOptions
from udpservices.options.listen import ListenOptions, SocketOptions
from udpservices.options.member import MemberOptions
from udpservices.options.responder import DatagramOptions
from udpservices.options.run import DrainOptions, ProcessOptions, RunOptions, WorkerOptions
from udpservices.options.sessions import SessionOptions
from udpservices.options.stream import StreamOptions

__all__ = [
    "AccessOptions",
    "DatagramOptions",
    "DrainOptions",
    "GroupOptions",
    "ImpairmentOptions",
    "ListenOptions",
    "LoopGuardOptions",
    "MemberOptions",
    "Mistakes",
    "ProcessOptions",
    "RateOptions",
    "Row",
    "RunOptions",
    "ServiceOptions",
    "SessionOptions",
    "SocketOptions",
    "StreamOptions",
    "WorkerOptions",
    "coerced",
    "repeated",
]
