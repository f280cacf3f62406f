"""Options of protocols that are served over TCP too."""

from typing import ClassVar

from udpservices.endpoints.stream import stream_description
from udpservices.options.base import Row, ServiceOptions


def _stream(text: str) -> str:
    stream_description(text)
    return text


class StreamOptions(ServiceOptions):
    """For protocols that are served over TCP too."""

    optParameters: ClassVar[list[Row]] = [
        [
            "tcp",
            None,
            None,
            "Serve TCP too: at a port number (on loopback), 192.0.2.1:7, [::1]:7 or a Twisted endpoint such as tcp:7.",
            _stream,
        ],
    ]
