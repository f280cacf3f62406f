"""Debian's chromium without a window, driven by node/driver.mjs with playwright-core."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support import PATIENCE, run, tool

NODE = Path(__file__).resolve().parent / "node"

# Seconds that npm may take.
_PATIENCE_TO_INSTALL = 300.0


def modules() -> Path:
    """Where the packages of node/package-lock.json are: in the user's cache, installed once."""
    lock = (NODE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "udpservices" / "browser"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(lock).hexdigest()[:12]
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NODE / name, half)
            words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
            installed = run(tool("npm"), *words, cwd=half, timeout=_PATIENCE_TO_INSTALL, env=os.environ)
            assert installed.returncode == 0, installed.stdout + installed.stderr
            half.rename(folder)
    return folder


class Browser:
    """A browser, as long as it is entered."""

    def __enter__(self) -> Self:
        self._driver = subprocess.Popen(
            [tool("node"), NODE / "driver.mjs", modules(), tool("chromium")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._names = count()
        self.version = self._answer()["version"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.close()
        try:
            self._driver.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._driver.terminate()  # the driver ends its browser
            self._driver.wait(PATIENCE)
        self._driver.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._driver.stdout is not None
        line = self._driver.stdout.readline()
        assert line, f"the driver ended with status {self._driver.wait(PATIENCE)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str, **words: Any) -> Any:
        """What the driver finds."""
        assert self._driver.stdin is not None
        print(json.dumps({"command": command, **words}), file=self._driver.stdin, flush=True)
        answer = self._answer()
        if "error" in answer:
            pytest.fail(answer["error"])
        return answer["found"]

    def open(
        self,
        url: str,
        *,
        size: tuple[int, int] = (1280, 900),
        scheme: str = "light",
        script: bool = True,
        instead: Mapping[str, Sequence[str]] | None = None,
        first: str = "",
    ) -> "Page":
        """A page in a window of its own, whose cache is empty.

        `instead` is what is answered to some paths, and `first` a script that is run before the page's own.
        """
        name = next(self._names)
        width, height = size
        words = {"url": url, "width": width, "height": height, "scheme": scheme, "script": script}
        self.do("open", page=name, instead=instead or {}, first=first, **words)
        return Page(self, name)


class Page:
    """One that is open. Expressions are JavaScript's."""

    def __init__(self, browser: Browser, name: int) -> None:
        self._browser = browser
        self._name = name

    def _do(self, command: str, **words: Any) -> Any:
        return self._browser.do(command, page=self._name, **words)

    def evaluate(self, expression: str) -> Any:
        return self._do("evaluate", expression=expression)

    def wait_for(self, expression: str) -> None:
        """Wait until it is true."""
        self._do("wait", expression=expression, patience=PATIENCE)

    def text(self, selector: str = "body") -> str:
        """The words that are to be seen, with single spaces."""
        found: str | None = self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText")
        return " ".join((found or "").split())

    def wait_for_text(self, text: str, selector: str = "body") -> None:
        looked = f"document.querySelector({json.dumps(selector)})?.innerText.replace(/\\s+/g, ' ')"
        self.wait_for(f"({looked} ?? '').includes({json.dumps(text)})")

    def change(self, instead: Mapping[str, Sequence[str]]) -> None:
        """Something else is answered to some paths from now on."""
        self._do("change", instead=instead)

    def press(self, key: str) -> None:
        self._do("press", key=key)

    def audit(self) -> list[list[str]]:
        """What axe-core finds wrong: the rule, and where."""
        found: list[list[str]] = self._do("audit")
        return found

    def heap(self) -> dict[str, int]:
        """What is in use when all garbage is collected: ``bytes`` of JavaScript, ``nodes`` and ``listeners``."""
        found: dict[str, int] = self._do("heap")
        return found

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        self._do("screenshot", path=str(path), full=full)

    @property
    def said(self) -> list[str]:
        """What is in the console, and what went wrong."""
        found: list[str] = self._do("said")
        return found

    @property
    def asked(self) -> list[str]:
        """The origins that something was asked of."""
        found: list[str] = self._do("asked")
        return found

    def close(self) -> None:
        self._do("close")
