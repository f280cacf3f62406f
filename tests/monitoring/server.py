"""A Prometheus of Debian's, with the configuration that the project comes with."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.machine import free_port
from tests.support import PATIENCE, ROOT, Process, tool

CONFIG = ROOT / "config" / "prometheus"

#: How long what has happened may take to be seen: scrapes, and workers that tell the parent.
PATIENCE_TO_SEE = 3 * PATIENCE


class Prometheus:
    """One that scrapes."""

    def __init__(self, number: int) -> None:
        self._url = f"http://127.0.0.1:{number}"
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str, **words: str) -> Any:
        """What its API says. HTTPError, with its words, where a query is wrong."""
        with self._opener.open(f"{self._url}{path}?{urlencode(words)}", timeout=PATIENCE) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series of an expression that it has now, each with its value."""
        data = self.get("/api/v1/query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expression: str) -> float | None:
        """That of an expression of one series; None where there is none."""
        return next((value for _, value in self.query(expression)), None)

    def sees(self, expression: str, value: float) -> None:
        """Wait until an expression of one series has a value."""
        deadline = time.monotonic() + PATIENCE_TO_SEE
        while (seen := self.value(expression)) != value:
            if time.monotonic() > deadline:
                pytest.fail(f"{expression} is {seen}, not {value}")
            time.sleep(0.1)


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that reads the metrics of ``ADDR:PORT`` twice a second, and keeps what it read in a folder."""
    for path in CONFIG.glob("*.yml"):
        text = path.read_text().replace("127.0.0.1:9190", target).replace(": 15s", ": 500ms")
        (folder / path.name).write_text(text)
    number = free_port()
    words = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{number}",
    ]
    with Process(*words, cwd=folder) as process:
        process.wait_for("Server is ready to receive web requests")
        yield Prometheus(number)
        process.stop()
