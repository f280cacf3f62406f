"""A request to the status server, and the headers of every response."""

import re
from http import HTTPStatus
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as TwistedRequest
from twisted.web.http import datetimeToString

from udpservices.observe.web.answers import Answer, line
from udpservices.observe.web.hosts import may_name

#: Nothing but this server's own files, and no frame around them.
CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    b"Cache-Control": b"no-store",
    b"Content-Security-Policy": CONTENT_SECURITY_POLICY,
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Referrer-Policy": b"no-referrer",
    b"X-Content-Type-Options": b"nosniff",
}

_GZIP = re.compile(rb"(?:^|[,\s])gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|,|$)", re.IGNORECASE)


class Request(TwistedRequest):
    """Finds the answer with its factory's routes."""

    _log = Logger()

    @property
    def is_gone(self) -> bool:
        """Whether the client has hung up."""
        return bool(self._disconnected)

    def process(self) -> None:
        """Answer."""
        try:
            answer = self._refusal() or self._routed()
        except Exception:  # a fault here is no reason to leave a client without an answer
            self._failed(Failure())
            return
        if isinstance(answer, Deferred):
            answer.addCallbacks(self.send, self._failed)
        elif answer is not None:
            self.send(answer)

    def _refusal(self) -> Answer | None:
        """What is wrong with its Host, where something is."""
        hosts = self.requestHeaders.getRawHeaders(b"Host") or []
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):
            return line("a request needs one Host", 400)
        if hosts and not may_name(self.getHost(), hosts[0].decode("latin-1")):
            return line("this address is asked for as localhost, or by its number", 421)
        return None

    def _routed(self) -> "Answer | Deferred[Answer] | None":
        """What the route answers; nothing where it answers by itself."""
        route = cast("Any", self.channel).factory.routes.get(self.path)
        if route is None:
            return line("there is nothing here; the status page is at /", 404)
        if self.method not in (b"GET", b"HEAD"):
            return line("only GET and HEAD are of use here", 405, Allow="GET, HEAD")
        return cast("Answer | Deferred[Answer] | None", route(self))

    def _failed(self, failure: Failure) -> None:
        cast("Any", self.channel).factory.tell_fault(failure)
        self.send(line("this could not be answered; the log says why", 500))

    def prepare(self, answer: Answer) -> None:
        """Set the status and the headers of a response."""
        self.setResponseCode(answer.code, HTTPStatus(answer.code).phrase.encode())
        own = {b"Content-Type": answer.content_type, b"Date": datetimeToString()}
        for name, value in {**_HEADERS, **own, **answer.headers}.items():
            self.setHeader(name, value)

    def send(self, answer: Answer) -> None:
        """Respond, if the client is still there."""
        if self.is_gone:
            return
        self.prepare(answer)
        body = answer.body
        if answer.compressed is not None:
            self.setHeader(b"Vary", b"Accept-Encoding")
            if _GZIP.search(self.getHeader(b"Accept-Encoding") or b""):
                self.setHeader(b"Content-Encoding", b"gzip")
                body = answer.compressed
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()
