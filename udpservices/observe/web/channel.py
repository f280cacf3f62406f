"""A connection of the status server: how long its client may take, and that it brings no body."""

from typing import Any, cast

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

#: Seconds in which a request is to come whole, from the connection or from its first byte on.
REQUEST_WITHIN = 5

#: Seconds for which a connection is kept that nothing is asked by, or that does not take what was answered.
IDLE = 30


class Channel(HTTPChannel):
    """Reads requests one by one. Its factory knows it as long as it is open."""

    maxHeaders = 64
    totalHeadersSize = 8192
    timeOut = REQUEST_WITHIN

    #: Whether a request is being answered.
    is_busy = False
    #: Whether it was ended, and is about to close.
    is_ended = False
    _is_between_requests = False

    def connectionMade(self) -> None:
        """Somebody connected."""
        super().connectionMade()
        cast("Any", self.factory).opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended."""
        super().connectionLost(reason)
        cast("Any", self.factory).closed(self)

    def dataReceived(self, data: bytes) -> None:
        """Something came: with the first byte of a request the time begins that it may take."""
        if self._is_between_requests:
            self._is_between_requests = False
            self.setTimeout(REQUEST_WITHIN)
        super().dataReceived(data)

    def resetTimeout(self) -> None:
        """A byte more gives a client no more time, as it would by Twisted's own channel."""

    def allHeadersReceived(self) -> None:
        """A request is known, but for a body, which nothing here takes: the connection ends after its answer."""
        request = cast("Any", self.requests[-1])
        request.requestHeaders.removeHeader(b"Expect")
        super().allHeadersReceived()
        if self.length != 0:  # None where it is chunked
            self.length = 0
            self.persistent = False
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def allContentReceived(self) -> None:
        """A request came whole."""
        self.is_busy = self._is_between_requests = True
        self.setTimeout(IDLE)  # what the channel puts back when the request is answered
        cast("Any", self.factory).used(self)
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """A request is answered."""
        self.is_busy = False
        super().requestDone(request)
        if not self.persistent:
            self.setTimeout(IDLE)  # to take the answer

    def timeoutConnection(self) -> None:
        """The client took too long."""
        self.abort()

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""
        self.is_ended = True
        transport = cast("Any", self.transport)
        getattr(transport, "abortConnection", transport.loseConnection)()
