"""What a process says of itself when it is asked for its metrics."""

import time
from http.client import HTTPException
from math import isfinite, isnan
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families
from twisted.python.usage import UsageError

from udpservices.units import one_line

#: Seconds that an answer may take, and the bytes that it may have.
PATIENCE = 5.0
MOST = 1 << 24

#: The labels of a series, by name.
Series = tuple[tuple[str, str], ...]


class Unreachable(Exception):
    """There is no answer, for now or for good."""


class Reading(NamedTuple):
    """All series at one moment."""

    #: In seconds, of a clock that only goes on.
    when: float
    #: By the name of the sample.
    samples: dict[str, dict[Series, float]]

    def value(self, name: str) -> float:
        """That of a family of one series, or of the series without labels; 0 where there is none."""
        return next(iter(self.samples.get(f"udpservices_{name}", {}).values()), 0.0)


class Server:
    """A process with metrics."""

    def __init__(self, target: str) -> None:
        """`target` is a port number of this host, ``ADDR:PORT`` or an address of the web. Raises UsageError."""
        text = f"127.0.0.1:{target}" if target.isdecimal() else target
        text = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(text)
            is_right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and text.isprintable()
        except ValueError:
            is_right = False
        if not is_right or " " in text:
            raise UsageError(f"{target!r} must be a port number, ADDR:PORT or http://…, such as 9190")
        self.name = parts.netloc
        self._url = parts._replace(path=parts.path if parts.path not in ("", "/") else "/metrics").geturl()
        self._opener = build_opener(ProxyHandler({}))  # it is asked itself, also where the web is reached by a proxy

    def read(self) -> Reading:
        """Ask for the metrics. Raises Unreachable."""
        try:
            with self._opener.open(self._url, timeout=PATIENCE) as answer:
                body = answer.read(MOST)
        except HTTPError as error:
            error.close()
            raise Unreachable(f"{self._url}: HTTP status {error.code}") from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            why = getattr(reason, "strerror", None) or one_line(str(reason)) or type(error).__name__
            raise Unreachable(f"{self.name}: {why}") from error
        return parsed(body, self.name)


def parsed(body: bytes, name: str) -> Reading:
    """What the body of an answer says, of now. Raises Unreachable where that is no metrics; `name` is the server's."""
    samples: dict[str, dict[Series, float]] = {}
    try:
        for family in text_string_to_metric_families(body.decode()):
            for one in family.samples:
                if not one.name.startswith("udpservices_"):
                    continue
                if not isfinite(one.value) or isnan(float(one.labels.get("le", "0"))):
                    raise ValueError(f"no value of {one.name} is such")
                series = tuple((label, one_line(value)) for label, value in sorted(one.labels.items()))
                samples.setdefault(one.name, {})[series] = one.value
    except (ValueError, IndexError, KeyError):
        samples = {}
    if "udpservices_build_info" not in samples:
        raise Unreachable(f"{name}: what answers is no udpservices")
    return Reading(time.monotonic(), samples)
