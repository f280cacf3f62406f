"""Options of the ports that protocols open themselves."""

from typing import ClassVar

from udpservices.options.base import Row, ServiceOptions


class SessionOptions(ServiceOptions):
    """Whose those ports are."""

    optFlags: ClassVar[list[Row]] = [
        [
            "include-sessions",
            None,
            "Guard, limit, count and close also the ports that the protocol opens through Twisted's reactor.",
        ],
    ]
