"""What the figures were measured on."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import cores

_LOAD_AT_START = os.getloadavg()


def facts() -> list[list[str]]:
    """A name and a value each."""
    server, client = cores()
    pinned = "not pinned: one core only" if server is None else f"server on core {server}, client on core {client}"
    return [
        ["CPU", f"{_cpu_model()}, {os.cpu_count()} cores; {pinned}"],
        ["load average before and after", f"{_LOAD_AT_START[0]:.1f}, {os.getloadavg()[0]:.1f}"],
        ["kernel", f"{platform.system()} {platform.release()}"],
        ["default and largest receive buffer", f"{_setting('rmem_default')}, {_setting('rmem_max')} bytes"],
        ["compiler", _first_line(["cc", "--version"])],
        ["Python", f"{platform.python_implementation()} {platform.python_version()}"],
        *([name, _version(name)] for name in ("Twisted", "uvloop", "udpservices")),
        ["date", time.strftime("%Y-%m-%d")],
    ]


def _setting(name: str) -> str:
    return f"{int(Path('/proc/sys/net/core', name).read_text()):,}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
